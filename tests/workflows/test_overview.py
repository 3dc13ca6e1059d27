"""The index of a batch: what reports have recorded, and what is read from the images."""

import numpy as np
import tifffile

from jaxdenoise.report import index
from jaxdenoise.workflows.overview import write_overview
from jaxdenoise.workflows.results import DONE, FAILED, FileRow

PICTURE = np.arange(24, dtype=np.uint8).reshape(4, 6)


def test_pictures_come_from_the_reports_and_else_from_the_images(tmp_path):
    """The first input is not there any more: its report knows what it looked like."""
    page = tmp_path / "a_report.html"
    row = index.IndexRow("a.tif", None, 0, "", 1.0, "40 x 64 x 64", PICTURE, PICTURE[::-1])
    page.write_text(index.summary(row), encoding="utf-8")
    image = np.random.default_rng(0).poisson(50, (3, 20, 30)).astype(np.uint16)
    for name in ("b.tif", "b_denoised.tif"):
        tifffile.imwrite(tmp_path / name, image, photometric="minisblack")
    outputs = {"denoised": str(tmp_path / "b_denoised.tif")}
    gone = {"denoised": str(tmp_path / "a_denoised.tif")}
    b = str(tmp_path / "b.tif")
    rows = [
        FileRow("a.tif", DONE, gone, seconds=2.0, level="fine", reports=(str(page),)),
        FileRow(b, DONE, outputs, seconds=3.0, level="care", verdict="use with care: x"),
        FileRow("c.tif", FAILED, error="c.tif: no TIFF file"),
    ]
    text = write_overview(tmp_path / "index.html", rows, axes=None).read_text(encoding="utf-8")
    assert text.count("<img") == 4
    assert "40 x 64 x 64" in text
    assert "3 x 20 x 30" in text
    assert "<td>no TIFF file</td>" in text
