"""OME-Zarr: what is written is valid, what others write is read, bad files end in one line."""

import copy
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import tifffile
from grids import covering, fewer

from jaxdenoise.io import images, ngff, omezarr
from jaxdenoise.io.images import ImageError
from jaxdenoise.io.info import ImageInfo

zarr = pytest.importorskip("zarr")
import numcodecs  # noqa: E402
from zarr import codecs  # noqa: E402

RNG = np.random.default_rng(0)
DTYPES = [
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "int8",
    "int16",
    "int32",
    "int64",
    "float16",
    "float32",
    "float64",
]
SHAPES = {"YX": (9, 8), "ZYX": (3, 9, 8), "CYX": (2, 9, 8), "TCZYX": (2, 3, 4, 9, 8)}
SIZES = {
    "PhysicalSizeX": 0.2,
    "PhysicalSizeXUnit": "\u00b5m",
    "PhysicalSizeY": 250.0,
    "PhysicalSizeYUnit": "nm",
}
SIZES |= {
    "PhysicalSizeZ": 0.5,
    "PhysicalSizeZUnit": "\u00b5m",
    "TimeIncrement": 500.0,
    "TimeIncrementUnit": "ms",
    "Name": "cells \u00b5",
}
WINDOW = {"min": 0.0, "max": 4095.0, "start": 90.0, "end": 1200.0}


def noise(shape, dtype="uint16"):
    return RNG.integers(0, 120, shape).astype(dtype)


def described(axes, shape, dtype="uint16", kind="ome", **metadata):
    return ImageInfo(axes, shape, np.dtype(dtype), kind, metadata=metadata)


def fails(match, call, *args, **kwargs):
    """The call raises an ImageError of one line that matches."""
    with pytest.raises(ImageError, match=match) as caught:
        call(*args, **kwargs)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000
    return str(caught.value)


def save(path, info, data, **options):
    with omezarr.create(path, info, data.shape, data.dtype, **options) as pixels:
        pixels[()] = data


def load(path, **options):
    pixels, info = omezarr.open_image(path, **options)
    return pixels[()], info


def attributes_of(path, zarr_format):
    attributes = dict(zarr.open_group(path, mode="r", zarr_format=zarr_format).attrs)
    return attributes["ome"] if zarr_format == 3 else attributes


def check_valid(path, zarr_format):
    """The rules of the NGFF specification, 0.4 or 0.5, for an image."""
    ome = attributes_of(path, zarr_format)
    multiscale = ome["multiscales"][0]
    if zarr_format == 2:
        assert sorted(p.name for p in path.iterdir()) == [".zattrs", ".zgroup", "0"]
        assert multiscale["version"] == "0.4"
    else:
        assert sorted(p.name for p in path.iterdir()) == ["0", "zarr.json"]
        assert ome["version"] == "0.5"
    assert isinstance(multiscale["name"], str)
    array = zarr.open_array(path / "0", mode="r", zarr_format=zarr_format)
    names, types = (
        [axis["name"] for axis in multiscale["axes"]],
        [axis.get("type") for axis in multiscale["axes"]],
    )
    assert 2 <= array.ndim == len(names) == len(set(names)) <= 5
    assert types.count("space") in (2, 3)
    assert types.count("time") <= 1
    assert len(types) - types.count("space") - types.count("time") <= 1
    ranks = [{"time": 0, "space": 2}.get(kind, 1) for kind in types]
    assert ranks == sorted(ranks)
    assert [name for name, kind in zip(names, types, strict=True) if kind == "space"] == list(
        "zyx"
    )[-types.count("space") :]
    for axis in multiscale["axes"]:
        assert axis.get("unit") in (
            None,
            "nanometer",
            "micrometer",
            "millimeter",
            "second",
            "millisecond",
        )
    for dataset in multiscale["datasets"]:
        (transformation,) = dataset["coordinateTransformations"]
        assert transformation["type"] == "scale"
        assert len(transformation["scale"]) == array.ndim
        assert all(isinstance(step, float) and step > 0 for step in transformation["scale"])
    if zarr_format == 3:
        assert list(array.metadata.dimension_names) == names
    else:
        stored = json.loads((path / "0" / ".zarray").read_text())
        assert stored["dimension_separator"] == "/"
        assert stored["fill_value"] == 0
    assert all(chunk == 1 for chunk in array.chunks[:-2])
    assert all(chunk <= 512 for chunk in array.chunks[-2:])
    channels = ome.get("omero", {"channels": []})["channels"]
    assert len(channels) in (0, array.shape[names.index("c")] if "c" in names else 1)
    for channel in channels:
        assert len(channel["color"]) == 6
        assert int(channel["color"], 16) >= 0
        assert all(
            isinstance(channel["window"][key], float) for key in ("min", "max", "start", "end")
        )
    return array, multiscale, channels


