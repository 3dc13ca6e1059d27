import dataclasses
import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

import jaxdenoise as jd
from jaxdenoise.config import (
    PRETRAINED,
    PRETRAINED_MOVIES,
    PRETRAINED_VOLUMES,
    TrainConfig,
    UNetConfig,
)
from jaxdenoise.microscope import synthetic
from jaxdenoise.microscope.calibration import SIGMAS
from jaxdenoise.network import pretrained, unet
from jaxdenoise.network.denoiser import Scale
from jaxdenoise.network.settings import shape_of
from jaxdenoise.system.errors import ConfigError
from jaxdenoise.training.fit import start
from jaxdenoise.training.problem import prepare

KEY = jax.random.key(0)
PSF = jd.gaussian_psf(1.0)
PLAIN = TrainConfig(precision="float32", symmetries=1)


@pytest.fixture(scope="module")
def cells():
    """A scene like those that the network learned from, of another seed and another camera."""
    return synthetic.static_scene(
        jax.random.key(77), frames=1, shape=(160, 192), psf_sigma=1.3, psnr=22.0
    )


@pytest.mark.parametrize("network", [PRETRAINED, PRETRAINED_MOVIES, PRETRAINED_VOLUMES])
def test_the_shipped_files_are_small_and_fit_the_networks(network):
    files = list(Path(pretrained.__file__).parent.glob("*.npz"))
    assert len(files) == 3
    assert max(file.stat().st_size for file in files) < 1e6
    scale, shape = Scale(0.0, 100.0, 30.0), shape_of(network)
    shipped = pretrained.parameters(scale, 5.0, 10.0, shape)
    random = jax.eval_shape(functools.partial(unet.init, config=shape), KEY)
    assert jax.tree.map(jnp.shape, shipped) == jax.tree.map(jnp.shape, random)
    assert all(
        leaf.dtype == jnp.float32 and jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(shipped)
    )


def test_an_instant_result_is_closer_to_the_truth_than_the_best_gaussian(cells):
    result = jd.denoise(jd.instant(cells.noisy), cells.noisy).denoised[0]
    reach = float(cells.clean.max() - cells.clean.min())
    noisy = np.asarray(cells.noisy[0])
    gaussians = [
        jd.psnr(cells.clean, ndimage.gaussian_filter(noisy, sigma), data_range=reach)
        for sigma in SIGMAS[::4]
    ]
    assert jd.psnr(cells.clean, result, data_range=reach) > max(map(float, gaussians)) + 0.5


@pytest.mark.parametrize(
    ("factor", "offset"),
    [
        (3.0, -70.0),
        pytest.param(0.01, 0.0, marks=pytest.mark.robustness),
        pytest.param(1000.0, 0.0, marks=pytest.mark.robustness),
        pytest.param(1.0, 500.0, marks=pytest.mark.robustness),
    ],
)
def test_an_instant_result_follows_the_grey_levels(cells, factor, offset):
    before = jd.denoise(jd.instant(cells.noisy, config=PLAIN), cells.noisy).denoised
    changed = np.asarray(cells.noisy) * factor + offset
    after = jd.denoise(jd.instant(changed, config=PLAIN), changed).denoised
    np.testing.assert_allclose((after - offset) / factor, before, atol=1e-3 * np.ptp(before))


def test_more_noise_that_it_is_told_means_a_smoother_result(cells):
    spread = [
        np.std(
            np.diff(
                jd.denoise(
                    jd.instant(cells.noisy, noise_std=std, config=PLAIN), cells.noisy
                ).denoised,
                axis=-1,
            )
        )
        for std in (20.0, 200.0, 2000.0)
    ]
    assert spread[0] > spread[1] > spread[2]


def test_images_without_noise_come_back(cells):
    config = TrainConfig(
        network=UNetConfig(filters=32, stride=1), blind=(0, 0)
    )  # else structure looks like noise that neighbours share
    clean = jd.denoise(jd.instant(cells.clean, config=config), cells.clean).denoised
    assert jd.psnr(cells.clean, clean, data_range=float(np.ptp(cells.clean))) > 30


