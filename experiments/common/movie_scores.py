"""Judge denoised movies: quality, and whether transients keep their size and their time. NumPy.

`scores` gives all figures of a movie of `jaxdenoise.microscope.synthetic_movies`:

- `psnr`, `si_psnr`: means over frames in dB with the range of the whole truth; scale-invariant
  after the best line from each frame to its truth.
- `ssnr`, `tsnr`, `stsnr`: SNR in dB of each frame, of each pixel's trace, and the mean of the two,
  as the CIDC25 challenge scores.
- `ac`: SNR in dB of what changes: each pixel's mean over time is taken out of result and truth. A
  result that is still has 0.
- `dF_soma`, `dF_bouton`, `dF_fast`, `dF_slow`: bias of peaks in %, over all transients that stand
  alone; fast somata decay in less than 0.5 s. `n_soma` and so on count these transients.
- `leak`: what of a soma's transient is seen in the two frames before it, in % of its size.
- `r_soma`, `r_bouton`: mean correlation of the regions' traces with the truth; `r_pixel`: that of
  single pixels in somata.
"""

from typing import NamedTuple

import numpy as np

KINDS = "soma", "fast", "slow", "bouton"
_FAST = 0.5  # seconds of decay
_BEFORE, _AFTER = 12, 15  # frames that a transient needs from the ends of the movie
# Frames in which no other event may begin: the tail of one before, and one while it is measured.
_ALONE = -25, 12
_PEAK_WITHIN = 8  # frames after its begin
_LEAST = 0.15  # size over the brightness before: smaller ones are lost in what else changes


class Transient(NamedTuple):
    """A transient that stands alone, in a region's mean trace, in grey levels.

    Attributes:
        size: peak above the six frames before it, in the truth.
        found: the same in the result, at the frame of the true peak.
        leak: by how much the result rises in the two frames before it, more than the truth does.
    """

    size: float
    found: float
    leak: float


def scores(movie, images):
    """Return {name: figure} of a denoised movie; the module says what they mean.

    Args:
        movie: `synthetic_movies.CalciumMovie`.
        images: (T, H, W) in grey levels above the offset.
    """
    signal, images = movie.signal, np.asarray(images, np.float32)
    spatial, temporal = snr(signal, images, (1, 2)), snr(signal, images, 0)
    found = {"psnr": psnr(signal, images), "si_psnr": si_psnr(signal, images)}
    found |= {"ssnr": spatial, "tsnr": temporal, "stsnr": (spatial + temporal) / 2}
    found |= {"ac": changes_snr(signal, images)}
    return found | _of_regions(movie, images)


def psnr(truth, images):
    """Return the mean over frames of the PSNR in dB, with the range of the whole truth."""
    error = np.mean((np.asarray(images, float) - truth) ** 2, axis=(1, 2))
    return float(np.mean(_decibels(np.ptp(truth) ** 2 / error)))


def si_psnr(truth, images):
    """Return the mean PSNR in dB after the best line that maps each frame to its truth."""
    truth, images = (np.asarray(part, float).reshape(len(part), -1) for part in (truth, images))
    extent = np.ptp(truth)
    truth, images = (part - part.mean(axis=1, keepdims=True) for part in (truth, images))
    power = np.maximum(np.mean(images**2, axis=1, keepdims=True), 1e-12)
    fitted = images * np.mean(images * truth, axis=1, keepdims=True) / power
    return float(np.mean(_decibels(extent**2 / np.mean((fitted - truth) ** 2, axis=1))))


def snr(truth, images, axes):
    """Return the mean SNR in dB: power of the truth over that of the error, summed over axes."""
    truth, error = np.asarray(truth, float), np.asarray(images, float) - truth
    return float(np.mean(_decibels(np.sum(truth**2, axis=axes) / np.sum(error**2, axis=axes))))


def changes_snr(truth, images):
    """Return the SNR in dB of what changes in time."""
    truth, images = (part - np.mean(part, axis=0) for part in (np.asarray(truth, float), images))
    return float(_decibels(np.sum(truth**2) / np.sum((images - truth) ** 2)))


def transients(true, found, begun):
    """Return the `Transient`s of a region that stand alone.

    Args:
        true: (T,) the region's mean trace in the truth.
        found: (T,) the same in the result.
        begun: (n,) frames in which events begin.
    """
    measured = []
    for first in begun:
        others = np.delete(begun, np.argmax(begun == first)) - first
        crowded = np.any((others > _ALONE[0]) & (others < _ALONE[1]))
        if crowded or first < _BEFORE or first > len(true) - _AFTER:
            continue
        peak = first + int(np.argmax(true[first : first + _PEAK_WITHIN]))
        size, got = (
            float(trace[peak] - trace[first - 6 : first].mean()) for trace in (true, found)
        )
        if size >= _LEAST * true[first - 6 : first].mean():
            early = [
                trace[first - 2 : first].mean() - trace[first - 11 : first - 5].mean()
                for trace in (found, true)
            ]
            measured.append(Transient(size, got, float(early[0] - early[1])))
    return measured


def _of_regions(movie, images):
    """Bias of peaks, leak and correlations."""
    alike = {"soma": [], "bouton": []}
    groups = {kind: [] for kind in KINDS}
    for region, kind, events in zip(movie.regions, movie.kinds, movie.events, strict=True):
        true, found = (part[:, region].mean(axis=1) for part in (movie.signal, images))
        alike[kind].append(np.corrcoef(true, found)[0, 1])
        measured = transients(true, found, events.frames)
        groups[kind] += measured
        if kind == "soma":
            groups["fast" if events.decay < _FAST else "slow"] += measured
    told = {f"r_{kind}": float(np.mean(values)) for kind, values in alike.items()}
    for kind, group in groups.items():
        told[f"dF_{kind}"] = _bias(group)
        told[f"n_{kind}"] = len(group)
    shares = [one.leak / one.size for one in groups["soma"]]
    told["leak"] = float(100 * np.mean(shares)) if shares else float("nan")
    return told | {"r_pixel": _pixel_correlation(movie, images)}


def _bias(group):
    """Return by how many % the summed peaks are too high or, negative, too low."""
    if not group:
        return float("nan")
    return 100 * (sum(one.found for one in group) / sum(one.size for one in group) - 1)


def _pixel_correlation(movie, images):
    somata = movie.regions[np.array(movie.kinds) == "soma"].any(axis=0)
    true, found = (part[:, somata] for part in (movie.signal, images))
    true, found = (part - part.mean(axis=0) for part in (true, found))
    power = np.sum(true**2, axis=0) * np.sum(found**2, axis=0)
    return float(np.mean(np.sum(true * found, axis=0) / np.sqrt(power + 1e-12)))


def _decibels(ratio):
    return 10 * np.log10(ratio)
