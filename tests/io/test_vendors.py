"""Files of microscope makers become images with sizes and names; bad ones end in one line.

CZI files are written by Zeiss's own library; LIF and ND2 files by the small writers here, after
what liffile and nd2 read.
"""

import gc
import math
import os
import struct
import subprocess
import sys

import numpy as np
import pytest
import tifffile
from grids import covering, fewer

from jaxdenoise.io import vendors
from jaxdenoise.io.images import ImageError, read, write

RNG = np.random.default_rng(0)
PACKAGES = {"czi": "pylibCZIrw", "lif": "liffile", "nd2": "nd2"}
NAMES = ["DAPI", "Alexa 488 \u00b5"]


def noise(shape, dtype="uint16"):
    return RNG.integers(0, 200, shape).astype(dtype)


def write_czi(path, data, axes, skipped=(), **options):
    """Planes of (Y, X) or (Y, X, S), one a place along the axes before, but those of `skipped`."""
    from pylibCZIrw import czi

    options = {"compression_options": "uncompressed:"} | options
    with czi.create_czi(str(path), exist_ok=True, **options) as file:
        for place in np.ndindex(data.shape[: axes.index("Y")]):
            if place not in skipped:
                file.write(
                    data[place], plane=dict(zip(axes, place, strict=False)), location=(-50, 7)
                )
        scale = {"scale_x": 0.1e-6, "scale_y": 0.2e-6, "scale_z": 0.5e-6}
        file.write_metadata("a document", channel_names=dict(enumerate(NAMES)), **scale)


def write_lif(path, *images, names=NAMES):
    """Images are pairs of data and axes, in the order of storage, called Series0 and so on."""
    elements = "".join(lif_element(f"Series{n}", *image, names) for n, image in enumerate(images))
    children = f"<Children>{elements}</Children>"
    project = f'<Element Name="project"><Data><Experiment/></Data>{children}</Element>'
    xml = f'<LMSDataContainerHeader Version="2">{project}</LMSDataContainerHeader>'
    content = struct.pack("<IIBI", 0x70, 2 * len(xml) + 5, 0x2A, len(xml)) + xml.encode("utf-16-le")
    for n, (data, _) in enumerate(images):
        block = f"Block_Series{n}"
        content += struct.pack(
            "<IIBQBI", 0x70, 2 * len(block) + 14, 0x2A, data.nbytes, 0x2A, len(block)
        )
        content += block.encode("utf-16-le") + data.tobytes()
    path.write_bytes(content)


def lif_element(name, data, axes, names):
    """An image in XML: axes with the distance of their elements in bytes, channels with offsets."""
    layout = dict(zip(axes, zip(data.shape, data.strides, strict=True), strict=True))
    count, distance = layout.get("C", layout.get("S", (1, 0)))
    dimensions = channels = ""
    for axis, (number, step) in {
        "X": (1, 0.1e-6),
        "Y": (2, -0.2e-6),
        "Z": (3, 0.5e-6),
        "T": (4, 2.5),
        "\u03bb": (5, 0),
    }.items():
        if axis in layout:
            size, inc = layout[axis]
            length = f'Length="{step * (size - 1)}" Unit="{"s" if axis == "T" else "m"}"'
            about = f'DimID="{number}" NumberOfElements="{size}" BytesInc="{inc}"'
            dimensions += f'<DimensionDescription {about} BitInc="0" Origin="0" {length}/>'
    for n in range(count):
        dye = (
            f"<ChannelProperty><Key>DyeName</Key><Value>Leica/{names[n]}</Value></ChannelProperty>"
            if n < len(names)
            else ""
        )
        real, bits = int(data.dtype.kind == "f"), 8 * data.itemsize
        kind = f'DataType="{real}" Resolution="{bits}" BytesInc="{n * distance}" BitInc="0"'
        tag, table = 3 - n if "S" in layout else 0, ["Red", "Green", "Blue"][n]
        colour = f'ChannelTag="{tag}" LUTName="{table}" IsLUTInverted="0"'
        rest = 'NameOfMeasuredQuantity="" Min="0" Max="1" Unit=""'
        channels += f"<ChannelDescription {kind} {colour} {rest}>{dye}</ChannelDescription>"
    parts = f"<Channels>{channels}</Channels><Dimensions>{dimensions}</Dimensions>"
    image = f"<ImageDescription>{parts}</ImageDescription>"
    memory = f'<Memory Size="{data.nbytes}" MemoryBlockID="Block_{name}"/>'
    return f'<Element Name="{name}"><Data><Image>{image}</Image></Data>{memory}</Element>'


