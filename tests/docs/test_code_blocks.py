"""Every code block of README and docs runs, on small images and with short trainings."""

import dataclasses
import inspect
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import tifffile
from scipy import ndimage

import jaxdenoise as jd
from jaxdenoise.cli.main import main
from jaxdenoise.config import TrainConfig
from jaxdenoise.workflows import demonstration

ROOT = Path(__file__).parents[2]
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LANGUAGES = {"python", "console", "text"}  # text is never run
GENERATED = ROOT / "docs" / "results"
PAGES = [
    page
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
    if page.parent != GENERATED and "_build" not in page.parts
]
SLOW = {
    "docs/first_result.md",
    "docs/tutorials/batches.md",
    "docs/tutorials/filters.md",
    "docs/tutorials/many_devices.md",
    "docs/tutorials/network_and_loss.md",
    "docs/tutorials/own_images.md",
    "docs/tutorials/psf.md",
    "docs/tutorials/volumes_and_movies.md",
}
# Lines of console blocks that do not run, and why.
NOT_RUN = {"source .venv/bin/activate": "the tests run in an environment already"}
LIGHT = {"patch_size": 32, "epochs": 2, "steps_per_epoch": 2, "validation_patches": 4}


def blocks(page):
    """Yield the line number, the language and the text of each fenced block of a page."""
    text = page.read_text(encoding="utf-8")
    for found in FENCE.finditer(text):
        yield text[: found.start()].count("\n") + 2, found[1], found[2]


def runs(page):
    return any(language in ("python", "console") for _, language, _ in blocks(page))


def parameters():
    for page in filter(runs, PAGES):
        name = page.relative_to(ROOT).as_posix()
        yield pytest.param(page, id=name, marks=[pytest.mark.slow] if name in SLOW else [])


@pytest.fixture
def short_trainings(monkeypatch):
    """Let every training be short and, where it starts from random weights, its network small."""
    checked = TrainConfig.__post_init__

    def shortened(self):
        for name, most in LIGHT.items():
            object.__setattr__(self, name, min(getattr(self, name), most))
        object.__setattr__(self, "symmetries", 1)
        if self.init == "random":
            network = dataclasses.replace(self.network, depth=2, filters=4)
            object.__setattr__(self, "network", network)
        checked(self)

    monkeypatch.setattr(TrainConfig, "__post_init__", shortened)
    for function in map(inspect.unwrap, (jd.fit, jd.instant, jd.sweep)):  # made before
        if isinstance(function.__kwdefaults__["config"], TrainConfig):
            monkeypatch.setitem(function.__kwdefaults__, "config", TrainConfig())
    monkeypatch.setattr(demonstration, "FRAMES", 3)
    monkeypatch.setattr(demonstration, "SIDE", 64)


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """A working directory with the files that the pages name."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    truth = ndimage.gaussian_filter(rng.uniform(0, 20_000, (48, 56)), 2.0).astype(np.float32)
    noisy = (truth + rng.normal(0, 200, (3, 48, 56))).round().astype(np.uint16)
    details = {"imagej": True, "resolution": (10, 10)}
    for name, frames in {"noisy": noisy, "later": noisy[:, ::-1].copy(), "movie": noisy}.items():
        metadata = {"axes": "TYX", "unit": "um", "finterval": 0.5}
        tifffile.imwrite(f"{name}.tif", frames, metadata=metadata, **details)
    tifffile.imwrite("truth.tif", truth)
    for number, frames in enumerate((noisy, noisy[0, :, :40])):
        folder = Path("data") / f"day {number}"
        folder.mkdir(parents=True)
        tifffile.imwrite(folder / f"{number}.tif", frames, photometric="minisblack")
    channels = np.stack([noisy, noisy[:, :, ::-1]], axis=1)
    tifffile.imwrite("channels.tif", channels, metadata={"axes": "TCYX"}, **details)
    tifffile.imwrite("beads.tif", beads())
    details["metadata"] = {"axes": "ZYX", "unit": "um", "spacing": 0.3}
    tifffile.imwrite("stack.tif", noisy, **details)
    volume = np.asarray(jd.gaussian_psf((1.0, 1.2, 1.2)))
    tifffile.imwrite("psf_volume.tif", volume, **details)


def beads():
    """An image (96, 96) of nine beads of sigma 1.2 pixels."""
    rows, columns = np.indices((96, 96))
    image = 200 + np.random.default_rng(0).normal(0, 5, (96, 96))
    for y in (16.2, 48.4, 79.7):
        for x in (15.8, 48.1, 80.3):
            image += 2000 * np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / (2 * 1.2**2))
    return image.round().astype(np.uint16)


@pytest.mark.filterwarnings("ignore:.*saturated:UserWarning")  # so short a training is poor
@pytest.mark.parametrize("page", list(parameters()))
def test_the_code_blocks_of_a_page_run(page, short_trainings, workplace):
    names = {}
    for line, language, text in blocks(page):
        where = f"{page.relative_to(ROOT)}, line {line}"
        if language == "python":
            exec(compile("\n" * (line - 1) + text, str(page), "exec"), names)
        elif language == "console":
            run_console(text, where)


def run_console(text, where):
    """Run the lines of a console block that begin with a prompt."""
    for command in re.findall(r"^\$ (.*)$", text, re.MULTILINE):
        if command in NOT_RUN:
            continue
        program, *words = shlex.split(command)
        assert program == "jaxdenoise", f"{where}: {command!r} is neither ours nor in NOT_RUN"
        assert main(words) == 0, f"{where}: {command}"


def test_every_fence_is_of_a_language_that_this_test_knows():
    unknown = {
        f"{page.relative_to(ROOT)}, line {line}: {language}"
        for page in PAGES
        for line, language, _ in blocks(page)
        if language not in LANGUAGES
    }
    assert not unknown


def test_lines_of_a_console_block_have_a_prompt():
    bare = [
        f"{page.relative_to(ROOT)}, line {line + number}"
        for page in PAGES
        for line, language, text in blocks(page)
        if language == "console"
        for number, content in enumerate(text.splitlines())
        if not content.startswith("$ ")
    ]
    assert not bare


def test_the_lists_of_exceptions_hold_nothing_that_is_no_more():
    names = {page.relative_to(ROOT).as_posix() for page in filter(runs, PAGES)}
    lines = {line for page in PAGES for *_, text in blocks(page) for line in text.splitlines()}
    assert names >= SLOW
    assert {f"$ {command}" for command in NOT_RUN} <= lines