@covering(dtype=DTYPES, axes=list(SHAPES), zarr_format=[3, 2])
def test_round_trip(tmp_path, zarr_format, axes, dtype):
    data, path = noise(SHAPES[axes], dtype), tmp_path / "a.ome.zarr"
    save(path, described(axes, data.shape, dtype, **SIZES), data, zarr_format=zarr_format)
    back, info = load(path)
    assert (info.kind, info.axes, info.shape, info.dtype) == (
        "omezarr",
        axes,
        data.shape,
        np.dtype(dtype),
    )
    assert back.dtype == np.dtype(dtype)
    assert back.dtype.isnative
    np.testing.assert_array_equal(back, data)
    assert info.pixel_size_um == (0.25, 0.2)
    assert info.z_spacing == (0.5 if "Z" in axes else None)
    assert info.frame_interval == (0.5 if "T" in axes else None)
    lost = [
        key
        for key in SIZES
        if ("Z" not in axes and "SizeZ" in key) or ("T" not in axes and "Time" in key)
    ]
    assert info.metadata == {key: value for key, value in SIZES.items() if key not in lost} | {
        "zarr_format": zarr_format
    }
    array, multiscale, _ = check_valid(path, zarr_format)
    np.testing.assert_array_equal(array[...], data)
    assert multiscale["name"] == "cells \u00b5"
    units = {"T": "millisecond", "C": None, "Z": "micrometer", "Y": "nanometer", "X": "micrometer"}
    steps = {"T": 500.0, "C": 1.0, "Z": 0.5, "Y": 250.0, "X": 0.2}
    assert [axis.get("unit") for axis in multiscale["axes"]] == [units[axis] for axis in axes]
    assert multiscale["datasets"][0]["coordinateTransformations"] == [
        {"type": "scale", "scale": [steps[axis] for axis in axes]}
    ]


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_other_readers_agree(tmp_path, zarr_format):
    reader, location = pytest.importorskip("ome_zarr.reader"), pytest.importorskip("ome_zarr.io")
    channels = [{"Name": "DAPI", "Color": 65535}, {"Name": "GFP", "Window": WINDOW}]
    data = noise((2, 2, 9, 8))
    save(
        tmp_path / "a.zarr",
        described("TCYX", data.shape, Channel=channels, **SIZES),
        data,
        zarr_format=zarr_format,
    )
    (node,) = reader.Reader(location.parse_url(str(tmp_path / "a.zarr")))()
    np.testing.assert_array_equal(np.asarray(node.data[0]), data)
    assert [axis["name"] for axis in node.metadata["axes"]] == list("tcyx")
    assert node.metadata["coordinateTransformations"] == [
        [{"type": "scale", "scale": [500.0, 1.0, 250.0, 0.2]}]
    ]
    assert node.metadata["channel_names"] == ["DAPI", "GFP"]
    assert node.metadata["contrast_limits"][1] == [90.0, 1200.0]


@pytest.mark.parametrize(
    ("axes", "stored"),
    [
        ("XYZ", "ZYX"),
        ("ZTYX", "TZYX"),
        ("ZCYX", "CZYX"),
        ("YXC", "CYX"),
        ("YXS", "CYX"),
        ("QYX", "QYX"),
        ("ZQTYX", "TQZYX"),
    ],
)
def test_orders_that_the_format_forbids_are_turned(tmp_path, axes, stored):
    data = noise(range(3, 3 + len(axes)))
    save(tmp_path / "a.zarr", described(axes, data.shape, **SIZES), data)
    check_valid(tmp_path / "a.zarr", 2)
    back, info = load(tmp_path / "a.zarr")
    assert info.axes == stored
    np.testing.assert_array_equal(
        back, data.transpose([axes.replace("S", "C").index(axis) for axis in stored])
    )
    fails(
        "no room for the axes CSYX",
        save,
        tmp_path / "b.zarr",
        described("CSYX", (1, 1, 1, 1)),
        noise((1, 1, 1, 1)),
    )


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_regions(tmp_path, zarr_format):
    """Written in pieces and read in pieces, as NumPy would; chunks are 512 pixels wide."""
    data, path = noise((3, 700, 1100)), tmp_path / "a.zarr"
    with omezarr.create(
        path, described("TYX", data.shape), data.shape, data.dtype, zarr_format=zarr_format
    ) as pixels:
        assert (pixels.shape, pixels.dtype) == (data.shape, data.dtype)
        assert not path.exists()
        for frame in range(3):
            for start in range(0, 700, 300):
                pixels[frame : frame + 1, start : start + 300] = data[
                    frame : frame + 1, start : start + 300
                ]
    array, _, _ = check_valid(path, zarr_format)
    assert array.chunks == (1, 512, 512)
    np.testing.assert_array_equal(array[...], data)
    pixels, _ = omezarr.open_image(path)
    for key in [
        (),
        slice(1, 2),
        np.s_[:, 3:9, -7:],
        np.s_[-1:, 600:9999, :0],
        np.s_[2:1],
        np.s_[0:3, 500:530, 500:530],
    ]:
        np.testing.assert_array_equal(pixels[key], data[key])


def test_formats_stay(tmp_path):
    data = noise((9, 8))
    save(tmp_path / "a.zarr", described("YX", data.shape), data)
    assert (tmp_path / "a.zarr" / ".zattrs").exists()
    for zarr_format in (2, 3):
        save(
            tmp_path / "a.zarr",
            described("YX", data.shape),
            data,
            zarr_format=zarr_format,
            overwrite=True,
        )
        save(tmp_path / "b.zarr", load(tmp_path / "a.zarr")[1], data, overwrite=True)
        assert load(tmp_path / "b.zarr")[1].metadata["zarr_format"] == zarr_format
        assert load(tmp_path / "b.zarr")[1].metadata["Name"] == "a"


