import numpy as np
import pytest
import scipy.ndimage
import tifffile

import jaxdenoise as jd
from jaxdenoise import workflows
from jaxdenoise.io.images import Image
from jaxdenoise.io.info import ImageInfo
from jaxdenoise.system.errors import RequestError
from jaxdenoise.workflows import FilterRequest
from jaxdenoise.workflows.image_filter import FUNCTIONS, _sample, filter_image
from jaxdenoise.workflows.requests import BORDERS, FILTERS


@pytest.fixture
def hyperstack():
    """2 time points of 3 planes, 20x24 pixels, uint8, in the order Z, T."""
    data = np.random.default_rng(0).integers(0, 256, (3, 2, 20, 24)).astype(np.uint8)
    info = ImageInfo("ZTYX", data.shape, data.dtype, "imagej")
    return data, Image(data.reshape(-1, 20, 24).astype(np.float32), info)


def test_requests_offer_what_there_is():
    assert tuple(FUNCTIONS) == FILTERS
    for mode in BORDERS:
        jd.box_filter(np.zeros((4, 4), np.float32), mode=mode)


@pytest.mark.parametrize("name", ["median", "box"])
def test_frames_are_filtered_one_by_one(hyperstack, name):
    data, image = hyperstack
    result = filter_image(name, image, size=3, dtype="same")
    reference = {"median": scipy.ndimage.median_filter, "box": scipy.ndimage.uniform_filter}[name]
    expected = [[reference(frame.astype(float), 3) for frame in plane] for plane in data]
    np.testing.assert_array_equal(
        result.frames.reshape(data.shape), np.rint(expected).astype(np.uint8)
    )
    assert result.frames.dtype == np.uint8
    assert (result.parameter, result.calibration) == ({"size": 3}, None)


def test_volumes_are_found_among_other_axes(hyperstack):
    data, image = hyperstack
    expected = np.stack(
        [scipy.ndimage.uniform_filter(data[:, t].astype(float), 3) for t in range(2)], axis=1
    )
    result = filter_image("box3d", image, size=3, dtype="float32")
    np.testing.assert_allclose(result.frames.reshape(data.shape), expected, rtol=1e-5)
    expected = np.stack(
        [scipy.ndimage.median_filter(data[:, t], (3, 1, 5)) for t in range(2)], axis=1
    )
    np.testing.assert_array_equal(
        filter_image("median", image, size=(3, 1, 5)).frames.reshape(data.shape), expected
    )
    expected = np.stack(
        [scipy.ndimage.gaussian_filter(data[:, t].astype(float), (0.5, 1, 2)) for t in range(2)],
        axis=1,
    )
    result = filter_image("gaussian", image, sigma=(0.5, 1.0, 2.0), dtype="float32")
    np.testing.assert_allclose(result.frames.reshape(data.shape), expected, atol=1e-3)


def test_a_width_for_each_axis(hyperstack):
    data, image = hyperstack
    result = filter_image("gaussian", image, sigma=(1.0, 0.0), mode="wrap", dtype="float32")
    expected = scipy.ndimage.gaussian_filter(data.astype(float), (0, 0, 1, 0), mode="wrap")
    np.testing.assert_allclose(result.frames.reshape(data.shape), expected, atol=1e-3)
    assert result.parameter == {"sigma": (1.0, 0.0)}


@pytest.mark.slow
def test_without_a_width_it_is_found(scene):
    info = ImageInfo("TYX", scene.noisy.shape, np.dtype(np.uint16))
    image = Image(np.asarray(scene.noisy), info)
    for name, parameter in (("gaussian", "sigma"), ("median", "size"), ("wiener", "size")):
        result = filter_image(name, image)
        assert list(result.parameter) == [parameter]
        assert result.parameter[parameter] == pytest.approx(
            float(result.calibration.best), abs=1e-3
        )
        clean = np.asarray(scene.clean)
        assert np.mean((result.frames - clean) ** 2) < 0.5 * np.mean((image.frames - clean) ** 2)


def test_correlated_noise_is_warned_of():
    noise = np.random.default_rng(0).normal(100, 10, (1, 64, 65)).astype(np.float32)
    noise = noise[..., 1:] + noise[..., :-1]
    with pytest.warns(UserWarning, match="correlated between neighbouring pixels"):
        filter_image("gaussian", Image(noise, ImageInfo("YX", noise.shape[1:], noise.dtype)))


def test_only_a_sample_is_calibrated_on():
    assert _sample(np.zeros((3, 1, 40, 50), np.uint8)).shape == (3, 1, 40, 50)
    assert _sample(np.zeros((9, 1, 1100, 700), np.uint8)).shape == (1, 1, 1024, 700)
    assert _sample(np.zeros((9, 40, 300, 100), np.uint8)).shape == (2, 16, 256, 100)
    stack = np.arange(7 * 600 * 600).reshape(7, 1, 600, 600)
    np.testing.assert_array_equal(_sample(stack), stack[[0, 6]].astype(np.float32))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("box", {"sigma": 1.0}, "no sigma"),
        ("gaussian", {"size": "auto"}, 'found by sigma="auto"'),
        ("gaussian", {"size": 5, "sigma": "auto"}, "leave size=... out"),
        ("box3d", {"size": (3, 3)}, "one number or three"),
    ],
)
def test_widths_that_do_not_fit(hyperstack, name, options, message):
    with pytest.raises(RequestError, match=message):
        filter_image(name, hyperstack[1], **options)


