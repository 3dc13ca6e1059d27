"""The sections of a report that show a result: images, residual, resolution, and the comparison with a clean image. Host side."""

import numpy as np

from jaxdenoise.imaging import metrics
from jaxdenoise.imaging.resolution import ONE_SEVENTH, ring_resolution
from jaxdenoise.report import diagnostics, page, pictures, verdict

# pixels a side of what is shown of an image: a larger one is cut, since shrinking it would average
# its noise away
_LARGEST = 512
_STRONG = 4  # standard deviations at which the smoothed residual is drawn in full colour
_ZOOM = 64  # pixels a side of the enlarged part
_SSIM_WINDOW = 7


def images(noisy, denoised, deconvolved, truth, psf):
    """The first frame before and after, whole and enlarged.

    Args:
        noisy: (N, H, W) in grey levels.
        denoised: the same.
        deconvolved: the same.
        truth: (H, W) or (N, H, W) in grey levels, or None.
        psf: (h, w); of a single pixel it means that there is no deconvolved image.
    """
    part = _shown_part(denoised[0])
    window = pictures.busiest_window(denoised[0][part], min(_ZOOM, *denoised[0][part].shape))
    low, high = limits = pictures.grey_range(denoised[0][part])
    rows = [
        ("Noisy", noisy[0], "As it was recorded."),
        ("Denoised", denoised[0], "What the microscope would have shown without noise."),
    ]
    if np.size(psf) > 1:
        rows.append(
            (
                "Deconvolved",
                deconvolved[0],
                "Before the microscope's blur. Not unique: measure in the denoised image.",
            )
        )
    if truth is not None:
        rows.append(
            (
                "Truth",
                np.asarray(truth, np.float32).reshape(-1, *noisy.shape[1:])[0],
                "The clean image that was given.",
            )
        )
    text = f"{_part_words(noisy.shape, part)} All share one grey scale. The framed {window[2]} x {window[2]} pixels are enlarged."
    html = page.paragraph(
        text
        if np.size(psf) > 1
        else f"{text} There is no deconvolved image, because no PSF was given."
    )
    html += f'<p class="scale">{low:.4g}<i></i>{high:.4g} grey levels</p>'
    html += page.figures(
        *(
            page.figure(name, _pair(name, image[part], window, limits), text, pixels=True)
            for name, image, text in rows
        ),
        kind="images",
    )
    return page.section("images", "Before and after", html)


def residual(noisy, denoised, found, found_noisy, background):
    """What was removed: as images, by value, by distance, by size and by brightness.

    Args:
        noisy: (N, H, W) in grey levels.
        denoised: the same.
        found: `diagnostics.Residual`.
        found_noisy: `diagnostics.Input`.
        background: grey level of no light.
    """
    text = "The residual is what was removed: noisy minus denoised. Without a clean image it is the best witness there is."
    charts = (
        _histogram(noisy - denoised, found),
        _autocorrelation(found),
        _spectrum(found),
        _levels(found, found_noisy, background),
    )
    html = page.paragraph(text) + page.figures(
        *_residual_images(noisy - denoised, _shown_part(denoised[0]), found), *charts
    )
    return page.section("residual", "What was removed", html)


def resolution(agreement, length):
    """Fourier ring correlation, or why there is none.

    Args:
        agreement: `halves.Halves`.
        length: function of a number of pixels to text.
    """
    if agreement.noisy is None:
        text = "Fourier ring correlation, which tells on how fine a detail two halves of a stack agree, does not apply:"
        return page.section(
            "resolution", "Resolution", page.paragraph(f"{text} {agreement.reason}")
        )
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
        "The frames show one static scene, so two halves of the stack can be compared: where they agree, there is signal. The noisy halves "
        "are a measurement. The denoised halves share one network and its prior, so what it invents it invents in both: their curve is an "
        "upper bound, not a resolution."
    )
    caption = "How well the mean of the even frames agrees with that of the odd ones, from coarse (left) to fine detail."
    drawing = page.chart(alt, pictures.ring_correlation, agreement, ONE_SEVENTH)
    table = page.table(["Agreement ends at", "threshold 1/7", "half-bit threshold"], rows)
    table += page.paragraph(
        "Thresholds: 1/7, Nieuwenhuizen et al., Nature Methods 10 (2013); half-bit, van Heel and Schatz, J. Structural Biology 151 (2005). "
        "2 pixels is the finest that the sampling can hold. A pattern that the camera repeats in every frame counts as agreement.",
        "note",
    )
    html += page.figures(
        page.figure("Fourier ring correlation", drawing, caption),
        f"<div>{table}</div>",
        kind="beside",
    )
    return page.section("resolution", "Resolution", html)


def against_truth(noisy, denoised, truth):
    """PSNR and SSIM, if there is a clean image (H, W) or (N, H, W). Stacks as above."""
    if truth is None:
        return page.section(
            "truth",
            "Against the truth",
            page.paragraph("No clean image was given, so there are no PSNR and SSIM."),
        )
    truth = np.broadcast_to(np.asarray(truth, np.float32), noisy.shape)
    data_range = float(np.ptp(truth)) or 1.0
    rows = [
        [name, *_scores(truth, frames, data_range)]
        for name, frames in (("noisy", noisy), ("denoised", denoised))
    ]
    html = page.paragraph(
        "Means over the frames, against the clean image that was given. It holds the microscope's blur, which the deconvolved image does "
        "not, so that one is left out."
    )
    html += page.table(["", "PSNR in dB", "SSIM"], rows, numbers=True)
    html += page.paragraph(
        f"Data range: {data_range:.4g} grey levels, from the darkest to the brightest clean pixel.",
        "note",
    )
    return page.section("truth", "Against the truth", html)


