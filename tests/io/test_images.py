"""What is read is written back like the original, and bad files end in one clear line."""

import re
import subprocess
import sys
import warnings
import zlib
from fractions import Fraction
from pathlib import Path
from struct import calcsize, pack

import cv2
import numpy as np
import pytest
import tifffile
from grids import covering, fewer
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxdenoise.io import images
from jaxdenoise.io.images import ImageError, ImageInfo

DATA = Path(__file__).parents[3] / "shared" / "data"
REAL = [
    *DATA.glob("volume/*.tif"),
    *DATA.glob("convallaria/*.tif"),
    *DATA.glob("livecell/*.tif"),
    *DATA.glob("beads/*.tif"),
]
CALIBRATION = ("pixel_size_um", "z_spacing", "frame_interval")
RNG = np.random.default_rng(0)
UM = {"resolution": (5.0, 4.0), "metadata": {"unit": "um", "spacing": 0.5, "finterval": 2.5}}


def noise(shape, dtype="uint16"):
    return RNG.integers(0, 200, shape).astype(dtype)


def fold(data, axes):
    """The frames, written out the slow way."""
    order = [i for i, axis in enumerate(axes) if axis not in "YX"] + [
        axes.index("Y"),
        axes.index("X"),
    ]
    data = data.transpose(order)
    return data.reshape(-1, *data.shape[-2:])


def fails(match, call, *args, **kwargs):
    """The call raises an ImageError of one line that matches."""
    with pytest.raises(ImageError, match=match) as caught:
        call(*args, **kwargs)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def same(first, second):
    assert first.info == second.info
    for name in CALIBRATION:
        assert getattr(first.info, name) == getattr(second.info, name), name
    np.testing.assert_array_equal(first.frames, second.frames)


def rewrite(path, **options):
    """Read, write, read again: both readings."""
    before = images.read(path)
    out = path.with_name("again.tif")
    images.write(out, *before, **options)
    return before, images.read(out)


IMAGEJ = [
    ("YX", (9, 8)),
    ("ZYX", (3, 9, 8)),
    ("TYX", (4, 9, 8)),
    ("CYX", (3, 9, 8)),
    ("TZYX", (2, 3, 9, 8)),
    ("TCYX", (3, 2, 9, 8)),
    ("TZCYX", (2, 3, 4, 9, 8)),
    ("ZYX", (5, 9, 3)),
    ("TYX", (4, 1, 8)),
]


@covering(image=IMAGEJ, dtype=["uint8", "uint16", "int16", "float32"])
def test_imagej_roundtrip(tmp_path, image, dtype):
    axes, shape = image
    data = noise(shape, dtype)
    metadata = {
        "axes": axes,
        "min": 3.0,
        "max": 99.5,
        "Info": "a\nb \u00b5",
        "Labels": [f"frame {i}" for i in range(3)],
    }
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path, data, imagej=True, resolution=(5.0, 4.0), metadata=metadata | UM["metadata"]
    )
    before, after = rewrite(path)
    same(before, after)
    assert (before.info.kind, before.info.axes, before.info.shape, before.info.dtype) == (
        "imagej",
        axes,
        shape,
        dtype,
    )
    assert (before.info.pixel_size_um, before.info.z_spacing, before.info.frame_interval) == (
        (0.25, 0.2),
        0.5,
        2.5,
    )
    np.testing.assert_array_equal(before.frames, fold(data, axes))
    with tifffile.TiffFile(tmp_path / "again.tif") as tif:  # an independent view
        assert tif.is_imagej
        assert tif.series[0].axes == axes
        assert tif.imagej_metadata["Labels"] == ["frame 0", "frame 1", "frame 2"]
        assert tif.imagej_metadata["Info"] == "a\nb \u00b5"
        assert [tif.imagej_metadata[key] for key in ("min", "max", "unit", "spacing")] == [
            3.0,
            99.5,
            "um",
            0.5,
        ]
        assert (tif.pages[0].tags[282].value, tif.pages[0].tags[283].value) == ((5, 1), (4, 1))
        np.testing.assert_array_equal(tif.asarray(), data)


def test_imagej_keeps_display_and_calibration(tmp_path):
    luts = [np.stack([RNG.integers(0, 255, 256, np.uint8)] * 3) for _ in range(2)]
    metadata = {
        "axes": "CYX",
        "mode": "composite",
        "loop": True,
        "Ranges": (1.0, 9.0, 2.0, 8.0),
        "LUTs": luts,
    }
    metadata |= {
        "unit": r"\u00B5m",
        "Properties": {"key": "value", "k2": "\u00e9"},
        "spacing": -2.0,
        "Overlays": b"\x01\x02",
    }
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path,
        noise((2, 9, 8)),
        imagej=True,
        resolution=((44460534, 1000000), (1, 3)),
        metadata=metadata,
    )
    before, after = rewrite(path)
    same(before, after)
    assert before.info.metadata["unit"] == "\u00b5m"
    assert before.info.pixel_size_um == (3.0, pytest.approx(1 / 44.460534))
    assert before.info.z_spacing == 2.0
    with tifffile.TiffFile(path) as one, tifffile.TiffFile(tmp_path / "again.tif") as two:
        first, second = one.imagej_metadata, two.imagej_metadata
        assert all(str(second[key]) == str(value) for key, value in first.items())
        assert one.pages[0].tags[282].value == two.pages[0].tags[282].value


