"""The light of a frame is kept: its mean, totals of spots, means of regions."""

import jax
import numpy as np
import pytest
import scipy.ndimage

import jaxdenoise as jd
from jaxdenoise.microscope.psf import gaussian_psf
from jaxdenoise.prediction import light, tiling
from jaxdenoise.prediction.light import lost_light, with_light
from jaxdenoise.prediction.tiles import denoise, denoise_tiles


def spots(rng, *, side=256, sigma=1.5, total=10_000, background=20):
    """Photons of spots on a grid, every second with a fifth of the total, and its places."""
    light, places = np.zeros((side, side)), np.arange(12, side - 11, 24)
    for row in places:
        for column in places:
            light[row, column] = total * (1 if (row + column) // 24 % 2 else 0.2)
    clean = scipy.ndimage.gaussian_filter(light, sigma, truncate=6) + background
    noisy = rng.poisson(clean) + rng.normal(100, 1, clean.shape)
    return clean + 100, noisy.astype(np.float32), [(y, x) for y in places for x in places]


def totals(image, places, radius=7):
    """The light of each spot in a square above that of the frame around it."""
    found = []
    for y, x in places:
        wide = image[y - radius - 4 : y + radius + 5, x - radius - 4 : x + radius + 5]
        inner = wide[4:-4, 4:-4]
        around = (wide.sum(dtype=np.float64) - inner.sum(dtype=np.float64)) / (
            wide.size - inner.size
        )
        found.append(inner.sum(dtype=np.float64) - around * inner.size)
    return np.array(found)


@pytest.mark.parametrize("lost", [0.05, -0.05])
def test_what_a_network_loses_of_spots_is_added(lost):
    clean, noisy, places = spots(np.random.default_rng(0))
    denoised = (clean - lost * (clean - 120)).astype(np.float32)
    kept = denoised + lost_light(noisy, denoised)
    true = totals(clean, places)
    bright = true > true.mean()
    assert totals(denoised, places)[bright].sum() == pytest.approx(
        (1 - lost) * true[bright].sum(), rel=1e-3
    )
    # The flanks of bright spots are as bright as dim ones, and both have lost the same share.
    for some, accuracy in ((bright, 0.01), (~bright, 0.03)):
        assert totals(kept, places)[some].sum() == pytest.approx(true[some].sum(), rel=accuracy)


def test_the_noise_stays_removed():
    clean, noisy, _ = spots(np.random.default_rng(1))
    added = lost_light(noisy, clean.astype(np.float32))
    # Nothing was lost: a dozen coefficients take a dozen parts in 65,536 of the noise.
    assert np.mean(added**2) < 1e-3 * np.mean((noisy - clean) ** 2)


def test_the_mean_of_few_photons_is_kept():
    noisy = np.random.default_rng(2).poisson(0.001, (128, 128)).astype(np.float32)
    added = lost_light(noisy, np.full(noisy.shape, -0.0005, np.float32))
    assert added.mean() - 0.0005 == pytest.approx(noisy.mean(), rel=1e-3)
    assert np.ptp(added) == 0  # no structure where brightness differs by noise alone


def test_pixels_without_data_have_no_say():
    clean, noisy, _ = spots(np.random.default_rng(3))
    denoised = (0.97 * clean).astype(np.float32)
    noisy[:, 200:] = np.nan
    other = denoised.copy()
    other[:, 230:] = 1e6
    added = lost_light(noisy, denoised)
    assert np.isfinite(added).all()
    assert added[:, :200].mean() == pytest.approx(np.mean((noisy - denoised)[:, :200]), rel=1e-3)
    assert not lost_light(np.full((8, 8), np.nan), np.zeros((8, 8), np.float32)).any()
    np.testing.assert_allclose(lost_light(noisy, other)[:, :190], added[:, :190], atol=1e-2)


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (7, 9)])
def test_the_mean_of_small_frames_is_kept(shape):
    noisy = np.random.default_rng(4).normal(100, 5, shape).astype(np.float32)
    denoised = np.full(shape, 97, np.float32)
    assert np.mean(denoised + lost_light(noisy, denoised)) == pytest.approx(noisy.mean(), rel=1e-5)


