import numpy as np
import pytest

from jaxdenoise.imaging.rounding import Rounding, dtype_for

RNG = np.random.default_rng(0)
Y, X = np.mgrid[:96, :96]
SCENE = 0.5 + 0.5 * np.sin(X / 9) * np.sin(Y / 7)


def denoised_and_noisy(scene, noise):
    noisy = np.rint(scene + RNG.normal(0, noise, scene.shape))
    return noisy, scene + RNG.normal(0, 0.2 * noise, scene.shape)


@pytest.mark.parametrize(
    ("noise", "kept"), [(0.5, False), (0.7, False), (1.5, True), (3.0, True), (30.0, True)]
)
def test_levels_finer_than_a_tenth_of_the_removed_error_are_kept(noise, kept):
    noisy, result = denoised_and_noisy(100 + 50 * SCENE, noise)
    # 1/12 of a squared level, as rounding costs, against the noise's variance and rounding's own.
    assert (0.1 * (1.04 * noise**2 + 1 / 12) > 1 / 12) == kept
    found = dtype_for(noisy, result, "uint16")
    assert found.dtype == ("uint16" if kept else "float32")
    assert (found.text is None) == kept


def test_the_frame_and_what_rounding_costs_are_said():
    noisy, result = map(
        np.stack, zip(*(denoised_and_noisy(100 * SCENE, n) for n in (3, 0.5, 3)), strict=True)
    )
    text = dtype_for(noisy, result, "uint16").text
    cost = np.mean((np.rint(result[1]) - result[1]) ** 2) / np.mean((noisy[1] - result[1]) ** 2)
    assert text == (
        f"float32: whole grey levels would cost {100 * cost:.2g} % of what was gained (frame 2)"
    )


def test_single_photons_are_not_rounded_away():
    scene = np.full((96, 96), 0.02)
    noisy = RNG.poisson(scene)
    found = dtype_for(noisy, scene, "uint8")
    assert found.dtype == np.float32
    assert found.text.endswith("move the mean by 100 %")


def test_what_loses_nothing_is_kept():
    noisy = RNG.poisson(np.full((2, 64, 64), 0.3))
    assert dtype_for(noisy, noisy, "uint8") == (np.uint8, None)  # nothing was changed
    assert dtype_for(noisy, noisy // 2, "uint8") == (np.uint8, None)  # whole numbers, as a median
    assert dtype_for(noisy, 0.3 * noisy, "float32").text is None
    assert dtype_for(noisy, 0.3 * noisy, "float64").dtype == np.float64
    blank = np.zeros((64, 64))
    assert dtype_for(blank, blank + 1e-3, "uint8").text is None  # nothing to gain in it


def test_saturation_counts():
    noisy, result = denoised_and_noisy(200 + 50 * SCENE, 5.0)
    assert dtype_for(noisy, result, "uint8").text is None
    brighter = np.where(SCENE > 0.9, result + 100, result)
    assert "float32: whole grey levels" in dtype_for(noisy, brighter, "uint8").text
    assert "the levels of float16" in dtype_for(300 * noisy, 300 * brighter, "float16").text


def test_a_mean_of_0_is_no_reason():
    noisy, result = denoised_and_noisy(1000 * (SCENE - SCENE.mean()), 20.0)
    assert dtype_for(noisy, result - result.mean(), "int16").text is None


def test_tiles_add_up_to_the_frames():
    noisy, result = map(
        np.stack, zip(*(denoised_and_noisy(9 * SCENE, n) for n in (0.4, 2)), strict=True)
    )
    rounding = Rounding("uint8", 2)
    for n, rows, columns in np.ndindex(2, 3, 2):
        place = n, slice(32 * rows, 32 * rows + 32), slice(48 * columns, 48 * columns + 48)
        rounding.add(n, noisy[place], result[place])
    assert rounding.decision() == dtype_for(noisy, result, "uint8")
    assert Rounding("uint8", 2).decision() == (np.uint8, None)


def test_invalid_pixels_count_for_nothing():
    noisy, result = denoised_and_noisy(100 + 50 * SCENE, 3.0)
    noisy[:9], result[20:30] = np.nan, np.inf
    assert dtype_for(noisy, result, "uint16").text is None
