"""Compare what this version computes with what an earlier commit computed, bit for bit.

    python tests/same_bits.py ../shared/data            # against the last commit
    python tests/same_bits.py ../shared/data --commit 2e57503

Between version 0.1.0 (282c0ea) and 2e57503, which moved all modules, nothing differed; since then
results hold light that is added back, and much is decided in other ways (docs/changelog.md).

Both versions run the same commands and the same calls, one after the other, on the same machine:
the demonstration, predictions without a training on three images, a training of two epochs and one
that is interrupted and resumed, a sweep of two PSFs, and every classical filter. The first
argument is a folder of images as ``FMD`` and ``W2S`` give them; without it, synthetic ones serve.
Takes about ten minutes on two cores. The exit code is 1 if anything differs.

Each version makes the demonstration twice. A result that the earlier version does not repeat itself
is called unsteady, with the largest difference, and does not count. That is the denoised stack of
the demonstration, in the last bits of its blur.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import tifffile

ROOT = Path(__file__).resolve().parents[1]
COMMIT = "HEAD"
IMAGES = ("fmd/raw/Confocal_MICE_1.png", "fmd/raw/WideField_BPAE_B_1.png", "w2s/noisy/*_0.tif")
SMALL = ["--epochs", "2", "--filters", "8", "--batch-size", "2"]
FILTERS = """
import sys
import jax, jaxdenoise as jd, numpy as np
rng = np.random.default_rng(0)
found = {}
for dtype in ("uint8", "uint16", "float32"):
    image = (rng.poisson(40, (5, 61, 70)) * (1.7 if dtype == "float32" else 2)).astype(dtype)
    for mode in ("reflect", "mirror", "nearest", "wrap", "constant"):
        for size in (3, 5, 9):
            window = (size, size)
            found[f"median {dtype} {mode} {size}"] = jd.median_filter(image, window, mode=mode)
            found[f"box {dtype} {mode} {size}"] = jd.box_filter(image, window, mode=mode)
            found[f"wiener {dtype} {mode} {size}"] = jd.wiener_filter(image, window, mode=mode)
        found[f"box3d {dtype} {mode}"] = jd.box3d_filter(image, 3, mode=mode)
        found[f"gaussian {dtype} {mode}"] = jd.gaussian_filter(image, (1.3, 0.8), mode=mode)
    found[f"gaussian of OpenCV {dtype}"] = jd.gaussian_filter(image, size=(5, 5))
key = jax.random.key(3)
found["gaussian noise"] = jd.gaussian_noise(key, image, 5.0)
found["Poisson noise"] = jd.poisson_gaussian_noise(key, image, gain=2.0, read_std=1.5, offset=3.0)
found["PSF"] = jd.gaussian_psf(1.2)
found["convolved"] = jd.convolve(image[0], jd.gaussian_psf(1.2))
found["noise"] = np.array(jd.estimate_noise(image)[:2])
found["level"] = np.array(jd.noise_level(image))
np.savez(sys.argv[1], **{name: np.asarray(value) for name, value in found.items()})
"""
WEIGHTS = """
import sys
import jax, jaxdenoise as jd, numpy as np
model = jd.load(sys.argv[1])
leaves = jax.tree.leaves((model.best, model.averaged, model.last, model.psf, tuple(model.scale)))
np.savez(sys.argv[2], *[np.asarray(leaf) for leaf in leaves])
"""


def main():
    """Run both versions and compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", nargs="?", type=Path, help="folder with real images")
    parser.add_argument(
        "--commit", default=COMMIT, help="what to compare with (default: %(default)s)"
    )
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        inputs = _inputs(args.data, folder)
        old = folder / "old"
        subprocess.run(["git", "clone", "-q", "--shared", "-n", str(ROOT), str(old)], check=True)
        subprocess.run(["git", "checkout", "-q", args.commit], cwd=old, check=True)
        results = {}
        for name, code in (("then", old), ("now", ROOT)):
            results[name] = folder / name
            results[name].mkdir()
            _run_all(code, inputs, results[name])
        return _compare(results["then"], results["now"])


