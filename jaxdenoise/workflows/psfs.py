"""The PSFs that a training is given. Host side."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from jaxdenoise.io import images
from jaxdenoise.io.images import ImageFile
from jaxdenoise.microscope.optics import confocal_sigma, widefield_sigma
from jaxdenoise.microscope.psf import gaussian_psf
from jaxdenoise.microscope.psf_cleaning import clean_psf
from jaxdenoise.system.errors import RequestError
from jaxdenoise.training.sweep import SIGMAS
from jaxdenoise.workflows.reporter import SILENT, Reporter
from jaxdenoise.workflows.settings import Number, Training

_WIDEST = 200  # sigma of a Gaussian PSF in pixels


def psfs_of(
    *names: Number | str | Path,
    files: Sequence[ImageFile] = (),
    reporter: Reporter = SILENT,
) -> dict[str, Float[np.ndarray, "_ _"]]:
    """Return the PSFs of these names: dict of name to (h, w) array of sum 1.

    Args:
        *names: each a sigma in pixels, "none", or a file, which is mended as `clean_psf` does;
            "auto" alone stands for the Gaussians of `sweep.SIGMAS`.
        files: the images, whose pixel size and sides a PSF from a file should have and fit.
        reporter: hears what was done to the PSF of a file, a line each.

    Raises:
        RequestError: a name is there twice, a Gaussian is too wide, or a file holds no PSF.
        ImageError: a file cannot be read.
    """
    texts = [f"{sigma:g}" for sigma in SIGMAS] if names == ("auto",) else list(map(str, names))
    for number, name in enumerate(texts):
        if name in texts[:number]:
            raise RequestError(f"the PSF {name} is named twice; name each one once")
    return {name: _psf(name, files, reporter) for name in texts}


def psfs_for(
    training: Training,
    inputs: Sequence[str | Path],
    files: Sequence[ImageFile],
    *,
    reporter: Reporter = SILENT,
) -> dict[str, Float[np.ndarray, "_ _"]]:
    """Return the PSFs that a training asks for, or the one that follows from its optics.

    Args:
        training: for ``psf`` and ``optics``.
        inputs: names of the files, for messages.
        files: the images, whose pixel size counts if the optics do not say it.
        reporter: as of `psfs_of`.

    Raises:
        RequestError: as `psfs_of`, or the pixel size is not known.
    """
    name = training.psf_name
    if name is None:
        return _psf_of_optics(training.optics, inputs[0], files[0].info.pixel_size_um)
    psfs = psfs_of(name, files=files, reporter=reporter)
    # Of those to choose from the ones that fit; a single one that does not is the user's error.
    side = _shortest_side(files)
    fitting = {name: psf for name, psf in psfs.items() if len(psfs) == 1 or max(psf.shape) <= side}
    return fitting or psfs


def _psf_of_optics(optics, path, pixel_size_um):
    size = optics.pixel_size or pixel_size_um
    if size is None:
        raise RequestError(
            f"{path}: does not say its pixel size; give it with pixel_size=..., in micrometres"
        )
    if optics.excitation is None:
        sigma = widefield_sigma(optics.na, optics.emission, pixel_size=size)
    else:
        sigma = confocal_sigma(
            optics.na, optics.excitation, optics.emission, pixel_size=size, pinhole=optics.pinhole
        )
    sigmas = np.broadcast_to(np.asarray(sigma), 2)
    return {" ".join(f"{value:.3f}" for value in sigmas): _gaussian(*sigmas.tolist())}


def _psf(name, files, reporter):
    if name == "none":
        return np.ones((1, 1), np.float32)
    try:
        sigma = float(name)
    except ValueError:
        return _psf_of_file(name, files, reporter)
    return _gaussian(sigma, sigma)


def _psf_of_file(name, files, reporter):
    frames, info = images.read(name)
    others = [
        axis
        for axis, size in zip(info.axes, info.shape, strict=True)
        if axis not in "YX" and size > 1
    ]
    # A stack may be called one in time, or nothing: its planes say whether they go through focus.
    if len(others) > 1 or "C" in others or "S" in others:
        raise RequestError(
            f"{name}: a PSF is one image, or one stack through focus; this file holds "
            f"{len(frames)} of axes {info.axes}: save one of them as a file of its own"
        )
    sizes = [file.info.pixel_size_um for file in files]
    try:
        psf, notes = clean_psf(
            frames,
            pixel_size=info.pixel_size_um,
            image_pixel_size=sizes[0] if files else None,
            largest=_shortest_side(files) if files else None,
        )
    except ValueError as error:
        raise RequestError(f"{name}: {error}") from error
    if any(note.startswith("resampled") for note in notes) and len(set(sizes)) > 1:
        notes = (*notes, "the pixels of other images have other sizes")
    if notes:
        reporter.say(f"PSF {name}: {'; '.join(notes)}")
    return psf


def _shortest_side(files):
    return min(min(file.frames.shape[1:]) for file in files)


def _gaussian(*sigmas):
    if max(sigmas) > _WIDEST:  # said before its pixels fill the memory
        raise RequestError(
            f"a PSF of sigma {max(sigmas):g} pixels is too wide, expected at most {_WIDEST}; check "
            "the units"
        )
    return np.asarray(gaussian_psf(sigmas))
