"""The checks of a verdict that concern the noisy images and whether they suit the model. Host side.

The thresholds were set on real images (the fluorescence microscopy denoising data, FMD) and on
synthetic ones.
"""

from collections.abc import Iterator

from jaxdenoise.microscope.noise_level import CORRELATED
from jaxdenoise.report.diagnostics import Input
from jaxdenoise.report.findings import (
    CARE,
    FINE,
    NOT_APPLICABLE,
    STOP,
    STRIDE_NOTES,
    Finding,
    GreyScale,
    TrainingSettings,
    sentence,
)

# Share of the pixels at the brightest grey level. Already 0.3 % cost the brightest structures their
# relative brightness.
SATURATED = 1e-3
CLIPPED = 1e-2  # share of the pixels at the darkest grey level: half of their noise is missing
OUTLIERS = 1e-4  # share of the pixels: ten standard deviations do not happen by chance
BELOW = 0.01  # share of the image that is darker than the background, which is impossible
# Noise in steps of the grey scale. Above this, rounding acts as noise (Widrow and Kollar,
# "Quantization Noise", 2008).
COARSE = 0.5
FEW = 100_000  # pixels; one frame of 512 x 512 has 262,144, and trains well
OTHER_LEVEL = 1.0  # standard deviations between the mean levels of trained and denoised images
OTHER_CONTRAST = 2.0  # factor between the contrasts of trained and denoised images


def independent_noise(noisy: Input, config: TrainingSettings, *, trained: bool = True) -> Finding:
    """Check whether the noise of neighbouring pixels is independent.

    Args:
        noisy: what was measured on the noisy images.
        config: of the model.
        trained: whether the model was trained; else no blind spot hid any pixel.
    """
    correlated = noisy.noise_correlation > CORRELATED
    title = "Neighbouring pixels share their noise"
    measured = sentence(
        "the noise of neighbouring pixels has a correlation of "
        f"{noisy.noise_correlation:.2f} (limit {CORRELATED})"
    )
    if not trained and config.network.stride > 1:
        text = (
            f"{measured}{STRIDE_NOTES[config.network.stride]} Noise that reaches further is still "
            "mistaken for signal, and detail finer than that is lost. Nothing was trained, so "
            "nothing else told such noise from signal."
        )
        return Finding(CARE, title, text)
    if any(config.blind) and trained:
        rows, columns = (2 * n + 1 for n in config.blind)
        text = (
            f"{measured} The training therefore hid the {rows} x {columns} pixels around each "
            f"pixel from the network: detail as fine as that is lost."
            f"{STRIDE_NOTES[config.network.stride]} Noise that reaches further is still mistaken "
            "for signal."
        )
        return Finding(CARE, title, text)
    if correlated and config.targets == "repeats":
        text = (
            f"{measured} The training told it from signal by other frames of the same scene. Noise "
            "may remain in images that were not part of this training, or whose scene no other "
            f"frame shows.{STRIDE_NOTES[config.network.stride]}"
        )
        return Finding(CARE, title, text)
    if correlated:
        text = (
            f"{measured} The network cannot tell such noise from signal: do not trust fine "
            "structure. A wide Gaussian filter is safer. If the images have hardly any noise, this "
            "may be sharp detail instead, and there is little to denoise."
        )
        return Finding(STOP, title, text)
    return Finding(FINE, "The noise is independent from pixel to pixel", measured)


def grey_scale(noisy: Input) -> Iterator[Finding]:
    """Check for saturated and clipped pixels, and for noise below the steps of the grey scale."""
    saturated, clipped = noisy.saturated > SATURATED, noisy.clipped > CLIPPED
    coarse = 0 < noisy.noise_std < COARSE * noisy.step
    if saturated:
        text = (
            f"{noisy.saturated:.2%} of the pixels are at the brightest grey level (limit "
            f"{SATURATED:.1%}). Their true brightness is lost, and the denoised image is too dim "
            "there. Use less light or gain next time."
        )
        yield Finding(CARE, "The camera was saturated", text)
    if clipped:
        text = (
            f"{noisy.clipped:.1%} of the pixels are at the darkest grey level (limit "
            f"{CLIPPED:.0%}). Either their noise is cut off, so that dark areas come out too "
            "bright, or the images have an empty margin, which should be cropped."
        )
        yield Finding(CARE, "Dark pixels were cut off", text)
    if coarse:
        text = (
            f"The noise is {noisy.noise_std / noisy.step:.2f} steps of the grey scale (limit "
            f"{COARSE}). Rounding hides it, together with faint structures. Save more bits."
        )
        yield Finding(CARE, "The grey scale is too coarse", text)
    if not (saturated or clipped or coarse):
        text = "Hardly any pixels are saturated or cut off, and rounding does no harm."
        yield Finding(FINE, "The grey scale is sufficient", text)


