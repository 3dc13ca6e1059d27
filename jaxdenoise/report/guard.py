"""The guard: judge every frame of a result while its tiles are written. Host side: NumPy, SciPy.

::

    guard = Guard(frames.shape, reach=(0, 0))
    for (n, rows, columns), tile in tiles:
        guard.add(n, rows, columns, frames[n, rows, columns], tile.denoised)
    print(guard.verdict().text)

It needs no clean image. It holds a frame in cells of 4 x 4 pixels until all of its tiles have come,
about two thirds of the frame's memory, and of a finished frame its worst findings alone. It takes
0.12 seconds a megapixel on one core (`experiments/guard_rates.py` measures it, and how often it
errs). Compared is what is in the two images, so give what is in the file, rounding included.
"""

import heapq
import itertools
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Real

from jaxdenoise.report import guard_checks
from jaxdenoise.report.cells import CELL, NAMES, cell_means, make_tile
from jaxdenoise.report.findings import CARE, FINE, STOP
from jaxdenoise.report.guard_checks import CHECKS, Judged
from jaxdenoise.report.guard_measures import PEAKS, Frame, Peaks, measure

# Findings that are kept: the worst of them all. A movie may have a million frames.
_KEPT = 100
_HEADLINES = ("no problems found", "use with care", "do not rely on it")  # by level
# Of the noise: results from pretrained and from random weights that differ by more deserve care,
# as `workflows.denoising` says on the terminal.
APART = 0.5


class GuardFinding(NamedTuple):
    """A check that a frame did not pass.

    Attributes:
        level: `findings.CARE` or `findings.STOP`.
        frame: number of the frame, 0-based.
        check: one of `guard_checks.CHECKS`, or "invention".
        measured: the value, in the check's unit.
        limit: that it may not exceed.
        text: what was measured, without the frame.
        place: the frame in words, such as "frame 3, channel 1".
    """

    level: int
    frame: int
    check: str
    measured: float
    limit: float
    text: str
    place: str


@dataclass(frozen=True)
class GuardVerdict:
    """What the guard found.

    Attributes:
        level: `findings.FINE`, `CARE` or `STOP`: of the worst finding.
        findings: the worst first, at most 100.
        text: the verdict in one line, such as "do not rely on it: the peaks are 40 % brighter than
            the noise allows (frame 3)".
        checks: for each check the number of frames that passed it, that did not, and that it does
            not apply to: "passed", "failed" and "not applicable".
        frames: how many frames were judged.
        levels: number of a frame to the level of its worst finding, of those that have any.
    """

    level: int
    findings: tuple[GuardFinding, ...]
    text: str
    checks: Mapping[str, Mapping[str, int]]
    frames: int
    levels: Mapping[int, int] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "level": ("fine", "care", "stop")[self.level],
            "text": self.text,
            "frames": self.frames,
            "checks": {name: dict(counts) for name, counts in self.checks.items()},
            "findings": [
                finding._asdict() | {"level": ("fine", "care", "stop")[finding.level]}
                for finding in self.findings
            ],
        }


