import errno
import os

import numpy as np
import pytest
import tifffile
from grids import covering

from jaxdenoise.io import images, tiff
from jaxdenoise.io.info import ImageInfo
from jaxdenoise.system.errors import ImageError

RNG = np.random.default_rng(0)
STACK = RNG.integers(0, 60000, (3, 70, 90)).astype(np.uint16)
FORMS = {
    "contiguous": {},
    "big-endian": {"byteorder": ">"},
    "ImageJ": {"imagej": True},
    "OME": {"ome": True},
    "BigTIFF": {"bigtiff": True},
    "strips": {"rowsperstrip": 16},
    "deflate": {"compression": "zlib", "rowsperstrip": 13},
    "LZW with predictor": {"compression": "lzw", "predictor": True, "rowsperstrip": 32},
    "tiles": {"tile": (32, 48)},
    "tiles, zstd": {"tile": (16, 32), "compression": "zstd"},
    "one strip": {"compression": "zlib"},
}


@covering(form=list(FORMS), axes=["TYX", "YX", "TZYX"])
def test_parts_are_those_of_the_whole(tmp_path, form, axes):
    options = FORMS[form]
    stack = {"TYX": STACK, "YX": STACK[0], "TZYX": STACK[:, None].astype(np.float32)}[axes]
    tifffile.imwrite(tmp_path / "a.tif", stack, photometric="minisblack", **options)
    array, info = tiff.open_image(tmp_path / "a.tif")
    expected = tifffile.imread(tmp_path / "a.tif").reshape(array.shape)
    assert array.shape == info.shape
    np.testing.assert_array_equal(array[(slice(None),) * len(array.shape)], expected)
    for rows, columns in (
        (slice(0, 1), slice(89, 90)),
        (slice(15, 49), slice(31, 65)),
        (slice(69, 70), slice(0, 90)),
    ):
        place = (*(slice(length - 1, length) for length in array.shape[:-2]), rows, columns)
        part = array[place]
        assert part.dtype.newbyteorder("=") == info.dtype
        np.testing.assert_array_equal(part, expected[place])


@pytest.fixture
def without_maps(monkeypatch):
    """A file system that maps no files, as FUSE with direct_io."""

    def memmap(**_):
        raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))

    monkeypatch.setattr(tiff.np, "memmap", memmap)


PLACES = (
    (slice(None), slice(None), slice(None)),
    (slice(1, 3), slice(None), slice(None)),
    (slice(1, 2), slice(15, 49), slice(None)),
    (slice(0, 3), slice(69, 70), slice(31, 65)),
    (slice(2, 3), slice(0, 0), slice(0, 5)),
)


@pytest.mark.parametrize("byteorder", "<>")
def test_files_that_cannot_be_mapped_are_read(tmp_path, without_maps, byteorder):
    tifffile.imwrite(tmp_path / "a.tif", STACK, photometric="minisblack", byteorder=byteorder)
    array, _ = tiff.open_image(tmp_path / "a.tif")
    for place in PLACES:
        np.testing.assert_array_equal(array[place], STACK[place])
    (tmp_path / "a.tif").write_bytes((tmp_path / "a.tif").read_bytes()[: STACK.nbytes // 2])
    with pytest.raises(OSError, match="No such device"):  # rather than pixels that are not there
        array[PLACES[0]]


def test_files_that_cannot_be_mapped_are_written(tmp_path, without_maps):
    info, expected = ImageInfo("TYX", STACK.shape, STACK.dtype), np.zeros_like(STACK)
    with tiff.create(tmp_path / "a.tif", info, STACK.dtype) as array:
        for number, place in enumerate(PLACES, 1):
            array[place] = expected[place] = STACK[place] // number
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "a.tif"), expected)


def test_only_the_segments_that_are_asked_for_are_decoded(tmp_path):
    tifffile.imwrite(
        tmp_path / "a.tif",
        np.tile(STACK, (1, 4, 4)),
        tile=(64, 64),
        compression="zlib",
        photometric="minisblack",
    )
    with tifffile.TiffFile(tmp_path / "a.tif") as tif:
        page = tif.pages[1]
        first, last = page.dataoffsets[0], page.dataoffsets[-1]
    content = bytearray((tmp_path / "a.tif").read_bytes())
    content[last : last + 8] = b"not zlib"
    (tmp_path / "a.tif").write_bytes(content)
    assert first < last
    frames = images.open_image(tmp_path / "a.tif").frames
    np.testing.assert_array_equal(frames[1, 0:64, 0:64], STACK[1, :64, :64])
    with pytest.raises(ImageError, match="cannot be read"):
        frames[1, :, :]


def test_created_piece_by_piece_is_written_at_once(tmp_path):
    tifffile.imwrite(
        tmp_path / "a.tif", STACK, imagej=True, metadata={"unit": "um"}, resolution=(4, 5)
    )
    image = images.read(tmp_path / "a.tif")
    images.write(tmp_path / "whole.tif", image.frames, image.info)
    with images.create(tmp_path / "pieces.tif", image.info) as target:
        for n, frame in enumerate(image.frames):
            for y in range(0, 70, 32):
                for x in range(0, 90, 32):
                    target[n, y : y + 32, x : x + 32] = frame[y : y + 32, x : x + 32]
        assert not (tmp_path / "pieces.tif").exists()
    assert (tmp_path / "pieces.tif").read_bytes() == (tmp_path / "whole.tif").read_bytes()
    assert images.read(tmp_path / "pieces.tif").info == image.info


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_interrupted_write_leaves_nothing(tmp_path, error):
    info = ImageInfo("YX", (8, 8), np.dtype("u1"))
    (tmp_path / "a.tif").write_text("earlier")
    with pytest.raises(error), images.create(tmp_path / "a.tif", info, overwrite=True):
        raise error
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a.tif", "earlier")]


def test_a_full_disk_shows_at_once(tmp_path):
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(
        resource.RLIMIT_FSIZE, (100_000, limits[1])
    )  # no file may be longer: writing fails as on a full disk
    try:
        info = ImageInfo("YX", (1000, 1000), np.dtype("u1"))
        with (
            pytest.raises(ImageError, match="cannot be written"),
            images.create(tmp_path / "a.tif", info),
        ):
            pytest.fail("too late")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list(tmp_path.iterdir())
