"""Movies are denoised with their other frames by themselves, and what is no movie is not."""

from dataclasses import replace

import numpy as np
import pytest
import tifffile

import jaxdenoise as jd
from jaxdenoise import workflows
from jaxdenoise.io import images
from jaxdenoise.io.info import ImageInfo
from jaxdenoise.microscope.synthetic_movies import OFFSET, calcium_movie, noisy_movie
from jaxdenoise.system.errors import RequestError
from jaxdenoise.workflows import DenoiseRequest, Training, movies
from jaxdenoise.workflows.partition import parts_alone
from jaxdenoise.workflows.reporter import SILENT


@pytest.fixture(scope="module")
def movie():
    signal = calcium_movie(11, frames=24, size=64).signal
    return signal, noisy_movie(12, signal, psnr=14).frames


def written(path, frames, axes):
    info = ImageInfo(axes, frames.shape, frames.dtype, "imagej")
    folded = frames.reshape(-1, *frames.shape[-2:]).astype(np.float32)
    images.write(path, folded, info)
    return path


def instant(path, output, **training):
    training = Training(symmetries=1, **training)
    heard = []

    class Hears(type(SILENT)):
        def say(self, text):
            heard.append(text)

    request = DenoiseRequest(
        inputs=[path], output=output, instant=True, report=False, training=training
    )
    result = workflows.denoise(request, Hears())
    return jd.read(result.outputs["denoised"][0]).frames, heard


def error(found, signal):
    return np.mean((found - OFFSET - signal) ** 2)


@pytest.fixture(scope="module")
def short():
    """A movie that takes a quarter of the time."""
    signal = calcium_movie(11, frames=12, size=48).signal
    return signal, noisy_movie(12, signal, psnr=14).frames


@pytest.fixture(scope="module")
def denoised(tmp_path_factory, short):
    """Its file, its result, and what was said."""
    folder = tmp_path_factory.mktemp("movie")
    path = written(folder / "movie.tif", short[1], "TYX")
    return path, *instant(path, folder / "with")


def test_a_movie_is_denoised_with_its_other_frames_unless_one_says_0(tmp_path, short, denoised):
    signal, _ = short
    path, found, heard = denoised
    assert any(line.startswith("other frames: they help") for line in heard)
    alone, heard = instant(path, tmp_path / "without", neighbours=0)
    assert not any("other frames" in line for line in heard)
    assert error(found, signal) < error(alone, signal) / 2


def test_pages_without_a_name_are_a_movie_if_they_look_like_one(tmp_path, short, denoised):
    tifffile.imwrite(tmp_path / "pages.tif", short[1])
    found, heard = instant(tmp_path / "pages.tif", tmp_path / "pages")
    assert any(line.startswith("other frames: they help") for line in heard)
    np.testing.assert_array_equal(found, denoised[1])


@pytest.mark.slow
def test_each_plane_and_channel_is_a_movie_of_its_own(tmp_path, movie):
    signal, noisy = movie
    turned = noisy[:, ::-1]
    path = written(tmp_path / "planes.tif", np.stack([noisy, turned], axis=1), "TZYX")
    found, heard = instant(path, tmp_path / "out")
    assert any(line.startswith("other frames: they help") for line in heard)
    found = found.reshape(24, 2, 64, 64)
    assert error(found[:, 0], signal) < error(noisy, signal) / 8
    assert error(found[:, 1], signal[:, ::-1]) < error(noisy, signal) / 8
    path = written(tmp_path / "channels.tif", np.stack([noisy, turned], axis=1), "TCYX")
    (number,) = {len(parts) for parts in parts_alone([path], [images.open_image(path)]).values()}
    assert number == 1
    alone = instant(written(tmp_path / "alone.tif", turned, "TYX"), tmp_path / "alone")[0]
    both = instant(path, tmp_path / "both")[0].reshape(24, 2, 64, 64)
    np.testing.assert_array_equal(both[:, 1], alone)


@pytest.mark.slow
def test_a_frame_without_light_is_left_out(tmp_path, movie):
    signal, noisy = movie
    dark = noisy.copy()
    dark[5] = 500
    path = written(tmp_path / "dark.tif", dark, "TYX")
    with pytest.warns(UserWarning, match="single grey level"):
        found, _ = instant(path, tmp_path / "out")
    np.testing.assert_array_equal(found[5], 500)
    others = np.arange(24) != 5
    assert error(found[others], signal[others]) < error(noisy, signal) / 8


def test_instant_sees_no_other_number_of_neighbours():
    with pytest.raises(RequestError, match="neighbours"):
        DenoiseRequest(inputs=["a.tif"], output="b", instant=True, training=Training(neighbours=2))


def test_what_is_trained_on_as_a_movie(tmp_path, movie):
    files = {
        axes: images.open_image(written(tmp_path / f"{axes}.tif", movie[1][:shape], axes))
        for axes, shape in (("TYX", 24), ("ZYX", 24))
    }
    few = images.open_image(written(tmp_path / "few.tif", movie[1][:4], "TYX"))
    asked = Training(preset="best")
    guided = movies.for_movies(asked, [files["TYX"]], None)
    assert guided.config().network.guided
    assert guided.config().network.neighbours == 1
    for request, given, along in (
        (asked, [files["TYX"], files["ZYX"]], None),
        (asked, [few], None),
        (asked, [files["TYX"]], "Z"),
        (Training(preset="paper"), [files["TYX"]], None),
        (Training(preset="best", neighbours=0), [files["TYX"]], None),
        (Training(targets="repeats"), [files["TYX"]], None),
    ):
        assert movies.for_movies(request, given, along) is request


@pytest.mark.slow
def test_a_training_on_a_movie_sees_its_guides_and_is_kept(tmp_path, movie):
    signal, noisy = movie
    path = written(tmp_path / "movie.tif", noisy, "TYX")
    training = Training(preset="best", psf=1.0, epochs=1, symmetries=1)
    request = DenoiseRequest(
        inputs=[path],
        output=tmp_path / "out",
        report=False,
        training=training,
        save_model=tmp_path / "run",
    )
    result = workflows.denoise(request)
    assert jd.load(tmp_path / "run").config.network.guided
    found = jd.read(result.outputs["denoised"][0]).frames
    assert error(found, signal) < error(noisy, signal) / 8
    again = workflows.denoise(
        DenoiseRequest(
            inputs=[path], output=tmp_path / "again", report=False, model=tmp_path / "run"
        )
    )
    np.testing.assert_array_equal(jd.read(again.outputs["denoised"][0]).frames, found)
    assert tifffile.imread(result.outputs["denoised"][0]).shape == noisy.shape


@pytest.mark.slow
def test_the_report_of_a_movie_tells_what_becomes_of_transients(tmp_path):
    signal = calcium_movie(11, frames=48, size=64).signal
    path = written(tmp_path / "movie.tif", noisy_movie(12, signal, psnr=14).frames, "TYX")
    request = DenoiseRequest(
        inputs=[path], output=tmp_path / "out", instant=True, training=Training(symmetries=1)
    )
    page = workflows.denoise(request).reports[""].read_text(encoding="utf-8")
    assert "of their size came back (at least 80%" in page
    assert 'aria-label="Trace at row ' in page
    assert "changes from one frame to the next may be smoothed" not in page  # it was tested
    alone = replace(request, output=tmp_path / "alone", training=Training(neighbours=0))
    page = workflows.denoise(alone).reports[""].read_text(encoding="utf-8")
    assert "Not applicable: the frames were denoised one by one" in page
    assert 'aria-label="Trace at row ' in page
