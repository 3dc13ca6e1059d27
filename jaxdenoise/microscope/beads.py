"""A measured PSF: the mean of beads smaller than the resolution, in an image or a stack.

NumPy on the host. A bead's own size widens its image: a sphere of diameter d adds d^2 / 20 to the
variance sigma^2 along each axis. Below half the PSF's FWHM that is less than 4 % of sigma.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import ArrayLike, Float32, Float64, Int, Shaped

from jaxdenoise.imaging.arguments import Size
from jaxdenoise.imaging.levels import Scalar
from jaxdenoise.microscope.spots import GaussianFit, find_spots, fit_gaussian
from jaxdenoise.microscope.widths import full_width

__all__ = ["MeasuredPsf", "measure_psf"]

_RADIUS = 4.0  # sigmas from the centre of the PSF to its border, unless a size is given
_RIM = 2  # pixels around the PSF, where the remaining background and its noise are measured
_NEIGHBOUR = 0.1  # of a bead's height: fainter neighbours do no harm
# An outlier differs from the other beads by more than this many standard deviations, and by more
# than a factor in width or brightness.
_DEVIATIONS = 3.0
_WIDER, _BRIGHTER = 1.15, 2.5
_NARROWEST = 0.4  # sigma in pixels; a narrower spot is a hot pixel
_NOISIEST = 0.2  # largest noise of the mean bead, relative to its peak
_REASONS = ("border", "saturated", "focus", "neighbour", "shape", "bright")
_FULL_SCALES = (255, 1023, 4095, 16383, 32767, 65535)  # of cameras


class MeasuredPsf(NamedTuple):
    """Result of `measure_psf`; pairs are (y, x) in pixels.

    Attributes:
        psf: (h, w) float32 with odd sides, centred, non-negative, sum 1.
        sigma: Standard deviations of the Gaussian fitted to the mean bead; not its FWHM.
        fwhm: Full widths at half maximum of the mean bead's profiles through its centre, with no
            Gaussian assumed.
        deconvolved_sigma: Sigma without the bead's own size, None if no `bead_diameter` was given.
        noise: Standard deviation of the mean bead's background, relative to its peak.
        positions: (N, 2) float64, the centres of the beads used.
        planes: (N,) int, the plane from which each bead was taken; 0 in an image.
        rejected: How many spots were not used, by reason; `measure_psf` explains the reasons.
    """

    psf: Float32[np.ndarray, "h w"]
    sigma: tuple[float, float]
    fwhm: tuple[float, float]
    deconvolved_sigma: tuple[float, float] | None
    noise: float
    positions: Float64[np.ndarray, "N 2"]
    planes: Int[np.ndarray, " N"]
    rejected: dict[str, int]


class _Bead(NamedTuple):
    spot: Int[np.ndarray, "2"]  # (y, x) of the brightest pixel after smoothing
    plane: int
    patch: Float64[np.ndarray, "h w"]  # around the spot
    fit: GaussianFit


def measure_psf(
    stack: Shaped[ArrayLike, "..."],
    *,
    size: Size | None = None,
    saturation: Scalar | None = None,
    bead_diameter: Scalar | None = None,
) -> MeasuredPsf:
    """Measure the lateral PSF from beads. Host side.

    Spots that rise ten times the noise above the background are found. In a stack each is taken
    from its plane of best focus, where its centre is brightest. Spots are rejected if they are too
    near the border ("border"); saturated ("saturated"); brightest in the first or last of three or
    more planes ("focus"); too near another spot of at least a tenth of their height ("neighbour");
    of another width than the rest, or narrower than optics can make them ("shape": aggregates,
    dust, hot pixels); or far brighter than the rest ("bright": aggregates). The others are shifted
    by their fitted centres (with the Fourier transform, so the PSF must not be undersampled: sigma
    0.8 pixels or more) and averaged. The background of the mean is subtracted; it fades to 0
    towards the border, and is 0 where it is below its noise.

    Args:
        stack: (H, W) or (Z, H, W), any real dtype, in grey levels.
        size: Odd sides of the PSF in pixels, a number or a pair (y, x). Default: about eight
            sigmas, which cuts off diffraction rings.
        saturation: Grey level from which a pixel is saturated. Default: the maximum of the stack if
            it is 255, 1023, 4095, 16383, 32767 or 65535, or if four of a bead's pixels have it.
        bead_diameter: Diameter of a bead in pixels, for `MeasuredPsf.deconvolved_sigma`; the PSF
            itself still includes the bead's size.

    Raises:
        ValueError: The stack is not 2-D or 3-D, not real, or has NaN or infinite values; a size is
            even or larger than the image; no bead is found, none can be used, or all are too noisy;
            or the beads are larger than their image.
    """
    planes = _checked(stack)
    spots, heights, sigma = find_spots(planes.max(axis=0))
    radius = _radius(size, sigma, planes.shape[1:])
    beads, rejected = _suitable(planes, spots, heights, sigma, radius + _RIM, saturation)
    beads = _without_outliers(beads, rejected)
    if not beads:
        counts = ", ".join(f"{number} {reason}" for reason, number in rejected.items() if number)
        raise ValueError(
            f"measure_psf: none of {len(spots)} spots can be used ({counts}); "
            "give separate beads away from the border, exposed so that none is saturated"
        )
    mean = sum(_shift(bead.patch - bead.fit.background, -bead.fit.centre) for bead in beads)
    psf, mean, noise = _finish(mean, radius)
    sigma = fit_gaussian(mean, sigma, 2 * _RIM).sigma
    return MeasuredPsf(
        psf=psf,
        sigma=tuple(sigma.tolist()),
        fwhm=(_profile_fwhm(mean[:, mean.shape[1] // 2]), _profile_fwhm(mean[mean.shape[0] // 2])),
        deconvolved_sigma=None if bead_diameter is None else _without_bead(sigma, bead_diameter),
        noise=noise,
        positions=np.array([bead.spot + bead.fit.centre for bead in beads]),
        planes=np.array([bead.plane for bead in beads]),
        rejected=rejected,
    )


def _checked(stack):
    stack = np.asarray(stack)
    if stack.ndim not in (2, 3) or 0 in stack.shape:
        raise ValueError(
            "measure_psf: expected an image (H, W) or a stack (Z, H, W), "
            f"got shape {stack.shape}; give one channel"
        )
    if stack.dtype.kind not in "uif":
        raise ValueError(f"measure_psf: expected integers or floats, got {stack.dtype}")
    stack = stack.astype(np.float64)
    if not np.isfinite(stack).all():
        raise ValueError(
            f"measure_psf: {np.sum(~np.isfinite(stack))} pixels are NaN or infinite; "
            "replace or crop them"
        )
    return stack[None] if stack.ndim == 2 else stack


def _radius(size, sigma, shape):
    """Half sides (y, x) of the PSF in pixels."""
    sizes = 2 * np.rint(_RADIUS * sigma) + 1 if size is None else np.atleast_1d(size)
    if sizes.shape not in ((1,), (2,)) or any(n < 3 or n % 2 != 1 for n in sizes):
        raise ValueError(
            "measure_psf: size must be an odd number of pixels, at least 3, "
            f"or a pair (y, x) of them, not {size}"
        )
    radius, least = np.broadcast_to(sizes.astype(int) // 2, 2), np.ceil(2 * sigma).astype(int)
    if any(radius < least):
        raise ValueError(
            f"measure_psf: size {size} cuts into the beads; "
            f"give at least {_by(2 * least + 1)} pixels (y, x)"
        )
    needed = 2 * (radius + _RIM) + 1
    if any(needed > shape):
        raise ValueError(
            f"measure_psf: a bead takes {_by(needed)} pixels, the image has {_by(shape)}; "
            "give a larger image or smaller size"
        )
    return radius


def _by(pair):
    return "x".join(map(str, pair))


def _profile_fwhm(line):
    """FWHM of a profile that ends near 0, interpolated to eight times as many points first."""
    fine = np.fft.irfft(np.fft.rfft(line), 8 * len(line))
    return full_width(fine, 8 * (len(line) // 2)) / 8


def _suitable(stack, spots, heights, sigma, reach, saturation):
    """The spots that may be used as `_Bead`s, and how many of the others there are, by reason."""
    depth, *shape = stack.shape
    y, x = np.ix_(*(np.arange(-r, r + 1) / s for r, s in zip(reach, sigma, strict=True)))
    centre = np.exp(-0.5 * (y**2 + x**2))
    peaks = np.zeros(shape)
    peaks[tuple(spots.T)] = heights
    top = stack.max()
    level, count = (top, 1 if top in _FULL_SCALES else 4) if saturation is None else (saturation, 1)
    beads, rejected = [], dict.fromkeys(_REASONS, 0)
    for spot, height in zip(spots, heights, strict=True):
        if any(spot < reach) or any(spot + reach >= shape):
            rejected["border"] += 1
            continue
        windows = _window(stack, spot, reach)
        plane = int(np.argmax((windows * centre).sum(axis=(1, 2))))
        fit = fit_gaussian(windows[plane], sigma, 2 * _RIM)
        unsuitable = {
            "saturated": np.sum(windows[plane] >= level) >= count,
            "focus": depth > 2 and plane in (0, depth - 1),
            "neighbour": np.sum(_window(peaks, spot, reach) >= _NEIGHBOUR * height) > 1,
            "shape": fit.height <= 0 or max(abs(fit.centre)) > _RIM or min(fit.sigma) < _NARROWEST,
        }
        if any(unsuitable.values()):
            rejected[next(reason for reason, applies in unsuitable.items() if applies)] += 1
        else:
            beads.append(_Bead(spot, plane, windows[plane], fit))
    return beads, rejected


def _window(images, spot, reach):
    return images[
        ...,
        spot[0] - reach[0] : spot[0] + reach[0] + 1,
        spot[1] - reach[1] : spot[1] + reach[1] + 1,
    ]


def _without_outliers(beads, rejected):
    """The beads that are alike; the others are counted in `rejected`."""
    if not beads:
        return []
    logs = np.log(
        [
            (*bead.fit.sigma, bead.fit.height * bead.fit.sigma[0] * bead.fit.sigma[1])
            for bead in beads
        ]
    )
    offsets = logs - np.median(logs, axis=0)
    spread = 1.4826 * np.median(np.abs(offsets), axis=0)
    offsets /= np.maximum(_DEVIATIONS * spread, np.log([_WIDER, _WIDER, _BRIGHTER]))
    misshapen = (np.abs(offsets[:, :2]) > 1).any(axis=1)
    bright = ~misshapen & (offsets[:, 2] > 1)  # faint beads are as good as any
    rejected["shape"] += int(misshapen.sum())
    rejected["bright"] += int(bright.sum())
    return [bead for bead, out in zip(beads, misshapen | bright, strict=True) if not out]


def _shift(patch, by):
    """The patch shifted by (y, x) pixels with the Fourier transform."""
    phase = sum(np.ix_(*(np.fft.fftfreq(n) * d for n, d in zip(patch.shape, by, strict=True))))
    return np.fft.ifft2(np.fft.fft2(patch) * np.exp(-2j * np.pi * phase)).real


def _finish(mean, radius):
    """The PSF, the mean bead without background at peak 1, and its noise."""
    rim = np.pad(np.zeros(2 * radius + 1, dtype=bool), _RIM, constant_values=True)
    mean = mean - np.median(mean[rim])
    peak, noise = mean.flat[mean.size // 2], 1.4826 * np.median(np.abs(mean[rim]))
    if noise > _NOISIEST * peak:
        raise ValueError(
            "measure_psf: the beads are too few or too faint for their noise; "
            "give more or brighter ones"
        )
    mean, noise = mean / peak, float(noise / peak)
    # The window is 1 up to three quarters of the way to the border, then falls to 0 as a squared
    # cosine.
    y, x = np.ix_(*(np.arange(-r, r + 1) / (r + 1) for r in radius))
    window = np.cos(np.pi / 2 * np.clip(4 * np.hypot(y, x) - 3, 0, 1)) ** 2
    psf = window * mean[~rim].reshape(window.shape)
    psf[psf < noise] = 0  # otherwise the noise above 0 would add up to a halo
    return (psf / psf.sum()).astype(np.float32), mean, noise


def _without_bead(sigma, diameter):
    if not diameter >= 0 or any(diameter**2 / 20 >= sigma**2):
        found = f"sigma {sigma[0]:.3g}, {sigma[1]:.3g} pixels (y, x)"
        raise ValueError(
            f"measure_psf: spots of {found} cannot be beads of diameter {diameter:g}; "
            "give bead_diameter in pixels"
        )
    return tuple(np.sqrt(sigma**2 - diameter**2 / 20).tolist())
