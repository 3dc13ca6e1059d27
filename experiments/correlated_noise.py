"""Noise that neighbours share: how many of them a blind spot should hide, and how far apart the pixels should be that the network sees.

    python experiments/correlated_noise.py --data ../shared/data -o correlated_noise.json

Synthetic: eight frames of the phantom (PSF sigma 1), its noise blurred by 0.7 pixels and scaled to
    23 dB. Real: FMD's wide-field stack.
PSNR in dB for each preset, stride, number of hidden pixels on each side and PSF; beside it what
"auto" measures, the shipped network without a training, and the Gaussian filter with the sigma that
is best with the truth. A minute each on two cores; what the output holds already is not run again.
"""

import argparse
import dataclasses
import itertools
import json
from pathlib import Path

import jax
import numpy as np
import scipy.ndimage
from benchmark_real import quality, tasks

import jaxdenoise as jd
from jaxdenoise.config import PRETRAINED
from jaxdenoise.microscope.correlation import correlated_reach, noise_autocorrelation, noise_stride
from jaxdenoise.microscope.synthetic import static_scene

SIGMAS = (1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 4.0)  # of the Gaussian filter


def synthetic():
    """(noisy, clean) stacks."""
    scene = static_scene(jax.random.key(5), frames=8)
    clean, noisy = np.asarray(scene.clean), np.asarray(scene.noisy)
    noise = scipy.ndimage.gaussian_filter(
        np.random.default_rng(0).normal(size=noisy.shape), (0, 0.7, 0.7)
    )
    return (clean + noise * np.std(noisy - clean) / noise.std()).astype(np.float32), clean


def synthetic_psnr(image, clean):
    """Mean over the frames in dB, against the range of the clean image."""
    return float(
        10 * np.log10(np.ptp(clean) ** 2 / np.mean((image - clean) ** 2, axis=(1, 2))).mean()
    )


def main():
    """Parse, run what is not there yet, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--data", type=Path, help="folder with fmd/{raw,gt}; without it the synthetic stack only"
    )
    parser.add_argument("-o", "--output", type=Path, default=Path("correlated_noise.json"))
    parser.add_argument("--presets", nargs="+", default=["fast", "best"])
    parser.add_argument("--strides", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--hidden", type=int, nargs="+", default=[1])
    parser.add_argument("--sigmas", type=float, nargs="+", default=[1.0], help="of the PSF")
    parser.add_argument("--only", default="", help="synthetic or WideField_BPAE_B")
    args = parser.parse_args()
    stacks = {"synthetic": (*synthetic(), synthetic_psnr)}
    for name, noisy, truth, _ in tasks(args.data) if args.data else ():
        if name == "fmd-stack/WideField_BPAE_B":
            stacks["WideField_BPAE_B"] = (
                noisy,
                truth,
                lambda image, truth: quality(image, truth, "fmd-stack")["psnr"],
            )
    found = json.loads(args.output.read_text()) if args.output.exists() else {}
    for name, (noisy, truth, psnr) in stacks.items():
        if args.only not in name:
            continue
        blurred = {
            sigma: psnr(scipy.ndimage.gaussian_filter(noisy, (0, sigma, sigma)), truth)
            for sigma in SIGMAS
        }
        best = max(blurred, key=blurred.get)
        print(
            f"{name}: autocorrelation along y and x {np.asarray(noise_autocorrelation(noisy)).round(2).tolist()}"
        )
        print(f"auto: stride {noise_stride(noisy)}, hides {correlated_reach(noisy)}")
        print(f"noisy {psnr(noisy, truth):.2f}, Gaussian {blurred[best]:.2f} (sigma {best:g})")
        for stride in args.strides:
            instant = jd.instant(
                noisy, config=jd.TrainConfig(network=dataclasses.replace(PRETRAINED, stride=stride))
            )
            print(
                f"| {name} instant stride={stride} | {psnr(jd.denoise(instant, noisy).denoised, truth):.2f} |",
                flush=True,
            )
        for preset, stride, hidden, sigma in itertools.product(
            args.presets, args.strides, args.hidden, args.sigmas
        ):
            label = f"{name} {preset} stride={stride} hidden={hidden} psf={sigma:g}"
            if label not in found:
                network = dataclasses.replace(PRETRAINED, stride=stride)
                config = jd.TrainConfig.preset(
                    preset, network=network, blind=(hidden, hidden), targets="own"
                )
                denoiser = jd.fit(
                    jax.random.key(0), noisy, psf=jd.gaussian_psf(sigma), config=config
                )
                found[label] = psnr(jd.denoise(denoiser, noisy).denoised, truth)
                args.output.write_text(json.dumps(found, indent=1))
            print(f"| {label} | {found[label]:.2f} |", flush=True)


if __name__ == "__main__":
    main()
