"""Damaged models and states of training, and command lines that look wrong and are not."""

import re
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from bad_runs import (
    COLUMNS,
    SMALL,
    a_denoiser,
    each,
    flipped,
    half,
    in_config,
    in_header,
    in_network,
    in_settings,
    rows,
    text,
    without,
)
from command_shell import SECONDS, named, refused, tree

from jaxdenoise.runs.models import load, save

RUNS = {
    "config missing": without("config.json"),
    "config a folder": lambda run: (without("config.json")(run), (run / "config.json").mkdir()),
    "config empty": text("config.json", ""),
    "config not JSON": text("config.json", "{"),
    "config a list": text("config.json", "[]"),
    "config a number": text("config.json", "7"),
    "config null": text("config.json", "null"),
    "config a string": text("config.json", '"format"'),
    "config not UTF-8": text("config.json", b"\xff\xfe\x00"),
    "config of zeros": text("config.json", b"\0" * 700),
    "config too deep": text("config.json", "[" * 100_000),
    "config with a number too long": text("config.json", '{"format": ' + "9" * 5000 + "}"),
    "config of another version": in_header(format=99),
    "config of a version that is a word": in_header(format="new"),
    "config without a version": in_config(lambda content: content.pop("format")),
    "config without a PSF": in_config(lambda content: content.pop("psf_shape")),
    "config without settings": in_config(lambda content: content.pop("config")),
    "config with settings of null": in_header(config=None),
    "config with a list of settings": in_header(config=[1, 2]),
    "config with a network of null": in_settings(network=None),
    "config with an unknown field": in_settings(speed=1),
    "config with a missing field": in_config(lambda content: content["config"].pop("epochs")),
    "config with epochs of a word": in_settings(epochs="many"),
    "config with epochs of null": in_settings(epochs=None),
    "config with epochs of a list": in_settings(epochs=[]),
    "config with epochs of true": in_settings(epochs=True),
    "config with a density of nan": in_settings(density=float("nan")),
    "config with a rate of infinity": in_settings(learning_rate=float("inf")),
    "config with weights unknown": in_settings(weights="worst"),
    "config with symmetries unknown": in_settings(symmetries=3),
    "config with precision unknown": in_settings(precision="float8"),
    "PSF even": in_header(psf_shape=[4, 4]),
    "PSF negative": in_header(psf_shape=[-1, -1]),
    "PSF of nothing": in_header(psf_shape=[]),
    "PSF of one side": in_header(psf_shape=[9]),
    "PSF of three sides": in_header(psf_shape=[9, 9, 9]),
    "PSF of floats": in_header(psf_shape=[9.0, 9.0]),
    "PSF of words": in_header(psf_shape=["9", "9"]),
    "PSF of true": in_header(psf_shape=[True, True]),
    "PSF a number": in_header(psf_shape=9),
    "PSF null": in_header(psf_shape=None),
    "PSF absurd": in_header(psf_shape=[2**40 + 1, 2**40 + 1]),
    "network of another width": in_network(filters=8),
    "network of another depth": in_network(depth=4),
    "network of another kind": in_network(skip="concat"),
    "network of depth 0": in_network(depth=0),
    "network of depth 99": in_network(depth=99),
    "network of depth 1e9": in_network(depth=10**9),
    "network of no filters": in_network(filters=0),
    "network of 1e9 filters": in_network(filters=10**9),
    "network of 1e9 filters, depth 8": lambda run: (
        in_settings(patch_size=128)(run),
        in_network(depth=8, filters=10**9)(run),
    ),
    "network of 1e30 filters": in_network(filters=10**30),
    "history missing": without("history.csv"),
    "history a folder": lambda run: (without("history.csv")(run), (run / "history.csv").mkdir()),
    "history empty": text("history.csv", ""),
    "history cut in a line": text("history.csv", ",".join(COLUMNS) + "\n1.0,1.0,1."),
    "history with text": rows(
        lambda lines: [lines[0], *(line.replace("1.0", "one") for line in lines[1:])]
    ),
    "history with numbers beyond float32": rows(
        lambda lines: [lines[0], *(line.replace("1.0", "1e308") for line in lines[1:])]
    ),
    "history with another count of columns": rows(
        lambda lines: [lines[0], *(line + ",1.0" for line in lines[1:])]
    ),
    "history with other columns": rows(lambda lines: ["a,b,c,d,e,f,g", *lines[1:]]),
    "history with a column missing": rows(lambda lines: [line.rsplit(",", 1)[0] for line in lines]),
    "history not UTF-8": text("history.csv", b"\xff\xfe\x00"),
    "history of zeros": text("history.csv", b"\0" * 100),
    "history without epochs": rows(lambda lines: lines[:1]),
    "history of one endless line": text("history.csv", "1," * 200_000),
    "arrays cut": each("*", half),
    "arrays flipped": each("*", flipped),
    "arrays missing": each("*", lambda content: None),
    "arrays of zeros": each("*", lambda content: bytes(len(content))),
    "data cut": each("d/*", half),
    "data flipped": each("d/*", flipped),
    "data missing": each("d/*", lambda content: None),
    "manifest cut": each("manifest.ocdbt", half),
    "manifest flipped": each("manifest.ocdbt", flipped),
    "manifest missing": each("manifest.ocdbt", lambda content: None),
    "metadata cut": each("_METADATA", half),
    "metadata missing": each("_METADATA", lambda content: None),
    "metadata empty": each("_METADATA", lambda content: b"{}"),
    "metadata a list": each("_METADATA", lambda content: b"[]"),
    "shapes missing": each(
        "process_0", lambda content: content.replace(b"write_shape", b"write_shapf")
    ),
}
MODELS = RUNS | {
    "PSF huge": in_header(psf_shape=[32767, 32767]),
    "PSF of another size": in_header(psf_shape=[7, 7]),
    "weights missing": without("weights"),
    "weights empty": lambda run: (without("weights")(run), (run / "weights").mkdir()),
    "weights a file": lambda run: (without("weights")(run), (run / "weights").write_text("")),
    "weights of the state": lambda run: (
        without("weights")(run),
        shutil.copytree("unfinished/epoch-00001", run / "weights"),
    ),
}
# Of these nothing can be read, so a training begins anew.
BEGUN_ANEW = ("arrays", "data", "manifest", "metadata", "shapes", "config missing")
STATES = {name: RUNS[name] for name in RUNS if not name.startswith(BEGUN_ANEW)} | {
    "notes missing": in_config(lambda content: content.pop("notes")),
    "notes of null": in_header(notes=None),
    "notes of a list": in_header(notes=[]),
    "state of a later epoch": lambda run: (run / "epoch-00001").rename(run / "epoch-00002"),
}
UNREADABLE_STATES = {name: RUNS[name] for name in RUNS if name.startswith(BEGUN_ANEW)} | {
    "state empty": lambda run: (without("epoch-*")(run), (run / "epoch-00001").mkdir()),
    "state of the model": lambda run: (
        without("epoch-*")(run),
        shutil.copytree("good/weights", run / "epoch-00001"),
    ),
}
ARRAYS = {
    "best of NaN": lambda denoiser: {
        "best": jax.tree.map(lambda leaf: leaf * jnp.nan, denoiser.best)
    },
    "best infinite": lambda denoiser: {
        "best": jax.tree.map(lambda leaf: leaf + jnp.inf, denoiser.best)
    },
    "PSF of NaN": lambda denoiser: {"psf": denoiser.psf * np.float32(np.nan)},
    "scale of NaN": lambda denoiser: {"scale": denoiser.scale._replace(mean=jnp.float32(np.nan))},
    "scale infinite": lambda denoiser: {"scale": denoiser.scale._replace(mean=jnp.float32(np.inf))},
    "scale of 0": lambda denoiser: {"scale": denoiser.scale._replace(std=jnp.float32(0))},
    "scale below 0": lambda denoiser: {"scale": denoiser.scale._replace(std=jnp.float32(-1))},
}


