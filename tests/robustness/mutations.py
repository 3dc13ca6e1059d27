"""Image files of many formats, and mutations of them by number."""

import re
import struct
import zlib

import cv2
import numpy as np
import tifffile


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
# Compressions, and small numbers.
CODES = (0, 2, 3, 4, 5, 6, 7, 8, 32767, 32773, 32946, 34712, 34887, 34925, 50000, 50001, 50002)
WORDS = ("", "0", "1", "-1", "2", "65536", "2147483648", "9" * 30, "1e9", "nan", "x")
WORDS += ('"', "<", "\\u00e9", "\n", "Z" * 50)


def numbers_of(path):
    """(place, length) of the numbers that say how a file is read: in header and directories."""
    # Width, height, bits, colour, compression, filter, interlace; length of the next chunk.
    if path.suffix == ".png":
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
    """A TIFF's description, or None: place of its entry, text, format of two numbers."""
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
        # Else little but the header's checksum would be tested.
        if self.path.suffix == ".png" and self.choice([True, True, True, False]):
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
        """Change a number that matters, also to one from elsewhere or to the place of that one."""
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
        """Change numbers in the description to words; it moves to the end, as it may grow."""
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
