"""The models that one denoising takes: members of an ensemble and, beside a pretrained start, the same from random weights. Host side.

RUN/               the first member, a run folder of its own
RUN/member-N/      the others, from 2 on, each with the next seed
RUN/random-start/  the first member from random weights, where it began from pretrained ones
"""

import argparse
import math
import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxdenoise import arguments, checkpoint, neighbours, processes, runs, sampling, training

_RANDOM = "random-start"


class Models(NamedTuple):
    """The members of an ensemble, a tuple of `training.Denoiser`, and the one from random weights, or None."""

    members: tuple
    random_start: training.Denoiser | None


def wanted(args):
    """The models that the flags ask for: dict of the folder's name in the run folder, "" for itself, to its own flags."""
    found = {_name(number): _changed(args, seed=args.seed + number) for number in range(args.members)}
    if runs.config_of(args).init == "pretrained":
        preset = "fast" if args.preset == "best" else args.preset  # random weights take a longer training
        found[_RANDOM] = _changed(args, init="random", preset=preset)
    return found


def channels(args, files):
    """The files once for each model that the flag --channels asks for: dict of name to list of `images.ImageFile`.

    One model for all frames is named "", those of the channels "channel-0" and so on, each with the channel's own frames.
    """
    if args.channels == "together":
        return {"": rows(args, files)}
    numbers = [_numbers_by_channel(path, file.info) for path, file in zip(args.input, files, strict=True)]
    if len({len(own) for own in numbers}) > 1:
        raise arguments.UsageError("--channels separate: the files differ in their number of channels; run them one by one")
    return {
        f"channel-{channel}": rows(
            args, [file._replace(frames=file.frames.choose(own[channel])) for file, own in zip(files, numbers, strict=True)]
        )
        for channel in range(len(numbers[0]))
    }


def rows(args, files):
    """The files, with their frames in rows if the network sees neighbours."""
    if not _reach(args):
        return files
    axes = [neighbours.sequence_axis(path, file.info, args.along) for path, file in zip(args.input, files, strict=True)]
    return [neighbours.in_rows(file, axis) for file, axis in zip(files, axes, strict=True)]


def _reach(args):
    """How many neighbours on each side the network sees."""
    if getattr(args, "instant", False):
        return 0
    if not getattr(args, "model", None):
        return runs.config_of(args).network.neighbours
    own = [Path(args.model) / "channel-0" / name for name in those_in(Path(args.model) / "channel-0")]
    return checkpoint.read_config(own[0] if own else args.model)[0].network.neighbours


def _numbers_by_channel(path, info):
    others = [(axis, size) for axis, size in zip(info.axes, info.shape, strict=True) if axis not in "YX"]
    names = "".join(axis for axis, _ in others)
    if "C" not in names:
        raise arguments.UsageError(f"{path}: --channels separate needs a C axis, the file's axes are {info.axes}; name them with --axes")
    numbers = np.arange(math.prod(size for _, size in others)).reshape([size for _, size in others])
    return [own.ravel().tolist() for own in np.moveaxis(numbers, names.index("C"), 0)]


def names(args):
    """Of the models that denoise, before there are any."""
    if args.instant:
        return [""]
    if args.model:
        return those_in(args.model) or those_in(Path(args.model) / "channel-0")
    return list(wanted(args))


def those_in(run):
    """Names, as in `wanted`, of the models that a run folder holds."""
    run = Path(run)
    return [name for name in ("", *sorted(folder.name for folder in run.glob("member-*")), _RANDOM) if checkpoint.has_model(run / name)]


def outputs(names):
    """What is written of an image that the models of these names denoise: the suffixes of the files."""
    several, random = any(name.startswith("member-") for name in names), _RANDOM in names
    return ("denoised", "deconvolved", *["disagreement"] * several, *["random_start"] * random)


def grouped(models):
    """`Models` of a dict of name to `training.Denoiser`."""
    return Models(tuple(one for name, one in models.items() if name != _RANDOM), models.get(_RANDOM))


def load(run, *, weights=None):
    """`Models` of a run folder; ``weights`` and errors as of `checkpoint.load`."""
    run = Path(run)
    return grouped({name: checkpoint.load(run / name, weights=weights) for name in those_in(run) or [""]})


def remove_others(run, names):
    """Remove what an earlier training left in a run folder: members that are not of these names."""
    if not processes.crew().first:
        return
    for folder in (*Path(run).glob("member-*"), Path(run) / _RANDOM):
        if folder.name not in names and (folder / "config.json").exists():
            shutil.rmtree(folder)


def train(args, run, files, bars):
    """`Models` for the files, kept in a run folder unless it is None, and `runs.table` of a choice."""
    stack, psfs, choice, models = stack_of(args, files, bars), runs.psfs_asked_for(args, files), None, {}
    for name, own in wanted(args).items():
        if choice is not None:  # the PSF that was chosen is the others' too
            own.psf = f"{choice['chosen']:g}"
            psfs = runs.psfs_of(own.psf)
        models[name], found = _train_member(own, run and run / name, stack, psfs, bars)
        choice = choice or found
    if run is not None:
        remove_others(run, models)
    return grouped(models), choice


def _train_member(args, run, stack, psfs, bars):
    """A model, trained or, as far as an interrupted training came, loaded; and `runs.table` of a choice."""
    keeps = args.verb == "train"  # states to resume from
    if keeps and args.resume and checkpoint.has_model(run):
        return checkpoint.load(run), checkpoint.read_config(run)[1]["notes"].get("choice")
    notes = runs.notes_of(args, stack)
    resume = runs.resumable(args, run, notes) if keeps and args.resume else None
    denoiser, choice = runs.train(args, stack, bars, psfs=psfs, run=run if keeps else None, notes=notes, resume=resume)
    _say_choice(choice, bars)
    if run is not None:
        if not keeps:
            checkpoint.clear(run)
        checkpoint.save(run, denoiser, notes=runs.notes_of(args, stack, choice))
    return denoiser, choice


def of_channel(args, name, files, bars):
    """`Models` for the files of a channel, loaded or trained, and `runs.table` of a choice."""
    if args.instant:
        stack = stack_of(args, files, bars)
        return Models((training.instant(stack, noise_std=args.noise, config=runs.config_of(args)),), None), None
    if args.model:
        own = Path(args.model) / name
        return load(own if own.is_dir() else args.model, weights=args.weights), None
    if not args.save_model:
        return train(args, None, files, bars)
    run = Path(args.save_model) / name
    with checkpoint.locked(run):
        return train(args, run, files, bars)


def stack_of(args, files, bars):
    """What is trained on."""
    sources = [file.frames for file in files]
    stack = sampling.training_stack(sources, seed=args.seed, reach=_reach(args))
    pixels, (height, width) = sum(source.size for source in sources), stack.shape[-2:]
    if stack.size < pixels:
        bars.say(f"learning from {len(stack)} random places of {height} x {width} pixels, {stack.size / pixels:.1%} of all")
    return stack


def _say_choice(choice, bars):
    if choice is not None:
        bars.say(f"PSF: sigma {choice['chosen']:g} pixels, the widest whose error is within one standard error of the lowest")


def _name(number):
    return f"member-{number + 1}" if number else ""


def _changed(args, **changes):
    return argparse.Namespace(**{**vars(args), **changes})