def test_channels_are_kept(tmp_path):
    data = noise((2, 3, 9, 8), "float32")
    data[0, 1] *= -1
    data[1, 1, 0] = np.nan, np.inf, -np.inf, 0, 1, 2, 3, 4
    channels = [
        {"Name": "DAPI", "Color": 65535, "Window": WINDOW},
        {"Name": "GFP \u00b5"},
        {"Color": "-16776961"},
    ]
    save(tmp_path / "a.zarr", described("TCYX", data.shape, "float32", Channel=channels), data)
    _, _, stored = check_valid(tmp_path / "a.zarr", 2)
    assert [channel.get("label") for channel in stored] == ["DAPI", "GFP \u00b5", None]
    assert [channel["color"] for channel in stored] == ["0000FF", "FFFFFF", "FF0000"]
    assert stored[0]["window"] == WINDOW
    low, high = data[:, 1][np.isfinite(data[:, 1])].min(), data[:, 1][np.isfinite(data[:, 1])].max()
    assert stored[1]["window"] == {"min": low, "max": high, "start": low, "end": high}
    _, info = load(tmp_path / "a.zarr")
    assert info.metadata["Channel"][0] == channels[0]
    assert [channel["Color"] for channel in info.metadata["Channel"]] == [65535, -1, -16776961]
    save(tmp_path / "b.zarr", info, data.astype("float64"))
    assert (
        attributes_of(tmp_path / "b.zarr", 2)["omero"]
        == attributes_of(tmp_path / "a.zarr", 2)["omero"]
    )
    save(tmp_path / "c.zarr", info, data[:, :2])  # not the channels that the names are of
    assert "omero" not in attributes_of(tmp_path / "c.zarr", 2)


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_ome_tiff_to_omezarr_and_back(tmp_path, zarr_format):
    data = noise((2, 3, 4, 9, 8))
    channels = {"Name": ["DAPI", "GFP \u00b5", "Cy5"], "Color": [65535, 16711935, -16776961]}
    metadata = SIZES | {"axes": "TCZYX", "Channel": channels}
    tifffile.imwrite(tmp_path / "a.ome.tif", data, photometric="minisblack", metadata=metadata)
    frames, before = images.read(tmp_path / "a.ome.tif")
    save(tmp_path / "b.zarr", before, data, zarr_format=zarr_format)
    stored, between = load(tmp_path / "b.zarr")
    check_valid(tmp_path / "b.zarr", zarr_format)
    images.write(tmp_path / "c.ome.tif", stored.reshape(frames.shape), between)
    again, after = images.read(tmp_path / "c.ome.tif")
    np.testing.assert_array_equal(again, frames)
    assert after == before
    for name in ("pixel_size_um", "z_spacing", "frame_interval"):
        assert getattr(after, name) == getattr(between, name) == getattr(before, name)
        assert getattr(after, name)
    assert after.metadata == before.metadata
    images.write(tmp_path / "d.tif", frames, between, dtype="float16")  # not an OME type
    plain = images.read(tmp_path / "d.tif").info
    assert plain.kind == "plain"
    assert plain.pixel_size_um == before.pixel_size_um
    assert "zarr_format" not in plain.metadata


def test_imagej_calibration_is_kept(tmp_path):
    metadata = {"axes": "TZYX", "unit": "um", "spacing": -0.5, "finterval": 2.5}
    data = noise((2, 3, 9, 8))
    tifffile.imwrite(
        tmp_path / "a.tif", data, imagej=True, resolution=(5.0, 4.0), metadata=metadata
    )
    info = images.read(tmp_path / "a.tif").info
    save(tmp_path / "b.zarr", info, data)
    check_valid(tmp_path / "b.zarr", 2)
    after = load(tmp_path / "b.zarr")[1]
    assert (after.pixel_size_um, after.z_spacing, after.frame_interval) == ((0.25, 0.2), 0.5, 2.5)
    plain = ImageInfo(
        "YX",
        (9, 8),
        np.dtype("uint16"),
        metadata={"zarr_format": "x", "Channel": {"Name": 1}, "Name": 3},
    )
    save(tmp_path / "c.zarr", plain, data[0, 0])
    check_valid(tmp_path / "c.zarr", 2)
    assert load(tmp_path / "c.zarr")[1].pixel_size_um is None


def write_group(path, attributes, zarr_format=2):
    attributes = {"ome": attributes} if zarr_format == 3 else attributes
    return zarr.create_group(path, zarr_format=zarr_format, attributes=attributes, overwrite=True)


def multiscales(axes="yx", *, scale=None, units=None, version="0.4", path="0", **more):
    kinds = {"t": "time", "c": "channel"}
    entries = [{"name": axis, "type": kinds.get(axis, "space")} for axis in axes]
    for entry, unit in zip(entries, units or [None] * len(axes), strict=True):
        entry |= {"unit": unit} if unit else {}
    dataset = {
        "path": path,
        "coordinateTransformations": [{"type": "scale", "scale": scale or [1.0] * len(axes)}],
    }
    return {"multiscales": [{"version": version, "axes": entries, "datasets": [dataset], **more}]}


V2 = [
    {},
    {"order": "F"},
    {"chunks": (2, 5, 3)},
    {"chunks": (2, 5, 3), "order": "F"},
    {"chunk_key_encoding": {"name": "v2", "separator": "/"}},
    {"chunk_key_encoding": {"name": "v2", "separator": "."}},
    {"compressors": None},
    {"fill_value": 7},
    {"fill_value": None},
]
V2_CODECS = [
    ("GZip", 5),
    ("Zlib", 5),
    ("BZ2", 5),
    ("Zstd", 3),
    ("Blosc", "lz4", 5, 2),
    ("Blosc", "zstd", 5, 1),
    ("Blosc", "zlib", 5, 0),
]


