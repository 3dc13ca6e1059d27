"""One model for each of several PSFs and seeds, and the choice among the PSFs without ground truth.

Host side: drives the jitted steps. All models see the same data, blind spots and order, so that
their scores differ by the PSF alone. A PSF is an argument of the compiled program, never a constant
in it: one compilation serves all. On an accelerator the models train together as one vmapped
program. On CPU, where vmapped parameters are slow, they train one after the other by the same step
function, with the same results to rounding. `scores` says how the PSF is chosen.
"""

import itertools
import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, Real, Shaped

from jaxdenoise.config import TrainConfig
from jaxdenoise.microscope.noise_level import CORRELATED, noise_level_of
from jaxdenoise.microscope.psf import normalized_psf, padded
from jaxdenoise.microscope.psf_faults import warn_of_faults
from jaxdenoise.network.denoiser import Denoiser
from jaxdenoise.system.keys import Key, as_key
from jaxdenoise.training import scores, streams
from jaxdenoise.training.candidates import Candidate, OnEpoch, Progress, Run, score, train_until
from jaxdenoise.training.fit import denoiser_of
from jaxdenoise.training.halving import Schedule, kept, stages
from jaxdenoise.training.problem import Plan, prepare
from jaxdenoise.training.selection import standard_error

# Sigma in pixels of the Gaussian PSFs that are tried if none are named; 0: no PSF.
SIGMAS = (0.0, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0)

Psfs = Sequence[Real[Array | np.ndarray, "..."]]


class Model(NamedTuple):
    """One of the models of a sweep.

    Attributes:
        psf_index: index into the sweep's PSFs.
        seed: index of the seed.
        denoiser: `denoiser.Denoiser`, as far as it was trained.
        errors: dict of epoch to a (B,) array: the score's summands, patch by patch; they are paired
            between models.
        seconds: of wall time that its training and scoring took; a model that trained with others
            has its share.
    """

    psf_index: int
    seed: int
    denoiser: Denoiser
    errors: dict[int, Float[np.ndarray, " B"]]
    seconds: float

    @property
    def epochs(self) -> int:
        """Number of epochs that it was trained for."""
        return len(self.denoiser.history["epoch"])

    @property
    def score(self) -> float:
        """The latest score.

        It is the error of the denoised image plus the noise's variance, over the data's variance.
        """
        return float(self._latest.mean())

    @property
    def score_se(self) -> float:
        """Standard error of the score. Most of it is the pixels' noise, which all models share.

        It is NaN where a single patch was scored, as of one image no larger than a patch.
        """
        return standard_error(self._latest)

    @property
    def _latest(self):
        return self.errors[max(self.errors)]


class Sweep(NamedTuple):
    """What `sweep` found.

    Attributes:
        models: tuple of `Model`, PSF by PSF, seed by seed.
        chosen: index of the PSF that was chosen.
        denoiser: `denoiser.Denoiser` of that PSF, of the seed with the lowest score.
        correlation: lag-1 autocorrelation of the noise, see `noise_level_of`. If it is above
            `CORRELATED` there and blind spots hide no neighbours, the choice is not to be trusted,
            and a warning says so.
    """

    models: tuple[Model, ...]
    chosen: int
    denoiser: Denoiser
    correlation: float


OnStage = Callable[[tuple[Model, ...], tuple[int, ...]], object]


