"""Training on noisy images alone: `fit`, and its two halves `prepare` and `train`. Host side."""

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray, Real, Shaped

from jaxdenoise.config import PRETRAINED, PRETRAINED_MOVIES, PRETRAINED_VOLUMES, TrainConfig
from jaxdenoise.microscope.psf import gaussian_psf
from jaxdenoise.microscope.psf_faults import warn_of_faults
from jaxdenoise.network import pretrained, unet
from jaxdenoise.network.denoiser import Denoiser
from jaxdenoise.network.exposure import Exposure
from jaxdenoise.network.settings import Settings, shape_of
from jaxdenoise.system import meshes
from jaxdenoise.training import streams
from jaxdenoise.training.epochs import Snapshot, on_mesh, run_epoch_in_memory
from jaxdenoise.training.problem import Plan, Problem, prepare
from jaxdenoise.training.step import initial_state


def fit(
    key: PRNGKeyArray,
    stack: Shaped[Array | np.ndarray, "..."],
    *,
    psf: Real[Array | np.ndarray, "..."],
    config: TrainConfig = TrainConfig(),
    devices: Sequence[jax.Device] | None = None,
    resume: Snapshot | None = None,
    on_epoch: Callable[[Snapshot], object] | None = None,
) -> Denoiser:
    """Train on noisy images alone. Host side: drives the jitted steps.

    It is `prepare`, then `train`.

    Args:
        key: random key; the same key, data and settings give the same model on the same device and
            versions.
        stack: (N, H, W) or (H, W) array of any real dtype, in grey levels; for a network that sees
            neighbouring frames N in a row, or (S, N, H, W) for several such sequences. NaN marks
            pixels without data.
        psf: (h, w) array with odd sides; it is scaled to sum 1. ``[[1.0]]`` means no blur. One that
            is off its middle or stands on a pedestal is warned of; `clean_psf` mends it. With
            (d, h, w) the stack is a volume (Z, H, W), or several (S, Z, H, W), and light falls from
            plane to plane.
        config: the request; default: the preset "fast".
        devices: sequence of `jax.Device`, such as ``jax.devices()``, that share each batch, to the
            same losses but for rounding; default: the default device alone.
        resume: a `Snapshot` to go on from, which any number of devices may have computed.
        on_epoch: called with the `Snapshot` after each epoch. Its state is used up by the next
            epoch: copy what must outlive the call.

    Raises:
        ValueError: infinite pixels, a constant stack, frames too small to train on, a PSF that is
            no PSF or does not fit, a batch that so many devices cannot share.
    """
    meshes.of_one_model(devices, batch_size=config.batch_size)  # checked before the work
    warn_of_faults(psf)
    plan = prepare(key, stack, psf=psf, config=config, devices=devices)
    return train(key, plan, devices=devices, resume=resume, on_epoch=on_epoch)


def train(
    key: PRNGKeyArray,
    plan: Plan,
    *,
    devices: Sequence[jax.Device] | None = None,
    resume: Snapshot | None = None,
    on_epoch: Callable[[Snapshot], object] | None = None,
) -> Denoiser:
    """Train as planned; arguments and errors as of `fit`.

    Args:
        key: the one that `problem.prepare` was given.
        plan: `problem.prepare`'s, for the same devices.
        devices: as of `fit`.
        resume: as of `fit`.
        on_epoch: as of `fit`.
    """
    config = plan.settings
    mesh = meshes.of_one_model(devices, batch_size=config.batch_size)
    snapshot = on_mesh(begin(key, plan, devices) if resume is None else resume, mesh)
    state, best = meshes.on_single((snapshot.state, snapshot.best), devices)
    snapshot = snapshot._replace(state=state, best=best)
    everywhere, parts = meshes.replicate(plan.problem, mesh), 1
    while len(snapshot.history) < config.epochs:
        snapshot, parts = run_epoch_in_memory(
            key, snapshot, everywhere, config, parts=parts, mesh=mesh
        )
        if on_epoch is not None:
            on_epoch(snapshot)
    return denoiser_of(snapshot, plan.problem, config)