def test_imagej_palette_and_inverted_grey_survive(tmp_path):
    colormap = RNG.integers(0, 2**16, (3, 256), np.uint16)
    tifffile.imwrite(
        tmp_path / "a.tif",
        noise((3, 9, 8), "uint8"),
        imagej=True,
        colormap=colormap,
        metadata={"axes": "ZYX"},
    )
    same(*rewrite(tmp_path / "a.tif", overwrite=True))
    with tifffile.TiffFile(tmp_path / "again.tif") as tif:
        assert tif.pages[0].photometric.name == "PALETTE"
        np.testing.assert_array_equal(tif.pages[0].colormap, colormap)
    for options in ({}, {"imagej": True}):
        tifffile.imwrite(
            tmp_path / "a.tif", noise((9, 8), "uint8"), photometric="miniswhite", **options
        )
        same(*rewrite(tmp_path / "a.tif", overwrite=True))
        with tifffile.TiffFile(tmp_path / "again.tif") as tif:
            assert tif.pages[0].photometric.name == "MINISWHITE"


def test_imagej_falls_back_to_plain(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path,
        noise((2, 3, 9, 8)),
        imagej=True,
        resolution=(5.0, 4.0),
        metadata={"axes": "TZYX"} | UM["metadata"],
    )
    before, after = rewrite(path, dtype="float64")
    with tifffile.TiffFile(tmp_path / "again.tif") as tif:
        assert not tif.is_imagej
    assert (after.info.axes, after.info.shape, after.info.dtype) == (
        "TZYX",
        before.info.shape,
        np.float64,
    )
    assert [getattr(after.info, name) for name in CALIBRATION] == [
        getattr(before.info, name) for name in CALIBRATION
    ]
    # An order that ImageJ does not know
    frames, info = images.read(path, axes="ZTYX")
    images.write(tmp_path / "b.tif", frames, info)
    same(
        images.Image(frames, info)._replace(info=images.read(tmp_path / "b.tif").info),
        images.read(tmp_path / "b.tif"),
    )
    assert images.read(tmp_path / "b.tif").info.axes == "ZTYX"


def test_imagej_one_header_for_all_planes(tmp_path):
    """ImageJ's layout beyond 4 GB: one page, the other planes after it."""
    data = noise((4, 9, 8))
    tifffile.imwrite(tmp_path / "a.tif", data, imagej=True, truncate=True, metadata={"axes": "TYX"})
    with tifffile.TiffFile(tmp_path / "a.tif") as tif:
        assert len(tif.pages) == 1
    np.testing.assert_array_equal(images.read(tmp_path / "a.tif").frames, data)


def test_imagej_names_that_are_not_ascii_are_left_out(tmp_path):
    """A damaged file may hold some."""
    info = ImageInfo(
        "TYX", (3, 9, 8), np.dtype("uint8"), "imagej", metadata={"sp\u00ff": 1, "unit": "\u00b5m"}
    )
    images.write(tmp_path / "a.tif", noise((3, 9, 8), "uint8"), info)
    assert images.read(tmp_path / "a.tif").info.metadata["unit"] == "\u00b5m"


OME = [
    ("YX", (9, 8)),
    ("TCZYX", (2, 3, 4, 9, 8)),
    ("CYX", (3, 9, 8)),
    ("ZCYX", (3, 2, 9, 8)),
    ("ZYX", (5, 9, 3)),
]


