"""Damaged image files. They are read in child processes, so that a hang, a crash or a memory bomb is found, with the number that makes it.

``FUZZ=2000 python -m pytest tests/test_fuzz.py`` makes so many mutations of each format, ``python
tests/test_fuzz.py read lzw.tif 17 18 FOLDER`` the one of number 17 alone, which it leaves in the
folder. `commands` in place of `read` sends them through the command line.
"""

import contextlib
import faulthandler
import io
import json
import math
import os
import re
import resource
import shutil
import struct
import subprocess
import sys
import warnings
import zlib
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile

from jaxdenoise.cli.main import main
from jaxdenoise.io import images
from jaxdenoise.io.images import ImageError

MUTATIONS = int(os.environ.get("FUZZ", 100))  # of each format
SECONDS = {"read": 10, "commands": 60}  # for one file; a shape that was never filtered is compiled
MEMORY = 8 * 2**30  # address space of a child, in bytes
GROWTH = 2**20  # what a file of some kB may add to the memory of a child, in kB
FINE = ("read", "refused", "not written")


# --- whole files
# -------------------------------------------------------------------------------------------------------------------------


def pixels(dtype="uint16", shape=(3, 24, 20)):
    """A smooth image with noise, so that codecs find something to compress."""
    y, x = np.mgrid[: shape[-2], : shape[-1]]
    noise = np.random.default_rng(0).normal(0, 3, shape)
    return (100 + 40 * np.sin(y / 5) * np.cos(x / 7) + noise).astype(dtype)


def tiff(path, dtype="uint16", shape=(3, 24, 20), **options):
    tifffile.imwrite(path, pixels(dtype, shape), photometric="minisblack", **options)


def imagej(path):
    metadata = {
        "axes": "TZYX",
        "unit": "um",
        "spacing": 0.5,
        "finterval": 2.0,
        "Labels": list("abcd"),
        "Ranges": (0.0, 9.0),
    }
    tiff(path, shape=(2, 2, 24, 20), imagej=True, resolution=(5, 4), metadata=metadata)


def ome(path):
    metadata = {
        "axes": "CZYX",
        "PhysicalSizeX": 0.2,
        "PhysicalSizeXUnit": "um",
        "Channel": {"Name": ["a", "b"]},
        "UUID": "urn:uuid:0",
    }
    tiff(path, shape=(2, 2, 24, 20), ome=True, metadata=metadata)


def pages(path):
    with tifffile.TiffWriter(
        path
    ) as tif:  # each page's directory before its pixels, as most writers do
        for page in pixels():
            tif.write(page, metadata=None, contiguous=False)


def series(path):
    with tifffile.TiffWriter(path) as tif:
        tif.write(pixels("uint8"), photometric="minisblack")
        tif.write(pixels("uint16", (17, 9)), photometric="minisblack")


def pyramid(path):
    with tifffile.TiffWriter(path) as tif:
        tif.write(pixels(), photometric="minisblack", subifds=1)
        tif.write(pixels()[:, ::2, ::2].copy(), photometric="minisblack", subfiletype=1)


def picture(path, dtype="uint8"):
    cv2.imwrite(str(path), pixels(dtype, (24, 20)))