def write_nd2(path, data, axes, calibrated=True, skipped=()):
    """Frames of (Y, X) and perhaps C or S, one a place along the axes before, but the `skipped`."""
    inner = axes.index("Y")
    frames = data.reshape(-1, *data.shape[inner:])
    (height, width), components = frames.shape[1:3], math.prod(frames.shape[3:])
    attributes = {
        "uiWidth": width,
        "uiHeight": height,
        "uiWidthBytes": width * components * data.itemsize,
        "uiComp": components,
    }
    attributes |= {
        "uiBpcInMemory": 8 * data.itemsize,
        "uiBpcSignificant": 8 * data.itemsize,
        "uiSequenceCount": len(frames),
    }
    probe = {"m_ExcitationSpectrum": {"uiCount": 0}, "m_EmissionSpectrum": {"uiCount": 0}}
    names = NAMES[: 1 if axes.endswith("S") else components]
    planes = {
        f"a{n}": {"sDescription": name, "uiCompCount": 1, "pFluorescentProbe": probe}
        for n, name in enumerate(names)
    }
    picture = {
        "bCalibrated": calibrated,
        "dCalibration": 0.2,
        "sPicturePlanes": {"uiCount": len(planes), "sPlaneNew": planes},
    }
    chunks = {
        "ImageAttributesLV!": lite(SLxImageAttributes=attributes),
        "ImageMetadataSeqLV|0!": lite(SLxPictureMetadata=picture),
    }
    if inner:
        chunks["ImageMetadataLV!"] = lite(
            SLxExperiment=nd2_loops(list(zip(axes[:inner], data.shape[:inner], strict=True)))
        )
    chunks |= {
        f"ImageDataSeq|{n}!": bytes(8) + frame.tobytes()
        for n, frame in enumerate(frames)
        if n not in skipped
    }
    content, places = chunk(b"ND2 FILE SIGNATURE CHUNK NAME01!", b"Ver3.0".ljust(64, b"\0")), b""
    for name, part in chunks.items():
        places += name.encode() + struct.pack("<QQ", len(content), len(part))
        content += chunk(name.encode().ljust(4072, b"\0"), part)
    places += b"ND2 CHUNK MAP SIGNATURE 0000001!" + struct.pack("<Q", len(content))
    path.write_bytes(content + chunk(b"ND2 FILEMAP SIGNATURE NAME 0001!", places))


def nd2_loops(loops):
    """The outermost loop, which holds the next."""
    (axis, count), rest = loops[0], loops[1:]
    kinds = {
        "T": (
            1,
            {
                "uiCount": count,
                "dStart": 0.0,
                "dPeriod": 2000.0,
                "dDuration": 0.0,
                "dAvgPeriodDiff": 2500.0,
            },
        ),
        "P": (2, {"Points": {f"a{n}": {"dPosX": 1.0} for n in range(count)}}),
        "Z": (4, {"uiCount": count, "dZStep": 0.5, "dZLow": 0.0, "dZHigh": 0.5 * (count - 1)}),
        "U": (7, {"uiCount": count}),
    }
    kind, parameters = kinds[axis]
    return {"eType": kind, "uLoopPars": parameters} | (
        {"ppNextLevelEx": {"": nd2_loops(rest)}} if rest else {}
    )


