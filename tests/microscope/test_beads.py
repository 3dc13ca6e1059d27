"""A PSF from beads: synthetic ones whose PSF is known, and a real stack if it is there."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage, special

from jaxdenoise.io.images import read
from jaxdenoise.microscope.beads import measure_psf
from jaxdenoise.microscope.optics import widefield_sigma
from jaxdenoise.microscope.psf import gaussian_psf, normalized_psf
from jaxdenoise.microscope.widths import fwhm_from_sigma

REAL = Path(__file__).parents[3] / "shared" / "data" / "beads" / "Bead_Image1_crop.tif"
few = settings(deadline=None, max_examples=6)
seeds = st.integers(0, 2**32 - 1)
widths = st.tuples(st.floats(1, 3), st.floats(1, 3))


def add_bead(image, y, x, height, sigma):
    rows, columns = (
        np.exp(-0.5 * ((np.arange(n) - c) / s) ** 2)
        for n, c, s in zip(image.shape, (y, x), sigma, strict=True)
    )
    image += height * np.outer(rows, columns)


def places(rng, count, step):
    """A grid of count x count centres with sub-pixel offsets, and the shape of its image."""
    centres = step * (
        0.8 + np.moveaxis(np.indices((count, count)), 0, -1).reshape(-1, 2)
    ) + rng.uniform(-2, 2, (count**2, 2))
    return centres, (int(step * (count + 0.6)),) * 2


def scene(sigma, *, seed=0, noise=10.0, count=4):
    """Beads of 300 to 600 grey levels on a background of 100, and their centres."""
    rng = np.random.default_rng(seed)
    centres, shape = places(rng, count, int(11 * max(sigma) + 10))
    image = np.full(shape, 100.0)
    for (y, x), height in zip(centres, rng.uniform(300, 600, len(centres)), strict=True):
        add_bead(image, y, x, height, sigma)
    return image + noise * rng.normal(size=shape), centres


def distances(found, centres):
    return np.array([np.linalg.norm(centres - position, axis=1).min() for position in found])


def only(rejected):
    return {reason: count for reason, count in rejected.items() if count}


# The measurement


@pytest.mark.parametrize(
    ("sigma", "noise"),
    [
        ((0.8, 0.8), 10),
        ((1, 2), 0),
        ((2.5, 1.5), 10),
        ((3, 3), 10),
        *(
            pytest.param(sigma, noise, marks=pytest.mark.robustness)
            for sigma, noise in (
                ((0.8, 0.8), 0),
                ((1, 1), 0),
                ((1, 1), 10),
                ((1, 2), 10),
                ((2.5, 1.5), 0),
                ((3, 3), 0),
            )
        ),
    ],
    ids=str,
)
def test_a_gaussian_psf_comes_back(sigma, noise):
    image, centres = scene(sigma, noise=noise)
    found = measure_psf(image)
    assert found.sigma == pytest.approx(sigma, rel=0.05)
    assert found.fwhm == pytest.approx([fwhm_from_sigma(s) for s in sigma], rel=0.05)
    assert len(found.positions) == len(centres)
    assert distances(found.positions, centres).max() < (0.1 if noise else 0.001)
    assert only(found.rejected) == {}
    expected = gaussian_psf(sigma, size=found.psf.shape)
    np.testing.assert_allclose(found.psf, expected, atol=0.05 * expected.max())


def test_photon_noise_and_few_grey_levels_do_little():
    image, _ = scene((1.5, 2.0), noise=0)
    counts = (
        np.random.default_rng(1).poisson(image / 8).clip(0, 254).astype(np.uint8)
    )  # background 12, beads 40 to 75
    found = measure_psf(counts)
    assert found.sigma == pytest.approx((1.5, 2.0), rel=0.05)
    assert found.fwhm == pytest.approx((3.53, 4.71), rel=0.05)


def test_one_bead_is_enough():
    image = np.zeros((41, 41))
    add_bead(image, 20.3, 19.6, 50, (2, 2))
    found = measure_psf(image)
    assert found.sigma == pytest.approx((2, 2), rel=1e-3)
    np.testing.assert_allclose(found.positions, [[20.3, 19.6]], atol=1e-4)
    assert found.planes.tolist() == [0]
    assert found.noise < 1e-3


def test_the_noise_of_the_mean_bead_falls_with_their_number():
    noise = [measure_psf(scene((1.5, 1.5), count=count)[0]).noise for count in (2, 6)]
    assert noise[0] / noise[1] == pytest.approx(3, rel=0.3)
    assert noise[0] == pytest.approx(10 / 450 / 2, rel=0.3)


def test_an_airy_pattern_has_the_widths_of_the_optics_and_keeps_its_ring():
    wide = np.hypot(*np.ix_(np.arange(-40, 41) - 0.2, np.arange(-40, 41) + 0.4))
    v = (
        2 * np.pi * 1.2 * 0.08 / 0.6 * wide
    )  # NA 1.2, pixels of 0.08 and a wavelength of 0.6 micrometres
    found = measure_psf(1000 * (2 * special.j1(v) / v) ** 2, size=25)
    assert found.sigma == pytest.approx([widefield_sigma(1.2, 0.6, pixel_size=0.08)] * 2, rel=0.03)
    assert found.fwhm == pytest.approx([0.5145 * 0.6 / 1.2 / 0.08] * 2, rel=0.01)
    ring = found.psf[12, 12 + 5]  # v = 5.03, the first ring's crest at 5.14
    assert ring / found.psf.max() == pytest.approx(0.0175, abs=0.003)


def test_the_psf_may_be_of_any_odd_size_and_is_one_that_a_training_takes():
    image, _ = scene((1, 2))
    assert measure_psf(image).psf.shape == (9, 17)
    assert measure_psf(image, size=11).psf.shape == (11, 11)
    psf = measure_psf(image, size=(7, 13)).psf
    assert psf.shape == (7, 13)
    assert psf.dtype == np.float32
    np.testing.assert_allclose(normalized_psf(psf), psf, rtol=1e-6)


def test_the_size_of_the_beads_can_be_taken_out():
    axes = (
        np.arange(-60, 61) / 10
    )  # a sphere of 4 pixels' diameter, seen from above, ten samples a pixel
    y, x = np.ix_(axes, axes)
    fine = ndimage.gaussian_filter(np.sqrt(np.maximum(4 - y**2 - x**2, 0)), 15.0)
    image = np.pad(fine[::10, ::10], 10)
    found = measure_psf(image, bead_diameter=4)
    assert found.deconvolved_sigma == pytest.approx((1.5, 1.5), rel=0.02)
    assert found.sigma[0] > 1.7
    assert measure_psf(image).deconvolved_sigma is None


# Stacks


def test_each_bead_is_taken_from_its_sharpest_plane():
    rng = np.random.default_rng(2)
    centres, shape = places(rng, 3, 70)
    focus = rng.integers(2, 9, len(centres))
    focus[0] = 10  # in focus beyond the stack
    stack = np.full((11, *shape), 20.0)
    for plane, image in enumerate(stack):
        for (y, x), best in zip(centres, focus, strict=True):
            blur = 1 + 0.3 * abs(plane - best)
            add_bead(image, y, x, 300 / blur**2, (2 * blur, 1.5 * blur))
    found = measure_psf(stack + rng.normal(size=stack.shape))
    assert found.sigma == pytest.approx((2, 1.5), rel=0.05)
    nearest = [np.linalg.norm(centres - position, axis=1).argmin() for position in found.positions]
    assert sorted(nearest) == list(range(1, 9))
    assert found.planes.tolist() == focus[nearest].tolist()
    assert only(found.rejected) == {"focus": 1}


# What is left out


def test_unsuitable_spots_are_left_out_and_counted():
    sigma = (1.5, 2.0)
    image, centres = scene(sigma, noise=0)
    for i, offset in ((1, (3.5, 0)), (2, (0, 5)), (6, (2.5, 2.5))):  # too near to be told apart
        add_bead(image, *(centres[i] + offset), 450, sigma)
    add_bead(image, *(centres[5] + (0, 9)), 300, sigma)
    add_bead(image, *centres[9], 45000, sigma)
    add_bead(image, *centres[10], 2000, (2.1, 2.8))  # an aggregate
    add_bead(image, *centres[11], 2000, sigma)
    add_bead(image, *(centres[12] + (6, 0)), 10, sigma)  # too faint to matter
    add_bead(image, 4, 40, 500, sigma)
    image[42, 74] += 1500  # a hot pixel
    found = measure_psf(np.minimum(image + np.random.default_rng(3).normal(size=image.shape), 4095))
    assert found.rejected == {
        "border": 1,
        "saturated": 1,
        "focus": 0,
        "neighbour": 2,
        "shape": 5,
        "bright": 1,
    }
    assert len(found.positions) == 9
    assert distances(found.positions, centres[[0, 3, 4, 7, 8, 12, 13, 14, 15]]).max() < 0.1
    assert found.sigma == pytest.approx(sigma, rel=0.05)
    assert found.fwhm == pytest.approx([fwhm_from_sigma(s) for s in sigma], rel=0.05)


def test_hot_pixels_are_no_beads():
    image = np.random.default_rng(0).normal(100, 1, (64, 64))
    image[[20, 40], [20, 40]] = 5000
    with pytest.raises(
        ValueError,
        match=r"^measure_psf: none of 2 spots can be used \(2 shape\); give separate beads",
    ):
        measure_psf(image)


@pytest.mark.parametrize(
    ("top", "dtype", "options"),
    [
        (255, np.uint8, {}),
        (4095, np.float32, {}),
        (1234.5, np.float64, {}),
        (65535, np.uint16, {"saturation": 300}),
    ],
)
def test_saturated_beads_are_refused(top, dtype, options):
    image, _ = scene((2, 2), count=2)
    image = (image * top / 250).clip(0, top).astype(dtype)
    with pytest.raises(
        ValueError,
        match=r"^measure_psf: none of 4 spots can be used \(4 saturated\); .* none is saturated$",
    ):
        measure_psf(image, **options)


@pytest.mark.parametrize(
    ("image", "options", "message"),
    [
        (
            np.zeros((2, 3, 4, 5)),
            {},
            "measure_psf: expected an image (H, W) or a stack (Z, H, W), got shape (2, 3, 4, 5); "
            "give one channel",
        ),
        (
            np.zeros((0, 5)),
            {},
            "measure_psf: expected an image (H, W) or a stack (Z, H, W), got shape (0, 5); give "
            "one channel",
        ),
        (np.zeros((9, 9), complex), {}, "measure_psf: expected integers or floats, got complex128"),
        (
            np.full((9, 9), np.nan),
            {},
            "measure_psf: 81 pixels are NaN or infinite; replace or crop them",
        ),
        (
            np.full((30, 30), 7),
            {},
            "measure_psf: no bead found: no spot rises 10 times the noise (0 grey levels after "
            "smoothing) above the background; "
            "give an image of bright, separate beads",
        ),
        (
            scene((1, 1))[0],
            {"size": 4},
            "measure_psf: size must be an odd number of pixels, at least 3, or a pair (y, x) of "
            "them, not 4",
        ),
        (
            scene((1, 1))[0],
            {"size": (5, 7, 9)},
            "measure_psf: size must be an odd number of pixels, at least 3, or a pair (y, x) of "
            "them, not (5, 7, 9)",
        ),
        (
            scene((3, 2))[0],
            {"size": 5},
            "measure_psf: size 5 cuts into the beads; give at least 15x11 pixels (y, x)",
        ),
        (
            scene((1, 1))[0][:24, :24],
            {"size": 33},
            "measure_psf: a bead takes 37x37 pixels, the image has 24x24; give a larger image or "
            "smaller size",
        ),
        (
            scene((1, 1), noise=0)[0],
            {"bead_diameter": 100},
            "measure_psf: spots of sigma 1, 1 pixels (y, x) cannot be beads of diameter 100; "
            "give bead_diameter in pixels",
        ),
    ],
)
def test_errors_say_what_to_do(image, options, message):
    with pytest.raises(ValueError) as error:  # noqa: PT011 - compared whole
        measure_psf(image, **options)
    assert str(error.value) == message


def test_a_bead_in_too_much_noise_is_refused():
    image = np.random.default_rng(0).normal(100, 10, (121, 121))
    add_bead(image, 60, 60, 40, (6, 6))
    with pytest.raises(
        ValueError,
        match=r"^measure_psf: the beads are too few or too faint for their noise; give more",
    ):
        measure_psf(image)


def test_noise_alone_holds_no_bead():
    for seed in range(5):
        with pytest.raises(ValueError, match=r"^measure_psf: no bead found"):
            measure_psf(np.random.default_rng(seed).normal(100, 5, (128, 128)))


# Laws


@few
@given(seeds, widths)
def test_a_psf_is_a_psf(seed, sigma):
    found = measure_psf(scene(sigma, seed=seed, count=2)[0])
    assert found.psf.sum() == pytest.approx(1, abs=1e-5)
    assert found.psf.min() >= 0
    assert [n % 2 for n in found.psf.shape] == [1, 1]
    assert np.unravel_index(found.psf.argmax(), found.psf.shape) == pytest.approx(
        [n // 2 for n in found.psf.shape], abs=1
    )


@few
@given(seeds, widths, st.floats(-6, 6), st.floats(-1e4, 1e4))
def test_gain_and_offset_change_nothing(seed, sigma, exponent, offset):
    image, _ = scene(sigma, seed=seed, count=2)
    found, scaled = measure_psf(image), measure_psf(10**exponent * (image + offset))
    np.testing.assert_allclose(scaled.psf, found.psf, atol=1e-5)
    np.testing.assert_allclose(scaled.positions, found.positions, atol=1e-4)
    np.testing.assert_allclose([scaled.sigma, scaled.fwhm], [found.sigma, found.fwhm], rtol=1e-4)
    assert scaled.rejected == found.rejected


@few
@given(seeds, widths)
def test_transposing_swaps_the_axes(seed, sigma):
    image, _ = scene(sigma, seed=seed, count=2)
    found, swapped = measure_psf(image), measure_psf(image.T)
    np.testing.assert_allclose(swapped.psf.T, found.psf, atol=1e-5)
    np.testing.assert_allclose(
        [swapped.sigma[::-1], swapped.fwhm[::-1]], [found.sigma, found.fwhm], rtol=1e-4
    )


# A real stack


@pytest.mark.skipif(not REAL.exists(), reason="the data folder is not there")
def test_a_real_confocal_stack():
    image = read(REAL)
    found = measure_psf(image.frames)
    assert len(found.positions) == 4
    assert only(found.rejected) == {}
    assert found.planes.tolist() == [24, 24, 24, 24]
    assert found.sigma == pytest.approx((4.2, 3.1), rel=0.03)
    assert found.fwhm == pytest.approx((10.7, 7.5), rel=0.03)
    micrometres = np.multiply(found.fwhm, image.info.pixel_size_um)
    assert micrometres == pytest.approx([0.241, 0.169], rel=0.03)
