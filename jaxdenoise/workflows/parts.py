"""The parts of image files that are denoised each by itself: the frames of one channel. Host side.

What a frame looks like after a denoising must not depend on other files, channels or frames. So
each part has an exposure of its own, and frames that would spoil it are found and set apart.
"""

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float

from jaxdenoise.imaging.gaps import fill, fill_stack, mark_gaps
from jaxdenoise.imaging.hotpixels import HotPixels, describe, find_hot_pixels
from jaxdenoise.imaging.line_noise import LineNoise, find_line_noise
from jaxdenoise.imaging.scan_lines import line_offset
from jaxdenoise.io.frames import FramePlace, Frames
from jaxdenoise.io.images import ImageFile
from jaxdenoise.network.exposure import Exposure, measure_exposure, noise_std
from jaxdenoise.workflows.frame_names import FrameNames
from jaxdenoise.workflows.odd_frames import told
from jaxdenoise.workflows.reporter import Reporter
from jaxdenoise.workflows.survey import SIDE, WHOLE, Survey, middle, survey

_SMALL = 2**20  # pixels of a frame of which the latest ones are kept in memory
_SAMPLE = 2**22  # pixels from which an exposure is measured
_LIKE = 1.3  # factor between the noise of frames that are denoised as one group


class CleanFrames:
    """Frames of a file without gaps, line noise and hot pixels; otherwise as `frames.Frames`."""

    ndim, dtype = 3, np.dtype(np.float32)

    def __init__(
        self,
        frames: Frames,
        gaps: Bool[np.ndarray, " N"],
        hot: HotPixels | None = None,
        lines: LineNoise | None = None,
    ) -> None:
        """Take frames, whether each has pixels without data, their hot pixels and line noise."""
        self._frames, self._gaps, self._hot = frames.with_gaps(), gaps, hot
        self._lines, self._moved = lines, lines is not None and lines.shift != 0
        self.shape: tuple[int, ...] = frames.shape
        self.numbers, self.size, self.row = frames.numbers, frames.size, frames.row
        pixels = self.shape[1] * self.shape[2]
        self._large, self._small = pixels > WHOLE, pixels <= _SMALL
        self._clean = lru_cache(maxsize=2 + 2 * min(frames.row, 4))(self._read_clean)
        self._marked_frame = lru_cache(maxsize=2 + 2 * min(frames.row, 4))(self._mark)

    def __len__(self) -> int:
        """Return how many frames there are."""
        return self.shape[0]

    def __getitem__(self, index: FramePlace) -> Float[np.ndarray, "h w"]:
        """Read a part of one frame, filled."""
        number, rows, columns = index
        if not self._gaps[number] and not self._moved:
            return self._without_gaps(index)
        if self._large:
            part = mark_gaps(self._frames[index])
            return fill(part, np.isnan(part))
        return self._marked_frame(number.__index__())[1][rows, columns]

    def marked(self, index: FramePlace) -> Float[np.ndarray, "h w"]:
        """Read a part of one frame, NaN where there is no data."""
        number, rows, columns = index
        if not self._gaps[number] and not self._moved:
            return self._without_gaps(index)
        if self._large:
            return mark_gaps(self._frames[index])
        return self._marked_frame(number.__index__())[0][rows, columns]

    def original(self, index: FramePlace) -> Float[np.ndarray, "h w"]:
        """Read a part of one frame as the file has it."""
        return self._frames[index]

    def choose(self, numbers: Iterable[int]) -> "CleanFrames":
        """Return some of the frames, by their numbers."""
        numbers = list(numbers)
        hot = None if self._hot is None else hot_pixels_of(self._hot, numbers)
        lines = None if self._lines is None else self._lines.of_frames(numbers)
        return CleanFrames(self._frames.choose(numbers), self._gaps[numbers], hot, lines)

    def _without_gaps(self, index):
        """A part of a frame that holds data everywhere; a small frame is read once as a whole."""
        if not self._small:
            return self._replaced(self._frames[index], index)
        number, rows, columns = index
        return self._clean(number.__index__())[rows, columns]

    def _read_clean(self, number):
        everything = number, slice(None), slice(None)
        frame = self._replaced(self._frames[everything], everything)
        frame.flags.writeable = False  # several read it
        return frame

    def _replaced(self, part, index):
        number, rows, columns = index
        if self._lines is not None and not self._moved:
            part = self._lines.without_offsets(part, number.__index__(), rows, columns)
        if self._hot is None:
            return part
        return self._hot.replaced_in(part, number.__index__(), rows, columns)

    def _mark(self, number):
        everything = number, slice(None), slice(None)
        marked = self._frames[everything]
        marked = mark_gaps(marked) if self._gaps[number] else marked
        if self._lines is not None and self._moved:
            marked = self._lines.removed_from(marked, number)
        gaps = np.isnan(marked)
        marked = self._replaced(marked, everything)
        return marked, fill(marked, gaps) if gaps.any() else marked


