import numpy as np
import pytest

from jaxdenoise.io.info import ImageInfo
from jaxdenoise.io.units import LENGTHS, TIMES, size_along, unit_along


@pytest.mark.parametrize(("axis", "units"), [("X", LENGTHS), ("T", TIMES)])
def test_each_spelling_means_one_unit(axis, units):
    words = [word for unit in units for word in (unit.symbol, unit.name, *unit.spellings)]
    assert len(words) == len(set(words))
    for unit in units:
        for word in (unit.symbol, unit.name, *unit.spellings):
            assert unit_along(axis, word) is unit


@pytest.mark.parametrize(
    ("axis", "word", "size"),
    [("X", "inch", 25400.0), ("Z", "\u00c5", 1e-4), ("Y", "\u03bcm", 1.0), ("T", "min", 60.0)],
)
def test_sizes(axis, word, size):
    assert size_along(axis, word) == size


@pytest.mark.parametrize("word", ["pixel", "", None, 3, ["um"], {"um": 1}, "s"])
def test_other_words_mean_no_length(word):
    assert size_along("X", word) is None
    info = ImageInfo("YX", (2, 2), np.dtype("u1"), metadata={"unit": word, "spacing": 1.0})
    assert info.pixel_size_um is None
    assert info.z_spacing is None
