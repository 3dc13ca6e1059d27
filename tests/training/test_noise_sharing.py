"""Whether neighbours share their noise: found where they do, and nothing done where they do not."""

import jax
import numpy as np
import pytest
import scipy.ndimage

from jaxdenoise.config import TrainConfig, UNetConfig
from jaxdenoise.network.denoiser import Scale
from jaxdenoise.training import noise_sharing
from jaxdenoise.training.fit import instant_of, prepare_instant
from jaxdenoise.training.noise_sharing import decide
from jaxdenoise.training.problem import prepare

AUTO = UNetConfig(filters=32)


def discs(size=192, sigma=1.5, seed=0):
    """A scene (1, H, W) of blurred discs, from 0 to 1."""
    draws = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size]
    image = np.zeros((size, size))
    for row, column, radius in draws.uniform((0, 0, 4), (size, size, 12), (size // 8, 3)):
        image += draws.uniform(0.3, 1) * ((y - row) ** 2 + (x - column) ** 2 < radius**2)
    image = scipy.ndimage.gaussian_filter(image, sigma)
    return (image / image.max())[None]


def noise(shape, sigmas=(0.0, 0.0), seed=1):
    values = np.random.default_rng(seed).normal(size=shape)
    values = scipy.ndimage.gaussian_filter(values, (0, *sigmas), mode="wrap")
    return values / values.std()


def decided(frames, *, network=AUTO, blind="auto", patch_size=96):
    frames = np.asarray(frames - frames.min(), np.float32)
    scale = Scale(0.0, frames.mean(), frames.std())
    return decide(frames, scale=scale, network=network, blind=blind, patch_size=patch_size)


@pytest.fixture(autouse=True)
def no_network(request, monkeypatch):
    """The shipped network takes seconds to compile; only slow tests wait for it."""
    if "slow" not in request.keywords:
        monkeypatch.setattr(noise_sharing, "_network_errors", None)


@pytest.mark.parametrize("contrast", [2, 10, 50])
@pytest.mark.parametrize("sigma", [1.5, 3.0])
def test_white_noise_is_independent(contrast, sigma):
    scene = contrast * discs(sigma=sigma)
    result = decided(scene + noise(scene.shape))
    assert (result.stride, result.blind) == (1, (0, 0))
    assert result.text.startswith("noise: independent from pixel to pixel (")


def test_photon_noise_is_independent():
    photons = np.random.default_rng(2).poisson(0.5 + 30 * discs())
    result = decided(photons.astype(float))
    assert (result.stride, result.blind) == (1, (0, 0))


def test_smooth_images_without_noise_are_left_alone():
    scene = 1000 * discs(sigma=3)
    photons = np.random.default_rng(3).poisson(scene + 100).astype(float)
    for image in (scene, scipy.ndimage.gaussian_filter(photons, (0, 1.2, 1.2))):
        result = decided(image)
        assert (result.stride, result.blind) == (1, (0, 0))


def test_uniform_texture_of_spots_is_no_noise():
    draws = np.random.default_rng(4)
    spots = (draws.random((1, 192, 192)) < 0.15) * draws.lognormal(0, 0.5, (1, 192, 192))
    result = decided(scipy.ndimage.gaussian_filter(spots, (0, 0.7, 0.7)))
    assert (result.stride, result.blind) == (1, (0, 0))
    assert "as alike as those of structure" in result.text


def test_noise_shared_along_rows_hides_neighbours_along_rows():
    scene = 8 * discs()
    result = decided(scene + noise(scene.shape, (0, 0.7)), network=UNetConfig(stride=1))
    assert result.stride == 1
    assert result.blind[0] == 0
    assert 1 <= result.blind[1] <= 2
    assert "blind spots hide 1 x" in result.text
    turned = decided(
        (scene + noise(scene.shape, (0, 0.7))).swapaxes(1, 2), network=UNetConfig(stride=1)
    )
    assert turned.blind == result.blind[::-1]


def test_a_movie_tells_the_noise_of_its_bright_parts():
    """The flattest blocks of a frame are dark and hold little of the photon noise."""
    draws = np.random.default_rng(5)
    scene = 25 * discs(128, sigma=3) + 1
    photons = draws.poisson(np.repeat(scene, 8, axis=0)) - scene
    shared = scipy.ndimage.convolve1d(photons, [0.3, 1, 0.3], axis=2, mode="wrap")
    result = decided(scene + shared, network=UNetConfig(stride=1))
    assert result.blind[0] == 0
    assert result.blind[1] in (1, 2)


def test_the_same_frames_decide_the_same():
    frames = 8 * discs() + noise((1, 192, 192), (0.7, 0.7))
    asked = {"network": UNetConfig(stride=1)}
    assert decided(frames, **asked) == decided(frames, **asked) != decided(frames[:, ::2, ::2])
    # Grey levels of another camera do not change the choice.
    assert decided(300 * frames, **asked).blind == decided(frames, **asked).blind != (0, 0)


def test_blind_spots_fit_into_patches():
    frames = noise((1, 192, 192), (0.7, 0.7))
    for patch_size in (8, 16, 96):
        hidden = decided(frames, network=UNetConfig(stride=1), patch_size=patch_size).blind
        assert max(hidden) <= (patch_size - 2) // 4


def test_small_images_cannot_tell():
    result = decided(noise((3, 95, 300), (0.7, 0.7)))
    assert (result.stride, result.blind) == (1, (0, 0))
    assert "below 96 pixels" in result.text


def test_constant_blocks_cannot_tell():
    frames = np.zeros((1, 128, 128))
    frames[0, 5, 5] = 1
    assert decided(frames)[:2] == (1, (0, 0))


def test_what_was_asked_for_is_kept():
    frames = noise((1, 192, 192), (0.7, 0.7))
    assert decided(frames, network=UNetConfig(stride=3), blind=(2, 0))[:2] == (3, (2, 0))
    assert decided(frames, network=UNetConfig(stride=1)).stride == 1


@pytest.mark.slow
def test_a_stride_for_noise_that_both_axes_share():
    scene = 8 * discs()
    frames = np.float32(100 + scene + noise(scene.shape, (0.7, 0.7)))
    result = decided(frames)
    assert result.stride == 2
    assert min(result.blind) >= 2
    assert "stride 2, blind spots hide" in result.text
    with pytest.warns(UserWarning, match="neighbouring pixels share their noise"):
        plan = prepare(
            jax.random.key(0), frames, psf=np.ones((1, 1)), config=TrainConfig(network=AUTO)
        )
    assert (plan.settings.network.stride, plan.settings.blind) == result[:2]
    assert result.text in plan.evidence


@pytest.mark.slow
@pytest.mark.filterwarnings("error:neighbouring pixels share their noise")
def test_the_untrained_network_has_a_stride_but_no_blind_spots():
    scene = 8 * discs()
    frames = np.float32(100 + scene + noise(scene.shape, (0.7, 0.7)))
    plan = prepare_instant(frames)
    denoiser = instant_of(plan)
    assert denoiser.config == plan.settings
    assert (plan.settings.network.stride, plan.settings.blind) == (2, (0, 0))
    assert "stride 2; estimated error" in plan.evidence[0]
