"""Can a result be trusted? Measured numbers in, findings in plain words out. Host side, pure.

The thresholds were set on real images (the fluorescence microscopy denoising data, FMD) and
synthetic ones; the numbers beside them say what was seen there. A result that passes is not proven
right: see `LIMITS`.
"""

from typing import NamedTuple

import numpy as np

from jaxdenoise.imaging.resolution import ring_resolution
from jaxdenoise.microscope.noise_estimation import CORRELATED
from jaxdenoise.report import diagnostics

FINE, CARE, STOP = range(3)
HEADLINES = ("Nothing speaks against it", "Use with care", "Do not rely on it")

STRUCTURE = (
    1.4,
    2.0,
    # power over white noise. Good trainings: 1.0 to 1.2; a PSF twice too wide: 2.5 to 3.0 (2 to 3 dB
    # lost)
)
# residual's variance over the noise's. Good trainings: 0.84 to 1.03; a Gaussian filter of sigma 1:
# 0.77 to 0.87
NOISE_LEFT = 0.6
BIAS = 0.02  # mean of the residual over the image's contrast. Good trainings: below 0.01
# of the brightest pixels' signal. Good trainings: up to 0.07, as the denoised image holds some of
# the noise it is sorted by
DIMMED = 0.1
PASSED = 0.01  # of a pattern's contrast by the PSF: what is weaker than this would drown in noise
# share of the pixels; 0.3 % of them cost the brightest structures their relative brightness
SATURATED = 1e-3
CLIPPED = 1e-2  # share of the pixels; the dark half of their noise is missing
OUTLIERS = 1e-4  # share of the pixels; ten standard deviations do not happen by chance
BELOW = 0.01  # share of the image that is darker than the background, which cannot be
# noise in steps of the grey scale: above this, rounding acts as noise (Widrow and Kollar,
# "Quantization Noise", 2008)
COARSE = 0.5
FEW = 100_000  # pixels; one frame of 512 x 512 has 262,144, and trains well
IMPROVING = (
    0.01  # of the validation loss over the last third: the cosine schedule ends at less than 0.005
)
OTHER_DATA = (
    1.0,
    2.0,
    # standard deviations between the mean levels, and the factor between the contrasts, of trained and
    # denoised images
)

# What no measurement on the images themselves can rule out.
LIMITS = (
    (
        "Noise that neighbouring pixels share",
        "A blind spot hides one pixel. Noise that spreads over several (after resampling, JPEG compression, smoothing in the camera) is "
        "predictable from the neighbours and is painted into the result. A wide Gaussian filter is safer there.",
    ),
    (
        "A wrong PSF",
        "Too wide, and fine detail is lost and edges ring. Too narrow, and more noise stays. Its sigma is not its full width at half "
        "maximum, which is 2.355 times as much.",
    ),
    (
        "A wrong background",
        "Light cannot be negative. Too high a background bends dark areas upwards; too low a one gives that knowledge away.",
    ),
    (
        "Trust in the deconvolved image",
        "What the PSF removes cannot be checked against the data: many deconvolved images fit equally well. Measure in the denoised image.",
    ),
    (
        "Invented structure",
        "Where there is little light, a network fills in what it has seen elsewhere. Compare with the noisy image at the same place, and "
        "look at the residual: outlines of the sample do not belong there.",
    ),
    (
        "What does no harm",
        "Moving samples, unless neighbouring frames were seen: every frame is denoised by itself. Photon noise that grows with the signal. "
        "Frames of different fields of view.",
    ),
)

_SEEN = " The network saw every {} row and column as an image of its own."
_STRIDES = {
    1: "",
    **{
        apart: _SEEN.format(ordinal)
        for apart, ordinal in enumerate(("second", "third", "fourth"), 2)
    },
}


class Finding(NamedTuple):
    """One check: `level` (FINE, CARE or STOP), a `title`, and a `text` with what was measured and what to do."""

    level: int
    title: str
    text: str


class Verdict(NamedTuple):
    """The worst `level` of the `findings` (worst first), and its `headline`."""

    level: int
    headline: str
    findings: tuple