def at_pooling_frequencies(images):
    """Power of images (N, H, W) at the frequencies of the pooled grids over the power beside them.

    The frequencies are 1/2 and 1/4 a pixel, along y and x.
    """
    found = []
    for axis in (1, 2):
        power = np.mean(
            np.abs(np.fft.rfft(images - images.mean(), axis=axis)) ** 2, axis=(0, 3 - axis)
        )
        for place in (len(power) - 1, (len(power) - 1) // 2):
            beside = [
                power[k] for k in range(place - 6, min(place + 7, len(power))) if abs(k - place) > 1
            ]
            found.append(power[place] / np.median(beside))
    return max(found)


@pytest.mark.parametrize("trained", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_there_is_no_checkerboard(cells, trained):
    model = jd.instant(cells.noisy)
    if trained:
        model = jd.fit(
            KEY, cells.noisy, psf=PSF, config=TrainConfig.best(epochs=2, steps_per_epoch=20)
        )
    result = jd.denoise(model, cells.noisy)
    assert at_pooling_frequencies(result.denoised) < 2
    # What the PSF takes away cannot be learned from the images: a training leaves a trace of the
    # pooled grids in the deconvolved image.
    assert at_pooling_frequencies(result.deconvolved) < (4 if trained else 2)
    noise = float(np.std(cells.noisy - cells.clean))
    pattern = 0.02 * noise * (-1.0) ** np.arange(result.denoised.shape[-1])
    assert at_pooling_frequencies(result.denoised + pattern) > 2  # the test can fail


@pytest.mark.parametrize("noise", [0.0, -1.0, np.nan, np.inf])
def test_impossible_noise_is_refused(cells, noise):
    with pytest.raises(ValueError, match="noise_std must be positive"):
        jd.instant(cells.noisy, noise_std=noise)


ONE_STEP = TrainConfig(
    init="pretrained",
    patch_size=32,
    epochs=1,
    steps_per_epoch=1,
    learning_rate=1e-9,
    validation_patches=2,
    precision="float32",
)


@pytest.fixture(scope="module")
def trained(cells):
    return jd.fit(KEY, cells.noisy, psf=PSF, config=ONE_STEP)


def assert_begins_with_the_shipped_weights(denoiser, cells):
    instant = jd.instant(cells.noisy, config=ONE_STEP)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), denoiser.last, instant.last
    )


def test_a_training_begins_with_the_shipped_weights(trained, cells):
    assert_begins_with_the_shipped_weights(trained, cells)


@pytest.mark.slow
def test_the_shipped_weights_validate_better_than_random_ones(cells):
    config = dataclasses.replace(ONE_STEP, validation_patches=16)
    pretrained_start, random_start = (
        jd.fit(KEY, cells.noisy, psf=PSF, config=dataclasses.replace(config, init=init))
        for init in ("pretrained", "random")
    )
    assert (
        pretrained_start.history["validation_loss"][0] < random_start.history["validation_loss"][0]
    )


@pytest.mark.slow
def test_a_sweep_begins_with_them_too(cells):
    found = jd.sweep(KEY, cells.noisy, psfs=[PSF], config=ONE_STEP)
    assert_begins_with_the_shipped_weights(found.denoiser, cells)


def test_another_network_is_refused():
    with pytest.raises(ConfigError, match="network must be"):
        TrainConfig(init="pretrained", network=UNetConfig(filters=16))


def test_a_model_that_began_so_is_kept_and_read(trained, tmp_path):
    jd.save(tmp_path / "run", trained)
    again = jd.load(tmp_path / "run")
    assert again.config == trained.config
    jax.tree.map(np.testing.assert_array_equal, again.last, trained.last)


def test_random_weights_do_not_depend_on_the_images(cells):
    config = TrainConfig(network=UNetConfig(depth=2, filters=4), patch_size=32)
    plan = prepare(KEY, cells.noisy, psf=PSF, config=config)
    a, b = (start(KEY, plan.settings, some).state.params for some in (plan.problem, None))
    jax.tree.map(np.testing.assert_array_equal, a, b)
