"""Single pixels that neither noise nor light explains, in one image. Host side, NumPy.

Light that passed through a microscope never lights up one pixel alone: even a PSF of sigma 0.5
pixels gives the four neighbours of a point source 0.54 times its brightness. A bright pixel whose
neighbours lack that share is a defect if the lack is beyond the noise of the neighbours, and that
includes their shot noise: a single photon always comes alone. So the question is how many photons
the pixel would be. The ratio of variance to light in the rest of the image bounds the grey levels
of a photon from above. Where the image shows no light, or where no noise tells, nothing is known,
and no pixel is called a defect.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Real

SMALLEST = 6  # pixels a side of an image in which neighbours can be told from background

# Of the excess of a point source in the middle of a pixel through a PSF of sigma 0.5 pixels: the
# share of its four neighbours together, exp(-2) each. Wider or shifted spots have more.
_FOUR = 0.54
# The same without the brightest of the four, which may be a second defect: a source between two
# pixels is the worst case.
_THREE = 0.288
_FOUR_AT_MOST, _THREE_AT_MOST = 0.2, 0.1  # shares of the neighbours that still count as none
# Standard deviations that the neighbours are below the least light of a point source. Of 60,000
# points of 100 to 100,000 photons through PSFs of sigma 0.5 to 1 none was taken for a defect.
_CERTAIN = 4.0
_BETWEEN = 0.2, 0.4  # shares of the neighbours that neither a defect nor a PSF explains
_CANDIDATES = 1e-2  # of the pixels, the most that are examined: the ones that stand out furthest
_BESIDE = 5  # neighbours with data, at least
_SCREEN = 6.0  # standard deviations from the neighbours' mean that make a candidate
_LOWER = 3.0  # a pixel is compared with the light of pixels that stand out this many times less
_SATURATED = 1e-3  # share of the pixels that have the highest grey level
_SHOT = 1.5  # variance in bright areas over that in dark ones that shows shot noise
# Noise standard deviations that bright areas are above dark ones, else they may show a slope of the
# offset and no light; the second for light without a doubt.
_CONTRAST, _CLEAR = 2.0, 5.0
_GAP = 10.0  # times further than the next: single photons and points vary without such gaps
_BEYOND_PHOTONS = 1000.0  # noise standard deviations that no detector gives to a photon
_FASTEST = 0.25  # u of `_nugget` at least: what 0.5 pixels of sigma, sampled, come to
_FEWEST = 10  # lit blocks, at least, that tell noise from structure
_ERRORS = 3.0  # standard errors that the variance may be higher
_PHOTONS, _FLAT_BLOCKS = 30, 4  # in a block and blocks, at least, that tell the gain by themselves
_SHARE = 0.1  # of the blocks that are the dark and the bright ones
# Pixels from which the noise is measured for the screening, and the step of the grey levels.
_SAMPLE, _FEWER = 2**20, 2**17


class Defects(NamedTuple):
    """Pixels that neither noise nor light explains.

    Attributes:
        rows, columns: of the K pixels.
        known: whether the image's own shot noise says so; the others are defects if they are rare.
        between: how many pixels make that doubtful. They stand out as far and have neighbours that
            a defect does not explain and neither does a PSF: the image is sampled too coarsely to
            tell. Or they are alone and stand out half as far: the defects continue their tail.
    """

    rows: Int[np.ndarray, " K"]
    columns: Int[np.ndarray, " K"]
    known: Bool[np.ndarray, " K"]
    between: int


class _Group(NamedTuple):
    """Blocks of an image: their places, light above the darkest, noise variance and its error."""

    places: np.ndarray
    light: float
    variance: float
    error: float


class _Blocks(NamedTuple):
    """What blocks of the image say: the darkest, and groups of all, the brighter, the brightest."""

    dark_variance: float
    groups: list[_Group]
    flat: tuple[float, float, float] | None
    side: int
    contrast: bool
    shot: bool


def find_defects(
    image: Float[np.ndarray, "H W"], *, variance: Float[np.ndarray, "H W"] | None = None
) -> Defects:
    """Find single pixels that neither noise nor light explains, brighter or darker.

    Args:
        image: grey levels, NaN for pixels that are no data; at least `SMALLEST` pixels a side, else
            none is found.
        variance: upper bound of each pixel's own variance in grey levels squared, for the mean of
            several frames: what varies less than photons would is no light.
    """
    none = Defects(np.zeros(0, int), np.zeros(0, int), np.zeros(0, bool), 0)
    if min(image.shape) < SMALLEST:
        return none
    valid = np.isfinite(image)
    noise = _noise(image, valid)
    rows, columns, sign = _candidates(image, valid, _SCREEN * noise)
    if len(rows) == 0:
        return none
    excess, level, four, three, spread = _around(image, valid, rows, columns, sign)
    excess = np.maximum(excess, 1e-30)
    alone = np.minimum(four / _FOUR, three / _THREE) < 0.5 * excess
    rest = np.where(valid, image, np.median(level))
    rest[rows[alone], columns[alone]] = level[alone]
    blocks = _blocks(rest, valid)
    if blocks is None:
        return none
    gain, known = _gain(blocks, excess, rows, columns, sign, alone)
    known |= blocks.shot
    if variance is not None:
        own = variance[rows, columns] / excess
        known |= own < gain
        gain = np.minimum(gain, own)
    gain = np.maximum(gain, _step(image, valid))
    base = np.maximum(min(blocks.dark_variance, noise**2), spread**2)

    def lack(share, neighbours, count):
        """How far the neighbours are below the light of a point, in standard deviations."""
        deviation = np.sqrt(count * base + share * gain * excess)
        return (share * excess - np.maximum(neighbours, 0)) / np.maximum(deviation, 1e-30)

    stands_out = np.isfinite(gain) & (
        _FOUR * excess > 1.5 * _CERTAIN * np.sqrt(4 * base + _FOUR * gain * excess)
    )
    unsupported = (four < _FOUR_AT_MOST * excess) & (lack(_FOUR, four, 4) > _CERTAIN)
    unsupported |= (three < _THREE_AT_MOST * excess) & (lack(_THREE, three, 3) > _CERTAIN)
    unsupported &= np.isfinite(gain)
    extreme = (three < _THREE_AT_MOST * excess) & _far_above(excess, noise)
    known &= unsupported
    defect = known | (unsupported & blocks.contrast) | extreme
    between = (four > _BETWEEN[0] * excess) & (four < _BETWEEN[1] * excess)
    between = int((stands_out & between).sum())
    if defect.any():
        least = excess[defect].min()
        between += int((alone & ~defect & (excess > least / 2) & (excess < least)).sum())
    return Defects(rows[defect], columns[defect], known[defect], between)


def _far_above(excess, noise):
    """Whether a candidate is that far beyond the noise, and `_GAP` times beyond all the others."""
    lower, height = np.append(noise, np.sort(excess)[:-1]), np.sort(excess)
    gaps = (height > _GAP * lower) & (height > _BEYOND_PHOTONS * noise)
    if noise == 0 or not gaps.any():
        return np.zeros(len(excess), bool)
    return excess >= height[gaps][0]


def _noise(image, valid):
    """Standard deviation of the noise from the median difference of neighbours in a row; robust."""
    step = max(1, image.size // _SAMPLE)
    some = image[::step]
    difference = some[:, 1:] - some[:, :-1]
    both = valid[::step, 1:] & valid[::step, :-1]
    return float(np.median(np.abs(difference[both]))) * 1.4826 / 2**0.5 if both.any() else 0.0


def _step(image, valid):
    """The least step between grey levels, which is a photon's where photons are counted."""
    some = slice(None, None, max(1, image.size // _FEWER))
    levels = np.unique(image[some][valid[some]])
    return float(np.diff(levels).min()) if len(levels) > 1 else 0.0


def _candidates(image, valid, least):
    """Places of the extreme pixels of their 3x3 that differ from the others' mean by ``least``."""
    most = max(64, int(_CANDIDATES * image.size))
    found = []
    for sign in (1, -1):
        values = np.where(valid, image if sign > 0 else -image, -np.inf)
        # Of noise and of even areas hardly a pixel is that far above those left and right of it.
        far = np.ones(image.shape, bool)
        far[:, 1:-1] = values[:, 1:-1] - np.minimum(values[:, :-2], values[:, 2:]) > least
        rows, columns = np.nonzero(far & valid)
        around = patches(values, rows, columns, 1).reshape(-1, 9)
        highest = around[:, 4] >= around.max(1)
        rows, columns, around = rows[highest], columns[highest], around[highest]
        beside = np.isfinite(around).sum(1) - 1
        around[np.isinf(around)] = 0
        mean = (around.sum(1, dtype=np.float64) - around[:, 4]) / np.maximum(beside, 1)
        excess = around[:, 4] - mean
        # A pixel with few neighbours cannot be judged.
        chosen = np.flatnonzero((excess > least) & (beside >= _BESIDE))
        if len(chosen) > most:
            chosen = chosen[np.argpartition(excess[chosen], -most)[-most:]]
        found.append((rows[chosen], columns[chosen], np.full(len(chosen), sign)))
    return tuple(np.concatenate(parts) for parts in zip(*found, strict=True))


def patches(
    image: Real[np.ndarray, "H W"],
    rows: Int[np.ndarray, " K"],
    columns: Int[np.ndarray, " K"],
    radius: int,
) -> Real[np.ndarray, "K S S"]:
    """Return the pixels around each place, (K, 2 radius + 1, 2 radius + 1); borders reflect."""
    reach = np.arange(-radius, radius + 1)
    y, x = (
        (size - 1) - np.abs((size - 1) - np.abs(places[:, None] + reach))
        for places, size in zip((rows, columns), image.shape, strict=True)
    )
    return image[y[:, :, None], x[:, None, :]]


_RING = np.ones((5, 5), bool)
_RING[1:4, 1:4] = False


def _around(image, valid, rows, columns, sign):
    """Excess, level, the neighbours' light (four; the least three), and the background's spread."""
    around = patches(np.where(valid, image, np.nan), rows, columns, 2) * sign[:, None, None]
    around = around.astype(np.float64)
    missing = np.isnan(around)
    if missing.any():
        around = np.where(missing, np.nanmedian(around, axis=(1, 2), keepdims=True), around)
    ring = np.sort(around[:, _RING], axis=1)
    level = (ring[:, 7] + ring[:, 8]) / 2
    # The 3rd and 14th of 16 normal values are 2.1 standard deviations apart; defects in the ring,
    # up to two on either side, do not count.
    spread = (ring[:, 13] - ring[:, 2]) / 2.1
    beside = around[:, (1, 2, 2, 3), (2, 1, 3, 2)] - level[:, None]
    # The brightest of four noisy neighbours is one standard deviation above their mean.
    three = beside.sum(1) - beside.max(1) + spread
    return around[:, 2, 2] - level, level * sign, beside.sum(1), three, spread


def _blocks(image, valid):
    """`_Blocks` of an image without the candidates; None if no block is valid throughout."""
    side = 8 if min(image.shape) >= 26 else 4
    height, width = ((size - 2) // side for size in image.shape)
    image = image.astype(np.float32)

    def means(values):
        cut = values[: height * side, : width * side]
        return cut.reshape(height, side, width, side).mean((1, 3), dtype=np.float64)

    def halves(down, right):
        """Half the mean square of the difference between pixels so far apart."""
        moved = image[down : image.shape[0] - 2 + down, right : image.shape[1] - 2 + right]
        return means((image[:-2, :-2] - moved) ** 2) / 2

    # Saturation hides the noise.
    top = image == image.max()
    usable = valid & ~top if top.mean() > _SATURATED else valid
    whole = np.argwhere(means(usable[:-2, :-2]) == 1)
    if len(whole) == 0:
        return None
    near = (halves(0, 1) + halves(1, 0)) / 2, halves(1, 1), (halves(0, 2) + halves(2, 0)) / 2
    levels, *lags = (values[tuple(whole.T)] for values in (means(image), *near))
    count = max(1, round(_SHARE * len(levels)))
    lights = np.minimum(_above(levels, count), _above(levels - _slope(whole, levels), count))
    order = np.argsort(lights)
    dark_variance = float(lags[0][order[:count]].mean())
    # Of blocks without any light the darkest are darker and the brightest brighter by chance.
    chance = 4 * np.sqrt(dark_variance) / side
    groups = [
        _Group(
            whole[some],
            max(0.0, lights[some].mean() - chance),
            *_nugget(lights[some], [lag[some] for lag in lags]),
        )
        for some in (order, order[-max(1, len(order) // 2) :], order[-count:])
    ]
    flat = _flat(np.maximum(lights - chance, 0), lags[0], side**2)
    parts = [group[1:3] for group in groups] + ([flat[1:]] if flat else [])
    contrast = max(light / np.sqrt(max(variance, 1e-30)) for light, variance in parts)
    shot = any(group.variance - group.error > _SHOT * dark_variance for group in groups)
    shot |= contrast > _CLEAR
    return _Blocks(dark_variance, groups, flat, side, contrast > _CONTRAST, shot)


def _above(levels, count):
    """The levels above the mean of the darkest ones."""
    return levels - np.partition(levels, count - 1)[:count].mean()


def _slope(places, levels):
    """A surface of second order: the camera's offset or uneven light, and no structure."""
    y, x = (2.0 * (places / np.maximum(places.max(0), 1)) - 1).T
    terms = np.stack([y, x, y * y, x * x, x * y, np.ones_like(x)], axis=1)
    if len(levels) < 4 * terms.shape[1]:
        return np.zeros(len(levels))
    return terms @ np.linalg.lstsq(terms.T @ terms, terms.T @ levels, rcond=None)[0]


def _flat(lights, variances, pixels):
    """Gain bound, light and variance of lit blocks with little structure; None if there are few.

    Of a block with n photons, the variance is known to sqrt(2 / pixels + 1 / n) of itself.
    """
    gain = np.divide(variances, lights, out=np.full(len(lights), np.inf), where=lights > 0)
    photons = np.divide(lights * pixels, gain, out=np.zeros(len(lights)), where=gain > 0)
    lit = photons >= _PHOTONS
    if lit.sum() < _FLAT_BLOCKS:
        return None
    upper = np.full(len(lights), np.inf)
    upper[lit] = gain[lit] * (1 + _ERRORS * np.sqrt(2 / pixels + 1 / photons[lit]))
    chosen = np.argsort(upper)[: max(_FLAT_BLOCKS, round(_SHARE * lit.sum()))]
    return float(upper[chosen].max()), float(lights[chosen].mean()), float(variances[chosen].mean())


def _nugget(lights, lags):
    """Variance of the noise, and its standard error, from the variogram of some blocks.

    Structure through a Gaussian PSF of sigma s has the variogram S (1 - u^(h^2)) at a distance of h
    pixels, where u = exp(-1 / (4 s^2)); white noise adds its variance to all of it. Where a few
    blocks have all the light, the variance counts as noise as it is.
    """
    one, two, four = (float(lag.mean()) for lag in lags)
    each, lights = lags[0], np.maximum(lights, 0)
    if two > one and lights.sum() ** 2 > _FEWEST * (lights**2).sum():
        u = (np.sqrt(1 + 4 * max(four - two, 0) / (two - one)) - 1) / 2
        each = lags[0] - (lags[1] - lags[0]) / np.clip(u, _FASTEST, 1)
    return max(float(each.mean()), 0.0), float(each.std()) / np.sqrt(len(each))


def _gain(blocks, excess, rows, columns, sign, alone):
    """Upper bound of the grey levels of a photon for each candidate, and whether others show it.

    They are measured in the image without the candidates, to which the candidates are added whose
    excess is less than a third: single photons vary in brightness and are their own evidence.
    """
    bounds, known = [], np.zeros(len(excess), bool)
    for index, (where, light, variance, error) in enumerate(blocks.groups):
        inside = np.zeros(np.add(where.max(0), 1), bool)
        inside[tuple(where.T)] = True
        y, x = rows // blocks.side, columns // blocks.side
        member = alone & (y < len(inside)) & (x < inside.shape[1])
        member[member] = inside[y[member], x[member]]
        order = np.argsort(excess[member])
        height, up = excess[member][order], sign[member][order] > 0
        pixels = len(where) * blocks.side**2
        lower = np.searchsorted(height, excess / _LOWER)
        lights = light + np.append(0, np.cumsum(height * up))[lower] / pixels
        more = np.append(0, np.cumsum(height**2))[lower] / pixels
        totals = [variance + _ERRORS * error + more]
        if index == 0:
            known = (lower >= _PHOTONS) & (more > variance)
            totals += [blocks.flat[0] * light + more] if blocks.flat else []
        for total in totals:
            told = (lights > 0) & (total > 0)
            bounds.append(np.divide(total, lights, out=np.full(len(excess), np.inf), where=told))
    # Without contrast the brightest blocks may owe their light to a slope of the offset.
    return bounds[0] if not (blocks.contrast or blocks.shot) else np.min(bounds, axis=0), known