def judge(noisy, residual, halves, denoiser):
    """Weigh what was measured.

    Args:
        noisy: `diagnostics.Input`.
        residual: `diagnostics.Residual`.
        halves: `halves.Halves`.
        denoiser: `denoiser.Denoiser`.

    Returns:
        `Verdict`.
    """
    findings = [
        _independent_noise(noisy, denoiser.config),
        *_neighbours(denoiser.config.network.neighbours),
        *_repeats(denoiser.config.targets),
        *(
            [] if any(denoiser.config.blind) else [_structure(residual)]
        ),  # of which such noise has its own
        *_brightness(residual, denoiser.scale),
        *_grey_scale(noisy),
        *_broken(noisy, residual),
        _background(noisy, denoiser.scale),
        _amount(noisy),
        _training(denoiser.history, denoiser.config),
        _same_data(noisy, denoiser.scale),
    ]
    if noisy.noise_correlation <= CORRELATED:  # else its variance is not known
        findings.append(_noise_left(noisy, residual))
    if halves.noisy is not None:
        findings.append(_psf_width(halves, denoiser.psf))
    findings.sort(key=lambda finding: -finding.level)
    return Verdict(findings[0].level, HEADLINES[findings[0].level], tuple(findings))


def _neighbours(reach):
    if reach:
        yield Finding(
            CARE,
            "Neighbouring frames were seen",
            f"Each frame was denoised with {2 * reach} others of its row: what changes from one to the next may be smoothed. Compare with "
            "a result without --neighbours wherever such changes are what is measured.",
        )


def _repeats(targets):
    if targets == "repeats":
        yield Finding(
            FINE,
            "Frames of the same scene taught each other",
            "The training found frames that show the same scene, and learned from each to predict the others, wherever they differ by "
            "nothing but noise. Each frame was denoised by itself. What repeats in all of them, as a camera's fixed pattern, is not noise "
            "to it; --targets own learns from each frame alone.",
        )


def _independent_noise(noisy, config):
    measured = f"the noise's correlation between neighbouring pixels is {noisy.noise_correlation:.2f} (limit {CORRELATED})"
    if any(config.blind):
        rows, columns = (2 * n + 1 for n in config.blind)
        apart = _STRIDES[config.network.stride]
        return Finding(
            CARE,
            "Neighbouring pixels share their noise",
            f"{_sentence(measured)} Each pixel was therefore learned without the {rows} x {columns} pixels around it: detail as fine as "
            f"that is lost.{apart} Noise that reaches further is still taken for signal.",
        )
    if config.targets == "repeats" and noisy.noise_correlation > CORRELATED:
        return Finding(
            CARE,
            "Neighbouring pixels share their noise",
            f"{_sentence(measured)} The training told it from signal by other frames of the same scene; in images that are not of that "
            f"training, or that no other frame repeats, it may be left.{_STRIDES[config.network.stride]}",
        )
    if noisy.noise_correlation > CORRELATED:
        return Finding(
            STOP,
            "Neighbouring pixels share their noise",
            f"{_sentence(measured)} The network cannot tell such noise from signal: do not trust fine structure. A wide Gaussian filter is "
            "safer. If the images have hardly any noise, this may be sharp detail instead, and there is little to denoise.",
        )
    return Finding(FINE, "The noise is independent from pixel to pixel", _sentence(measured))


def _structure(residual):
    care, stop = STRUCTURE
    size = f"at a size of about {residual.structure_size:.0f} pixels"
    if residual.structure > care or residual.correlation > CORRELATED:
        return Finding(
            STOP if residual.structure > stop else CARE,
            "What was removed is not only noise",
            f"The residual is strongest {size}, {residual.structure:.1f} times as strong as white noise (limit {care}); its neighbouring "
            f"pixels correlate with {residual.correlation:.2f}. Signal was removed with the noise (a PSF that is too wide, too short a "
            "training), or neighbours share their noise. Look for outlines of the sample in the residual.",
        )
    measured = f"nowhere is it more than {max(residual.structure, 1):.1f} times as strong as white noise (limit {care})."
    return Finding(FINE, "What was removed looks like noise", _sentence(measured))