@covering(image=OME, dtype=["uint8", "uint16", "int32", "float32", "float64"])
def test_ome_roundtrip(tmp_path, image, dtype):
    axes, shape = image
    channels = shape[axes.index("C")] if "C" in axes else 1
    metadata = {
        "axes": axes,
        "PhysicalSizeX": 200.0,
        "PhysicalSizeXUnit": "nm",
        "PhysicalSizeY": 0.25,
        "Name": 'a "<b>"',
    }
    metadata |= {
        "PhysicalSizeZ": 0.5,
        "PhysicalSizeZUnit": "\u00b5m",
        "TimeIncrement": 500,
        "TimeIncrementUnit": "ms",
    }
    metadata |= {
        "Channel": {"Name": [f"0{i} \u00b5" for i in range(channels)]},
        "SignificantBits": 8,
    }
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(path, noise(shape, dtype), photometric="minisblack", metadata=metadata)
    before, after = rewrite(path)
    same(before, after)
    assert (before.info.kind, before.info.axes, before.info.shape, before.info.dtype) == (
        "ome",
        axes,
        shape,
        dtype,
    )
    assert (before.info.pixel_size_um, before.info.z_spacing, before.info.frame_interval) == (
        (0.25, 0.2),
        0.5,
        0.5,
    )
    with tifffile.TiffFile(tmp_path / "again.tif") as tif:
        assert tif.is_ome
        pixels = tifffile.xml2dict(tif.ome_metadata)["OME"]["Image"]["Pixels"]
        assert (pixels["PhysicalSizeX"], pixels["PhysicalSizeXUnit"], pixels["PhysicalSizeZ"]) == (
            200.0,
            "nm",
            0.5,
        )
        assert f'Name="0{channels - 1} \u00b5"' in tif.ome_metadata
    images.write(tmp_path / "f.tif", *before, dtype="float16")  # not an OME type
    plain = images.read(tmp_path / "f.tif").info
    assert (plain.kind, plain.axes, plain.shape, plain.dtype) == ("plain", axes, shape, np.float16)
    assert [getattr(plain, name) for name in CALIBRATION] == [
        getattr(before.info, name) for name in CALIBRATION
    ]
    images.write(tmp_path / "g.tif", *before, dtype="float32")
    assert images.read(tmp_path / "g.tif").info.kind == "ome"


def test_ome_axes_overruled(tmp_path):
    metadata = {"axes": "CYX", "Channel": {"Name": ["a", "b", "c"]}}
    tifffile.imwrite(
        tmp_path / "a.ome.tif", noise((3, 9, 8)), photometric="minisblack", metadata=metadata
    )
    images.write(tmp_path / "b.tif", *images.read(tmp_path / "a.ome.tif", axes="TYX"))
    assert images.read(tmp_path / "b.tif").info.axes == "TYX"


@covering(
    shape=[(9, 8), (3, 9, 8), (5, 9, 3), (9, 8, 4), (2, 3, 9, 8), (1, 1, 9, 8), (4, 1, 8), (1, 1)],
    dtype=[
        *("uint8", "int8", "uint16", "uint32", "int64", "uint64"),
        *("float16", "float32", "float64"),
    ],
    metadata=[{}, None],
)
def test_plain_roundtrip(tmp_path, shape, dtype, metadata):
    data = noise(shape, dtype)
    options = dict(
        photometric="minisblack", metadata=metadata, resolution=(300, 150), resolutionunit=3
    )
    tifffile.imwrite(tmp_path / "a.tif", data, **options)
    before, after = rewrite(tmp_path / "a.tif")
    same(before, after)
    assert before.info.pixel_size_um == (pytest.approx(1e4 / 150), pytest.approx(1e4 / 300))
    assert before.info.z_spacing is None
    np.testing.assert_array_equal(after.frames, data.reshape(-1, *shape[-2:]))
    with tifffile.TiffFile(tmp_path / "again.tif") as tif:
        assert tif.pages[0].photometric.name == "MINISBLACK"
        assert tif.pages[0].tags[296].value == 3


PICTURE_CODECS = (
    "jpeg2000",
    "jpegxl",
    "png",
)  # these have no predictor, and tifffile writes them in native byte order only
LAYOUTS = [{}, {"tile": (16, 16)}, {"bigtiff": True}, {"predictor": True}, {"byteorder": ">"}]


@covering(compression=["lzw", "zlib", "zstd", "deflate", "packbits", "lzma"], options=LAYOUTS)
def test_compressions_and_layouts(tmp_path, compression, options):
    check_compression(tmp_path, compression, options)


@covering(compression=PICTURE_CODECS, options=LAYOUTS[:3])
def test_picture_codecs_and_layouts(tmp_path, compression, options):
    check_compression(tmp_path, compression, options)


def check_compression(tmp_path, compression, options):
    lossless = {"jpeg2000": {"level": 0}, "jpegxl": {"lossless": True}}.get(compression)
    data = noise((3, 40, 37))
    more = dict(
        photometric="minisblack", compression=compression, compressionargs=lossless, **options
    )
    tifffile.imwrite(tmp_path / "a.tif", data, **more)
    frames, info = images.read(tmp_path / "a.tif")
    np.testing.assert_array_equal(frames, data)
    assert info.dtype == np.dtype("uint16")
    assert info.dtype.isnative
    same(*rewrite(tmp_path / "a.tif"))


def test_png_and_jpeg(tmp_path):
    for dtype, top in (("uint8", 256), ("uint16", 65536)):
        data = RNG.integers(0, top, (9, 8)).astype(dtype)
        cv2.imwrite(str(tmp_path / "a.png"), data)
        before, after = rewrite(tmp_path / "a.png", overwrite=True)
        same(before, after)
        np.testing.assert_array_equal(before.frames[0], data)
        assert (before.info.axes, before.info.shape, before.info.dtype) == ("YX", (9, 8), dtype)
    cv2.imwrite(str(tmp_path / "a.JPG"), noise((9, 8), "uint8"))
    assert images.read(tmp_path / "a.JPG").frames.shape == (1, 9, 8)


