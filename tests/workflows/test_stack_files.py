"""Volumes are denoised with planes above and below by themselves, and what is none is not."""

import numpy as np
import pytest

import jaxdenoise as jd
from jaxdenoise import workflows
from jaxdenoise.config import PRETRAINED_VOLUMES, UNetConfig
from jaxdenoise.io import images
from jaxdenoise.io.info import ImageInfo
from jaxdenoise.microscope.synthetic_movies import OFFSET, noisy_movie
from jaxdenoise.microscope.synthetic_volumes import volume_scene
from jaxdenoise.workflows import DenoiseRequest, Training, movies
from jaxdenoise.workflows.reporter import SILENT


@pytest.fixture(scope="module")
def volume():
    signal = volume_scene(5, shape=(20, 64, 64))
    return signal, noisy_movie(6, signal, psnr=18).frames


def written(path, frames, axes):
    info = ImageInfo(axes, frames.shape, frames.dtype, "imagej")
    folded = frames.reshape(-1, *frames.shape[-2:]).astype(np.float32)
    images.write(path, folded, info)
    return path


def denoised(path, output, **options):
    heard = []

    class Hears(type(SILENT)):
        def say(self, text):
            heard.append(text)

    request = DenoiseRequest(inputs=[path], output=output, report=False, **options)
    result = workflows.denoise(request, Hears())
    return jd.read(result.outputs["denoised"][0]).frames, heard


def instant(path, output, **training):
    return denoised(path, output, instant=True, training=Training(symmetries=1, **training))


def error(found, signal):
    return np.mean((found - OFFSET - signal) ** 2)


@pytest.mark.slow
def test_a_volume_is_denoised_with_its_other_planes_unless_one_says_0(tmp_path, volume):
    signal, noisy = volume
    path = written(tmp_path / "volume.tif", noisy, "ZYX")
    found, heard = instant(path, tmp_path / "with")
    assert any(line.startswith("other planes: they help") for line in heard)
    alone, heard = instant(path, tmp_path / "without", neighbours=0)
    assert not any("other planes" in line for line in heard)
    assert error(found, signal) < error(alone, signal) / 1.5


def test_planes_that_have_nothing_in_common_are_denoised_one_by_one(tmp_path):
    scenes = [volume_scene(40 + n, shape=(1, 64, 64))[0] for n in range(8)]
    noisy = noisy_movie(9, np.stack(scenes), psnr=18).frames
    path = written(tmp_path / "planes.tif", noisy, "ZYX")
    found, heard = instant(path, tmp_path / "out")
    assert sum(line.startswith("other planes: none") for line in heard) == 1
    alone, _ = instant(path, tmp_path / "alone", neighbours=0)
    np.testing.assert_array_equal(found, alone)


@pytest.mark.slow
def test_each_time_point_is_a_volume_of_its_own(tmp_path, volume):
    signal, noisy = volume
    both = np.stack([noisy, noisy[:, ::-1]])
    path = written(tmp_path / "both.tif", both, "TZYX")
    found = instant(path, tmp_path / "out")[0].reshape(both.shape)
    assert error(found[0], signal) < error(noisy, signal) / 8
    assert error(found[1], signal[:, ::-1]) < error(noisy, signal) / 8


@pytest.mark.slow
def test_a_plane_without_light_is_left_out(tmp_path, volume):
    signal, noisy = volume
    dark = noisy.copy()
    dark[19] = 500
    path = written(tmp_path / "dark.tif", dark, "ZYX")
    with pytest.warns(UserWarning, match="single grey level"):
        found, heard = instant(path, tmp_path / "out")
    assert any(line.startswith("other planes: they help") for line in heard)
    np.testing.assert_array_equal(found[19], 500)
    assert error(found[:19], signal[:19]) < error(noisy, signal) / 8


def test_of_time_and_depth_the_longer_one_is_seen(tmp_path):
    frames = np.arange(24 * 8 * 8, dtype=np.uint16).reshape(24, 8, 8)

    def axis(axes, *shape):
        path = written(tmp_path / f"{axes}{shape}.tif", frames.reshape(*shape, 8, 8), axes)
        return movies.axis_seen(images.open_image(path))

    assert axis("ZYX", 24) == "Z"
    assert axis("TYX", 24) == "T"
    assert axis("TZYX", 4, 6) == "Z"
    assert axis("TZYX", 6, 4) == "T"
    assert axis("CZYX", 6, 4) is None


def test_what_is_trained_on_as_a_volume(tmp_path, volume):
    file = images.open_image(written(tmp_path / "volume.tif", volume[1], "ZYX"))
    asked = Training(preset="best")
    network = movies.for_movies(asked, [file], None).config().network
    assert network.planes
    assert network.neighbours == PRETRAINED_VOLUMES.neighbours
    for request, along in (
        (asked, "T"),
        (Training(preset="paper"), None),
        (Training(preset="best", neighbours=0), None),
    ):
        assert movies.for_movies(request, [file], along) is request
    assert movies.axis_of(network, None) == "Z"
    assert movies.axis_of(UNetConfig(), None) is None
    assert movies.axis_of(UNetConfig(neighbours=1, guided=True), None) == "T"


@pytest.mark.slow
def test_a_training_on_a_volume_sees_its_planes_and_is_kept(tmp_path, volume):
    signal, noisy = volume
    path = written(tmp_path / "volume.tif", np.stack([noisy, noisy[:, ::-1]]), "TZYX")
    training = Training(preset="best", psf=1.0, epochs=1, symmetries=1)
    found, _ = denoised(path, tmp_path / "out", training=training, save_model=tmp_path / "run")
    assert jd.load(tmp_path / "run").config.network.planes
    found = found.reshape(2, *noisy.shape)
    assert error(found[0], signal) < error(noisy, signal) / 8
    assert error(found[1], signal[:, ::-1]) < error(noisy, signal) / 8
    again, _ = denoised(path, tmp_path / "again", model=tmp_path / "run")
    np.testing.assert_array_equal(again.reshape(found.shape), found)
