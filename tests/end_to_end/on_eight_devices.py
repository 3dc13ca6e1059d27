"""What `test_meshes` compares: a process with eight simulated devices trains, sweeps, predicts and resumes on 1, 2 and 8 of them.

Prints JSON; an argument names the folder where states are saved.
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
from jaxdenoise.training.fit import on_mesh, start, take_steps
from jaxdenoise.training.problem import prepare

KEY, COUNTS = jax.random.key(0), (1, 2, 8)
CONFIG = jd.TrainConfig(
    network=jd.UNetConfig(depth=2, filters=4, stride=1),
    patch_size=16,
    batch_size=8,
    epochs=2,
    steps_per_epoch=5,
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
    """A training whose first epoch is on so many devices and whose second on others, by way of the disk."""

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
    """The collective operations in the compiled program of a step on eight devices, and how many gradients there are."""
    mesh = meshes.mesh_for(jax.devices(), batch_size=CONFIG.batch_size)
    problem, config = prepare(KEY, stack, psf=PSFS[1], config=CONFIG)
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


def main():
    stack = np.asarray(
        synthetic.static_scene(jax.random.key(5), frames=3, shape=(48, 56), psf_sigma=1.0).noisy
    )
    found = {"train": {}, "sweep": {}, "denoised": {}, "collectives": collectives(stack)}
    for count in COUNTS:
        devices = jax.devices()[:count]
        denoiser, told = trained(stack, devices=devices)
        found["train"][count] = told | {"weights": flat(denoiser)}
        if count == 1:
            first = denoiser
        tiled = denoise(first, stack, tile_size=2 * 16 + 24, devices=devices)
        found["denoised"][count] = [np.asarray(values).tobytes().hex() for values in tiled]
    for count in (1, 8):
        config, devices = dataclasses.replace(CONFIG, batch_size=2), jax.devices()[:count]
        swept = jd.sweep(KEY, stack, psfs=PSFS, config=config, devices=devices)
        found["sweep"][count] = {
            "scores": [model.score for model in swept.models],
            "chosen": swept.chosen,
            "weights": flat(swept.denoiser),
        }
    folder = Path(sys.argv[1])
    found["resumed"] = {
        f"{before} to {after}": resumed(stack, folder / f"{before}", before, after)
        for before, after in ((8, 1), (1, 8))
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
