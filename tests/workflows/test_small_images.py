"""Images hardly larger than the PSF, and line scans: they work, or the least size is said."""

import jax.numpy as jnp
import numpy as np
import pytest
import tifffile
from scipy.ndimage import convolve as scipy_convolve

import jaxdenoise as jd
from jaxdenoise import workflows
from jaxdenoise.system.errors import ImageError, RequestError
from jaxdenoise.training.step import blurred
from jaxdenoise.workflows import DenoiseRequest, SweepRequest, TrainRequest


def image(shape, seed=0):
    return np.random.default_rng(seed).poisson(200, shape).astype(np.uint16)


def request_for(tmp_path, pixels, kind=DenoiseRequest, **options):
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="minisblack")
    options = {"inputs": [tmp_path / "a.tif"], "output": tmp_path / "out", **options}
    return kind(**options, report=False)


@pytest.mark.parametrize("sides", [(8, 8), (8, 12), (3, 20), (1, 5)])
def test_a_patch_smaller_than_the_psf_is_reflected(sides):
    patch, psf = jnp.asarray(image(sides), jnp.float32), jd.gaussian_psf((1.0, 0.75))
    expected = scipy_convolve(np.float64(patch), np.float64(psf), mode="mirror")
    np.testing.assert_allclose(blurred(patch, psf), expected, rtol=1e-5)


@pytest.mark.parametrize("sides", [(9, 13), pytest.param((8, 8), marks=pytest.mark.slow)])
def test_tiny_images_are_trained_on(training_of, tmp_path, sides):
    """The PSF of sigma 1 has 9 x 9 pixels, the largest patch 8 x 8."""
    request = request_for(tmp_path, image(sides), training=training_of(epochs=1))
    result = workflows.denoise(request)
    assert tifffile.imread(result.outputs["denoised"][0]).shape == sides
    psf = result.models[""].models.members[0].psf
    assert psf.shape == (9 - (sides == (8, 8)) * 2,) * 2
    np.testing.assert_allclose(psf.sum(), 1, rtol=1e-6)


@pytest.mark.parametrize("kind", [DenoiseRequest, TrainRequest, SweepRequest])
def test_smaller_images_are_refused_with_their_size_and_the_least(training_of, tmp_path, kind):
    request = request_for(tmp_path, image((16, 7)), kind, training=training_of())
    run = {DenoiseRequest: "denoise", TrainRequest: "train", SweepRequest: "sweep"}[kind]
    with pytest.raises(ImageError, match=r"a\.tif: its images have 16 x 7 pixels, at least 8 x 8"):
        getattr(workflows, run)(request)
    assert not (tmp_path / "out").exists()


def test_a_line_scan_is_told_how_it_is_an_image(tmp_path):
    lines = image((40, 1, 24))
    instant = {"instant": True, "dtype": "float32"}
    request = request_for(tmp_path, lines, axes="TYX", **instant)
    with pytest.raises(
        ImageError, match=r'have 1 x 24 pixels.*; axes="YTX" reads the lines as one'
    ):
        workflows.denoise(request)
    result = workflows.denoise(request_for(tmp_path, lines, axes="YTX", **instant))
    written = tifffile.imread(result.outputs["denoised"][0])
    expected = jd.denoise(jd.instant(lines[:, 0]), lines[:, 0]).denoised
    np.testing.assert_allclose(written.reshape(40, 24), expected, rtol=1e-5)


def test_a_psf_larger_than_the_images_is_named(training_of, tmp_path):
    training = training_of(psf=3)
    with pytest.raises(RequestError, match=r"the PSF 3 of 25 x 25 pixels is larger than the image"):
        workflows.denoise(request_for(tmp_path, image((12, 30)), training=training))
    request = request_for(tmp_path, image((12, 30)), SweepRequest, psfs=[1, 3])
    with pytest.raises(RequestError, match=r"the PSF 3 of 25 x 25.* the image of 12 x 30; name a"):
        workflows.sweep(request)
