"""A batch that is killed at random moments: every file comes out once, whole and right."""

import json
import random
import signal
import subprocess
import sys
import time
from collections import Counter

import imagecodecs
import numpy as np
import pytest
import tifffile

import jaxdenoise as jd
from jaxdenoise.io.info import ImageInfo

FILES, KILLS = 60, 10
PYTHON = """
import sys
from jaxdenoise import workflows
data, out, model = sys.argv[1:]
request = workflows.DenoiseRequest(
    inputs=[data], output=out, model=model, recursive=True, skip_existing=True, report=False
)
sys.exit(2 if workflows.denoise(request).failed else 0)
"""


def make_data(folder):
    """Sixty files of several sizes, dtypes and formats in nested folders, one of them broken."""
    rng = np.random.default_rng(0)
    for number in range(FILES - 1):
        place = folder / f"day {number % 3}" / ("cells" if number % 2 else "")
        place.mkdir(parents=True, exist_ok=True)
        shape = (3,) * (number % 4 == 0) + (48 + 8 * (number % 3), 56)
        image = rng.poisson(60, shape).astype((np.uint16, np.uint8, np.float32)[number % 5 % 3])
        stem, kind = place / f"{number:02d}", number % 6
        if kind == 1:
            tifffile.imwrite(f"{stem}.ome.tif", image, metadata={"axes": "TYX"[-image.ndim :]})
        elif kind == 2 and image.ndim == 2:
            stem.with_suffix(".png").write_bytes(imagecodecs.png_encode(image.astype(np.uint8)))
        elif kind == 3:
            info = ImageInfo("TYX"[-image.ndim :], image.shape, image.dtype, "omezarr")
            jd.write(f"{stem}.ome.zarr", image.reshape(-1, *image.shape[-2:]), info)
        else:
            tifffile.imwrite(f"{stem}.tif", image, photometric="minisblack")
    whole = (folder / "day 0" / "00.tif").read_bytes()
    (folder / "day 1" / "broken.tif").write_bytes(whole[: len(whole) // 2])


def command(door, data, out, model):
    if door == "python":
        return [sys.executable, "-c", PYTHON, data, out, model]
    words = ["denoise", data, "-o", out, "--model", model, "--recursive", "--skip-existing"]
    return [sys.executable, "-m", "jaxdenoise", *words, "--no-report"]


def done(out):
    """The files that the journal of a batch names, whole lines only."""
    found = []
    journal = out / "batch.jsonl"
    for line in journal.read_text().splitlines() if journal.exists() else ():
        try:
            found.append(json.loads(line)["file"])
        except ValueError:  # empty, or cut short by the kill
            continue
    return found


def results(folder):
    return {
        # An OME-TIFF has an identifier of its own.
        str(path.relative_to(folder)): (
            tifffile.imread(path).tobytes() if path.name.endswith(".ome.tif") else path.read_bytes()
        )
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "batch.jsonl"
    }


@pytest.fixture(scope="module")
def whole(tmp_path_factory, alone):
    """The data, and what a run that nothing disturbed makes of them."""
    folder = tmp_path_factory.mktemp("batch")
    make_data(folder / "data")
    words = command("cli", folder / "data", folder / "whole", alone)
    assert subprocess.run(words, capture_output=True).returncode == 2
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("door", ["cli", "python"])
def test_a_killed_batch_does_each_file_once(whole, alone, tmp_path, door):
    rng, out = random.Random(door), tmp_path / "out"
    words = command(door, whole / "data", out, alone)
    for kill in range(KILLS):
        process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        wanted = min((kill + 1) * (FILES // (KILLS + 2)), FILES - 5)
        while process.poll() is None and len(done(out)) < wanted:
            time.sleep(0.01)
        time.sleep(rng.random() / 5)
        assert process.poll() is None, process.communicate()
        process.send_signal(signal.SIGKILL)
        process.communicate()
    end = subprocess.run(words, capture_output=True, text=True)
    assert end.returncode == 2, end.stderr
    if door == "cli":
        assert "broken.tif: failed: the file is cut short" in end.stderr
        assert f"{FILES} files: " in end.stderr
    assert results(out) == results(whole / "whole")
    assert len(done(out)) == FILES - 1
    assert set(Counter(done(out)).values()) == {1}