FAST = {  # one of each kind
    "config missing",
    "config not JSON",
    "config not UTF-8",
    "config of another version",
    "config with epochs of a word",
    "PSF absurd",
    "network of 1e9 filters",
    "history with other columns",
    "arrays cut",
    "arrays flipped",
    "weights missing",
    "notes missing",
    "best of NaN",
}


def parameters(table):
    """The damages with their names; all but the fast ones are marked ``robustness``."""
    return named(table, table.keys() - FAST)


@pytest.fixture
def copy(shell):
    """Copies a run folder, as "run"."""

    def make(name):
        return shutil.copytree(name, Path("run"))

    yield make
    shutil.rmtree("run", ignore_errors=True)


@pytest.mark.parametrize("damage", parameters(MODELS))
def test_damaged_models(shell, copy, damage):
    damage(copy("good"))
    refused(shell, ["denoise", "noisy.tif", "-o", "out", "--model", "run"])


@pytest.mark.parametrize("damage", parameters(STATES))
def test_damaged_states(shell, copy, damage):
    damage(copy("unfinished"))
    refused(shell, f"train noisy.tif -o run --resume {SMALL}".split())


@pytest.mark.robustness
@pytest.mark.parametrize("damage", UNREADABLE_STATES.values(), ids=UNREADABLE_STATES)
def test_states_of_which_nothing_can_be_read_are_begun_anew(shell, copy, damage):
    damage(copy("unfinished"))
    code, out, err, seconds = shell(f"train noisy.tif -o run --resume {SMALL}".split())
    assert (code, out) == (0, "")
    assert re.fullmatch(r"(jaxdenoise: warning: .+\n)+wrote run\n", err), err
    assert load("run").history["epoch"][-1] == 3
    assert seconds < SECONDS