@covering(options=V2, dtype=["|u1", "<u2", ">u2", ">i4", "<f4", ">f8", ">f2"])
def test_zarr_v2_of_others(tmp_path, dtype, options):
    data = noise((3, 9, 8), dtype)
    group = write_group(tmp_path / "a.zarr", multiscales("zyx"))
    options = {"chunks": (1, 4, 4), "order": "C", "fill_value": 0} | options
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        group.create_array("0", shape=data.shape, dtype=dtype, **options)[...] = data
    back, info = load(tmp_path / "a.zarr")
    np.testing.assert_array_equal(back, data)
    assert back.dtype == info.dtype == np.dtype(dtype).newbyteorder("=")
    assert back.dtype.isnative
    assert info.axes == "ZYX"


@pytest.mark.parametrize("codec", V2_CODECS, ids=str)
def test_zarr_v2_compressors_of_others(tmp_path, codec):
    data, group = noise((3, 90, 80)), write_group(tmp_path / "a.zarr", multiscales("zyx"))
    compressor = getattr(numcodecs, codec[0])(*codec[1:])
    group.create_array(
        "0", shape=data.shape, dtype=data.dtype, chunks=(2, 50, 30), compressors=compressor
    )[...] = data
    np.testing.assert_array_equal(load(tmp_path / "a.zarr")[0], data)


V3 = [
    {},
    {"compressors": None},
    {"compressors": [codecs.GzipCodec()]},
    {"compressors": [codecs.ZstdCodec(checksum=True)]},
    {"compressors": [codecs.BloscCodec(cname="lz4", shuffle="bitshuffle")]},
    {"compressors": [codecs.BloscCodec(cname="zstd", shuffle="shuffle"), codecs.Crc32cCodec()]},
    {"serializer": codecs.BytesCodec(endian="big")},
    {"filters": [codecs.TransposeCodec(order=(2, 0, 1))]},
    {"shards": (2, 8, 8)},
    {"chunk_key_encoding": {"name": "default", "separator": "."}},
    {"chunk_key_encoding": {"name": "v2", "separator": "/"}},
    {"chunks": (2, 5, 3)},
    {"fill_value": 7},
]


