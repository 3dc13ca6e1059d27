import dataclasses
import struct
from html.parser import HTMLParser

import numpy as np
import pytest

from jaxdenoise.config import TrainConfig
from jaxdenoise.microscope.psf import gaussian_psf
from jaxdenoise.network.denoiser import Denoiser, Scale
from jaxdenoise.network.settings import settle
from jaxdenoise.report import evidence, pictures, provenance
from jaxdenoise.report.content import Channel, Circumstances, Origin, ReportContent
from jaxdenoise.report.guard import judge_frames
from jaxdenoise.report.html import write_html
from jaxdenoise.report.page import write
from jaxdenoise.system.errors import RequestError

VOID = {"img", "meta", "source", "br", "link", "input"}
LEAST = {"verdict", "images", "residual", "limits", "methods", "settings"}
SECTIONS = LEAST | {"frames", "choices", "resolution", "truth", "psf", "sweep", "training"}
HOSTILE = """<script>alert("1")</script> & 'name'.tif"""
SWEEP = {
    "chosen": 1.0,
    "candidates": [
        {
            "psf": psf,
            "seed": seed,
            "score": 0.2 + 0.01 * abs(psf - 1),
            "score_se": 0.002,
            "psnr": 30.0,
            "seconds": 9.5,
            "epochs": epochs,
        }
        for psf, epochs in ((0.0, 2), (1.0, 6), (2.0, 2))
        for seed in (0, 1)
    ],
}


class Page(HTMLParser):
    """What the tests ask of a page; it checks on the way that elements nest."""

    def __init__(self, html):
        super().__init__()
        self.open, self.tags, self.text, self.html = [], [], {}, html
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append((tag, dict(attributes).get("id")))

    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag

    def handle_data(self, data):
        section = next((name for tag, name in self.open if tag == "section"), None)
        self.text[section] = self.text.get(section, "") + data

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]

    def alternatives(self):
        """The texts that stand for pictures and charts."""
        pictures, drawings = self.all("img"), self.all("svg")
        return [one["alt"] for one in pictures] + [one["aria-label"] for one in drawings]


def a_model(psf, history):
    """A model without weights, which no report needs."""
    scale = Scale(*(np.float32(v) for v in (100, 50, 30)))
    return Denoiser({}, {}, {}, psf, scale, history, settle(TrainConfig(symmetries=1)))


@pytest.fixture(scope="module")
def model():
    epochs = np.arange(1, 7)
    history = {
        "epoch": epochs,
        "learning_rate": 1e-3 / epochs,
        "train_loss": 0.3 / epochs,
        "data_loss": 0.3 / epochs,
        "positivity_loss": 1e-3 / epochs,
        "validation_loss": 0.2 + 0.1 / epochs,
        "chosen": np.ones(6),
    }
    return a_model(np.asarray(gaussian_psf(1.0)), history)


@pytest.fixture(scope="module")
def full(tmp_path_factory, model, static, white):
    channel = Channel(
        noisy=static + 20 * white,
        denoised=static,
        deconvolved=static,
        denoiser=model,
        guard=judge_frames(static + 20 * white, static),
        sweep=SWEEP,
        truth=static[0],
        evidence=[f"a line on {HOSTILE}"],
        origins=[Origin("PSF", "sigma 1.00 pixels", "found")],
    )
    content = ReportContent(
        title=HOSTILE,
        channels=[channel],
        settings={
            "inputs": [HOSTILE],
            "seed": 0,
            "tile_size": None,
            "versions": {"jax": "0.10", "nested": {"deep": 1.5}},
        },
        commands=["jaxdenoise denoise 'a b.tif' -o out --psf 1.0", "second > line"],
        pixel_size_um=(0.1, 0.1),
        made=Circumstances(
            date="2026-12-01 10:00 UTC",
            seconds=12.34,
            versions={"jax": "0.10", "devices": ["cpu: cpu"]},
            checksums={HOSTILE: "abc123"},
        ),
    )
    path = tmp_path_factory.mktemp("run") / "new" / "report.html"
    write_html(path, content)
    return Page(path.read_text(encoding="utf-8")), path


