"""A measured PSF: the mean of beads smaller than the resolution, in an image or a stack of planes. NumPy on the host.

A bead's own size widens its image: a sphere of diameter d adds d^2 / 20 to the variance sigma^2
along each axis. Below half the PSF's FWHM that is less than 4 % of sigma.
"""

from typing import NamedTuple

import numpy as np

__all__ = ["MeasuredPsf", "measure_psf"]

_FWHM = 2.3548  # of a Gaussian of standard deviation 1
_RADIUS = 4.0  # sigmas from the centre of the PSF to its border, unless a size is given
_RIM = 2  # pixels around the PSF, where the remaining background and its noise are measured
_CONTRAST = 10.0  # times the noise, what a spot rises above the background
_FAINTEST = 0.02  # of the brightest spot: what is fainter may be its diffraction rings
_NEIGHBOUR = 0.1  # of a bead's height: fainter neighbours do no harm
# standard deviations from the other beads, what makes an outlier, but at least these factors:
_DEVIATIONS = 3.0
_WIDER, _BRIGHTER = 1.15, 2.5
_NARROWEST = 0.4  # sigma in pixels: a hot pixel
_NOISIEST = 0.2  # noise of the mean bead, relative to its peak
_REASONS = ("border", "saturated", "focus", "neighbour", "shape", "bright")
_FULL_SCALES = (255, 1023, 4095, 16383, 32767, 65535)  # of cameras


class MeasuredPsf(NamedTuple):
    """What `measure_psf` found; pairs are (y, x) in pixels.

    Attributes:
        psf: (h, w) float32 with odd sides, centred, non-negative, sum 1.
        sigma: Standard deviations of the Gaussian fitted to the mean bead; not its FWHM.
        fwhm: Full widths at half maximum of the mean bead's profiles through its centre, with no
            Gaussian assumed.
        deconvolved_sigma: Sigma without the bead's own size; None if no `bead_diameter` was given.
        noise: Standard deviation of the mean bead's background, relative to its peak.
        positions: (N, 2) float64, the centres of the beads used.
        planes: (N,) int, the plane of each that was used; 0 in an image.
        rejected: How many spots were not used, by reason; `measure_psf` says what the reasons mean.
    """

    psf: np.ndarray
    sigma: tuple[float, float]
    fwhm: tuple[float, float]
    deconvolved_sigma: tuple[float, float] | None
    noise: float
    positions: np.ndarray
    planes: np.ndarray
    rejected: dict[str, int]


class _Bead(NamedTuple):
    spot: np.ndarray  # (y, x) of its brightest pixel, smoothed
    plane: int
    patch: np.ndarray  # around the spot
    fit: np.ndarray  # what `_fit_gaussian` says