def test_three_dimensions_need_a_z_axis(scene):
    image = Image(
        np.asarray(scene.noisy), ImageInfo("TYX", scene.noisy.shape, np.dtype(np.float32))
    )
    for name, size in (("box3d", 3), ("median", (3, 3, 3))):
        with pytest.raises(RequestError, match="needs a Z axis, the file's axes are TYX"):
            filter_image(name, image, size=size)


@pytest.mark.parametrize(
    ("name", "options"),
    [("gaussian", {"sigma": 1.0}), ("box", {"size": 3}), ("median", {"size": 3})],
)
def test_auto_keeps_integers_where_they_are_fine_enough(hyperstack, name, options):
    same = filter_image(name, hyperstack[1], dtype="same", **options)
    auto = filter_image(name, hyperstack[1], **options)
    assert (auto.dtype.dtype, auto.dtype.text) == (np.uint8, None)
    assert auto.frames.dtype == np.uint8
    np.testing.assert_array_equal(auto.frames, same.frames)


def test_single_photons_stay_in_the_file(tmp_path):
    rng, lines = np.random.default_rng(0), []
    photons = rng.poisson(0.2, (2, 64, 64)).astype(np.uint8)
    tifffile.imwrite(tmp_path / "photons.tif", photons, imagej=True, metadata={"axes": "TYX"})
    reporter = workflows.Silent()
    reporter.say = lines.append
    for dtype, expected in (("auto", np.float32), ("same", np.uint8), ("float32", np.float32)):
        request = workflows.FilterRequest(
            inputs=[tmp_path / "photons.tif"], output=tmp_path / dtype, sigma=2.0, dtype=dtype
        )
        result = workflows.filter_files(request, reporter)
        stored = tifffile.imread(result.outputs[0])
        assert stored.dtype == expected
        assert result.rows[0]["dtype"] == np.dtype(expected).name
        if expected == np.float32:
            np.testing.assert_allclose(
                stored.mean(axis=(1, 2)), photons.mean(axis=(1, 2)), rtol=0.01
            )
    line, moved = (line for line in lines if "wrote" not in line)
    assert moved.startswith("photons_gaussian.tif: the filter moved the mean by 100 % (frame ")
    assert line.startswith("photons_gaussian.tif: float32: whole grey levels would cost")
    assert "of what was gained (frame " in line
    assert "and move the mean by 100 % (frame " in line


def test_pixels_that_are_nan_stay_so_and_change_no_other(tmp_path):
    rng = np.random.default_rng(0)
    image = rng.normal(100, 5, (64, 64)).astype(np.float32)
    masked = image.copy()
    masked[:, :20] = np.nan
    tifffile.imwrite(tmp_path / "masked.tif", masked)
    request = FilterRequest(inputs=[tmp_path / "masked.tif"], output=tmp_path, sigma=1.5)
    (path,) = workflows.filter_files(request).outputs
    result = tifffile.imread(path)
    np.testing.assert_array_equal(np.isnan(result), np.isnan(masked))
    expected = scipy.ndimage.gaussian_filter(image, 1.5)
    np.testing.assert_allclose(result[:, 30:], expected[:, 30:], rtol=1e-4)
    assert abs(result[:, 20:22].mean() - 100) < 2


def test_each_channel_has_the_width_that_it_has_alone(tmp_path):
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:64, :64]
    fine = 200 + 100 * np.sin(x) * np.sin(y)
    coarse = 200 + 100 * np.sin(x / 8) * np.sin(y / 8)
    both = np.float32([fine + rng.normal(0, 5, x.shape), coarse + rng.normal(0, 60, x.shape)])
    info = ImageInfo("CYX", both.shape, both.dtype, "imagej")
    jd.write(tmp_path / "both.tif", both, info)
    for number, channel in enumerate(both):
        tifffile.imwrite(tmp_path / f"{number}.tif", channel)
    alone = [
        workflows.filter_files(
            FilterRequest(inputs=[tmp_path / f"{number}.tif"], output=tmp_path / "1")
        )
        for number in range(2)
    ]
    together = workflows.filter_files(
        FilterRequest(inputs=[tmp_path / "both.tif"], output=tmp_path / "2")
    )
    sigmas = [result.rows[0]["sigma"] for result in alone]
    assert together.rows[0]["sigma"] == sigmas
    assert sigmas[0] < sigmas[1]
    for channel, result in zip(jd.read(together.outputs[0]).frames, alone, strict=True):
        np.testing.assert_array_equal(channel, jd.read(result.outputs[0]).frames[0])


def test_one_channel_that_needs_float32_makes_the_file_float32(tmp_path):
    rng = np.random.default_rng(0)
    both = np.stack([rng.poisson(0.2, (64, 64)), rng.poisson(200, (64, 64))]).astype(np.uint16)
    info = ImageInfo("CYX", both.shape, both.dtype, "imagej")
    jd.write(tmp_path / "both.tif", both, info)
    result = workflows.filter_files(
        FilterRequest(inputs=[tmp_path / "both.tif"], output=tmp_path / "1")
    )
    found = jd.read(result.outputs[0])
    assert found.info.dtype == np.float32
    np.testing.assert_allclose(found.frames.mean(axis=(1, 2)), both.mean(axis=(1, 2)), rtol=0.01)


def test_an_image_too_small_to_find_a_width_is_named(tmp_path):
    tifffile.imwrite(tmp_path / "tiny.tif", np.ones((4, 9), np.uint16))
    request = FilterRequest(inputs=[tmp_path / "tiny.tif"], output=tmp_path / "out")
    with pytest.raises(RequestError, match=r"tiny\.tif: an image of 4 x 9 pixels is too small"):
        workflows.filter_files(request)
