"""Whether the network for volumes is taken, by pixels that it did not see."""

import numpy as np

import jaxdenoise as jd
from jaxdenoise.microscope.synthetic_movies import noisy_movie
from jaxdenoise.microscope.synthetic_volumes import volume_scene
from jaxdenoise.training import fit
from jaxdenoise.training.volume_choice import choose_for_volume


def chosen(planes):
    plan = fit.prepare_instant(planes, config=jd.TrainConfig(symmetries=1))
    alone, together = fit.instant_of(plan), fit.instant_of(plan, planes=True)
    return choose_for_volume(alone, together, planes.astype(np.float32))


def test_a_volume_is_denoised_with_its_other_planes():
    signal = volume_scene(5, shape=(20, 64, 64))
    choice = chosen(noisy_movie(6, signal, psnr=18).frames)
    assert choice.guided
    assert "other planes: they help" in choice.text


def test_planes_that_have_nothing_in_common_are_left_alone():
    scenes = [volume_scene(40 + n, shape=(1, 64, 64))[0] for n in range(8)]
    choice = chosen(noisy_movie(9, np.stack(scenes), psnr=18).frames)
    assert not choice.guided
    assert "none" in choice.text


def test_few_planes_and_dark_ones_are_left_alone():
    noisy = noisy_movie(9, volume_scene(5, shape=(8, 64, 64)), psnr=18).frames
    assert not chosen(noisy[:4]).guided
    dark = noisy.copy()
    dark[4:] = 500
    assert not chosen(dark).guided
