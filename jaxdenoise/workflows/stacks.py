"""What a training sees of files that may be larger than the memory. Host side."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float32

from jaxdenoise.io.frames import FramePlace
from jaxdenoise.network.exposure import Exposure
from jaxdenoise.system.crew import current_crew
from jaxdenoise.system.errors import ImageError, RequestError
from jaxdenoise.targets.patches import spans
from jaxdenoise.workflows.parts import Part
from jaxdenoise.workflows.reporter import Reporter

# Kept in memory, 134 MB in float32: more than the preset "fast" looks at in all its steps.
PIXELS = 2**25


class TrainingStack(NamedTuple):
    """What is trained on, in grey levels of one exposure.

    Attributes:
        frames: (N, H, W), or (S, N, H, W), rows of frames; NaN where there is no data.
        targets: of the same shape, the pixels that may be targets; None: all.
        exposure: of the first part, in whose grey levels all frames are.
        whole: whether rows of frames are whole, not a few frames of longer ones.
    """

    frames: Float32[np.ndarray, "*frames H W"]
    targets: Bool[np.ndarray, "*frames H W"] | None
    exposure: Exposure
    whole: bool = True


def stack_of(
    parts: Sequence[Part],
    *,
    seed: int,
    reach: int,
    reporter: Reporter,
    movies: bool = False,
    pixels: int | None = None,
) -> TrainingStack:
    """Return what is trained on: all frames, or random squares of large files.

    Each part is brought to the exposure of the first. Frames that are odd train nothing. Of
    ``movies``, squares are smaller and longer, as their guides need many frames. At the most
    ``pixels`` are kept, default: `PIXELS`.

    Raises:
        ImageError: as `check_data`.
    """
    check_data(parts)
    usable = [part for part in parts if part.ordinary]
    reference = usable[0].exposure
    sources = [Source(part, reference, rows=reach > 0) for part in usable]
    size = _OF_MOVIES if movies else Square(_SIDE, 4 * reach + 1)
    most = pixels or PIXELS
    stack, targets = training_stack(sources, seed=seed, reach=reach, pixels=most, square=size)
    total, (height, width) = sum(source.size for source in sources), stack.shape[-2:]
    if stack.size < total and len({source.shape[1:] for source in sources}) == 1:
        reporter.say(
            f"learning from {len(stack)} random places of {height} x {width} pixels, "
            f"{stack.size / total:.1%} of all"
        )
    whole = not reach or stack.shape[-3] == sources[0].row
    return TrainingStack(stack, targets, reference, whole)


def check_data(parts: Sequence[Part]) -> None:
    """Raise an ImageError if no part has a frame to learn from."""
    if any(part.ordinary for part in parts):
        return
    part = parts[0]
    kinds = " or ".join(sorted(set(part.survey.odd.values())))
    which = "the image" if len(part.file.frames) == 1 else "each frame"
    raise ImageError(f"{part.path}: {which} {kinds}: there is nothing to learn")


class Source:
    """The frames of a part that train, as `frames.Frames`, but of a reference's exposure.

    Attributes:
        shape: (N, H, W).
        size: how many pixels they have.
        row: as of `frames.Frames`.
    """

    def __init__(self, part: Part, reference: Exposure, *, rows: bool) -> None:
        """Take a part; where the frames stand in rows, odd ones stay, as NaN."""
        self._frames = part.frames if rows else part.frames.choose(part.ordinary)
        self._odd = set(part.survey.odd) if rows else set()
        self.shape, self.size, self.row = self._frames.shape, self._frames.size, self._frames.row
        own = part.exposure
        factor = reference.noise / own.noise if own.noise > 0 and reference.noise > 0 else 1.0
        self._map = None if own == reference else (own.darkest, factor, reference.darkest)

    def __len__(self) -> int:
        """Return how many frames there are."""
        return self.shape[0]

    def __getitem__(self, index: FramePlace) -> Float32[np.ndarray, "h w"]:
        """Read a part of one frame, NaN where there is no data."""
        frame = self._frames.marked(index)
        if index[0].__index__() in self._odd:
            return np.full_like(frame, np.nan)
        if self._map is None:
            return frame
        darkest, factor, level = map(np.float32, self._map)
        return (frame - darkest) * factor + level


_SIDE = 512  # of a random square
_SMALLEST = 64  # pixels a side: smaller files would make the patches of all others as small


class Square(NamedTuple):
    """The most pixels a side of what is cut out of large files, and the most frames in a row."""

    side: int
    frames: int


_OF_MOVIES = Square(192, 64)


def training_stack(
    sources: Sequence[Any],
    *,
    seed: int,
    reach: int = 0,
    pixels: int = PIXELS,
    square: Square | None = None,
) -> tuple[Float32[np.ndarray, "*frames H W"], Bool[np.ndarray, "*frames H W"] | None]:
    """Return all frames, or random squares of them where they are more than ``pixels``.

    Frames of different sizes are cut into pieces of the smallest one, which overlap; a pixel is a
    target in one of them. Files of less than 64 pixels a side train nothing where others are
    larger. Of several processes each reads a share; the shares are all-gathered.

    Args:
        sources: arrays (N, H, W), or what is indexed alike.
        seed: of the places of the squares, which are uniform over all frames.
        reach: neighbours on each side that the network sees: then frames stay in rows.
        pixels: how many are kept at the most.
        square: the size of the squares; default: of 512 pixels and 4 ``reach`` + 1 frames.

    Returns:
        (N, H, W), or (M, S, S) with S that of ``square`` and M S^2 at most ``pixels``; with
        neighbours (R, N, H, W) or (M, N, S, S), N frames in a row. And the pixels that may be
        targets; None: all.

    Raises:
        RequestError: the sources' rows differ in length.
    """
    row = _row(sources) if reach else 1
    sizes = {source.shape[1:] for source in sources}
    if len(sizes) > 1:
        large = [source for source in sources if min(source.shape[1:]) >= _SMALLEST]
        sources = large or sources
    height, width = (min(source.shape[axis] for source in sources) for axis in (1, 2))
    if sum(math.prod(source.shape) for source in sources) > pixels:
        most = square or Square(_SIDE, 4 * reach + 1)
        side, run = (min(most.side, height), min(most.side, width)), min(row, most.frames)
        return _squares(sources, side, (row, run), seed=seed, reach=reach, pixels=pixels), None
    pieces = [
        (source, first, rows, columns)
        for source in sources
        for rows in spans(source.shape[1], height)
        for columns in spans(source.shape[2], width)
        for first in range(0, len(source), row)
    ]

    def read(index):
        source, first, rows, columns = pieces[index]
        place = slice(rows.start, rows.start + height), slice(columns.start, columns.start + width)
        return np.stack([source[n, *place] for n in range(first, first + row)])

    stack = current_crew().read((len(pieces), row, height, width), read)
    targets = None
    if len(sizes) > 1 and len({source.shape[1:] for source in sources}) > 1:
        own = [np.outer(rows.owned, columns.owned) for _, _, rows, columns in pieces]
        targets = np.broadcast_to(np.stack(own)[:, None], stack.shape)
    if reach:
        return stack, targets
    return stack[:, 0], None if targets is None else targets[:, 0]


def _squares(sources, side, lengths, *, seed, reach, pixels):
    owners = np.repeat(range(len(sources)), [len(source) for source in sources])
    numbers = np.concatenate([range(len(source)) for source in sources])
    rng, (row, run) = np.random.default_rng(seed), lengths
    count = max(1, pixels // (run * math.prod(side)))
    places = []
    for _ in range(count):
        frame = int(rng.integers(len(owners)))
        room = [n - s + 1 for n, s in zip(sources[owners[frame]].shape[1:], side, strict=True)]
        places.append((frame, *(int(rng.integers(free)) for free in room)))

    def squares(index):
        frame, y, x = places[index]
        source = sources[int(owners[frame])]
        place = numbers[frame] % row
        first = numbers[frame] - place + min(place, row - run)
        return [
            source[number, y : y + side[0], x : x + side[1]] for number in range(first, first + run)
        ]

    stack = current_crew().read((count, run, *side), squares)
    return stack if reach else stack[:, 0]


def _row(sources):
    lengths = {source.row for source in sources}
    if len(lengths) > 1:
        raise RequestError(
            f"the files have {', '.join(map(str, sorted(lengths)))} neighbouring frames in a row; "
            "run them one by one"
        )
    return lengths.pop()