def instant(
    stack: Shaped[Array | np.ndarray, "..."],
    *,
    noise_std: float | None = None,
    config: TrainConfig = TrainConfig(),
    exposure: Exposure | None = None,
) -> Denoiser:
    """Return the pretrained network, scaled to the images but not trained on them. Host side.

    Args:
        stack: (N, H, W) or (H, W) array of any real dtype, in grey levels.
        noise_std: the noise's standard deviation in grey levels, the root of its mean variance; by
            default estimated.
        config: the request, of which only what concerns prediction counts.
        exposure: of the images; default: measured on the stack.

    Returns:
        `Denoiser`, with a Gaussian PSF of sigma `pretrained.PSF_SIGMA` and no history.

    Raises:
        ValueError: as `fit`; a noise that is not positive.
    """
    plan = prepare_instant(stack, config=config, exposure=exposure)
    return instant_of(plan, noise_std=noise_std)


def prepare_instant(
    stack: Shaped[Array | np.ndarray, "..."],
    *,
    config: TrainConfig = TrainConfig(),
    exposure: Exposure | None = None,
    clean: bool = False,
) -> Plan:
    """Return the `problem.Plan` of `instant`, whose arguments and errors these are.

    ``clean`` is as of `problem.prepare`.
    """
    network = dataclasses.replace(PRETRAINED, stride=config.network.stride)
    # Nothing is trained, so there are no blind spots.
    config = dataclasses.replace(
        config,
        network=network,
        init="pretrained",
        weights="last",
        targets="own",
        blind=(0, 0),
        validation="pixels",
    )
    psf = gaussian_psf(pretrained.PSF_SIGMA)
    return prepare(
        jax.random.key(0), stack, psf=psf, config=config, exposure=exposure, clean=clean, masks=0
    )


def instant_of(
    plan: Plan, *, noise_std: float | None = None, guided: bool = False, planes: bool = False
) -> Denoiser:
    """Return the `Denoiser` of `instant`, given the plan of `prepare_instant`.

    ``guided`` takes the network for movies, ``planes`` that for volumes.
    """
    if noise_std is not None and not 0 < noise_std < np.inf:
        raise ValueError(f"instant: noise_std must be positive, in grey levels, not {noise_std}")
    problem, settings = plan.problem, plan.settings
    if guided or planes:
        shipped = PRETRAINED_VOLUMES if planes else PRETRAINED_MOVIES
        shape = dataclasses.replace(shipped, stride=settings.network.stride)
        settings = dataclasses.replace(settings, network=shape_of(shape))
    params = (
        pretrained.fitted(problem.frames, problem.scale, settings)
        if noise_std is None
        else pretrained.parameters(
            problem.scale, jnp.float32(noise_std), settings.output_scale, settings.network
        )
    )
    return Denoiser(params, params, params, problem.psf, problem.scale, {}, settings)


def denoiser_of(snapshot: Snapshot, problem: Problem, config: Settings) -> Denoiser:
    """Return the `Denoiser` of a `Snapshot` of at least one epoch.

    It shares the snapshot's arrays: copy it if the training goes on.
    """
    history = {
        name: np.array([row[name] for row in snapshot.history]) for name in snapshot.history[0]
    }
    snapshot = meshes.local(snapshot)
    state = snapshot.state
    psf = problem.psf if problem.deep_psf is None else problem.deep_psf
    return Denoiser(
        snapshot.best, state.averaged, state.params, psf, problem.scale, history, config
    )


def begin(key: PRNGKeyArray, plan: Plan, devices: Sequence[jax.Device] | None = None) -> Snapshot:
    """Return the `Snapshot` before the first epoch of a plan; arguments as of `train`."""
    with meshes.computing_on(devices):
        return start(key, plan.settings, plan.problem)


def start(key: PRNGKeyArray, config: Settings, problem: Problem | None = None) -> Snapshot:
    """Return the `Snapshot` before the first epoch.

    Args:
        key: the training's random key.
        config: `Settings`.
        problem: to which pretrained weights are fitted; without it the weights are random, of the
            same shapes.
    """
    if config.init == "pretrained" and problem is not None:
        params = pretrained.fitted(problem.frames, problem.scale, config)
    else:
        params = _init(streams.stream_key(key, streams.INIT), config.network)
    # A copy, because a step writes into its state's memory.
    best = jax.tree.map(jnp.copy, params)
    return Snapshot(initial_state(params), best, jnp.full(config.validation_patches, jnp.inf), ())


@partial(jax.jit, static_argnames="config")
def _init(key, config):
    return unet.init(key, config)
