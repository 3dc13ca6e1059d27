"""Where the time of a training step goes, in milliseconds a patch: the parts by themselves, and the whole, in float32 and bfloat16.

    python experiments/profile_training.py

Medians of nine runs after a warm-up, both precisions taking turns. The published network (64
filters, patches of 100, batches of 20) and that of the preset `fast` (32 filters, patches of 96,
one a step); PSF of 81x81 as published.
"""

import argparse
import dataclasses
import json
import statistics

import jax
import numpy as np
from speed_filters import times_in_turn

import jaxdenoise as jd
from jaxdenoise.network.denoiser import network_output
from jaxdenoise.training.fit import (
    _draw_batch,
    _step_by_patches,
    apply_gradients,
    start,
    steps_at_once,
    take_steps,
)
from jaxdenoise.training.problem import prepare
from jaxdenoise.training.step import batch_gradients, batch_losses

KEY = jax.random.key(0)


def parts(config, problem):
    """{name: (function without arguments, patches that it computes)}."""
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

    count = config.batch_size
    rows = {
        "drawing patches and blind spots": (
            lambda: _draw_batch(KEY, 0, problem, config=config),
            count,
        ),
        "network": (lambda: forward(state.params), 1),
        "network, PSF and loss": (lambda: loss(state.params), 1),
        "the same and its gradients": (lambda: gradients(state.params), 1),
        "Adam and the average": (lambda: update(state), count),
        "a step, the batch at once": (
            whole(lambda state: take_steps(KEY, state, problem, 1.0, config=config, steps=1)),
            count,
        ),
    }
    if count > 1:
        rows["a step, patch by patch"] = (
            whole(lambda state: _step_by_patches(KEY, state, problem, 1.0, config)),
            count,
        )
    elif (steps := steps_at_once(config)) > 1:
        scan = whole(lambda state: take_steps(KEY, state, problem, 1.0, config=config, steps=steps))
        rows["a step, of a loop over several"] = scan, steps
    return rows


def profile(config):
    """{part: {precision: milliseconds a patch}}."""
    stack = np.random.default_rng(0).normal(100, 20, (4, 512, 512)).astype(np.float32)
    rivals, counts = {}, {}
    for precision in "float32", "bfloat16":
        changed = dataclasses.replace(config, precision=precision)
        problem, changed = prepare(KEY, stack, psf=jd.gaussian_psf(1.0, size=81), config=changed)
        for name, (function, count) in parts(changed, problem).items():
            rivals[name, precision], counts[name] = (function, None), count
    times = times_in_turn(rivals, 9)
    medians = {
        key: 1e3 * statistics.median(seconds) / counts[key[0]] for key, seconds in times.items()
    }
    return {
        name: {
            p: round(medians[name, p], 2) for p in ("float32", "bfloat16") if (name, p) in medians
        }
        for name in counts
    }


def main():
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    args = parser.parse_args()
    results = {name: profile(jd.TrainConfig.preset(name)) for name in ("paper", "fast")}
    if args.json:
        print(json.dumps(results))
        return
    for preset, rows in results.items():
        print(f"| {preset}: ms a patch | float32 | bfloat16 |\n|---|---|---|")
        for name, row in rows.items():
            print(f"| {name} | {row.get('float32', '-')} | {row['bfloat16']} |")


if __name__ == "__main__":
    main()