@covering(
    form=[
        *(("png", "uint8"), ("tif", "uint8"), ("png", "uint16"), ("tif", "uint16")),
        ("tif", "float32"),
    ],
    channels=[3, 4],
)
def test_rgb(tmp_path, channels, form):
    suffix, dtype = form
    data, path = noise((9, 8, channels), dtype), tmp_path / f"a.{suffix}"
    if suffix == "tif":
        tifffile.imwrite(path, data, photometric="rgb")
    else:
        cv2.imwrite(
            str(path),
            cv2.cvtColor(data, cv2.COLOR_RGB2BGR if channels == 3 else cv2.COLOR_RGBA2BGRA),
        )
    fails(r'RGB.*axes="YXC".*grey', images.read, path)
    for axes in ("YXC", "yxs"):
        before = images.read(path, axes=axes)
        np.testing.assert_array_equal(before.frames, np.moveaxis(data, -1, 0))
        images.write(tmp_path / "b.tif", *before, overwrite=True)
        same(before, images.read(tmp_path / "b.tif", axes=axes))
        with tifffile.TiffFile(tmp_path / "b.tif") as tif:
            assert tif.pages[0].photometric.name == ("MINISBLACK" if dtype == "float32" else "RGB")
            np.testing.assert_array_equal(tif.asarray(), data)


def test_grey_jpeg_saved_as_rgb_is_rgb(tmp_path):
    cv2.imwrite(str(tmp_path / "a.jpg"), np.repeat(noise((9, 8, 1), "uint8"), 3, axis=2))
    fails("RGB", images.read, tmp_path / "a.jpg")


@covering(
    image=[
        ("XYZ", (7, 6, 3)),
        ("YXC", (7, 6, 5)),
        ("YXC", (7, 6, 1)),
        ("SYX", (3, 7, 6)),
        ("TYXC", (2, 7, 6, 3)),
    ],
    dtype=["uint8", "float32"],
)
def test_axes_are_overruled(tmp_path, image, dtype):
    axes, shape = image
    data = noise(shape, dtype)
    tifffile.imwrite(tmp_path / "a.tif", data, photometric="minisblack")
    before = images.read(tmp_path / "a.tif", axes=axes.lower())
    assert before.info.axes == axes
    np.testing.assert_array_equal(before.frames, fold(data, axes))
    images.write(tmp_path / "b.tif", *before)
    same(before, images.read(tmp_path / "b.tif", axes=axes))
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "b.tif"), data)


@pytest.mark.parametrize("axes", ["YX", "TZYX", "ZZX", "ZYY", "ZTC", "ZYQ", "", "Z Y"])
def test_wrong_axes(tmp_path, axes):
    tifffile.imwrite(tmp_path / "a.tif", noise((3, 9, 8)), photometric="minisblack")
    assert "a.tif" in fails("axes", images.read, tmp_path / "a.tif", axes=axes)


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_write_then_read_is_the_identity(tmp_path_factory, data):
    others = data.draw(st.lists(st.sampled_from("TZCS"), unique=True, max_size=4))
    axes = "".join(data.draw(st.permutations([*others, "Y", "X"])))
    shape = tuple(data.draw(st.integers(1, 5)) for _ in axes)
    dtype = np.dtype(data.draw(st.sampled_from(["uint8", "int8", "uint16", "int16", "float32"])))
    low, high = (-1000, 1000) if dtype.kind == "f" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    pixels = (
        np.random.default_rng(data.draw(st.integers(0, 9)))
        .integers(low, high, shape, endpoint=True)
        .astype(dtype)
    )
    frames = fold(pixels, axes).astype(np.float32)
    metadata = {"unit": "um", "spacing": 0.25} if "PhysicalSize" not in axes else {}
    kind = data.draw(st.sampled_from(["plain", "imagej", "ome"]))
    metadata = {"PhysicalSizeX": 2.0, "PhysicalSizeY": 3.0} if kind == "ome" else metadata
    info = ImageInfo(axes, shape, dtype, kind, (Fraction(3, 7), Fraction(5)), 3, metadata)
    path = tmp_path_factory.mktemp("identity") / "a.tif"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        images.write(path, frames, info)
        with tifffile.TiffFile(path) as tif:
            squeezed = tif.series[0].axes != axes  # ImageJ and OME do not store axes of length one
        kept = None if squeezed else axes
        back = images.read(path, axes=kept)
    np.testing.assert_array_equal(back.frames, frames)
    assert back.info.dtype == dtype
    assert back.info.pixel_size_um == info.pixel_size_um
    assert [s for s in back.info.shape if s > 1] == [s for s in shape if s > 1]
    if not squeezed:
        assert (back.info.axes, back.info.shape) == (axes, shape)
    else:
        assert [a for a, s in zip(axes, shape, strict=True) if s > 1 or a in "YX"] == list(
            back.info.axes
        )