def _noise_left(noisy, residual):
    share = residual.std**2 / noisy.noise_std**2 if noisy.noise_std > 0 else 1.0
    measured = f"the residual holds {share:.0%} of the noise's power (at least {NOISE_LEFT:.0%})."
    if share < NOISE_LEFT:
        return Finding(
            CARE,
            "Noise is left in the result",
            f"{_sentence(measured)} The rest passed for signal.",
        )
    return Finding(FINE, "The noise was removed", _sentence(measured))


def _brightness(residual, scale):
    shift = residual.mean / residual.contrast if residual.contrast > 0 else 0.0
    signal = residual.levels.level[-1] + residual.levels.mean[-1] - float(scale.background)
    loss = residual.levels.mean[-1] / signal if signal > 0 else 0.0
    if abs(shift) > BIAS:
        text = (
            f"The denoised images are {'darker' if shift > 0 else 'brighter'} than the noisy ones, by {abs(residual.mean):.3g} grey levels "
            f"on the average, {abs(shift):.0%} of their contrast (limit {BIAS:.0%}). Do not compare brightness before and after."
        )
        yield Finding(CARE, "The mean brightness changed", text)
    if abs(loss) > DIMMED:
        title = f"The brightest pixels are too {'dim' if loss > 0 else 'bright'}"
        yield Finding(
            CARE,
            title,
            f"By {abs(loss):.0%} (limit {DIMMED:.0%}). Do not compare the brightness of small structures.",
        )
    if abs(shift) <= BIAS and abs(loss) <= DIMMED:
        text = (
            f"The mean moved by {abs(shift):.1%} of the contrast (limit {BIAS:.0%}), the brightest pixels by {abs(loss):.0%} of their "
            f"signal (limit {DIMMED:.0%})."
        )
        yield Finding(FINE, "Brightness is kept", text)


def _grey_scale(noisy):
    saturated, clipped = noisy.saturated > SATURATED, noisy.clipped > CLIPPED
    coarse = 0 < noisy.noise_std < COARSE * noisy.step
    if saturated:
        text = (
            f"{noisy.saturated:.2%} of the pixels are at the brightest grey level (limit {SATURATED:.1%}): what they would have shown is "
            "lost, and the denoised image is too dim there. Use less light or gain next time."
        )
        yield Finding(CARE, "The camera was saturated", text)
    if clipped:
        text = (
            f"{noisy.clipped:.1%} of the pixels are at the darkest grey level (limit {CLIPPED:.0%}): their noise is cut off, so that dark "
            "areas come out too bright; or the images have an empty margin, which should be cropped."
        )
        yield Finding(CARE, "Dark pixels were cut off", text)
    if coarse:
        text = (
            f"The noise is {noisy.noise_std / noisy.step:.2f} steps of the grey scale (limit {COARSE}): rounding hides it, and faint "
            "structures with it. Save more bits."
        )
        yield Finding(CARE, "The grey scale is too coarse", text)
    if not (saturated or clipped or coarse):
        yield Finding(
            FINE,
            "The grey scale holds the images",
            "Hardly any pixels are saturated or cut off, and rounding does no harm.",
        )


def _broken(noisy, residual):
    outliers = residual.outliers > OUTLIERS
    if noisy.identical_frames:
        pairs = ", ".join(f"{first} and {second}" for first, second in noisy.identical_frames[:3])
        more = " and more" if len(noisy.identical_frames) > 3 else ""
        text = f"Frames {pairs}{more} hold the very same pixels: they tell the network nothing new. Check how the stack was put together."
        yield Finding(CARE, "Frames are repeated", text)
    if noisy.constant_frames:
        yield Finding(
            CARE,
            "Frames are empty",
            f"{noisy.constant_frames} of the frames hold a single grey level. Remove them.",
        )
    if outliers:
        text = (
            f"{residual.outliers:.2%} of the pixels (limit {OUTLIERS:.2%}) stand out by ten standard deviations: hot pixels, cosmic rays, "
            "dust. A 3x3 median at these places, before the training, removes them."
        )
        yield Finding(CARE, "Single pixels stand out", text)
    if not (noisy.identical_frames or noisy.constant_frames or outliers):
        yield Finding(
            FINE,
            "No broken pixels or frames",
            "No frame is empty or repeated, and hardly any pixel stands out by itself.",
        )