@pytest.fixture(scope="module")
def least():
    """The least that a run can be: one small frame, no PSF, no history, nothing else."""
    noisy = 100 + 10 * np.random.default_rng(0).normal(size=(1, 24, 20))
    channel = Channel(
        noisy=noisy,
        denoised=np.full_like(noisy, 100),
        deconvolved=np.full_like(noisy, 100),
        denoiser=a_model(np.ones((1, 1), np.float32), {}),
    )
    return ReportContent(title="bare", channels=[channel])


@pytest.fixture(scope="module")
def bare(tmp_path_factory, least):
    """The least report, in the place of an older one."""
    path = tmp_path_factory.mktemp("run") / "report.html"
    path.write_text("old")
    write_html(str(path), least)
    return Page(path.read_text(encoding="utf-8")), path


@pytest.fixture(params=["full", "bare"])
def either(request):
    return request.getfixturevalue(request.param)[0]


def test_every_picture_is_inside_and_described(either):
    for image in either.all("img"):
        assert image["src"].startswith("data:image/png;base64,")
    for drawing in either.all("svg"):
        assert drawing["role"] == "img"
    alternatives = either.alternatives()
    assert len(alternatives) >= 8
    for text in alternatives:
        assert len(text) > 20
        assert text.endswith(".")
    assert len(set(alternatives)) == len(alternatives)
    assert len(either.all("figcaption")) == len(either.all("figure"))


def test_nothing_is_loaded(either):
    """The script is the package's own; a browser sees that it asks for nothing."""
    for tag, attributes in either.tags:
        assert tag not in ("iframe", "object", "base")
        if tag == "script":
            assert "src" not in attributes
        if tag == "link":
            assert attributes == {"rel": "icon", "href": "data:,"}
            continue
        for name, value in attributes.items():
            assert not name.startswith("on")
            if name in ("src", "srcset"):
                assert value.startswith("data:image/png;base64,")
            elif name == "href":
                assert value.startswith("data:image/png;base64," if tag == "image" else "#")
    assert "url(" not in either.html
    assert "@import" not in either.html
    assert "http" not in either.html.replace("data:image/png;base64,", "").split("<body>")[0]


@pytest.mark.parametrize(("report", "sections"), [("full", SECTIONS), ("bare", LEAST)])
def test_sections_with_content_are_there_and_linked_and_no_others(request, report, sections):
    page = request.getfixturevalue(report)[0]
    assert {section["id"] for section in page.all("section")} == sections
    assert {link["href"].lstrip("#") for link in page.all("a")} == sections
    assert page.all("html") == [{"lang": "en"}]
    assert len(page.all("h1")) == 1


def test_what_the_full_report_shows(full):
    page = full[0]
    alternatives = " ".join(page.alternatives())
    for figure in (
        "Noisy image",
        "Denoised image",
        "Deconvolved image",
        "Truth image",
        "Residual of",
        "smoothed",
        "Histogram",
    ):
        assert figure in alternatives
    for figure in (
        "Autocorrelation",
        "Spectrum",
        "Spread and mean",
        "ring correlation",
        "PSF",
        "Score",
        "PSNR",
        "Training",
        "Learning rate",
    ):
        assert figure in alternatives
    assert "Use with care" in page.text["verdict"]
    assert "The training was too short" in page.text["verdict"]
    assert "1 of 10 checks needs attention" in page.text["verdict"]
    assert "3 of 3 frames: no problems found" in page.text["frames"]
    assert "found in the images" in page.text["choices"]
    for value in ("2026-12-01 10:00 UTC", "12.3 seconds", "abc123", "jax 0.10, devices cpu: cpu"):
        assert value in page.text["settings"]
    assert "PSF sigma 1.00 pixels (found in the images)" in page.text["methods"]
    assert "arXiv:2008.08414" in page.text["methods"]
    assert "upper bound" in page.text["resolution"]
    assert "µm" in page.text["resolution"]
    assert "2.35" in page.text["psf"]
    assert "nothing about the deconvolved image" in page.text["sweep"]
    for value in ("tile_size", "nested", "1.5", "patch_size", "second > line"):
        assert value in page.text["settings"]


