"""Where a PSF has its centre, on what pedestal it stands, and what speaks against its use as it is.

NumPy on the host. `psf_cleaning` mends what is found here.
"""

import warnings
from typing import NamedTuple

import numpy as np
from jaxtyping import ArrayLike, Float64, Shaped

from jaxdenoise.microscope.spots import fit_gaussian

# A side from which on a PSF shows its surroundings: a smaller one may be cut off anywhere, and its
# brightest pixels are most of it.
SHOWS_RIM = 7
_OFF_CENTRE = 0.1  # pixels; what a fit to a measured PSF leaves open, and a training does not feel
_OFF_CENTRE_SMALL = 0.4  # of a PSF that is too small for a fit
_PEDESTAL = 0.01  # of the peak
_PEDESTAL_SHARE = 0.1  # of the sum, which a low pedestal has in a large frame
_ERRORS = 3.0  # a pedestal is real if it is this many of its standard errors
# Tried on 2078 PSFs without a pedestal: Gaussians, Airy discs, Moffats, cores with a halo, comatic,
# astigmatic and uniform ones of sigma 0.5 to 3 in frames of 11 to 65 pixels that hold three sigmas,
# with noise of 0, 0.3 and 1 % of the peak. 15 of them were said to have one, 14 of these noisy and
# with a halo or coma that the frame cuts off; without the condition that it is flat, 120. Of
# pedestals of 2, 10 and 50 % of the peak 82, 96 and 99 % were found; those missed were in the
# tightest frames, or within their noise.
_FARTHEST = 0.1  # of the pixels: those that show the pedestal
_NEARER = 0.85  # of their distance: pixels that must be as bright if it is one
_FLAT = 0.125  # of the level: how far the nearer pixels may differ from it
_LOPSIDED = 0.7  # sigma: how far the peak may lie from the centre of the fit
_WINDOW = 32  # pixels on each side of the centre that are fitted
_WARN_OFF_CENTRE = 0.25  # pixels, of an array that is used as it is


class Located(NamedTuple):
    """Result of `locate`.

    Attributes:
        centre: (y, x) in pixels from the middle of the first pixel.
        pedestal: The level around the PSF; 0 where there is none.
        peak: The maximum above the pedestal.
        noise: Standard deviation of the pixels that are farthest from the centre.
    """

    centre: Float64[np.ndarray, "2"]
    pedestal: float
    peak: float
    noise: float