def test_rounding_and_saturation(tmp_path):
    info = ImageInfo("YX", (1, 8), np.dtype("uint8"))
    values = np.array([[[0.5, 1.5, 2.5, -0.5, 255.5, 255.4, -0.6, 300]]], np.float32)
    with pytest.warns(UserWarning, match="3 of 8 pixels") as caught:
        images.write(tmp_path / "a.tif", values, info)
    assert len(caught) == 1
    assert "\n" not in str(caught[0].message)
    np.testing.assert_array_equal(
        tifffile.imread(tmp_path / "a.tif"), [[0, 2, 2, 0, 255, 255, 0, 255]]
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        images.write(tmp_path / "b.tif", values, info, dtype="float32")
        images.write(tmp_path / "c.tif", np.clip(values, 0, 255), info)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "b.tif"), values[0])
    for dtype in ("int8", "uint16", "int32", "uint32", "int64", "uint64", "float16"):
        limits = np.finfo(dtype) if dtype == "float16" else np.iinfo(dtype)
        with pytest.warns(UserWarning, match="2 of 2 pixels"):
            images.write(
                tmp_path / "d.tif",
                np.array([[[-1e30, 1e30]]]),
                ImageInfo("YX", (1, 2), np.dtype(dtype)),
                overwrite=True,
            )
        np.testing.assert_array_equal(
            tifffile.imread(tmp_path / "d.tif"), [[limits.min, limits.max]]
        )


def test_write_errors(tmp_path):
    frames, info = np.ones((1, 9, 8), np.float32), ImageInfo("YX", (9, 8), np.dtype("uint8"))
    out = tmp_path / "new" / "sub" / "a.tif"
    images.write(out, frames, info)
    fails("a.tif.*overwrite=True", images.write, out, frames, info)
    images.write(out, 2 * frames, info, overwrite=True)
    assert tifffile.imread(out).max() == 2
    fails("shape|frames are", images.write, tmp_path / "b.tif", frames[:, 1:], info)
    fails("directory", images.write, tmp_path, frames, info, overwrite=True)
    fails("name it", images.write, tmp_path / "b.png", frames, info)
    fails("complex", images.write, tmp_path / "b.tif", frames, info, dtype="complex64")
    for bad in (np.nan, np.inf):
        fails(
            "2 pixels.*NaN",
            images.write,
            tmp_path / "b.tif",
            np.where(np.arange(8) % 8 == 0, bad, frames)[:, :2],
            ImageInfo("YX", (2, 8), np.dtype("f4")),
        )
    (tmp_path / "file").write_text("x")
    fails("cannot be written", images.write, tmp_path / "file" / "a.tif", frames, info)
    fails("cannot be written", images.write, tmp_path / ("x" * 300 + ".tif"), frames, info)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "new"]


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), RuntimeError("bug"), KeyboardInterrupt()]
)
def test_write_leaves_nothing_half_written(tmp_path, monkeypatch, error):
    def broken(path, *args, **kwargs):
        Path(path).write_bytes(b"half")
        raise error

    frames, info = np.ones((1, 9, 8), np.float32), ImageInfo("YX", (9, 8), np.dtype("uint8"))
    images.write(tmp_path / "old.tif", frames, info)
    monkeypatch.setattr(tifffile, "imwrite", broken)
    with pytest.raises(ImageError if isinstance(error, OSError) else type(error)) as caught:
        images.write(tmp_path / "a.tif", frames, info)
    assert not isinstance(error, OSError) or "No space left" in str(caught.value)
    with pytest.raises(BaseException):  # noqa: B017, PT011
        images.write(tmp_path / "old.tif", 5 * frames, info, overwrite=True)
    assert [p.name for p in tmp_path.iterdir()] == ["old.tif"]
    assert tifffile.imread(tmp_path / "old.tif").max() == 1


def bad_files(folder):
    """Files that cannot be read, each with a word of its message."""
    arrays = {
        "bool": (np.ones((9, 8), bool), "8-bit"),
        "complex": (np.ones((9, 8), np.complex64), "complex64"),
        "inf": (np.array([[1, np.nan], [np.inf, 0]], np.float32), "1 pixels are infinite"),
        "over": (np.full((2, 2), 1e300), "4 pixels.*float32"),
        "line": (np.arange(9), "axes"),
        "empty": (np.ones((0, 9, 8), np.uint8), "empty"),
    }
    for name, (array, match) in arrays.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tifffile.imwrite(folder / f"{name}.tif", array)
        yield f"{name}.tif", match
    contents = {
        "text.tif": (b"hello world, I am text\n" * 9, "cannot be read"),
        "magic.tif": (b"II*\0", "cannot be read"),
        "noifd.tif": (b"II*\0\0\0\0\0", "."),
        "zero.tif": (b"", "0 bytes"),
        "text.png": (b"hello", "neither PNG nor JPEG"),
        "text.jpg": (b"hello", "neither PNG nor JPEG"),
        "head.png": (b"\x89PNG\r\n\x1a\nIEND\xaeB`\x82", "cannot be read"),
        "zero.png": (b"", "0 bytes"),
        "a.oib": (b"x", "unknown extension.*tif.*png.*jpg"),
        "name": (b"x", "unknown extension"),
        "new\nline.tif": (b"x", "cannot be read"),
    }
    for name, (content, match) in contents.items():
        (folder / name).write_bytes(content)
        yield name, match
    (folder / "folder.tif").mkdir()
    yield "folder.tif", "directory"
    yield "missing.tif", "no such file"