def test_both_results_and_no_other_field_are_changed():
    noisy, place = np.full((8, 8), 5.0, np.float32), (0, slice(0, 8), slice(0, 8))
    result = jd.Denoised(np.full((8, 8), 3.0, np.float32), np.full((8, 8), 4.0, np.float32))
    ((at, kept),) = with_light([(place, result)], lambda at: noisy, square=64, stride=1)
    assert at == place
    assert (kept.denoised == 5).all()
    assert (kept.deconvolved == 6).all()


def test_squares_are_the_same_for_any_tile_size(make_denoiser, monkeypatch):
    monkeypatch.setattr(tiling, "_TILE", 32)
    denoiser = make_denoiser(depth=2, psf=gaussian_psf(0.7))
    image = np.random.default_rng(5).normal(150, 30, (1, 100, 130)).astype(np.float32)
    whole = denoise(denoiser, image)
    smaller = 2 * tiling.halo(denoiser.config.network, denoiser.psf) + 16
    for got, expected in zip(denoise(denoiser, image, tile_size=smaller), whole, strict=True):
        np.testing.assert_allclose(got, expected, atol=0.01)
    share = [tiling.Share(index, 2, square=64) for index in range(2)]
    seen = np.full(image.shape, np.nan, np.float32)
    for one in share:
        for place, tile in denoise_tiles(
            denoiser, image, share=one, marked=lambda place: image[place]
        ):
            seen[place] = tile.denoised
    np.testing.assert_allclose(seen, whole.denoised, atol=0.01)


@pytest.mark.slow
def test_instant_keeps_totals_means_and_photons():
    _, noisy, places = spots(np.random.default_rng(6))
    true = totals(noisy, places)
    bright = true > true.mean()
    found = totals(jd.denoise(jd.instant(noisy), noisy).denoised, places)
    both = [found[some].sum() / true[some].sum() for some in (bright, ~bright)]
    assert both == pytest.approx([1, 1], abs=0.01)
    assert both[1] / both[0] == pytest.approx(1, abs=0.01)
    photons = np.random.default_rng(7).poisson(0.003, (2, 128, 128)).astype(np.float32)
    kept = jd.denoise(jd.instant(photons), photons).denoised
    np.testing.assert_allclose(kept.mean(axis=(1, 2)), photons.mean(axis=(1, 2)), rtol=1e-3)


@pytest.mark.slow
def test_a_training_keeps_totals():
    _, noisy, places = spots(np.random.default_rng(8))
    config = jd.TrainConfig(epochs=6, targets="own")
    model = jd.fit(jax.random.key(0), noisy, psf=gaussian_psf(1.0), config=config)
    true = totals(noisy, places)
    bright = true > true.mean()
    found = totals(jd.denoise(model, noisy).denoised, places)
    both = [found[some].sum() / true[some].sum() for some in (bright, ~bright)]
    # In one frame the totals of the dim spots are known to 0.5 %.
    assert both[0] == pytest.approx(1, abs=0.01)
    assert both[1] == pytest.approx(1, abs=0.015)


def test_a_quarter_of_a_large_image_tells_as_well_where_the_function_bends(monkeypatch):
    rng = np.random.default_rng(7)
    y, x = np.mgrid[:513, :512]
    clean = 100 + 400 * (np.exp(-(np.sin(y / 9) ** 2) * 6) * np.exp(-(np.sin(x / 11) ** 2) * 6))
    clean = clean.astype(np.float32)
    noisy = (clean + rng.normal(0, 20, clean.shape)).astype(np.float32)
    denoised = (100 + 0.95 * (clean - 100)).astype(np.float32)
    sampled = light.lost_light(noisy, denoised)
    monkeypatch.setattr(light, "_SAMPLE", 2**30)
    np.testing.assert_allclose(sampled, light.lost_light(noisy, denoised), atol=1.0)
    assert abs(float((denoised + sampled - noisy).mean())) < 1e-3