def _shown_part(image):
    """Slices of the part of an image that is shown: all of it, or where there is something to see."""
    if max(image.shape) <= _LARGEST:
        return slice(None), slice(None)
    y, x, side = pictures.busiest_window(image, min(_LARGEST, *image.shape))
    return slice(y, y + side), slice(x, x + side)


def _part_words(shape, part):
    which = "The first frame" if shape[0] > 1 else "The image"
    if part[0].start is None:
        return f"{which}, whole."
    side = part[0].stop - part[0].start
    return f"{which}: {side} x {side} of its {shape[1]} x {shape[2]} pixels, from row {part[0].start} and column {part[1].start} on."


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
    whole = f"{name} image, {image.shape[0]} by {image.shape[1]} pixels: {_numbers(image)}"
    near = f"{name} image enlarged, {side} by {side} pixels from row {y} and column {x} of what is shown: {_numbers(part)}"
    return (
        f'<div class="pair"><div class="whole">{page.image(pictures.grey(image, *limits), whole)}'
        f'<span class="window" style="{frame}"></span></div>{page.image(pictures.grey(part, *limits), near, kind="zoom")}</div>'
    )


def _numbers(image):
    return f"grey levels from {image.min():.4g} to {image.max():.4g}, mean {image.mean():.4g}, standard deviation {image.std():.4g}."


def _residual_images(stack, part, found):
    """A part of the first frame of the residual, as it is and smoothed."""
    limit, smooth = 3 * found.std or 1.0, diagnostics.smoothed_residual(stack)
    alt = f"Residual of the first frame; over all frames mean {found.mean:.3g}, standard deviation {found.std:.3g} grey levels."
    caption = (
        f"First frame. Grey is 0, black {-limit:.3g} and white {limit:.3g} grey levels. It should look like noise: rougher where there is "
        "more light, but no lighter and no darker."
    )
    yield page.figure(
        "The residual",
        page.image(pictures.grey(stack[0][part], -limit, limit), alt),
        caption,
        pixels=True,
    )
    strong = f"{np.mean(abs(smooth) > 3):.1%} of the pixels of all frames stand out by more than 3 standard deviations"
    caption = (
        f"In standard deviations of what white noise would leave, from -{_STRONG} (purple) to {_STRONG} (orange). {strong}; of white noise "
        "0.3% would. Outlines of the sample should not appear."
    )
    alt = f"Residual of the first frame, smoothed: {strong}."
    yield page.figure(
        "The residual, smoothed",
        page.image(pictures.diverging(smooth[0][part], _STRONG), alt),
        caption,
        pixels=True,
    )


def _histogram(values, found):
    measured = f"mean {found.mean:.3g}, standard deviation {found.std:.3g} grey levels"
    caption = f"{measured.capitalize()}. Photon noise has a sharper peak and longer tails than the normal distribution."
    drawing = page.chart(f"Histogram of the residual: {measured}.", pictures.histogram, values)
    return page.figure("Its values", drawing, caption)


def _autocorrelation(found):
    alt = f"Autocorrelation of the residual for shifts of up to {diagnostics.REACH} pixels: {found.correlation:.3f} at a shift of one pixel."
    caption = (
        f"How much the residual resembles itself when it is shifted. Neighbours: {found.correlation:.3f} (limit {verdict.CORRELATED}). A "
        "little below 0 is normal: the denoised image holds some noise of the neighbours."
    )
    return page.figure(
        "Its autocorrelation",
        page.chart(alt, pictures.correlation_map, found.autocorrelation),
        caption,
    )


def _spectrum(found):
    measured = f"{found.structure:.2f} times as strong as white noise, at a size of {found.structure_size:.1f} pixels"
    caption = (
        f"Its power by the size of the detail. Below 1 is normal; a hump above {verdict.STRUCTURE[0]} is signal that was removed. "
        f"Here: at most {measured}."
    )
    drawing = page.chart(
        f"Spectrum of the residual: at most {measured}.",
        pictures.spectrum,
        found.spectrum,
        verdict.STRUCTURE[0],
    )
    return page.figure("Its spectrum", drawing, caption)


def _levels(found, noisy, background):
    levels, expected, camera = found.levels, None, ""
    if noisy.gain:  # without photon noise the estimate has failed, or there is nothing to see
        expected = np.sqrt(
            np.maximum(noisy.gain * (levels.level - background), 0) + noisy.read_std**2
        )
        camera = f" The camera gives about {noisy.gain:.3g} grey levels a photon."
    alt = (
        f"Spread and mean of the residual by brightness: spread from {levels.spread[0]:.3g} grey levels in the dark to "
        f"{levels.spread[-1]:.3g} at the brightest, mean there {levels.mean[-1]:.3g}."
    )
    caption = f"The spread grows with the light, as photon noise does; the mean should stay near 0.{camera}"
    return page.figure(
        "Its dependence on brightness", page.chart(alt, pictures.levels, levels, expected), caption
    )


def _scores(truth, frames, data_range):
    pairs = list(zip(truth, frames, strict=True))
    psnr = np.mean([metrics.psnr(clean, frame, data_range=data_range) for clean, frame in pairs])
    if min(frames.shape[1:]) < _SSIM_WINDOW:
        return f"{psnr:.2f}", "-"
    return (
        f"{psnr:.2f}",
        f"{np.mean([metrics.ssim(clean, frame, data_range=data_range) for clean, frame in pairs]):.3f}",
    )
