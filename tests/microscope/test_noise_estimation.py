"""Gain and read noise of simulated cameras, found again from their images."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdenoise.imaging.levels import quantize
from jaxdenoise.microscope import noise_estimation
from jaxdenoise.microscope.noise import poisson_gaussian_noise
from jaxdenoise.microscope.noise_estimation import estimate_noise, estimate_noise_of
from jaxdenoise.microscope.psf import convolve, gaussian_psf
from jaxdenoise.microscope.synthetic import phantom, static_scene

KEY = jax.random.key(0)


CAMERA = {"gain": 5.0, "read_std": 15.0, "offset": 0.0}
camera = jax.jit(poisson_gaussian_noise)


@functools.cache
def clean_frames(name):
    """Frames of one scene of up to 1000 grey levels, its dark and bright areas included."""
    image = phantom(jax.random.key(0), (192, 192))
    image = np.maximum(convolve(image, gaussian_psf(1.3)), 0)
    image = 1000 * image / image.max()
    if name == "moving":
        return np.stack([image, image[::-1], image.T, image[:, ::-1]])
    count, side = {"one": (1, 192), "static": (4, 192), "many": (32, 96)}[name]
    return np.repeat(image[None, :side, :side], count, axis=0)


def extra(*values):
    """A case that fast tests leave out, because others show the same."""
    return pytest.param(*values, marks=pytest.mark.robustness)


def check_estimate(noisy, *, gain, read_std, offset, rtol=(0.05, 0.1)):
    estimate = estimate_noise(noisy, offset=offset)
    np.testing.assert_allclose(estimate.gain, gain, rtol=rtol[0])
    np.testing.assert_allclose(estimate.read_std, read_std, rtol=rtol[1])


CAMERAS = [(5.0, 15.0, 0.0), (0.7, 8.0, 100.0), (40.0, 40.0, 1000.0), (3.0, 5.0, -20.0)]
LOOSE, CLOSE = (0.15, 0.2), (0.05, 0.1)
TOLERANCES = {"one": LOOSE, "static": CLOSE, "many": CLOSE, "moving": LOOSE}


@pytest.mark.parametrize(
    ("name", "levels"),
    [
        ("one", CAMERAS[0]),
        ("one", CAMERAS[1]),
        ("static", CAMERAS[2]),
        ("moving", CAMERAS[0]),
        *(extra(*case) for case in itertools.product(TOLERANCES, CAMERAS)),
    ],
    ids=str,
)
def test_the_camera_is_found_again(name, levels):
    levels = dict(zip(("gain", "read_std", "offset"), levels, strict=True))
    noisy = camera(KEY, clean_frames(name), **levels)
    check_estimate(noisy, **levels, rtol=TOLERANCES[name])


@pytest.mark.parametrize("name", ["one", "static"])
def test_single_photons_are_no_outliers(name):
    noisy = camera(KEY, clean_frames(name) * np.float32(1e-3), gain=1.0, read_std=0.0, offset=0.0)
    gain, read_std = estimate_noise(noisy)
    np.testing.assert_allclose(gain, 1, rtol=0.1)
    assert read_std < 0.1


@pytest.mark.parametrize("name", ["one", extra("static"), extra("moving")])
def test_more_noise_gives_a_larger_estimate(name):
    clean = clean_frames(name)

    def estimates(name, values):
        return [
            getattr(estimate_noise(camera(KEY, clean, **(CAMERA | {name: value}))), name)
            for value in values
        ]

    for name, values in (("gain", [3.0, 5.0, 8.0]), ("read_std", [10.0, 15.0, 25.0])):
        assert np.all(np.diff(estimates(name, values)) > 0)


@pytest.mark.parametrize(
    ("name", "factor"),
    [
        ("one", 1 / 512),
        ("static", 1000.0),
        *(extra(*case) for case in (("one", 3.0), ("one", 1000.0), ("static", 1 / 512))),
        extra("static", 3.0),
    ],
)
def test_estimates_scale_with_the_unit_and_follow_the_offset(name, factor):
    noisy = camera(KEY, clean_frames(name), **CAMERA)
    expected = estimate_noise(noisy)
    np.testing.assert_allclose(
        estimate_noise(factor * noisy), factor * np.array(expected), rtol=0.01
    )
    np.testing.assert_allclose(estimate_noise(noisy + 500, offset=500), expected, rtol=0.01)


@pytest.mark.parametrize("name", ["one", "static"])
def test_hot_and_saturated_pixels_do_not_count(name):
    noisy, rtol = np.array(camera(KEY, clean_frames(name), **CAMERA)), TOLERANCES[name]
    check_estimate(np.minimum(noisy, 500), **CAMERA, rtol=rtol)
    hot = np.random.default_rng(0).random(noisy.shape[1:]) < 1e-3
    for level in (2000, 65535):
        check_estimate(np.where(hot, level, noisy), **CAMERA, rtol=rtol)


def test_bleaching_is_not_noise():
    fading = clean_frames("static") * np.float32(0.98) ** np.arange(4)[:, None, None]
    check_estimate(camera(KEY, fading, **CAMERA), **CAMERA)


def test_stored_integers_give_the_same_estimate():
    noisy = camera(KEY, clean_frames("static"), **(CAMERA | {"offset": 100.0}))
    estimate = estimate_noise(quantize(noisy, np.uint16), offset=100)
    np.testing.assert_allclose(estimate, estimate_noise(noisy, offset=100), rtol=0.01)
    assert {x.dtype for x in estimate} == {jnp.dtype("float32")}


def test_an_image_is_a_stack_of_one():
    noisy = camera(KEY, clean_frames("one"), **CAMERA)
    np.testing.assert_array_equal(estimate_noise(noisy[0]), estimate_noise(noisy))


def test_estimates_under_jit_and_vmap():
    noisy = camera(KEY, clean_frames("static"), **CAMERA)[:, :96, :96]
    stacks, offsets = (
        jnp.stack([noisy, noisy / 2, jnp.ones_like(noisy)]),
        jnp.array([0.0, -5.0, 0.0]),
    )
    gains, read_stds = jax.jit(
        jax.vmap(lambda stack, offset: estimate_noise(stack, offset=offset))
    )(stacks, offsets)
    for i in range(2):
        np.testing.assert_allclose(
            (gains[i], read_stds[i]), estimate_noise(stacks[i], offset=offsets[i]), rtol=1e-4
        )
    assert gains[2] == read_stds[2] == 0  # what is traced cannot be refused


@pytest.mark.wrong_types
def test_what_cannot_be_estimated_is_refused():
    with pytest.raises(
        ValueError, match=r"stack must be \(N, H, W\).*16 x 16.*got shape \(3, 15, 40\)"
    ):
        estimate_noise(np.ones((3, 15, 40)))
    for shape in [(40,), (2, 3, 40, 40), (0, 40, 40)]:
        with pytest.raises(ValueError, match="stack must be"):
            estimate_noise(np.ones(shape))
    with pytest.raises(ValueError, match=r"constant, got 7.0 everywhere"):
        estimate_noise(np.full((2, 40, 40), 7, np.uint8))
    with pytest.raises(ValueError, match=r"offset must be a scalar, got shape \(2,\)"):
        estimate_noise(clean_frames("one"), offset=np.ones(2))


@pytest.mark.parametrize("frames", [1, 2, 7])
@pytest.mark.parametrize("still", [True, False])
def test_numpy_estimates_what_jax_does(frames, still):
    for seed in range(3):
        key = jax.random.key(seed)
        stack = static_scene(key, frames=frames, shape=(61, 83), read_share=0.3, offset=100.0)
        noisy = np.asarray(stack.noisy)
        if not still:
            noisy = np.stack([np.roll(frame, 5 * n, axis=0) for n, frame in enumerate(noisy)])
        expected = estimate_noise(noisy, offset=100.0)
        found = estimate_noise_of(noisy, offset=100.0)
        np.testing.assert_allclose(found, [float(value) for value in expected], rtol=2e-3)


def test_large_stacks_are_left_to_jax(monkeypatch):
    noisy = np.asarray(static_scene(jax.random.key(0), frames=2, shape=(64, 64)).noisy)
    monkeypatch.setattr(noise_estimation, "COMPILED", noisy.size - 1)
    assert estimate_noise_of(noisy) == tuple(map(float, estimate_noise(noisy)))


@pytest.mark.wrong_types
def test_numpy_checks_what_jax_checks():
    for wrong, said in ((np.ones((8, 8)), "at least 16 x 16"), (np.ones((16, 16)), "constant")):
        with pytest.raises(ValueError, match=said):
            estimate_noise_of(wrong)
