"""Good and bad files for command lines that must be refused."""

import os
import struct
import warnings
from pathlib import Path

import cv2
import numpy as np
import tifffile

_RNG = np.random.default_rng(0)
NOISE = _RNG.normal(100, 9, (64, 64)).astype(np.float32)
Y, X = np.mgrid[:64, :64]
_WAVES = 1000 + 300 * np.sin(Y[:48, :56] / 5) + _RNG.normal(0, 30, (3, 48, 56))
NOISY = np.clip(_WAVES, 0, 65535).astype(np.uint16)


def write(name, data, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of zero-size arrays
        grey = {"photometric": "minisblack"} if data.ndim > 1 else {}
        tifffile.imwrite(name, data, **grey, **options)


def make_files():
    """Make all files and folders that the command lines name, in the current directory."""
    metadata = {"axes": "TYX", "unit": "um"}
    write("noisy.tif", NOISY, imagej=True, resolution=(10, 10), metadata=metadata)
    write("second.tif", NOISY[0, ::-1].copy())
    write("truth.tif", NOISY.mean(axis=0).astype(np.float32))
    places = [(y, x) for y in (16, 48) for x in (16, 48)]
    beads = sum(1000 * np.exp(-((Y - y) ** 2 + (X - x) ** 2) / 8) for y, x in places)
    write("beads.tif", 100 + beads + NOISE / 9)
    _make_broken_files(Path("noisy.tif").read_bytes())
    _make_unsuitable_images()
    _make_images_for_other_purposes()
    _make_folders()


def _make_broken_files(whole):
    Path("empty.tif").write_bytes(b"")
    Path("empty.png").write_bytes(b"")
    Path("cut.tif").write_bytes(whole[: len(whole) // 2])
    Path("head.tif").write_bytes(whole[:8])
    Path("noisy.xyz").write_bytes(whole)
    Path("noisy").write_bytes(whole)
    for suffix in ("tif", "png", "jpg"):
        Path(f"text.{suffix}").write_text("not a picture\n" * 9)
    for codec in ("deflate", "lzw", "zstd"):
        write("whole.tif", NOISY[0], compression=codec, rowsperstrip=48)
        with tifffile.TiffFile("whole.tif") as tif:
            start = tif.pages.first.dataoffsets[0]
        content = bytearray(Path("whole.tif").read_bytes())
        content[start : start + 40] = b"\xa5" * 40
        Path(f"{codec}.tif").write_bytes(content)
    Path("whole.tif").unlink()
    content = bytearray(whole)
    with tifffile.TiffFile("noisy.tif") as tif:
        place = tif.pages.next_page_offset
    content[place : place + 4] = struct.pack(">I", 8)
    Path("circle.tif").write_bytes(content)
    for suffix in ("png", "jpg"):
        content = cv2.imencode(f".{suffix}", NOISE.astype(np.uint8))[1].tobytes()
        Path(f"cut.{suffix}").write_bytes(content[: len(content) // 2])
    Path("damaged.png").write_bytes(
        cv2.imencode(".png", NOISE.astype(np.uint8))[1].tobytes().replace(b"IDAT", b"IDBT")
    )
    Path("folder.tif").mkdir()
    Path("unreadable.tif").write_bytes(whole)
    Path("unreadable.tif").chmod(0)
    Path("loop.tif").symlink_to("loop.tif")
    Path("dangling.tif").symlink_to("missing.tif")
    os.mkfifo("pipe.tif")


def _make_unsuitable_images():
    for name in ("rgb.tif", "rgb.png", "rgb.jpg"):
        cv2.imwrite(name, _RNG.integers(0, 255, (64, 64, 3), np.uint8))
    write("complex.tif", NOISE.astype(np.complex64))
    write("bool.tif", NOISE > 100)
    write("nan.tif", np.where(NOISE > 110, np.nan, NOISE))
    write("inf.tif", np.where(NOISE > 110, np.inf, NOISE))
    write("huge.tif", NOISE.astype(np.float64) * 1e300)
    write("nothing.tif", np.zeros((0, 16, 16), np.uint8))
    write("line.tif", np.arange(9, dtype=np.uint8))


def _make_images_for_other_purposes():
    write("constant.tif", np.full((64, 64), 7, np.uint8))
    write("zero.tif", np.zeros((64, 64), np.uint16))
    write("tiny.tif", NOISE[:5, :5])
    write("tiny4.tif", NOISE[:4, :4])
    write("pixel.tif", NOISE[:1, :1])
    write("row.tif", NOISE[:1])
    write("other_size.tif", NOISE)
    write("large.tif", NOISE * 1e30)
    write("small.tif", NOISE * 1e-42)
    write("two.tif", NOISY[:2])
    write("saturated.tif", np.full((64, 64), 65535, np.uint16))
    write("large_psf.tif", np.ones((101, 101), np.float32))
    write(
        "checks.tif", (50 * ((X + Y) % 2)).astype(np.uint8)
    )  # the estimate of its NOISE's variance is below 0
    write("smooth.tif", sum(np.roll(NOISE, shift, axis=1) for shift in range(3)))
    with tifffile.TiffWriter("series.tif") as tif:
        for data in (NOISY[0], NOISY[0, ::2]):
            tif.write(data, photometric="minisblack")
    write("stack_psf.tif", np.ones((3, 5, 5), np.float32))
    write("zero_psf.tif", np.zeros((5, 5), np.float32))
    write("negative_psf.tif", -np.ones((5, 5), np.float32))


def _make_folders():
    Path("folder").mkdir()
    Path("file").write_text("")
    Path("dangling").symlink_to("nowhere/out")
    Path("full").mkdir()
    for name in (
        "noisy_denoised.tif",
        "noisy_gaussian.tif",
        "noisy_report.html",
        "sweep.json",
        "report.html",
        "comparison.png",
    ):
        Path("full", name).write_bytes(b"precious")
    Path("full/.hidden").write_bytes(b"precious")
    Path("locked").mkdir()
    Path("locked").chmod(0o500)
    Path("run_of_another").mkdir()
    Path("run_of_another/config.json").write_text('{"format": 99}')
