"""The PSFs that a training is given. Host side."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Float

from jaxdenoise.io import images
from jaxdenoise.io.images import ImageFile
from jaxdenoise.microscope.optics import (
    confocal_axial_sigma,
    confocal_sigma,
    widefield_axial_sigma,
    widefield_sigma,
)
from jaxdenoise.microscope.psf import gaussian_psf, normalized_psf
from jaxdenoise.microscope.psf_cleaning import clean_psf
from jaxdenoise.system.errors import RequestError
from jaxdenoise.training.sweep import SIGMAS
from jaxdenoise.workflows.parts import Part
from jaxdenoise.workflows.reporter import SILENT, Reporter
from jaxdenoise.workflows.settings import Number, Optics, Training

_RIM = (
    0.01  # of a PSF, which may be cut off: that of a Gaussian of sigma 1 in 8 x 8 pixels is 0.001
)
_WIDEST = 200  # sigma of a Gaussian PSF in pixels


def psfs_of(
    *names: Number | str | Path,
    files: Sequence[ImageFile] = (),
    reporter: Reporter = SILENT,
    volumes: bool = True,
) -> dict[str, Float[np.ndarray, "..."]]:
    """Return the PSFs of these names: dict of name to (h, w) or (d, h, w) array of sum 1.

    Args:
        *names: each a sigma in pixels, "none", or a file, which is mended as `clean_psf` does;
            "auto" alone stands for the Gaussians of `sweep.SIGMAS`. "Z,YX" and "Z,Y,X" are sigmas
            of a PSF of volumes, that along z in planes.
        files: the images, whose pixel size and sides a PSF from a file should have and fit.
        volumes: whether a file's PSF may mix the planes of stacks; else its sharpest plane is used.
        reporter: hears what was done to the PSF of a file, a line each.

    Raises:
        RequestError: a PSF is there twice, be it as 1 and 1.0; a Gaussian is too wide; a file
            holds no PSF; or the PSF is one of volumes and an image is no stack along Z.
        ImageError: a file cannot be read.
    """
    texts = [f"{sigma:g}" for sigma in SIGMAS] if names == ("auto",) else list(map(str, names))
    seen: dict[float | str, str] = {}
    for name in texts:
        identity = _identity(name)
        if identity in seen:
            also = "" if seen[identity] == name else f", first as {seen[identity]}"
            raise RequestError(f"the PSF {name} is named twice{also}; name each one once")
        seen[identity] = name
    return {name: _psf(name, files, reporter, volumes) for name in texts}


def _identity(name):
    """What two names of one PSF have in common: sigma, 0 for none, or the whole path of a file."""
    try:
        return 0.0 if name == "none" else float(name)
    except ValueError:
        return os.path.realpath(name)


def psfs_for(
    training: Training,
    inputs: Sequence[str | Path],
    files: Sequence[ImageFile],
    *,
    reporter: Reporter = SILENT,
) -> dict[str, Float[np.ndarray, "..."]]:
    """Return the PSFs that a training asks for, or the one that follows from its optics.

    Args:
        training: for ``psf`` and ``optics``.
        inputs: names of the files, for messages.
        files: the images, whose pixel size counts if the optics do not say it.
        reporter: as of `psfs_of`.

    Raises:
        RequestError: as `psfs_of`, the pixel size is not known, or the PSF is larger than the
            images.
    """
    name = training.psf_name
    if name is None:
        psfs = _psf_of_optics(training.optics, inputs[0], files)
    else:
        psfs = psfs_of(name, files=files, reporter=reporter)
    return fitted(psfs, inputs, files, some=name == "auto")


_PLAUSIBLE = 0.4, 8.0  # sigma in pixels of optics that a file tells; others are not believed


def known_psf(
    training: Training, part: Part, reporter: Reporter = SILENT
) -> tuple[Training, tuple[str, ...]]:
    """Return a training with the PSF that a file's optics give, if nothing else says what it is.

    Args:
        training: what is asked for; a preset that chooses the PSF stays as it is.
        part: of the first file, for its aperture, wavelengths and pixel size.
        reporter: hears the line.

    Returns:
        The training, and a line that says where its PSF comes from; none where it was given.
    """
    if training.psf is not None or training.optics is not None or training.psf_name == "auto":
        return training, ()
    optics, line = _optics_of(part)
    if optics is None:
        line = f"PSF: sigma {training.psf_name} pixels is assumed, nothing says what it is"
    line += '; psf="auto" chooses it from the data'
    reporter.say(line)
    return (training if optics is None else replace(training, optics=optics)), (line,)


def _optics_of(part):
    """The optics that a file tells, if they can be, and a line on their PSF."""
    info, (_, emission) = part.file.info, part.file.info.wavelengths_um(part.channel)
    if not (info.objective_na and emission and info.pixel_size_um):
        return None, ""
    widths = np.asarray(widefield_sigma(info.objective_na, emission, pixel_size=info.pixel_size_um))
    if not (_PLAUSIBLE[0] <= widths.min() and widths.max() <= _PLAUSIBLE[1]):
        return None, ""
    line = (
        f"PSF: sigma {widths.mean():.2f} pixels, that of a wide-field microscope with the file's "
        f"aperture of {info.objective_na:g} and emission of {1000 * emission:.0f} nm"
    )
    return Optics(na=info.objective_na, emission=emission), line


def fitted(
    psfs: Mapping[str, Float[np.ndarray, "..."]],
    inputs: Sequence[str | Path],
    files: Sequence[ImageFile],
    *,
    some: bool,
) -> dict[str, Float[np.ndarray, "..."]]:
    """Return PSFs as they fit the images: without the rim of one that is hardly larger.

    Args:
        psfs: name to PSF.
        inputs: names of the files, for messages.
        files: the images.
        some: whether those that do not fit may be left out, as long as one fits.

    Raises:
        RequestError: one does not fit.
    """
    shape = tuple(min(file.frames.shape[axis] for file in files) for axis in (1, 2))
    found = {name: _within(psf, shape) for name, psf in psfs.items()}
    fitting = {name: psf for name, psf in found.items() if psf is not None}
    if len(fitting) == len(psfs) or (some and fitting):
        return fitting
    name = next(name for name in psfs if name not in fitting)
    (height, width), (rows, columns) = shape, psfs[name].shape[-2:]
    raise RequestError(
        f"{inputs[0]}: the PSF {name} of {rows} x {columns} pixels is larger than the image of "
        f"{height} x {width}; name a narrower one, or crop it"
    )


def _within(psf, shape):
    """The PSF, or all but its rim where that is next to nothing; None if it is larger."""
    sides = psf.shape[-2:]
    down, right = (max(0, -(-(n - size) // 2)) for n, size in zip(sides, shape, strict=True))
    if not (down or right):
        return psf
    inner = psf[..., down : sides[0] - down, right : sides[1] - right]
    return normalized_psf(inner) if abs(inner.sum() - 1) <= _RIM else None


def is_volume(file: ImageFile) -> bool:
    """Return whether a file holds stacks along Z, whose planes a PSF may mix."""
    return dict(zip(file.info.axes, file.info.shape, strict=True)).get("Z", 1) > 1


def mixes_planes(training: Training, files: Sequence[ImageFile]) -> bool:
    """Return whether the PSF of a training mixes planes: then they stand in rows along Z.

    Raises:
        RequestError: as `psfs_of`.
        ImageError: as `psfs_of`.
    """
    if training.optics is not None:
        return training.optics.refractive_index is not None
    name = training.psf_name
    if name is None or name in ("auto", "none"):
        return False
    return any(psf.ndim == 3 for psf in psfs_of(name, files=files).values())


def _check_volumes(files):
    """Raise a RequestError unless all images are stacks along Z."""
    for file in files:
        if not is_volume(file):
            raise RequestError(
                f"a PSF with a width along z needs stacks along Z, the axes {file.info.axes} of an "
                f"image have shape {file.info.shape}: give the width in the plane alone, or name "
                'the axes with axes="ZYX"'
            )


def _psf_of_optics(optics, path, files):
    size = optics.pixel_size or files[0].info.pixel_size_um
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
    sigmas = np.broadcast_to(np.asarray(sigma), 2).tolist()
    if optics.refractive_index is not None:
        sigmas = [_axial_sigma(optics, path, files), *sigmas]
    return {" ".join(f"{value:.3f}" for value in sigmas): _gaussian(*sigmas)}


def _axial_sigma(optics, path, files):
    """Sigma along z in planes."""
    _check_volumes(files)
    step = optics.z_step or files[0].info.z_spacing
    if not step:
        raise RequestError(
            f"{path}: does not say the distance between its planes; give it with z_step=..., in "
            "micrometres"
        )
    own = {"refractive_index": optics.refractive_index, "z_step": step}
    if optics.excitation is None:
        return float(widefield_axial_sigma(optics.na, optics.emission, **own))
    beams = optics.na, optics.excitation, optics.emission
    return float(confocal_axial_sigma(*beams, pinhole=optics.pinhole, **own))


def _psf(name, files, reporter, volumes):
    if name == "none":
        return np.ones((1, 1), np.float32)
    widths = _widths(name)
    if widths is None:
        return _psf_of_file(name, files, reporter, volumes)
    if len(widths) == 1:
        return _gaussian(*widths * 2)
    _check_volumes(files)
    return _gaussian(*(widths if len(widths) == 3 else (*widths, widths[-1])))


def _widths(name):
    """The numbers of a name: sigma, z and yx, or z, y and x; None of a file's name."""
    length = re.fullmatch(r"([\d.,]+)\s*(nm|um|µm|μm|px|pixels?)", name)
    if length and not os.path.exists(name):
        raise RequestError(
            f"psf={name!r}: expected sigma in pixels without a unit: a width of 250 nm at half "
            "maximum, with pixels of 100 nm, is psf=1.06, that is 250 / 2.355 / 100"
        )
    try:
        numbers = tuple(map(float, name.split(",")))
    except ValueError:
        return None
    if len(numbers) > 3:
        raise RequestError(
            f"the PSF {name} has {len(numbers)} widths; expected one, z and yx, or z, y and x"
        )
    return numbers


