"""What `guard` measures on one frame once all of its tiles have come. Host side: NumPy, SciPy."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Real
from scipy.ndimage import binary_opening, uniform_filter

from jaxdenoise.report.cells import CELL

PEAKS = 1e-3  # share of the pixels that are the brightest
_CHOSEN = 3.37  # standard deviations: mean of the largest thousandth of normal noise
_BINS = 16  # grey levels at which the noise is measured
_CELLS = 32  # of a bin, at least; a frame of fewer is judged by its mean alone
# Pixels at the highest level are saturated if they are a thousandth of a frame with so many levels.
# Where a tenth of the pixels is, noise has 0.8 of its variance, and less where more are.
_PILE, _LEVELS, _SATURATED, _AROUND = 1e-3, 32, 0.1, 0.5
_EMPTY = 5  # cells a side of areas that hold no data if they are constant and came out as they were
_FLAT = 0.5  # share of a bin's cells, those of least contrast, that the noise is measured in
_FLATTEST = 0.3  # share of the cells that show how noise adds up over an area
_BUSY = 0.1  # share of the cells: those of most contrast
_WIDE = 3  # cells a side in which contrast and the noise of all sizes are measured
# Pixels that carry the mean residual of a cell: a hot pixel is alone, a spot of sigma 0.5 has four.
_ALONE = 2.5
_BLOBS, _TOTALS = (1, 2, 4), (8, 16)  # cells a side: 4 to 16, and 32 and 64 pixels
# A blob counts if it differs by so much of the light that is there, or of a third of the peaks'.
_TRIFLE, _DIM = 0.05, 0.3

_Grid = Float[np.ndarray, "rows columns"]
_Known = Bool[np.ndarray, "rows columns"]
_Cells = Mapping[str, _Grid]


class Noise(NamedTuple):
    """Variance of the noise by brightness: a polygon, and a line beyond its bright end.

    Attributes:
        level: of the corners, rising.
        variance: of the noise there.
    """

    level: Float[np.ndarray, " bins"]
    variance: Float[np.ndarray, " bins"]

    def at(self, level: Real[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
        """Return the variance at some grey levels."""
        found = np.interp(level, self.level, self.variance)
        if len(self.level) < 2:
            return np.asarray(found)
        # Photon noise grows with the light beyond the brightest flat area.
        middle = len(self.level) // 2
        rise = self.variance[-1] - self.variance[:middle].mean()
        slope = rise / max(self.level[-1] - self.level[:middle].mean(), 1e-30)
        return found + max(slope, 0) * np.maximum(level - self.level[-1], 0)

    def deviation(self, level: float, least: float) -> float:
        """Return the standard deviation at a grey level, of a variance of at least `least`."""
        return float(np.sqrt(max(float(self.at(np.array([level]))[0]), least)))


class Peaks(NamedTuple):
    """The brightest pixels of a frame, chosen in three ways: (k, 2) noisy and denoised.

    Attributes:
        noisy: those that are brightest in the noisy image.
        denoised: those that are brightest in the denoised image.
        ring: those whose neighbours are brightest in the noisy image.
    """

    noisy: Float[np.ndarray, "k 2"]
    denoised: Float[np.ndarray, "k 2"]
    ring: Float[np.ndarray, "k 2"]


class Frame(NamedTuple):
    """All of a frame that is judged; grey levels are less a level of reference.

    Attributes:
        cells: by name, as of `cells.cell_means`.
        peaks: the brightest pixels.
        background: of no light, or None.
        step: distance of grey levels, 0 where there is none.
        pixels: how many are valid.
        noisy: their mean.
        removed: mean of the noisy less the denoised pixels.
        power: mean square of the same.
        darkest: of the denoised pixels.
        level: of reference.
        correlated: whether neighbouring pixels were taken to share their noise.
    """

    cells: _Cells
    peaks: Peaks
    background: float | None
    step: float
    pixels: int
    noisy: float
    removed: float
    power: float
    darkest: float
    level: float
    correlated: bool


def measure(frame: Frame) -> dict[str, float]:
    """Return the numbers that the checks of a frame judge; few for a frame of a few cells."""
    data = _known(frame.cells)
    # Where the detector is saturated the noise is clipped: it is measured elsewhere.
    saturated = _saturated(frame.cells, data, frame.step)
    known = data & ~saturated
    dark = frame.darkest if frame.background is None else min(frame.background, frame.darkest)
    # What a small frame has: its residual stands for the noise.
    found = {"removed": frame.removed, "pixels": float(frame.pixels)}
    found |= {"noise": np.sqrt(frame.power), "signal": frame.noisy - dark}
    found["grey"] = abs(frame.noisy + frame.level)
    found["cells"] = float(known.sum())
    found["spread"] = np.sqrt(frame.power)
    found["saturated"] = float(saturated.sum())
    if data.sum() < _CELLS:
        return found
    if not known.any():
        known = data
    cells = {name: np.where(known, values, 0) for name, values in frame.cells.items()}
    low = float(np.percentile(cells["denoised"][known], 1))
    background = low if frame.background is None else min(frame.background, low)
    contrast = _local_variance(cells["denoised"], cells["denoised2"], known)
    fine, wide, own = noise_of(cells, known, contrast)
    noise, least = wide if frame.correlated else fine, frame.step**2 / 12 + 1e-30
    variance = np.maximum(noise.at(cells["denoised"]), least)
    found["noise"] = min(float(np.sqrt(variance[known].mean())), found["noise"])
    found["signal"] = frame.noisy - background
    found |= _peaks(frame.peaks, noise, background, least)
    relative = np.where(known, contrast / variance, np.inf)
    # Where flat areas are exactly constant, what is known of the noise is its finest detail.
    even = np.maximum(own.at(cells["denoised"]), np.maximum(fine.at(cells["denoised"]) / 2, least))
    found |= _powers(cells, known, relative, variance, even)
    busy = known & (relative >= np.quantile(relative[known], 1 - _BUSY))
    found["change"] = float(np.sqrt(cells["power"][busy].sum() / max(contrast[busy].sum(), 1e-30)))
    flat = known & (relative <= np.quantile(relative[known], _FLATTEST))
    # In saturated areas, too, nothing may be added.
    whole = {name: np.where(data, values, 0) for name, values in frame.cells.items()}
    given = _Areas(whole, data, flat, noise, background, least)
    found |= given.measures(found.get("noisy_level", 0.0), correlated=frame.correlated)
    return found


def _known(cells):
    """Cells that hold data. Single ones that are constant may hold few photons, or none."""
    change = cells["power"] + cells["fine"]
    known = np.isfinite(change)
    return known & ~binary_opening(known & (np.nan_to_num(change) == 0), np.ones((_EMPTY, _EMPTY)))


def _saturated(cells, known, step):
    """Cells in which, or all around which, many pixels have the frame's highest level."""
    top = np.where(known, cells["top"], -np.inf)
    highest = top.max(initial=-np.inf)
    darkest = cells["noisy"][known].min(initial=np.inf)
    if not highest - darkest >= _LEVELS * step:  # few photons: their highest count is data
        return np.zeros_like(known)
    full = np.where(top == highest, cells["full"], 0)
    many = full.sum() > _PILE * known.sum()
    return many & ((full > _SATURATED) | (_smooth(full) > _AROUND))


