"""A PSF that mixes planes: a short training on a small volume, and its prediction.

The network sees single planes, or those above and below too, of which each sees its own. It is
trained with the PSF, or the PSF is fitted to its denoised volume.
"""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.fft

import jaxdenoise as jd
from jaxdenoise.microscope.synthetic_movies import OFFSET, noisy_movie
from jaxdenoise.microscope.synthetic_volumes import volume_scene
from jaxdenoise.microscope.volume_fit import light_of
from jaxdenoise.network import pretrained, unet
from jaxdenoise.network.denoiser import network_output
from jaxdenoise.prediction import volume_fits
from jaxdenoise.prediction.tiles import denoise_tiles
from jaxdenoise.prediction.volume_fits import blocks_of
from jaxdenoise.targets.patches import PatchOptions
from jaxdenoise.targets.slabs import training_slabs
from jaxdenoise.training import fit
from jaxdenoise.training.problem import prepare
from jaxdenoise.training.slab_losses import blurred_slab

PSF = np.asarray(jd.gaussian_psf((1.0, 1.0, 1.0), size=(5, 7, 7)))
SMALL = jd.TrainConfig(
    network=jd.UNetConfig(depth=2, filters=4, stride=1),
    patch_size=32,
    epochs=3,
    steps_per_epoch=20,
    validation_patches=4,
    learning_rate=3e-3,
    precision="float32",
    symmetries=1,
    blind=(0, 0),
)

PLAIN = jd.UNetConfig(filters=32, stride=1)


def noisy_volume(seed=0, shape=(12, 48, 48)):
    rng = np.random.default_rng(seed)
    truth = np.zeros(shape, np.float32)
    truth[tuple(rng.integers(0, n, 150) for n in shape)] = 3000
    clean = np.asarray(jd.convolve(truth, PSF)) + 20
    return (clean + rng.normal(0, 80, shape)).astype(np.float32), clean


def seeing(planes, **changes):
    """The settings of a network that sees so many planes on each side."""
    network = dataclasses.replace(SMALL.network, neighbours=planes, planes=planes > 0)
    return dataclasses.replace(SMALL, network=network, **changes)


WAYS = {"plane": (0, "auto"), "planes": (2, "trained"), "fitted": (2, "auto")}


@pytest.fixture(scope="module", params=WAYS)
def trained(request):
    volume, clean = noisy_volume()
    planes, axial = WAYS[request.param]
    config = seeing(planes, axial=axial)
    return volume, clean, jd.fit(jax.random.key(0), volume, psf=PSF, config=config)


def test_the_loss_falls_and_the_volume_becomes_better(trained):
    volume, clean, denoiser = trained
    losses = denoiser.history["validation_loss"]
    assert losses[-1] < 0.95 * losses[0]
    result = jd.denoise(denoiser, volume)
    assert np.mean((result.denoised - clean) ** 2) < 0.7 * np.mean((volume - clean) ** 2)


def test_the_result_is_the_deconvolved_volume_blurred_along_all_axes(trained):
    volume, _, denoiser = trained
    result = jd.denoise(denoiser, volume, keep_light=False)
    background = np.float32(denoiser.scale.background)
    expected = jd.convolve(result.deconvolved - background, denoiser.psf) + background
    np.testing.assert_allclose(
        result.denoised, expected, rtol=0, atol=1e-5 * np.abs(result.denoised).max()
    )


def test_tiles_and_several_volumes_change_nothing(trained):
    volume, _, denoiser = trained
    whole = jd.denoise(denoiser, volume, keep_light=False)
    pieces = jd.denoise(denoiser, volume, keep_light=False, tile_size=64)
    np.testing.assert_allclose(pieces.denoised, whole.denoised, rtol=1e-4, atol=1e-2)
    both = jd.denoise(denoiser, np.stack([volume[:6], volume[6:]]), keep_light=False)
    alone = jd.denoise(denoiser, volume[6:], keep_light=False)
    np.testing.assert_array_equal(both.denoised[1], alone.denoised)
    assert not np.allclose(alone.denoised[0], whole.denoised[6])


