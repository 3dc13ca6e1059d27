"""What came of a denoising: a row a file, verdicts, models, and how they are said. Host side."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from jaxdenoise.report.findings import FINE
from jaxdenoise.report.guard import GuardVerdict
from jaxdenoise.report.verdict import Verdict, in_a_line
from jaxdenoise.workflows.reporter import Reporter
from jaxdenoise.workflows.training import Trained

DONE, SKIPPED, FAILED = "done", "skipped", "failed"
LEVELS = ("fine", "care", "stop")


class Judged(NamedTuple):
    """The verdict on a channel of a file, or on a file without channels.

    Attributes:
        path: of the input.
        channel: its number; None of a file without channels.
        verdict: on what is in the file.
        line_noise: a line for each kind of line noise that was taken out.
    """

    path: str
    channel: int | None
    verdict: GuardVerdict
    line_noise: tuple[str, ...]


@dataclass(frozen=True)
class FileRow:
    """What came of one image of a batch.

    Attributes:
        file: the input.
        status: "done", "skipped" (its results were there) or "failed".
        outputs: field of `ensemble.Combined` to the file that was written.
        choices: a line for each choice that was made for the image, and why.
        seconds: of wall time; of a training that is shared the first file has them.
        level: "fine", "care" or "stop": of the worst verdict; None where there is none.
        verdict: in one line; None where there is none.
        reports: the reports on the image.
        error: why it failed, in one line.
    """

    file: str
    status: str
    outputs: Mapping[str, str] = field(default_factory=dict)
    choices: tuple[str, ...] = ()
    seconds: float | None = None
    level: str | None = None
    verdict: str | None = None
    reports: tuple[str, ...] = ()
    error: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        lists = {"choices": list(self.choices), "reports": list(self.reports)}
        return {**self.__dict__, "outputs": dict(self.outputs), **lists}


@dataclass(frozen=True)
class DenoiseResult:
    """What `denoise` has made; keys of models and reports are "", or "channel-0", ...

    Attributes:
        outputs: "denoised", "deconvolved", and with several models "disagreement" and
            "random_start", to the files that were written, one an input that did not fail.
        models: the models that denoised, and the choice among PSFs; where each image has models of
            its own, those of the first file.
        reports: the reports of the first file; None where there is none.
        verdicts: one a file and channel, in order.
        files: a row a file, in order.
        whole: the verdict of the report on a single file; None of several, or without a report.
    """

    outputs: dict[str, list[Path]]
    models: dict[str, Trained]
    reports: dict[str, Path | None]
    verdicts: list[Judged]
    files: list[FileRow] = field(default_factory=list)
    whole: Verdict | None = None

    @property
    def failed(self) -> list[FileRow]:
        """The rows of the files that failed."""
        return [row for row in self.files if row.status == FAILED]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON: files by kind, an entry a model, and a row a file."""
        return {
            "outputs": {name: list(map(str, paths)) for name, paths in self.outputs.items()},
            "models": [
                {
                    "channel": name or None,
                    "report": _text(self.reports.get(name)),
                    "choice": trained.choice,
                    "evidence": list(trained.evidence),
                }
                for name, trained in self.models.items()
            ],
            "verdicts": [
                {"file": one.path, "channel": one.channel, "line_noise": list(one.line_noise)}
                | one.verdict.to_dict()
                for one in self.verdicts
            ],
            "files": [row.to_dict() for row in self.files],
        }


def _text(path):
    return None if path is None else str(path)


def row_of(path: str, result: DenoiseResult, choices: Sequence[str], seconds: float) -> FileRow:
    """Return the row of a file that was denoised.

    Args:
        path: of the input.
        result: of this file alone.
        choices: a line each.
        seconds: of wall time.
    """
    trained = [line for one in result.models.values() for line in one.evidence]
    worst = max(result.verdicts, key=lambda one: one.verdict.level, default=None)
    level, text = (None, None) if worst is None else (worst.verdict.level, worst.verdict.text)
    if result.whole is not None and level is not None and result.whole.level > level:
        level, text = result.whole.level, in_a_line(result.whole)
    return FileRow(
        file=path,
        status=DONE,
        outputs={name: str(paths[0]) for name, paths in result.outputs.items()},
        choices=tuple(dict.fromkeys([*trained, *choices])),
        seconds=round(seconds, 2),
        level=None if level is None else LEVELS[level],
        verdict=text,
        reports=tuple(dict.fromkeys(str(page) for page in result.reports.values() if page)),
    )


def say_verdicts(
    verdicts: Sequence[Judged], page: Path | None, whole: Verdict | None, reporter: Reporter
) -> None:
    """Say the last lines: that nothing was found, or as warnings what not to rely on.

    Where a report found more than the guard alone, that is said too.

    Args:
        verdicts: on a file, one a channel.
        page: the report; None: there is none.
        whole: the report's verdict.
        reporter: hears them.
    """
    worst = max((one.verdict.level for one in verdicts), default=FINE)
    see = f"; see {page}" if page is not None else ""
    if whole is not None and whole.level > worst:
        reporter.insist(f"verdict: {in_a_line(whole)}{see}")
    elif worst == FINE:
        reporter.say("verdict: no problems found")
    for one in verdicts:
        if one.verdict.level > FINE:
            reporter.insist(f"verdict: {one.verdict.text}{see}")


class Journal:
    """The rows of the files that were done in a folder of results: a JSON line each.

    A run that is killed loses at most the line that it was writing.
    """

    def __init__(self, folder: Path, *, fresh: bool) -> None:
        """Read the journal of a folder; a fresh one begins without the rows of earlier runs."""
        self._path = folder / "batch.jsonl"
        self._rows: dict[str, FileRow] = {}
        if fresh:
            self._path.unlink(missing_ok=True)
            return
        for line in self._lines():
            row = _parsed(line)
            if row is not None:
                self._rows[row.file] = row

    def _lines(self):
        if not self._path.is_file():
            return []
        return self._path.read_text(encoding="utf-8", errors="replace").splitlines()

    def row(self, file: str) -> FileRow | None:
        """Return the row of a file that was done earlier, if there is one."""
        return self._rows.get(file)

    def add(self, row: FileRow) -> None:
        """Append the row of a file; the folder must exist."""
        with self._path.open("a", encoding="utf-8") as file:
            # A line break first: the last line of a run that was killed may have none.
            file.write("\n" + json.dumps(row.to_dict()))


def _parsed(line):
    """The row of a line; None of an empty one, or one that was cut short."""
    try:
        values = json.loads(line)
        return FileRow(**values | {name: tuple(values[name]) for name in ("choices", "reports")})
    except (ValueError, TypeError, KeyError):
        return None