def _background(noisy, scale):
    measured = f"{noisy.below_background:.2%} of the image is darker than the background of {float(scale.background):.4g} grey levels"
    if noisy.below_background > BELOW:
        return Finding(
            CARE,
            "The background is too high",
            f"{_sentence(measured)} Light below it is suppressed: give a lower one.",
        )
    return Finding(FINE, "The background fits", _sentence(measured))


def _amount(noisy):
    measured = f"{noisy.pixels:,} pixels"
    if noisy.pixels < FEW:
        text = f"{measured} (at least {FEW:,}): the network may learn their noise by heart. Add frames, if need be of other places."
        return Finding(CARE, "There is little to learn from", text)
    return Finding(FINE, "There is enough to learn from", f"{measured}.")


def _training(history, config):
    losses = np.asarray(history.get("validation_loss", ()), float)
    if len(losses) == 0:
        return Finding(
            FINE, "The training is not recorded", "The model holds no history of its training."
        )
    if not np.isfinite(losses[-1]):
        return Finding(
            STOP,
            "The training failed",
            "Its loss is not a number. Train again with a lower learning rate.",
        )
    third = -(-len(losses) // 3)
    last, before = losses[-third:], losses[: len(losses) - third]
    fall = 1 - losses[-1] / before.min() if len(before) else 1.0
    if fall > IMPROVING:
        text = f"The loss on held-out pixels still fell by {fall:.0%} over the last third of the epochs: train longer."
        return Finding(CARE, "The training was too short", text)
    if _overfitted(last, before, np.asarray(history["chosen"])[-third:], config):
        kept = config.weights == "best" and not config.validation_redraw
        text = "From two thirds of the epochs on, the network did worse on held-out pixels: it began to learn the noise by heart. "
        text += (
            "The weights from before were kept."
            if kept
            else 'Use the weights "best", or train for a shorter time.'
        )
        return Finding(
            FINE if kept else CARE,
            "The training went on for long enough" if kept else "The training was too long",
            text,
        )
    return Finding(
        FINE,
        "The training has converged",
        "The loss on held-out pixels no longer moved at the end, and did not rise.",
    )


def _overfitted(last, before, chosen, config):
    """With one set of validation patches, `fit.is_chosen` has tested it; fresh ones each epoch scatter, which tells their error."""
    if not config.validation_redraw:
        return len(before) > 0 and not chosen.any()
    if min(len(last), len(before)) < 3:
        return False
    middle = before[-len(last) :]
    error = np.sqrt(last.var(ddof=1) / len(last) + middle.var(ddof=1) / len(middle))
    return last.mean() - middle.mean() > 2 * error


def _same_data(noisy, scale):
    background, mean, std = (float(value) for value in scale)
    shift, factor = (
        abs(noisy.mean - background - mean) / std,
        max(noisy.std / std, std / max(noisy.std, 1e-30)),
    )
    if shift > OTHER_DATA[0] or factor > OTHER_DATA[1]:
        return Finding(
            CARE,
            "The model was trained on unlike images",
            f"They had mean {mean + background:.4g} and standard deviation {std:.4g} grey levels; these have {noisy.mean:.4g} and "
            f"{noisy.std:.4g}. Train on the images themselves, and on channels of unlike brightness one by one.",
        )
    return Finding(
        FINE,
        "The model fits the images",
        "Brightness and contrast are those of the images that it was trained on.",
    )


def _psf_width(halves, psf):
    period = float(ring_resolution(halves.noisy))
    passed = diagnostics.modulation(psf, 1 / period) if np.isfinite(period) else 1.0
    measured = f"the noisy halves agree on detail of {period:.1f} pixels, of which the PSF lets {passed:.1%} of the contrast pass"
    if passed < PASSED:
        text = f"{_sentence(measured)} Either it is too wide, or the camera repeats a pattern in every frame."
        return Finding(CARE, "The images hold finer detail than the PSF allows", text)
    return Finding(FINE, "The PSF allows the detail that the images hold", _sentence(measured))


def _sentence(text):
    return f"{text[0].upper()}{text[1:].rstrip('.')}."