@pytest.mark.parametrize("change", parameters(ARRAYS))
def test_models_of_wrong_numbers(shell, copy, make_denoiser, change):
    denoiser = a_denoiser(make_denoiser)
    save(copy("good"), a_denoiser(make_denoiser, **change(denoiser)), overwrite=True)
    refused(shell, ["denoise", "noisy.tif", "-o", "out", "--model", "run"])


COMPILED = ("correlated noise", "structure without noise", "a constant")
COMPILED += ("a window wider than the image",)
ACCEPTED = {  # code 0: with a warning that says so, or with none
    "several series": (
        "filter series.tif -o out --filter median --size 3",
        "1 of 2 image series were left out",
    ),
    "correlated noise": ("filter smooth.tif -o out", "the noise is correlated"),
    "structure without noise": ("filter checks.tif -o out", None),
    "a constant": ("filter constant.tif -o out", None),
    "a pixel": ("filter pixel.tif -o out --sigma 1", None),
    "a window wider than the image": ("filter noisy.tif -o out --filter median --size 3,99", None),
    "grey levels that are large": ("filter large.tif -o out --filter median --size 3", None),
    "a constant to evaluate": ("evaluate constant.tif --reference other_size.tif --json", None),
    "a run with other files in it": (
        "denoise noisy.tif -o out --model crowded --no-report --dtype float32",
        None,
    ),
    "a run without checksums": (
        "denoise noisy.tif -o out --model older --no-report --dtype float32",
        None,
    ),
    "a training that is complete": ("train noisy.tif -o good --resume", None),
}


@pytest.mark.parametrize("case", named(ACCEPTED, COMPILED))
def test_what_is_not_wrong(shell, case):
    words, warning = case
    before = tree()
    quiet = [] if words.startswith("evaluate") else ["--quiet"]
    code, _, err, seconds = shell([*words.split(), *quiet])
    after = tree()
    shutil.rmtree("out", ignore_errors=True)
    assert code == 0, err
    # What not to rely on is said in any case; the models here learned for a moment.
    err = re.sub(r"^verdict: .*\n", "", err, flags=re.MULTILINE)
    assert re.fullmatch(rf"jaxdenoise: warning: .*{warning}.*\n" if warning else "", err), err
    assert {
        path: content for path, content in after.items() if path.split("/")[1] != "out"
    } == before
    assert seconds < SECONDS
