"""The checks of a verdict that concern the training and what it removed. Host side.

The thresholds were set on real images (the fluorescence microscopy denoising data, FMD) and on
synthetic ones; the comments say what was measured there.
"""

from collections.abc import Iterator, Mapping

import numpy as np
from jaxtyping import ArrayLike, Float

from jaxdenoise.imaging.resolution import RingCorrelation, ring_resolution
from jaxdenoise.microscope.noise_level import CORRELATED
from jaxdenoise.report import diagnostics
from jaxdenoise.report.findings import (
    CARE,
    FINE,
    NOT_APPLICABLE,
    STOP,
    Finding,
    GreyScale,
    TrainingSettings,
    sentence,
)

# Power of the residual over that of white noise, from which on care is needed and the result fails.
# Good trainings have 1.0 to 1.2, a PSF that is twice too wide 2.5 to 3.0 (it loses 2 to 3 dB).
STRUCTURE, STRUCTURE_STOP = 1.4, 2.0
# Variance of the residual over that of the noise. Good trainings have 0.84 to 1.03, a Gaussian
# filter of sigma 1 has 0.77 to 0.87.
NOISE_LEFT = 0.6
BIAS = 0.02  # mean of the residual over the image's contrast. Good trainings: below 0.01
# Loss of the brightest pixels' signal. Good trainings have up to 0.07, because the denoised image
# holds some of the noise by which its pixels are sorted.
DIMMED = 0.1
PASSED = 0.01  # contrast of a pattern that the PSF leaves; weaker patterns drown in noise
# Fall of the validation loss over the last third of the epochs. The cosine schedule ends at less
# than 0.005.
IMPROVING = 0.01


def neighbours(reach: int) -> Iterator[Finding]:
    """Warn if the network saw `reach` frames on each side of each frame."""
    if reach:
        text = (
            f"Each frame was denoised together with {2 * reach} neighbouring frames, so changes "
            "from one frame to the next may be smoothed. Where you measure such changes, compare "
            "with a result without neighbouring frames (neighbours=0)."
        )
        yield Finding(CARE, "The network saw neighbouring frames", text)


def repeats(targets: str) -> Iterator[Finding]:
    """Say if other frames of the same scene were the targets of the training."""
    if targets == "repeats":
        text = (
            "The training found frames that show the same scene, and learned to predict each from "
            "the others, wherever they differ by noise only. Each frame was denoised by itself. A "
            "pattern that all frames share, such as a camera's fixed pattern, does not count as "
            'noise here. With targets="own" the network learns from each frame alone.'
        )
        yield Finding(FINE, "The network learned from frames of the same scene", text)


def structure(residual: diagnostics.Residual) -> Finding:
    """Check whether the residual has more power than white noise at some size of detail."""
    if residual.structure > STRUCTURE or residual.correlation > CORRELATED:
        text = (
            f"The residual is strongest at a size of about {residual.structure_size:.0f} pixels, "
            f"{residual.structure:.1f} times as strong as white noise (limit {STRUCTURE}). Its "
            f"neighbouring pixels have a correlation of {residual.correlation:.2f} (limit "
            f"{CORRELATED}). Either signal was removed with the noise (the PSF is too wide, or the "
            "training was too short), or neighbouring pixels share their noise. Look for outlines "
            "of the sample in the residual."
        )
        level = STOP if residual.structure > STRUCTURE_STOP else CARE
        return Finding(level, "More than noise was removed", text)
    text = (
        f"The residual is nowhere more than {max(residual.structure, 1):.1f} times as strong as "
        f"white noise (limit {STRUCTURE})."
    )
    return Finding(FINE, "What was removed looks like noise", text)


def noise_left(noisy: diagnostics.Input, residual: diagnostics.Residual) -> Finding:
    """Check whether the residual has the power of the noise."""
    share = residual.std**2 / noisy.noise_std**2 if noisy.noise_std > 0 else 1.0
    text = f"The residual holds {share:.0%} of the noise's power (at least {NOISE_LEFT:.0%})."
    if share < NOISE_LEFT:
        return Finding(CARE, "Noise is left in the result", f"{text} The rest passed for signal.")
    return Finding(FINE, "The noise was removed", text)


