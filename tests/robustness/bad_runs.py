"""Run folders, and what may damage them."""

import json
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from jaxdenoise.cli import options
from jaxdenoise.cli.parser import parser
from jaxdenoise.io import images
from jaxdenoise.network.denoiser import Denoiser
from jaxdenoise.network.settings import settle
from jaxdenoise.runs.layout import write_config
from jaxdenoise.runs.models import save
from jaxdenoise.runs.states import save_snapshot
from jaxdenoise.training import fit
from jaxdenoise.workflows.psfs import psfs_of
from jaxdenoise.workflows.resuming import notes_of, pixels_digest

# Without the last three these would be measured on the images, which takes long to compile.
SMALL = (
    "--epochs 3 --filters 2 --patch-size 16 --batch-size 1 --symmetries 1 --no-report "
    "--targets own --blind 0 --stride 1"
)
COLUMNS = (
    "epoch",
    "learning_rate",
    "train_loss",
    "data_loss",
    "positivity_loss",
    "validation_loss",
    "chosen",
)


def a_denoiser(make_denoiser, **changes):
    denoiser = make_denoiser(depth=2, filters=12)
    history = {name: np.arange(1.0, 3.0) for name in COLUMNS}
    scale = jax.tree.map(jnp.asarray, denoiser.scale)
    return Denoiser(**{**vars(denoiser), "scale": scale, "history": history} | changes)


def make_runs(make_denoiser):
    """Make the run folders "good" and, after the first of three epochs, "unfinished"."""
    save("good", a_denoiser(make_denoiser))
    for name in ("crowded", "older"):
        shutil.copytree("good", name)
    for name in ("notes.txt", ".hidden", "weights/notes.txt", "weights/state/d/notes"):
        Path("crowded", name).write_text("mine")
    Path("older/weights/SHA256SUMS").unlink()
    words = f"train noisy.tif -o unfinished {SMALL}"
    request = options.read(parser().parse_args(words.split()), words).request
    config, stack = request.training.config(), images.read("noisy.tif").frames
    psf = psfs_of("1.0")["1.0"]
    write_config(
        "unfinished",
        config,
        psf_shape=psf.shape,
        notes=notes_of(request.training, request.inputs, pixels_digest(stack)),
    )
    snapshot = fit.start(jax.random.key(0), settle(config))
    row = dict.fromkeys(COLUMNS, 1.0)
    save_snapshot(
        "unfinished", snapshot._replace(lowest=jnp.ones_like(snapshot.lowest), history=(row,))
    )


def in_config(change):
    """A damage: the change of config.json's dict."""

    def damage(run):
        header = json.loads((run / "config.json").read_text())
        change(header)
        (run / "config.json").write_text(json.dumps(header))

    return damage


def text(name, content):
    return lambda run: (run / name).write_bytes(
        content if isinstance(content, bytes) else content.encode()
    )


def rows(change):
    """A damage: the change of the lines of history.csv."""
    return lambda run: (run / "history.csv").write_text(
        "\n".join(change((run / "history.csv").read_text().splitlines()))
    )


def each(pattern, change):
    """A damage: the change of the bytes of each file of the arrays that matches."""

    def damage(run):
        files = [
            file
            for folder in (*run.glob("weights"), *run.glob("epoch-*"))
            for file in folder.rglob(pattern)
            if file.is_file()
        ]
        assert files
        for file in files:
            content = change(bytearray(file.read_bytes()))
            file.unlink() if content is None else file.write_bytes(content)

    return damage


def flipped(content):
    if content:
        content[len(content) // 2] ^= 16
    return content


def half(content):
    return content[: len(content) // 2]


def without(name):
    return lambda run: [
        shutil.rmtree(path) if path.is_dir() else path.unlink() for path in run.glob(name)
    ]


def in_network(**sizes):
    return in_config(lambda header: header["config"]["network"].update(sizes))


def in_settings(**values):
    return in_config(lambda header: header["config"].update(values))


def in_header(**values):
    return in_config(lambda content: content.update(values))