class Guard:
    """Judges frames (N, H, W) tile by tile, see the module."""

    def __init__(
        self,
        shape: tuple[int, ...],
        *,
        reach: tuple[int, int] = (0, 0),
        background: float | None = None,
        name: Callable[[int], str] | None = None,
    ) -> None:
        """Begin with no tile.

        Args:
            shape: (N, H, W).
            reach: how many pixels along y and x were taken to share a pixel's noise when it was
                denoised: (0, 0) for independent noise, the stride less 1, or the hidden neighbours.
                Whole rows or columns: more than 8.
            background: grey level of no light; None: the darkest place of each frame.
            name: puts the number of a frame, 0-based, into words; None: "frame 1", ...
        """
        self._shape, self._reach, self._background = shape, reach, background
        self._name = name or (lambda number: f"frame {number + 1}")
        self._open: dict[int, _Frame] = {}
        self._done: set[int] = set()
        self._kept: list[tuple[float, int, GuardFinding]] = []
        self._order = itertools.count()
        self._counts = {check: Counter[str]() for check in (*CHECKS, "invention")}
        self._levels = Counter[int]()
        self._worst: dict[int, int] = {}

    def add(
        self,
        n: int,
        rows: slice,
        columns: slice,
        noisy: Real[np.ndarray, "h w"],
        denoised: Real[np.ndarray, "h w"],
    ) -> None:
        """Take a tile of a frame; tiles may come in any order and be of any size.

        Cells of 4 x 4 pixels that no tile holds as a whole count for the mean and the peaks alone.

        Args:
            n: number of the frame, 0-based.
            rows: of the tile in the frame, with a start.
            columns: of the tile in the frame, with a start.
            noisy: the tile in grey levels; what is not finite does not count.
            denoised: the result in grey levels.
        """
        n = int(n)
        if n in self._done:  # a tile that came twice
            return
        if n not in self._open:
            self._open[n] = _Frame(self._shape[1:], self._reach)
        frame = self._open[n]
        frame.add(rows.start, columns.start, np.asarray(noisy), np.asarray(denoised))
        if frame.is_whole():
            self._finish(n)

    def compare(self, n: int, apart: float) -> None:
        """Take how far the results of frame n from pretrained and from random weights differ.

        Args:
            n: number of the frame, 0-based.
            apart: root mean square over the noise, as of `ensemble.rms_difference_over_noise`.
        """
        if not np.isfinite(apart):
            return
        text = f"pretrained and random weights give results that differ by {apart:.0%} of the noise"
        self._note(n, Judged("invention", CARE if apart > APART else FINE, apart, APART, text))

    def verdict(self) -> GuardVerdict:
        """Return what was found on all tiles so far."""
        for n in list(self._open):
            self._finish(n)
        findings = tuple(
            finding for *_, finding in sorted(self._kept, key=lambda one: (-one[0], -one[1]))
        )
        frames = len(self._done)
        for counts in self._counts.values():
            counts["not applicable"] = frames - counts["passed"] - counts["failed"]
        level = findings[0].level if findings else FINE
        names = ("passed", "failed", "not applicable")
        checks = {
            check: {name: max(counts[name], 0) for name in names}
            for check, counts in self._counts.items()
        }
        text, worst = _line(level, findings, self._levels), dict(sorted(self._worst.items()))
        return GuardVerdict(level, findings, text, checks, frames, worst)

    def _finish(self, n):
        found = self._open.pop(n).measures(self._reach, self._background)
        self._done.add(n)
        for one in guard_checks.judge(found, self._reach):
            self._note(n, one)

    def _note(self, n, judged):
        self._counts[judged.check]["passed" if judged.level == FINE else "failed"] += 1
        if judged.level == FINE:
            return
        self._levels[judged.level] += 1
        self._worst[n] = max(judged.level, self._worst.get(n, FINE))
        finding = GuardFinding(
            judged.level,
            n,
            judged.check,
            float(judged.measured),
            float(judged.limit),
            judged.text,
            self._name(n),
        )
        excess = min(abs(judged.measured) / max(abs(judged.limit), 1e-30), 1e6)
        # By level, then by check, then by how far the limit is exceeded; then the earlier frame.
        rank = list(self._counts).index(judged.check)
        entry = (judged.level * 1e9 - rank * 1e7 + excess, -next(self._order), finding)
        push = heapq.heappush if len(self._kept) < _KEPT else heapq.heappushpop
        push(self._kept, entry)


