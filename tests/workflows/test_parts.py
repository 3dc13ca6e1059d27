"""Each image by itself: odd frames, gaps, exposures, files of different sizes."""

import numpy as np
import pytest
import tifffile
from scipy import ndimage

from jaxdenoise import workflows
from jaxdenoise.io import images
from jaxdenoise.workflows import DenoiseRequest, Training
from jaxdenoise.workflows.partition import parts_by_model
from jaxdenoise.workflows.parts import Part


def scene(seed, shape=(72, 72), photons=60.0, gain=2.0, offset=100.0):
    """A noisy image of blobs in uint16, and what it would be without noise."""
    rng = np.random.default_rng(seed)
    sharp = np.zeros(shape)
    sharp[tuple(rng.integers(0, n, 40) for n in shape)] = rng.uniform(0.3, 1, 40)
    clean = ndimage.gaussian_filter(sharp, 2)
    expected = photons * clean / clean.max() + 2
    noisy = rng.poisson(expected) * gain + offset + rng.normal(0, 2, shape)
    return np.clip(np.rint(noisy), 0, 65535).astype(np.uint16), expected * gain + offset


def write(path, data, axes=None):
    options = {} if axes is None else {"imagej": True, "metadata": {"axes": axes}}
    tifffile.imwrite(path, data, photometric="minisblack", **options)
    return path


def instant(inputs, output, **options):
    training = Training(symmetries=1)
    request = DenoiseRequest(
        inputs=inputs, output=output, instant=True, training=training, report=False, **options
    )
    return [tifffile.imread(path) for path in workflows.denoise(request).outputs["denoised"]]


def part_of(path):
    return Part(path, 0, images.open_image(path))


def rms(values):
    return float(np.sqrt(np.mean(np.square(values))))


def test_a_file_denoised_with_others_is_the_file_denoised_alone(tmp_path):
    faint, bright = scene(0)[0], scene(1, (64, 96), photons=3, gain=300)[0]
    a, b = write(tmp_path / "a.tif", faint), write(tmp_path / "b.tif", bright)
    together = instant([b, a], tmp_path / "both")
    for path, result in ((b, together[0]), (a, together[1])):
        (alone,) = instant([path], tmp_path / path.stem)
        np.testing.assert_array_equal(result, alone)


def test_a_channel_is_denoised_as_if_it_were_alone(tmp_path):
    bright, dim = scene(0, photons=2500)[0], scene(1, photons=40, gain=0.5)[0]
    both = write(tmp_path / "both.tif", np.stack([bright, dim]), "CYX")
    (result,) = instant([both], tmp_path / "out")
    for own, channel in zip((bright, dim), result, strict=True):
        (alone,) = instant([write(tmp_path / "one.tif", own)], tmp_path / "o", overwrite=True)
        np.testing.assert_array_equal(channel, alone)


def test_odd_frames_come_out_as_they_went_in_and_change_no_other(tmp_path):
    frames = [scene(seed)[0] for seed in range(4)]  # too few for a movie, which takes longer
    frames[1] = np.full_like(frames[0], 100)
    frames[2] = np.full_like(frames[0], 65535) - (frames[2] % 2 > 0) * (frames[2] > 180)
    movie = write(tmp_path / "movie.tif", np.stack(frames), "TYX")
    part = part_of(movie)
    assert part.survey.odd == {1: "holds a single grey level", 2: "is over-exposed"}
    with pytest.warns(UserWarning, match="frame 2 holds a single grey level; it trains nothing"):
        (result,) = instant([movie], tmp_path / "out")
    for odd in (1, 2):
        np.testing.assert_array_equal(result[odd], frames[odd])
    good = write(tmp_path / "good.tif", np.stack([frames[n] for n in part.ordinary]), "TYX")
    (alone,) = instant([good], tmp_path / "alone")
    np.testing.assert_array_equal(result[part.ordinary], alone)


