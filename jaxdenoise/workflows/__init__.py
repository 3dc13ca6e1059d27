"""What the command line does, for Python: a request in, files and a result object out.

>>> from jaxdenoise import workflows
>>> request = workflows.DenoiseRequest(inputs=["noisy.tif"], output="results")
>>> workflows.denoise(request)  # doctest: +SKIP

does what ``jaxdenoise denoise noisy.tif -o results`` does. Each workflow takes its request and a
`Reporter`, which hears of the progress and may stop a training. The names below are loaded when
they are first used, so that requests can be made without JAX.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxdenoise.workflows.batches import denoise as denoise
    from jaxdenoise.workflows.beads import PsfResult as PsfResult
    from jaxdenoise.workflows.beads import measure_psf as measure_psf
    from jaxdenoise.workflows.demonstration import DemoResult as DemoResult
    from jaxdenoise.workflows.demonstration import demo as demo
    from jaxdenoise.workflows.evaluation import EvaluateResult as EvaluateResult
    from jaxdenoise.workflows.evaluation import evaluate as evaluate
    from jaxdenoise.workflows.event_files import EventFiles as EventFiles
    from jaxdenoise.workflows.facts import InfoResult as InfoResult
    from jaxdenoise.workflows.facts import info as info
    from jaxdenoise.workflows.filtering import FilterResult as FilterResult
    from jaxdenoise.workflows.filtering import filter_files as filter_files
    from jaxdenoise.workflows.other_requests import DemoRequest as DemoRequest
    from jaxdenoise.workflows.other_requests import EvaluateRequest as EvaluateRequest
    from jaxdenoise.workflows.other_requests import InfoRequest as InfoRequest
    from jaxdenoise.workflows.other_requests import PsfRequest as PsfRequest
    from jaxdenoise.workflows.previews import PreviewResult as PreviewResult
    from jaxdenoise.workflows.previews import preview as preview
    from jaxdenoise.workflows.reporter import Cancelled as Cancelled
    from jaxdenoise.workflows.reporter import Reporter as Reporter
    from jaxdenoise.workflows.reporter import Several as Several
    from jaxdenoise.workflows.reporter import Silent as Silent
    from jaxdenoise.workflows.requests import DenoiseRequest as DenoiseRequest
    from jaxdenoise.workflows.requests import FilterRequest as FilterRequest
    from jaxdenoise.workflows.requests import PreviewRequest as PreviewRequest
    from jaxdenoise.workflows.requests import SweepRequest as SweepRequest
    from jaxdenoise.workflows.requests import TrainRequest as TrainRequest
    from jaxdenoise.workflows.results import DenoiseResult as DenoiseResult
    from jaxdenoise.workflows.results import FileRow as FileRow
    from jaxdenoise.workflows.settings import Optics as Optics
    from jaxdenoise.workflows.settings import Training as Training
    from jaxdenoise.workflows.sweeps import SweepResult as SweepResult
    from jaxdenoise.workflows.sweeps import sweep as sweep
    from jaxdenoise.workflows.training import TrainResult as TrainResult
    from jaxdenoise.workflows.training import train as train

# The modules are named otherwise than the functions: importing a module sets its name here.
_HOME = {
    "Cancelled": "reporter",
    "demo": "demonstration",
    "DemoRequest": "other_requests",
    "DemoResult": "demonstration",
    "denoise": "batches",
    "DenoiseRequest": "requests",
    "DenoiseResult": "results",
    "evaluate": "evaluation",
    "EvaluateRequest": "other_requests",
    "EvaluateResult": "evaluation",
    "filter_files": "filtering",
    "EventFiles": "event_files",
    "FileRow": "results",
    "FilterRequest": "requests",
    "FilterResult": "filtering",
    "info": "facts",
    "InfoRequest": "other_requests",
    "InfoResult": "facts",
    "measure_psf": "beads",
    "Optics": "settings",
    "preview": "previews",
    "PreviewRequest": "requests",
    "PreviewResult": "previews",
    "PsfRequest": "other_requests",
    "PsfResult": "beads",
    "Reporter": "reporter",
    "Several": "reporter",
    "Silent": "reporter",
    "sweep": "sweeps",
    "SweepRequest": "requests",
    "SweepResult": "sweeps",
    "train": "training",
    "Training": "settings",
    "TrainRequest": "requests",
    "TrainResult": "training",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