FORMATS = {
    "uint8.tif": lambda path: tiff(path, "uint8", metadata=None),
    "uint16.tif": tiff,
    "float32.tif": lambda path: tiff(path, "float32"),
    "big_endian.tif": lambda path: tiff(path, byteorder=">"),
    "imagej.tif": imagej,
    "ome.tif": ome,
    "bigtiff.tif": lambda path: tiff(path, bigtiff=True),
    "pages.tif": pages,
    "series.tif": series,
    "pyramid.tif": pyramid,
    "tiles.tif": lambda path: tiff(path, tile=(16, 16), compression="deflate"),
    "lzw.tif": lambda path: tiff(path, rowsperstrip=7, compression="lzw"),
    "zstd.tif": lambda path: tiff(path, rowsperstrip=7, compression="zstd"),
    "packbits.tif": lambda path: tiff(path, "uint8", compression="packbits"),
    "predictor.tif": lambda path: tiff(path, rowsperstrip=7, compression="deflate", predictor=True),
    "float_predictor.tif": lambda path: tiff(
        path, "float32", compression="deflate", predictor=True
    ),
    "jpeg.tif": lambda path: tiff(path, "uint8", compression="jpeg"),
    "jpeg2000.tif": lambda path: tiff(path, compression="jpeg2000"),
    "grey.png": picture,
    "deep.png": lambda path: picture(path, "uint16"),
    "grey.jpg": picture,
}
CODES = (
    0,
    2,
    3,
    4,
    5,
    6,
    7,
    8,
    32767,
    32773,
    32946,
    34712,
    34887,
    34925,
    50000,
    50001,
    50002,
)  # compressions, and small numbers
WORDS = (
    "",
    "0",
    "1",
    "-1",
    "2",
    "65536",
    "2147483648",
    "9" * 30,
    "1e9",
    "nan",
    "x",
    '"',
    "<",
    "\\u00e9",
    "\n",
    "Z" * 50,
)


# --- mutations
# ---------------------------------------------------------------------------------------------------------------------------


def numbers_of(path):
    """(place, length) of the numbers in a file that say how it is to be read: header, directories, what these point to."""
    if (
        path.suffix == ".png"
        # width, height, bits, colour, compression, filter, interlace; length of the first chunk after
    ):
        return [(16, 4), (20, 4), *((place, 1) for place in range(24, 29)), (33, 4)]
    if path.suffix == ".jpg":  # length, bits, height, width, components, sampling
        start = path.read_bytes().index(b"\xff\xc0") + 2
        return [
            (start + place, length)
            for place, length in ((0, 2), (2, 1), (3, 2), (5, 2), (7, 1), (9, 1))
        ]
    with tifffile.TiffFile(path) as tif:
        wide, found = (
            (8, [(0, 2), (2, 2), (8, 8)]) if tif.is_bigtiff else (4, [(0, 2), (2, 2), (4, 4)])
        )
        for page in tif.pages:
            found.append((page.offset, tif.tiff.tagnosize))
            for tag in page.tags:
                found += [
                    (tag.offset, 2),
                    (tag.offset + 2, 2),
                    (tag.offset + 4, wide),
                    (tag.offset + 4 + wide, wide),
                ]
                if (
                    tag.name in ("StripOffsets", "StripByteCounts", "TileOffsets", "TileByteCounts")
                    and tag.count > 1
                ):
                    found += [(tag.valueoffset, 2), (tag.valueoffset + 4, 2)]
            found.append((tag.offset + 4 + 2 * wide, wide))  # the next directory
    return found


def description_of(path):
    """(place of its entry in the first directory, text, format of two numbers) of a TIFF's description, or None."""
    if path.suffix != ".tif":
        return None
    with tifffile.TiffFile(path) as tif:
        tag = tif.pages.first.tags.get("ImageDescription")
        return tag and (tag.offset, tag.value, f"{tif.byteorder}2{'Q' if tif.is_bigtiff else 'I'}")


