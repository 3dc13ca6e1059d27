"""What Python does with arrays: seeds, widths, progress, movies, and a model in one line."""

import jax
import numpy as np
import pytest

import jaxdenoise as jd
from jaxdenoise.microscope.synthetic_movies import calcium_movie, noisy_movie
from jaxdenoise.microscope.synthetic_volumes import volume_scene
from jaxdenoise.workflows import arrays


def equal(one, other):
    jax.tree.map(np.testing.assert_array_equal, one.params, other.params)


def test_a_seed_and_a_width_do_what_key_and_psf_do(scene, tiny, capsys):
    noisy = np.asarray(scene.noisy)
    model = jd.fit(jax.random.key(3), noisy, psf=jd.gaussian_psf(1.2), config=tiny)
    assert capsys.readouterr().err == ""
    equal(jd.fit(3, noisy, psf=1.2, config=tiny, progress=True), model)
    first, last = capsys.readouterr().err.splitlines()
    assert first.startswith("epoch 1 of 2, loss ")
    assert last.startswith("epoch 2 of 2, ")
    pair = jd.fit(3, noisy, psf=(1.2, 0.9), config=tiny)
    assert pair.psf.shape != model.psf.shape or not np.array_equal(pair.psf, model.psf)
    image = noisy[0]
    np.testing.assert_array_equal(
        jd.gaussian_noise(5, image, 2.0), jd.gaussian_noise(jax.random.key(5), image, 2.0)
    )


def test_a_model_is_one_screen_at_most(shared):
    model = shared.result.trained[""].models.members[0]
    text = repr(model)
    assert text.startswith("Denoiser(2 epochs, ")
    assert "PSF 9 x 9 pixels" in text
    assert len(text) < 300
    assert repr(jax.tree.map(lambda leaf: None, model)).startswith("Denoiser(")


def test_movies_are_told_by_their_axis(scene, monkeypatch):
    movie = np.tile(np.asarray(scene.noisy), (2, 1, 1))
    config = jd.TrainConfig(symmetries=1)
    alone = jd.instant(movie, config=config)
    assert not alone.config.network.guided
    asked = []

    def chosen(stack, axes, *rest):
        asked.append((np.shape(stack), axes))
        return alone, ()

    monkeypatch.setattr(arrays, "_chosen", chosen)
    assert jd.instant(movie, config=config, axes="T") is alone
    assert jd.instant(movie, config=config, axes="Z") is alone
    assert asked == [(movie.shape, "T"), (movie.shape, "Z")]
    assert jd.instant(movie[:3], config=config, axes="T") is not alone  # too few frames
    with pytest.raises(ValueError, match=r"expected frames \(N, H, W\)"):
        jd.instant(movie[0], axes="T")
    with pytest.raises(ValueError, match="axes='C'"):
        jd.fit(0, movie, psf=1.0, axes="C")


def test_a_movie_is_denoised_with_all_its_frames():
    movie = noisy_movie(12, calcium_movie(11, frames=24, size=64).signal, psnr=14).frames
    assert jd.instant(movie, axes="T").config.network.guided


def test_a_volume_is_denoised_with_the_planes_above_and_below():
    signal = volume_scene(5, shape=(10, 64, 64))
    assert jd.instant(noisy_movie(6, signal, psnr=18).frames, axes="Z").config.network.planes


def test_a_result_in_memory_has_a_verdict_and_a_report(shared, scene, tmp_path):
    noisy, clean = np.asarray(scene.noisy), np.asarray(scene.clean)
    assert jd.verdict(noisy, np.broadcast_to(clean, noisy.shape)).level == 0
    brighter = jd.verdict(noisy[0], 1.3 * clean)
    assert brighter.level == 2
    assert "mean" in brighter.text
    with pytest.raises(ValueError, match="differ"):
        jd.verdict(noisy, clean)
    model = shared.result.trained[""].models.members[0]
    result, path = jd.denoise(model, noisy), tmp_path / "report.html"
    found = jd.report(noisy, result, model, path=path, title="Three frames")
    assert "Three frames" in path.read_text()
    assert found.level >= jd.verdict(noisy, result.denoised, denoiser=model).level
    with pytest.raises(ValueError, match="overwrite=True"):
        jd.report(noisy, result, model, path=path)
