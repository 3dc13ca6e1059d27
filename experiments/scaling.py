"""Measure how training, sweeps and prediction scale with the number of devices.

On the cores of a CPU, which shows what the sharing itself costs and nothing else:

    python experiments/scaling.py --simulate 8

On the GPUs or TPUs of this machine, or of several machines, all at once:

    python experiments/scaling.py
    srun python experiments/scaling.py --distributed

Seconds and efficiency in strong scaling (work of one size) and weak scaling (as much work for each
device). On real devices the efficiency is the speed-up divided by the number of devices. Simulated
devices share the same cores, so that a perfect division of the same work takes the same time: there
the efficiency is the rate of all devices over that of one. Eight simulated devices take
two and a half minutes on two cores.
"""

import dataclasses
import os

import numpy as np
from common import arguments, store
from common.tables import Table
from common.timing import seconds

MEASURES = ("train", "sweep", "predict")


def build_parser():
    """Return the parser of the command line."""
    parser = arguments.parser_of(__doc__, "scaling.json")
    parser.add_argument(
        "--simulate", type=int, metavar="N", help="divide the CPU into so many devices"
    )
    parser.add_argument(
        "--distributed",
        action="store_true",
        help="one of several processes, which the environment describes",
    )
    arguments.add_only(parser, f"measurements ({', '.join(MEASURES)})")
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
    return parser


def main(argv=None):
    """Tell JAX of simulated devices before it starts, measure, print and write the tables."""
    args = build_parser().parse_args(argv)
    if args.simulate:
        os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={args.simulate}"
    from jaxdenoise.system.crew import current_crew, join

    if args.distributed:
        join()
    import jax

    crew, count = current_crew(), jax.device_count()
    counts = [n for n in (1, 2, 4, 8, 16, 32) if n <= count]
    if crew.count > 1:  # each process must have its share
        counts = [count]
    note = (
        f"{jax.devices()[0].device_kind}, {jax.local_device_count()} in each of {crew.count} "
        f"processes{f', simulated on {os.cpu_count()} cores: overhead only' * bool(args.simulate)}"
    )
    tables, measures = [], {"train": training, "sweep": sweeping, "predict": predicting}
    for name in MEASURES:
        if not arguments.is_chosen(name, args.only):
            continue
        for title, unit, cases in measures[name](args, counts):
            times = median_times(cases, args.runs)
            work = [(devices, amount) for devices, amount, _ in cases]
            tables.append(scaling_table(title, unit, work, times, args.simulate))
    if crew.is_primary:
        print("\n\n".join([note, *(table.markdown() for table in tables)]))
        title = "Past one device"
        store.write(args.output, group="devices", title=title, tables=tables, note=note)


def median_times(cases, runs):
    """Return the median seconds of each case, which take turns."""
    return np.median([[seconds(run) for *_, run in cases] for _ in range(runs)], axis=0)


def scaling_table(title, unit, cases, times, simulated):
    """Return a table with a row for each number of devices."""
    table = Table(title, ["devices", f"{unit} a second", "seconds", "efficiency"])
    (least, work), first = cases[0], times[0]
    for (devices, own), taken in zip(cases, times, strict=True):
        gained = own / taken / (work / first)
        efficiency = gained if simulated else gained * least / devices
        table.add(devices, f"{own / taken:.3g}", f"{taken:.3g}", f"{efficiency:.2f}", show=False)
    return table


def plan_of(args, config):
    """Return the plan of a training on a synthetic stack."""
    import jax

    import jaxdenoise as jd
    from jaxdenoise.microscope import synthetic
    from jaxdenoise.training.problem import prepare

    stack = synthetic.static_scene(
        jax.random.key(1), frames=4, shape=(512, 512), psf_sigma=1.0
    ).noisy
    return prepare(jax.random.key(0), stack, psf=jd.gaussian_psf(1.0), config=config)


def config_of(args, batch):
    """Return the preset with such a batch size; blind spots only, so that nothing is searched."""
    import jaxdenoise as jd

    network = jd.UNetConfig(filters=args.filters, stride=1)
    return jd.TrainConfig(
        network=network, patch_size=args.patch, batch_size=batch, targets="own", blind=(0, 0)
    )


def training(args, counts):
    """Yield (title, unit, [(devices, patches, call)]) for strong and weak scaling of the steps."""
    import jax

    from jaxdenoise.system import meshes
    from jaxdenoise.training.epochs import on_mesh, take_steps
    from jaxdenoise.training.fit import start

    key = jax.random.key(0)

    def case(count, batch):
        config = config_of(args, batch)
        mesh = meshes.mesh_for(jax.devices()[:count], batch_size=batch)
        plan = plan_of(args, config)
        config, problem = plan.settings, meshes.replicate(plan.problem, mesh)
        state = on_mesh(start(key, config), mesh).state
        a_call = 1 if config.platform == "cpu" else args.steps

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
    """Yield the same for epochs of a sweep of one PSF and several seeds."""
    import jax

    from jaxdenoise.system import meshes
    from jaxdenoise.training.candidates import Candidate, Run
    from jaxdenoise.training.epochs import run_epoch
    from jaxdenoise.training.together import run_epoch_together

    config = dataclasses.replace(
        config_of(args, 1), steps_per_epoch=args.steps, validation_patches=1
    )
    plan = plan_of(args, config)
    config, psfs = plan.settings, plan.problem.psf[None]

    def case(count):
        mesh = meshes.mesh_for(jax.devices()[:count], batch_size=1, models=args.models)
        everywhere = meshes.replicate(plan.problem, mesh)
        key, run_of_all = jax.random.key(0), Run(plan, psfs)
        group = [Candidate(key, run_of_all, (0, seed)) for seed in range(args.models)]

        def run():
            # On one CPU device a sweep trains model by model.
            if mesh is None and config.platform == "cpu":
                for model in group:
                    model.snapshot = run_epoch(model.key, model.snapshot, everywhere, config)
                return
            found = run_epoch_together(group, everywhere, psfs, config, mesh)
            for model, snapshot in zip(group, found, strict=True):
                model.snapshot = snapshot

        run()
        return count, args.steps * args.models, run

    yield f"Sweep, strong: {args.models} models", "patches", [case(n) for n in counts]


def predicting(args, counts):
    """Yield the same for the tiles of a large image, of which each process takes its share."""
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
        share = tiling.Share(crew.index, crew.count, square=512) if crew.count > 1 else None

        def run():
            for _ in denoise_tiles(denoiser, image, devices=devices, share=share):
                pass
            crew.barrier()

        run()
        return count, image.size / 1e6, run

    title = f"Prediction, strong: {args.side} x {args.side} pixels"
    yield title, "megapixels", [case(n) for n in counts]


if __name__ == "__main__":
    main()