@dataclass
class _Frame:
    """Sums over the cells of a frame, and its brightest pixels, while tiles come in."""

    shape: tuple[int, ...]
    reach: tuple[int, int]
    level: float | None = None
    step: float = 1.0
    pixels: int = 0
    valid: int = 0
    noisy: float = 0.0
    residual: float = 0.0
    power: float = 0.0
    darkest: float = np.inf
    cells: dict[str, Float32[np.ndarray, "rows columns"]] = field(init=False)
    touched: Bool[np.ndarray, "rows columns"] = field(init=False)
    brightest: list[tuple[Float32[np.ndarray, " k"], Float32[np.ndarray, "k 2"]]] = field(
        init=False
    )

    def __post_init__(self) -> None:
        grid = [length // CELL for length in self.shape]
        self.cells = {name: np.full(grid, np.nan, np.float32) for name in NAMES}
        self.touched = np.zeros([-(-length // CELL) for length in self.shape], bool)
        nothing = np.empty(0, np.float32), np.empty((0, 2), np.float32)
        self.brightest = [nothing for _ in Peaks._fields]

    def add(self, row, column, noisy, denoised):
        if self.level is None:
            finite = noisy[np.isfinite(noisy)]
            self.level = float(finite.mean(dtype=np.float64)) if finite.size else 0.0
        tile = make_tile(noisy, denoised, self.level, self.reach)
        height, width = noisy.shape
        place, means = cell_means(tile, (row, column))
        for name, values in means.items():
            self.cells[name][place] = values
        rows, columns = (
            slice(start // CELL, -(-(start + length) // CELL))
            for start, length in ((row, height), (column, width))
        )
        self.touched[rows, columns] = True
        whole = noisy[tile.valid]
        self.step = self.step if bool(np.all(whole == np.rint(whole))) else 0.0
        self.pixels += noisy.size
        self.valid += whole.size
        residual = (tile.noisy - tile.denoised)[tile.valid]
        self.noisy += float((whole - self.level).sum(dtype=np.float64))
        self.residual += float(residual.sum(dtype=np.float64))
        self.power += float(residual @ residual)
        self.darkest = min(self.darkest, float(tile.denoised.min()))
        for number, key in enumerate((tile.noisy, tile.denoised, tile.ring)):
            self._keep_brightest(number, tile, key)

    def _keep_brightest(self, number, tile, key):
        most = max(1, round(PEAKS * self.shape[0] * self.shape[1]))
        key = np.where(tile.valid & np.isfinite(key), key, -np.inf).ravel()
        best = np.argpartition(key, max(0, key.size - most))[-most:]
        keys, pairs = self.brightest[number]
        own = np.stack([tile.noisy.ravel()[best], tile.denoised.ravel()[best]], axis=1)
        keys, pairs = np.concatenate([keys, key[best]]), np.concatenate([pairs, own])
        best = np.argsort(keys, kind="stable")[-most:]
        self.brightest[number] = keys[best], pairs[best]

    def is_whole(self):
        return self.pixels >= self.shape[0] * self.shape[1] and bool(self.touched.all())

    def measures(self, reach, background):
        peaks = Peaks(*(pairs[np.isfinite(keys)] for keys, pairs in self.brightest))
        count, level = max(self.valid, 1), self.level or 0.0
        return measure(
            Frame(
                cells=self.cells,
                peaks=peaks,
                background=None if background is None else background - level,
                step=self.step,
                pixels=self.valid,
                noisy=self.noisy / count,
                removed=self.residual / count,
                power=self.power / count,
                darkest=self.darkest,
                level=level,
                correlated=any(reach),
            )
        )


def judge_frames(
    noisy: Real[np.ndarray, "N H W"],
    denoised: Real[np.ndarray, "N H W"],
    *,
    tile_size: int = 512,
    **options: Any,
) -> GuardVerdict:
    """Return the verdict on frames that are in memory; options as of `Guard`."""
    guard = Guard(noisy.shape, **options)
    for n, row, column in itertools.product(
        range(len(noisy)), *(range(0, length, tile_size) for length in noisy.shape[1:])
    ):
        rows, columns = (slice(start, start + tile_size) for start in (row, column))
        guard.add(n, rows, columns, noisy[n, rows, columns], denoised[n, rows, columns])
    return guard.verdict()


def _line(level, findings, levels):
    """The verdict in one line: the worst finding, and how many more there are."""
    if level == FINE:
        return _HEADLINES[FINE]
    worst = findings[0]
    count = sum(levels.values()) - 1
    more = f"; {count} more finding{'s' if count > 1 else ''}" if count else ""
    return f"{_HEADLINES[STOP if level == STOP else CARE]}: {worst.text} ({worst.place}{more})"
