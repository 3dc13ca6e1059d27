"""Denoise many files, one after the other; a file that fails does not end the others. Host side.

A file that is alone and one in a batch come out as the same bits, unless they share a training.
"""

import os
import time
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from jaxdenoise.io import images
from jaxdenoise.system.crew import current_crew
from jaxdenoise.system.errors import ImageError, JaxdenoiseError, is_out_of_memory, one_line
from jaxdenoise.workflows import training as training_
from jaxdenoise.workflows.denoising import denoise_file, model_names, output_paths, stored_size
from jaxdenoise.workflows.estimates import Seen, estimate, seen_of
from jaxdenoise.workflows.hearing import Hearing
from jaxdenoise.workflows.inputs import Input, expand
from jaxdenoise.workflows.making import Maker
from jaxdenoise.workflows.movies import axis_seen
from jaxdenoise.workflows.overview import write_overview
from jaxdenoise.workflows.reporter import SILENT, Cancelled, Reporter
from jaxdenoise.workflows.requests import DenoiseRequest
from jaxdenoise.workflows.results import (
    DONE,
    FAILED,
    SKIPPED,
    DenoiseResult,
    FileRow,
    Journal,
    row_of,
)
from jaxdenoise.workflows.sharing import prepare_shared
from jaxdenoise.workflows.training import Trained

Places = Mapping[str, Path]
_MANY = 100  # images, of more than which those without a problem have no report of their own


def denoise(request: DenoiseRequest, reporter: Reporter = SILENT) -> DenoiseResult:
    """Train on the files, or take models that are there, and write the denoised files.

    Of several files, one that fails does not end the others: its row says why, and so does a
    warning.

    Args:
        request: what is asked for.
        reporter: hears of the progress; it may stop a training after an epoch.

    Raises:
        Cancelled: the reporter asked to stop.
        JaxdenoiseError, ValueError: the request does not hold, or the images cannot be trained on;
            said before anything is written. Or the only file failed.
    """
    output = Path(request.output)
    kinds = training_.outputs(model_names(request))
    batch = expand(
        request.inputs, output, recursive=request.recursive, kinds=kinds, reporter=reporter
    )
    if len(batch.inputs) > 1 or batch.found or request.skip_existing:
        return _Batch(request, batch.inputs, reporter, lone=len(batch.inputs) == 1).run()
    (one,) = batch.inputs
    trains_elsewhere = request.train_on not in ("all", "first", "each")
    if trains_elsewhere:
        return _Batch(request, batch.inputs, reporter, lone=True).run()
    began, hears = time.monotonic(), Hearing(reporter, aloud=True)
    result = denoise_file(
        replace(request, inputs=[one.path], train_on="all"),
        hears,
        on_checked=lambda: say_estimate(request, [_seen_of(one.path, request)], reporter),
    )
    row = row_of(one.path, result, hears.choices, time.monotonic() - began)
    hears.sum_up(row)
    return replace(result, files=[row])


def say_estimate(
    request: DenoiseRequest, images: Sequence[Seen | None], reporter: Reporter
) -> None:
    """Say what a request takes about.

    Args:
        request: what is asked for.
        images: what is known of each; None of those that cannot be read.
        reporter: hears it.
    """
    known = [one for one in images if one is not None]
    # Several processes would not agree on it; an own network is not known before it is read.
    if known and current_crew().count == 1:
        reporter.say(f"estimate: {estimate(request, known).text()}")


