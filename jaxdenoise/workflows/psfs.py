"""The PSFs that a training is given. Host side."""

import numpy as np

from jaxdenoise.io import images
from jaxdenoise.microscope.optics import confocal_sigma, widefield_sigma
from jaxdenoise.microscope.psf import gaussian_psf, normalized_psf
from jaxdenoise.system.errors import RequestError
from jaxdenoise.training.sweep import SIGMAS
from jaxdenoise.workflows.requests import psf_named

_WIDEST = 200  # sigma of a Gaussian PSF in pixels


def psfs_of(text, *, several=False):
    """The PSFs that a flag names: dict of name to (h, w) array of sum 1.

    Args:
        text: a sigma in pixels, "none", a file, or "auto" for the Gaussians of `sweep.SIGMAS`.
        several: whether commas stand between several of them.
    """
    names = (
        [f"{sigma:g}" for sigma in SIGMAS]
        if text == "auto"
        else text.split(",")
        if several
        else [text]
    )
    if len(set(names)) < len(names):
        raise RequestError(f"--psf {text}: names a PSF twice")
    return {name: _psf(name) for name in names}


def psfs_asked_for(args, files):
    """The PSFs of --psf, or the one of --na and its companions: as `psfs_of`.

    Args:
        args: the parsed command line.
        files: list of `images.Image`, whose pixel size counts if --pixel-size does not say it.
    """
    if args.na is None:
        psfs = psfs_of(psf_named(args))
        # Of those to choose from the ones that fit; a single one that does not is the user's error.
        fitting = {
            name: psf
            for name, psf in psfs.items()
            if len(psfs) == 1 or max(psf.shape) <= min(files[0].frames.shape[1:])
        }
        return fitting or psfs
    if args.psf is not None:
        raise RequestError("--psf and --na both say what the PSF is: leave one of them out")
    size = args.pixel_size or files[0].info.pixel_size_um
    if size is None:
        raise RequestError(
            f"{args.input[0]}: does not say its pixel size; give it with --pixel-size, in micrometres"
        )
    if args.emission is None:
        raise RequestError("--na needs --emission, the wavelength of the emission in micrometres")
    if args.excitation is None:
        sigma = widefield_sigma(args.na, args.emission, pixel_size=size)
    else:
        sigma = confocal_sigma(
            args.na, args.excitation, args.emission, pixel_size=size, pinhole=args.pinhole
        )
    sigmas = np.broadcast_to(sigma, 2)
    return {" ".join(f"{value:.3f}" for value in sigmas): _gaussian(*sigmas.tolist())}


def _psf(name):
    if name == "none":
        return np.ones((1, 1), np.float32)
    try:
        sigma = float(name)
    except ValueError:
        frames = images.read(name).frames
        if len(frames) != 1:
            raise RequestError(
                f"{name}: a PSF is one 2-D image, this file holds {len(frames)}"
            ) from None
        return normalized_psf(frames[0])
    return _gaussian(sigma, sigma)


def _gaussian(*sigmas):
    if max(sigmas) > _WIDEST:  # said before its pixels fill the memory
        raise RequestError(
            f"a PSF of sigma {max(sigmas):g} pixels is too wide, expected at most {_WIDEST}; check the units"
        )
    return np.asarray(gaussian_psf(sigmas))
