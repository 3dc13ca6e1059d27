"""PSFs from files: what is done to them is said once, a line each."""

import numpy as np
import pytest
import tifffile

import jaxdenoise as jd
from jaxdenoise.io import images
from jaxdenoise.microscope.psf import normalized_psf
from jaxdenoise.system.errors import RequestError
from jaxdenoise.workflows import Silent, Training
from jaxdenoise.workflows.parts import Part
from jaxdenoise.workflows.psfs import known_psf, psfs_for, psfs_of


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


def part_of(path, **metadata):
    channel = {"Name": ["GFP"], "EmissionWavelength": [520], "EmissionWavelengthUnit": ["nm"]}
    sizes = {"PhysicalSizeX": 0.1, "PhysicalSizeY": 0.1, "Channel": channel, **metadata}
    image = np.random.default_rng(0).poisson(50, (32, 32)).astype(np.uint16)
    tifffile.imwrite(path, image, metadata={"axes": "YX", **sizes})
    objective = '<Instrument ID="Instrument:0"><Objective ID="Objective:0" LensNA="1.2"/>'
    objective += "</Instrument>"
    with tifffile.TiffFile(path) as tif:
        xml = tif.ome_metadata.replace("<Image ", f"{objective}<Image ", 1)
    tifffile.tiffcomment(path, xml.encode())
    return Part(path, 0, images.open_image(path))


def test_a_psf_is_never_silent(tmp_path):
    """Where nothing says what it is, the file's optics do, or a line says what is assumed."""
    part = part_of(tmp_path / "a.ome.tif")
    assert part.file.info.objective_na == 1.2
    assert part.file.info.wavelengths_um(None) == (None, pytest.approx(0.52))
    training, (line,) = known_psf(Training(), part)
    assert (training.optics.na, training.optics.emission) == (1.2, pytest.approx(0.52))
    sigma = float(jd.widefield_sigma(1.2, 0.52, pixel_size=0.1))
    assert f"sigma {sigma:.2f} pixels" in line
    assert "aperture of 1.2 and emission of 520 nm" in line
    # Optics that cannot be, such as pixels of a micrometre by default, are not believed.
    part = part_of(tmp_path / "b.ome.tif", PhysicalSizeX=1, PhysicalSizeY=1)
    training, (line,) = known_psf(Training(), part)
    assert training == Training()
    assert line.startswith("PSF: sigma 1.0 pixels is assumed, nothing says what it is")
    for known in (Training(psf=1.0), Training(psf="none"), Training(preset="best")):
        assert known_psf(known, part) == (known, ())


def test_the_optics_of_a_file_do_not_spoil_what_is_written(tmp_path):
    part = part_of(tmp_path / "a.ome.tif")
    jd.write(tmp_path / "b.ome.tif", np.asarray(part.file.frames), part.file.info)
    assert jd.read(tmp_path / "b.ome.tif").info.channel_names == ("GFP",)
