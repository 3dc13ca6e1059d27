"""The models that one denoising takes: members of an ensemble and, beside a pretrained start, the same from random weights. Host side.

RUN/               the first member, a run folder of its own
RUN/member-N/      the others, from 2 on, each with the next seed
RUN/random-start/  the first member from random weights, where it began from pretrained ones
"""

import argparse
from pathlib import Path

from jaxdenoise.runs import models as models_
from jaxdenoise.runs.layout import clear, has_model, locked, read_config
from jaxdenoise.runs.models import (
    RANDOM_START,
    Models,
    grouped,
    load_all,
    remove_others,
    save,
    those_in,
)
from jaxdenoise.training.fit import instant
from jaxdenoise.workflows import run as run_
from jaxdenoise.workflows.psfs import psfs_asked_for, psfs_of
from jaxdenoise.workflows.requests import config_of
from jaxdenoise.workflows.run import notes_of, resumable
from jaxdenoise.workflows.stacks import stack_of


def wanted(args):
    """The models that the flags ask for: dict of the folder's name in the run folder, "" for itself, to its own flags."""
    found = {
        _name(number): _changed(args, seed=args.seed + number) for number in range(args.members)
    }
    if config_of(args).init == "pretrained":
        preset = (
            "fast" if args.preset == "best" else args.preset
        )  # random weights take a longer training
        found[RANDOM_START] = _changed(args, init="random", preset=preset)
    return found


def names(args):
    """Of the models that denoise, before there are any."""
    if args.instant:
        return [""]
    if args.model:
        return those_in(args.model) or those_in(Path(args.model) / "channel-0")
    return list(wanted(args))


def outputs(names):
    """What is written of an image that the models of these names denoise: the suffixes of the files."""
    several, random = any(name.startswith("member-") for name in names), RANDOM_START in names
    return ("denoised", "deconvolved", *["disagreement"] * several, *["random_start"] * random)


def train(args, run, files, bars):
    """`Models` for the files, kept in a run folder unless it is None, and `sweep.table` of a choice."""
    stack, psfs, choice, models = stack_of(args, files, bars), psfs_asked_for(args, files), None, {}
    for name, own in wanted(args).items():
        if choice is not None:  # the PSF that was chosen is the others' too
            own.psf = f"{choice['chosen']:g}"
            psfs = psfs_of(own.psf)
        models[name], found = _train_member(own, run and run / name, stack, psfs, bars)
        choice = choice or found
    if run is not None:
        remove_others(run, models)
    return grouped(models), choice


def _train_member(args, run, stack, psfs, bars):
    """A model, trained or, as far as an interrupted training came, loaded; and `sweep.table` of a choice."""
    keeps = args.verb == "train"  # states to resume from
    if keeps and args.resume and has_model(run):
        return models_.load(run), read_config(run)[1]["notes"].get("choice")
    notes = notes_of(args, stack)
    resume = resumable(args, run, notes) if keeps and args.resume else None
    denoiser, choice = run_.train(
        args, stack, bars, psfs=psfs, run=run if keeps else None, notes=notes, resume=resume
    )
    _say_choice(choice, bars)
    if run is not None:
        if not keeps:
            clear(run)
        save(run, denoiser, notes=notes_of(args, stack, choice))
    return denoiser, choice


def of_channel(args, name, files, bars):
    """`Models` for the files of a channel, loaded or trained, and `sweep.table` of a choice."""
    if args.instant:
        stack = stack_of(args, files, bars)
        return Models((instant(stack, noise_std=args.noise, config=config_of(args)),), None), None
    if args.model:
        own = Path(args.model) / name
        return load_all(own if own.is_dir() else args.model, weights=args.weights), None
    if not args.save_model:
        return train(args, None, files, bars)
    run = Path(args.save_model) / name
    with locked(run):
        return train(args, run, files, bars)


def _say_choice(choice, bars):
    if choice is not None:
        bars.say(
            f"PSF: sigma {choice['chosen']:g} pixels, the widest whose error is within one standard error of the lowest"
        )


def _name(number):
    return f"member-{number + 1}" if number else ""


def _changed(args, **changes):
    return argparse.Namespace(**{**vars(args), **changes})
