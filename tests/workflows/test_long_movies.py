"""Long movies: memory that does not grow, few readings of each frame, nothing half-written."""

import tracemalloc
from collections import Counter

import numpy as np
import pytest

import jaxdenoise as jd
from jaxdenoise import workflows
from jaxdenoise.io import images
from jaxdenoise.io.frames import Frames
from jaxdenoise.io.info import ImageInfo
from jaxdenoise.microscope.synthetic_movies import calcium_movie, noisy_movie
from jaxdenoise.network import guides
from jaxdenoise.network.guides import GuideFrames
from jaxdenoise.prediction.ensemble import ensemble_tiles
from jaxdenoise.prediction.tiles import denoise_tiles
from jaxdenoise.workflows import DenoiseRequest, Training
from jaxdenoise.workflows.applying import denoise_shown
from jaxdenoise.workflows.making import Maker
from jaxdenoise.workflows.partition import parts_alone
from jaxdenoise.workflows.progress import Progress
from jaxdenoise.workflows.reporter import SILENT

SIDE = 64


class Hears(type(SILENT)):
    """Keeps what is said; stops the work after so many frames."""

    def __init__(self, stop_after=None):
        self.said, self.counts, self.stop_after = [], [], stop_after

    def say(self, text):
        self.said.append(text)

    def predicting(self, name):
        def on_tile(done, total):
            self.counts.append((done, total))
            if done == self.stop_after:
                raise KeyboardInterrupt

        return on_tile


@pytest.fixture(scope="module")
def movie(tmp_path_factory):
    """A file of 40 frames of 64 x 64 pixels."""
    path = tmp_path_factory.mktemp("long") / "movie.tif"
    noisy = noisy_movie(12, calcium_movie(11, frames=40, size=SIDE).signal, psnr=14).frames
    info = ImageInfo("TYX", noisy.shape, noisy.dtype, "imagej")
    images.write(path, noisy.astype(np.float32), info)
    return path


def request_of(path, output):
    training = Training(symmetries=1)
    return DenoiseRequest(
        inputs=[path], output=output, instant=True, report=False, training=training
    )


@pytest.fixture
def short_parts(monkeypatch):
    """Guides are computed for 10 frames at a time, and results are written piece by piece."""
    monkeypatch.setattr(guides, "_MOST_FRAMES", 10)
    monkeypatch.setattr("jaxdenoise.workflows.applying.KEPT", 0)


class Drawn:
    """Frames that exist only while they are read."""

    def __init__(self, count):
        self.shape = count, SIDE, SIDE

    def __len__(self):
        return self.shape[0]

    def __getitem__(self, index):
        frame = np.random.default_rng(index[0]).normal(100, 10, self.shape[1:])
        return frame.astype(np.float32)[index[1:]]


def peak_of(count):
    frames = GuideFrames(Drawn(count), in_order=True)
    tracemalloc.start()
    for n in range(count):
        assert frames[n, 0:SIDE, 0:SIDE].shape == (SIDE, SIDE)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


@pytest.mark.slow
def test_memory_does_not_grow_with_the_frames(short_parts):
    peak_of(20)  # compiles
    assert peak_of(120) < 1.25 * peak_of(40)


def test_guides_of_the_next_part_are_those_that_nobody_prepared(short_parts):
    frames = Drawn(37)
    everything = slice(0, SIDE), slice(0, SIDE)
    ahead, alone = GuideFrames(frames, in_order=True), GuideFrames(frames)
    for n in (*range(37), 3, 20):
        np.testing.assert_array_equal(ahead[n, *everything], alone[n, *everything])


@pytest.mark.slow
def test_each_frame_is_read_four_times(movie, short_parts, monkeypatch):
    reads, read = Counter(), Frames.__getitem__

    def counting(self, index):
        reads[self.numbers[index[0].__index__()]] += 1
        return read(self, index)

    def told():
        counts = set(reads.values())
        assert set(reads) == set(range(40))
        reads.clear()
        return counts

    monkeypatch.setattr(Frames, "__getitem__", counting)
    (part,) = parts_alone([movie], [images.open_image(movie)], line_noise="keep")[""]
    assert len(part.ordinary) == 40
    assert told() == {1}
    assert part.hot is not None
    assert told() == {1}
    maker = Maker(request_of(movie, movie.parent), "", [part], SILENT)
    denoisers = maker.job(part).groups[0].denoisers
    assert denoisers[0].config.network.guided
    reads.clear()
    frames = part.frames
    for _ in ensemble_tiles(denoisers, frames, sequence=40, marked=frames.marked):
        pass
    # Once for the guides, once for the network, the light and the guard together; once more where
    # the frames of the next part were read in between.
    assert told() <= {2, 3}


@pytest.mark.slow
def test_an_interrupted_movie_leaves_nothing_and_is_the_same_when_it_is_begun_anew(
    movie, tmp_path, short_parts
):
    with pytest.raises(KeyboardInterrupt):
        workflows.denoise(request_of(movie, tmp_path / "out"), Hears(stop_after=13))
    assert not (tmp_path / "out").exists() or not any((tmp_path / "out").iterdir())
    hears = Hears()
    found = workflows.denoise(request_of(movie, tmp_path / "out"), hears).outputs["denoised"][0]
    assert hears.counts[-1] == (40, 40)
    alone = workflows.denoise(request_of(movie, tmp_path / "alone"), SILENT).outputs["denoised"][0]
    np.testing.assert_array_equal(jd.read(found).frames, jd.read(alone).frames)


@pytest.mark.slow
def test_frames_that_are_shown_are_denoised_alone(movie, monkeypatch):
    (part,) = parts_alone([movie], [images.open_image(movie)])[""]
    maker = Maker(request_of(movie, movie.parent), "", [part], SILENT)
    denoisers = maker.job(part).groups[0].denoisers
    asked, whole = Counter(), slice(0, SIDE)
    shown = np.array([0, 7, 39]), whole, whole

    def counting(denoiser, frames, **options):
        for place, tile in denoise_tiles(denoiser, frames, **options):
            asked[int(place[0])] += 1
            yield place, tile

    monkeypatch.setattr("jaxdenoise.prediction.ensemble.denoise_tiles", counting)
    found = denoise_shown(denoisers, part.frames, shown)
    assert found.denoised.shape == (3, SIDE, SIDE)
    assert sum(asked.values()) == 3
    noisy = np.stack([part.frames[n, whole, whole] for n in shown[0]])
    np.testing.assert_allclose(found.denoised.mean((1, 2)), noisy.mean((1, 2)), rtol=1e-3)


def test_progress_counts_frames_and_tells_the_rate(tmp_path):
    hears, now = Hears(), iter(range(0, 10_000, 2))
    progress = Progress(hears, tmp_path / "x.tif", 128, clock=lambda: float(next(now)))
    for group in (100, 28):
        on_tile = progress.of_frames(group)
        for done in range(1, 2 * group + 1):
            on_tile(done, 2 * group)
    progress.finish()
    assert hears.counts[0] == (0, 128)
    assert hears.counts[-1] == (128, 128)
    assert [done for done, _ in hears.counts] == sorted(done for done, _ in hears.counts)
    first, last = hears.said
    assert "the first 16 of 128 frames are denoised" in first
    assert "128 frames in" in last
    assert "frames a second" in last


def test_a_single_image_is_counted_in_tiles(tmp_path):
    hears = Hears()
    progress = Progress(hears, tmp_path / "x.tif", 1)
    progress.of_frames(1)(3, 9)
    progress.finish()
    assert hears.counts == [(3, 9)]
    assert not hears.said