def _psf_of_file(name, files, reporter, volumes):
    frames, info = images.read(name, gaps=False)
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
    deep = volumes and bool(files) and all(map(is_volume, files))
    deep = deep and len(frames) > 1 and all(file.info.z_spacing for file in files)
    sizes = [_sizes(file.info, deep) for file in files]
    try:
        psf, notes = clean_psf(
            frames,
            pixel_size=_sizes(info, deep),
            image_pixel_size=sizes[0] if files else None,
            largest=_shortest_side(files) if files else None,
            volume=deep,
        )
    except ValueError as error:
        raise RequestError(f"{name}: {error}") from error
    if any(note.startswith("resampled") for note in notes) and len(set(sizes)) > 1:
        notes = (*notes, "the pixels of other images have other sizes")
    if notes:
        reporter.say(f"PSF {name}: {'; '.join(notes)}")
    return psf


def _sizes(info, deep):
    """Pixel size (y, x) in micrometres, or with the distance between planes, as far as known."""
    size = info.pixel_size_um
    return (info.z_spacing, *size) if deep and size is not None and info.z_spacing else size


def _shortest_side(files):
    return min(min(file.frames.shape[1:]) for file in files)


def _gaussian(*sigmas):
    if max(sigmas) > _WIDEST:  # said before its pixels fill the memory
        raise RequestError(
            f"a PSF of sigma {max(sigmas):g} pixels is too wide, expected at most {_WIDEST}; check "
            "the units"
        )
    return np.asarray(gaussian_psf(sigmas))