def _seen_of(path, request):
    """What is known of a file; None if it cannot be read."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they come again when the file's turn comes
        try:
            return seen_of(images.open_image(path, axes=request.axes))
        except JaxdenoiseError:
            return None


class _Look(NamedTuple):
    """What was seen of all files before the work: bytes, kinds, and each of those missing."""

    size: int
    one_axis: bool
    missing: list[Seen]


class _Batch:
    """A run over many files."""

    def __init__(
        self, request: DenoiseRequest, inputs: Sequence[Input], reporter: Reporter, *, lone: bool
    ) -> None:
        self._request, self._inputs, self._reporter = request, inputs, reporter
        self._lone, self._output = lone, Path(request.output)
        self._primary, self._alone = current_crew().is_primary, current_crew().count == 1

    def run(self) -> DenoiseResult:
        """Denoise what is missing."""
        request, reporter = self._request, self._reporter
        # An existing file is told of before the work, unless it is to stay.
        overwrite = request.overwrite or request.skip_existing
        lenient = replace(request, overwrite=overwrite, skip_existing=False)
        places = self._places(lenient)
        journal = Journal(self._output, fresh=self._primary and not request.skip_existing)
        missing = [not self._is_done(one, places[one.path], journal) for one in self._inputs]
        seen = self._look(missing)
        images.check_space(self._output, len(next(iter(places.values()))) * seen.size)
        say_estimate(request, seen.missing, reporter)
        if request.report and len(self._inputs) > _MANY:
            reporter.say(f"reports: of more than {_MANY} images, those with something to say alone")
        denoise_one = self._denoiser(lenient, any(missing), seen.one_axis)
        total, results, rows = len(self._inputs), list[DenoiseResult](), list[FileRow]()
        on_file = reporter.predicting("files") if total > 1 else (lambda done, total: None)
        try:
            for number, (one, wanted) in enumerate(zip(self._inputs, missing, strict=True)):
                if wanted:
                    row, result = self._row(one, denoise_one)
                    results += [] if result is None else [result]
                    if row.status == DONE and self._primary:
                        journal.add(row)
                else:
                    row = self._skipped(one, places[one.path], journal)
                rows.append(row)
                if not (self._lone and wanted):
                    self._say(number + 1, row)
                on_file(number + 1, total)
        except (Cancelled, KeyboardInterrupt) as interrupt:
            count = sum(row.status != FAILED for row in rows)
            raise type(interrupt)(
                f"{count} of {total} files are whole in {self._output}; skip_existing=True goes on "
                "with what is missing"
            ) from interrupt
        if request.report and total > 1 and self._primary:
            self._write_overview(rows)
        if not self._lone:
            self._sum_up(rows)
        return _together(results, rows)

    def _places(self, request: DenoiseRequest) -> dict[str, Places]:
        """Each file's results, checked: no file is overwritten, least of all an input."""
        sources = {os.path.realpath(one.path) for one in self._inputs}
        found: dict[str, Places] = {}
        for one in self._inputs:
            own = output_paths(request, one.path, self._output / one.folder, one.stem)
            found[one.path] = {name: path for name, (path,) in own.items()}
            for path in found[one.path].values():
                if os.path.realpath(path) in sources:
                    raise ImageError(
                        f"{path}: this output is itself an input; give another output directory"
                    )
        return found

    def _is_done(self, one: Input, places: Places, journal: Journal) -> bool:
        """Whether an earlier run wrote all: the report comes last."""
        if not self._request.skip_existing or not all(map(os.path.exists, places.values())):
            return False
        folder = self._output / one.folder
        reports = folder.glob(f"{glob_escape(one.stem)}_*report.html")
        return not self._request.report or journal.row(one.path) is not None or any(reports)

    def _look(self, missing: Sequence[bool]) -> _Look:
        """Open all files for a moment; those that cannot be read are told of in their turn."""
        size, axes, found = 0, set[str | None](), list[Seen]()
        for one, wanted in zip(self._inputs, missing, strict=True):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # they come again when the file's turn comes
                try:
                    file = images.open_image(one.path, axes=self._request.axes)
                except JaxdenoiseError:
                    continue
            size += stored_size(self._request, file.info) if wanted else 0
            found += [seen_of(file)] if wanted else []
            axes.add(axis_seen(file))
        return _Look(size, len(axes) == 1 and None not in axes, found)

    def _denoiser(
        self, request: DenoiseRequest, some: bool, one_axis: bool
    ) -> Callable[[Input, Reporter], DenoiseResult]:
        """What denoises one file: with models that are there, of its own, or of all."""
        makers: dict[str, Maker] | None = None
        if request.model:
            makers = {}
        elif not request.instant and request.train_on != "each" and some:
            paths = [one.path for one in self._inputs]
            prepared = prepare_shared(request, paths, one_axis=one_axis, reporter=self._reporter)
            request, makers = prepared
        request = replace(request, train_on="all", recursive=False)

        def denoise_one(one, hears):
            # Each file is denoised as if it were alone, but with models that are shared.
            own = {} if request.instant else makers
            output = self._output / one.folder
            asked = replace(request, inputs=[one.path], output=output)
            few = len(self._inputs) <= _MANY
            return denoise_file(asked, hears, stem=one.stem, shared=own, report_fine=few)

        return denoise_one

    def _row(self, one, denoise_one):
        """The row of a file that is missing, and its result; None if it failed."""
        began, hears = time.monotonic(), Hearing(self._reporter, aloud=self._lone)
        try:
            result = denoise_one(one, hears)
        except Cancelled:
            raise
        except Exception as error:
            if self._lone or not self._alone:
                raise
            reason = one_line(error)
            if is_out_of_memory(error):
                reason = f"out of memory ({reason}); give smaller tiles with tile_size=..."
            elif not isinstance(error, ValueError | OSError):
                reason = f"internal error: {type(error).__name__}: {reason}; please report it"
            seconds = round(time.monotonic() - began, 2)
            return FileRow(one.path, FAILED, seconds=seconds, error=reason), None
        row = row_of(one.path, result, hears.choices, time.monotonic() - began)
        if self._lone:
            hears.sum_up(row)
        return row, result

    def _skipped(self, one, places, journal):
        outputs = {name: str(path) for name, path in places.items()}
        earlier = journal.row(one.path)
        if earlier is None:
            return FileRow(one.path, SKIPPED, outputs)
        return replace(earlier, status=SKIPPED, outputs=outputs)

    def _say(self, number, row):
        """A line on each file."""
        start = f"[{number}/{len(self._inputs)}] {row.file}: "
        if row.status == FAILED:
            # What another process or a script must see, as must those who asked for quiet.
            self._reporter.insist(f"{start}failed: {row.error.removeprefix(f'{row.file}: ')}")
        elif row.status == SKIPPED:
            self._reporter.say(f"{start}skipped, its results are there")
        else:
            loud = row.level != "fine" and row.level is not None
            see = f"; see {row.reports[0]}" if loud and row.reports else ""
            tell = self._reporter.insist if loud else self._reporter.say
            verdict = "no frame could be judged" if row.verdict is None else row.verdict
            first, *others = row.outputs.values()
            wrote = f"{first} and {len(others)} more" if others else first
            tell(f"{start}{row.seconds:.1f} s, wrote {wrote}; verdict: {verdict}{see}")

    def _write_overview(self, rows):
        path = self._output / "index.html"
        if any(row.outputs for row in rows):
            write_overview(path, rows, axes=self._request.axes)
            self._reporter.say(f"wrote {path}")

    def _sum_up(self, rows):
        counts, levels = Counter(row.status for row in rows), Counter(row.level for row in rows)
        files = ", ".join(f"{counts[status]} {status}" for status in (DONE, SKIPPED, FAILED))
        names = {"fine": "no problems found", "care": "use with care", "stop": "do not rely on it"}
        told = ", ".join(f"{names[level]}: {levels[level]}" for level in names if levels[level])
        end = f"{len(rows)} files: {files}; verdicts: {told or 'none'}"
        bad = counts[FAILED] or levels["care"] or levels["stop"]
        (self._reporter.insist if bad else self._reporter.say)(end)


def glob_escape(text: str) -> str:
    """Return a pattern of `pathlib` that only this text matches."""
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in text)


def _together(results: Sequence[DenoiseResult], rows: Sequence[FileRow]) -> DenoiseResult:
    """One result of all files: the models and reports are those of the first one."""
    outputs: dict[str, list[Path]] = {}
    for row in rows:
        for name, path in row.outputs.items():
            outputs.setdefault(name, []).append(Path(path))
    models: dict[str, Trained] = {}
    reports: dict[str, Path | None] = {}
    for result in results:
        for name in result.reports:
            if name in result.models and name not in models:
                models[name], reports[name] = result.models[name], result.reports[name]
            reports.setdefault(name, None)
    verdicts = [one for result in results for one in result.verdicts]
    return DenoiseResult(outputs, models, reports, verdicts, list(rows))
