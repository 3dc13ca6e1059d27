"""One model for each of several PSFs and seeds, and the choice among the PSFs without ground truth. Host side: drives the jitted steps.

All models see the same data, blind spots and order, so that their scores differ by the PSF alone. A
PSF is an argument of the compiled
program, never a constant in it: one compilation serves all. On an accelerator the models train
together as one vmapped program; on CPU, where vmapped parameters are slow, one after the other by
the same step function, with the same results to rounding. `scores` says how the PSF is chosen.
"""

import math
import time
import warnings
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdenoise.config import TrainConfig
from jaxdenoise.microscope.noise_estimation import CORRELATED, noise_level
from jaxdenoise.microscope.psf import normalized_psf, psf_sigma
from jaxdenoise.network.denoiser import Denoiser
from jaxdenoise.system import meshes
from jaxdenoise.system.errors import is_out_of_memory
from jaxdenoise.training import scores
from jaxdenoise.training.fit import Snapshot, denoiser_of, on_mesh, run_epoch_in_memory, start
from jaxdenoise.training.problem import prepare
from jaxdenoise.training.together import run_epoch_together

SIGMAS = (
    0.0,
    0.5,
    0.75,
    1.0,
    1.25,
    1.5,
    2.0,
)  # of the Gaussian PSFs that are tried if none are named, in pixels; 0: no PSF
# After this share of the epochs so many PSFs go on: 7 x 0.05 + 4 x 0.1 + 2 x 0.35 + 0.5 = 1.95
# trainings for seven candidates.
HALVING = ((0.05, 4), (0.15, 2), (0.5, 1))


class Model(NamedTuple):
    """One of the models of a sweep.

    Attributes:
        psf: index into the sweep's PSFs.
        seed: index of the seed.
        denoiser: `denoiser.Denoiser`, as far as it was trained.
        errors: dict of epoch to a (B,) array: the score's summands, patch by patch; they are paired
            between models.
        seconds: of wall time that its training and scoring took; a model that trained with others
            has its share.
    """

    psf: int
    seed: int
    denoiser: Denoiser
    errors: dict
    seconds: float

    @property
    def epochs(self):
        """How many epochs it was trained for."""
        return len(self.denoiser.history["epoch"])

    @property
    def score(self):
        """The latest score: the error of the denoised image plus the noise's variance, over the data's variance."""
        return float(self._latest.mean())

    @property
    def score_se(self):
        """Standard error of the score. Most of it is the noise of the pixels, which all models share."""
        return scores.standard_error(self._latest)

    @property
    def _latest(self):
        return self.errors[max(self.errors)]


class Progress(NamedTuple):
    """How far a model of a sweep has come, to go on from.

    Attributes:
        snapshot: `fit.Snapshot`, or None before the first epoch.
        errors: as of `Model`.
        seconds: as of `Model`.
    """

    snapshot: Snapshot | None = None
    errors: dict = {}  # noqa: RUF012 (never changed)
    seconds: float = 0.0


class Sweep(NamedTuple):
    """What `sweep` found.

    Attributes:
        models: tuple of `Model`, PSF by PSF, seed by seed.
        chosen: index of the PSF that was chosen.
        denoiser: `denoiser.Denoiser` of that PSF, of the seed with the lowest score.
        correlation: lag-1 autocorrelation of the noise, see `noise_level`. Above `CORRELATED`
            there, and where blind spots hide no neighbours, the choice is not to be trusted, and a
            warning says so.
    """

    models: tuple
    chosen: int
    denoiser: Denoiser
    correlation: float


