"""Wrong input of every kind to every verb: exit code 2, one line that says what is wrong, and nothing is written or changed.

The command lines run one after another in a child process with a limit of time and memory, whose
standard output and error are files: what libraries print past Python is seen, too, and a hang or a
crash fails one test.
"""

import faulthandler
import gc
import json
import os
import re
import resource
import shutil
import struct
import subprocess
import sys
import time
import warnings
from pathlib import Path

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tifffile

from jaxdenoise.cli.main import main
from jaxdenoise.cli import options
from jaxdenoise.cli.parser import parser
from jaxdenoise.io import images
from jaxdenoise.network.denoiser import Denoiser
from jaxdenoise.runs.layout import write_config
from jaxdenoise.runs.models import load, save
from jaxdenoise.runs.states import save_snapshot
from jaxdenoise.training import fit
from jaxdenoise.workflows.psfs import psfs_of
from jaxdenoise.workflows.resuming import notes_of

SECONDS = 60  # for one command line: a hang, not a slow machine
MEMORY = 16 * 2**30  # address space of the child, in bytes
SMALL = "--epochs 3 --filters 2 --patch-size 16 --batch-size 1 --symmetries 1 --no-report"
COLUMNS = (
    "epoch",
    "learning_rate",
    "train_loss",
    "data_loss",
    "positivity_loss",
    "validation_loss",
    "chosen",
)


# --- the child
# ---------------------------------------------------------------------------------------------------------------------------


class Shell:
    """Command lines in a child process that imports JAX once."""

    def __init__(self, folder):
        self.folder, self.process = folder, None

    def __call__(self, words):
        """Exit code, standard output, standard error, seconds."""
        if self.process is None or self.process.poll() is not None:
            self._start()
        self.process.stdin.write(json.dumps(words) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            said = (self.folder / "stderr").read_text(errors="replace")
            pytest.fail(
                f"jaxdenoise {' '.join(words)}: died with {self.process.wait()}: {said[-3000:]}"
            )
        return json.loads(answer)

    def close(self):
        if self.process is not None:
            self.process.stdin.close()
            self.process.wait()

    def _start(self):
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
        words = [sys.executable, __file__, str(self.folder)]
        self.process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True
        )


def child(folder):
    """Answer each line of words on standard input, in the current directory's subfolder "here"."""
    folder, answers = Path(folder), os.fdopen(os.dup(1), "w")
    said = [os.open(folder / name, os.O_RDWR | os.O_CREAT) for name in ("stdout", "stderr")]
    for number, file in enumerate(said, 1):
        os.dup2(file, number)
    jax.devices()
    os.chdir(folder / "here")
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    for line in sys.stdin:
        for file in said:
            os.ftruncate(file, 0)
            os.lseek(file, 0, os.SEEK_SET)
        began = time.monotonic()
        faulthandler.dump_traceback_later(SECONDS, exit=True)
        try:
            code = main(json.loads(line))
        except SystemExit as stop:
            code = stop.code
        except BaseException as error:
            code = repr(error)[:1000]
        if (
            "--model" in line or "--resume" in line
        ):  # orbax's complaints come when what they are about is collected
            gc.collect()
        faulthandler.cancel_dump_traceback_later()
        sys.stdout.flush()
        sys.stderr.flush()
        texts = [(folder / name).read_text(errors="replace") for name in ("stdout", "stderr")]
        print(json.dumps([code, *texts, time.monotonic() - began]), file=answers, flush=True)


# --- files
# -------------------------------------------------------------------------------------------------------------------------------