def _inputs(data, folder):
    """Three images, and a small stack to train on."""
    rng = np.random.default_rng(1)
    stack = rng.poisson(50 + 30 * np.sin(np.arange(96) / 5), (4, 96, 96)).astype(np.uint16)
    tifffile.imwrite(folder / "stack.tif", stack, imagej=True, metadata={"axes": "TYX"})
    if data is None:
        return [folder / "stack.tif"], folder / "stack.tif"
    return [sorted(data.glob(pattern))[0].resolve() for pattern in IMAGES], folder / "stack.tif"


def _run_all(code, inputs, target):
    images, stack = inputs
    environment = os.environ | {"PYTHONPATH": str(code), "XDG_CACHE_HOME": str(target / "cache")}

    def python(*words):
        subprocess.run([sys.executable, *map(str, words)], check=True, env=environment, cwd=target)

    def command(*words):
        python("-m", "jaxdenoise", *words, "--quiet", "--no-report")

    command("demo", "-o", "demo")
    command("demo", "-o", "demo-again")
    for number, image in enumerate(images):
        command("denoise", image, "--instant", "-o", f"instant-{number}", "--dtype", "float32")
    command("train", stack, "-o", "train", *SMALL)
    words = ["-m", "jaxdenoise", "train", stack, "-o", "resumed", *SMALL, "--quiet", "--no-report"]
    _interrupt(words, environment, target)
    command("train", stack, "-o", "resumed", *SMALL, "--resume")
    command("sweep", stack, "-o", "sweep", "--psf", "0.5,1.0", *SMALL)
    for run in sorted(target.rglob("weights")):
        name = str(run.parent.relative_to(target)).replace(os.sep, "-")
        python("-c", WEIGHTS, run.parent, target / f"weights of {name}.npz")
    python("-c", FILTERS, target / "filters.npz")


def _interrupt(words, environment, target):
    """Begin a training and stop it by Ctrl-C after its first epoch was saved."""
    words = [sys.executable, *map(str, words), "--save-every", "0"]
    process = subprocess.Popen(words, env=environment, cwd=target, stderr=subprocess.PIPE)
    while process.poll() is None and not list((target / "resumed").glob("epoch-*")):
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    process.communicate()


def _compare(then, now):
    """Print a line for each result; 1 if any differs."""
    differing = 0
    names = {str(file.relative_to(then)) for file in _results(then)}
    if names != {str(file.relative_to(now)) for file in _results(now)}:
        print("the versions wrote different files")
        differing += 1
    for name in sorted(names):
        word = _judge(name, then, now)
        print(f"{word:10} {name}")
        differing += word == "DIFFERENT"
    print(f"{len(names)} results, {differing} different")
    return int(differing > 0)


def _judge(name, then, now):
    if (now / name).exists() and _equal(then / name, now / name):
        return "same"
    again = then / ("demo" if "again" in name else "demo-again") / Path(name).name
    if again.exists() and not _equal(then / name, again):
        largest = np.abs(tifffile.imread(then / name) - tifffile.imread(now / name)).max()
        return f"unsteady, by up to {largest:.1g} grey levels"
    return "DIFFERENT"


def _results(folder):
    kinds = (".tif", ".npz", ".csv")
    files = (file for file in folder.rglob("*") if file.suffix in kinds)
    return [file for file in files if "cache" not in file.relative_to(folder).parts[:1]]


def _equal(one, other):
    if one.suffix == ".csv":
        return one.read_text() == other.read_text()
    if one.suffix == ".tif":
        return np.array_equal(tifffile.imread(one), tifffile.imread(other), equal_nan=True)
    with np.load(one) as first, np.load(other) as second:
        return first.files == second.files and all(
            first[name].dtype == second[name].dtype
            and np.array_equal(first[name], second[name], equal_nan=True)
            for name in first.files
        )


if __name__ == "__main__":
    sys.exit(main())
