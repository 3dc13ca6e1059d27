"""Make a usable PSF of one as files hold it: `clean_psf`. NumPy on the host.

Measured and computed PSFs come with even sides, off their middle, with a camera's offset, as
volumes, on pixels of another size, as large as the image. Each of that is mended, and said. A PSF
that needs none of it stays as it is.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import ArrayLike, Float32, Shaped

from jaxdenoise.microscope.psf import normalized_psf, trimmed
from jaxdenoise.microscope.psf_faults import SHOWS_RIM, Located, is_pedestal, locate, tolerance
from jaxdenoise.microscope.psf_volumes import axial_centre, without_pedestal
from jaxdenoise.microscope.resampling import moved_to_middle, resampled

_RISES = 3.0  # standard errors: by how much a ring around the centre rises above the noise
_OTHER_PIXELS = 0.01  # pixel sizes that differ by less are the same
_ABSURD_PIXELS = 16.0  # pixel sizes that differ by more are a mistake in one of the files
_LARGE = 0.5  # of the image's side: a larger PSF is cut down to what float32 resolves of it
_LOST = 0.001  # of the sum: more than that is not cut off in silence
_CUT = 0.05  # of the sum: a PSF that is still too large when so much is cut off stays too large
_ALIKE = 1.1  # planes whose sharpness differs by a smaller factor do not go through focus


class CleanPsf(NamedTuple):
    """Result of `clean_psf`.

    Attributes:
        psf: (h, w), or (d, h, w) of a volume, float32 with odd sides, centred, sum 1.
        notes: What was done, a phrase each, such as "padded from 16x16 to 17x17 pixels"; empty if
            the PSF stayed as it was.
    """

    psf: Float32[np.ndarray, "*d h w"]
    notes: tuple[str, ...]


def clean_psf(
    psf: Shaped[ArrayLike, "..."],
    *,
    pixel_size: tuple[float, ...] | None = None,
    image_pixel_size: tuple[float, ...] | None = None,
    largest: int | None = None,
    volume: bool = False,
) -> CleanPsf:
    """Make a measured or computed PSF fit to train with, and say what was done. Host side.

    - Of a volume the sharpest plane is taken, unless the images are volumes too: then all planes
      stay, and what follows is done along z as well.
    - A pedestal above 1 % of the peak, or of more than a tenth of the sum, is taken off, and what
      lies so far out that it does not rise above the noise becomes 0.
    - It is centred if it is more than 0.1 pixels off: by whole pixels with rows and columns of
      zeros, so that no value changes; by fractions with an interpolation that keeps the sum. The
      centre is that of a Gaussian fitted together with a background. A lopsided PSF stays where it
      is if its middle lies between that and its peak: which of them is called the centre shifts
      the deconvolved image, and nothing else.
    - Even sides become odd by rows and columns of zeros.
    - Where both pixel sizes are known and differ by more than 1 %, its light is collected by pixels
      of the image's size.
    - A PSF larger than half the image is cut down to what float32 resolves, and where it still does
      not fit, to what fits, if 95 % of its light does.

    Args:
        psf: (h, w), or (Z, h, w) through focus; bool or any real dtype. Further axes of length 1
            count for nothing.
        pixel_size: (y, x) of the PSF's pixels, in any unit, or (z, y, x) with the distance between
            planes; None: as the image's.
        image_pixel_size: (y, x) or (z, y, x) of the image's pixels in the same unit; None: as the
            PSF's.
        largest: The image's shorter side in pixels, which the PSF should not exceed; None: any.
        volume: Whether the images are volumes, which a PSF of planes blurs along z too.

    Raises:
        ValueError: The array is no PSF: see `psf.normalized_psf`; or a volume whose sharpest plane
            is its first or last one; or its centre lies at its border.
    """
    array = _real(psf)
    notes: list[str] = []
    if volume and array.ndim == 3 and len(array) > 1:
        return _clean_volume(array, pixel_size, image_pixel_size, largest, notes)
    own, wanted = (size and size[-2:] for size in (pixel_size, image_pixel_size))
    image = _in_focus(array, notes)
    image = _from_corners(image, notes)
    found = locate(image)
    raised = is_pedestal(image, found)
    if raised:
        image = _without_noise(image - found.pedestal, found)
        notes.append(_taken_off(found))
    image = _centred(image, found.centre, _steps(own, wanted, notes), notes)
    image = trimmed(image) if raised else image
    image = _fitting(image, largest, notes)
    return CleanPsf(normalized_psf(image), tuple(notes))


def _clean_volume(array, pixel_size, image_pixel_size, largest, notes):
    """As `clean_psf`, of all planes."""
    array = _from_corners(array, notes)
    plane = _sharpest(array)
    found = locate(array[plane])
    raised = is_pedestal(array[plane], found)
    if raised:
        array = without_pedestal(array, found.pedestal, found.centre, found.noise)
        notes.append(_taken_off(found))
    # Refused if the plane in focus is cut off at a border.
    _check_whole(array[plane], found.centre - np.array(array.shape[1:]) // 2)
    centre = np.array([axial_centre(array, plane), *found.centre])
    own, wanted = _of_axes(pixel_size, image_pixel_size), _of_axes(image_pixel_size, pixel_size)
    array = _centred(array, centre, _steps(own, wanted, notes), notes)
    array = trimmed(array) if raised else array
    return CleanPsf(normalized_psf(_fitting(array, largest, notes)), tuple(notes))


def _of_axes(size, other):
    """(z, y, x); planes whose distance is not said are as far apart as the other's."""
    if size is None or len(size) == 3:
        return size
    return (other[0] if other and len(other) == 3 else 1.0, *size)