def test_bad_files(tmp_path, capfd):
    for name, match in bad_files(tmp_path):
        message = fails(match, images.read, tmp_path / name)
        assert name.split("\n")[0] in message
    assert capfd.readouterr() == ("", "")


def cut_files(folder):
    """Whole files in all layouts, and their frames."""
    data = noise((3, 9, 8))
    layouts = {
        "plain": {"photometric": "minisblack"},
        "imagej": {"imagej": True, "metadata": {"axes": "ZYX"}},
        "virtual": {"imagej": True, "truncate": True, "metadata": {"axes": "ZYX"}},
        "ome": {"ome": True, "photometric": "minisblack", "metadata": {"axes": "ZYX"}},
        "zlib": {"compression": "zlib", "photometric": "minisblack"},
        "lzw": {"compression": "lzw", "photometric": "minisblack", "rowsperstrip": 2},
        "tiled": {"tile": (16, 16), "photometric": "minisblack", "metadata": None},
        "big": {"bigtiff": True, "photometric": "minisblack", "byteorder": ">", "metadata": None},
    }
    for name, options in layouts.items():
        tifffile.imwrite(folder / f"{name}.tif", data, **options)
        yield folder / f"{name}.tif"
    with tifffile.TiffWriter(
        folder / "pages.tif"
    ) as tif:  # each page's header before its pixels, as most writers do
        for page in data:
            tif.write(page, metadata=None, contiguous=False)
    yield folder / "pages.tif"
    cv2.imwritemulti(str(folder / "opencv.tif"), list(data))
    yield folder / "opencv.tif"
    for suffix in ("png", "jpg"):
        cv2.imwrite(str(folder / f"a.{suffix}"), data[0].astype(np.uint8))
        yield folder / f"a.{suffix}"