def sweep(
    key: Key,
    stack: Shaped[Array | np.ndarray, "..."],
    *,
    psfs: Psfs,
    seeds: int = 1,
    config: TrainConfig = TrainConfig(),
    halving: Schedule = (),
    together: bool | None = None,
    devices: Sequence[jax.Device] | None = None,
    resume: dict[tuple[int, int], Progress] | None = None,
    on_epoch: OnEpoch | None = None,
    on_stage: OnStage | None = None,
) -> Sweep:
    """Train one model for each PSF and seed, and choose among the PSFs by held-out pixels.

    It is `prepare_sweep`, then `train_and_choose`, whose docstring says what each option means.

    Args:
        key: random key, or a seed; the models of the first of the ``seeds`` are those of `fit.fit`
            with this key, but that more pixels are held out.
        stack: (N, H, W) or (H, W) array of any real dtype, in grey levels.
        psfs: sequence of (h, w) arrays with odd sides; ``[[1.0]]`` means no blur.
        seeds: number of models for each PSF.
        config: the request; default: the preset "fast".
        halving: how many PSFs go on after which share of the epochs.
        together: train the models as one vmapped program.
        devices: that share the models, and their batches where there are more devices than models.
        resume: go on from there.
        on_epoch: called after each epoch.
        on_stage: called after each scoring.

    Raises:
        ValueError: what `train_and_choose` and `fit.fit` raise.
    """
    key = as_key(key)
    _check_counts(psfs, seeds)
    warn_of_faults(*psfs)
    plan = prepare_sweep(key, stack, psfs=psfs, config=config, devices=devices)
    return train_and_choose(
        key,
        plan,
        psfs=psfs,
        seeds=seeds,
        halving=halving,
        together=together,
        devices=devices,
        resume=resume,
        on_epoch=on_epoch,
        on_stage=on_stage,
    )


def prepare_sweep(
    key: PRNGKeyArray,
    stack: Shaped[Array | np.ndarray, "..."],
    *,
    psfs: Psfs,
    config: TrainConfig = TrainConfig(),
    devices: Sequence[jax.Device] | None = None,
    **options: Any,
) -> Plan:
    """Return the `problem.Plan` of a sweep: it holds out more pixels than that of one training.

    Arguments and errors as of `sweep`; ``options`` are those of `problem.prepare`.
    """
    _check_counts(psfs, 1)
    largest = of_one_size(psfs)[0]
    return prepare(
        key, stack, psf=largest, config=config, masks=scores.MASKS, devices=devices, **options
    )


def train_and_choose(
    key: PRNGKeyArray,
    plan: Plan,
    *,
    psfs: Psfs,
    seeds: int | Sequence[PRNGKeyArray] = 1,
    halving: Schedule = (),
    together: bool | None = None,
    devices: Sequence[jax.Device] | None = None,
    resume: dict[tuple[int, int], Progress] | None = None,
    on_epoch: OnEpoch | None = None,
    on_stage: OnStage | None = None,
) -> Sweep:
    """Train the models of a prepared sweep, and choose among the PSFs.

    Args:
        key: the one that `prepare_sweep` was given.
        plan: `prepare_sweep`'s, for the same PSFs and devices.
        psfs: as of `sweep`.
        seeds: number of models for each PSF, or their random keys: other weights, patches and blind
            spots, the same held-out pixels.
        halving: pairs (share of the epochs, number of PSFs that go on), in rising order: all models
            are scored there, and the PSFs with the lowest scores go on, or, if it is one,
            `selection.choose`'s choice. `halving.HALVING` is a good one; by default all are trained
            to the end.
        together: train the models as one vmapped program, or as several if the device has no memory
            for it; default: everywhere but on a single CPU.
        devices: sequence of `jax.Device` that share the models, and their batches where there are
            more devices than models; default: the default device alone.
        resume: dict of (index of the PSF, of the seed) to `Progress`, as `on_epoch` and `on_stage`
            reported it: go on from there.
        on_epoch: called after each epoch with a list of (index of the PSF, of the seed,
            `epochs.Snapshot`) of the models that took it at once. Their states are used up by the
            next epoch: copy what must outlive the call.
        on_stage: called with (tuple of `Model`, tuple of the indices of the PSFs that go on) after
            each of these scorings, and at the end. Parameters of models that go on are used up by
            their next epoch.

    Raises:
        ValueError: no PSF, no seed, a schedule that is not rising, a ``resume`` without the errors
            of a scoring that it has passed.
    """
    keys = (
        [streams.seed_key(key, seed) for seed in range(seeds)]
        if isinstance(seeds, int)
        else list(seeds)
    )
    _check_counts(psfs, len(keys))
    several = devices is not None and len(devices) > 1
    if together is None:
        together = several or plan.settings.platform != "cpu"
    run = Run(plan, of_one_size(psfs), devices, together)
    candidates = _candidates(keys, run, resume or {})
    left = _in_stages(key, candidates, run, halving, on_epoch, on_stage)
    return _choice(candidates, left, run)


