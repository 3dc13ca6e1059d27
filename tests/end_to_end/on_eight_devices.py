"""A process with eight simulated devices, whose results `test_meshes` compares.

It trains, predicts and resumes on 1 and 8 of them, and with the argument "all" also on 2, and
sweeps. It prints JSON. The first argument names the folder where states are saved.
"""

import dataclasses
import json
import os
import re
import sys
from pathlib import Path

os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
)

import jax
import numpy as np

import jaxdenoise as jd
from jaxdenoise.microscope import synthetic
from jaxdenoise.prediction.tiles import denoise
from jaxdenoise.runs.states import load_snapshot, save_snapshot
from jaxdenoise.system import meshes
from jaxdenoise.training.epochs import on_mesh, take_steps
from jaxdenoise.training.fit import start
from jaxdenoise.training.problem import prepare

KEY = jax.random.key(0)
CONFIG = jd.TrainConfig(
    network=jd.UNetConfig(depth=2 if sys.argv[2] == "all" else 1, filters=4, stride=1),
    patch_size=16,
    batch_size=8,
    epochs=2,
    steps_per_epoch=4,
    validation_patches=8,
    precision="float32",
    targets="own",
    blind=(0, 0),
    symmetries=1,
)
PSFS = [jd.gaussian_psf(sigma) for sigma in (0.5, 1.0, 1.5)]


def flat(denoiser):
    return np.concatenate(
        [
            np.ravel(leaf)
            for leaf in jax.tree.leaves((denoiser.best, denoiser.averaged, denoiser.last))
        ]
    ).tolist()


def trained(stack, **options):
    denoiser = jd.fit(KEY, stack, psf=PSFS[1], config=CONFIG, **options)
    return denoiser, {
        "losses": denoiser.history["train_loss"].tolist(),
        "validation": denoiser.history["validation_loss"].tolist(),
    }


def resumed(stack, folder, before, after):
    """Train the first epoch on some devices, the second on others, by way of the disk."""

    class Stopped(Exception):
        pass

    def stop(snapshot):
        save_snapshot(folder, snapshot)
        raise Stopped

    try:
        trained(stack, devices=jax.devices()[:before], on_epoch=stop)
    except Stopped:
        snapshot = load_snapshot(folder, CONFIG)
    return flat(trained(stack, devices=jax.devices()[:after], resume=snapshot)[0])


def collectives(stack):
    """The collective operations in the program of a step on eight devices, and its gradients."""
    mesh = meshes.mesh_for(jax.devices(), batch_size=CONFIG.batch_size)
    plan = prepare(KEY, stack, psf=PSFS[1], config=CONFIG)
    problem, config = plan.problem, plan.settings
    snapshot = on_mesh(start(KEY, config, problem), mesh)
    options = {"config": config, "steps": 1, "mesh": mesh}
    lowered = take_steps.lower(KEY, snapshot.state, meshes.replicate(problem, mesh), 1.0, **options)
    names = (
        "all-reduce|all-gather|all-to-all|reduce-scatter|collective-permute|collective-broadcast"
    )
    found = re.findall(rf"= (\S+) ({names})(?:-start)?\(", lowered.compile().as_text())
    return {
        "found": found,
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(snapshot.state.params)),
    }


def swept(stack, count):
    config, devices = dataclasses.replace(CONFIG, batch_size=2), jax.devices()[:count]
    found = jd.sweep(KEY, stack, psfs=PSFS, config=config, devices=devices)
    scores = [model.score for model in found.models]
    return {"scores": scores, "chosen": found.chosen, "weights": flat(found.denoiser)}


def main(folder, extent):
    everything = extent == "all"
    stack = np.asarray(
        synthetic.static_scene(jax.random.key(5), frames=3, shape=(48, 56), psf_sigma=1.0).noisy
    )
    found = {"train": {}, "denoised": {}, "collectives": collectives(stack)}
    for count in (1, 2, 8) if everything else (1, 8):
        devices = jax.devices()[:count]
        denoiser, told = trained(stack, devices=devices)
        found["train"][count] = told | {"weights": flat(denoiser)}
        if count == 1:
            first = denoiser
        tiled = denoise(first, stack, tile_size=2 * 16 + 24, devices=devices)
        found["denoised"][count] = [np.asarray(values).tobytes().hex() for values in tiled]
    changes = [(8, 1)]
    if everything:
        changes += [(1, 8)]
        found["sweep"] = {count: swept(stack, count) for count in (1, 8)}
    found["resumed"] = {
        f"{before} to {after}": resumed(stack, Path(folder) / f"{before}", before, after)
        for before, after in changes
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