def broken(noisy: Input, outliers: float) -> Iterator[Finding]:
    """Check for repeated and empty frames, and for single pixels that stand out.

    Args:
        noisy: what was measured on the noisy images.
        outliers: share of the residual's pixels that are ten standard deviations from zero.
    """
    if noisy.identical_frames:
        pairs = ", ".join(f"{first} and {second}" for first, second in noisy.identical_frames[:3])
        more = " and more" if len(noisy.identical_frames) > 3 else ""
        text = (
            f"Frames {pairs}{more} hold identical pixels, so they add nothing to the training. "
            "Check how the stack was put together."
        )
        yield Finding(CARE, "Frames are repeated", text)
    if noisy.constant_frames:
        text = f"{noisy.constant_frames} of the frames hold a single grey level. Remove them."
        yield Finding(CARE, "Frames are empty", text)
    if outliers > OUTLIERS:
        text = (
            f"{outliers:.2%} of the pixels (limit {OUTLIERS:.2%}) stand out by ten standard "
            "deviations: hot pixels, cosmic rays, dust or single molecules. Those that no light "
            "explains were replaced before the training; look at the others."
        )
        yield Finding(CARE, "Single pixels stand out", text)
    if not (noisy.identical_frames or noisy.constant_frames or outliers > OUTLIERS):
        text = "No frame is empty or repeated, and hardly any single pixel stands out."
        yield Finding(FINE, "No broken pixels or frames", text)


def scan_lines(noisy: Input) -> Iterator[Finding]:
    """Warn of lines of a bidirectional scan that do not meet."""
    if noisy.line_offset:
        text = (
            f"Every other line is moved by {noisy.line_offset:+.1f} pixels along x, as by the "
            "phase of a bidirectional scan. The network smooths over the comb that this makes of "
            "each edge. Correct the phase first, and denoise again."
        )
        yield Finding(CARE, "Odd and even lines do not meet", text)


def background(noisy: Input, scale: GreyScale) -> Finding:
    """Check whether the images are darker than the background somewhere."""
    measured = sentence(
        f"{noisy.below_background:.2%} of the image is darker than the background of "
        f"{float(scale.background):.4g} grey levels (limit {BELOW:.0%})"
    )
    if noisy.below_background > BELOW:
        text = f"{measured} Darker areas are lifted to the background: give a lower one."
        return Finding(CARE, "The background is too high", text)
    return Finding(FINE, "The background fits", measured)


def amount(noisy: Input, *, trained: bool = True) -> Finding:
    """Check whether there are enough pixels to train on, if there was a training."""
    if not trained:
        text = "Not applicable: nothing was trained."
        return Finding(NOT_APPLICABLE, "The amount of data for a training", text)
    if noisy.pixels < FEW:
        text = (
            f"{noisy.pixels:,} pixels (at least {FEW:,}): the network may memorise their noise. "
            "Add frames, if necessary from other fields of view."
        )
        return Finding(CARE, "There is little to learn from", text)
    return Finding(FINE, "There is enough to learn from", f"{noisy.pixels:,} pixels.")


def like_the_training(noisy: Input, scale: GreyScale, *, trained: bool = True) -> Finding:
    """Check whether the images have the brightness and contrast of those that were trained on."""
    if not trained:
        text = "Not applicable: nothing was trained."
        return Finding(NOT_APPLICABLE, "Images that the model was trained on", text)
    mean, std = float(scale.mean), float(scale.std)
    level = float(scale.background) + mean
    shift = abs(noisy.mean - float(scale.background) - mean) / std
    factor = max(noisy.std / std, std / max(noisy.std, 1e-30))
    if shift > OTHER_LEVEL or factor > OTHER_CONTRAST:
        text = (
            f"Those had a mean of {level:.4g} and a standard deviation of {std:.4g} grey levels. "
            f"These have {noisy.mean:.4g} and {noisy.std:.4g}. Train on these images, and train "
            "separate models for channels of different brightness."
        )
        return Finding(CARE, "The model was trained on different images", text)
    text = "They have the brightness and contrast of the images that it was trained on."
    return Finding(FINE, "The model fits the images", text)