def write(name, data, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of zero-size arrays
        tifffile.imwrite(
            name, data, **({"photometric": "minisblack"} if data.ndim > 1 else {}), **options
        )


def make_files():
    """What the command lines name, in the current directory."""
    rng = np.random.default_rng(0)
    noise = rng.normal(100, 9, (64, 64)).astype(np.float32)
    y, x = np.mgrid[:64, :64]
    noisy = np.clip(
        1000 + 300 * np.sin(y[:48, :56] / 5) + rng.normal(0, 30, (3, 48, 56)), 0, 65535
    ).astype(np.uint16)
    write(
        "noisy.tif", noisy, imagej=True, resolution=(10, 10), metadata={"axes": "TYX", "unit": "um"}
    )
    write("second.tif", noisy[0, ::-1].copy())
    write("truth.tif", noisy.mean(axis=0).astype(np.float32))
    write(
        "beads.tif",
        100
        + sum(1000 * np.exp(-((y - a) ** 2 + (x - b) ** 2) / 8) for a in (16, 48) for b in (16, 48))
        + noise / 9,
    )
    # wrong as files
    whole = Path("noisy.tif").read_bytes()
    Path("empty.tif").write_bytes(b"")
    Path("empty.png").write_bytes(b"")
    Path("cut.tif").write_bytes(whole[: len(whole) // 2])
    Path("head.tif").write_bytes(whole[:8])
    Path("noisy.xyz").write_bytes(whole)
    Path("noisy").write_bytes(whole)
    for suffix in ("tif", "png", "jpg"):
        Path(f"text.{suffix}").write_text("not a picture\n" * 9)
    for codec in ("deflate", "lzw", "zstd"):
        write("whole.tif", noisy[0], compression=codec, rowsperstrip=48)
        with tifffile.TiffFile("whole.tif") as tif:
            start = tif.pages.first.dataoffsets[0]
        content = bytearray(Path("whole.tif").read_bytes())
        content[start : start + 40] = b"\xa5" * 40
        Path(f"{codec}.tif").write_bytes(content)
    Path("whole.tif").unlink()
    content = bytearray(whole)
    with tifffile.TiffFile("noisy.tif") as tif:
        place = tif.pages.next_page_offset
    content[place : place + 4] = struct.pack(">I", 8)
    Path("circle.tif").write_bytes(content)
    for suffix in ("png", "jpg"):
        content = cv2.imencode(f".{suffix}", noise.astype(np.uint8))[1].tobytes()
        Path(f"cut.{suffix}").write_bytes(content[: len(content) // 2])
    Path("damaged.png").write_bytes(
        cv2.imencode(".png", noise.astype(np.uint8))[1].tobytes().replace(b"IDAT", b"IDBT")
    )
    Path("folder.tif").mkdir()
    Path("unreadable.tif").write_bytes(whole)
    Path("unreadable.tif").chmod(0)
    Path("loop.tif").symlink_to("loop.tif")
    Path("dangling.tif").symlink_to("missing.tif")
    os.mkfifo("pipe.tif")
    # wrong as images
    for name in ("rgb.tif", "rgb.png", "rgb.jpg"):
        cv2.imwrite(name, rng.integers(0, 255, (64, 64, 3), np.uint8))
    write("complex.tif", noise.astype(np.complex64))
    write("bool.tif", noise > 100)
    write("nan.tif", np.where(noise > 110, np.nan, noise))
    write("inf.tif", np.where(noise > 110, np.inf, noise))
    write("huge.tif", noise.astype(np.float64) * 1e300)
    write("nothing.tif", np.zeros((0, 16, 16), np.uint8))
    write("line.tif", np.arange(9, dtype=np.uint8))
    # wrong for some purpose
    write("constant.tif", np.full((64, 64), 7, np.uint8))
    write("zero.tif", np.zeros((64, 64), np.uint16))
    write("tiny.tif", noise[:5, :5])
    write("tiny4.tif", noise[:4, :4])
    write("pixel.tif", noise[:1, :1])
    write("row.tif", noise[:1])
    write("other_size.tif", noise)
    write("large.tif", noise * 1e30)
    write("small.tif", noise * 1e-42)
    write("two.tif", noisy[:2])
    write("saturated.tif", np.full((64, 64), 65535, np.uint16))
    write("even_psf.tif", np.ones((4, 4), np.float32))
    write("large_psf.tif", np.ones((101, 101), np.float32))
    write(
        "checks.tif", (50 * ((x + y) % 2)).astype(np.uint8)
    )  # the estimate of its noise's variance is below 0
    write("smooth.tif", sum(np.roll(noise, shift, axis=1) for shift in range(3)))
    with tifffile.TiffWriter("series.tif") as tif:
        for data in (noisy[0], noisy[0, ::2]):
            tif.write(data, photometric="minisblack")
    write("stack_psf.tif", np.ones((3, 5, 5), np.float32))
    write("zero_psf.tif", np.zeros((5, 5), np.float32))
    write("negative_psf.tif", -np.ones((5, 5), np.float32))
    Path("folder").mkdir()
    Path("file").write_text("")
    Path("dangling").symlink_to("nowhere/out")
    Path("full").mkdir()
    for name in (
        "noisy_denoised.tif",
        "noisy_gaussian.tif",
        "noisy_report.html",
        "sweep.json",
        "report.html",
        "comparison.png",
    ):
        Path("full", name).write_bytes(b"precious")
    Path("full/.hidden").write_bytes(b"precious")
    Path("locked").mkdir()
    Path("locked").chmod(0o500)
    Path("run_of_another").mkdir()
    Path("run_of_another/config.json").write_text('{"format": 99}')


NOT_READABLE = {
    "missing": "missing.tif",
    "directory": "folder.tif",
    "directory without extension": "folder",
    "empty": "empty.tif",
    "empty PNG": "empty.png",
    "cut short": "cut.tif",
    "header only": "head.tif",
    "cut PNG": "cut.png",
    "cut JPEG": "cut.jpg",
    "unknown extension": "noisy.xyz",
    "no extension": "noisy",
    "text": "text.tif",
    "text named .png": "text.png",
    "text named .jpg": "text.jpg",
    "damaged deflate": "deflate.tif",
    "damaged LZW": "lzw.tif",
    "damaged zstd": "zstd.tif",
    "damaged PNG": "damaged.png",
    "pages in a circle": "circle.tif",
    "unreadable": "unreadable.tif",
    "link to itself": "loop.tif",
    "link to nothing": "dangling.tif",
    "pipe": "pipe.tif",
    "RGB": "rgb.tif",
    "RGB PNG": "rgb.png",
    "RGB JPEG": "rgb.jpg",
    "complex": "complex.tif",
    "bool": "bool.tif",
    "NaN": "nan.tif",
    "infinite": "inf.tif",
    "beyond float32": "huge.tif",
    "empty stack": "nothing.tif",
    "one-dimensional": "line.tif",
}
READERS = {
    "denoise": "denoise {} -o out",
    "denoise second": "denoise noisy.tif {} -o out",
    "denoise PSF": "denoise noisy.tif -o out --psf {}",
    "train": "train {} -o out",
    "sweep": "sweep {} -o out",
    "sweep reference": "sweep noisy.tif -o out --reference {}",
    "psf": "psf {} -o out.tif",
    "filter": "filter {} -o out",
    "evaluate": "evaluate {} --reference truth.tif",
    "evaluate reference": "evaluate noisy.tif --reference {}",
    "info": "info {}",
}
PIXELS = (
    "damaged deflate",
    "damaged LZW",
    "damaged zstd",
    "NaN",
    "infinite",
    "beyond float32",
)  # which `info` does not read
FILES = {
    f"{reader}: {what}": words.format(name)
    for what, name in NOT_READABLE.items()
    for reader, words in READERS.items()
    if reader != "info" or what not in PIXELS
}

WRONG = {
    "no verb": "",
    "unknown verb": "sharpen noisy.tif",
    # what is no file for this purpose
    "denoise a constant": "denoise constant.tif -o out",
    "denoise zeros": "denoise zero.tif -o out",
    "denoise grey levels too large": "denoise large.tif -o out",
    "denoise grey levels too large with a model": "denoise large.tif -o out --model good",
    "denoise grey levels too small": "denoise small.tif -o out",
    "denoise an image too small": "denoise tiny.tif -o out --psf none",
    "denoise a pixel": "denoise pixel.tif -o out --psf none",
    "denoise a row": "denoise row.tif -o out --psf none",
    "denoise unequal sizes": "denoise noisy.tif other_size.tif -o out",
    "denoise one name twice": "denoise noisy.tif folder/../noisy.tif -o out",
    "denoise a file into itself": "denoise full/noisy_denoised.tif -o full --overwrite",
    "train on a constant": "train constant.tif -o out",
    "train on grey levels too large": "train large.tif -o out",
    "train on a pixel": "train pixel.tif -o out --psf none",
    "train on unequal sizes": "train noisy.tif other_size.tif -o out",
    "sweep a constant": "sweep constant.tif -o out",
    "sweep a pixel": "sweep pixel.tif -o out",
    "sweep with a constant reference": "sweep noisy.tif -o out --reference constant.tif",
    "sweep with a reference of other size": "sweep noisy.tif -o out --reference other_size.tif",
    "sweep with a reference of other frames": "sweep noisy.tif -o out --reference two.tif",
    "psf of a constant": "psf constant.tif -o out.tif",
    "psf of zeros": "psf zero.tif -o out.tif",
    "psf of noise": "psf other_size.tif -o out.tif",
    "psf of a pixel": "psf pixel.tif -o out.tif",
    "psf of a row": "psf row.tif -o out.tif",
    "psf of saturated beads": "psf saturated.tif -o out.tif",
    "filter grey levels too large": "filter large.tif -o out",
    "filter grey levels too large with a box": "filter large.tif -o out --filter box",
    "filter a tiny image": "filter tiny4.tif -o out",
    "filter a pixel": "filter pixel.tif -o out",
    "filter a row": "filter row.tif -o out",
    "filter a volume without Z": "filter noisy.tif -o out --filter box3d",
    "evaluate other size": "evaluate noisy.tif --reference other_size.tif",
    "evaluate other frames": "evaluate noisy.tif --reference two.tif",
    "evaluate constant reference": "evaluate noisy.tif --reference constant.tif",
    "evaluate a pixel": "evaluate pixel.tif --reference pixel.tif",
    "evaluate a tiny image": "evaluate tiny4.tif --reference tiny4.tif",
    # axes
    **{
        f"{verb} with axes {what}": f"{verb} noisy.tif {rest} --axes={axes}"
        for verb, rest in {
            "denoise": "-o out",
            "train": "-o out",
            "sweep": "-o out",
            "psf": "-o out.tif",
            "filter": "-o out",
            "evaluate": "--reference truth.tif",
            "info": "",
        }.items()
        for what, axes in {
            "of another length": "YX",
            "without Y": "TZX",
            "twice": "YYX",
            "unknown": "QYX",
        }.items()
    },
    # PSFs
    **{
        f"{verb} with a PSF {what}": f"{verb} noisy.tif -o out --psf={psf}"
        for verb in ("denoise", "train", "sweep")
        for what, psf in {
            "even": "even_psf.tif",
            "larger than the image": "large_psf.tif",
            "of three frames": "stack_psf.tif",
            "of zeros": "zero_psf.tif",
            "below zero": "negative_psf.tif",
            "of sigma -1": "-1",
            "of sigma nan": "nan",
            "of sigma inf": "inf",
            "of sigma 50": "50",
            "of sigma 1e6": "1e6",
            "of sigma 1e300": "1e300",
            "of a word": "wide",
            "of nothing": "",
        }.items()
    },
    "denoise with two PSFs": "denoise noisy.tif -o out --psf 1,2",
    "sweep with a PSF twice": "sweep noisy.tif -o out --psf 1,0.5,1",
    "sweep with a word": "sweep noisy.tif -o out --psf 1,wide",
    "sweep with a PSF too wide": "sweep noisy.tif -o out --psf 1,50",
    "sweep with a comma": "sweep noisy.tif -o out --psf 1,",
    "optics without a wavelength": "denoise noisy.tif -o out --na 1.2",
    "optics in nanometres": "denoise noisy.tif -o out --na 1.2 --emission 520",
    "optics without a pixel size": "denoise second.tif -o out --na 1.2 --emission 0.52",
    "optics and a PSF": "denoise noisy.tif -o out --na 1.2 --emission 0.52 --psf 1",
    "optics of no lens": "denoise noisy.tif -o out --na 3 --emission 0.52",
    "optics of a tiny lens": "denoise noisy.tif -o out --na 1e-9 --emission 0.52",
    "optics of a word": "train noisy.tif -o out --na wide --emission 0.52",
    "optics of pixels too small": "train noisy.tif -o out --na 1.2 --emission 0.52 --pixel-size 1e-300",
    "optics of pixels below 0": "train noisy.tif -o out --na 1.2 --emission 0.52 --pixel-size=-1",
    "optics of light without length": "train noisy.tif -o out --na 1.2 --emission 0",
    "optics of excitation above emission": "train noisy.tif -o out --na 1.2 --emission 0.5 --excitation 0.6",
    "optics of a pinhole of nan": "train noisy.tif -o out --na 1.2 --emission 0.5 --excitation 0.4 --pinhole nan",
    # flags of a training
    **{
        f"{verb} with {flag}": f"{verb} noisy.tif -o out --{flag}"
        for verb in ("denoise", "train", "sweep")
        for flag in (
            "epochs=0",
            "epochs=many",
            "epochs=1.5",
            "epochs=1000000000000",
            "epochs=1" + "0" * 30,
            "epochs=2147483647",
            "patch-size=33",
            "patch-size=4",
            "batch-size=0",
            "batch-size=1000000000000",
            "batch-size=1000000000",
            "filters=0",
            "filters=1000000000",
            "filters=1" + "0" * 30,
            "seed=-1",
            "seed=4294967296",
            "background=dark",
            "background=inf",
            "background=1e39",
            "preset=slow",
            "precision=float8",
            "symmetries=3",
            "weights=worst",
            "blind=all",
            "blind=-1",
            "blind=1.5",
            "blind=1,2,3",
            "blind=17",
            "blind=1000000000",
            "blind=8 --patch-size 16",
            "sharp",
        )
    },
    "tile too small": "denoise noisy.tif -o out --tile-size 8 --epochs 1 --filters 2",
    "tile of nothing": "denoise noisy.tif -o out --tile-size 0",
    "dtype unknown": "denoise noisy.tif -o out --dtype float16",
    "sweep seeds 0": "sweep noisy.tif -o out --seeds 0",
    "sweep seeds 1e12": "sweep noisy.tif -o out --seeds 1000000000000",
    # outputs
    "denoise without output": "denoise noisy.tif",
    "denoise without input": "denoise -o out",
    "denoise over files": "denoise noisy.tif -o full",
    "denoise over a report": "denoise noisy.tif -o full --psf none",
    "denoise into a file": "denoise noisy.tif -o file",
    "denoise below a file": "denoise noisy.tif -o file/out",
    "denoise through a broken link": "denoise noisy.tif -o dangling",
    "denoise into a locked folder": "denoise noisy.tif -o locked/out",
    "denoise into a name too long": f"denoise noisy.tif -o {'x' * 300}",
    "denoise and keep the model in a file": "denoise noisy.tif -o out --save-model file",
    "denoise and keep the model below a file": "denoise noisy.tif -o out --save-model file/run",
    "denoise and keep the model over a run": "denoise noisy.tif -o out --save-model good",
    "instant with a model": "denoise noisy.tif -o out --instant --model good",
    "instant with a PSF": "denoise noisy.tif -o out --instant --psf 1.2",
    "instant with members": "denoise noisy.tif -o out --instant --members 2",
    "instant with neighbours": "denoise noisy.tif -o out --instant --neighbours 1",
    "more neighbours than frames": "denoise noisy.tif -o out --neighbours 3",
    "too many neighbours": "denoise noisy.tif -o out --neighbours 9",
    "neighbours of one image": "denoise single.tif -o out --neighbours 1",
    "neighbours along an axis that is not there": "denoise noisy.tif -o out --neighbours 1 --along Z",
    "neighbours along two axes": "denoise noisy.tif -o out --neighbours 1 --axes TYX --along C",
    "instant that is to be kept": "denoise noisy.tif -o out --instant --save-model new",
    "instant without noise": "denoise noisy.tif -o out --instant --noise 0",
    "noise without instant": "denoise noisy.tif -o out --noise 10",
    "a stride of none": "denoise noisy.tif -o out --stride 0",
    "a stride too wide": "denoise noisy.tif -o out --stride 5",
    "a stride that is no number": "train noisy.tif -o run --stride wide",
    "no members": "denoise noisy.tif -o out --members 0",
    "members that are no number": "train noisy.tif -o run --members some",
    "pretrained weights of another network": "train noisy.tif -o run --init pretrained --filters 8",
    "unknown weights to start from": "train noisy.tif -o run --init published",
    "denoise with two models": "denoise noisy.tif -o out --model good --save-model new",
    "denoise with a missing model": "denoise noisy.tif -o out --model nowhere",
    "denoise with a model that is a file": "denoise noisy.tif -o out --model file",
    "denoise with a model that is a folder": "denoise noisy.tif -o out --model folder",
    "denoise with a model of another version": "denoise noisy.tif -o out --model run_of_another",
    "denoise with an unfinished model": "denoise noisy.tif -o out --model unfinished",
    "denoise with a model whose PSF is too large": "denoise tiny4.tif -o out --model good",
    "train into a file": "train noisy.tif -o file",
    "train below a file": "train noisy.tif -o file/run",
    "train through a broken link": "train noisy.tif -o dangling",
    "train into a run": "train noisy.tif -o good",
    "train into a run of another version": "train noisy.tif -o run_of_another",
    "train without output": "train noisy.tif",
    "train beside a report": "train noisy.tif -o full",
    "resume another version": "train noisy.tif -o run_of_another --resume",
    "resume other settings": f"train noisy.tif -o unfinished --resume {SMALL} --epochs 4",
    "resume another seed": f"train noisy.tif -o unfinished --resume {SMALL} --seed 1",
    "resume another PSF": f"train noisy.tif -o unfinished --resume {SMALL} --psf 2",
    "resume other images": f"train second.tif -o unfinished --resume {SMALL}",
    "sweep over a table": "sweep noisy.tif -o full",
    "sweep into a file": "sweep noisy.tif -o file",
    "sweep below a file": "sweep noisy.tif -o file/out",
    "sweep without output": "sweep noisy.tif",
    "psf into an unknown format": "psf beads.tif -o out.jpg",
    "psf over a file": "psf beads.tif -o second.tif",
    "psf over a folder": "psf beads.tif -o folder --overwrite",
    "psf over a folder named .tif": "psf beads.tif -o folder.tif --overwrite",
    "psf below a file": "psf beads.tif -o file/psf.tif",
    "filter over a file": "filter noisy.tif -o full",
    "filter into a file": "filter noisy.tif -o file",
    "filter below a file": "filter noisy.tif -o file/out",
    "filter into a name too long": f"filter noisy.tif -o {'x' * 300}",
    "filter one name twice": "filter noisy.tif ./noisy.tif -o out",
    "demo into a file": "demo -o file",
    "demo below a file": "demo -o file/demo",
    "demo through a broken link": "demo -o dangling",
    "demo over files": "demo -o full",
    "demo into a locked folder": "demo -o locked/demo",
    # flags of the other verbs
    "demo with a seed below 0": "demo -o out --seed=-1",
    "demo with a seed too large": "demo -o out --seed 4294967296",
    "demo with an input": "demo noisy.tif",
    "demo with an unknown flag": "demo --fast",
    "psf with an even size": "psf beads.tif -o out.tif --size 8",
    "psf with a size of 1": "psf beads.tif -o out.tif --size 1",
    "psf with a size that is too large": "psf beads.tif -o out.tif --size 99999999999999999999",
    "psf with beads below 0": "psf beads.tif -o out.tif --bead-diameter=-1",
    "psf with beads larger than their image": "psf beads.tif -o out.tif --bead-diameter 1e9",
    "psf with everything saturated": "psf beads.tif -o out.tif --saturation 1",
    "psf with a saturation of nan": "psf beads.tif -o out.tif --saturation nan",
    "psf of two files": "psf beads.tif noisy.tif -o out.tif",
    "filter with an even size": "filter noisy.tif -o out --filter median --size 4",
    "filter with four sizes": "filter noisy.tif -o out --filter median --size 3,3,3,3",
    "filter with a size missing": "filter noisy.tif -o out --filter median --size 3,",
    "filter with a size below 0": "filter noisy.tif -o out --filter median --size=-3",
    "filter with a size that is no number": "filter noisy.tif -o out --filter box --size wide",
    "filter with a huge median": "filter noisy.tif -o out --filter median --size 1000001",
    "filter with a huge box": "filter noisy.tif -o out --filter box --size 100000000001",
    "filter with a huge box3d": "filter noisy.tif -o out --axes ZYX --filter box3d --size 100000000001",
    "filter with a huge Wiener window": "filter noisy.tif -o out --filter wiener --size 100000000001",
    "filter with a huge kernel": "filter noisy.tif -o out --size 100000000001",
    "filter with a negative sigma": "filter noisy.tif -o out --sigma=-1",
    "filter with a sigma of nan": "filter noisy.tif -o out --sigma nan",
    "filter with a sigma of inf": "filter noisy.tif -o out --sigma inf",
    "filter with a sigma of 1e10": "filter noisy.tif -o out --sigma 1e10",
    "filter with a sigma of 1e300": "filter noisy.tif -o out --sigma 1e300",
    "filter with four sigmas": "filter noisy.tif -o out --sigma 1,1,1,1",
    "filter with a sigma that it lacks": "filter noisy.tif -o out --filter box --sigma 1",
    "filter with both found and given": "filter noisy.tif -o out --sigma auto --size 5",
    "filter with a size to be found for the Gaussian": "filter noisy.tif -o out --size auto",
    "filter a plane with box3d": "filter noisy.tif -o out --axes ZYX --filter box3d --size 3,3",
    "filter unknown": "filter noisy.tif -o out --filter bilateral",
    "filter border unknown": "filter noisy.tif -o out --mode zero",
    "filter without input": "filter -o out",
    "filter without output": "filter noisy.tif",
    "evaluate without reference": "evaluate noisy.tif",
    "evaluate without images": "evaluate --reference truth.tif",
    "evaluate range 0": "evaluate noisy.tif --reference truth.tif --data-range 0",
    "evaluate range nan": "evaluate noisy.tif --reference truth.tif --data-range nan",
    "evaluate range a word": "evaluate noisy.tif --reference truth.tif --data-range wide",
    "info with an unknown flag": "info noisy.tif --all",
    "info with one missing of two": "info noisy.tif missing.tif",
}


# --- run folders
# -------------------------------------------------------------------------------------------------------------------------


def a_denoiser(make_denoiser, **changes):
    denoiser = make_denoiser(depth=2, filters=12)
    history = {name: np.arange(1.0, 3.0) for name in COLUMNS}
    scale = jax.tree.map(jnp.asarray, denoiser.scale)
    return Denoiser(**{**vars(denoiser), "scale": scale, "history": history} | changes)


def make_runs(make_denoiser):
    """The run folders "good", and "unfinished" after its first epoch of the command line in `UNFINISHED`."""
    save("good", a_denoiser(make_denoiser))
    for name in ("crowded", "older"):
        shutil.copytree("good", name)
    for name in ("notes.txt", ".hidden", "weights/notes.txt", "weights/state/d/notes"):
        Path("crowded", name).write_text("mine")
    Path("older/weights/SHA256SUMS").unlink()
    args = parser().parse_args(f"train noisy.tif -o unfinished {SMALL}".split())
    request = options.read(args, "").request
    config, stack = request.training.config(), images.read(request.inputs[0]).frames
    psf = psfs_of("1.0")["1.0"]
    write_config("unfinished", config, psf_shape=psf.shape, notes=notes_of(request.training, request.inputs, stack))
    snapshot = fit.start(jax.random.key(0), config)
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


NETWORK = lambda **sizes: in_config(lambda header: header["config"]["network"].update(sizes))  # noqa: E731
CONFIG = lambda **values: in_config(lambda header: header["config"].update(values))  # noqa: E731
HEADER = lambda **values: in_config(lambda header: header.update(values))  # noqa: E731

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
    "config of another version": HEADER(format=99),
    "config of a version that is a word": HEADER(format="new"),
    "config without a version": in_config(lambda header: header.pop("format")),
    "config without a PSF": in_config(lambda header: header.pop("psf_shape")),
    "config without settings": in_config(lambda header: header.pop("config")),
    "config with settings of null": HEADER(config=None),
    "config with a list of settings": HEADER(config=[1, 2]),
    "config with a network of null": CONFIG(network=None),
    "config with an unknown field": CONFIG(speed=1),
    "config with a missing field": in_config(lambda header: header["config"].pop("epochs")),
    "config with epochs of a word": CONFIG(epochs="many"),
    "config with epochs of null": CONFIG(epochs=None),
    "config with epochs of a list": CONFIG(epochs=[]),
    "config with epochs of true": CONFIG(epochs=True),
    "config with a density of nan": CONFIG(density=float("nan")),
    "config with a rate of infinity": CONFIG(learning_rate=float("inf")),
    "config with weights unknown": CONFIG(weights="worst"),
    "config with symmetries unknown": CONFIG(symmetries=3),
    "config with precision unknown": CONFIG(precision="float8"),
    "PSF even": HEADER(psf_shape=[4, 4]),
    "PSF negative": HEADER(psf_shape=[-1, -1]),
    "PSF of nothing": HEADER(psf_shape=[]),
    "PSF of one side": HEADER(psf_shape=[9]),
    "PSF of three sides": HEADER(psf_shape=[9, 9, 9]),
    "PSF of floats": HEADER(psf_shape=[9.0, 9.0]),
    "PSF of words": HEADER(psf_shape=["9", "9"]),
    "PSF of true": HEADER(psf_shape=[True, True]),
    "PSF a number": HEADER(psf_shape=9),
    "PSF null": HEADER(psf_shape=None),
    "PSF absurd": HEADER(psf_shape=[2**40 + 1, 2**40 + 1]),
    "network of another width": NETWORK(filters=8),
    "network of another depth": NETWORK(depth=4),
    "network of another kind": NETWORK(skip="concat"),
    "network of depth 0": NETWORK(depth=0),
    "network of depth 99": NETWORK(depth=99),
    "network of depth 1e9": NETWORK(depth=10**9),
    "network of no filters": NETWORK(filters=0),
    "network of 1e9 filters": NETWORK(filters=10**9),
    "network of 1e9 filters, depth 8": lambda run: (
        CONFIG(patch_size=128)(run),
        NETWORK(depth=8, filters=10**9)(run),
    ),
    "network of 1e30 filters": NETWORK(filters=10**30),
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
    "PSF huge": HEADER(psf_shape=[32767, 32767]),
    "PSF of another size": HEADER(psf_shape=[7, 7]),
    "weights missing": without("weights"),
    "weights empty": lambda run: (without("weights")(run), (run / "weights").mkdir()),
    "weights a file": lambda run: (without("weights")(run), (run / "weights").write_text("")),
    "weights of the state": lambda run: (
        without("weights")(run),
        shutil.copytree("unfinished/epoch-00001", run / "weights"),
    ),
}
BEGUN_ANEW = (
    "arrays",
    "data",
    "manifest",
    "metadata",
    "shapes",
    "config missing",
    "state empty",
    "state of the model",
)
STATES = RUNS | {
    "notes missing": in_config(lambda header: header.pop("notes")),
    "notes of null": HEADER(notes=None),
    "notes of a list": HEADER(notes=[]),
    "state empty": lambda run: (without("epoch-*")(run), (run / "epoch-00001").mkdir()),
    "state of a later epoch": lambda run: (run / "epoch-00001").rename(run / "epoch-00002"),
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
    "scale infinite": lambda denoiser: {
        "scale": denoiser.scale._replace(background=jnp.float32(np.inf))
    },
    "scale of 0": lambda denoiser: {"scale": denoiser.scale._replace(std=jnp.float32(0))},
    "scale below 0": lambda denoiser: {"scale": denoiser.scale._replace(std=jnp.float32(-1))},
}


# --- the tests
# ---------------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shell(tmp_path_factory, make_denoiser):
    """Runs command lines in a folder of good and bad files and run folders, the current directory."""
    folder = tmp_path_factory.mktemp("wrong")
    (folder / "here").mkdir()
    before = Path.cwd()
    os.chdir(folder / "here")
    make_files()
    make_runs(make_denoiser)
    shell = Shell(folder)
    yield shell
    shell.close()
    os.chdir(before)


def tree():
    """All there is in the current directory, and when each file was last changed, which no program can set."""
    found = {}
    for folder, folders, files in os.walk("."):
        found |= {
            os.path.join(folder, name): os.lstat(os.path.join(folder, name)).st_mode
            for name in folders
        }
        stats = {os.path.join(folder, name): os.lstat(os.path.join(folder, name)) for name in files}
        found |= {
            path: (stat.st_mode, stat.st_size, stat.st_ino, stat.st_ctime_ns)
            for path, stat in stats.items()
        }
    return found


def refused(shell, words):
    """The line that the command line says; it must be one, and nothing must change."""
    before = tree()
    try:
        code, out, err, seconds = shell(words)
    finally:
        after = tree()
        for path in sorted(
            map(Path, after.keys() - before.keys()), reverse=True
        ):  # for the tests that follow
            path.rmdir() if path.is_dir() else path.unlink()
    assert (code, out) == (2, ""), err
    assert re.fullmatch(r"jaxdenoise( \w+)?: error: .+\n", err), err
    assert len(err) < 600, err
    assert before == after, set(before.items()) ^ set(after.items())
    assert seconds < SECONDS
    return err


def skip_what_root_may(words):
    if ("unreadable" in words or "locked" in words) and os.geteuid() == 0:
        pytest.skip("no file is locked for root")


@pytest.mark.parametrize("words", FILES.values(), ids=FILES.keys())
def test_files_that_cannot_be_read(shell, words):
    skip_what_root_may(words)
    name = words.split()[-1] if words.endswith(tuple(NOT_READABLE.values())) else words.split()[-3]
    assert name in refused(shell, words.split())


@pytest.mark.parametrize("words", WRONG.values(), ids=WRONG.keys())
def test_wrong_input(shell, words):
    skip_what_root_may(words)
    refused(shell, words.split())


@pytest.fixture
def copy():
    """Copies a run folder, as "run"."""

    def make(name):
        return shutil.copytree(name, Path("run"))

    yield make
    shutil.rmtree("run", ignore_errors=True)


@pytest.mark.parametrize("damage", MODELS.values(), ids=MODELS.keys())
def test_damaged_models(shell, copy, damage):
    damage(copy("good"))
    refused(shell, ["denoise", "noisy.tif", "-o", "out", "--model", "run"])


@pytest.mark.parametrize("name", STATES)
def test_damaged_states(shell, copy, name):
    STATES[name](copy("unfinished"))
    words = f"train noisy.tif -o run --resume {SMALL}".split()
    if not name.startswith(BEGUN_ANEW):
        refused(shell, words)
        return
    code, out, err, seconds = shell(words)
    assert (code, out) == (0, "")
    assert re.fullmatch(r"(jaxdenoise: warning: .+\n)+wrote run\n", err), err
    assert load("run").history["epoch"][-1] == 3
    assert seconds < SECONDS


@pytest.mark.parametrize("change", ARRAYS.values(), ids=ARRAYS.keys())
def test_models_of_wrong_numbers(shell, copy, make_denoiser, change):
    denoiser = a_denoiser(make_denoiser)
    save(copy("good"), a_denoiser(make_denoiser, **change(denoiser)), overwrite=True)
    refused(shell, ["denoise", "noisy.tif", "-o", "out", "--model", "run"])


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


@pytest.mark.parametrize(("words", "warning"), ACCEPTED.values(), ids=ACCEPTED.keys())
def test_what_is_not_wrong(shell, words, warning):
    before = tree()
    quiet = [] if words.startswith("evaluate") else ["--quiet"]
    code, _, err, seconds = shell([*words.split(), *quiet])
    after = tree()
    shutil.rmtree("out", ignore_errors=True)
    assert code == 0, err
    assert re.fullmatch(rf"jaxdenoise: warning: .*{warning}.*\n" if warning else "", err), err
    assert {
        path: content for path, content in after.items() if path.split("/")[1] != "out"
    } == before
    assert seconds < SECONDS


if __name__ == "__main__":
    child(*sys.argv[1:])