class Mutator:
    """Mutations of one file by number: the same number makes the same mutation."""

    def __init__(self, path):
        self.path, self.whole, self.numbers, self.description = (
            path,
            path.read_bytes(),
            numbers_of(path),
            description_of(path),
        )
        self.order = "little" if self.whole.startswith(b"II") else "big"

    def __call__(self, seed):
        self.rng = np.random.default_rng([zlib.crc32(self.path.name.encode()), seed])
        kinds = [
            self.flip,
            self.overwrite,
            self.cut,
            self.insert,
            self.delete,
            *[self.renumber] * 3,
        ]
        kinds += [self.reword] * 2 if self.description else []
        content = bytearray(self.whole)
        for _ in range(self.choice([1, 1, 1, 2, 4])):
            if content:
                self.choice(kinds)(content)
        if self.path.suffix == ".png" and self.choice(
            [True, True, True, False]
        ):  # else little but the header's checksum would be tested
            content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
        return bytes(content)

    def choice(self, things):
        return things[self.rng.integers(len(things))]

    def place(self, content):
        return int(self.rng.integers(len(content)))

    def some_bytes(self, most):
        length = int(self.rng.integers(1, most))
        return self.choice([b"\0" * length, b"\xff" * length, self.rng.bytes(length)])

    def flip(self, content):
        for _ in range(self.rng.integers(1, 9)):
            content[self.place(content)] ^= 1 << int(self.rng.integers(8))

    def overwrite(self, content):
        self.put(content, self.place(content), self.some_bytes(33))

    def cut(self, content):
        del content[self.place(content) :]

    def insert(self, content):
        place = self.place(content)
        content[place:place] = self.some_bytes(65)

    def delete(self, content):
        place = self.place(content)
        del content[place : place + int(self.rng.integers(1, 65))]

    def renumber(self, content):
        """Another number where one stands that matters; also what stands elsewhere, and where (directories in a circle)."""
        (place, length), (other, size) = self.choice(self.numbers), self.choice(self.numbers)
        now, there = (
            int.from_bytes(content[start:end], self.order)
            for start, end in ((place, place + length), (other, other + size))
        )
        most = 256**length
        values = [
            0,
            1,
            now + 1,
            now - 1,
            2 * now,
            now // 2,
            there,
            other,
            self.place(content),
            self.choice(CODES),
        ]
        values += [most - 1, most // 2, most // 2 - 1, int(self.rng.integers(2**31))]
        self.put(content, place, (self.choice(values) % most).to_bytes(length, self.order))

    def reword(self, content):
        """Other words for numbers in the description, which moves to the end of the file, since it may become longer."""
        entry, text, layout = self.description
        found = list(re.finditer(r"\d+", text))
        chosen = sorted(
            {int(self.rng.integers(len(found))) for _ in range(self.rng.integers(1, 4))},
            reverse=True,
        )
        for number in [found[index] for index in chosen]:
            text = text[: number.start()] + self.choice(WORDS) + text[number.end() :]
        data = text.encode() + b"\0"
        self.put(content, entry + 4, struct.pack(layout, len(data), len(content)))
        content += data

    def put(self, content, place, data):
        content[place : place + len(data)] = data[: max(0, len(content) - place)]


# --- what a child does
# -------------------------------------------------------------------------------------------------------------------


def attempt(call, *args, **options):
    """The result, or the text of the ImageError; whatever is said is one line."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            result = call(*args, **options)
        except ImageError as error:
            result = str(error)
            assert "\n" not in result
    assert not any("\n" in str(warning.message) for warning in caught)
    return result


def read(path, seed):
    """Read a damaged file, write what was read, and read that; the outcome in a word."""
    result, out = attempt(images.read, path), path.parent / "out" / "again.tif"
    if isinstance(result, str):
        return "refused"
    frames, info = result
    sizes = dict(zip(info.axes, info.shape, strict=True))
    assert frames.shape == (
        math.prod(info.shape) // (sizes["Y"] * sizes["X"]),
        sizes["Y"],
        sizes["X"],
    )
    assert frames.dtype == np.float32
    assert np.isfinite(frames).all()
    json.dumps(info.describe(), allow_nan=False)
    refusal = attempt(images.write, out, frames, info, overwrite=True)
    assert [file.name for file in out.parent.iterdir()] == ([] if refusal else ["again.tif"])
    if refusal:
        return "not written"
    again = attempt(images.read, out, axes=info.axes if set(info.axes) <= set("STCZYX") else None)
    np.testing.assert_array_equal(again.frames, frames)
    out.unlink()
    return "read"


def commands(path, seed):
    """Filter a damaged file by the command line; the outcome in a word."""
    out, err = path.parent / "out", io.StringIO()
    shutil.rmtree(out, ignore_errors=True)
    chosen = [["median", "--size", "3"], ["gaussian", "--sigma", "1"], ["box", "--size", "3"]][
        seed % 3
    ]
    with contextlib.redirect_stderr(err):
        code = main(["filter", str(path), "-o", str(out), "--quiet", "--filter", *chosen])
    *warned, last = err.getvalue().splitlines() or [""]
    left = [file.name for file in out.iterdir()] if out.exists() else []
    assert all(line.startswith("jaxdenoise: warning: ") for line in warned), err.getvalue()
    if code == 0:
        assert left == [f"{path.stem}_{chosen[0]}.tif"]
        assert not last or last.startswith("jaxdenoise: warning: "), last
        return "read"
    assert code == 2
    assert last.startswith("jaxdenoise: error: "), last
    assert left == []
    return "refused"


def child(verb, name, first, last, folder):
    """Try the mutations ``first`` to ``last`` of a format, or of "all" in turn: a line each, ended with the outcome."""
    folder, names = Path(folder), list(FORMATS) if name == "all" else [name]
    for whole in names:
        FORMATS[whole](folder / whole)
    mutators = [Mutator(folder / whole) for whole in names]
    call = {"read": read, "commands": commands}[verb]
    for path in (
        folder / whole for whole in names
    ):  # what is imported and compiled late is not the file's fault
        assert call(path, 0) == "read", path
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    for seed in range(int(first), int(last)):
        print(seed, end=" ", flush=True)
        mutate = mutators[seed % len(mutators)]
        path = folder / f"damaged{mutate.path.suffix}"
        path.write_bytes(mutate(seed))
        memory, said = peak(), os.fstat(2).st_size
        faulthandler.dump_traceback_later(SECONDS[verb], exit=True)
        try:
            outcome = call(path, seed)
        except Exception as error:
            outcome = " ".join(repr(error).split())
        faulthandler.cancel_dump_traceback_later()
        if peak() - memory > GROWTH:
            outcome += f", took {(peak() - memory) // 1024} MB"
        if os.fstat(2).st_size != said:  # by a library, past Python
            outcome += ", wrote to standard error"
        print(outcome, flush=True)


def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


# --- the tests
# ---------------------------------------------------------------------------------------------------------------------------


def outcomes(verb, name, first, last, folder):
    """The outcome of each mutation. A child that dies is followed by one that goes on after what killed it."""
    found, environment = {}, os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    while first < last:
        words = [sys.executable, __file__, verb, name, str(first), str(last), str(folder)]
        with open(folder / "stderr", "w+") as err:
            done = subprocess.run(
                words,
                stdout=subprocess.PIPE,
                stderr=err,
                text=True,
                env=environment,
                timeout=1800,
                check=False,
            )
            err.seek(0)
            said = " ".join(err.read().split())
        for line in done.stdout.splitlines():
            seed, _, outcome = line.partition(" ")
            found[int(seed)] = outcome or f"died with {done.returncode}: {said[-1500:]}"
        assert first in found, said
        first = max(found) + 1
    return found


def check(verb, name, first, last, folder):
    """Assert that nothing but one of FINE came of the mutations; returns how many of each."""
    found = outcomes(verb, name, first, last, folder)
    bad = [
        f"python {__file__} {verb} {name} {seed} {seed + 1} FOLDER: {text}"
        for seed, text in found.items()
        if text not in FINE
    ]
    assert not bad, "\n".join(bad)
    assert len(found) == last - first
    return Counter(found.values())


@pytest.mark.parametrize("name", FORMATS)
def test_damaged_files_are_read_or_refused(tmp_path, name):
    counts = check("read", name, 0, MUTATIONS, tmp_path)
    assert counts["refused"] > MUTATIONS / 10  # else the mutations would be too weak,
    assert counts["read"] > MUTATIONS / 50  # or too strong


def test_a_damaged_file_leaves_nothing_half_written(tmp_path):
    counts = check("commands", "all", 0, MUTATIONS // 2, tmp_path)
    assert counts["read"] > 5 < counts["refused"]


if __name__ == "__main__":
    child(*sys.argv[1:])