def psf_faults(psf: Shaped[ArrayLike, "..."]) -> tuple[str, ...]:
    """Return what speaks against training with an array as it is: a phrase each. Host side.

    Args:
        psf: (h, w) with odd sides, bool or any real dtype; of a volume (d, h, w) the plane of the
            brightest pixel is looked at, which should be the middle one.

    Returns:
        "its centre is 2.00 pixels off", if that is more than 0.25; "it stands on a pedestal of 3 %
        of its peak", if `clean_psf` would take it off. Empty for a good PSF.
    """
    array = np.asarray(psf)
    if array.ndim not in (2, 3) or array.size == 0 or array.dtype.kind not in "buif":
        return ()  # no PSF at all, which others refuse
    array = array.astype(np.float64)
    if not np.isfinite(array).all():
        return ()
    faults = []
    if array.ndim == 3:
        plane = int(np.argmax(array.max(axis=(1, 2))))
        if abs(plane - len(array) // 2) > 0 and not _is_flat(array):
            faults.append(f"its centre is {abs(plane - len(array) // 2)} planes off")
        array = array[plane]
    found = locate(array)
    off = found.centre - (np.array(array.shape) - 1) / 2
    if np.hypot(*off) > max(_WARN_OFF_CENTRE, tolerance(array.shape)):
        faults.append(f"its centre is {np.hypot(*off):.2f} pixels off")
    if is_pedestal(array, found):
        level = f"{100 * found.pedestal / found.peak:.2g} %"
        faults.append(f"it stands on a pedestal of {level} of its peak")
    return tuple(faults)


def _is_flat(volume):
    """Whether the middle plane is as bright as the brightest, to rounding."""
    return volume[len(volume) // 2].max() >= (1 - 1e-6) * volume.max()


def warn_of_faults(*psfs: Shaped[ArrayLike, "..."]) -> None:
    """Warn of arrays that are used as PSFs as they are and had better not, see `psf_faults`."""
    for psf in psfs:
        faults = psf_faults(psf)
        if faults:
            warnings.warn(
                f"PSF: {' and '.join(faults)}; jaxdenoise.clean_psf mends that", stacklevel=3
            )


def locate(image: Float64[np.ndarray, "h w"]) -> Located:
    """Find the centre of a PSF, and the level that it stands on. Host side.

    The centre is that of a Gaussian fitted together with a background; of a lopsided PSF the point
    between that and the peak that is nearest to the middle of the image; where the fit fails, the
    centroid of the bright part. The level is the median of the tenth of the pixels that are
    farthest from the centre, or the fit's background if that is nearer to 0, and only where it is
    flat.
    """
    level = float(np.median(image)) if min(image.shape) >= SHOWS_RIM else float(image.min())
    peak = float(image.max()) - level
    # Weights without a jump at the threshold, which pixels would cross one by one.
    centre = _centroid(np.maximum(image - level - 0.25 * peak, 0))
    if min(image.shape) < SHOWS_RIM or peak <= 0:
        return Located(centre, 0.0, max(peak, 0), 0.0)
    area = np.count_nonzero(image - level > 0.5 * peak)
    fit, fitted = _fit(image, centre, np.sqrt(area / np.pi) / 1.1774)
    # A fit that went elsewhere has found something else than the bright part.
    if fit is None or np.hypot(*(fitted - centre)) > max(1.0, 0.5 * float(fit.sigma.max())):
        pedestal, noise = _level_around(image, centre, np.inf)
        return Located(centre, pedestal, float(image.max()) - pedestal, noise)
    pedestal, noise = _level_around(image, fitted, fit.background)
    own = _nearest_between(fitted, _peak(image, pedestal), fit.sigma, image.shape)
    return Located(own, pedestal, float(image.max()) - pedestal, noise)


def is_pedestal(image: Float64[np.ndarray, "h w"], found: Located) -> bool:
    """Return whether the pedestal is above 1 % of the peak, or a tenth of the PSF's sum."""
    if found.pedestal == 0 or found.peak <= 0:
        return False
    share = abs(found.pedestal) * image.size > _PEDESTAL_SHARE * abs(float(image.sum()))
    return bool(share or abs(found.pedestal) > _PEDESTAL * found.peak)


def tolerance(shape: tuple[int, ...]) -> float:
    """Return how many pixels a PSF of this shape may be off its middle and count as centred."""
    return _OFF_CENTRE if min(shape) >= SHOWS_RIM else _OFF_CENTRE_SMALL


def _level_around(image, centre, background):
    """The pedestal, 0 where there is none, and the noise of the pixels that show it.

    `background` is that of the fit, infinite without one.
    """
    y, x = np.indices(image.shape)
    distances = np.hypot(y - centre[0], x - centre[1])
    far = image[distances >= np.quantile(distances, 1 - _FARTHEST)]
    reach = _NEARER * np.quantile(distances, 1 - _FARTHEST / 2)
    nearer = image[np.abs(distances - reach) <= 1]
    level = float(np.median(far))
    noise = 1.4826 * float(np.median(np.abs(far - level)))
    error = 1.2533 * noise / np.sqrt(min(far.size, nearer.size))  # of a median
    # The tail of a PSF that fills its frame makes the far pixels bright, but brighter the nearer
    # they are; one that is no Gaussian moves the fit's background. A pedestal does neither.
    slope = abs(float(np.median(nearer)) - level)
    flat = slope < max(_FLAT * abs(level), 2 * error)
    same = np.sign(level) == np.sign(background) or np.isinf(background)
    pedestal = min(level, background, key=abs) if flat and same else 0.0
    return (float(pedestal) if abs(pedestal) >= _ERRORS * error else 0.0), noise


def _peak(image, level):
    """The maximum between pixels: that of the Gaussian through a pixel and its neighbours."""
    place = np.array(np.unravel_index(np.argmax(image), image.shape))
    peak = place.astype(float)
    for axis in (0, 1):
        if 0 < place[axis] < image.shape[axis] - 1:
            line = image.take(place[1 - axis], axis=1 - axis)[place[axis] - 1 : place[axis] + 2]
            low, top, high = np.log(np.maximum(line - level, 1e-3 * (line[1] - level)))
            peak[axis] += 0.5 * (high - low) / max(2 * top - low - high, 1e-9)
    return peak


def _nearest_between(fitted, peak, sigma, shape):
    """Of the points between a fit's centre and the peak that which is nearest to the middle.

    A lopsided PSF that has its middle there was centred already, in one way or another.
    """
    if np.any(np.abs(fitted - peak) > _LOPSIDED * sigma):
        return fitted  # no peak to speak of, such as that of a ring
    nominal = np.array(shape) // 2
    return np.clip(nominal, np.minimum(fitted, peak), np.maximum(fitted, peak))


def _fit(image, centre, sigma):
    """A Gaussian with a background, and its centre in the image; None where there is no room."""
    middle = np.rint(centre).astype(int)
    room = int(min(*middle, *(np.array(image.shape) - 1 - middle), _WINDOW))
    if room < 2:
        return None, centre
    top, left = middle - room
    window = image[top : top + 2 * room + 1, left : left + 2 * room + 1]
    try:
        fit = fit_gaussian(window, np.full(2, max(sigma, 0.3)), room)
    except np.linalg.LinAlgError:  # such as a single pixel
        return None, centre
    if fit.height <= 0 or fit.sigma.max() >= 2 * room:
        return None, centre
    return fit, middle + fit.centre


def _centroid(weights):
    """(y, x); the middle of an image without light."""
    if weights.sum() <= 0:
        return (np.array(weights.shape) - 1) / 2
    y, x = np.indices(weights.shape)
    return np.array([np.sum(place * weights) for place in (y, x)]) / weights.sum()
