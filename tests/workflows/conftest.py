from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile

import jaxdenoise as jd
from jaxdenoise import workflows


class Recorder:
    """A reporter that keeps what it hears, and cancels after so many epochs."""

    def __init__(self, *, cancel_after=None):
        self.said, self.rows, self.tiles, self.begun = [], [], [], []
        self._cancel_after = cancel_after

    @contextmanager
    def training(self, config, *, done=0, total=None):
        self.begun.append((config, done, total))
        yield self.rows.append

    def predicting(self, name):
        return lambda done, total: self.tiles.append((name, done, total))

    def say(self, text):
        self.said.append(text)

    insist = say

    def cancelled(self):
        return self._cancel_after is not None and len(self.rows) >= self._cancel_after


@pytest.fixture(scope="session")
def recorder():
    return Recorder


@pytest.fixture(scope="session")
def tiny():
    """Settings of a training that takes a moment, of which nothing is found out from the data."""
    network = jd.UNetConfig(depth=2, filters=2, stride=1)
    return jd.TrainConfig(
        network=network,
        patch_size=16,
        epochs=2,
        steps_per_epoch=3,
        validation_patches=2,
        targets="own",
        validation="pixels",
        blind=(0, 0),
        background=90.0,
        precision="float32",
        symmetries=1,
        axial="trained",
    )


@pytest.fixture(scope="session")
def shared(tmp_path_factory, scene, tiny):
    """Files, and a run folder with a model of the first one: a stack, a part of it, the truth."""
    folder = tmp_path_factory.mktemp("shared")
    noisy = np.clip(np.asarray(scene.noisy), 0, 65535).round().astype(np.uint16)
    metadata = {"axes": "TYX", "unit": "um", "finterval": 0.5}
    files = {name: folder / f"{name}.tif" for name in ("noisy", "second", "truth")}
    tifffile.imwrite(files["noisy"], noisy, imagej=True, resolution=(10, 10), metadata=metadata)
    tifffile.imwrite(files["second"], noisy[::-1, ::-1].copy(), photometric="minisblack")
    tifffile.imwrite(files["truth"], np.asarray(scene.clean))
    request = workflows.TrainRequest(
        inputs=[files["noisy"]],
        output=folder / "run",
        training=workflows.Training(preset=tiny),
        report=False,
    )
    result = workflows.train(request)
    return SimpleNamespace(**files, run=folder / "run", result=result)


@pytest.fixture(scope="session")
def training_of(tiny):
    """Makes a `Training` like the shared one, with some options changed."""
    return lambda **changes: workflows.Training(**{"preset": tiny, **changes})
