"""The choice among a training's parameters and a sweep's PSFs by validation. NumPy, host side."""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float


def is_chosen(
    losses: Float[np.ndarray, " V"], lowest: Float[np.ndarray, " V"], *, paired: bool
) -> bool:
    """Return whether an epoch's parameters replace those chosen so far.

    The later parameters win unless validation speaks against them. A validation loss is mostly the
    noise of its targets, and it cannot resolve the slow gains of a falling learning rate, so the
    lowest of many such losses is a matter of luck.

    Args:
        losses: (V,) validation losses of the epoch, one per patch.
        lowest: (V,) those of the epoch with the lowest mean so far (infinite before the first).
        paired: whether both are of the same patches. Then the mean may exceed the lowest by one
            standard error of the difference, else by nothing (as published).
    """
    if losses.mean() < lowest.mean():
        return True
    difference = losses - lowest
    return bool(
        paired
        and len(losses) > 1
        and difference.mean() <= difference.std(ddof=1) / len(losses) ** 0.5
    )


def choose(errors: Float[np.ndarray, "K B"], widths: Sequence[float]) -> int:
    """Choose the widest PSF whose score is within one standard error of the lowest.

    The scores are means of noisy errors. A PSF that is too narrow costs less than one that is too
    wide, so a score that is no worse speaks for the wider one, which forbids more noise. Of a
    single error no standard error is known: then the lowest score is chosen.

    Args:
        errors: (K, B) paired errors, see `sweep.Model`.
        widths: (K,) of the PSFs; sigma in pixels.

    Returns:
        Index of the choice.
    """
    differences = errors - errors[errors.mean(axis=1).argmin()]
    within = [
        k
        for k, difference in enumerate(differences)
        if difference.mean() <= 0 or difference.mean() <= standard_error(difference)
    ]
    return max(within, key=lambda k: widths[k])


def standard_error(errors: Float[np.ndarray, " B"]) -> float:
    """Return the standard error of the mean of (B,) values; NaN of a single one."""
    return float(np.std(errors, ddof=1) / len(errors) ** 0.5) if len(errors) > 1 else math.nan
