"""Files that no verb can read, and files that are wrong for one purpose."""

import pytest
from command_shell import named, refused, skip_what_root_may, spread

NOT_READABLE = {
    "missing": "missing.tif",
    "directory": "folder.tif",
    "directory without extension": "folder",
    "empty": "empty.tif",
    "empty PNG": "empty.png",
    "cut short": "cut.tif",
    "header only": "head.tif",
    "cut PNG": "cut.png",
    "cut JPEG": "cut.jpg",
    "unknown extension": "noisy.xyz",
    "no extension": "noisy",
    "text": "text.tif",
    "text named .png": "text.png",
    "text named .jpg": "text.jpg",
    "damaged deflate": "deflate.tif",
    "damaged LZW": "lzw.tif",
    "damaged zstd": "zstd.tif",
    "damaged PNG": "damaged.png",
    "pages in a circle": "circle.tif",
    "unreadable": "unreadable.tif",
    "link to itself": "loop.tif",
    "link to nothing": "dangling.tif",
    "pipe": "pipe.tif",
    "RGB": "rgb.tif",
    "RGB PNG": "rgb.png",
    "RGB JPEG": "rgb.jpg",
    "complex": "complex.tif",
    "bool": "bool.tif",
    "NaN": "nan.tif",
    "infinite": "inf.tif",
    "beyond float32": "huge.tif",
    "empty stack": "nothing.tif",
    "one-dimensional": "line.tif",
}
READERS = {
    "denoise": "denoise {} -o out",
    "denoise PSF": "denoise noisy.tif -o out --psf {}",
    "train": "train {} -o out",
    "sweep": "sweep {} -o out",
    "sweep reference": "sweep noisy.tif -o out --reference {}",
    "psf": "psf {} -o out.tif",
    "filter": "filter {} -o out",
    "evaluate": "evaluate {} --reference truth.tif",
    "evaluate reference": "evaluate noisy.tif --reference {}",
    "info": "info {}",
}
# `info` does not read pixels.
PIXELS = ("damaged deflate", "damaged LZW", "damaged zstd", "NaN", "infinite", "beyond float32")
# NaN marks pixels without data, which a training leaves out and a result keeps.
GAPS_ALLOWED = ("denoise", "filter", "train", "sweep")
NO_ERRORS = [
    *(("info", kind) for kind in PIXELS),
    *((verb, "NaN") for verb in GAPS_ALLOWED),
]
COMPILED = ("filter grey levels too large", "filter grey levels too large with a box")
UNSUITABLE = {
    "denoise a constant": "denoise constant.tif -o out",
    "denoise zeros": "denoise zero.tif -o out",
    "denoise grey levels too large": "denoise large.tif -o out",
    "denoise grey levels too large with a model": "denoise large.tif -o out --model good",
    "denoise grey levels too small": "denoise small.tif -o out",
    "denoise an image too small": "denoise tiny.tif -o out --psf none",
    "denoise a pixel": "denoise pixel.tif -o out --psf none",
    "denoise a row": "denoise row.tif -o out --psf none",
    "denoise a file into itself": "denoise full/noisy_denoised.tif -o full --overwrite",
    "train on a constant": "train constant.tif -o out",
    "train on grey levels too large": "train large.tif -o out",
    "train on a pixel": "train pixel.tif -o out --psf none",
    "sweep a constant": "sweep constant.tif -o out",
    "sweep a pixel": "sweep pixel.tif -o out",
    "sweep with a constant reference": "sweep noisy.tif -o out --reference constant.tif",
    "sweep with a reference of other size": "sweep noisy.tif -o out --reference other_size.tif",
    "sweep with a reference of other frames": "sweep noisy.tif -o out --reference two.tif",
    "psf of a constant": "psf constant.tif -o out.tif",
    "psf of zeros": "psf zero.tif -o out.tif",
    "psf of noise": "psf other_size.tif -o out.tif",
    "psf of a pixel": "psf pixel.tif -o out.tif",
    "psf of a row": "psf row.tif -o out.tif",
    "psf of saturated beads": "psf saturated.tif -o out.tif",
    "filter grey levels too large": "filter large.tif -o out",
    "filter grey levels too large with a box": "filter large.tif -o out --filter box",
    "filter a tiny image": "filter tiny4.tif -o out",
    "filter a pixel": "filter pixel.tif -o out",
    "filter a row": "filter row.tif -o out",
    "filter a volume without Z": "filter noisy.tif -o out --filter box3d",
    "evaluate other size": "evaluate noisy.tif --reference other_size.tif",
    "evaluate other frames": "evaluate noisy.tif --reference two.tif",
    "evaluate constant reference": "evaluate noisy.tif --reference constant.tif",
    "evaluate a pixel": "evaluate pixel.tif --reference pixel.tif",
    "evaluate a tiny image": "evaluate tiny4.tif --reference tiny4.tif",
}


@pytest.mark.parametrize("words", spread(READERS, NOT_READABLE, NO_ERRORS))
def test_files_that_cannot_be_read(shell, words):
    skip_what_root_may(words)
    name = words.split()[-1] if words.endswith(tuple(NOT_READABLE.values())) else words.split()[-3]
    assert name in refused(shell, words.split())


@pytest.mark.parametrize("words", named(UNSUITABLE, COMPILED))
def test_files_that_are_wrong_for_a_purpose(shell, words):
    refused(shell, words.split())
