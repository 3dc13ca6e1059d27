"""Lines of a scanning microscope that were recorded in both directions and do not meet. Host side.

The phase of a bidirectional scan, if it is off, moves every other line by some pixels. A denoiser
smooths over the comb at each edge, and the detail is lost; the offset must be corrected first.
"""

import numpy as np
from jaxtyping import Float

_FURTHEST = 8  # pixels that lines are moved by, at most
_SMALLEST = 32  # pixels a side
_LEAST = 0.5  # pixels: what is less blurs no more than a PSF does
# Standard errors, over the lines, by which the moved lines must fit better. Of 400 synthetic scenes
# without an offset (tests/imaging/test_scan_lines.py draws them) none comes near it.
_SURE = 5.0
_BETTER = 0.05  # share of the squared difference that the offset must explain
_FRAMES = 8  # evenly spread frames that are looked at
# Pixels from a whole number within which the offset is taken for that one: the measurement errs by
# 0.1 at few photons, and a move by whole pixels leaves each value, and so the noise, as it is.
_WHOLE = 0.15


def line_offset(frames: Float[np.ndarray, "N H W"]) -> float:
    """Measure by how many pixels every other line is moved along x.

    Each odd line is compared with the mean of the even lines above and below it, moved by up to 8
    pixels. Slanted structure moves the two by opposite amounts, so its mean fits unmoved.

    Args:
        frames: (N, H, W) in grey levels, finite.

    Returns:
        Pixels to the right, to a fraction; 0.0 where the lines meet, or where that cannot be told.
    """
    count, height, width = frames.shape
    if min(height, width) < _SMALLEST:
        return 0.0
    chosen = np.unique(np.linspace(0, count - 1, min(count, _FRAMES)).round().astype(int))
    differences = np.concatenate([_differences(np.float64(frames[n])) for n in chosen])
    totals = differences.mean(axis=0)
    best = int(totals.argmin())
    offset = best - _FURTHEST + _fraction(totals, best)
    gained = differences[:, _FURTHEST] - differences[:, best]
    error = gained.std() / np.sqrt(len(gained)) or np.inf
    sure = gained.mean() > _SURE * error and gained.mean() > _BETTER * totals[_FURTHEST]
    return float(offset) if sure and abs(offset) >= _LEAST and _is_one(differences, best) else 0.0


def _is_one(differences, best):
    """Whether the lines fit no better when they are moved by as much to the other side.

    Slanted stripes of two pixels or little more do: then each line shows the gaps of the next.
    """
    other = differences[:, -1 - best] - differences[:, best]
    error = other.std() / np.sqrt(len(other)) or np.inf
    return other.mean() > _SURE * error


def join_lines(frame: Float[np.ndarray, "H W"], offset: float) -> Float[np.ndarray, "H W"]:
    """Move the odd lines of a frame back by an offset that `line_offset` has measured.

    Fractions of a pixel are interpolated by the Fourier transform of the line and its mirror image,
    which leaves the noise as strong and as white as it is. Where a line has moved away from the
    frame's edge, it gets the mean of the lines above and below.

    Args:
        frame: (H, W) in grey levels, finite.
        offset: pixels that the odd lines are to the right of the even ones.

    Returns:
        (H, W), the dtype of the frame; even lines as they are.
    """
    result, width = frame.copy(), frame.shape[1]
    odd = frame[1::2]
    whole = abs(offset - round(offset)) < _WHOLE
    if whole:
        moved = np.roll(odd, -round(offset), axis=1)
    else:
        mirrored = np.concatenate([odd, odd[:, ::-1]], axis=1).astype(np.float64)
        spectrum = np.fft.rfft(mirrored, axis=1)
        spectrum *= np.exp(2j * np.pi * np.fft.rfftfreq(2 * width) * offset)
        moved = np.fft.irfft(spectrum, 2 * width, axis=1)[:, :width]
    result[1::2] = moved
    lost = abs(round(offset)) if whole else int(np.ceil(abs(offset)))
    edge = slice(width - lost, None) if offset > 0 else slice(0, lost)
    above = frame[0 : 2 * len(odd) : 2, edge]
    below = np.concatenate([frame[2::2, edge], above[-1:]])[: len(odd)]
    result[1::2, edge] = (above + below) / 2
    return result


def _differences(frame):
    """Mean squares (lines, 17): odd lines, moved by -8 to 8 pixels, less the mean of even ones."""
    odd = frame[1 : (len(frame) - 1) // 2 * 2 : 2]
    even = frame[: 2 * len(odd) + 1 : 2]
    between = (even[:-1] + even[1:]) / 2
    inner = slice(_FURTHEST, frame.shape[1] - _FURTHEST)
    return np.stack(
        [
            np.mean((np.roll(odd, -shift, axis=1) - between)[:, inner] ** 2, axis=1)
            for shift in range(-_FURTHEST, _FURTHEST + 1)
        ],
        axis=1,
    )


def _fraction(values, best):
    """Where a parabola through the lowest value and those beside it is lowest, from -0.5 to 0.5."""
    if not 0 < best < len(values) - 1:
        return 0.0
    left, middle, right = values[best - 1 : best + 2]
    bend = left - 2 * middle + right
    return float(np.clip((left - right) / (2 * bend), -0.5, 0.5)) if bend > 0 else 0.0