def attempt(path):
    """The file, or the message that it cannot be read; and whether there was a warning."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            return images.read(path), bool(caught)
        except ImageError as error:
            return str(error), bool(caught)


@fewer("cuts", 30, 150)
def test_a_file_cut_anywhere_is_never_silently_short(tmp_path, capfd, cuts):
    for path in cut_files(tmp_path):
        whole, expected = path.read_bytes(), images.read(path)
        cut = path.with_name("cut" + path.suffix)
        errors = 0
        for length in range(0, len(whole), 1 + len(whole) // cuts):
            cut.write_bytes(whole[:length])
            result, warned = attempt(cut)
            if isinstance(result, str):
                assert "\n" not in result
                errors += 1
            else:  # only what follows the pixels was lost
                np.testing.assert_array_equal(
                    result.frames, expected.frames, err_msg=f"{path} cut to {length}"
                )
                assert warned or result.info == expected.info, f"{path} cut to {length}"
        assert errors > cuts / 3
    assert capfd.readouterr() == ("", "")


@fewer("seeds", 10, 60)
def test_damaged_bytes_never_escape_as_other_errors(tmp_path, capfd, seeds):
    for path in cut_files(tmp_path):
        whole = path.read_bytes()
        for seed in range(seeds):
            content, rng = bytearray(whole), np.random.default_rng(seed)
            for place in rng.integers(0, len(content), 8):
                content[place] = rng.integers(256)
            path.write_bytes(content)
            result, _ = attempt(path)
            assert not isinstance(result, str) or "\n" not in result
    assert capfd.readouterr() == ("", "")


@covering(pages=[1, 3, 150], bigtiff=[False, True])
def test_pages_that_point_back(tmp_path, pages, bigtiff):
    layout = "<Q" if bigtiff else "<I"
    tifffile.imwrite(
        tmp_path / "a.tif",
        noise((pages, 9, 8)),
        photometric="minisblack",
        metadata=None,
        bigtiff=bigtiff,
    )
    with tifffile.TiffFile(tmp_path / "a.tif") as tif:
        offsets, end = [page.offset for page in tif.pages], tif.pages.next_page_offset
    content = bytearray((tmp_path / "a.tif").read_bytes())
    for target in (offsets[0], offsets[-1]):
        content[end : end + calcsize(layout)] = pack(layout, target)
        (tmp_path / "a.tif").write_bytes(content)
        fails("point back", images.read, tmp_path / "a.tif")


@pytest.mark.parametrize("name", ["SizeZ", "SizeY", "PlaneCount"])
def test_ome_metadata_that_promise_too_much(tmp_path, name):
    tifffile.imwrite(
        tmp_path / "a.ome.tif", noise((3, 9, 8)), photometric="minisblack", metadata={"axes": "ZYX"}
    )
    xml, found = re.subn(
        rf'{name}="\d"', f'{name}="2000000000"', tifffile.tiffcomment(tmp_path / "a.ome.tif")
    )
    assert found == 1
    tifffile.imwrite(
        tmp_path / "a.tif",
        noise((3, 9, 8)),
        photometric="minisblack",
        metadata=None,
        description=xml,
    )
    fails("OME metadata promise", images.read, tmp_path / "a.tif")


def interlaced_png(data):
    """An 8-bit PNG of the seven passes of Adam7, written out by hand."""

    def chunk(kind, content):
        return pack(">I", len(content)) + kind + content + pack(">I", zlib.crc32(kind + content))

    passes = [
        (0, 0, 8, 8),
        (0, 4, 8, 8),
        (4, 0, 8, 4),
        (0, 2, 4, 4),
        (2, 0, 4, 2),
        (0, 1, 2, 2),
        (1, 0, 2, 1),
    ]
    rows = [
        b"\0" + row.tobytes() for y, x, dy, dx in passes for row in data[y::dy, x::dx] if row.size
    ]
    head = pack(">IIBBBBB", data.shape[1], data.shape[0], 8, 0, 0, 0, 1)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(b"".join(rows)))
        + chunk(b"IEND", b"")
    )


def test_libpng_says_nothing_itself(tmp_path, caplog):
    """It warns of interlaced files, which are in order."""
    data = noise((9, 8), "uint8")
    (tmp_path / "a.png").write_bytes(interlaced_png(data))
    np.testing.assert_array_equal(images.read(tmp_path / "a.png").frames[0], data)
    assert not caplog.records


def test_sparse_file_is_an_error(tmp_path):
    tiles = iter([b"\x81\0\x81\0", b""] * 8)
    tifffile.imwrite(
        tmp_path / "a.tif",
        tiles,
        shape=(64, 64),
        dtype="uint8",
        tile=(16, 16),
        compression="packbits",
    )
    fails("missing", images.read, tmp_path / "a.tif")


def test_several_series(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as tif:
        tif.write(noise((9, 8)))
        tif.write(noise((3, 7, 6)), photometric="minisblack")
        tif.write(noise((5, 4)))
    with pytest.warns(UserWarning, match="2 of 3 image series were left out"):
        frames, _ = images.read(tmp_path / "a.tif")
    assert frames.shape == (1, 9, 8)
    # The warning names the caller. In a process of its own: checked signatures add to the stack.
    code = "import sys, warnings; from jaxdenoise.io import images; warnings.simplefilter('ignore')"
    code += "; warnings.filterwarnings('error', module='__main__'); images.read(sys.argv[1])"
    words = [sys.executable, "-c", code, str(tmp_path / "a.tif")]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert "UserWarning: " in done.stderr


def test_pixel_size_units():
    def size(tag, number=1, **metadata):
        resolution = (Fraction(number), Fraction(number))
        return ImageInfo(
            "YX", (2, 2), np.dtype("u1"), "plain", resolution, tag, metadata
        ).pixel_size_um

    assert size(1) is None
    assert size(2, 72) is None
    assert size(2, 254) == (100.0, 100.0)
    assert size(3, 100) == (100.0, 100.0)
    assert size(3, 2, unit="\u03bcm") == (0.5, 0.5)
    assert size(1, 1, unit="mm") == (1000.0, 1000.0)
    assert size(3, 1, unit="pixel") is None
    assert size(1, PhysicalSizeX="1", PhysicalSizeY="x") is None
    info = ImageInfo("YX", (2, 2), np.dtype("u1"), metadata={"finterval": "nan", "spacing": 1.0})
    assert info.frame_interval is None
    assert info.z_spacing is None


def test_open_many(tmp_path):
    for name, shape in (("a", (2, 9, 8)), ("b", (9, 8)), ("c", (8, 9))):
        tifffile.imwrite(tmp_path / f"{name}.tif", noise(shape), photometric="minisblack")
    files = images.open_many([tmp_path / f"{name}.tif" for name in "abc"])
    assert [file.frames.shape for file in files] == [(2, 9, 8), (1, 9, 8), (1, 8, 9)]
    fails("no input", images.open_many, [])


def test_output_paths(tmp_path):
    inputs = [tmp_path / "a.b.tif", tmp_path / "c.OME.TIF", tmp_path / "d.png"]
    out = tmp_path / "out"
    expected = [out / "a.b_denoised.tif", out / "c_denoised.ome.tif", out / "d_denoised.tif"]
    assert images.output_paths(inputs, out, "denoised") == expected
    assert not out.exists()
    fails("a.tif and .*a.png", images.output_paths, ["x/a.tif", "x/a.png"], out, "denoised")
    out.mkdir()
    expected[1].write_text("x")
    fails("c_denoised.ome.tif.*overwrite=True", images.output_paths, inputs, out, "denoised")
    assert images.output_paths(inputs, out, "denoised", overwrite=True) == expected
    inputs = [tmp_path / "a.tif", tmp_path / "a_denoised.tif"]
    fails("itself an input", images.output_paths, inputs, tmp_path, "denoised", overwrite=True)
    fails("is a file", images.output_paths, inputs, expected[1], "denoised")
    fails(
        "c_denoised.ome.tif.*is a file",
        images.output_paths,
        inputs,
        expected[1] / "new" / "er",
        "denoised",
    )
    (tmp_path / "link").symlink_to("nowhere")
    fails("broken link", images.output_paths, inputs, tmp_path / "link", "denoised")
    fails(
        "cannot be written.*too long",
        images.output_paths,
        inputs,
        tmp_path / ("x" * 300) / "new",
        "denoised",
    )


def test_the_module_does_not_import_jax():
    code = "import jaxdenoise.io.images, sys; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.skipif(not REAL, reason="the real images are not here")
@pytest.mark.parametrize("path", REAL, ids=lambda path: path.name)
def test_real_files(tmp_path, path):
    before = images.read(path)
    images.write(tmp_path / "a.tif", *before)
    same(before, images.read(tmp_path / "a.tif"))
    with tifffile.TiffFile(path) as one, tifffile.TiffFile(tmp_path / "a.tif") as two:
        assert one.is_imagej == two.is_imagej
        assert (one.series[0].axes, one.series[0].shape) == (
            two.series[0].axes,
            two.series[0].shape,
        )
        for key, value in (one.imagej_metadata or {}).items():
            assert two.imagej_metadata[key] == value
        np.testing.assert_array_equal(one.asarray(), two.asarray())
    if path.parent.name == "volume":
        assert before.info.axes == "TZYX"
        assert before.info.pixel_size_um == (pytest.approx(0.202), pytest.approx(0.202))
        assert before.info.z_spacing == 1.0


def test_a_disk_that_is_too_small(tmp_path, monkeypatch):
    images.check_space(tmp_path / "not" / "yet", 1)
    fails(
        "take 1e[+]09 GB, the disk has .* GB left",
        images.check_space,
        tmp_path / "not" / "yet",
        10**18,
    )


def test_a_directory_that_is_not_ours(tmp_path, monkeypatch):
    monkeypatch.setattr("os.access", lambda path, mode: path != tmp_path)
    fails(
        "nothing may be written there",
        images.output_paths,
        ["a.tif"],
        tmp_path / "out" / "deep",
        "denoised",
    )
    monkeypatch.setattr("os.access", lambda path, mode: True)
    assert images.output_paths(["a.tif"], tmp_path / "out", "denoised") == [
        tmp_path / "out" / "a_denoised.tif"
    ]


def test_ome_metadata_are_valid(tmp_path):
    ome_types = pytest.importorskip("ome_types")
    names = ["DAPI", "GFP \u03bc"]
    metadata = {
        "axes": "TCZYX",
        "Channel": {"Name": names},
        "PhysicalSizeX": 0.2,
        "PhysicalSizeY": 0.3,
        "PhysicalSizeZ": 1.5,
    }
    metadata |= {
        "PhysicalSizeXUnit": "\u00b5m",
        "PhysicalSizeYUnit": "\u00b5m",
        "PhysicalSizeZUnit": "\u00b5m",
        "TimeIncrement": 2.5,
    }
    stack = noise((3, 2, 4, 9, 8))
    tifffile.imwrite(
        tmp_path / "a.ome.tif", stack, ome=True, metadata=metadata, photometric="minisblack"
    )
    image = images.read(tmp_path / "a.ome.tif")
    images.write(tmp_path / "b.ome.tif", image.frames, image.info)
    pixels = ome_types.from_tiff(tmp_path / "b.ome.tif", validate=True).images[0].pixels
    assert [channel.name for channel in pixels.channels] == names
    assert (pixels.physical_size_x, pixels.physical_size_y, pixels.physical_size_z) == (
        0.2,
        0.3,
        1.5,
    )
    assert (
        pixels.size_t,
        pixels.size_c,
        pixels.size_z,
        pixels.size_y,
        pixels.size_x,
    ) == stack.shape
    assert pixels.time_increment == 2.5


def test_saturation_is_counted(tmp_path):
    info = ImageInfo("YX", (4, 4), np.dtype(np.uint8))
    with pytest.warns(UserWarning, match="16 of 16 pixels"):
        images.write(tmp_path / "x.tif", np.full((1, 4, 4), 300.0), info)


def test_metadata_that_are_no_json_are_left_out(tmp_path):
    info = ImageInfo("YX", (2, 2), np.dtype("u1"), metadata={"a": {1}, "b": 2})
    images.write(tmp_path / "a.tif", np.zeros((1, 2, 2)), info)
    assert images.read(tmp_path / "a.tif").info.metadata == {"b": 2}
