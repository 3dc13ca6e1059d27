"""DecoNoising on real images with known truth, beside the Gaussian filter: FMD (stack and single protocol) and W2S (single protocol).

The Gaussian filter appears three times: with sigma 1, with the sigma that `calibrate` finds without the truth, and with the best one,
chosen with the truth. `--filters-only` leaves the network out.

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

import jax
import numpy as np

import jaxdenoise as jd
from jaxdenoise.calibration import SIGMAS, calibrate_gaussian


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
    """Gaussian filter, image by image."""
    return np.asarray(jd.gaussian_filter(images, (sigma, sigma), mode="mirror"))


def filters(noisy, truth, protocol):
    """The rows that need no training."""
    key = "si_psnr" if protocol.startswith("w2s") else "psnr"
    filtered = {float(sigma): quality(gaussian(noisy, float(sigma)), truth, protocol) for sigma in SIGMAS}
    best = max(filtered, key=lambda sigma: filtered[sigma][key])
    found = calibrate_gaussian(noisy)
    return {
        "raw": quality(noisy, truth, protocol),
        "gaussian 1": quality(gaussian(noisy, 1.0), truth, protocol),
        "gaussian auto": filtered[float(found.best)]
        | {"sigma": round(float(found.best), 2), "noise_correlation": round(float(found.correlation), 3)},
        "gaussian best": filtered[best] | {"sigma": round(best, 2)},
    }


def network(noisy, truth, protocol, *, psf_sigma, config, seed):
    """The row of DecoNoising, with its seconds."""
    began = time.monotonic()
    denoiser = jd.fit(jax.random.key(seed), noisy, psf=jd.gaussian_psf(psf_sigma), config=config)
    jax.block_until_ready(denoiser.last)
    trained = time.monotonic()
    result = jd.denoise(denoiser, noisy).denoised
    seconds = {"training_s": round(trained - began, 1), "prediction_s": round(time.monotonic() - trained, 1)}
    return quality(result, truth, protocol) | seconds | {"best_epoch": int(np.flatnonzero(denoiser.history["chosen"])[-1]) + 1}


def print_markdown(results):
    """One row an experiment; PSNR in dB (scale-invariant for W2S) / SSIM, sigma in brackets."""
    columns = {
        "raw": "raw",
        "gaussian 1": "Gaussian, sigma 1",
        "gaussian auto": "Gaussian, auto",
        "gaussian best": "Gaussian, best sigma (chosen with the truth)",
        "deconoising": "DecoNoising",
    }
    print(f"| experiment | {' | '.join(columns.values())} | training | prediction | noise's lag-1 correlation |")
    print("|---" * (len(columns) + 4) + "|")
    for label, rows in results.items():
        cells = [cell(rows.get(method), "si_psnr" if label.startswith("w2s") else "psnr") for method in columns]
        seconds = rows.get("deconoising", {})
        cells += [f"{seconds[name]:.0f} s" if name in seconds else "-" for name in ("training_s", "prediction_s")]
        print(f"| {label} | {' | '.join(cells)} | {rows['gaussian auto']['noise_correlation']:.2f} |")


def cell(row, key):
    """PSNR / SSIM (sigma) of a row, or a dash."""
    if row is None:
        return "-"
    return f"{row[key]:.2f} / {row['ssim']:.3f}" + (f" ({row['sigma']:.2f})" if "sigma" in row else "")


def main():
    """Parse, run what is not there yet, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder with fmd/{raw,gt} and w2s/{noisy,gt}")
    parser.add_argument("-o", "--output", type=Path, default=Path("benchmark_real.json"))
    parser.add_argument("--only", default="", help="run the experiments whose names hold this text")
    parser.add_argument("--filters-only", action="store_true", help="no training")
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
        label = f"{name} filters" if args.filters_only else " ".join([label, *args.set])
        if args.only not in name or label in results:
            continue
        results[label] = filters(noisy, truth, protocol)
        if not args.filters_only:
            results[label]["deconoising"] = network(noisy, truth, protocol, psf_sigma=args.psf, config=config, seed=args.seed)
        args.output.write_text(json.dumps(results, indent=1))
    print_markdown(results)


if __name__ == "__main__":
    main()
