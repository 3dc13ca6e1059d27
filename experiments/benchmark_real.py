"""DecoNoising on real images with known truth, beside the Gaussian filter: FMD (stack and single protocol) and W2S (single protocol).

    python experiments/benchmark_real.py ../shared/data -o results.json

Protocols: *FMD stack*: train on the captures of a type together, denoise each, clamp to [0, 255], PSNR with range 255, mean over the
captures. *FMD single*: the same with the first capture alone. *W2S single*: train on the one image; its noisy and clean versions were
contrast-stretched apart, so the PSNR is scale-invariant (least-squares affine fit first), with the range of the clean image.

Each result is kept in the JSON file as soon as it is there; a run that is started again goes on where it stopped.
"""

import argparse
import json
import time
from pathlib import Path

import cv2
import jax
import numpy as np

import jaxdenoise as jd

SIGMAS = np.arange(0.4, 4.01, 0.1)


def tasks(data):
    """(name, noisy (N, H, W), truth (H, W), protocol) of every experiment that the folder has images for."""
    for truth in sorted((data / "fmd" / "gt").glob("*.png")):
        captures = sorted((data / "fmd" / "raw").glob(f"{truth.stem}_*.png"))
        noisy = np.concatenate([jd.read(path).frames for path in captures])
        clean = jd.read(truth).frames[0]
        yield f"fmd-stack/{truth.stem}", noisy, clean, "fmd-stack"
        yield f"fmd-single/{truth.stem}", noisy[:1], clean, "fmd-single"
    for truth in sorted((data / "w2s" / "gt").glob("*.tif")):
        yield f"w2s-single/{truth.stem}", jd.read(data / "w2s" / "noisy" / truth.name).frames, jd.read(truth).frames[0], "w2s-single"


def quality(images, truth, protocol):
    """PSNR by the protocol, scale-invariant PSNR and SSIM, means over the images."""
    low, high = (0, 255) if protocol.startswith("fmd") else (-np.inf, np.inf)
    data_range = 255.0 if protocol.startswith("fmd") else float(truth.max() - truth.min())
    images = np.clip(images, low, high)
    scores = {"psnr": jd.psnr, "si_psnr": jd.si_psnr, "ssim": jd.ssim}
    return {name: float(np.mean([f(truth, image, data_range=data_range) for image in images])) for name, f in scores.items()}


def gaussian(images, sigma):
    """OpenCV's Gaussian filter, image by image."""
    return np.stack([cv2.GaussianBlur(image, (0, 0), sigma) for image in images])


def run(noisy, truth, protocol, *, psf_sigma, config, seed):
    """All rows of one experiment, and the network's seconds."""
    key = "si_psnr" if protocol.startswith("w2s") else "psnr"
    filtered = {float(sigma): quality(gaussian(noisy, sigma), truth, protocol) for sigma in SIGMAS}
    best = max(filtered, key=lambda sigma: filtered[sigma][key])
    began = time.monotonic()
    denoiser = jd.fit(jax.random.key(seed), noisy, psf=jd.gaussian_psf(psf_sigma), config=config)
    jax.block_until_ready(denoiser.last)
    trained = time.monotonic()
    result = jd.denoise(denoiser, noisy).denoised
    predicted = time.monotonic()
    return {
        "raw": quality(noisy, truth, protocol),
        "gaussian 1": quality(gaussian(noisy, 1.0), truth, protocol),
        "gaussian best": filtered[best] | {"sigma": round(best, 2)},
        "deconoising": quality(result, truth, protocol)
        | {"training_s": round(trained - began, 1), "prediction_s": round(predicted - trained, 1)}
        | {"best_epoch": int(np.flatnonzero(denoiser.history["chosen"])[-1]) + 1},
    }


def print_markdown(results):
    """One row an experiment; PSNR in dB (scale-invariant for W2S), SSIM behind the slash."""
    methods = ("raw", "gaussian 1", "gaussian best", "deconoising")
    print("| experiment | raw | Gaussian, sigma 1 | Gaussian, best sigma (chosen with the truth) | DecoNoising | training | prediction |")
    print("|---|---|---|---|---|---|---|")
    for label, rows in results.items():
        key = "si_psnr" if label.startswith("w2s") else "psnr"
        cells = [f"{rows[method][key]:.2f} / {rows[method]['ssim']:.3f}" for method in methods]
        cells[2] += f" ({rows['gaussian best']['sigma']:.1f})"
        network = rows["deconoising"]
        print(f"| {label} | {' | '.join(cells)} | {network['training_s']:.0f} s | {network['prediction_s']:.0f} s |")


def main():
    """Parse, run what is not there yet, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder with fmd/{raw,gt} and w2s/{noisy,gt}")
    parser.add_argument("-o", "--output", type=Path, default=Path("benchmark_real.json"))
    parser.add_argument("--only", default="", help="run the experiments whose names hold this text")
    parser.add_argument("--preset", default="fast", choices=("fast", "paper"))
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=JSON", help="a field of TrainConfig, such as batch_size=8")
    parser.add_argument("--psf", type=float, default=1.0, help="sigma in pixels")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    changes = dict(setting.split("=", 1) for setting in args.set)
    config = jd.TrainConfig.preset(args.preset, **({"epochs": args.epochs} if args.epochs else {}))
    config = jd.TrainConfig.from_dict({**config.to_dict(), **{name: json.loads(value) for name, value in changes.items()}})
    results = json.loads(args.output.read_text()) if args.output.exists() else {}
    for name, noisy, truth, protocol in tasks(args.data):
        label = f"{name} psf={args.psf:g} {args.preset} epochs={config.epochs} seed={args.seed}"
        label = " ".join([label, *args.set])
        if args.only in name and label not in results:
            results[label] = run(noisy, truth, protocol, psf_sigma=args.psf, config=config, seed=args.seed)
            args.output.write_text(json.dumps(results, indent=1))
    print_markdown(results)


if __name__ == "__main__":
    main()
