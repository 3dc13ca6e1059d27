"""What the flags of the command line ask of a training."""

import dataclasses

import jax

from jaxdenoise.config import TrainConfig
from jaxdenoise.system import meshes
from jaxdenoise.system.crew import current_crew

_CHANGES = (
    "init",
    "epochs",
    "batch_size",
    "background",
    "blind",
    "targets",
    "weights",
    "precision",
    "symmetries",
)  # flags that are fields


def config_of(args):
    """`TrainConfig` of the flags."""
    changes = {name: getattr(args, name) for name in _CHANGES}
    changes = {name: value for name, value in changes.items() if value is not None}
    config = TrainConfig.preset(args.preset, **changes)
    network = {
        name: getattr(args, name)
        for name in ("filters", "stride", "neighbours")
        if getattr(args, name) is not None
    }
    config = dataclasses.replace(config, network=dataclasses.replace(config.network, **network))
    return (
        dataclasses.replace(config, patch_size=args.patch_size)
        if args.patch_size is not None
        else config
    )


def devices(args, *, several=False):
    """The devices that train: those that --devices names, or all that can share a batch; all for ``several`` models, or processes."""
    here = jax.devices()
    if args.devices is not None or several or current_crew().count > 1:
        return here[: args.devices]
    return meshes.sharing(here, config_of(args).batch_size)


def psf_named(args):
    """What --psf says, or what stands for it where nothing says what the PSF is; None with --na."""
    if args.psf is None and getattr(args, "na", None) is None:
        return "auto" if args.preset == "best" else "1.0"
    return args.psf