def test_planes_are_yielded_one_after_the_other_while_few_are_kept(trained):
    volume, _, denoiser = trained
    read = []

    class Frames:
        shape = volume.shape

        def __len__(self):
            return len(volume)

        def __getitem__(self, index):
            read.append(int(index[0]))
            return volume[index]

    ahead = [max(read) - place[0] for place, _ in denoise_tiles(denoiser, Frames())]
    assert len(ahead) == len(volume)
    seen = denoiser.config.network.neighbours + len(denoiser.psf) // 2
    if denoiser.config.axial == "trained":  # what is fitted takes more of them, see below
        assert max(ahead) <= 8 + seen  # tiles of one call, what the network sees, and the PSF


def test_a_volume_model_is_kept_and_read(trained, tmp_path):
    volume, _, denoiser = trained
    jd.save(tmp_path / "run", denoiser)
    again = jd.load(tmp_path / "run")
    np.testing.assert_array_equal(again.psf, denoiser.psf)
    results = [jd.denoise(one, volume).denoised for one in (denoiser, again)]
    np.testing.assert_array_equal(*results)


def test_neighbours_see_blind_spots_hidden():
    volume, _ = noisy_volume(1)
    network = dataclasses.replace(SMALL.network, neighbours=1)
    config = dataclasses.replace(SMALL, network=network, epochs=1, steps_per_epoch=2)
    denoiser = jd.fit(jax.random.key(0), volume, psf=PSF, config=config)
    assert jd.denoise(denoiser, volume).denoised.shape == volume.shape