def test_special_characters_are_escaped(full):
    page = full[0]
    assert HOSTILE in page.text["settings"]
    assert HOSTILE in page.text[None]
    assert "<script>alert" not in page.html


@pytest.mark.parametrize("report", ["full", "bare"])
def test_the_file_is_small_and_alone(request, report):
    path = request.getfixturevalue(report)[1]
    assert path.stat().st_size < 5e6
    assert list(path.parent.iterdir()) == [path]


def test_a_sweep_over_measured_psfs():
    rows = [
        {**SWEEP["candidates"][0], "psf": psf, "psnr": None}
        for psf in ("none", 0.5, "$<beads>^$.tif")
    ]
    sweep = Page(provenance.sweep_section({"chosen": "$<beads>^$.tif", "candidates": rows}))
    assert "$<beads>^$.tif was chosen" in sweep.text[None]
    assert "The bars are standard errors" in sweep.text[None]
    assert {"class": "chosen"} in sweep.all("tr")


def test_a_sweep_of_which_a_single_patch_was_scored():
    rows = [row | {"score_se": None} for row in SWEEP["candidates"]]
    sweep = Page(provenance.sweep_section({"chosen": 1.0, "candidates": rows}))
    assert "the standard errors are not known" in sweep.text[None]
    assert "bars are" not in sweep.text[None]


@pytest.mark.wrong_types
@pytest.mark.parametrize(
    ("denoised", "message"),
    [
        (np.ones((24, 20)), r"one shape, got \(1, 24, 20\), \(24, 20\)"),
        (np.full((1, 24, 20), np.nan), "finite"),
    ],
)
def test_stacks_that_make_no_report_leave_the_older_one(tmp_path, least, denoised, message):
    path = tmp_path / "report.html"
    path.write_text("old")
    channel = dataclasses.replace(least.channels[0], denoised=denoised)
    content = dataclasses.replace(least, channels=[channel])
    with pytest.raises(RequestError, match=message):
        write_html(path, content)
    assert path.read_text() == "old"


def test_a_failed_write_leaves_the_older_report(tmp_path):
    path = tmp_path / "report.html"
    path.write_text("old")
    with pytest.raises(UnicodeEncodeError):
        write(path, "new \ud800")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_frames_too_small_for_the_window_of_ssim_have_psnr_alone():
    clean = np.arange(25, dtype=np.float32).reshape(1, 5, 5)
    truth = Page(evidence.truth_section(clean + 1, clean + 0.5, clean))
    assert truth.text[None].count("-") == 2


def test_a_comparison_of_results(tmp_path):
    images = {"noisy": np.eye(40), "denoised": np.ones((40, 40))}
    captions = {"denoised": "30 dB"}
    pictures.save_comparison(tmp_path / "c.png", images, zoom=(4, 8, 16), captions=captions)
    assert struct.unpack(">II", (tmp_path / "c.png").read_bytes()[16:24]) == (660, 750)


def test_pictures_are_pngs_of_the_right_size():
    for pixels in (np.zeros((5, 7), np.uint8), np.zeros((5, 7, 3), np.uint8)):
        assert struct.unpack(">II", pictures.png(pixels)[16:24]) == (7, 5)


def test_grey_levels():
    image = np.array([[-5.0, 0.0, 50.0, 100.0, 900.0]])
    np.testing.assert_array_equal(pictures.grey(image, 0.0, 100.0), [[0, 0, 128, 255, 255]])
    red, green, blue = pictures.diverging(image - 50, 50.0).transpose(2, 0, 1)[:, 0].astype(int)
    assert blue[0] > red[0]  # purple below
    assert red[-1] > blue[-1]  # orange above
    assert abs(red[2] - blue[2]) < 12  # white in the middle
    assert min(green[2], red[2]) > 230
    assert pictures.grey_range(np.full((4, 4), 3.0)) == (3, 4)


def test_the_busiest_window():
    image = np.zeros((64, 100))
    image[40:50, 70:80] = np.arange(10)
    y, x, side = pictures.busiest_window(image, 32)
    assert y <= 40 < 50 <= y + side
    assert x <= 70 < 80 <= x + side
    assert pictures.busiest_window(image, 64)[2] == 64