def measure_psf(stack, *, size=None, saturation=None, bead_diameter=None):
    """Measure the lateral PSF from beads.

    Spots that rise ten times the noise above the background are found. Of a stack each is taken
    from its plane of best focus, where its centre is brightest. Left out are spots too near the
    border ("border"); saturated ("saturated"); brightest in the first or last of three or more
    planes ("focus"); too near another spot of at least a tenth of their height ("neighbour"); of
    another width than the rest, or narrower than optics can make them ("shape": aggregates, dust,
    hot pixels); far brighter than the rest ("bright": aggregates). The others are shifted by their
    fitted centres (with the Fourier transform, so the PSF must not be undersampled: sigma 0.8
    pixels or more) and added up. The mean loses its background, fades to 0 towards the border, and
    is 0 where it is below its noise.

    Args:
        stack: (H, W) or (Z, H, W), any real dtype, in grey levels.
        size: Odd sides of the PSF in pixels, an int or a pair (y, x). Default: about eight sigmas,
            which cuts diffraction rings off.
        saturation: Grey level from which a pixel is saturated. Default: the maximum of the stack if
            it is 255, 1023, 4095, 16383, 32767 or 65535, or if four of a bead's pixels have it.
        bead_diameter: Of a bead in pixels, for `MeasuredPsf.deconvolved_sigma`; the PSF itself
            still holds the bead's size.

    Returns:
        A `MeasuredPsf`.

    Raises:
        ValueError: Not 2-D or 3-D, not numeric, NaN or infinite values; an even size; an image too
            small for it; no bead was found, none can be used, or all are too noisy; beads larger
            than their image.
    """
    stack = _checked(stack)
    spots, heights, sigma = _find(stack.max(axis=0))
    radius = _radius(size, sigma, stack.shape[1:])
    beads, rejected = _suitable(stack, spots, heights, sigma, radius + _RIM, saturation)
    beads = _without_outliers(beads, rejected)
    if not beads:
        counts = ", ".join(f"{number} {reason}" for reason, number in rejected.items() if number)
        advice = "give separate beads away from the border, exposed so that none is saturated"
        raise ValueError(
            f"measure_psf: none of {len(spots)} spots can be used ({counts}); {advice}"
        )
    mean = sum(_shift(bead.patch - bead.fit[5], -bead.fit[1:3]) for bead in beads)
    psf, mean, noise = _finish(mean, radius)
    sigma = _fit_gaussian(mean, sigma)[3:5]
    return MeasuredPsf(
        psf=psf,
        sigma=tuple(sigma.tolist()),
        fwhm=(_profile_fwhm(mean[:, mean.shape[1] // 2]), _profile_fwhm(mean[mean.shape[0] // 2])),
        deconvolved_sigma=None if bead_diameter is None else _without_bead(sigma, bead_diameter),
        noise=noise,
        positions=np.array([bead.spot + bead.fit[1:3] for bead in beads]),
        planes=np.array([bead.plane for bead in beads]),
        rejected=rejected,
    )


def _checked(stack):
    stack = np.asarray(stack)
    if stack.ndim not in (2, 3) or 0 in stack.shape:
        raise ValueError(
            f"measure_psf: expected an image (H, W) or a stack (Z, H, W), got shape {stack.shape}; give one channel"
        )
    if stack.dtype.kind not in "uif":
        raise ValueError(f"measure_psf: expected integers or floats, got {stack.dtype}")
    stack = stack.astype(np.float64)
    if not np.isfinite(stack).all():
        raise ValueError(
            f"measure_psf: {np.sum(~np.isfinite(stack))} pixels are NaN or infinite; replace or crop them"
        )
    return stack[None] if stack.ndim == 2 else stack


def _radius(size, sigma, shape):
    sizes = 2 * np.rint(_RADIUS * sigma) + 1 if size is None else np.atleast_1d(size)
    if sizes.shape not in ((1,), (2,)) or any(n < 3 or n % 2 != 1 for n in sizes):
        raise ValueError(
            f"measure_psf: size must be an odd number of pixels, at least 3, or a pair (y, x) of them, not {size}"
        )
    radius, least = np.broadcast_to(sizes.astype(int) // 2, 2), np.ceil(2 * sigma).astype(int)
    if any(radius < least):
        raise ValueError(
            f"measure_psf: size {size} cuts into the beads; give at least {_by(2 * least + 1)} pixels (y, x)"
        )
    needed = 2 * (radius + _RIM) + 1
    if any(needed > shape):
        raise ValueError(
            f"measure_psf: a bead takes {_by(needed)} pixels, the image has {_by(shape)}; give a larger image or smaller size"
        )
    return radius


def _by(pair):
    return "x".join(map(str, pair))


def _find(image):
    """Pixels of the spots (N, 2), their heights (N,) after smoothing, and their typical sigma (2,)."""
    sigma = np.ones(2)
    for _ in range(
        3
    ):  # spots show best smoothed by their own width, which is known when they are found
        smooth = _blur(image, sigma)
        smooth -= np.median(smooth)
        noise = 1.4826 * np.median(np.abs(smooth))
        limit = max(_CONTRAST * noise, _FAINTEST * smooth.max())
        # The ramp decides between equal neighbours, such as those of a saturated bead.
        spots = np.argwhere(
            _is_peak(
                smooth + np.linspace(0, 1e-9 * smooth.max(), smooth.size).reshape(smooth.shape),
                sigma,
                limit,
            )
        )
        fwhm = np.array([(_fwhm(smooth[:, x], y), _fwhm(smooth[y], x)) for y, x in spots]).reshape(
            -1, 2
        )
        fwhm = fwhm[np.isfinite(fwhm).all(axis=1)]
        if not len(fwhm):
            spot = f"no spot rises {_CONTRAST:g} times the noise ({noise:.3g} grey levels after smoothing) above the background"
            raise ValueError(
                f"measure_psf: no bead found: {spot}; give an image of bright, separate beads"
            )
        sigma = np.sqrt(np.maximum((np.median(fwhm, axis=0) / _FWHM) ** 2 - sigma**2, 0.25))
    return spots, smooth[tuple(spots.T)], sigma


def _blur(image, sigma):
    for axis, s in enumerate(sigma):
        radius = int(np.ceil(3 * s))
        weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / s) ** 2)
        image = sum(
            w * part
            for w, part in zip(weights / weights.sum(), _shifted(image, radius, axis), strict=True)
        )
    return image


def _is_peak(image, sigma, limit):
    highest = image
    for axis, s in enumerate(sigma):
        for part in _shifted(highest, int(np.ceil(s)), axis):
            highest = np.maximum(highest, part)
    return (image == highest) & (image > limit)


def _shifted(image, radius, axis):
    padded = np.pad(
        image, [(radius, radius) if a == axis else (0, 0) for a in (0, 1)], mode="symmetric"
    )
    return [
        padded[i : i + image.shape[0]] if axis == 0 else padded[:, i : i + image.shape[1]]
        for i in range(2 * radius + 1)
    ]


def _fwhm(line, centre):
    """NaN where the line does not fall to half the centre's value before it ends."""
    half, width = line[centre] / 2, 0.0
    for side in (line[centre:], line[centre::-1]):
        below = np.flatnonzero(side < half)
        if not len(below):
            return np.nan
        i = below[0]
        width += i - 1 + (side[i - 1] - half) / (side[i - 1] - side[i])
    return width


def _profile_fwhm(line):
    """FWHM of a profile that ends near 0, from eight times as many points, so that a straight line between them is good enough."""
    fine = np.fft.irfft(np.fft.rfft(line), 8 * len(line))
    return float(_fwhm(fine, 8 * (len(line) // 2)) / 8)


def _suitable(stack, spots, heights, sigma, reach, saturation):
    """The spots worth a look as `_Bead`s, and how many of the others there are, by reason."""
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
        fit = _fit_gaussian(windows[plane], sigma)
        unsuitable = {
            "saturated": np.sum(windows[plane] >= level) >= count,
            "focus": depth > 2 and plane in (0, depth - 1),
            "neighbour": np.sum(_window(peaks, spot, reach) >= _NEIGHBOUR * height) > 1,
            "shape": fit[0] <= 0 or max(abs(fit[1:3])) > _RIM or min(fit[3:5]) < _NARROWEST,
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


def _fit_gaussian(patch, sigma):
    """Height, centre (y, x) from the middle, sigma (y, x) and background by least squares (Levenberg-Marquardt)."""
    y, x = np.ix_(*(np.arange(n) - n // 2 for n in patch.shape))

    def compare(fit):
        height, y0, x0, sy, sx, background = fit
        v, u = (y - y0) / sy, (x - x0) / sx
        bell = np.exp(-0.5 * (v**2 + u**2))
        slopes = (
            height
            * bell
            * np.stack([v / sy + 0 * u, u / sx + 0 * v, v**2 / sy + 0 * u, u**2 / sx + 0 * v])
        )
        return (patch - height * bell - background).ravel(), np.reshape(
            [bell, *slopes, np.ones_like(bell)], (6, -1)
        )

    background = np.median(patch)
    fit = np.array(
        [patch.flat[patch.size // 2] - background, 0, 0, *sigma, background]
    )  # its sides are odd
    residual, slopes = compare(fit)
    away, widest = 2 * _RIM, max(patch.shape)
    low, high = (
        [-np.inf, -away, -away, 0.1, 0.1, -np.inf],
        [np.inf, away, away, widest, widest, np.inf],
    )
    damping = 1e-3
    for _ in range(50):
        scale = np.maximum(np.linalg.norm(slopes, axis=1), 1e-30)
        scaled = slopes / scale[:, None]
        step = np.linalg.solve(scaled @ scaled.T + damping * np.eye(6), scaled @ residual) / scale
        trial = np.clip(fit + step, low, high)
        trial_residual, trial_slopes = compare(trial)
        if trial_residual @ trial_residual > residual @ residual:
            damping *= 10
            continue
        fit, residual, slopes, damping = trial, trial_residual, trial_slopes, damping / 10
        if np.all(np.abs(step[1:5]) < 1e-6):
            break
    return fit


def _without_outliers(beads, rejected):
    """The beads that are alike; counts the others."""
    if not beads:
        return []
    logs = np.log([(*bead.fit[3:5], bead.fit[0] * bead.fit[3] * bead.fit[4]) for bead in beads])
    offsets = logs - np.median(logs, axis=0)
    spread = 1.4826 * np.median(np.abs(offsets), axis=0)
    offsets /= np.maximum(_DEVIATIONS * spread, np.log([_WIDER, _WIDER, _BRIGHTER]))
    misshapen = (np.abs(offsets[:, :2]) > 1).any(axis=1)
    bright = ~misshapen & (offsets[:, 2] > 1)  # faint ones are as good as any
    rejected["shape"] += int(misshapen.sum())
    rejected["bright"] += int(bright.sum())
    return [bead for bead, out in zip(beads, misshapen | bright, strict=True) if not out]


def _shift(patch, by):
    phase = sum(np.ix_(*(np.fft.fftfreq(n) * d for n, d in zip(patch.shape, by, strict=True))))
    return np.fft.ifft2(np.fft.fft2(patch) * np.exp(-2j * np.pi * phase)).real


def _finish(mean, radius):
    """The PSF, the mean bead without background at peak 1, and its noise."""
    rim = np.pad(np.zeros(2 * radius + 1, dtype=bool), _RIM, constant_values=True)
    mean = mean - np.median(mean[rim])
    peak, noise = mean.flat[mean.size // 2], 1.4826 * np.median(np.abs(mean[rim]))
    if noise > _NOISIEST * peak:
        raise ValueError(
            "measure_psf: the beads are too few or too faint for their noise; give more or brighter ones"
        )
    mean, noise = mean / peak, float(noise / peak)
    # 1 up to three quarters of the way to the border, then down to 0 as a squared cosine.
    y, x = np.ix_(*(np.arange(-r, r + 1) / (r + 1) for r in radius))
    window = np.cos(np.pi / 2 * np.clip(4 * np.hypot(y, x) - 3, 0, 1)) ** 2
    psf = window * mean[~rim].reshape(window.shape)
    psf[psf < noise] = 0  # or the noise that is above 0 would add up to a halo
    return (psf / psf.sum()).astype(np.float32), mean, noise


def _without_bead(sigma, diameter):
    if not diameter >= 0 or any(diameter**2 / 20 >= sigma**2):
        found = f"sigma {sigma[0]:.3g}, {sigma[1]:.3g} pixels (y, x)"
        raise ValueError(
            f"measure_psf: spots of {found} cannot be beads of diameter {diameter:g}; give bead_diameter in pixels"
        )
    return tuple(np.sqrt(sigma**2 - diameter**2 / 20).tolist())
