"""From the parsed flags to a request: the only reader of the Namespace. Needs no JAX."""

from argparse import Namespace
from typing import Any, NamedTuple

from jaxdenoise.system.errors import RequestError
from jaxdenoise.workflows.other_requests import (
    DemoRequest,
    EvaluateRequest,
    InfoRequest,
    PsfRequest,
)
from jaxdenoise.workflows.requests import (
    TRAIN_ON,
    DenoiseRequest,
    FilterRequest,
    PreviewRequest,
    SweepRequest,
    TrainRequest,
)
from jaxdenoise.workflows.settings import Optics, Training

_SETTINGS = (
    "preset",
    "seed",
    "init",
    "epochs",
    "patch_size",
    "batch_size",
    "background",
    "blind",
    "targets",
    "weights",
    "precision",
    "symmetries",
    "filters",
    "stride",
    "neighbours",
)  # flags of all trainings
_OPTICS = (
    "na",
    "emission",
    "excitation",
    "pinhole",
    "pixel_size",
    "refractive_index",
    "z_step",
)
_FILES = ("output", "axes", "overwrite")
_TRAINED = (*_FILES, "along", "line_noise", "devices", "report", "recursive")


class Processes(NamedTuple):
    """How this process finds the others of its run.

    Attributes:
        coordinator: "HOST:PORT" of the first one; None to learn all from the environment.
        processes: how many there are.
        process: which of them this one is, from 0 on.
        heartbeat: seconds of silence after which a process counts as dead.
    """

    coordinator: str | None
    processes: int | None
    process: int | None
    heartbeat: int


class Command(NamedTuple):
    """A command line, understood.

    Attributes:
        verb: its name.
        request: what the workflow is asked.
        json: whether the result is printed as JSON.
        quiet: whether to leave progress and messages out.
        processes: the others of this run; None for a single process.
        log: the file that keeps what is said; None for none.
        tensorboard: the folder of event files with the losses; None for none.
    """

    verb: str
    request: Any
    json: bool
    quiet: bool
    processes: Processes | None
    log: str | None = None
    tensorboard: str | None = None


def read(args: Namespace, text: str) -> Command:
    """Return what the flags ask for.

    Args:
        args: what `parser.parser` has parsed.
        text: the command line, for reports.

    Raises:
        RequestError, ConfigError: the flags do not go together.
    """
    processes = _processes(args) if hasattr(args, "distributed") else None
    quiet = getattr(args, "quiet", False)
    kept = getattr(args, "log", None), getattr(args, "tensorboard", None)
    request = _REQUESTS[args.verb](args, text)
    return Command(args.verb, request, args.json, quiet, processes, *kept)


def _processes(args):
    by_hand = args.coordinator, args.processes, args.process
    if not args.distributed and by_hand == (None, None, None):
        return None
    if args.devices is not None:
        raise RequestError("--devices is for a single process: of several, all devices take part")
    if args.distributed and by_hand != (None, None, None):
        raise RequestError(
            "--distributed finds the other processes by itself: leave --coordinator, --processes "
            "and --process out"
        )
    if not args.distributed and None in by_hand:
        raise RequestError("--coordinator, --processes and --process go together")
    if not args.distributed and args.process >= args.processes:
        raise RequestError(
            f"--process {args.process}: the processes are numbered from 0 to {args.processes - 1}"
        )
    return Processes(*by_hand, args.heartbeat)


def _taken(args, names):
    return {name: getattr(args, name) for name in names}


def _training(args, **options):
    return Training(**_taken(args, _SETTINGS), **options)


def _with_psf(args):
    given = {name: value for name, value in _taken(args, _OPTICS).items() if value is not None}
    if given and args.na is None:
        others = ", ".join(f"{name}=..." for name in given)
        raise RequestError(f"{others}: needs na=..., the numerical aperture of the objective")
    optics = Optics(**given) if given else None
    return _training(args, psf=args.psf, optics=optics, members=args.members)


def _demo(args, text):
    return DemoRequest(**_taken(args, ("output", "seed", "report", "overwrite")))


def _denoise(args, text):
    own = ("model", "save_model", "instant", "noise", "channels", "dtype", "format", "tile_size")
    options = _taken(args, (*_TRAINED, *own, "skip_existing"))
    options |= {"train_on": _train_on(args.train_on)}
    options |= {"inputs": args.input, "training": _with_psf(args), "command": text}
    if args.preview or args.crop:
        return PreviewRequest(crop=args.crop, **options)
    return DenoiseRequest(**options)


def _train_on(given):
    """A word, or files; a word that comes with files is the name of one."""
    if given is None:
        return "all"
    return given[0] if len(given) == 1 and given[0] in TRAIN_ON else given


def _train(args, text):
    options = _taken(args, (*_TRAINED, "channels", "resume", "save_every"))
    return TrainRequest(inputs=args.input, training=_with_psf(args), command=text, **options)


def _sweep(args, text):
    options = _taken(args, (*_TRAINED, "seeds", "channels", "halving", "reference"))
    psfs = None if args.psf == "auto" else args.psf.split(",")
    training = _training(args)
    return SweepRequest(inputs=args.input, training=training, psfs=psfs, command=text, **options)


def _psf(args, text):
    own = ("input", "size", "saturation", "bead_diameter")
    return PsfRequest(**_taken(args, (*_FILES, *own)))


def _filter(args, text):
    own = ("filter", "sigma", "size", "mode", "dtype", "format", "line_noise")
    return FilterRequest(inputs=args.input, **_taken(args, (*_FILES, *own)))


def _evaluate(args, text):
    return EvaluateRequest(inputs=args.input, **_taken(args, ("reference", "data_range", "axes")))


def _info(args, text):
    return InfoRequest(inputs=args.input, axes=args.axes or None)


_REQUESTS = {
    "demo": _demo,
    "denoise": _denoise,
    "train": _train,
    "sweep": _sweep,
    "psf": _psf,
    "filter": _filter,
    "evaluate": _evaluate,
    "info": _info,
}