def test_a_hidden_pixel_reaches_its_denoised_value_through_no_plane():
    volume, _ = noisy_volume(2, (8, 24, 24))
    config = seeing(2, patch_size=24, axial="trained")
    plan = prepare(jax.random.key(0), volume, psf=PSF, config=config)
    problem, settings = plan.problem, plan.settings
    beside = problem.beside
    options = PatchOptions(patch_size=16, box=4, radius=2)
    draw = jax.jit(partial(training_slabs, options=options, batch_size=1))
    params = unet.init(jax.random.key(1), settings.network)

    def denoised(frames):
        batch = draw(jax.random.key(3), frames, problem.slabs, None, beside)
        shape = batch.visible.shape
        planes = batch.visible.reshape(-1, *shape[-2:])
        others = batch.beside.reshape(len(planes), -1, *shape[-2:])
        deconvolved = network_output(params, planes, problem.scale, settings, others)
        return batch, blurred_slab(deconvolved, batch.sources[0], problem.psf)

    batch, before = denoised(problem.frames)
    scored = np.argwhere(np.asarray(batch.scored[0]))
    turn = int(batch.symmetry[0])
    for plane, row, column in scored[:: max(len(scored) // 5, 1)]:
        value = np.asarray(batch.noisy[0])[plane, row, column]
        at = np.argwhere(np.asarray(problem.frames) == value)
        assert len(at) == 1, turn
        changed = np.array(problem.frames)
        changed[tuple(at[0])] += 5000
        again, after = denoised(changed)
        assert again.noisy[0, plane, row, column] == changed[tuple(at[0])]
        np.testing.assert_array_equal(again.visible, batch.visible)
        np.testing.assert_array_equal(after[plane, row, column], before[plane, row, column])


def test_what_cannot_be_is_refused(trained):
    volume, _, denoiser = trained
    with pytest.raises(ValueError, match="needs volumes"):
        jd.fit(jax.random.key(0), volume[0], psf=PSF, config=SMALL)
    with pytest.raises(ValueError, match=r"mixes planes|sees neighbouring frames"):
        jd.denoise_image(denoiser, volume[0])
    with pytest.raises(ValueError, match="PSFs of images"):
        jd.sweep(jax.random.key(0), volume, psfs=[PSF], config=SMALL)
    config = dataclasses.replace(SMALL, targets="repeats")
    with pytest.raises(ValueError, match="no scene twice"):
        jd.fit(jax.random.key(0), volume, psf=PSF, config=config)


def test_nothing_beyond_the_cut_off_along_z_is_left():
    signal = volume_scene(5, shape=(25, 32, 32))
    noisy = noisy_movie(6, signal, psnr=15).frames.astype(np.float32)
    plan = fit.prepare_instant(noisy, config=jd.TrainConfig(network=PLAIN, symmetries=1))
    shipped = fit.instant_of(plan, planes=True)
    psf = np.asarray(jd.gaussian_psf((2.5, *[pretrained.PSF_SIGMA] * 2)))
    denoiser = dataclasses.replace(shipped, psf=psf)
    settings = dataclasses.replace(shipped.config, axial="fitted")
    fitted = dataclasses.replace(shipped, psf=psf, config=settings)
    # Reflected at its ends, a volume is a sum of cosines. Those above 0.24 cycles a plane come
    # through a Gaussian of sigma 2.5 planes with less than a thousandth of their size.
    beyond = np.arange(25) / 48 > 0.24
    assert np.exp(-2 * (np.pi * 2.5 * 0.24) ** 2) < 1e-3

    def share(volume):
        waves = scipy.fft.dct(volume - volume.mean(), type=1, axis=0)
        return float(np.mean(waves[beyond] ** 2) / np.mean(waves**2))

    own = jd.denoise(denoiser, noisy, keep_light=False)
    alone = jd.denoise(shipped, noisy)
    assert share(noisy) > 0.1
    # Each plane errs by itself, if it sees its neighbours or not.
    assert share(own.deconvolved) > 1e-4
    assert share(alone.denoised) > 1e-4
    assert share(own.denoised) < 1e-8
    assert share(jd.denoise(fitted, noisy, keep_light=False).denoised) < 1e-7
    lit = jd.denoise(fitted, noisy).denoised  # with what each plane lost of its light
    assert share(lit) < 1e-7

    def error(result):
        return np.mean((result - OFFSET - signal) ** 2)

    assert error(lit) < 0.95 * error(alone.denoised)


def test_light_is_fitted_in_blocks_as_in_one(monkeypatch):
    volume, _ = noisy_volume(3, (20, 16, 16))
    psf = np.asarray(jd.gaussian_psf((0.8, 0.8, 0.8), size=(3, 5, 5)))
    plan = fit.prepare_instant(volume, config=jd.TrainConfig(network=PLAIN, symmetries=1))
    shipped = fit.instant_of(plan, planes=True)
    settings = dataclasses.replace(shipped.config, axial="fitted")
    fitted = dataclasses.replace(shipped, psf=psf, config=settings)
    whole = jd.denoise(fitted, volume, keep_light=False).denoised
    monkeypatch.setattr(volume_fits, "MOST", 10 * 16 * 16)
    parts = jd.denoise(fitted, volume, keep_light=False).denoised
    assert [block.start for block in blocks_of(20, 1, most=10)] == [0, 6, 12, 18]
    error = np.std(parts - whole) / np.std(whole)
    assert 0 < error < 0.02


def test_the_light_is_that_of_least_distance_where_nothing_forbids_it():
    rng = np.random.default_rng(0)
    light = np.zeros((9, 15, 15), np.float32)
    light[tuple(rng.integers(2, n - 2, 12) for n in light.shape)] = 100
    psf = jd.gaussian_psf((1.0, 1.0, 1.0))
    seen = jd.convolve(light, psf)
    noisy = seen + rng.normal(0, 1, seen.shape).astype(np.float32)
    found = np.asarray(light_of(jnp.asarray(noisy), psf))
    assert (found >= 0).all()
    blurred = np.asarray(jd.convolve(found, psf))
    assert np.std(blurred - seen) < 0.6 * np.std(noisy - seen)
    np.testing.assert_allclose(found.sum(), np.maximum(noisy, 0).sum(), rtol=0.05)
    dark = np.asarray(light_of(jnp.zeros((3, 9, 9)), psf))
    assert np.isfinite(dark).all()
    assert dark.max() < 1e-9


def test_a_deep_psf_is_cut_and_that_is_said():
    volume, _ = noisy_volume()
    deep = np.asarray(jd.gaussian_psf((6.0, 1.0, 1.0)))
    plan = prepare(jax.random.key(0), volume, psf=deep, config=SMALL)
    assert plan.problem.psf.shape[0] == 17
    assert "17 of its 49 planes are used; the others hold 16% of the light" in plan.evidence[0]
    flat = np.asarray(jd.gaussian_psf((0.0, 1.0, 1.0)))
    assert prepare(jax.random.key(0), volume, psf=flat, config=SMALL).problem.psf.ndim == 2
