"""The sections of a report about the result: residual, resolution, truth. Host side."""

from collections.abc import Callable, Iterator

import numpy as np
from jaxtyping import ArrayLike, Float, Real

from jaxdenoise.imaging import metrics
from jaxdenoise.imaging.resolution import ONE_SEVENTH, ring_resolution
from jaxdenoise.microscope.noise_level import CORRELATED
from jaxdenoise.report import charts, diagnostics, page, pictures, result_checks
from jaxdenoise.report.guard_measures import Noise
from jaxdenoise.report.halves import Halves
from jaxdenoise.report.noise_units import in_units

_STRONG = 4  # standard deviations at which the smoothed residual has its full colour
_SSIM_WINDOW = 7

_Stack = Float[np.ndarray, "N H W"]


def residual_section(
    noisy: _Stack,
    denoised: _Stack,
    found: diagnostics.Residual,
    found_noisy: diagnostics.Input,
    background: float,
    noise: Noise,
    *,
    side: int,
) -> str:
    """Return what was removed: as images, by value, by distance, by size and by brightness.

    Args:
        noisy: (N, H, W) in grey levels.
        denoised: the same shape and unit.
        found: measured on the residual.
        found_noisy: measured on the noisy images.
        background: grey level of no light.
        noise: by brightness.
        side: pixels of the longest side that is shown. Larger images are cut, because shrinking
            them would average the noise away.
    """
    residual = noisy - denoised
    units = in_units(residual, denoised, noise)
    html = page.paragraph(
        "The residual is what was removed: the noisy minus the denoised image. Without a clean "
        "image it is the best evidence there is."
    )
    html += page.figures(
        *_residual_images(residual, units, pictures.shown_part(denoised[0], side), found),
        _histogram(residual, found),
        _autocorrelation(found),
        _spectrum(found),
        _levels(found, found_noisy, background),
    )
    return html


def resolution_section(agreement: Halves, length: Callable[[float], str]) -> str:
    """Return the Fourier ring correlation; nothing where two halves cannot be compared.

    Args:
        agreement: what `halves.compare_halves` measured.
        length: puts a number of pixels into words.
    """
    if agreement.noisy is None or agreement.denoised is None:
        return ""
    rows = []
    for name, rings in (("noisy halves", agreement.noisy), ("denoised halves", agreement.denoised)):
        periods = [
            float(ring_resolution(rings, threshold=limit))
            for limit in (ONE_SEVENTH, rings.half_bit)
        ]
        rows.append(
            [name, *(length(period) if np.isfinite(period) else "nowhere" for period in periods)]
        )
    alt = (
        "Fourier ring correlation between two halves of the stack. It falls below 1/7 at "
        f"{rows[0][1]} for the noisy and at {rows[1][1]} for the denoised halves."
    )
    html = page.paragraph(
        "The frames show one static scene, so two halves of the stack can be compared: where they "
        "agree, there is signal. The curve of the noisy halves is a measurement. The denoised "
        "halves share one network, which invents the same structure in both. Their curve is an "
        "upper bound, not a resolution."
    )
    caption = (
        "How well the mean of the even frames agrees with that of the odd ones, from coarse (left) "
        "to fine detail."
    )
    drawing = charts.ring_correlation(alt, agreement, ONE_SEVENTH)
    table = page.table(["Agreement ends at", "threshold 1/7", "half-bit threshold"], rows)
    table += page.paragraph(
        "Thresholds: 1/7, Nieuwenhuizen et al., Nature Methods 10 (2013); half-bit, van Heel and "
        "Schatz, J. Structural Biology 151 (2005). The finest detail that the sampling can hold is "
        "2 pixels. A pattern that the camera repeats in every frame counts as agreement.",
        "note",
    )
    html += page.figures(
        page.figure("Fourier ring correlation", drawing, caption),
        f"<div>{table}</div>",
        kind="beside",
    )
    return html


def truth_section(
    noisy: _Stack, denoised: _Stack, truth: Real[ArrayLike, "*frames H W"] | None
) -> str:
    """Return PSNR and SSIM, if there is a clean image (H, W) or (N, H, W), in grey levels."""
    if truth is None:
        return ""
    truth = np.broadcast_to(np.asarray(truth, np.float32), noisy.shape)
    data_range = float(np.ptp(truth)) or 1.0
    rows = [
        [name, *_scores(truth, frames, data_range)]
        for name, frames in (("noisy", noisy), ("denoised", denoised))
    ]
    html = page.paragraph(
        "Means over the frames, against the clean image that was given. It holds the microscope's "
        "blur, so the deconvolved image, which does not, is left out."
    )
    html += page.table(["", "PSNR in dB", "SSIM"], rows, numbers=True)
    html += page.paragraph(
        f"Data range: {data_range:.4g} grey levels, from the darkest to the brightest clean pixel.",
        "note",
    )
    return html


