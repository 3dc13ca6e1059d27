"""Apply models to one file, judge the result, and write it. Host side.

What is written is judged tile by tile. A result that fails can be given up before the file appears.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float32

from jaxdenoise.imaging.rounding import Rounding, stored
from jaxdenoise.io import images, omezarr
from jaxdenoise.network import stacks
from jaxdenoise.network.denoiser import Denoiser
from jaxdenoise.prediction import ensemble, tiling
from jaxdenoise.prediction.ensemble import Combined, rms_difference_over_noise
from jaxdenoise.report.findings import STOP
from jaxdenoise.report.guard import Guard, GuardVerdict
from jaxdenoise.system.crew import current_crew
from jaxdenoise.workflows.parts import CleanFrames, Part
from jaxdenoise.workflows.progress import Progress
from jaxdenoise.workflows.reporter import Reporter
from jaxdenoise.workflows.requests import DenoiseRequest

# Pixels of a file whose results are kept in memory: the dtype is chosen when all of them are there.
# Of a larger file, squares in the middle of some frames are denoised first for that.
KEPT = 2**23
_LOOK, _LOOKS = 512, 4
_RANDOM = "random_start"  # the target of the results from random weights

Targets = Mapping[str, Path]
Arrays = dict[str, Float32[np.ndarray, "N H W"]]


class Group(NamedTuple):
    """Frames of a part, by their numbers, and the models that denoise them."""

    denoisers: Sequence[Denoiser]
    numbers: Sequence[int]


class Job(NamedTuple):
    """A part and the groups of its frames; frames in no group are written as they are."""

    part: Part
    groups: Sequence[Group]


class Applied(NamedTuple):
    """What came of a file.

    Attributes:
        results: a dict of a field of `ensemble.Combined` to (N, H, W) for each part; None where the
            file is too large to be kept, or where each of several processes has a share of it.
        verdicts: one a part, of what is in the file. Of several processes each judges its share.
        written: whether the file was written; if not, the result was given up.
    """

    results: list[Arrays | None]
    verdicts: list[GuardVerdict]
    written: bool


def job_of(part: Part, denoisers: Sequence[Denoiser]) -> Job:
    """Return the job of a part whose frames the same models denoise, in its own exposure."""
    if not part.ordinary:
        return Job(part, [])
    rescaled = [denoiser.for_exposure(part.exposure) for denoiser in denoisers]
    # Neighbours of a frame may be frames with which something is wrong.
    in_rows = denoisers[0].config.network.neighbours or denoisers[0].psf.ndim == 3
    numbers = range(len(part.frames)) if in_rows else part.ordinary
    return Job(part, [Group(rescaled, numbers)])


def apply(
    request: DenoiseRequest,
    jobs: Sequence[Job],
    targets: Targets,
    reporter: Reporter,
    *,
    random: Sequence[Job] | None = None,
    doubtful: Sequence[bool] = (),
) -> Applied:
    """Denoise a file tile by tile into others, ``targets``, which appear when they are whole.

    Args:
        request: for dtype, size of the tiles, devices and overwriting.
        jobs: one a part of the file.
        targets: field of `ensemble.Combined` to the path of these images; and "random_start".
        reporter: hears of the progress.
        random: the same parts with the models from random weights, to compare with.
        doubtful: whether the result of a part is given up, and nothing written, if its verdict says
            that it is not to be relied on; default: none is.
    """
    crew = current_crew()
    share = tiling.Share(crew.index, crew.count, square=omezarr.CHUNK) if crew.count > 1 else None
    options: dict[str, Any] = {
        "tile_size": request.tile_size,
        "share": share,
        "devices": jax.local_devices()[: request.devices],
    }
    frames = sum(len(group.numbers) for job in (*jobs, *(random or [])) for group in job.groups)
    progress = Progress(reporter, next(iter(targets.values())), frames)
    options["on_frames"] = progress.of_frames
    if share is None and sum(job.part.frames.size for job in jobs) <= KEPT:
        applied = _in_memory(request, jobs, targets, reporter, options, random, doubtful)
    else:
        applied = _in_pieces(request, jobs, targets, reporter, options, random, doubtful)
    if applied.written:
        progress.finish()
        for path in targets.values():
            reporter.say(f"wrote {path}")
    return applied


def _in_memory(request, jobs, targets, reporter, options, random, doubtful):
    """Denoise all parts, then judge them, then write."""
    results = [_whole(job, targets.keys() - {_RANDOM}, options) for job in jobs]
    for arrays, job in zip(results, random or [], strict=False):
        arrays[_RANDOM] = _whole(job, ["denoised"], options)["denoised"]
    dtypes = _dtypes(request, jobs, results, targets, reporter)
    guards = [_guard(job) for job in jobs]
    for job, arrays, guard in zip(jobs, results, guards, strict=True):
        for n, frame in enumerate(arrays["denoised"]):
            if n in job.part.survey.odd:
                continue
            _judge(guard, job.part, (n, *_everything(frame.shape)), frame, dtypes["denoised"])
            if _RANDOM in arrays:
                guard.compare(n, _apart(frame, arrays[_RANDOM][n], job.part.frames, n))
    verdicts = [guard.verdict() for guard in guards]
    if _fails(verdicts, doubtful):
        return Applied(results, verdicts, False)
    with _opened(request, jobs, targets, dtypes) as stores:
        for job, arrays in zip(jobs, results, strict=True):
            for name, store in stores.items():
                for n, frame in enumerate(arrays[name]):
                    _store(store, job.part, (n, *_everything(frame.shape)), frame)
    return Applied(results, verdicts, True)


def _fails(verdicts, doubtful):
    return any(
        verdict.level == STOP and given_up
        for verdict, given_up in zip(verdicts, doubtful, strict=False)
    )


class _GivenUp(Exception):
    """Leaves the block in which files are written, so that none appears."""


def _in_pieces(request, jobs, targets, reporter, options, random, doubtful):
    """Denoise, judge and write tile by tile."""
    looks = [_first_look(job) for job in jobs] if request.dtype == "auto" else []
    dtypes = _dtypes(request, jobs, looks, targets, reporter)
    guards = [_guard(job) for job in jobs]
    verdicts: list[GuardVerdict] = []
    try:
        with _opened(request, jobs, targets, dtypes) as stores:
            for job, guard in zip(jobs, guards, strict=True):
                for index, tile in _pieces(job, options):
                    for name in stores.keys() - {_RANDOM}:
                        _store(stores[name], job.part, index, getattr(tile, name))
                    if index[0] not in job.part.survey.odd:
                        _judge(guard, job.part, index, tile.denoised, dtypes["denoised"])
            verdicts = [guard.verdict() for guard in guards]
            if _fails(verdicts, doubtful):
                raise _GivenUp
            for job in random or []:
                for index, tile in _pieces(job, options):
                    _store(stores[_RANDOM], job.part, index, tile.denoised)
    except _GivenUp:
        return Applied([None] * len(jobs), verdicts, False)
    return Applied([None] * len(jobs), verdicts, True)


def _whole(job, names, options):
    """The results of a part in memory: dict of name to (N, H, W)."""
    arrays = {name: np.empty(job.part.frames.shape, np.float32) for name in names}
    for (n, rows, columns), tile in _pieces(job, options):
        for name, array in arrays.items():
            array[n, rows, columns] = getattr(tile, name)
    return arrays


def _pieces(job: Job, options: Any) -> Iterator[tuple[Any, Combined]]:
    """Yield the place (n, rows, columns) of each tile of a part and its results.

    Frames with which something is wrong come as they are, from the first process.
    """
    part = job.part
    for denoisers, numbers in job.groups:
        frames = part.frames if len(numbers) == len(part.frames) else part.frames.choose(numbers)
        row = part.frames.row if frames is part.frames else None
        own = {name: value for name, value in options.items() if name != "on_frames"}
        own |= {"on_tile": options["on_frames"](len(numbers))}
        own |= {"sequence": row, "marked": frames.marked}
        for (n, rows, columns), tile in ensemble.ensemble_tiles(denoisers, frames, **own):
            if numbers[n] not in part.survey.odd:
                yield (numbers[n], rows, columns), tile
    if current_crew().is_primary:
        for n in part.survey.odd:
            rows, columns = _everything(part.frames.shape[1:])
            frame = part.frames.original((n, rows, columns))
            yield (n, rows, columns), Combined(frame, frame, np.zeros_like(frame))


def _everything(shape):
    return tuple(slice(0, length) for length in shape[-2:])


@contextmanager
def _opened(request, jobs, targets, dtypes):
    """Open the stores that write the targets, by name; files appear when the block ends well."""
    info, crew = jobs[0].part.file.info, current_crew()
    create = partial(images.create, info=info, overwrite=request.overwrite, crew=crew)
    with ExitStack() as stack:
        yield {
            name: stack.enter_context(create(path, dtype=dtypes[name]))
            for name, path in targets.items()
        }


def _store(store, part, index, values):
    """Store a tile; pixels without data come out as they went in."""
    n, rows, columns = index
    frames, gaps = part.frames, None
    if part.survey.gaps[n]:
        gaps = np.isnan(frames.marked(index))
        values = np.where(gaps, frames.original(index), values)
    store.store((frames.numbers[n], rows, columns), values, gaps=gaps)


def _guard(job):
    part, (denoiser, *_) = job.part, job.groups[0].denoisers if job.groups else (None,)
    reach = (0, 0)
    if denoiser is not None:
        stride, blind = denoiser.config.network.stride, denoiser.config.blind
        reach = tuple(max(stride - 1, hidden) for hidden in blind)
    return Guard(part.frames.shape, reach=reach, name=part.name_of)


def _judge(guard, part, index, denoised, dtype):
    """Judge a tile as it is in the file."""
    guard.add(*index, part.frames.marked(index), stored(denoised, dtype).astype(np.float32))


def _apart(denoised, other, frames, n):
    noisy = frames[n, slice(None), slice(None)]
    return rms_difference_over_noise(denoised[None], other[None], noisy[None])


class _Look(NamedTuple):
    """A part of some frames, to choose the dtype by."""

    numbers: Sequence[int]
    place: tuple[slice, slice]
    results: Combined


def _dtypes(
    request: DenoiseRequest,
    jobs: Sequence[Job],
    seen: Sequence[Arrays | list[_Look]],
    targets: Targets,
    reporter: Reporter,
) -> dict[str, np.dtype]:
    """The dtype of each file, given all results of the parts, or a look at some of them."""
    own = jobs[0].part.file.info.dtype
    asked = np.dtype(own if request.dtype in ("auto", "same") else request.dtype)
    # How far models disagree is mostly less than a grey level.
    dtypes = dict.fromkeys(targets, asked) | {"disagreement": np.dtype(np.float32)}
    if request.dtype != "auto":
        return dtypes
    for name in ("denoised", "deconvolved"):
        for job, one in zip(jobs, seen, strict=True):
            rounding = Rounding(own, len(job.part.frames))
            for index, noisy, result in _results(job, one, name):
                rounding.add(index, noisy, result)
            kept = rounding.decision()
            if kept.text is not None:
                reporter.say(f"{targets[name].name}: {kept.text}")
                dtypes[name] = kept.dtype
                break
    return dtypes | {_RANDOM: dtypes["denoised"]}


def _results(job, seen, name):
    """Yield the number of a frame, and a part of it before and after."""
    if isinstance(seen, dict):
        place = _everything(job.part.frames.shape)
        for n in job.part.ordinary:
            yield n, job.part.frames.marked((n, *place)), seen[name][n]
        return
    for numbers, place, results in seen:
        for n, result in zip(numbers, getattr(results, name), strict=True):
            yield n, job.part.frames.marked((n, *place)), result


def _first_look(job: Job) -> list[_Look]:
    """Denoise the middle of some frames of each group."""
    found = []
    sides = [(length, min(length, _LOOK)) for length in job.part.frames.shape[1:]]
    rows, columns = (slice((n - side) // 2, (n - side) // 2 + side) for n, side in sides)
    for denoisers, numbers in job.groups:
        some = np.linspace(0, len(numbers) - 1, min(_LOOKS, len(numbers))).round().astype(int)
        shown = np.unique(np.asarray(numbers)[some]), rows, columns
        results = denoise_shown(denoisers, job.part.frames, shown)
        found.append(_Look(shown[0].tolist(), (rows, columns), results))
    return found


def denoise_shown(denoisers: Sequence[Denoiser], frames: CleanFrames, shown: Any) -> Combined:
    """Denoise a part of some frames; the network and the PSF see their neighbours too.

    Args:
        denoisers: the models of an ensemble.
        frames: (N, H, W).
        shown: numbers of frames (M,), and two slices.

    Returns:
        `ensemble.Combined` of arrays (M, h, w).
    """
    numbers, rows, columns = shown
    network = denoisers[0].config.network
    reach = _LOOKS if network.guided else network.neighbours  # a guide takes some frames
    reach += len(denoisers[0].psf) // 2 if denoisers[0].psf.ndim == 3 else 0
    if denoisers[0].psf.ndim == 3 or network.planes:
        # Of a volume with fewer planes, as many as there are.
        reach = min(reach, (frames.row - 1) // 2)
    beside = stacks.table(len(frames), frames.row, reach)
    windows, places = stacks.windows(beside, numbers)
    width = windows.shape[1]
    stack = np.stack([frames[n, rows, columns] for n in windows.ravel()])
    own = {int(at): m for m, at in enumerate(width * np.arange(len(numbers)) + places)}
    results = Combined(*(np.empty((len(own), *stack.shape[1:]), np.float32) for _ in range(3)))
    options: dict[str, Any] = {"sequence": width, "marked": stack.__getitem__, "only": own.keys()}
    for (n, down, right), tile in ensemble.ensemble_tiles(denoisers, stack, **options):
        if n in own:
            for result, values in zip(results, tile, strict=True):
                result[own[n], down, right] = values
    return results