class _Marked:
    """Frames with NaN in gaps, as `hotpixels.find_hot_pixels` reads them."""

    def __init__(self, frames: CleanFrames) -> None:
        self.shape, self._frames = frames.shape, frames

    def __getitem__(self, index: FramePlace) -> Float[np.ndarray, "h w"]:
        return self._frames.marked(index)


def hot_pixels_of(hot: HotPixels, numbers: Sequence[int]) -> HotPixels:
    """Return the hot pixels of some of the frames, in the order of their numbers."""
    places = [np.flatnonzero(hot.frames == n) for n in numbers]
    chosen = np.concatenate([np.empty(0, int), *places])
    frames = np.repeat(np.arange(len(numbers)), [len(own) for own in places]).astype(np.int32)
    own = hot.rows[chosen], hot.columns[chosen], hot.values[chosen]
    return HotPixels(frames, *own, (len(numbers), *hot.shape[1:]), hot.stuck)


@dataclass(frozen=True)
class Part:
    """The frames of one channel of a file, or of a file without channels.

    Attributes:
        path: of the file.
        number: of the file among the inputs.
        file: the open file, with the frames of this channel.
        channel: its number; None of a file without channels.
        line_noise: "auto": it is taken out; "keep".
    """

    path: str | Path
    number: int
    file: ImageFile
    channel: int | None = None
    line_noise: str = "auto"

    @cached_property
    def _seen(self) -> Survey:
        """All frames are read for it, one after the other."""
        return survey(self.file)

    @cached_property
    def survey(self) -> Survey:
        """Of the frames without line noise."""
        if self.lines is None:
            return self._seen
        frames = CleanFrames(self.file.frames, self._seen.gaps, lines=self.lines)
        noise, (rows, columns) = self._seen.noise.copy(), middle(frames.shape[1:])
        for n in self._usual:
            noise[n] = noise_std(frames[n, rows, columns][None])
        return self._seen._replace(noise=noise)

    @cached_property
    def lines(self) -> LineNoise | None:
        """The line noise; None where there is none, it is kept, or frames are too large."""
        frames = CleanFrames(self.file.frames, self._seen.gaps)
        if self.line_noise == "keep" or self._is_large:
            return None
        return find_line_noise(_Marked(frames), row=frames.row, numbers=self._usual)

    @cached_property
    def hot(self) -> HotPixels | None:
        """The hot pixels; None of frames that are too large to be looked at as a whole."""
        frames = CleanFrames(self.file.frames, self.survey.gaps, lines=self.lines)
        return None if self._is_large else find_hot_pixels(_Marked(frames))

    @property
    def _is_large(self) -> bool:
        return self.file.frames.shape[1] * self.file.frames.shape[2] > WHOLE

    @property
    def _usual(self) -> list[int]:
        return [n for n in range(len(self.file.frames)) if n not in self._seen.odd]

    @cached_property
    def frames(self) -> CleanFrames:
        """The frames with gaps filled, line noise taken out and hot pixels replaced."""
        return CleanFrames(self.file.frames, self.survey.gaps, self.hot, self.lines)

    @cached_property
    def ordinary(self) -> list[int]:
        """The numbers of the frames with which nothing is wrong."""
        return self._usual

    @cached_property
    def sample(self) -> Float[np.ndarray, "M h w"]:
        """Evenly spread ordinary frames, NaN in gaps; of large frames their middle."""
        return sample(self.frames, self.ordinary or range(len(self.frames)))

    @cached_property
    def exposure(self) -> Exposure:
        """Of the ordinary frames."""
        return measure_exposure(self.sample)

    def groups(self) -> list[list[int]]:
        """Return the numbers of the ordinary frames in groups of like noise."""
        order = sorted(self.ordinary, key=lambda n: self.survey.noise[n])
        groups: list[list[int]] = []
        for n in order:
            if groups and self.survey.noise[n] <= _LIKE * self.survey.noise[groups[-1][0]]:
                groups[-1].append(n)
            else:
                groups.append([n])
        return [sorted(group) for group in groups]

    def of_frames(self, numbers: list[int]) -> "Part":
        """Return a part of some of the frames, by their numbers."""
        frames = self.file.frames.choose(numbers)
        file = self.file._replace(frames=frames)
        part = Part(self.path, self.number, file, self.channel, self.line_noise)
        seen = Survey(self.survey.noise[numbers], self.survey.gaps[numbers], {})
        # What `cached_property` would find out again.
        hot = None if self.hot is None else hot_pixels_of(self.hot, numbers)
        lines = None if self.lines is None else self.lines.of_frames(numbers)
        part.__dict__.update(_seen=seen, survey=seen, hot=hot, lines=lines)
        return part

    def name_of(self, number: int) -> str:
        """Return the words for a frame, such as "frame 3, channel 1", or "plane 3"."""
        frame = self.frame_names[number]
        return frame if self.channel is None else f"{frame}, channel {self.channel_label}"

    @cached_property
    def frame_names(self) -> FrameNames:
        """What the frames are called, without the channel."""
        return FrameNames(self.file)

    def _in_file(self, number):
        """The number of a frame among the channel's in the file's order, not in that of rows."""
        return int(np.sum(np.asarray(self.file.frames.numbers) < self.file.frames.numbers[number]))

    def tell(self, reporter: Reporter) -> None:
        """Say what line noise is taken out, how many hot pixels are replaced, and warn of more."""
        channel = "" if self.channel is None else f", channel {self.channel_label}"
        for said in (*self.line_evidence, None if self.hot is None else describe(self.hot)):
            if said is not None:
                reporter.say(f"{self.path}{channel}: {said}")
        for line in self._warnings():
            warnings.warn(line, stacklevel=3)
        kept = self.line_noise == "keep" or self._is_large
        offset = line_offset(fill_stack(self.sample)[0]) if kept and self.ordinary else 0.0
        if offset:
            warnings.warn(
                f"{self.path}: every other line is moved by {offset:+.1f} pixels along x, as by "
                "the phase of a bidirectional scan; correct that first, denoising smooths over it",
                stacklevel=3,
            )

    @property
    def channel_label(self) -> str:
        """The channel's name in the file, or else its number; empty without channels."""
        if self.channel is None:
            return ""
        names = self.file.info.channel_names
        return names[self.channel] if names else str(self.channel)

    @property
    def line_evidence(self) -> tuple[str, ...]:
        """A line for each kind of line noise that is taken out."""
        return () if self.lines is None else self.lines.evidence

    def _warnings(self) -> list[str]:
        """A line for each way in which frames are odd."""
        kinds: dict[str, list[int]] = {}
        for number, what in self.survey.odd.items():
            kinds.setdefault(what, []).append(self._in_file(number) + 1)
        name = (
            str(self.path) if self.channel is None else f"{self.path}, channel {self.channel_label}"
        )
        return [f"{name}: {told(what, numbers)}" for what, numbers in kinds.items()]


def sample(frames: CleanFrames, numbers: Sequence[int]) -> Float[np.ndarray, "M h w"]:
    """Return evenly spread frames of some numbers, NaN in gaps; of large frames their middle."""
    height, width = frames.shape[1:]
    side_y, side_x = min(height, SIDE), min(width, SIDE)
    rows, columns = (
        slice((n - side) // 2, (n - side) // 2 + side)
        for n, side in ((height, side_y), (width, side_x))
    )
    count = max(1, min(len(numbers), _SAMPLE // (side_y * side_x)))
    chosen = np.unique(np.linspace(0, len(numbers) - 1, count).round().astype(int))
    return np.stack([frames.marked((numbers[i], rows, columns)) for i in chosen])
