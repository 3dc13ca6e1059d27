"""The sections of a report about the result: images, residual, resolution, truth. Host side."""

from collections.abc import Callable, Iterator

import numpy as np
from jaxtyping import ArrayLike, Float, Real

from jaxdenoise.imaging import metrics
from jaxdenoise.imaging.resolution import ONE_SEVENTH, ring_resolution
from jaxdenoise.microscope.noise_estimation import CORRELATED
from jaxdenoise.report import charts, diagnostics, page, pictures, result_checks
from jaxdenoise.report.halves import Halves

# Pixels a side of the part of an image that is shown. Larger images are cut, because shrinking them
# would average the noise away.
_LARGEST = 512
_STRONG = 4  # standard deviations at which the smoothed residual has its full colour
_ZOOM = 64  # pixels a side of the enlarged part
_SSIM_WINDOW = 7

_Stack = Float[np.ndarray, "N H W"]


def images_section(
    noisy: _Stack,
    denoised: _Stack,
    deconvolved: _Stack,
    truth: Real[ArrayLike, "*frames H W"] | None,
    psf: Float[np.ndarray, "h w"],
) -> str:
    """Return the first frame before and after, whole and enlarged.

    Args:
        noisy: (N, H, W) in grey levels.
        denoised: the same shape and unit.
        deconvolved: the same shape and unit.
        truth: (H, W) or (N, H, W) in grey levels, or None.
        psf: (h, w). With a single pixel there is no deconvolved image.
    """
    part = _shown_part(denoised[0])
    window = pictures.busiest_window(denoised[0][part], min(_ZOOM, *denoised[0][part].shape))
    low, high = limits = pictures.grey_range(denoised[0][part])
    rows = [
        ("Noisy", noisy[0], "As it was recorded."),
        (
            "Denoised",
            denoised[0],
            "An estimate of the image that the microscope would show without noise.",
        ),
    ]
    if psf.size > 1:
        caption = "Before the microscope's blur. Not unique: measure in the denoised image."
        rows.append(("Deconvolved", deconvolved[0], caption))
    if truth is not None:
        clean = np.asarray(truth, np.float32).reshape(-1, *noisy.shape[1:])[0]
        rows.append(("Truth", clean, "The clean image that was given."))
    text = (
        f"{_part_words(noisy.shape, part)} All images share one grey scale. The framed "
        f"{window[2]} x {window[2]} pixels are enlarged."
    )
    if psf.size == 1:
        text += " There is no deconvolved image, because no PSF was given."
    html = page.paragraph(text)
    html += f'<p class="scale">{low:.4g}<i></i>{high:.4g} grey levels</p>'
    html += page.figures(
        *(
            page.figure(name, _pair(name, image[part], window, limits), caption, pixels=True)
            for name, image, caption in rows
        ),
        kind="images",
    )
    return page.section("images", "Before and after", html)


def residual_section(
    noisy: _Stack,
    denoised: _Stack,
    found: diagnostics.Residual,
    found_noisy: diagnostics.Input,
    background: float,
) -> str:
    """Return what was removed: as images, by value, by distance, by size and by brightness.

    Args:
        noisy: (N, H, W) in grey levels.
        denoised: the same shape and unit.
        found: measured on the residual.
        found_noisy: measured on the noisy images.
        background: grey level of no light.
    """
    residual = noisy - denoised
    html = page.paragraph(
        "The residual is what was removed: the noisy minus the denoised image. Without a clean "
        "image it is the best evidence there is."
    )
    html += page.figures(
        *_residual_images(residual, _shown_part(denoised[0]), found),
        _histogram(residual, found),
        _autocorrelation(found),
        _spectrum(found),
        _levels(found, found_noisy, background),
    )
    return page.section("residual", "What was removed", html)


def resolution_section(agreement: Halves, length: Callable[[float], str]) -> str:
    """Return the Fourier ring correlation, or why there is none.

    Args:
        agreement: what `halves.compare_halves` measured.
        length: puts a number of pixels into words.
    """
    if agreement.noisy is None or agreement.denoised is None:
        text = (
            "Fourier ring correlation, which shows the finest detail on which two halves of a "
            f"stack agree, does not apply: {agreement.reason}"
        )
        return page.section("resolution", "Resolution", page.paragraph(text))
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
    drawing = page.chart(alt, charts.draw_ring_correlation, agreement, ONE_SEVENTH)
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
    return page.section("resolution", "Resolution", html)