def test_a_flash_is_told_from_a_change_that_stays(tmp_path):
    frames = np.stack([scene(0)[0]] * 24).astype(np.float32)
    steady = frames + np.random.default_rng(0).normal(0, 2, frames.shape)
    steady *= np.linspace(1.5, 1, 24)[:, None, None]  # bleaching
    assert part_of(write(tmp_path / "a.tif", steady.astype(np.uint16), "TYX")).survey.odd == {}
    steady[6] *= 3
    steady[9] = 100 + steady[9] % 3  # the shutter was closed
    found = part_of(write(tmp_path / "b.tif", steady.astype(np.uint16), "TYX")).survey.odd
    assert list(found) == [6, 9]
    planes = part_of(write(tmp_path / "c.tif", steady.astype(np.uint16), "ZYX"))
    assert 6 not in planes.survey.odd


def test_frames_of_like_noise_are_groups(tmp_path):
    frames = [scene(n, photons=photons)[0] for n, photons in enumerate((50, 1000, 60, 900))]
    part = part_of(write(tmp_path / "z.tif", np.stack(frames), "ZYX"))
    assert part.groups() == [[0, 2], [1, 3]]


def test_pixels_without_data_stay_and_the_rest_is_as_without_them(tmp_path):
    noisy, expected = scene(0, (128, 128))
    y, x = np.mgrid[:128, :128] - 64
    inside = abs(y * 0.88 + x * 0.48) + 0 * x < 45
    plain = instant([write(tmp_path / "plain.tif", noisy)], tmp_path / "p", dtype="float32")[0]
    path = write(tmp_path / "padded.tif", np.where(inside, noisy, 0).astype(np.uint16))
    padded = instant([path], tmp_path / "o", dtype="float32")[0]
    np.testing.assert_array_equal(padded[~inside], 0)
    depth = ndimage.distance_transform_edt(inside)
    noise = rms((noisy - expected)[inside])
    assert rms((padded - plain)[depth > 40]) < 0.05 * noise
    rim = inside & (depth < 5)
    assert abs(np.mean((padded - expected)[rim])) < 0.02 * expected[rim].mean()
    path = write(tmp_path / "nan.tif", np.where(inside, noisy, np.nan).astype(np.float32))
    masked = instant([path], tmp_path / "n")[0]
    np.testing.assert_array_equal(np.isnan(masked), ~inside)
    np.testing.assert_array_equal(masked[inside], padded[inside])


def test_files_of_different_sizes_and_exposures_train_together(tmp_path, training_of):
    small, _ = scene(0)
    large = scene(1, (80, 100), gain=20, offset=1000)[0]
    inputs = [write(tmp_path / "a.tif", small), write(tmp_path / "b.tif", large)]
    request = DenoiseRequest(
        inputs=inputs,
        output=tmp_path / "out",
        training=training_of(background="auto"),
        save_model=tmp_path / "run",
        report=False,
    )
    result = workflows.denoise(request)
    written = [tifffile.imread(path) for path in result.outputs["denoised"]]
    assert [image.shape for image in written] == [small.shape, large.shape]
    again = DenoiseRequest(
        inputs=inputs[::-1], output=tmp_path / "again", model=tmp_path / "run", report=False
    )
    for path, image in zip(
        workflows.denoise(again).outputs["denoised"], written[::-1], strict=True
    ):
        np.testing.assert_array_equal(tifffile.imread(path), image)


def test_an_image_that_holds_nothing_is_an_error(tmp_path):
    path = write(tmp_path / "flat.tif", np.full((64, 64), 7, np.uint16))
    with pytest.raises(images.ImageError, match="the image holds a single grey level: there is"):
        instant([path], tmp_path / "out")


def test_each_channel_is_a_part_unless_they_are_to_be_together(tmp_path):
    both = write(tmp_path / "both.tif", np.stack([scene(0)[0], scene(1)[0]]), "CYX")
    one = write(tmp_path / "one.tif", scene(2)[0])
    options = {"reach": 0, "along": None}
    files = [images.open_image(both)]
    for channels, names in (("auto", ["channel-0", "channel-1"]), ("together", [""])):
        found = parts_by_model([both], files, channels=channels, **options)
        assert list(found) == names
    assert list(parts_by_model([one], [images.open_image(one)], channels="auto", **options)) == [""]