def _residual_images(
    residual: _Stack, units: _Stack, part: tuple, found: diagnostics.Residual
) -> Iterator[str]:
    """Yield a part of the first frame of the residual, as it is and smoothed."""
    limit, smooth = 3 * found.std or 1.0, diagnostics.smoothed_residual(units)
    alt = (
        f"Residual of the first frame; over all frames mean {found.mean:.3g}, standard deviation "
        f"{found.std:.3g} grey levels."
    )
    caption = (
        f"The frame that is shown first. Grey is 0, black {-limit:.3g} and white {limit:.3g} grey "
        "levels. It should look like noise: rougher where there is more light, but neither "
        "lighter nor darker."
    )
    image = page.image(pictures.grey(residual[0][part], -limit, limit), alt)
    yield page.figure("The residual", image, caption, pixels=True)
    strong = (
        f"{np.mean(abs(smooth) > 3):.1%} of the pixels of all frames are more than 3 standard "
        "deviations from 0"
    )
    caption = (
        "In units of the noise at each brightness, smoothed; in standard deviations of white "
        f"noise, from -{_STRONG} (purple) to {_STRONG} (orange). {strong}; of white noise it would "
        "be 0.3%. No outlines of the sample should appear."
    )
    alt = f"Residual of the first frame in units of the noise, smoothed: {strong}."
    image = page.image(pictures.diverging(smooth[0][part], float(_STRONG)), alt)
    yield page.figure("The residual, smoothed", image, caption, pixels=True)


def _histogram(values, found):
    measured = f"mean {found.mean:.3g}, standard deviation {found.std:.3g} grey levels"
    caption = (
        f"{measured.capitalize()}. Photon noise has a sharper peak and longer tails than the "
        "normal distribution."
    )
    alt = f"Histogram of the residual: {measured}."
    drawing = charts.histogram(alt, values)
    return page.figure("Its values", drawing, caption)


def _autocorrelation(found):
    alt = (
        f"Autocorrelation of the residual for shifts of up to {diagnostics.REACH} pixels: "
        f"{found.correlation:.3f} at a shift of one pixel."
    )
    caption = (
        "Its correlation with itself after a shift. Neighbouring pixels have "
        f"{found.correlation:.3f} (limit {CORRELATED}). A little below 0 is normal: the denoised "
        "image holds some of the neighbours' noise."
    )
    drawing = charts.autocorrelation(alt, found.autocorrelation)
    return page.figure("Its autocorrelation", drawing, caption)


def _spectrum(found):
    measured = (
        f"{found.structure:.2f} times as strong as white noise, at a size of "
        f"{found.structure_size:.1f} pixels"
    )
    limit = result_checks.STRUCTURE
    caption = (
        f"Its power by the size of the detail. Below 1 is normal. A peak above {limit} is signal "
        f"that was removed. Here it is at most {measured}."
    )
    alt = f"Spectrum of the residual: at most {measured}."
    drawing = charts.spectrum(alt, found.spectrum, limit)
    return page.figure("Its spectrum", drawing, caption)


def _levels(found, noisy, background):
    levels, expected, camera = found.levels, None, ""
    if noisy.gain:  # without photon noise the estimate has failed, or there is nothing to see
        photon_noise = noisy.gain * (levels.level - background)
        expected = np.sqrt(np.maximum(photon_noise, 0) + noisy.read_std**2)
        camera = f" The camera gives about {noisy.gain:.3g} grey levels a photon."
    alt = (
        f"Spread and mean of the residual by brightness: spread from {levels.spread[0]:.3g} grey "
        f"levels in the dark to {levels.spread[-1]:.3g} at the brightest, mean there "
        f"{levels.mean[-1]:.3g}."
    )
    caption = (
        "Photon noise makes the spread grow with the light. The mean should stay near 0." + camera
    )
    drawing = charts.levels(alt, levels, expected)
    return page.figure("Its dependence on brightness", drawing, caption)


def _scores(truth, frames, data_range):
    psnr = metrics.mean_over_frames(metrics.psnr, truth, frames, data_range=data_range)
    if min(frames.shape[1:]) < _SSIM_WINDOW:
        return f"{psnr:.2f}", "-"
    ssim = metrics.mean_over_frames(metrics.ssim, truth, frames, data_range=data_range)
    return f"{psnr:.2f}", f"{ssim:.3f}"