def _taken_off(found: Located) -> str:
    level = f"{100 * found.pedestal / found.peak:.2g} %"
    return f"a pedestal of {level} of the peak taken off"


def _real(psf):
    array = np.asarray(psf)
    if array.dtype.kind not in "buif":
        raise ValueError(f"PSF: expected integers or floats, got {array.dtype}")
    array = array.astype(np.float64)
    if not np.isfinite(array).all():
        raise ValueError("PSF: it holds NaN or infinite values")
    while array.ndim > 2 and 1 in array.shape[:-2]:
        array = array.squeeze(array.shape.index(1))
    if array.ndim not in (2, 3) or array.size == 0:
        raise ValueError(
            f"PSF: expected one image, or a volume (Z, Y, X), got shape {array.shape}; "
            "give a single plane"
        )
    return array


def _in_focus(array, notes):
    """The sharpest plane of a volume: that of the highest mean square above its background."""
    if array.ndim == 2:
        return array
    best, count = _sharpest(array), len(array)
    notes.append(
        f"plane {best + 1} of {count}, the sharpest, is used; light from out of focus, which other "
        "planes hold, is not modelled"
    )
    return array[best]


def _sharpest(array):
    """The number of the sharpest plane; ValueError if the focus may lie outside."""
    planes = array - np.median(array, axis=(1, 2), keepdims=True)
    sharpness = np.mean(planes**2, axis=(1, 2))
    best, count = int(np.argmax(sharpness)), len(array)
    advice = "give the plane in focus as an image of its own"
    if sharpness.max() <= _ALIKE * sharpness.min():
        raise ValueError(f"PSF: its {count} planes are equally sharp; {advice}")
    if best in (0, count - 1):
        which = "first" if best == 0 else "last"
        raise ValueError(
            f"PSF: the {which} of its {count} planes is the sharpest, so that its focus may lie "
            f"outside; {advice}"
        )
    return best


def _from_corners(image, notes):
    """Roll a PSF whose centre is the first pixel, as Fourier transforms order it."""
    peak = np.unravel_index(np.argmax(image), image.shape)
    corner = all(min(p, n - p) <= 1 for p, n in zip(peak, image.shape, strict=True))
    first = image if image.ndim == 2 else image[0]
    # Light beyond the border, at the other end of the row and of the column.
    beyond = first[-1, 0], first[0, -1], first[-1, -1]
    level = np.median(image)
    if min(image.shape[-2:]) < SHOWS_RIM or not corner or first[0, 0] <= level:
        return image
    if min(beyond) - level < 0.05 * (first[0, 0] - level):
        return image
    notes.append("rolled from the corners, where its centre was, to the middle")
    return np.fft.fftshift(image)


