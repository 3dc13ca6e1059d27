import numpy as np
import pytest
import tifffile
from small_training import EPOCHS, TRAINING

from jaxdenoise.cli.main import main


@pytest.fixture(scope="session")
def noisy(tmp_path_factory, scene):
    """The file of a small noisy stack, in a folder of its own."""
    path = tmp_path_factory.mktemp("end_to_end") / "noisy.tif"
    frames = np.clip(np.asarray(scene.noisy), 0, 65535).round().astype(np.uint16)
    tifffile.imwrite(path, frames, photometric="minisblack")
    return path


@pytest.fixture(scope="session")
def alone(noisy):
    """The run folder of a training by one process with one device, which nothing disturbed."""
    run = noisy.parent / "alone"
    words = ["train", str(noisy), "-o", str(run), "--psf", "1.0", "--epochs", EPOCHS]
    assert main([*words, *TRAINING]) == 0
    return run