def lite(**values):
    """Nikon's binary form of nested dictionaries."""
    result = b""
    for name, value in values.items():
        label = f"{name}\0".encode("utf-16-le")
        if isinstance(value, dict):
            nested = lite(**value)
            size = 2 + len(label) + 12 + len(nested)
            value, kind = struct.pack("<IQ", len(value), size) + nested + bytes(8 * len(value)), 11
        else:
            form, kind = {bool: ("<?", 1), int: ("<i", 2), float: ("<d", 6), str: ("", 8)}[
                type(value)
            ]
            value = struct.pack(form, value) if form else f"{value}\0".encode("utf-16-le")
        result += bytes([kind, len(label) // 2]) + label + value
    return result


def chunk(name, data):
    return struct.pack("<IIQ", 0x0ABECEDA, len(name), len(data)) + name + data


def make(path, data=None, axes="TZCYX"):
    """A file with the data, by default (T, Z, C) = (2, 3, 2), in the suffix's format; the data."""
    suffix = path.suffix.lower()[1:]
    pytest.importorskip(PACKAGES[suffix])
    data = noise((2, 3, 2, 9, 8)) if data is None else data
    if suffix == "nd2" and "C" in axes:
        write_nd2(path, np.moveaxis(data, axes.index("C"), -1), axes.replace("C", "") + "C")
    else:
        {"czi": write_czi, "lif": write_lif_image, "nd2": write_nd2}[suffix](path, data, axes)
    return data


def write_lif_image(path, data, axes):
    write_lif(path, (data, axes))


def fails(match, call, *args, **kwargs):
    """The call raises an ImageError of one line that matches."""
    with pytest.raises(ImageError, match=match) as caught:
        call(*args, **kwargs)
    assert "\n" not in str(caught.value)
    return str(caught.value)


FORMATS = pytest.mark.parametrize("suffix", list(PACKAGES))


@FORMATS
def test_pixels_sizes_and_names(tmp_path, suffix):
    data = make(tmp_path / f"a.{suffix}")
    frames, info = read(tmp_path / f"a.{suffix}")
    np.testing.assert_array_equal(frames, data.reshape(-1, 9, 8))
    assert (info.axes, info.shape, info.dtype, info.kind) == ("TZCYX", data.shape, np.uint16, "ome")
    assert info.pixel_size_um == pytest.approx((0.2, 0.2) if suffix == "nd2" else (0.2, 0.1))
    assert info.z_spacing == pytest.approx(0.5)
    assert info.frame_interval == (None if suffix == "czi" else 2.5)
    assert info.metadata["Channel"] == [{"Name": name} for name in NAMES]
    assert info.metadata["Name"] == ("Series0" if suffix == "lif" else "a")


@FORMATS
@covering(
    image=[("YX", (9, 8)), ("ZYX", (3, 9, 8)), ("CYX", (2, 9, 8)), ("TCYX", (4, 2, 7, 3))],
    dtype=["uint8", "uint16", "float32"],
)
def test_axes_and_dtypes(tmp_path, suffix, image, dtype):
    axes, shape = image
    data = make(tmp_path / f"a.{suffix}", noise(shape, dtype), axes)
    frames, info = read(tmp_path / f"a.{suffix}")
    assert (info.axes, info.shape, info.dtype) == (axes, shape, dtype)
    np.testing.assert_array_equal(frames, data.reshape(-1, *shape[-2:]))
    frames, info = read(tmp_path / f"a.{suffix}", axes="STCZYX"[6 - len(axes) :])
    assert info.axes == "STCZYX"[6 - len(axes) :]


@FORMATS
def test_axes_of_size_1_are_dropped(tmp_path, suffix):
    data = make(tmp_path / f"a.{suffix}", noise((1, 3, 1, 9, 8)))
    frames, info = read(tmp_path / f"a.{suffix}")
    assert (info.axes, info.shape) == ("ZYX", (3, 9, 8))
    np.testing.assert_array_equal(frames, data[0, :, 0])
    write(tmp_path / "b.tif", frames, info)
    assert read(tmp_path / "b.tif").info.metadata["Channel"][0]["Name"] == NAMES[0]


@FORMATS
def test_results_are_ome_tiffs(tmp_path, suffix):
    data = make(tmp_path / f"a.{suffix}")
    before = read(tmp_path / f"a.{suffix}")
    write(tmp_path / "b.tif", *before)
    after = read(tmp_path / "b.tif")
    assert after.info == before.info
    for name in ("pixel_size_um", "z_spacing", "frame_interval"):
        assert getattr(after.info, name) == pytest.approx(getattr(before.info, name))
    with tifffile.TiffFile(tmp_path / "b.tif") as tif:  # an independent view
        assert tif.is_ome
        assert tif.series[0].axes == "TZCYX"
        image = tifffile.xml2dict(tif.ome_metadata)["OME"]["Image"]
        assert image["Name"] == before.info.metadata["Name"]
        assert [channel["Name"] for channel in image["Pixels"]["Channel"]] == NAMES
        assert image["Pixels"]["PhysicalSizeZ"] == pytest.approx(0.5)
        np.testing.assert_array_equal(tif.asarray(), data)
    write(tmp_path / "c.tif", *before, dtype="float32")
    assert read(tmp_path / "c.tif").info.kind == "ome"


@FORMATS
def test_parts_are_read_when_they_are_asked_for(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    data = make(path)
    pixels, info = vendors.open_image(path)
    assert (pixels.shape, pixels.dtype) == (info.shape, info.dtype)
    every = slice(None)
    for key in [
        (every,) * 5,
        (slice(1, 2), slice(2, 3), slice(0, 1), every, every),
        (every, slice(-2, 99), slice(1, None), slice(3, 5), slice(-5, -1)),
        (slice(0, 0), every, every, every, every),
        (slice(1, 2),),
    ]:
        assert isinstance(pixels[key], np.ndarray)
        np.testing.assert_array_equal(pixels[key], data[key])


@pytest.mark.skipif(
    sys.platform != "linux", reason="looks at the open files where Linux keeps them"
)
@FORMATS
def test_files_are_closed_when_the_pixels_are_forgotten(tmp_path, suffix):
    def is_open():
        gc.collect()
        return any(
            os.path.realpath(f"/proc/self/fd/{number}") == str(path)
            for number in os.listdir("/proc/self/fd")
        )

    path = tmp_path.resolve() / f"a.{suffix}"
    make(path)
    pixels, _ = vendors.open_image(path)
    assert is_open()
    del pixels
    assert not is_open()
    fails("axes", vendors.open_image, path, axes="YX")
    assert not is_open()


@FORMATS
def test_rgb(tmp_path, suffix):
    data, path = noise((9, 8, 3), "uint8"), tmp_path / f"a.{suffix}"
    stored = data if suffix == "nd2" else data[:, :, ::-1]  # blue, green, red
    make(path, np.ascontiguousarray(stored), "YXS")
    fails(r'RGB.*axes="YXC".*grey', read, path)
    frames, info = read(path, axes="YXC")
    np.testing.assert_array_equal(frames, np.moveaxis(data, -1, 0))
    write(tmp_path / "b.tif", frames, info)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "b.tif"), data)


def test_of_several_scenes_the_first_is_read(tmp_path):
    czi = pytest.importorskip("pylibCZIrw.czi")
    data, path = noise((2, 9, 8)), tmp_path / "a.czi"
    with czi.create_czi(str(path)) as file:
        for scene, frame in zip((2, 5), data, strict=True):
            file.write(frame, scene=scene, location=(4 * scene, 0))  # they overlap
    with pytest.warns(UserWarning, match="1 of 2 images were left out.*YX \\(9, 8\\)"):
        frames, _ = read(path)
    np.testing.assert_array_equal(frames, data[:1])


def test_of_several_series_the_first_is_read(tmp_path):
    pytest.importorskip("liffile")
    data, path = noise((9, 8)), tmp_path / "a.lif"
    write_lif(path, (data, "YX"), (noise((3, 7, 6)), "ZYX"), (noise((5, 4)), "YX"))
    with pytest.warns(UserWarning, match="2 of 3 images were left out"):
        frames, _ = read(path)
    np.testing.assert_array_equal(frames, data[None])


@pytest.mark.parametrize("axes", ["PZ", "TPZ", "TP"])
def test_of_several_positions_the_first_is_read(tmp_path, axes):
    pytest.importorskip("nd2")
    data, path = noise((2, 3, 4, 9, 8)[-2 - len(axes) :]), tmp_path / "a.nd2"
    write_nd2(path, data, f"{axes}YX")
    with pytest.warns(UserWarning, match="images were left out"):
        frames, info = read(path)
    assert info.axes == axes.replace("P", "") + "YX"
    np.testing.assert_array_equal(frames, np.take(data, 0, axes.index("P")).reshape(-1, 9, 8))


def test_unknown_axes_are_refused_until_they_are_named(tmp_path):
    pytest.importorskip("liffile")
    data, path = noise((2, 3, 9, 8)), tmp_path / "a.lif"
    write_lif(path, (data, "T\u03bbYX"))
    fails("axes T\u03bbYX.*axes=.TZYX. treats.*\u03bb", read, path)
    frames, info = read(path, axes="TCYX")
    assert info.axes == "TCYX"
    np.testing.assert_array_equal(frames, data.reshape(-1, 9, 8))


def test_unknown_loops_are_refused_until_they_are_named(tmp_path):
    pytest.importorskip("nd2")
    write_nd2(tmp_path / "a.nd2", noise((2, 3, 9, 8)), "UZYX")
    fails("axes UZYX.*axes=.TZYX", read, tmp_path / "a.nd2")


def test_names_of_lookup_tables_where_there_are_no_dyes(tmp_path):
    pytest.importorskip("liffile")
    write_lif(tmp_path / "a.lif", (noise((2, 9, 8)), "CYX"), names=())
    assert read(tmp_path / "a.lif").info.metadata["Channel"] == [{"Name": "Red"}, {"Name": "Green"}]


def test_uncalibrated_pixels_have_no_size(tmp_path):
    pytest.importorskip("nd2")
    write_nd2(tmp_path / "a.nd2", noise((9, 8)), "YX", calibrated=False)
    assert read(tmp_path / "a.nd2").info.pixel_size_um is None


@pytest.mark.parametrize(
    "compression", ["zstd0:ExplicitLevel=1", "zstd1:ExplicitLevel=1;PreProcess=HiLoByteUnpack"]
)
def test_compressed_mosaics(tmp_path, compression):
    czi = pytest.importorskip("pylibCZIrw.czi")
    data, path = noise((20, 30)), tmp_path / "a.czi"
    with czi.create_czi(str(path), compression_options=compression) as file:
        for top in (0, 8):
            for left in (0, 12, 20):
                file.write(data[top : top + 12, left : left + 12], location=(left - 5, top - 70))
    np.testing.assert_array_equal(read(path).frames[0], data)
    np.testing.assert_array_equal(vendors.open_image(path)[0][6:15, 11:23], data[6:15, 11:23])


def test_channels_of_different_dtypes(tmp_path):
    czi = pytest.importorskip("pylibCZIrw.czi")
    data = noise((9, 8), "uint8"), noise((9, 8)) * 300
    with czi.create_czi(str(tmp_path / "a.czi")) as file:
        for channel, frame in enumerate(data):
            file.write(frame, plane={"C": channel})
    frames, info = read(tmp_path / "a.czi")
    assert info.dtype == np.uint16
    np.testing.assert_array_equal(frames, data)
    with czi.create_czi(str(tmp_path / "b.czi")) as file:
        file.write(data[0], plane={"C": 0})
        file.write(np.stack([data[0]] * 3, -1), plane={"C": 1})
    fails("Bgr24 and Gray8", read, tmp_path / "b.czi")


def test_missing_planes_are_not_filled_with_zeros(tmp_path):
    pytest.importorskip("pylibCZIrw")
    write_czi(tmp_path / "a.czi", noise((2, 3, 9, 8)), "TZYX", skipped=[(1, 1), (1, 2)])
    fails("2 of 6 planes are missing", read, tmp_path / "a.czi")


def test_missing_frames_are_not_filled_with_zeros(tmp_path):
    pytest.importorskip("nd2")
    path = tmp_path / "a.nd2"
    write_nd2(path, noise((2, 3, 9, 8)), "TZYX", skipped=[4])
    fails("1 of 6 planes are missing", read, path)
    write_nd2(path, noise((2, 3, 9, 8)), "TZYX")
    content = bytearray(path.read_bytes())
    content[content.rindex(b"ImageDataSeq|3!") + 18] = 1  # puts the frame after the end of the file
    path.write_bytes(content)
    fails("1 of 6 planes are missing", read, path)


def test_lengths_that_would_crash_the_reader(tmp_path):
    pytest.importorskip("pylibCZIrw")
    path = tmp_path / "a.czi"
    write_czi(path, noise((3, 9, 8)), "ZYX")
    whole = path.read_bytes()
    directory, tile = whole.index(b"ZISRAWDIRECTORY"), whole.index(b"ZISRAWSUBBLOCK")
    for place in (
        directory + 160 + 28,
        directory + 160 + 31,
        directory + 35,
        tile + 76,
        tile + 79,
        tile + 35,
        tile + 39,
        tile + 46,
    ):
        path.write_bytes(whole[:place] + bytes([whole[place] + 50]) + whole[place + 1 :])
        fails("a.czi", read, path)
    path.write_bytes(
        whole.replace(struct.pack("<i", -50), struct.pack("<i", 50_000_000), 2)
    )  # a tile far from the others
    fails("too little|cannot be read", read, path)


def test_pixels_that_turn_out_to_be_damaged(tmp_path):
    pytest.importorskip("pylibCZIrw")
    path = tmp_path / "a.czi"
    write_czi(path, noise((3, 9, 8)), "ZYX")
    path.write_bytes(path.read_bytes().replace(b"ZISRAWSUBBLOCK", b"ZISRAWSUBBLOKK", 2))
    pixels, _ = vendors.open_image(path)
    fails("a.czi: cannot be read.*copy or export", lambda: pixels[:, :, :])


@FORMATS
@fewer("seeds", 12, 60)
def test_damaged_and_foreign_files(tmp_path, suffix, capfd, seeds):
    path = tmp_path / f"a.{suffix.upper()}"
    make(path)
    whole, expected = path.read_bytes(), read(path)
    others = [
        noise(5000, "uint8").tobytes(),
        b"",
        b"hello world, I am text\n" * 50,
        whole[:4] + bytes(4000),
        bytes(4000),
    ]
    others += [tiff_bytes(tmp_path)]
    for content in [
        *others,
        *(whole[:length] for length in range(0, len(whole), 1 + len(whole) // 40)),
    ]:
        path.write_bytes(content)
        assert str(path) in fails(".", read, path)
    for seed in range(seeds):
        content, rng = bytearray(whole), np.random.default_rng(seed)
        for place in rng.integers(0, len(content), 8):
            content[place] = rng.integers(256)
        path.write_bytes(content)
        try:
            assert read(path).frames.shape[1:] == expected.frames.shape[1:]
        except ImageError as error:
            assert "\n" not in str(error)  # noqa: PT017
    assert capfd.readouterr() == ("", "")


def tiff_bytes(folder):
    tifffile.imwrite(folder / "a.tif", noise((9, 8)))
    return (folder / "a.tif").read_bytes()


@FORMATS
def test_a_missing_package_says_how_to_install_it(tmp_path, suffix, monkeypatch):
    for name in ("pylibCZIrw", "pylibCZIrw.czi", "liffile", "nd2"):
        monkeypatch.setitem(sys.modules, name, None)
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(b"x")
    hint = (
        r"Python 3.11 to 3.13"
        if suffix == "czi" and sys.version_info >= (3, 14)
        else r"pip install 'jaxdenoise\[vendors\]'"
    )
    fails(f"{PACKAGES[suffix]}.*{hint}", read, path)


def test_unknown_extensions_name_these(tmp_path):
    (tmp_path / "a.oib").write_bytes(b"x")
    fails("unknown extension.*tif.*czi.*lif.*nd2", read, tmp_path / "a.oib")


def test_no_reader_is_imported_before_it_is_needed():
    late = ("pylibCZIrw", "liffile", "nd2", "jax")
    code = f"import jaxdenoise.io.images, sys; sys.exit(any(n in sys.modules for n in {late}))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