def _without_noise(image, found):
    """Make a PSF 0 beyond the last square ring around its centre whose mean rises above the noise.

    A pedestal that is off by 0.1 % of the peak, and the noise, would weigh as much in a large frame
    as the PSF itself.
    """
    middle = np.rint(found.centre).astype(int)
    y, x = np.indices(image.shape)
    rings = np.maximum(np.abs(y - middle[0]), np.abs(x - middle[1])).ravel()
    counts = np.maximum(np.bincount(rings), 1)
    means = np.bincount(rings, image.ravel()) / counts
    above = np.flatnonzero(means > _RISES * found.noise / np.sqrt(counts))
    reach = int(above[-1]) if above.size else 0
    return np.where(rings.reshape(image.shape) <= reach, image, 0)


def _steps(pixel_size, image_pixel_size, notes):
    """Pixels of the image in pixels of the PSF, or None if they are the same."""
    if pixel_size is None or image_pixel_size is None:
        return None
    steps = np.divide(image_pixel_size, pixel_size)
    if np.all(np.abs(np.log(steps)) <= np.log1p(_OTHER_PIXELS)):
        return None
    sizes = f"pixels of {_by(pixel_size)} to the image's {_by(image_pixel_size)}"
    if not np.all(np.abs(np.log(steps)) <= np.log(_ABSURD_PIXELS)):
        sizes = sizes.replace(" to ", " beside ")
        notes.append(f"not resampled: {sizes} must be a mistake in one of both")
        return None
    notes.append(f"resampled from {sizes}")
    return steps


def _centred(image, centre, steps, notes):
    """With the centre in the middle of the middle pixel, and of odd sides."""
    nominal = np.array(image.shape) // 2  # of even sides as Fourier transforms have it
    off, most = centre - nominal, tolerance(image.shape[-2:])
    if np.abs(off).max() > most:
        if image.ndim == 2:
            _check_whole(image, off)
        words = (("deeper", "back"), ("down", "up"), ("right", "left"))[-image.ndim :]
        moves = [
            f"{word[int(d > 0)]} by {abs(d):.2f}"
            for d, word in zip(off, words, strict=True)
            if abs(d) > most
        ]
        notes.append(f"centred: moved {' and '.join(moves)} pixels")
    whole = np.rint(centre).astype(int)
    if steps is not None:
        # The pixels change anyway; a PSF that is centred keeps its symmetry.
        middle = np.where(np.abs(off) > most, centre, nominal)
        return resampled(image, tuple(middle.tolist()), tuple(steps.tolist()))
    if np.abs(off).max() <= most:
        whole = nominal
    elif np.abs(centre - whole).max() > most:
        middle = np.where(np.abs(centre - whole) > most, centre, whole)
        return resampled(image, tuple(middle.tolist()))
    result = moved_to_middle(image, tuple(whole.tolist()))
    if any(side % 2 == 0 for side in image.shape):
        notes.append(f"padded from {_by(image.shape)} to {_by(result.shape)} pixels")
    return result


def _check_whole(image, off):
    """Refuse what is cut off at the border that the centre is nearest to."""
    height = image - np.median(image)
    sides = [height[-1 if off[0] > 0 else 0], height[:, -1 if off[1] > 0 else 0]]
    cut = [
        abs(d) > 1 and side.max() > 0.5 * height.max() for d, side in zip(off, sides, strict=True)
    ]
    if min(image.shape) >= SHOWS_RIM and any(cut):
        raise ValueError(
            "PSF: its centre lies at its border, which cuts off a part of it; give one that shows "
            "all of it"
        )


def _fitting(image, largest, notes):
    """Cut rows and columns down to the image, if it holds nearly all of the PSF."""
    if largest is None or max(image.shape[-2:]) <= _LARGE * largest:
        return image
    small = trimmed(image)
    sides = [min(side, largest - 1 + largest % 2) for side in small.shape[-2:]]
    rims = [(side - kept) // 2 for side, kept in zip(small.shape[-2:], sides, strict=True)]
    cut = small[..., rims[0] : rims[0] + sides[0], rims[1] : rims[1] + sides[1]]
    lost = 1 - np.abs(cut).sum() / np.abs(image).sum()
    if lost > _CUT:
        return small
    if lost > _LOST:
        notes.append(
            f"cut from {_by(small.shape)} to {_by(cut.shape)} pixels to fit the image, which loses "
            f"{100 * lost:.2g} % of its light"
        )
    return cut


def _by(pair):
    return "x".join(f"{value:g}" for value in pair)
