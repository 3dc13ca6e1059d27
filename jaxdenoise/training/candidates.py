"""The models of a sweep while they train, together or one after the other. Host side."""

import time
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from jaxdenoise.network.denoiser import Params
from jaxdenoise.network.settings import Settings
from jaxdenoise.system import meshes
from jaxdenoise.system.errors import is_out_of_memory
from jaxdenoise.targets.patches import Covering
from jaxdenoise.training import scores
from jaxdenoise.training.epochs import Snapshot, on_mesh, run_epoch_in_memory
from jaxdenoise.training.fit import begin
from jaxdenoise.training.problem import Plan
from jaxdenoise.training.together import run_epoch_together

OnEpoch = Callable[[list[tuple[int, int, Snapshot]]], object]


class Progress(NamedTuple):
    """How far a model of a sweep has come, to go on from.

    Attributes:
        snapshot: `Snapshot`, or None before the first epoch.
        errors: as of `sweep.Model`.
        seconds: as of `sweep.Model`.
    """

    snapshot: Snapshot | None = None
    errors: dict[int, Float[np.ndarray, " B"]] = {}  # noqa: RUF012 (never changed)
    seconds: float = 0.0


class Run(NamedTuple):
    """What all models of a sweep share.

    Attributes:
        plan: `problem.Plan`, whose PSF stands for none of the models.
        psfs: (K, side, side), one argument of the compiled programs for all.
        devices: that train; None for the default device.
        together: whether the models train as one vmapped program.
    """

    plan: Plan
    psfs: Float[Array, "K side side"]
    devices: Sequence[jax.Device] | None = None
    together: bool = False


class Candidate:
    """A model in training.

    Attributes:
        psf_index: index into the sweep's PSFs.
        seed: index of the seed.
        key: the random key of its training.
        snapshot: `Snapshot` of its last epoch.
        errors: as of `sweep.Model`.
        seconds: as of `sweep.Model`.
    """

    def __init__(
        self,
        key: PRNGKeyArray,
        run: Run,
        place: tuple[int, int] = (0, 0),
        progress: Progress = Progress(),  # noqa: B008 (never changed)
    ) -> None:
        """Start a model, or go on with it from ``progress``.

        Args:
            key: the random key of its training.
            run: what it shares with the others.
            place: (index of the PSF, of the seed).
            progress: how far it has come.
        """
        self.psf_index, self.seed = place
        self.key = key
        self.errors, self.seconds = dict(progress.errors), progress.seconds
        snapshot = progress.snapshot
        self.snapshot = begin(self.key, run.plan, run.devices) if snapshot is None else snapshot

    @property
    def epochs(self) -> int:
        """Number of epochs that it was trained for."""
        return len(self.snapshot.history)

    def params(self, config: Settings) -> Params:
        """Return the parameters that denoise."""
        state = self.snapshot.state
        named = {"best": self.snapshot.best, "averaged": state.averaged, "last": state.params}
        return named[config.weights]


def train_until(
    candidates: Sequence[Candidate], run: Run, epoch: int, on_epoch: OnEpoch | None = None
) -> None:
    """Train models until the end of an epoch.

    They take each epoch together, as far as the device has memory, or train one after the other.
    """
    config = run.plan.settings
    most, parts = len(candidates) if run.together else 1, 1
    everywhere = meshes.replicate(
        run.plan.problem, meshes.mesh_for(run.devices, batch_size=config.batch_size)
    )
    while behind := [model for model in candidates if model.epochs < epoch]:
        least = min(model.epochs for model in behind) if run.together else behind[0].epochs
        group = [model for model in behind if model.epochs == least][:most]
        mesh = meshes.mesh_for(run.devices, batch_size=config.batch_size, models=len(group))
        began = time.monotonic()
        if len(group) > 1 or meshes.places(mesh) > 1:
            try:
                snapshots = run_epoch_together(group, everywhere, run.psfs, config, mesh)
            except jax.errors.JaxRuntimeError as error:
                most = _fewer(error, len(group))
                continue
        else:
            (model,) = group
            own = everywhere._replace(psf=meshes.replicate(run.psfs[model.psf_index], mesh))
            snapshot, parts = run_epoch_in_memory(
                model.key, on_mesh(model.snapshot, mesh), own, config, parts=parts, mesh=mesh
            )
            snapshots = [snapshot if mesh is None else meshes.local(snapshot)]
        for model, snapshot in zip(group, snapshots, strict=True):
            model.snapshot = snapshot
            model.seconds += (time.monotonic() - began) / len(group)
        if on_epoch is not None:
            on_epoch([(model.psf_index, model.seed, model.snapshot) for model in group])


def score(candidates: Sequence[Candidate], run: Run, cover: Covering) -> None:
    """Add the errors of the epoch that all models have reached."""
    began, problem, config = time.monotonic(), run.plan.problem, run.plan.settings
    params = [model.params(config) for model in candidates]
    psfs = run.psfs[np.array([model.psf_index for model in candidates])]
    errors = partial(
        scores.errors_of_models, params, psfs, cover, scale=problem.scale, config=config
    )
    try:
        measured = errors(together=run.together)
    except jax.errors.JaxRuntimeError as error:
        _fewer(error, len(candidates))
        measured = errors(together=False)
    blind = (
        min(model.snapshot.history[-1]["validation_loss"] for model in candidates)
        * float(problem.scale.std) ** 2
    )
    found = scores.summands(measured, cover, blind)
    for model, summands in zip(candidates, found, strict=True):
        model.errors[model.epochs] = summands
        model.seconds += (time.monotonic() - began) / len(candidates)


def _fewer(error, count):
    """Return half the number of models; raise an error again that is not of the memory."""
    if not is_out_of_memory(error) or count == 1:
        raise error
    warnings.warn(
        f"the device has no memory for {count} models at once; going on with fewer, "
        "the result is the same",
        stacklevel=5,
    )
    return count // 2