def noise_of(cells: _Cells, known: _Known, contrast: _Grid) -> tuple[Noise, Noise, Noise]:
    """Return the `Noise` of the finest detail, of all sizes up to 12 pixels, and of the residual.

    They are measured by brightness, where the denoised image has least contrast.
    """
    wide = _local_variance(cells["noisy"], cells["noisy2"], known)
    order = np.argsort(np.where(known, cells["denoised"], np.inf), axis=None)[: known.sum()]
    bins = max(1, min(_BINS, len(order) // _CELLS))
    rows = []
    for part in np.split(order, _edges(len(order), bins)):
        own = contrast.ravel()[part]
        flat = part[own <= np.quantile(own, _FLAT)]
        grids = cells["denoised"], cells["fine"], wide, cells["power"]
        rows.append([x.ravel()[flat].mean() for x in grids])
    level, fine, whole, own = np.array(rows, float).T
    # Where few cells are as bright, the wide variance holds structure; the fine one hardly does.
    ratio = np.median(whole[:bins] / np.maximum(fine[:bins], 1e-30))
    whole[bins:] = np.minimum(whole[bins:], ratio * fine[bins:])
    return Noise(level, fine), Noise(level, whole), Noise(level[:bins], own[:bins])


def _edges(count, bins):
    """Where to cut cells in order of brightness: equal bins, the last halved again and again."""
    edges = [count * number // bins for number in range(1, bins)]
    left = count - (edges[-1] if edges else 0)
    while bins == _BINS and left // 2 >= _CELLS // 2:
        left //= 2
        edges.append(count - left)
    return edges


def _local_variance(mean, square, known):
    """Variance of the pixels in 12 x 12 pixels around each cell."""
    share = np.maximum(_smooth(known), 1e-9)
    return np.maximum(_smooth(square) / share - (_smooth(mean) / share) ** 2, 0)


def _smooth(grid):
    return uniform_filter(grid.astype(np.float64), _WIDE, mode="nearest")


def _peaks(peaks, noise, background, least):
    """Growth of the brightest pixels, and what chance allows, in grey levels."""
    found = {}
    for name, pair in peaks._asdict().items():
        if len(pair) == 0:
            return {}
        noisy, denoised = pair.T.astype(np.float64)
        deviation = noise.deviation(float(min(noisy.mean(), denoised.mean())), least)
        found[f"{name}_growth"] = float(np.mean(denoised - noisy))
        found[f"{name}_level"] = float(noisy.mean()) - background
        # The brightest pixels lie together: about nine share their error.
        found[f"{name}_error"] = float(deviation / np.sqrt(max(len(pair) / 9, 1)))
    noisy, denoised = peaks.noisy.T.astype(np.float64)
    deviation = noise.deviation(float(noisy.mean()), least)
    # The noise by which the brightest of so many pixels were chosen; hot pixels move no median.
    found["noisy_lost"] = float(np.median(noisy - denoised) - _CHOSEN * deviation)
    brightest = peaks.denoised[:, 1].mean(dtype=np.float64)
    found["order_growth"] = float(brightest - peaks.noisy[:, 0].mean(dtype=np.float64))
    return found


def _powers(cells, known, relative, variance, own):
    """Power of the residual against the noise, in all and in the busiest cells, and its fit.

    "fit" is the factor of the denoised image's fine detail in the residual: negative where it is
    stronger than the noisy image's. "detail" is its power over the noise's, with its sign.
    "uneven" is the residual's power in the busiest cells over that in flat ones as bright.
    """
    busy = known & (relative >= np.quantile(relative[known], 1 - _BUSY))
    found = {"along": float(cells["along"].sum() / max(cells["power"].sum(), 1e-30))}
    found["uneven"] = float(cells["power"][busy].sum() / own[busy].sum())
    for name, area in (("busy_", busy), ("", known)):
        shape, noise = float(cells["shape"][area].sum()), float(variance[area].sum())
        fit = float(cells["fit"][area].sum()) / max(shape, 1e-30)
        error = np.sqrt((cells["shape"][area] * variance[area]).sum()) / max(shape, 1e-30) / CELL
        found[f"{name}power"] = float(cells["power"][area].sum()) / noise
        found[f"{name}fit"], found[f"{name}fit_error"] = fit, float(error)
        found[f"{name}detail"] = float(np.sign(fit) * fit**2 * shape / noise)
    return found


class _Areas(NamedTuple):
    """What the residuals of areas are judged by; fields as in `measure`."""

    cells: _Cells
    known: _Known
    flat: _Known
    noise: Noise
    background: float
    least: float

    def measures(self, peaks, *, correlated):
        """Blobs of 4 to 16 pixels that noise does not make, and totals over 32 and 64 pixels."""
        residual = self.cells["noisy"] - self.cells["denoised"]
        alone = residual**2 * CELL**2 < _ALONE * self.cells["power"]
        lump = np.where(alone & (abs(residual) > np.sqrt(self.least)), 0, residual)
        found = {"removed_blob": 0.0, "added_blob": 0.0}
        for side in _BLOBS:
            area = self._area(lump, side, correlated)
            if area is None:
                break
            z, mean, level = area
            light = np.maximum(level - self.background, _DIM * peaks)
            z = np.where(np.abs(mean) > _TRIFLE * light, z, 0)
            found["removed_blob"] = max(found["removed_blob"], float(z.max()))
            found["added_blob"] = max(found["added_blob"], float(-z.min()))
        for side in _TOTALS:
            area = self._area(residual, side, correlated)
            if area is None:
                break
            z, mean, _ = area
            power = float(np.mean(z**2))
            found[f"totals{side}"], found[f"totals{side}_count"] = power**0.5, float(z.size)
            # What is left of it without the noise.
            moved = float(np.mean(mean**2)) * (1 - 1 / max(power, 1))
            found[f"totals{side}_moved"] = moved**0.5
        return found

    def _area(self, residual, side, correlated):
        """Standard scores, means and levels of areas of whole cells; None if there are none."""
        names = (residual, self.cells["noisy"], self.cells["denoised"], self.known, self.flat)
        mean, noisy, denoised, known, flat = (_blocks(grid, side) for grid in names)
        if not (known == 1).any():
            return None
        # Photons that are few have a skewed distribution: neither image alone knows their noise.
        level = denoised if correlated else np.maximum(noisy, denoised)
        z = mean * side * CELL / np.sqrt(np.maximum(self.noise.at(level), self.least))
        if correlated:  # flat areas show how far shared noise widens the means
            even = (known == 1) & (flat >= np.quantile(flat[known == 1], 1 - _FLATTEST))
            z = z / max(1.0, float(1.4826 * np.median(np.abs(z[even]))))
        return z[known == 1], mean[known == 1], level[known == 1]


def _blocks(grid, side):
    rows, columns = (length // side for length in grid.shape)
    part = grid[: rows * side, : columns * side].reshape(rows, side, columns, side)
    return part.mean(axis=(1, 3), dtype=np.float64)
