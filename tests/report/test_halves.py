import numpy as np
import pytest

from jaxdenoise.imaging.filters import gaussian_filter
from jaxdenoise.imaging.resolution import ring_resolution
from jaxdenoise.report.halves import compare_halves, why_not_comparable


@pytest.fixture(scope="module")
def scene():
    """One image of blobs, 192x192 pixels, mean 0 and standard deviation 10."""
    noise = np.random.default_rng(0).normal(size=(192, 192)).astype(np.float32)
    image = np.asarray(gaussian_filter(noise, (2.0, 2.0)))
    return (10 * (image - image.mean()) / image.std()).astype(np.float32)


def frames_of(scenes, noise=3.0):
    white = np.random.default_rng(1).normal(size=(len(scenes), *scenes[0].shape))
    return (np.stack(scenes) + noise * white).astype(np.float32)


def test_halves_of_a_static_scene(scene):
    halves = compare_halves(frames_of([scene] * 3), np.stack([scene] * 3))
    assert halves.reason == ""
    np.testing.assert_allclose(halves.denoised.correlation, 1, atol=1e-4)
    assert 4 < ring_resolution(halves.noisy) < 12
    assert ring_resolution(halves.denoised) == 2


def test_bleaching_does_not_matter(scene):
    assert why_not_comparable(frames_of([scene + 50, 0.7 * scene + 30, 0.5 * scene])) == ""


def test_noise_that_neighbours_share_does_not_matter(scene):
    white = np.random.default_rng(2).normal(size=(3, *scene.shape)).astype(np.float32)
    noise = np.asarray(gaussian_filter(white, (0.6, 0.6)))
    assert why_not_comparable(scene + 5 * noise) == ""


def test_halves_of_a_network_that_saw_neighbours_are_not_compared(scene):
    halves = compare_halves(frames_of([scene] * 3), np.stack([scene] * 3), neighbours=1)
    assert halves.noisy is None
    assert "the network saw neighbouring frames" in halves.reason


@pytest.mark.parametrize("pixels", [1, 3])
def test_a_moving_scene_is_noticed(scene, pixels):
    moving = frames_of([np.roll(scene, pixels * i, axis=0) for i in range(3)])
    halves = compare_halves(moving, moving)
    assert halves.noisy is None
    assert halves.denoised is None
    assert "do not show one static scene" in halves.reason


def test_a_scene_that_moves_at_the_end_only_is_noticed(scene):
    assert "static" in why_not_comparable(frames_of([scene] * 11 + [scene[::-1]]))


@pytest.mark.parametrize(
    ("scenes", "noise", "reason"),
    [
        (lambda scene: [scene], 3.0, "a single frame"),
        (lambda scene: [scene[:15, :15]] * 2, 3.0, "smaller than 16 x 16"),
        (lambda scene: [scene] * 3, 0.0, "the same pixels"),
        (lambda scene: [scene] * 3, 300.0, "too noisy"),
        (lambda scene: [0 * scene] * 3, 3.0, "too noisy, or too uniform"),
    ],
)
def test_reasons(scene, scenes, noise, reason):
    assert reason in why_not_comparable(frames_of(scenes(scene), noise))
