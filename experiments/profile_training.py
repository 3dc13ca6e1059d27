"""Measure where the time of a training step goes, part by part, in float32 and bfloat16.

    python experiments/profile_training.py -o profile_training.json

Milliseconds a patch: medians of nine runs after a warm-up, both precisions taking turns. The
published network (64 filters, patches of 100, batches of 20) and that of the preset `fast`
(32 filters, patches of 96, one a step); PSF of 81x81 pixels as published.
"""

import dataclasses
import statistics
from functools import partial

import jax
import numpy as np
from common import arguments, store
from common.tables import Table
from common.timing import times_in_turn

import jaxdenoise as jd
from jaxdenoise.network.denoiser import network_output
from jaxdenoise.training.epochs import _draw_batch, step_by_patches, steps_at_once, take_steps
from jaxdenoise.training.fit import start
from jaxdenoise.training.problem import prepare
from jaxdenoise.training.step import apply_gradients, batch_gradients, batch_losses

PRECISIONS = ("float32", "bfloat16")
KEY = jax.random.key(0)


def parts(config, problem):
    """Return {name: (function without arguments, number of patches that it computes)}."""
    state = start(KEY, config).state
    batch = _draw_batch(KEY, 0, problem, config=config)
    patch = jax.tree.map(lambda leaf: leaf[:1], batch)
    one = dataclasses.replace(config, batch_size=1)
    forward = jax.jit(lambda params: network_output(params, patch.visible, problem.scale, one))
    loss = jax.jit(lambda params: batch_losses(params, patch, problem.scale, problem.psf, one))
    gradients = jax.jit(lambda params: batch_gradients(params, patch, problem, one))
    found, _ = gradients(state.params)
    update = jax.jit(lambda state: apply_gradients(state, found, 1.0, config))

    def whole(step):
        return lambda: step(start(KEY, config).state)

    def take(count):
        return whole(lambda state: take_steps(KEY, state, problem, 1.0, config=config, steps=count))

    count = config.batch_size
    rows = {
        "drawing patches and blind spots": (
            partial(_draw_batch, KEY, 0, problem, config=config),
            count,
        ),
        "network": (lambda: forward(state.params), 1),
        "network, PSF and loss": (lambda: loss(state.params), 1),
        "the same and its gradients": (lambda: gradients(state.params), 1),
        "Adam and the average": (lambda: update(state), count),
        "a step, the batch at once": (take(1), count),
    }
    if count > 1:
        by_patches = whole(lambda state: step_by_patches(KEY, state, problem, 1.0, config))
        rows["a step, patch by patch"] = by_patches, count
    elif (steps := steps_at_once(config)) > 1:
        rows["a step, of a loop over several"] = take(steps), steps
    return rows


def profile(config):
    """Return {part: {precision: milliseconds a patch}}."""
    stack = np.random.default_rng(0).normal(100, 20, (4, 512, 512)).astype(np.float32)
    rivals, counts = {}, {}
    for precision in PRECISIONS:
        changed = dataclasses.replace(config, precision=precision)
        plan = prepare(KEY, stack, psf=jd.gaussian_psf(1.0, size=81), config=changed)
        for name, (function, count) in parts(plan.settings, plan.problem).items():
            rivals[name, precision], counts[name] = (function, None), count
    times = times_in_turn(rivals, 9)
    medians = {
        key: 1e3 * statistics.median(seconds) / counts[key[0]] for key, seconds in times.items()
    }
    return {
        name: {p: round(medians[name, p], 2) for p in PRECISIONS if (name, p) in medians}
        for name in counts
    }


def build_parser():
    """Return the parser of the command line."""
    return arguments.parser_of(__doc__, "profile_training.json")


def main(argv=None):
    """Measure both presets, print and write a table of each."""
    args = build_parser().parse_args(argv)
    tables = []
    for preset in ("paper", "fast"):
        table = Table(f"{preset}: milliseconds a patch", ["part", *PRECISIONS]).start()
        for name, row in profile(jd.TrainConfig.preset(preset)).items():
            table.add(name, *(row.get(precision) for precision in PRECISIONS))
        tables.append(table)
    title = "Where the time of a training step goes"
    store.write(args.output, group="speed", title=title, tables=tables)


if __name__ == "__main__":
    main()
