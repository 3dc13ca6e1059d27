import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxdenoise.io.frames import Frames, Target
from jaxdenoise.system.errors import ImageError

EVERYTHING = (slice(None), slice(None))


@st.composite
def arrays(draw):
    axes = draw(st.permutations("TCZYX").map(lambda letters: "".join(letters)))
    axes = "".join(axis for axis in axes if axis in "YX" or draw(st.booleans()))
    shape = [draw(st.integers(1, 4)) for _ in axes]
    return axes, np.arange(math.prod(shape), dtype=np.uint16).reshape(shape)


def folded(axes, array):
    """All axes but Y and X in front, as NumPy says it."""
    array = np.moveaxis(array, (axes.index("Y"), axes.index("X")), (-2, -1))
    return array.reshape(-1, *array.shape[-2:])


@given(arrays(), st.data())
def test_frames_are_the_folded_array(given, data):
    axes, array = given
    frames, expected = Frames("a.tif", array, axes), folded(axes, array)
    assert (frames.shape, len(frames), frames.size) == (
        expected.shape,
        len(expected),
        expected.size,
    )
    np.testing.assert_array_equal(np.asarray(frames), expected)
    number = data.draw(st.integers(0, len(expected) - 1))
    rows, columns = (
        slice(*sorted(data.draw(st.tuples(st.integers(0, n), st.integers(0, n)))))
        for n in expected.shape[1:]
    )
    part = frames[number, rows, columns]
    assert part.dtype == np.float32
    np.testing.assert_array_equal(part, expected[number, rows, columns])
    chosen = data.draw(st.lists(st.integers(0, len(expected) - 1), min_size=1))
    np.testing.assert_array_equal(np.asarray(frames.choose(chosen)), expected[chosen])


@given(arrays())
def test_what_is_stored_is_read_again(given):
    axes, array = given
    written = np.zeros_like(array)
    target, frames = Target("a.tif", written, axes, array.shape), folded(axes, array)
    assert target.shape == frames.shape
    for n, frame in enumerate(frames):
        target[n, : len(frame) // 2, :] = frame[: len(frame) // 2]
        target[n, len(frame) // 2 :, :] = frame[len(frame) // 2 :]
    np.testing.assert_array_equal(written, array)


def test_chosen_frames_of_chosen_frames():
    frames = Frames("a.tif", np.arange(24).reshape(6, 2, 2), "TYX")
    again = frames.choose([1, 3, 5]).choose([2, 0])
    assert list(again.numbers) == [5, 1]
    np.testing.assert_array_equal(again[0, :, :], [[20, 21], [22, 23]])


def test_values_are_rounded_saturated_and_counted():
    written = np.zeros((1, 4), np.uint8)
    target = Target("a.tif", written, "YX", written.shape)
    target[0, *EVERYTHING] = np.array([[0.5, 1.5, 255.5, -0.6]])
    np.testing.assert_array_equal(written, [[0, 2, 255, 0]])
    assert target.outside == 2


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_is_refused(bad):
    with pytest.raises(ImageError, match="1 pixels are NaN or infinite, expected finite"):
        Frames("a.tif", np.array([[0, bad]]), "YX")[0, *EVERYTHING]
    with pytest.raises(ImageError, match="1 pixels of the result are NaN"):
        Target("a.tif", np.zeros((1, 2)), "YX", (1, 2))[0, *EVERYTHING] = np.array([[0, bad]])
    with pytest.raises(ImageError, match="beyond the range of float32"):
        Frames("a.tif", np.array([[0, 1e39]]), "YX")[0, *EVERYTHING]


def test_a_damaged_part_is_one_line():
    class Damaged:
        shape, dtype = (2, 2), np.dtype("u1")

        def __getitem__(self, index):
            raise RuntimeError("bad\nchunk")

    with pytest.raises(ImageError, match=r"a.tif: cannot be read \(RuntimeError: bad chunk\)"):
        Frames("a.tif", Damaged(), "YX")[0, *EVERYTHING]


def test_whole_numbers_that_float32_cannot_hold():
    with pytest.warns(UserWarning, match="beyond 16,777,216 are rounded"):
        Frames("a.tif", np.array([[0, 2**24 + 1]], np.uint32), "YX")[0, *EVERYTHING]
    np.testing.assert_array_equal(
        Frames("a.tif", np.array([[0, 2**24]], np.uint32), "YX")[0, *EVERYTHING], [[0, 2**24]]
    )


def test_a_part_of_another_shape_than_promised_is_refused():
    class Short:
        shape, dtype = (2, 2), np.dtype("u1")

        def __getitem__(self, index):
            return np.zeros((1, 2), np.uint8)

    with pytest.raises(ImageError, match=r"shape \(1, 2\) was read where \(2, 2\) was promised"):
        Frames("a.tif", Short(), "YX")[0, *EVERYTHING]
