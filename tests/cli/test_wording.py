import pytest

from jaxdenoise.cli.wording import in_flags

SENTENCES = [
    ("denoise", "overwrite=True replaces it", "--overwrite replaces it"),
    ("train", "resume=True, overwrite=True", "--resume, --overwrite"),
    ("denoise", "a.tif: the file exists; report=False writes none", "{}; --no-report writes none"),
    ("denoise", 'say format="zarr"', "say --format zarr"),
    ("denoise", "name them with axes='YXC'.", "name them with --axes YXC."),
    ("denoise", "tile_size=8: too small", "--tile-size 8: too small"),
    ("denoise", "blind=(1, 2) hides", "--blind 1,2 hides"),
    ("denoise", "give pixel_size=..., in micrometres", "give --pixel-size, in micrometres"),
    ("denoise", "instant=... goes", "--instant goes"),
    ("sweep", "psfs=(0.5, 'a.tif')", "--psf 0.5,a.tif"),
    ("filter", 'sigma="auto" (or size=5)', "--sigma auto (or --size 5)"),
    (
        "train",
        "coordinator=..., count=... and index=...",
        "--coordinator, --processes and --process",
    ),
    # An option of another verb is one, too.
    ("denoise", "train with resume=True first", "train with --resume first"),
    # What is no flag stays.
    ("denoise", "overwrite=False, momentum=0.9", "overwrite=False, momentum=0.9"),
    ("denoise", "run/psf=1/a.tif: no such file", "run/psf=1/a.tif: no such file"),
    ("denoise", "a == b, x=1, =", "a == b, x=1, ="),
]


@pytest.mark.parametrize(("verb", "text", "expected"), SENTENCES)
def test_options_become_flags(verb, text, expected):
    start = text.split(";")[0]
    assert in_flags(text, verb) == expected.format(start)