def _check_counts(psfs, seeds):
    if len(psfs) == 0 or seeds < 1:
        raise ValueError(f"sweep: needs at least one PSF and one seed, got {len(psfs)} and {seeds}")


def _candidates(keys, run, resume):
    return [
        Candidate(keys[place[1]], run, place, resume.get(place, Progress()))
        for place in itertools.product(range(len(run.psfs)), range(len(keys)))
    ]


def _in_stages(key, candidates, run, halving, on_epoch, on_stage):
    """Train and score stage by stage; return the candidates that were trained to the end."""
    problem, config = run.plan.problem, run.plan.settings
    schedule = stages(halving, config.epochs, len(run.psfs))
    cover, training = scores.covering(key, problem, config), candidates
    for until, keep in schedule:
        train_until(training, run, until, on_epoch)
        passed = _has_passed(training, until)
        # Once one PSF is left there is nothing to choose.
        scored = not training[0].errors or len({one.psf_index for one in training}) > 1
        if scored and not all(until in one.errors for one in training):
            score(training, run, cover)
        going_on = _going_on(training, run, keep, until)
        if on_stage is not None and not passed:
            on_stage(_models(candidates, run), going_on)
        training = [one for one in training if one.psf_index in going_on]
    return training


def _choice(candidates, left, run):
    (chosen,) = _going_on(left, run, 1, run.plan.settings.epochs)
    models = _models(candidates, run)
    best = min((one for one in models if one.psf_index == chosen), key=lambda model: model.score)
    return Sweep(models, chosen, best.denoiser, _correlation(run.plan))


def _models(candidates, run):
    return tuple(_model(candidate, run) for candidate in candidates)


def _has_passed(training, until):
    """Return whether a resumed training was past an epoch; its errors must be known then."""
    passed = any(candidate.epochs > until for candidate in training)
    if passed and not all(until in candidate.errors for candidate in training):
        raise ValueError(f"sweep: resume lacks errors of epoch {until}, which it has passed")
    return passed


def _going_on(training, run, keep, epoch):
    """Return the indices of the PSFs that go on after an epoch."""
    left = sorted({candidate.psf_index for candidate in training})
    if len(left) <= keep:
        return tuple(left)
    errors = {
        index: np.mean([one.errors[epoch] for one in training if one.psf_index == index], axis=0)
        for index in left
    }  # over its seeds
    return kept(errors, run.psfs, keep)


def _correlation(plan):
    frames = plan.problem.frames
    correlation = noise_level_of(frames)[1] if min(frames.shape[1:]) >= 5 else math.nan
    visible = not any(plan.settings.blind) and plan.problem.validation_repeats is None
    if visible and correlation > CORRELATED:
        warnings.warn(
            "the noise is correlated between neighbouring pixels (lag-1 autocorrelation "
            f"{correlation:.2f}): the score rewards keeping it, so do not trust the choice of the "
            "PSF, nor fine structure in the result",
            stacklevel=5,
        )
    return correlation


def _model(candidate, run):
    psf = np.asarray(run.psfs[candidate.psf_index])
    rim = min(int(np.argmax(psf.any(axis=axis))) for axis in (0, 1))
    psf = psf[rim : len(psf) - rim, rim : len(psf) - rim]
    problem = run.plan.problem._replace(psf=jnp.asarray(psf))
    denoiser = denoiser_of(candidate.snapshot, problem, run.plan.settings)
    own = candidate.psf_index, candidate.seed
    return Model(*own, denoiser, candidate.errors, candidate.seconds)


def of_one_size(psfs: Psfs) -> Float[Array, "K side side"]:
    """Normalise PSFs and pad all to the largest with zeros, so that one program serves all.

    Args:
        psfs: sequence of (h, w) arrays with odd sides.

    Raises:
        ValueError: an array that is no PSF.
    """
    normalized = [normalized_psf(psf) for psf in psfs]
    if any(psf.ndim == 3 for psf in normalized):
        raise ValueError("sweep: chooses among PSFs of images; `fit` takes the PSF of a volume")
    side = max(max(psf.shape) for psf in normalized)
    return jnp.asarray(np.stack([padded(psf, (side, side)) for psf in normalized]))