def truth_section(
    noisy: _Stack, denoised: _Stack, truth: Real[ArrayLike, "*frames H W"] | None
) -> str:
    """Return PSNR and SSIM, if there is a clean image (H, W) or (N, H, W), in grey levels."""
    if truth is None:
        text = page.paragraph("No clean image was given, so there are no PSNR and SSIM.")
        return page.section("truth", "Against the truth", text)
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
    return page.section("truth", "Against the truth", html)


def _shown_part(image):
    """Slices of the part of an image that is shown: the whole, or the busiest window."""
    if max(image.shape) <= _LARGEST:
        return slice(None), slice(None)
    y, x, side = pictures.busiest_window(image, min(_LARGEST, *image.shape))
    return slice(y, y + side), slice(x, x + side)


def _part_words(shape, part):
    which = "the first frame" if shape[0] > 1 else "the image"
    if part[0].start is None:
        return f"Shown is {which}."
    side = part[0].stop - part[0].start
    return (
        f"Shown are {side} x {side} of the {shape[1]} x {shape[2]} pixels of {which}, from row "
        f"{part[0].start} and column {part[1].start}."
    )


def _pair(name, image, window, limits):
    """An image and its enlarged window."""
    y, x, side = window
    part = image[y : y + side, x : x + side]
    edges = {
        "top": y / image.shape[0],
        "left": x / image.shape[1],
        "height": side / image.shape[0],
        "width": side / image.shape[1],
    }
    frame = ";".join(f"{edge}:{100 * share:.3f}%" for edge, share in edges.items())
    alt = f"{name} image, {image.shape[0]} by {image.shape[1]} pixels: {_numbers(image)}"
    whole = page.image(pictures.grey(image, *limits), alt)
    alt = (
        f"{name} image enlarged, {side} by {side} pixels from row {y} and column {x} of the part "
        f"that is shown: {_numbers(part)}"
    )
    zoom = page.image(pictures.grey(part, *limits), alt, kind="zoom")
    box = f'<span class="window" style="{frame}"></span>'
    return f'<div class="pair"><div class="whole">{whole}{box}</div>{zoom}</div>'


def _numbers(image):
    return (
        f"grey levels from {image.min():.4g} to {image.max():.4g}, mean {image.mean():.4g}, "
        f"standard deviation {image.std():.4g}."
    )


def _residual_images(stack: _Stack, part: tuple, found: diagnostics.Residual) -> Iterator[str]:
    """Yield a part of the first frame of the residual, as it is and smoothed."""
    limit, smooth = 3 * found.std or 1.0, diagnostics.smoothed_residual(stack)
    alt = (
        f"Residual of the first frame; over all frames mean {found.mean:.3g}, standard deviation "
        f"{found.std:.3g} grey levels."
    )
    caption = (
        f"First frame. Grey is 0, black {-limit:.3g} and white {limit:.3g} grey levels. It should "
        "look like noise: rougher where there is more light, but neither lighter nor darker."
    )
    image = page.image(pictures.grey(stack[0][part], -limit, limit), alt)
    yield page.figure("The residual", image, caption, pixels=True)
    strong = (
        f"{np.mean(abs(smooth) > 3):.1%} of the pixels of all frames are more than 3 standard "
        "deviations from 0"
    )
    caption = (
        f"In standard deviations of smoothed white noise, from -{_STRONG} (purple) to {_STRONG} "
        f"(orange). {strong}; of white noise it would be 0.3%. No outlines of the sample should "
        "appear."
    )
    alt = f"Residual of the first frame, smoothed: {strong}."
    image = page.image(pictures.diverging(smooth[0][part], float(_STRONG)), alt)
    yield page.figure("The residual, smoothed", image, caption, pixels=True)


def _histogram(values, found):
    measured = f"mean {found.mean:.3g}, standard deviation {found.std:.3g} grey levels"
    caption = (
        f"{measured.capitalize()}. Photon noise has a sharper peak and longer tails than the "
        "normal distribution."
    )
    alt = f"Histogram of the residual: {measured}."
    drawing = page.chart(alt, charts.draw_histogram, values)
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
    drawing = page.chart(alt, charts.draw_autocorrelation, found.autocorrelation)
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
    drawing = page.chart(alt, charts.draw_spectrum, found.spectrum, limit)
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
    drawing = page.chart(alt, charts.draw_levels, levels, expected)
    return page.figure("Its dependence on brightness", drawing, caption)


def _scores(truth, frames, data_range):
    psnr = metrics.mean_over_frames(metrics.psnr, truth, frames, data_range=data_range)
    if min(frames.shape[1:]) < _SSIM_WINDOW:
        return f"{psnr:.2f}", "-"
    ssim = metrics.mean_over_frames(metrics.ssim, truth, frames, data_range=data_range)
    return f"{psnr:.2f}", f"{ssim:.3f}"