def sweep(
    key,
    stack,
    *,
    psfs,
    seeds=1,
    config=None,
    halving=(),
    together=None,
    devices=None,
    resume=None,
    on_epoch=None,
    on_stage=None,
):
    """Train one model for each PSF and seed on the same data, and choose among the PSFs by held-out pixels.

    Args:
        key: random key; the models of the first seed are those of `fit.fit` with this key, but that
            more pixels are held out.
        stack: (N, H, W) or (H, W) array of any real dtype, in grey levels.
        psfs: sequence of (h, w) arrays with odd sides; ``[[1.0]]`` means no blur.
        seeds: how many models for each PSF: other weights, patches and blind spots, the same
            held-out pixels.
        config: `TrainConfig`; default ``TrainConfig()``.
        halving: pairs (share of the epochs, how many PSFs go on), in rising order: all models are
            scored there, and the PSFs with the lowest scores go on, or, if it is one,
            `scores.choose`'s choice. `HALVING` is a good one; by default all are trained to the
            end.
        together: train the models as one vmapped program, or as several if the device has no memory
            for it; default: everywhere but on a single CPU.
        devices: sequence of `jax.Device` that share the models, and their batches where there are
            more devices than models; default: the default device alone.
        resume: dict of (index of the PSF, of the seed) to `Progress`, as `on_epoch` and `on_stage`
            told of it: go on from there.
        on_epoch: called after each epoch with a list of (index of the PSF, of the seed,
            `fit.Snapshot`) of the models that took it at once. Their states are used up by the next
            epoch: copy what must outlive the call.
        on_stage: called with (tuple of `Model`, tuple of the indices of the PSFs that go on) after
            each of these scorings, and at the end. Parameters of models that go on are used up by
            their next epoch.

    Returns:
        `Sweep`.

    Raises:
        ValueError: no PSF, no seed, a schedule that is not rising, a ``resume`` without the errors
            of a scoring that it has passed; and what `fit.fit` raises.
    """
    if len(psfs) == 0 or seeds < 1:
        raise ValueError(f"sweep: needs at least one PSF and one seed, got {len(psfs)} and {seeds}")
    config = config or TrainConfig()
    psfs = _of_one_size([normalized_psf(psf) for psf in psfs])
    problem, config = prepare(key, stack, psf=psfs[0], config=config, masks=scores.MASKS)
    several = devices is not None and len(devices) > 1
    together = several or jax.default_backend() != "cpu" if together is None else together
    covering = scores.covering(key, problem, config)
    resume, stages = resume or {}, _stages(halving, config.epochs, len(psfs))
    running = [
        _Running(psf, seed, _key(key, seed), config, problem, resume.get((psf, seed), Progress()))
        for psf in range(len(psfs))
        for seed in range(seeds)
    ]
    dropped = []

    def models():
        everyone = sorted(dropped + running, key=lambda model: (model.psf, model.seed))
        return tuple(_finish(model, problem, psfs, config) for model in everyone)

    for until, keep in stages:
        _train(running, problem, psfs, config, until, together, devices, on_epoch)
        passed = any(len(model.snapshot.history) > until for model in running)  # before this call
        if passed and not all(until in model.errors for model in running):
            raise ValueError(f"sweep: resume lacks errors of epoch {until}, which it has passed")
        scored = (
            not running[0].errors or len({model.psf for model in running}) > 1
        )  # nothing is left to choose, once one is left
        if scored and not all(until in model.errors for model in running):
            _score(running, problem, psfs, covering, config, together)
        kept = _kept(running, psfs, keep, until)
        if on_stage is not None and not passed:
            on_stage(models(), kept)
        dropped += [model for model in running if model.psf not in kept]
        running = [model for model in running if model.psf in kept]
    (chosen,) = _kept(running, psfs, 1, config.epochs)
    best = min((model for model in models() if model.psf == chosen), key=lambda model: model.score)
    warned = not any(config.hidden) and problem.validation_repeats is None
    return Sweep(models(), chosen, best.denoiser, _correlation(problem.frames, warned=warned))


def epochs_in_all(halving, epochs, count):
    """How many epochs of training a sweep of ``count`` models of one seed takes; arguments as in `sweep`."""
    total, done = 0, 0
    for until, keep in _stages(halving, epochs, count):
        total, done, count = total + count * (until - done), until, min(count, keep)
    return total


class _Running:
    """A model in training."""

    def __init__(self, psf, seed, key, config, problem, progress=Progress()):  # noqa: B008 (never changed)
        self.psf, self.seed, self.key = psf, seed, key
        self.snapshot = progress.snapshot or start(key, config, problem)
        self.errors, self.seconds = dict(progress.errors), progress.seconds

    def params(self, config):
        state = self.snapshot.state
        return {"best": self.snapshot.best, "averaged": state.averaged, "last": state.params}[
            config.weights
        ]


def _train(running, problem, psfs, config, until, together, devices, on_epoch):
    """Train the models until the end of an epoch: all together epoch by epoch, or one model after the other."""
    most, parts = len(running) if together else 1, 1
    everywhere = meshes.replicate(problem, meshes.mesh_for(devices, batch_size=config.batch_size))
    while behind := [model for model in running if len(model.snapshot.history) < until]:
        least = (
            min(len(model.snapshot.history) for model in behind)
            if together
            else len(behind[0].snapshot.history)
        )
        group = [model for model in behind if len(model.snapshot.history) == least][:most]
        mesh = meshes.mesh_for(devices, batch_size=config.batch_size, models=len(group))
        began = time.monotonic()
        if len(group) > 1 or meshes.places(mesh) > 1:
            try:
                snapshots = run_epoch_together(group, everywhere, psfs, config, mesh)
            except jax.errors.JaxRuntimeError as error:
                most = _fewer(error, len(group))
                continue
        else:
            (model,) = group
            own = everywhere._replace(psf=meshes.replicate(psfs[model.psf], mesh))
            snapshot = on_mesh(model.snapshot, mesh)
            snapshot, parts = run_epoch_in_memory(
                model.key, snapshot, own, config, parts=parts, mesh=mesh
            )
            snapshots = [snapshot if mesh is None else meshes.local(snapshot)]
        for model, snapshot in zip(group, snapshots, strict=True):
            model.snapshot = snapshot
            model.seconds += (time.monotonic() - began) / len(group)
        if on_epoch is not None:
            on_epoch([(model.psf, model.seed, model.snapshot) for model in group])


