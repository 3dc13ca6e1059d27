"""How training, sweeps and prediction scale with the number of devices: seconds and efficiency, strong (one size) and weak (a size each).

    python experiments/scaling.py --simulate 8              # on the cores of a CPU: what the
    sharing itself costs, nothing else python experiments/scaling.py                           # on
    the GPUs or TPUs of this machine srun python experiments/scaling.py --distributed        # on
    those of several machines, all at once

Simulated devices share the same cores, so that a perfect division of the same work takes the same
time: there the efficiency is the time of one device over that of all, in strong scaling, and of all
    the work in weak scaling. On real devices it is speed over devices.
"""

import argparse
import dataclasses
import os
import time

import numpy as np


def main():
    """Parse before JAX is imported, which must be told of simulated devices first."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--simulate", type=int, metavar="N", help="divide the CPU into so many devices"
    )
    parser.add_argument(
        "--distributed",
        action="store_true",
        help="one of several processes, which the environment describes",
    )
    parser.add_argument("--only", default="train,sweep,predict", help="with commas")
    parser.add_argument(
        "--batch",
        type=int,
        default=8,
        help="patches a step: of all devices (strong), of each (weak)",
    )
    parser.add_argument("--filters", type=int, default=32)
    parser.add_argument("--patch", type=int, default=96)
    parser.add_argument("--models", type=int, default=8, help="of the sweep")
    parser.add_argument("--side", type=int, default=2048, help="of the image that is denoised")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--runs", type=int, default=3)
    args = parser.parse_args()
    if args.simulate:
        os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={args.simulate}"
    from jaxdenoise.system.crew import current_crew, join

    if args.distributed:
        join()
    import jax

    crew, count = current_crew(), jax.device_count()
    counts = (
        [count] if crew.count > 1 else [n for n in (1, 2, 4, 8, 16, 32) if n <= count]
    )  # each process must have its share
    kind = f"{jax.devices()[0].device_kind}, {jax.local_device_count()} in each of {crew.count} processes"
    if crew.is_primary:
        print(
            f"{kind}{', simulated on ' + str(os.cpu_count()) + ' cores: overhead only' if args.simulate else ''}\n"
        )
    measures = {"train": training, "sweep": sweeping, "predict": predicting}
    for name in args.only.split(","):
        for title, unit, cases in measures[name](args, counts):
            seconds = median_times(cases, args.runs)
            if crew.is_primary:
                table(title, unit, [(n, work) for n, work, _ in cases], seconds, args.simulate)


def timed(run):
    """Seconds of a call."""
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def median_times(cases, runs):
    """Median seconds of each case, which take turns."""
    return np.median([[timed(run) for *_, run in cases] for _ in range(runs)], axis=0)


def table(title, unit, cases, seconds, simulated):
    """A row a number of devices."""
    print(f"{title}\n\n| devices | {unit} a second | seconds | efficiency |\n|---|---|---|---|")
    (least, work), first = cases[0], seconds[0]
    for (devices, own), taken in zip(cases, seconds, strict=True):
        gained = own / taken / (work / first)
        efficiency = gained if simulated else gained * least / devices
        print(f"| {devices} | {own / taken:.3g} | {taken:.3g} | {efficiency:.2f} |")
    print(flush=True)


def problem_of(args, config):
    """A synthetic stack as a training is given it."""
    import jax

    import jaxdenoise as jd
    from jaxdenoise.microscope import synthetic
    from jaxdenoise.training.problem import prepare

    stack = synthetic.static_scene(
        jax.random.key(1), frames=4, shape=(512, 512), psf_sigma=1.0
    ).noisy
    return prepare(jax.random.key(0), stack, psf=jd.gaussian_psf(1.0), config=config)


def config_of(args, batch):
    """The preset with batches of such a size; blind spots only, so that nothing is searched for."""
    import jaxdenoise as jd

    network = jd.UNetConfig(filters=args.filters, stride=1)
    return jd.TrainConfig(
        network=network, patch_size=args.patch, batch_size=batch, targets="own", blind=(0, 0)
    )


def training(args, counts):
    """Steps of `fit.take_steps`: (title, unit, [(devices, patches, call)]) for strong and weak scaling."""
    import jax

    from jaxdenoise.system import meshes
    from jaxdenoise.training.fit import on_mesh, start, take_steps

    key = jax.random.key(0)

    def case(count, batch):
        config = config_of(args, batch)
        mesh = meshes.mesh(jax.devices()[:count], batch_size=batch)
        problem, config = problem_of(args, config)
        state = on_mesh(start(key, config), mesh).state
        problem = meshes.replicate(problem, mesh)
        a_call = 1 if jax.default_backend() == "cpu" else args.steps

        def run():
            nonlocal state
            for _ in range(args.steps // a_call):
                found = take_steps(key, state, problem, 1.0, config=config, steps=a_call, mesh=mesh)
                state, _ = meshes.wait_on_cpu(found, mesh)
            jax.block_until_ready(state)

        run()  # compiles
        return count, args.steps * batch, run

    fitting = [n for n in counts if args.batch % n == 0]
    yield (
        f"Training, strong: batches of {args.batch}",
        "patches",
        [case(n, args.batch) for n in fitting],
    )
    yield (
        f"Training, weak: {args.batch} patches a device",
        "patches",
        [case(n, args.batch * n) for n in counts],
    )


def sweeping(args, counts):
    """Epochs of a sweep of one PSF and several seeds."""
    import jax

    from jaxdenoise.system import meshes
    from jaxdenoise.training.fit import run_epoch
    from jaxdenoise.training.sweep import _Running
    from jaxdenoise.training.together import run_epoch_together

    config = dataclasses.replace(
        config_of(args, 1), steps_per_epoch=args.steps, validation_patches=1
    )
    problem, config = problem_of(args, config)

    def case(count):
        mesh = meshes.mesh(jax.devices()[:count], batch_size=1, models=args.models)
        everywhere = meshes.replicate(problem, mesh)
        group = [
            _Running(0, seed, jax.random.key(seed), config, problem) for seed in range(args.models)
        ]

        def run():
            if (
                mesh is None and jax.default_backend() == "cpu"
            ):  # where a sweep on one device goes model by model
                for model in group:
                    model.snapshot = run_epoch(model.key, model.snapshot, everywhere, config)
                return
            found = run_epoch_together(group, everywhere, problem.psf[None], config, mesh)
            for model, snapshot in zip(group, found, strict=True):
                model.snapshot = snapshot

        run()
        return count, args.steps * args.models, run

    yield f"Sweep, strong: {args.models} models", "patches", [case(n) for n in counts]


def predicting(args, counts):
    """A large image through `tiles.denoise_tiles`, each process its share."""
    import jax

    import jaxdenoise as jd
    from jaxdenoise.prediction import tiling
    from jaxdenoise.prediction.tiles import denoise_tiles
    from jaxdenoise.system.crew import current_crew

    crew = current_crew()
    image = np.random.default_rng(0).poisson(50, (1, args.side, args.side)).astype(np.float32)
    config = jd.TrainConfig(network=jd.UNetConfig(filters=32, stride=1), symmetries=1)
    denoiser = jd.instant(image[:, :512, :512], config=config)

    def case(count):
        devices = jax.local_devices()[:count]
        share = tiling.Share(*crew, square=512) if crew.count > 1 else None

        def run():
            for _ in denoise_tiles(denoiser, image, devices=devices, share=share):
                pass
            crew.barrier()

        run()
        return count, image.size / 1e6, run

    yield (
        f"Prediction, strong: {args.side} x {args.side} pixels",
        "megapixels",
        [case(n) for n in counts],
    )


if __name__ == "__main__":
    main()
