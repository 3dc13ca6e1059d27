import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxdenoise.workflows.stacks import training_stack


def numbered(count, height, width, start=0):
    """Frames of which each pixel says where it is."""
    return np.arange(start, start + count * height * width, dtype=np.float32).reshape(
        count, height, width
    )


def test_what_fits_is_kept_whole():
    first, second = numbered(2, 5, 7), numbered(1, 5, 7, 1000)
    np.testing.assert_array_equal(
        training_stack([first, second], seed=0)[0], np.concatenate([first, second])
    )


def test_frames_of_other_sizes_are_cut_into_pieces_whose_pixels_count_once():
    first, second = numbered(2, 70, 100), numbered(1, 150, 80, 14000)
    stack, targets = training_stack([first, second], seed=0)
    assert stack.shape == targets.shape == (2 * 2 + 3, 70, 80)
    counted = np.sort(stack[targets])
    np.testing.assert_array_equal(counted, np.arange(14000 + 150 * 80))
    small = numbered(1, 20, 300)
    stack, targets = training_stack([first, small], seed=0)
    np.testing.assert_array_equal(stack, first)
    assert targets is None


@settings(max_examples=25)
@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.integers(20, 600), st.integers(20, 600))
def test_squares_are_parts_of_the_frames(seed, count, height, width):
    sources = [numbered(count, height, width), numbered(2, height, width, 2**22)]
    pixels = (count + 2) * height * width - 1
    stack, _ = training_stack(sources, seed=seed, pixels=pixels)
    side_y, side_x = min(512, height), min(512, width)
    assert stack.shape[1:] == (side_y, side_x)
    assert 1 <= len(stack) <= max(1, pixels // (side_y * side_x))
    for square in stack:
        place = int(square[0, 0])
        source = sources[place >= 2**22]
        n, y, x = np.unravel_index(place - (2**22 if place >= 2**22 else 0), source.shape)
        np.testing.assert_array_equal(square, source[n, y : y + side_y, x : x + side_x])
    np.testing.assert_array_equal(training_stack(sources, seed=seed, pixels=pixels)[0], stack)


def test_every_place_is_as_likely_as_any_other():
    sources = [np.full((3, 520, 520), 1, np.float32), np.full((1, 520, 520), 2, np.float32)]
    drawn = np.concatenate(
        [training_stack(sources, seed=seed, pixels=3 * 512**2)[0][:, 0, 0] for seed in range(200)]
    )
    assert abs(np.mean(drawn == 1) - 0.75) < 0.06
