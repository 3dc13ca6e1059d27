"""Bad values of axes, PSFs, optics and flags of a training."""

import pytest
from command_shell import refused, spread

AXES_VERBS = {
    "denoise": "denoise noisy.tif -o out --axes={}",
    "train": "train noisy.tif -o out --axes={}",
    "sweep": "sweep noisy.tif -o out --axes={}",
    "psf": "psf noisy.tif -o out.tif --axes={}",
    "filter": "filter noisy.tif -o out --axes={}",
    "evaluate": "evaluate noisy.tif --reference truth.tif --axes={}",
    "info": "info noisy.tif --axes={}",
}
AXES = {
    "of another length": "YX",
    "without Y": "TZX",
    "twice": "YYX",
    "unknown": "QYX",
}
TRAINERS = {
    "denoise": "denoise noisy.tif -o out --{}",
    "train": "train noisy.tif -o out --{}",
    "sweep": "sweep noisy.tif -o out --{}",
}
PSFS = {
    "larger than the image": "psf=large_psf.tif",
    "of three frames": "psf=stack_psf.tif",
    "of zeros": "psf=zero_psf.tif",
    "below zero": "psf=negative_psf.tif",
    "of sigma -1": "psf=-1",
    "of sigma nan": "psf=nan",
    "of sigma inf": "psf=inf",
    "of sigma 50": "psf=50",
    "of sigma 1e6": "psf=1e6",
    "of sigma 1e300": "psf=1e300",
    "of a word": "psf=wide",
    "of nothing": "psf=",
}
TRAINING_FLAGS = (
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
OPTICS = "train noisy.tif -o out --na 1.2"
OTHERS = {
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
    "optics of pixels too small": f"{OPTICS} --emission 0.52 --pixel-size 1e-300",
    "optics of pixels below 0": f"{OPTICS} --emission 0.52 --pixel-size=-1",
    "optics of light without length": f"{OPTICS} --emission 0",
    "optics of excitation above emission": f"{OPTICS} --emission 0.5 --excitation 0.6",
    "optics of a pinhole of nan": f"{OPTICS} --emission 0.5 --excitation 0.4 --pinhole nan",
    "tile too small": "denoise noisy.tif -o out --tile-size 8 --epochs 1 --filters 2",
    "tile of nothing": "denoise noisy.tif -o out --tile-size 0",
    "dtype unknown": "denoise noisy.tif -o out --dtype float16",
    "sweep seeds 0": "sweep noisy.tif -o out --seeds 0",
    "sweep seeds 1e12": "sweep noisy.tif -o out --seeds 1000000000000",
}


@pytest.mark.parametrize("words", spread(AXES_VERBS, AXES))
def test_axes(shell, words):
    refused(shell, words.split())


@pytest.mark.parametrize("words", spread(TRAINERS, PSFS))
def test_psfs(shell, words):
    refused(shell, words.split())


@pytest.mark.parametrize("words", spread(TRAINERS, {flag: flag for flag in TRAINING_FLAGS}))
def test_flags_of_a_training(shell, words):
    refused(shell, words.split())


@pytest.mark.parametrize("words", OTHERS.values(), ids=OTHERS)
def test_optics_and_other_flags(shell, words):
    refused(shell, words.split())