@covering(options=V3, dtype=["uint8", "uint16", "float32"])
def test_zarr_v3_of_others(tmp_path, dtype, options):
    data = noise((3, 9, 8), dtype)
    group = write_group(tmp_path / "a.zarr", {"version": "0.5"} | multiscales("zyx"), 3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        group.create_array("0", shape=data.shape, dtype=dtype, **({"chunks": (1, 4, 4)} | options))[
            ...
        ] = data
    back, info = load(tmp_path / "a.zarr")
    np.testing.assert_array_equal(back, data)
    assert (info.axes, info.metadata["zarr_format"]) == ("ZYX", 3)


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_missing_chunks_hold_the_fill_value(tmp_path, zarr_format):
    group = write_group(tmp_path / "a.zarr", multiscales(), zarr_format)
    group.create_array("0", shape=(9, 8), dtype="float32", chunks=(4, 4), fill_value=np.nan)[
        :4, :4
    ] = 1
    back, _ = load(tmp_path / "a.zarr")
    assert (back[:4, :4] == 1).all()
    assert np.isnan(back[4:]).all()


def test_units_and_transformations(tmp_path):
    def info(units, scale, **more):
        group = write_group(
            tmp_path / "a.zarr", multiscales("tzyx", units=units, scale=scale, **more)
        )
        group.create_array("0", shape=(1, 1, 2, 2), dtype="uint8")
        return load(tmp_path / "a.zarr")[1]

    found = info(["minute", "nanometer", "micrometer", "millimeter"], [2, 500, 0.25, 0.0002])
    assert (found.frame_interval, found.z_spacing, found.pixel_size_um) == (
        120,
        0.5,
        (0.25, pytest.approx(0.2)),
    )
    assert found.metadata["PhysicalSizeXUnit"] == "mm"
    found = info(["s", "angstrom", "um", "\u00b5m"], [2, 500, 0.25, 0.2])
    assert (found.frame_interval, found.z_spacing, found.pixel_size_um) == (
        2,
        pytest.approx(0.05),
        (0.25, 0.2),
    )
    assert found.metadata["PhysicalSizeYUnit"] == "\u00b5m"
    whole = [
        {"type": "translation", "translation": [1, 1, 1, 1]},
        {"type": "scale", "scale": [0.5, 1.0, 2, 2]},
    ]
    found = info(
        ["second", *["micrometer"] * 3], [2, 3, 0.5, 0.25], coordinateTransformations=whole
    )
    assert (found.frame_interval, found.z_spacing, found.pixel_size_um) == (1, 3, (1, 0.5))
    # Without a unit a step is no size, but it is kept
    found = info([None, None, "parsec", None], [3, 2, 0.5, 1])
    assert (found.frame_interval, found.z_spacing, found.pixel_size_um) == (None, None, None)
    save(tmp_path / "b.zarr", found, noise((1, 1, 2, 2)), overwrite=True)
    _, multiscale, _ = check_valid(tmp_path / "b.zarr", 2)
    assert not any("unit" in axis for axis in multiscale["axes"])
    assert multiscale["datasets"][0]["coordinateTransformations"][0]["scale"] == [1, 2, 0.5, 1]
    images.write(tmp_path / "b.tif", noise((1, 2, 2)), found)
    assert images.read(tmp_path / "b.tif").info.pixel_size_um is None
    found = info(["second", *["micrometer"] * 3], [0, -1, 1e999, 0.5])  # senseless sizes
    assert (found.frame_interval, found.z_spacing, found.pixel_size_um) == (None, None, None)


def test_older_versions(tmp_path):
    def write(axes, shape):
        group = write_group(
            tmp_path / "a.zarr",
            {"multiscales": [axes | {"version": "0.3", "datasets": [{"path": "0"}]}]},
        )
        group.create_array("0", shape=shape, dtype="uint8")
        return tmp_path / "a.zarr"

    assert load(write({}, (1, 2, 3, 4, 5)))[1].axes == "TCZYX"  # 0.1 and 0.2
    assert load(write({"axes": ["t", "y", "x"]}, (2, 3, 4)))[1].axes == "TYX"  # 0.3
    fails("no axes for the shape.*axes=.ZYX", load, write({}, (3, 4, 5)))
    assert load(write({}, (3, 4, 5)), axes="tyx")[1].axes == "TYX"


def test_axes_are_overruled(tmp_path):
    channels = {"omero": {"channels": [{"label": "a"}, {"label": "b"}]}}
    group = write_group(
        tmp_path / "a.zarr",
        multiscales("cyx", scale=[1, 2, 3], units=[None, *["micrometer"] * 2]) | channels,
    )
    group.create_array("0", shape=(2, 9, 8), dtype="uint8")
    info = load(tmp_path / "a.zarr", axes="tyx")[1]
    assert (info.axes, info.pixel_size_um) == ("TYX", (2, 3))
    images.write(tmp_path / "a.tif", noise((2, 9, 8)), info)
    assert images.read(tmp_path / "a.tif").info.axes == "TYX"
    for axes in ("YX", "TZYX", "TTX", "ZTC", "Z X", ""):
        if axes:
            fails("expected one letter an axis.*axes=", load, tmp_path / "a.zarr", axes=axes)


def test_bare_arrays(tmp_path):
    data = noise((3, 9, 8))
    for zarr_format in (2, 3):
        zarr.create_array(tmp_path / "a", data=data[0], zarr_format=zarr_format, overwrite=True)
        assert omezarr.is_omezarr(tmp_path / "a")
        assert load(tmp_path / "a")[1].axes == "YX"
        zarr.create_array(tmp_path / "b", data=data, zarr_format=zarr_format, overwrite=True)
        fails("no axes.*axes=", load, tmp_path / "b")
        back, info = load(tmp_path / "b", axes="ZYX")
        assert info.axes == "ZYX"
        np.testing.assert_array_equal(back, data)
    zarr.create_array(tmp_path / "c", data=data, dimension_names=["time", "y", "x"])
    assert load(tmp_path / "c")[1].axes == "TYX"
    zarr.create_array(tmp_path / "d", data=data[0, 0])
    fails("axes", load, tmp_path / "d")


def test_a_level_may_be_anywhere_inside(tmp_path):
    group = write_group(tmp_path / "a.zarr", multiscales(path="levels/full"))
    group.create_array("levels/full", data=noise((9, 8)))
    assert load(tmp_path / "a.zarr")[1].shape == (9, 8)


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_several_images(tmp_path, zarr_format):
    def image(path, size):
        write_group(path, multiscales(), zarr_format).create_array(
            "0", shape=(size, size), dtype="uint8"
        )

    write_group(tmp_path / "a.zarr", {"bioformats2raw.layout": 3}, zarr_format)
    for series in range(11):
        image(tmp_path / "a.zarr" / str(series), 5 + series)
    with pytest.warns(
        UserWarning, match=r"10 of 11 images were left out, only the first is read: 0 YX \(5, 5\)"
    ):
        assert load(tmp_path / "a.zarr")[1].shape == (5, 5)
    write_group(tmp_path / "a.zarr" / "OME", {"series": ["3"]}, zarr_format)
    assert load(tmp_path / "a.zarr")[1].shape == (8, 8)

    wells = {"plate": {"wells": [{"path": "B/2"}, {"path": "B/3"}]}, "bioformats2raw.layout": 3}
    write_group(tmp_path / "p.zarr", wells, zarr_format)
    write_group(
        tmp_path / "p.zarr/B/2", {"well": {"images": [{"path": "1"}, {"path": "2"}]}}, zarr_format
    )
    image(tmp_path / "p.zarr/B/2/1", 7)
    assert str(Path("p.zarr", "B", "2", "1")) in fails(
        "is a plate of 2 wells", load, tmp_path / "p.zarr"
    )
    with pytest.warns(UserWarning, match="1 of 2 images were left out"):
        assert load(tmp_path / "p.zarr/B/2")[1].shape == (7, 7)
    assert load(tmp_path / "p.zarr/B/2/1")[1].shape == (7, 7)
    fails("no OME-Zarr image", load, tmp_path / "p.zarr/B")


def test_is_omezarr(tmp_path):
    assert omezarr.is_omezarr("missing.ZARR")
    assert omezarr.is_omezarr(f"{tmp_path}/a.zarr/")
    assert not omezarr.is_omezarr(tmp_path)
    assert not omezarr.is_omezarr("a.zarr.tif")
    for mark in ngff.MARKS:
        (tmp_path / mark).write_text("{}")
        assert omezarr.is_omezarr(tmp_path)
        (tmp_path / mark).unlink()


def stores(folder):
    """Small stores of both formats, with all metadata, and chunks with and without checksums."""
    for zarr_format in (2, 3):
        for codec in ("default", "plain", "zstd", "gzip"):
            path = folder / f"{codec}{zarr_format}.zarr"
            channels = [{"Name": "a", "Color": 255, "Window": WINDOW}, {"Name": "b"}]
            info = described("TCYX", (1, 2, 40, 37), Channel=channels, **SIZES)
            data = noise((1, 2, 40, 37))
            save(path, info, data, zarr_format=zarr_format)
            if codec != "default":
                shutil.rmtree(path / "0")
                names = {} if zarr_format == 2 else {"dimension_names": list("tcyx")}
                v2, v3 = {"id": codec, "level": 3}, {"name": codec, "configuration": {"level": 3}}
                v3["configuration"] |= {"checksum": True} if codec == "zstd" else {}
                compressors = None if codec == "plain" else v2 if zarr_format == 2 else [v3]
                options = {
                    "chunks": (1, 1, 20, 20),
                    "compressors": compressors,
                    "zarr_format": zarr_format,
                }
                zarr.create_array(
                    path / "0", shape=data.shape, dtype=data.dtype, **options, **names
                )[...] = data
            yield path, data


def test_damaged_chunks_are_errors(tmp_path):
    for path, data in stores(tmp_path):
        files = [
            file
            for file in (path / "0").rglob("*")
            if file.is_file() and file.name not in ngff.MARKS
        ]
        file = sorted(files)[0]
        content = file.read_bytes()
        for length in (0, 1, 7, len(content) // 2, len(content) - 1):
            file.write_bytes(content[:length])
            result, _ = attempt(path)
            if isinstance(result, str):
                assert path.name in result
                assert "cannot be read" in result
            else:  # gzip's checksum was cut off, behind the pixels
                assert path.name == "gzip2.zarr"
                np.testing.assert_array_equal(result, data)
        if path.name.startswith("gzip") or path.name == "zstd3.zarr":  # these have checksums
            for place in range(20, len(content), 97):
                file.write_bytes(
                    content[:place] + bytes([content[place] ^ 0x10]) + content[place + 1 :]
                )
                fails("cannot be read", omezarr.open_image(path)[0].__getitem__, ())
        file.write_bytes(content)
        np.testing.assert_array_equal(load(path)[0], data)
        file.unlink()
        assert (load(path)[0] == 0).sum() > (data == 0).sum()  # legal


def edit(path, change):
    """Change the JSON in a file."""
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


BAD = {
    "missing folder": (shutil.rmtree, "no such folder"),
    "a file": (lambda p: [shutil.rmtree(p), p.write_text("x")], "is a file"),
    "empty folder": (lambda p: [shutil.rmtree(p), p.mkdir()], "no OME-Zarr image"),
    "no attributes": (lambda p: (p / ".zattrs").unlink(), "no OME-Zarr image"),
    "no JSON": (lambda p: (p / ".zattrs").write_text('{"multi'), "zattrs: is no JSON"),
    "no text": (lambda p: (p / ".zattrs").write_bytes(b"\xff\xfe\x00"), "zattrs: is no JSON"),
    "deep JSON": (lambda p: (p / ".zattrs").write_text("[" * 100000), "zattrs: is no JSON"),
    "a list": (lambda p: (p / ".zattrs").write_text("[]"), "zattrs: is a JSON list"),
    "null": (lambda p: (p / ".zattrs").write_text("null"), "zattrs: is a JSON NoneType"),
    "no level": (lambda p: shutil.rmtree(p / "0"), "0: holds no Zarr array"),
    "no .zarray": (lambda p: (p / "0" / ".zarray").unlink(), "0: holds no Zarr array"),
    "empty .zarray": (lambda p: (p / "0" / ".zarray").write_text(""), "cannot be read"),
    "codec": (
        lambda p: edit(p / "0/.zarray", lambda c: c.update(compressor={"id": "magic"})),
        "magic",
    ),
    "filter": (
        lambda p: edit(p / "0/.zarray", lambda c: c.update(filters=[{"id": "delta"}])),
        "filters",
    ),
    "bool": (
        lambda p: edit(p / "0/.zarray", lambda c: c.update(dtype="|b1", fill_value=False)),
        "bool, expected integers",
    ),
    "complex": (
        lambda p: edit(p / "0/.zarray", lambda c: c.update(dtype="<c8", fill_value=[0, 0])),
        "complex64, expected integers",
    ),
    "no pixels": (lambda p: edit(p / "0/.zarray", lambda c: c.update(shape=[1, 2, 0, 8])), "empty"),
    "no images": (
        lambda p: edit(p / ".zattrs", lambda c: c.update(multiscales=[])),
        "cannot be understood.*NGFF",
    ),
    "no levels": (
        lambda p: edit(p / ".zattrs", lambda c: c["multiscales"][0].update(datasets=[])),
        "cannot be understood.*NGFF",
    ),
    "short axes": (
        lambda p: edit(p / ".zattrs", lambda c: c["multiscales"][0]["axes"].pop(0)),
        "axes CYX for the shape",
    ),
    "no axes": (
        lambda p: edit(p / ".zattrs", lambda c: c["multiscales"][0].update(axes=[])),
        "no axes for the shape",
    ),
    "axes": (
        lambda p: edit(p / ".zattrs", lambda c: c["multiscales"][0].update(axes="tcyy")),
        "axes TCYY",
    ),
}


def test_bad_images(tmp_path, capfd):
    data = noise((1, 2, 9, 8))
    for name, (change, match) in BAD.items():
        path = tmp_path / f"{name}.zarr"
        save(path, described("TCYX", data.shape), data)
        change(path)
        message = fails(match, load, path)
        assert path.name in message
    for name in ("\n", "a\0b", "x" * 300):
        fails("no such folder", load, tmp_path / name)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("scale", [[1, 2], None, "12", {"a": 1}, [1, "2"], [1, None], 3, []])
def test_bad_scales(tmp_path, scale):
    save(tmp_path / "a.zarr", described("YX", (9, 8)), noise((9, 8)))
    edit(
        tmp_path / "a.zarr/.zattrs",
        lambda content: content["multiscales"][0]["datasets"][0]["coordinateTransformations"][
            0
        ].update(scale=scale),
    )
    if scale == [1, 2]:
        load(tmp_path / "a.zarr")
    else:
        fails("scale.*expected 2 numbers", load, tmp_path / "a.zarr")


@pytest.mark.parametrize(
    "name",
    ["../b.zarr/0", "0/../../b.zarr/0", "..", "/etc", "..\\b.zarr\\0", "C:\\b", None, 3, ["0"]],
)
def test_paths_stay_inside(tmp_path, name):
    save(tmp_path / "b.zarr", described("YX", (9, 8)), noise((9, 8)))
    write_group(tmp_path / "a.zarr", multiscales(path=name))
    fails(
        "expected a path inside" if isinstance(name, str) else "cannot be understood",
        load,
        tmp_path / "a.zarr",
    )
    write_group(tmp_path / "a.zarr", {"bioformats2raw.layout": 3})
    write_group(tmp_path / "a.zarr/OME", {"series": [name]})
    fails(
        "expected a path inside" if isinstance(name, str) else "cannot be understood",
        load,
        tmp_path / "a.zarr",
    )
    absolute = str(tmp_path / "b.zarr" / "0")
    write_group(tmp_path / "c.zarr", multiscales(path=absolute))
    fails("expected a path inside", load, tmp_path / "c.zarr")


ODD = [
    None,
    True,
    -1,
    0,
    3,
    10**30,
    1e999,
    "",
    "x",
    "../..",
    "0",
    [],
    {},
    [[]],
    [None],
    {"a": []},
    "\u0000",
    [1, 2, 3, 4],
]


def mutate_json(content, rng):
    """Change, drop or repeat one thing in it, anywhere."""
    places = []

    def walk(node):
        for key in range(len(node)) if isinstance(node, list) else node:
            places.append((node, key))
            if isinstance(node[key], list | dict):
                walk(node[key])

    walk(content or content.setdefault("x", {"y": 1}))
    node, key = places[rng.integers(len(places))]
    action = rng.integers(4)
    if action == 0:
        del node[key]
    elif action == 1 and isinstance(node, list):
        node.append(copy.deepcopy(node[key]))
    else:
        node[key] = copy.deepcopy(ODD[rng.integers(len(ODD))])


def mutate_bytes(content, rng):
    content = bytearray(content)
    action = rng.integers(3)
    if action == 0 or not content:
        return bytes(content[: rng.integers(len(content) + 1)])
    for place in rng.integers(0, len(content), 1 + rng.integers(8)):
        content[place] = rng.integers(256)
    return bytes(content) + (b"\0" * int(rng.integers(99)) if action == 1 else b"")


def attempt(path):
    """A corner of the image, or the message that it cannot be read."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            pixels, info = omezarr.open_image(path)
            assert (pixels.shape, pixels.dtype) == (info.shape, info.dtype)
            assert len(info.axes) == len(info.shape)
            json.dumps(info.describe())
            corner = pixels[tuple(slice(0, 50) for _ in info.shape)]
            assert corner.shape == tuple(min(size, 50) for size in info.shape)
            return corner, info
        except ImageError as error:
            return str(error), None


@fewer("seeds", 6, 60)
def test_damaged_stores_never_escape_as_other_errors(tmp_path, capfd, seeds):
    errors, runs = 0, 0
    for path, _ in stores(tmp_path):
        files = sorted(file for file in path.rglob("*") if file.is_file())
        metadata = [file for file in files if file.name in ngff.MARKS]
        whole = {file: file.read_bytes() for file in files}
        for seed in range(seeds):
            rng = np.random.default_rng(seed)
            file = (metadata if seed % 3 else files)[
                rng.integers(len(metadata if seed % 3 else files))
            ]
            if seed % 3 == 1:
                content = json.loads(whole[file])
                mutate_json(content, rng)
                file.write_text(json.dumps(content))
            else:
                file.write_bytes(mutate_bytes(whole[file], rng))
            result, info = attempt(path)
            assert not isinstance(result, str) or "\n" not in result
            if info is not None and info.shape == (1, 2, 40, 37):  # what was read can be written
                save(tmp_path / "again.zarr", info, result, overwrite=True)
                images.write(tmp_path / "again.tif", np.zeros((2, 40, 37)), info, overwrite=True)
            errors, runs = errors + isinstance(result, str), runs + 1
            file.write_bytes(whole[file])
        assert isinstance(attempt(path)[0], np.ndarray)
    assert runs == 8 * seeds
    assert errors > runs / 4
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), RuntimeError("bug"), KeyboardInterrupt()]
)
def test_write_leaves_nothing_half_written(tmp_path, error):
    data, info = noise((9, 8)), described("YX", (9, 8))

    def broken(path):
        with omezarr.create(path, info, data.shape, data.dtype, overwrite=True) as pixels:
            pixels[:5] = data[:5] + 1
            raise error

    save(tmp_path / "old.zarr", info, data)
    for name in ("old.zarr", "new.zarr"):
        with pytest.raises(type(error)) as caught:
            broken(tmp_path / name)
        assert caught.value is error
    assert [p.name for p in tmp_path.iterdir()] == ["old.zarr"]
    np.testing.assert_array_equal(load(tmp_path / "old.zarr")[0], data)


def test_interrupt_leaves_nothing(tmp_path):
    """Ctrl-C in a process of its own, in the middle of tensorstore's writing."""
    code = """if True:
        import numpy as np, signal, sys
        from jaxdenoise.io import omezarr
        # A shell turns it off for what it runs in the background.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        from jaxdenoise.io.info import ImageInfo
        data = np.random.default_rng(0).integers(0, 60000, (8, 512, 512)).astype("uint16")
        shape = 8000, 512, 512
        info = ImageInfo("TYX", shape, data.dtype)
        with omezarr.create(sys.argv[1], info, shape, data.dtype) as pixels:
            for start in range(0, 8000, 8):
                pixels[start : start + 8] = data
                print(start, flush=True)
    """
    process = subprocess.Popen(
        [sys.executable, "-c", code, tmp_path / "a.zarr"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout.readline() == b"0\n"
    assert [p.suffix for p in tmp_path.iterdir()] == [".unfinished"]
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert b"KeyboardInterrupt" in error
    assert list(tmp_path.iterdir()) == []


def test_failed_rename_keeps_the_old(tmp_path, monkeypatch):
    data, info = noise((9, 8)), described("YX", (9, 8))
    save(tmp_path / "old.zarr", info, data)
    rename, seen = os.rename, []

    def broken(source, target):
        seen.append(Path(target).name)
        if len(seen) == 2:
            raise OSError(28, "No space left on device")
        rename(source, target)

    monkeypatch.setattr(os, "rename", broken)
    fails(
        "old.zarr: cannot be written.*No space left",
        save,
        tmp_path / "old.zarr",
        info,
        data + 1,
        overwrite=True,
    )
    assert len(seen) == 3
    assert [p.name for p in tmp_path.iterdir()] == ["old.zarr"]
    np.testing.assert_array_equal(load(tmp_path / "old.zarr")[0], data)


def test_write_errors(tmp_path):
    data, info = noise((9, 8)), described("YX", (9, 8))
    out = tmp_path / "new" / "sub" / "a.zarr"
    save(out, info, data)
    fails("exists; overwrite=True", save, out, info, data)
    save(out, info, data + 1, overwrite=True)
    np.testing.assert_array_equal(load(out)[0], data + 1)
    assert [p.name for p in out.parent.iterdir()] == ["a.zarr"]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    fails("is no Zarr folder and not replaced", save, tmp_path / "mine", info, data, overwrite=True)
    fails(
        "is no Zarr folder and not replaced",
        save,
        tmp_path / "mine" / "thesis.txt",
        info,
        data,
        overwrite=True,
    )
    fails("cannot be written", save, tmp_path / "mine" / "thesis.txt" / "a.zarr", info, data)
    fails("cannot be written", save, tmp_path / ("x" * 300), info, data)
    fails("complex64.*float32", save, tmp_path / "c.zarr", info, data.astype("complex64"))
    fails("bool.*float32", save, tmp_path / "c.zarr", info, data.astype(bool))
    (tmp_path / "empty").mkdir()
    save(tmp_path / "empty", info, data, overwrite=True)
    (tmp_path / "link.zarr").symlink_to(out)
    save(tmp_path / "link.zarr", info, data, overwrite=True)
    assert (tmp_path / "link.zarr").is_symlink()
    np.testing.assert_array_equal(load(out)[0], data)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["empty", "link.zarr", "mine", "new"]
    with (
        pytest.raises(TypeError, match="float64"),
        omezarr.create(tmp_path / "d.zarr", info, data.shape, data.dtype) as pixels,
    ):
        pixels[()] = data / 2  # rounding is the caller's


def test_big_endian_arrays_are_written(tmp_path):
    data = noise((9, 8), ">u2")
    save(tmp_path / "a.zarr", described("YX", data.shape), data)
    np.testing.assert_array_equal(load(tmp_path / "a.zarr")[0], data)


def test_a_large_image_is_read_lazily(tmp_path):
    """20 GB, in a process of its own, whose peak of memory is not that of other tests."""
    code = """if True:
        import resource, sys
        from jaxdenoise.io import omezarr
        pixels, info = omezarr.open_image(sys.argv[1])
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        assert info.shape == (100_000, 100_000)
        corner = pixels[-100:, 50_000:50_200]
        assert corner.shape == (100, 200) and (corner == 3).all()
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    """
    for zarr_format in (2, 3):
        path = tmp_path / f"{zarr_format}.zarr"
        group = write_group(path, multiscales(), zarr_format)
        group.create_array(
            "0", shape=(100_000, 100_000), dtype="uint16", chunks=(1000, 1000), fill_value=3
        )
        result = subprocess.run(
            [sys.executable, "-c", code, path], capture_output=True, check=True, timeout=30
        )
        assert int(result.stdout) < 20_000  # kilobytes


def test_an_image_larger_than_memory_is_an_error(tmp_path):
    for zarr_format in (2, 3):
        group = write_group(tmp_path / f"{zarr_format}.zarr", multiscales(), zarr_format)
        group.create_array("0", shape=(2**31, 2**28), dtype="uint16", chunks=(1000, 1000))
        fails(
            "cannot be read",
            omezarr.open_image(tmp_path / f"{zarr_format}.zarr")[0].__getitem__,
            (),
        )


def test_imports_come_late():
    late = ("jax", "tensorstore", "zarr")
    code = f"import jaxdenoise.io.omezarr, sys; sys.exit(any(n in sys.modules for n in {late}))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