def brightness(residual: diagnostics.Residual, scale: GreyScale) -> Iterator[Finding]:
    """Check the mean brightness, and that of the brightest pixels."""
    shift = residual.mean / residual.contrast if residual.contrast > 0 else 0.0
    signal = residual.levels.level[-1] + residual.levels.mean[-1] - float(scale.background)
    loss = residual.levels.mean[-1] / signal if signal > 0 else 0.0
    if abs(shift) > BIAS:
        text = (
            f"On average, the denoised images are {abs(residual.mean):.3g} grey levels "
            f"{'darker' if shift > 0 else 'brighter'} than the noisy ones, which is "
            f"{abs(shift):.0%} of their contrast (limit {BIAS:.0%}). Do not compare brightness "
            "before and after."
        )
        yield Finding(CARE, "The mean brightness changed", text)
    if abs(loss) > DIMMED:
        title = f"The brightest pixels are too {'dim' if loss > 0 else 'bright'}"
        text = (
            f"They differ by {abs(loss):.0%} of their signal (limit {DIMMED:.0%}). Do not compare "
            "the brightness of small structures."
        )
        yield Finding(CARE, title, text)
    if abs(shift) <= BIAS and abs(loss) <= DIMMED:
        text = (
            f"The mean changed by {abs(shift):.1%} of the contrast (limit {BIAS:.0%}), the "
            f"brightest pixels by {abs(loss):.0%} of their signal (limit {DIMMED:.0%})."
        )
        yield Finding(FINE, "Brightness is preserved", text)


def training(history: Mapping[str, ArrayLike], config: TrainingSettings) -> Finding:
    """Check whether the training has converged, and whether it learned the noise."""
    losses = np.asarray(history.get("validation_loss", ()), float)
    if len(losses) == 0:
        text = "Not applicable: nothing was trained, or the model holds no history of it."
        return Finding(NOT_APPLICABLE, "The course of a training", text)
    if not np.isfinite(losses[-1]):
        text = "Its loss is not a number. Train again with a lower learning rate."
        return Finding(STOP, "The training failed", text)
    third = -(-len(losses) // 3)
    last, before = losses[-third:], losses[: len(losses) - third]
    fall = 1 - losses[-1] / before.min() if len(before) else 1.0
    if fall > IMPROVING:
        text = (
            f"The loss on held-out pixels still fell by {fall:.0%} over the last third of the "
            "epochs. Train for longer."
        )
        return Finding(CARE, "The training was too short", text)
    if not _overfitted(last, before, np.asarray(history["chosen"])[-third:], config):
        text = "The loss on held-out pixels was steady at the end and did not rise."
        return Finding(FINE, "The training has converged", text)
    text = "In the last third of the epochs the loss on held-out pixels rose: overfitting began."
    if config.weights == "best" and not config.validation_redraw:
        text = f"{text} The weights from before were kept."
        return Finding(FINE, "The training was long enough", text)
    text = f'{text} Use weights="best", or train for a shorter time.'
    return Finding(CARE, "The training was too long", text)


def psf_width(noisy: RingCorrelation, psf: Float[ArrayLike, "h w"]) -> Finding:
    """Check whether the PSF passes the finest detail on which the halves of a stack agree.

    Args:
        noisy: Fourier ring correlation of the noisy halves.
        psf: (h, w).
    """
    period = float(ring_resolution(noisy))
    passed = diagnostics.modulation(psf, 1 / period) if np.isfinite(period) else 1.0
    measured = sentence(
        f"the noisy halves agree on detail of {period:.1f} pixels, and the PSF passes "
        f"{passed:.1%} of its contrast (at least {PASSED:.0%})"
    )
    if passed < PASSED:
        text = (
            f"{measured} Either the PSF is too wide, or the camera repeats a pattern in each frame."
        )
        return Finding(CARE, "The images hold finer detail than the PSF passes", text)
    return Finding(FINE, "The PSF passes the detail of the images", measured)


def _overfitted(last, before, chosen, config):
    """Whether the last third of the validation losses is worse than those before.

    One set of validation patches was tested by `fit.is_chosen` already. Fresh patches in each epoch
    scatter, which shows their standard error.
    """
    if not config.validation_redraw:
        return len(before) > 0 and not chosen.any()
    if min(len(last), len(before)) < 3:
        return False
    middle = before[-len(last) :]
    error = np.sqrt(last.var(ddof=1) / len(last) + middle.var(ddof=1) / len(middle))
    return last.mean() - middle.mean() > 2 * error
