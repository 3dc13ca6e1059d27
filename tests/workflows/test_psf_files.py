"""PSFs from files: what is done to them is said once, a line each."""

import numpy as np
import pytest
import tifffile

from jaxdenoise.io import images
from jaxdenoise.microscope.psf import normalized_psf
from jaxdenoise.system.errors import RequestError
from jaxdenoise.workflows import Silent, Training
from jaxdenoise.workflows.psfs import psfs_for, psfs_of


class Listener(Silent):
    def __init__(self):
        self.lines = []

    def say(self, text):
        self.lines.append(text)


def bell(side, sigma, centre):
    line = np.exp(-((np.arange(side) - centre) ** 2) / (2 * sigma**2))
    return np.outer(line, line).astype(np.float32)


def write(path, array, pixel_size=None, **metadata):
    options = {}
    if pixel_size:
        options = {"resolution": (1 / pixel_size,) * 2}
        metadata["unit"] = "um"
    tifffile.imwrite(path, array, imagej=True, metadata=metadata, **options)
    return str(path)


@pytest.fixture
def image(tmp_path):
    path = write(tmp_path / "image.tif", np.zeros((40, 48), np.uint16), pixel_size=0.1)
    return images.open_image(path)


def test_what_was_done_is_one_line(tmp_path, image):
    path = write(tmp_path / "psf.tif", 0.1 + bell(24, 3.0, 14), pixel_size=0.05)
    listener = Listener()
    psfs = psfs_for(Training(psf=path), ["image.tif"], [image], reporter=listener)
    assert list(psfs) == [path]
    assert listener.lines == [
        f"PSF {path}: a pedestal of 10 % of the peak taken off; resampled from pixels of 0.05x0.05 "
        "to the image's 0.1x0.1; centred: moved up by 2.00 and left by 2.00 pixels"
    ]
    (psf,) = psfs.values()
    assert psf.shape[0] % 2 == psf.shape[1] % 2 == 1
    middle = np.arange(len(psf)) - len(psf) // 2
    assert psf.sum(axis=0) @ middle == pytest.approx(0, abs=0.02)
    assert psf.sum(axis=0) @ middle**2 == pytest.approx(1.5**2 + 0.75 / 12, rel=0.05)


def test_a_good_file_stays_and_nothing_is_said(tmp_path, image):
    path, listener = write(tmp_path / "psf.tif", bell(15, 1.5, 7), pixel_size=0.1), Listener()
    (psf,) = psfs_of(path, files=[image], reporter=listener).values()
    np.testing.assert_array_equal(psf, normalized_psf(bell(15, 1.5, 7)))
    assert listener.lines == []


def test_images_of_other_pixels_are_mentioned(tmp_path, image):
    coarse = images.open_image(
        write(tmp_path / "coarse.tif", np.zeros((40, 48), np.uint16), pixel_size=0.2)
    )
    path, listener = write(tmp_path / "psf.tif", bell(31, 3.0, 15), pixel_size=0.05), Listener()
    psfs_of(path, files=[image, coarse], reporter=listener)
    assert listener.lines[0].endswith("; the pixels of other images have other sizes")


def test_a_volume_gives_its_plane_in_focus_and_channels_are_refused(tmp_path, image):
    planes = np.stack([bell(15, 1.5 + abs(k), 7) / (1 + abs(k)) for k in range(-2, 3)])
    listener = Listener()
    path = write(tmp_path / "psf.tif", planes, axes="ZYX")
    (psf,) = psfs_of(path, files=[image], reporter=listener).values()
    np.testing.assert_array_equal(psf, normalized_psf(planes[2]))
    assert "plane 3 of 5, the sharpest" in listener.lines[0]
    path = write(tmp_path / "channels.tif", planes, axes="CYX")
    with pytest.raises(RequestError, match=r"channels\.tif: a PSF is one image, or one stack"):
        psfs_of(path, files=[image])


def test_a_psf_as_large_as_the_image_fits(tmp_path, image):
    path, listener = write(tmp_path / "psf.tif", bell(48, 1.5, 24)), Listener()
    (psf,) = psfs_of(path, files=[image], reporter=listener).values()
    assert psf.shape == (17, 17)
    assert listener.lines == [f"PSF {path}: padded from 48x48 to 49x49 pixels"]
