"""The public names: those of the stub, each importable, each with a signature."""

import ast
import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import jaxdenoise as jd

STUB = ast.parse(Path(jd.__file__).with_suffix(".pyi").read_text(encoding="utf-8"))
IMPORTS = [node for node in STUB.body if isinstance(node, ast.ImportFrom)]
NAMES = {alias.asname: node for node in IMPORTS for alias in node.names}
# The names and places that are promised to stay.
FIXED = {
    *("gaussian_filter", "median_filter", "box_filter", "box3d_filter", "psnr", "si_psnr"),
    *("snr_db", "mean_over_std", "ssim", "gaussian_psf", "convolve", "gaussian_noise"),
    *("poisson_gaussian_noise", "fit", "denoise", "save", "load", "read", "write", "sweep"),
    *("instant", "denoise_image", "denoise_ensemble", "TrainConfig", "UNetConfig", "workflows"),
}


def test_the_stub_and_the_package_have_the_same_names():
    assert set(jd.__all__) == NAMES.keys()
    assert NAMES.keys() >= FIXED


@pytest.mark.parametrize("name", sorted(NAMES))
def test_a_public_name_is_where_the_stub_says(name):
    value, home = getattr(jd, name), NAMES[name].module
    if name == "report":  # the room of this name can be called, whichever of both was loaded first
        value = importlib.import_module("jaxdenoise.workflows.arrays").report
        assert callable(jd.report)
    assert inspect.ismodule(value) if home is None else value.__module__ == f"jaxdenoise.{home}"
    assert value.__doc__


@pytest.mark.parametrize(
    ("name", "leading"),
    [
        ("gaussian_filter", ["image", "sigma"]),
        ("median_filter", ["image", "size"]),
        ("psnr", ["reference", "image"]),
        ("poisson_gaussian_noise", ["key", "image"]),
        ("fit", ["key", "stack"]),
        ("sweep", ["key", "stack"]),
        ("denoise", ["denoiser", "stack"]),
        ("save", ["path", "denoiser"]),
    ],
)
def test_arrays_come_before_options_that_are_keywords(name, leading):
    parameters = inspect.signature(getattr(jd, name)).parameters.values()
    positional = [one.name for one in parameters if one.kind is one.POSITIONAL_OR_KEYWORD]
    assert positional[: len(leading)] == leading
    assert all(one.kind is one.KEYWORD_ONLY for one in list(parameters)[len(leading) :])


def test_the_import_waits_for_neither_jax_nor_numpy():
    code = "import jaxdenoise, sys; sys.exit('jax' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def _public_functions():
    for file in sorted(Path(jd.__file__).parent.rglob("*.py")):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        classes = [
            node
            for node in tree.body
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
        ]
        for owner in [tree, *classes]:
            for node in owner.body:
                if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
                    yield file, node


def test_every_public_signature_is_typed():
    bare = []
    for file, node in _public_functions():
        arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        if arguments and arguments[0].arg in ("self", "cls"):
            arguments = arguments[1:]
        if node.returns is None or any(one.annotation is None for one in arguments):
            bare.append(f"{file.relative_to(Path(jd.__file__).parent)}: {node.name}")
    assert not bare
