"""The methods that `benchmark_real` compares.

Each is a function of (noisy (N, H, W), truth (H, W), protocol, seed) that returns the denoised
images and a dict of what is to be kept beside their quality, such as the chosen parameter. Only
the methods named "best" of a filter look at the truth, to choose its parameter.
"""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from skimage.restoration import denoise_nl_means

import jaxdenoise as jd
from common.quality import criterion, quality
from jaxdenoise.microscope.calibration import SIGMAS, calibrate_gaussian
from jaxdenoise.network.exposure import estimate_background
from jaxdenoise.prediction import ensemble
from jaxdenoise.training.halving import HALVING
from jaxdenoise.training.sweep import SIGMAS as PSF_SIGMAS

SIZES = (3, 5, 7)  # candidate windows of the median and the box filter
NEIGHBOURS = "best with neighbours"  # stack protocol only: each capture with two others beside it
SEARCH = {"patch_size": 5, "patch_distance": 6, "fast_mode": True}  # as scikit-image's gallery


def methods(config, psf):
    """Return {name: (method, whether it depends on the seed)}.

    Args:
        config: the `TrainConfig` of the method "deconoising".
        psf: sigma in pixels of its PSF, 0 for none.
    """
    fast, winner = jd.TrainConfig(), jd.TrainConfig.preset("best")
    near = dataclasses.replace(winner, network=dataclasses.replace(winner.network, neighbours=1))
    filters = {
        "raw": lambda noisy, *_: (noisy, {}),
        "median 3": partial(fixed, median, 3),
        "box 3": partial(fixed, box, 3),
        "gaussian 1": lambda noisy, *_: (gaussian(noisy, 1.0), {}),
        "median auto": partial(found, median, SIZES),
        "box auto": partial(found, box, SIZES),
        "gaussian auto": partial(found, gaussian, SIGMAS),
        "median best": partial(best, median, SIZES),
        "box best": partial(best, box, SIZES),
        "gaussian best": partial(best, gaussian, SIGMAS.tolist()),
        "non-local means": non_local_means,
        "bm3d": partial(block_matching, stabilised=False),
        "bm3d anscombe": partial(block_matching, stabilised=True),
        "instant": instant,
    }
    trainings = {
        "n2v": partial(network, config=dataclasses.replace(fast, targets="own"), psf=0.0),
        "deconoising": partial(network, config=config, psf=psf),
        "deconoising auto": partial(auto, config=fast),
        "best random": partial(network, config=dataclasses.replace(winner, init="random")),
        "best": partial(auto, config=winner),
        "best with 3 members": partial(together, config=winner),
        NEIGHBOURS: partial(network, config=near),
    }
    return {name: (method, False) for name, method in filters.items()} | {
        name: (method, True) for name, method in trainings.items()
    }


def chooses_psf(method):
    """Return whether the method takes `chosen`, the parameter that its first seed found."""
    return getattr(method, "func", None) is auto


def gaussian(images, sigma):
    """Gaussian filter, image by image."""
    return np.asarray(jd.gaussian_filter(images, (sigma, sigma), mode="mirror"))


def median(images, size):
    """Median filter, image by image. Pure JAX, for `jaxdenoise.calibrate`."""
    return jnp.stack([jd.median_filter(image, (size, size)) for image in images])


def box(images, size):
    """Box filter, image by image. Pure JAX, for `jaxdenoise.calibrate`."""
    return jnp.stack([jd.box_filter(image, (size, size)) for image in images])


def fixed(smooth, value, noisy, truth, protocol, seed):
    """A filter with a given parameter."""
    return np.asarray(smooth(noisy, value)), {}


def found(smooth, candidates, noisy, truth, protocol, seed):
    """A filter with the parameter that blind spots find."""
    chosen = (
        float(calibrate_gaussian(noisy).best)
        if smooth is gaussian
        else jd.calibrate(smooth, noisy, list(candidates)).best
    )
    return np.asarray(smooth(noisy, chosen)), {"parameter": chosen}


def best(smooth, candidates, noisy, truth, protocol, seed):
    """A filter with the parameter that the truth chooses."""
    chosen = max(
        candidates,
        key=lambda value: quality(smooth(noisy, value), truth, protocol)[criterion(protocol)],
    )
    return np.asarray(smooth(noisy, chosen)), {"parameter": float(chosen)}


def block_matching(noisy, truth, protocol, seed, *, stabilised):
    """BM3D with the estimated noise, or with noise that Anscombe's transform made uniform first."""
    import bm3d  # its licence allows research only, so nothing else of the project needs it

    background = estimate_background(noisy)
    images = noisy.astype(np.float64) - background
    camera = jd.estimate_noise(images.astype(np.float32))
    gain, read = float(camera.gain), float(camera.read_std)
    if not stabilised or gain <= 0:
        std = float(np.sqrt(max(float(jd.noise_level(images.astype(np.float32))[0]), 1e-6)))
        return np.stack([bm3d.bm3d(image, std) for image in images]) + background, {}
    shift = 3 / 8 * gain**2 + read**2
    uniform = 2 / gain * np.sqrt(np.maximum(gain * images + shift, 0))
    smooth = np.stack([bm3d.bm3d(image, 1.0) for image in uniform])
    # The asymptotically unbiased inverse of the transform.
    return gain * ((smooth / 2) ** 2 - 1 / 8) - read**2 / gain + background, {}


def non_local_means(noisy, truth, protocol, seed):
    """scikit-image's non-local means with the estimated noise."""
    std = float(np.sqrt(max(float(jd.noise_level(noisy)[0]), 1e-6)))
    return np.stack(
        [denoise_nl_means(image, h=0.8 * std, sigma=std, **SEARCH) for image in noisy]
    ), {}


def network(noisy, truth, protocol, seed, *, config, psf=1.0):
    """A training from the noisy images."""
    denoiser = jd.fit(
        jax.random.key(seed),
        noisy,
        psf=jd.gaussian_psf(psf) if psf else np.ones((1, 1)),
        config=config,
    )
    epoch = int(np.flatnonzero(denoiser.history["chosen"])[-1]) + 1
    return jd.denoise(denoiser, noisy).denoised, {"epoch": epoch}


def auto(noisy, truth, protocol, seed, *, config, chosen=None):
    """A training whose PSF is chosen from the noisy images, or `chosen` by the first seed."""
    if chosen is not None:
        images, _ = network(noisy, truth, protocol, seed, config=config, psf=chosen)
        return images, {"parameter": chosen}
    psfs = [jd.gaussian_psf(sigma) if sigma else np.ones((1, 1)) for sigma in PSF_SIGMAS]
    swept = jd.sweep(jax.random.key(seed), noisy, psfs=psfs, config=config, halving=HALVING)
    return jd.denoise(swept.denoiser, noisy).denoised, {"parameter": PSF_SIGMAS[swept.chosen]}


def together(noisy, truth, protocol, seed, *, config, count=3):
    """The mean of several trainings."""
    psf = jd.gaussian_psf(1.0)
    members = [
        jd.fit(jax.random.key(count * seed + k), noisy, psf=psf, config=config)
        for k in range(count)
    ]
    return ensemble.denoise_ensemble(members, noisy).denoised, {}


def instant(noisy, truth, protocol, seed):
    """The network that the package ships, without a training."""
    return jd.denoise(jd.instant(noisy), noisy).denoised, {}