def _fewer(error, count):
    """Half the models that the device had no memory for; any other error is raised again."""
    if not is_out_of_memory(error) or count == 1:
        raise error
    warnings.warn(
        f"the device has no memory for {count} models at once; going on with fewer, the result is the same",
        stacklevel=4,
    )
    return count // 2


def _score(running, problem, psfs, covering, config, together):
    """Add the errors of the epoch that all models have reached."""
    began = time.monotonic()
    params, own_psfs = (
        [model.params(config) for model in running],
        psfs[np.array([model.psf for model in running])],
    )
    try:
        measured = scores.errors_of_models(
            params, own_psfs, covering, problem.scale, config, together=together
        )
    except jax.errors.JaxRuntimeError as error:
        _fewer(error, len(running))
        measured = scores.errors_of_models(
            params, own_psfs, covering, problem.scale, config, together=False
        )
    blind = (
        min(model.snapshot.history[-1]["validation_loss"] for model in running)
        * float(problem.scale.std) ** 2
    )
    for model, summands in zip(running, scores.summands(measured, covering, blind), strict=True):
        model.errors[len(model.snapshot.history)] = summands
        model.seconds += (time.monotonic() - began) / len(running)


def _stages(halving, epochs, count):
    """(epoch, PSFs that go on) of each time that the models are scored."""
    shares, keeps = [share for share, _ in halving], [keep for _, keep in halving]
    if (
        sorted(set(shares)) != shares
        or sorted(keeps, reverse=True) != keeps
        or not all(0 < share < 1 for share in shares)
        or 0 in keeps
    ):
        raise ValueError(
            f"sweep: halving must be pairs of a rising share between 0 and 1 and a falling number of PSFs, not {halving}"
        )
    stages = [(max(1, round(share * epochs)), keep) for share, keep in halving]
    return [*stages, (epochs, count)]


def _kept(running, psfs, keep, epoch):
    """The PSFs that go on after an epoch: those of the lowest scores; if it is one, `scores.choose`'s choice."""
    left = sorted({model.psf for model in running})
    if len(left) <= keep:
        return tuple(left)
    errors = [
        np.mean([model.errors[epoch] for model in running if model.psf == psf], axis=0)
        for psf in left
    ]  # over its seeds
    if keep == 1:
        return (left[scores.choose(errors, [psf_sigma(psfs[psf]) for psf in left])],)
    return tuple(sorted(sorted(left, key=lambda psf: errors[left.index(psf)].mean())[:keep]))


def _correlation(frames, *, warned):
    correlation = float(noise_level(frames)[1]) if min(frames.shape[1:]) >= 5 else math.nan
    if warned and correlation > CORRELATED:
        warnings.warn(
            f"the noise is correlated between neighbouring pixels (lag-1 autocorrelation {correlation:.2f}): the score rewards keeping it, "
            "so do not trust the choice of the PSF, nor fine structure in the result",
            stacklevel=3,
        )
    return correlation


def _finish(model, problem, psfs, config):
    psf = np.asarray(psfs[model.psf])
    rim = min(int(np.argmax(psf.any(axis=axis))) for axis in (0, 1))
    psf = psf[rim : len(psf) - rim, rim : len(psf) - rim]
    denoiser = denoiser_of(model.snapshot, problem._replace(psf=jnp.asarray(psf)), config)
    return Model(model.psf, model.seed, denoiser, model.errors, model.seconds)


def _key(key, seed):
    return key if seed == 0 else jax.random.fold_in(key, 2**31 - seed)


def _of_one_size(psfs):
    """(K, side, side) float32: all PSFs filled up with zeros to the largest, so that one program serves all."""
    side = max(max(psf.shape) for psf in psfs)
    return jnp.asarray(
        np.stack(
            [np.pad(psf, [((side - length) // 2,) * 2 for length in psf.shape]) for psf in psfs]
        )
    )
