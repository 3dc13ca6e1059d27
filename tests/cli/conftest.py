import contextlib
import io
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile

from jaxdenoise.cli.main import main


@pytest.fixture(scope="session")
def run():
    """Runs a command line in a folder: exit code, standard output, standard error."""

    def call(folder, *words):
        out, err = io.StringIO(), io.StringIO()
        with (
            contextlib.chdir(folder),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            try:
                code = main(list(map(str, words)))
            except SystemExit as stop:
                code = stop.code
        return code, out.getvalue(), err.getvalue()

    return call


@pytest.fixture(scope="session")
def small():
    """Flags of a training that takes a moment, of which nothing is found out from the data."""
    sizes = ["--epochs", "2", "--filters", "2", "--patch-size", "16", "--batch-size", "1"]
    decided = ["--targets", "own", "--blind", "0", "--stride", "1", "--background", "90"]
    decided += ["--psf", "1.0"]
    return [*sizes, *decided, "--symmetries", "1", "--precision", "float32"]


@pytest.fixture(scope="session")
def folder(tmp_path_factory, scene):
    """A folder with a noisy stack, one of equal size, and the truth."""
    path = tmp_path_factory.mktemp("cli")
    noisy = np.clip(np.asarray(scene.noisy), 0, 65535).round().astype(np.uint16)
    metadata = {"axes": "TYX", "unit": "um", "finterval": 0.5}
    tifffile.imwrite(path / "noisy.tif", noisy, imagej=True, resolution=(10, 10), metadata=metadata)
    tifffile.imwrite(path / "second.tif", noisy[::-1, ::-1].copy(), photometric="minisblack")
    tifffile.imwrite(path / "truth.tif", np.asarray(scene.clean))
    return path


@pytest.fixture(scope="session")
def denoised(run, folder, small):
    """What `denoise` does with two files, to the folder out, and a model, which it keeps."""
    words = ["denoise", "noisy.tif", "second.tif", "-o", "out", "--save-model", "model", *small]
    code, out, err = run(folder, *words, "--json")
    return SimpleNamespace(folder=folder, words=words, code=code, out=out, err=err)
