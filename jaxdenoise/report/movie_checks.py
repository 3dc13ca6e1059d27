"""The check of a verdict that concerns time: whether transients keep their size and their frame."""

import numpy as np

from jaxdenoise.report.findings import CARE, FINE, NOT_APPLICABLE, Finding
from jaxdenoise.report.transients import LEAKED, RETURNED, SIZE, LeakTest

NO_MOVIE = "there is no movie"
ALONE = "the frames were denoised one by one, so nothing can pass between them"
TOO_SMALL = "the movie is too short or too small to add a transient"
_TITLE = "Transients in a movie"


def transients(found: LeakTest | str) -> Finding:
    """Say whether known transients came back with their size, and in their own frame.

    Args:
        found: the leak test, or why there is none.
    """
    if isinstance(found, str):
        return Finding(NOT_APPLICABLE, _TITLE, f"Not applicable: {found}.")
    returned, leaked = float(np.mean(found.returned)), float(np.mean(found.leaked))
    text = (
        f"{describe(found)} added to the noisy movie. {returned:.1%} of their size came back (at "
        f"least {RETURNED:.0%}; single ones {min(found.returned):.0%} to "
        f"{max(found.returned):.0%}), and {leaked:.1%} appeared in the frames beside them (at most "
        f"{LEAKED:.0%}; single ones up to {max(found.leaked):.0%})."
    )
    if returned < RETURNED or leaked > LEAKED:
        what = "are too weak" if returned < RETURNED else "leak into the frames beside them"
        text += " Compare peaks with the noisy movie's means over the same region."
        return Finding(CARE, f"Transients {what}", text)
    return Finding(FINE, "Transients keep their size and their frame", text)


def describe(found: LeakTest) -> str:
    """Return what was added, in words."""
    count = len(found.spots.places)
    several = f"{count} transients" if count > 1 else "A transient"
    sigma = f"{found.spots.sigma:.2f}".rstrip("0").rstrip(".")
    return (
        f"{several} of {SIZE:.0f} standard deviations of the noise, one frame long and as wide as "
        f"a point in the images (sigma {sigma} pixels), at still places, "
        f"{'were' if count > 1 else 'was'}"
    )
