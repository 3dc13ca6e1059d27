"""Every public function: its signature, and jit, vmap and grad where it runs on the device."""

import inspect
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdenoise as jd

IMAGES = jax.random.uniform(jax.random.key(0), (3, 16, 20), minval=10, maxval=200)
OTHERS = IMAGES + 10 * jax.random.normal(jax.random.key(1), IMAGES.shape)
KEYS = jax.random.split(jax.random.key(2), 3)
PSF = jd.gaussian_psf(1.0)

# The function with all but its array arguments given, and a batch of each argument.
DEVICE = {
    "box3d_filter": (jd.box3d_filter, (IMAGES[:, None].repeat(3, 1),)),
    "box_filter": (lambda x: jd.box_filter(x, (3, 5)), (IMAGES,)),
    "calibrate": (
        lambda x: (
            jd.calibrate(
                lambda x, s: jd.gaussian_filter(x, s, radius=4), x, jnp.array([0.7, 1.5])
            ).risk
        ),
        (IMAGES,),
    ),
    "confocal_axial_sigma": (
        lambda x: jd.confocal_axial_sigma(1.2, x, 0.52, refractive_index=1.33, z_step=0.2),
        (jnp.array([0.4, 0.45, 0.488]),),
    ),
    "confocal_sigma": (
        lambda x: jd.confocal_sigma(1.4, x, 0.52, pixel_size=0.05),
        (jnp.array([0.4, 0.45, 0.488]),),
    ),
    "convolve": (lambda x: jd.convolve(x, PSF), (IMAGES,)),
    "estimate_noise": (lambda x: jnp.stack(jd.estimate_noise(x)), (IMAGES,)),
    "fourier_ring_correlation": (
        lambda x, y: jd.fourier_ring_correlation(x, y).correlation,
        (IMAGES, OTHERS),
    ),
    "gaussian_filter": (lambda x: jd.gaussian_filter(x, 1.2), (IMAGES,)),
    "gaussian_noise": (lambda key, x: jd.gaussian_noise(key, x, 2.0), (KEYS, IMAGES)),
    "gaussian_psf": (lambda sigma: jd.gaussian_psf(sigma, size=9), (jnp.array([0.5, 1.0, 1.5]),)),
    "mean_over_std": (jd.mean_over_std, (IMAGES,)),
    "median_filter": (jd.median_filter, (IMAGES,)),
    "noise_level": (lambda x: jnp.stack(jd.noise_level(x)), (IMAGES,)),
    "poisson_gaussian_noise": (
        lambda key, x: jd.poisson_gaussian_noise(key, x, gain=2.0, read_std=1.0),
        (KEYS, IMAGES),
    ),
    "psnr": (lambda x, y: jd.psnr(x, y, data_range=255.0), (IMAGES, OTHERS)),
    "quantize": (lambda x: jd.quantize(x, jnp.uint8), (IMAGES,)),
    "si_psnr": (lambda x, y: jd.si_psnr(x, y, data_range=255.0), (IMAGES, OTHERS)),
    "snr_db": (jd.snr_db, (IMAGES, OTHERS)),
    "ssim": (lambda x, y: jd.ssim(x, y, data_range=255.0), (IMAGES, OTHERS)),
    "widefield_axial_sigma": (
        lambda x: jd.widefield_axial_sigma(x, 0.52, refractive_index=1.33, z_step=0.2),
        (jnp.array([0.8, 1.0, 1.2]),),
    ),
    "widefield_sigma": (
        lambda x: jd.widefield_sigma(x, 0.52, pixel_size=0.05),
        (jnp.array([0.8, 1.2, 1.4]),),
    ),
    "wiener_filter": (lambda x: jd.wiener_filter(x, noise=100.0), (IMAGES,)),
}
NO_GRADIENT = {
    "estimate_noise",  # leaves out outliers, bins by rank
    "poisson_gaussian_noise",  # counts
    "quantize",
}
WIDTHS = {"sigma", "size"}  # the one option that may be given by position, as in scipy
# These drive the device from the host or touch files; each is tested in its module's own tests.
HOST = {
    *("clean_psf", "denoise", "denoise_ensemble", "denoise_image", "fit", "instant", "load"),
    *("measure_exposure", "measure_psf", "measure_volume_psf", "remove_line_noise"),
    *("read", "report", "save", "sweep", "verdict", "write"),
}
PACKAGES = {"workflows"}
CLASSES = {"Denoised", "Denoiser", "TrainConfig", "UNetConfig"}


def costly(names):
    """Mark the names whose functions take long to compile."""
    slow = {"calibrate"}
    return [pytest.param(n, marks=pytest.mark.slow) if n in slow else n for n in names]


def test_no_public_name_is_forgotten():
    assert set(jd.__all__) == DEVICE.keys() | HOST | CLASSES | PACKAGES
    assert set(jd.__all__) <= set(dir(jd))
    with pytest.raises(AttributeError, match="no_such_name"):
        jd.no_such_name  # noqa: B018


@pytest.mark.parametrize("name", costly(DEVICE))
def test_jit_and_vmap_change_nothing(name):
    function, batches = DEVICE[name]
    looped = jnp.stack([function(*arguments) for arguments in zip(*batches, strict=True)])
    for transformed in (jax.vmap(function), jax.jit(jax.vmap(function))):
        np.testing.assert_allclose(transformed(*batches), looped, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(
        jax.jit(function)(*(batch[0] for batch in batches)), looped[0], rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("name", costly(sorted(DEVICE.keys() - NO_GRADIENT)))
def test_the_gradient_is_the_slope(name):
    function, batches = DEVICE[name]
    *fixed, x = (batch[0] for batch in batches)
    weights = jax.random.normal(jax.random.key(3), jnp.shape(function(*fixed, x)))

    def scalar(x):
        return jnp.sum(weights * function(*fixed, x))

    direction = jax.random.normal(jax.random.key(4), jnp.shape(x))
    step = 0.02 if jnp.ndim(x) == 0 else 0.3
    slope = (scalar(x + step * direction) - scalar(x - step * direction)) / (2 * step)
    np.testing.assert_allclose(
        jnp.vdot(jax.grad(scalar)(x), direction), slope, rtol=0.05, atol=2e-3
    )


@pytest.mark.parametrize("name", sorted(DEVICE.keys() | HOST))
def test_signatures_follow_the_conventions(name):
    parameters = inspect.signature(getattr(jd, name)).parameters.values()
    names = [parameter.name for parameter in parameters]
    if "key" in names:
        assert names[0] == "key"
    for parameter in parameters:
        if parameter.default is not inspect.Parameter.empty and not (
            name.endswith("_filter") and parameter.name == names[1] in WIDTHS
        ):
            assert parameter.kind is inspect.Parameter.KEYWORD_ONLY, (
                f"{name}: {parameter.name} must be keyword-only"
            )
    assert getattr(jd, name).__doc__


def test_data_range_has_no_default():
    for function in (jd.psnr, jd.si_psnr, jd.ssim):
        assert (
            inspect.signature(function).parameters["data_range"].default is inspect.Parameter.empty
        )


def test_importing_the_package_does_not_import_jax():
    code = "import jaxdenoise, sys; sys.exit('jax' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
