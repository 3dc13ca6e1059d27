"""Measure strides and hidden neighbours against noise that neighbouring pixels share.

    python experiments/correlated_noise.py --data DATA -o correlated_noise.json

Synthetic: eight frames of the phantom (PSF sigma 1), their noise blurred by 0.7 pixels and scaled
to 23 dB. Real: the wide-field stack of FMD.

The table has the PSNR in dB for each preset, stride (how far apart the pixels are that the network
sees as neighbours), number of pixels that a blind spot hides on each side, and PSF. Beside it stand
what "auto" measures, the shipped network without a training, and the Gaussian filter with the sigma
that is best with the truth. A row takes a minute on two cores. The folder keeps each measurement;
what it holds already is not run again.
"""

import dataclasses
import itertools
import json

import jax
import numpy as np
import scipy.ndimage
from common import arguments, store
from common.data import tasks
from common.quality import quality
from common.tables import Table

import jaxdenoise as jd
from jaxdenoise.config import PRETRAINED
from jaxdenoise.microscope.correlation import correlated_reach, noise_autocorrelation, noise_stride
from jaxdenoise.microscope.synthetic import static_scene

SIGMAS = (1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 4.0)  # of the Gaussian filter
WIDE_FIELD = "WideField_BPAE_B"


def synthetic():
    """Return the noisy and the clean stack."""
    scene = static_scene(jax.random.key(5), frames=8)
    clean, noisy = np.asarray(scene.clean), np.asarray(scene.noisy)
    noise = scipy.ndimage.gaussian_filter(
        np.random.default_rng(0).normal(size=noisy.shape), (0, 0.7, 0.7)
    )
    return (clean + noise * np.std(noisy - clean) / noise.std()).astype(np.float32), clean


def synthetic_psnr(image, clean):
    """Return the mean PSNR of the frames in dB, against the range of the clean image."""
    return float(
        10 * np.log10(np.ptp(clean) ** 2 / np.mean((image - clean) ** 2, axis=(1, 2))).mean()
    )


def wide_field_psnr(image, truth):
    """Return the mean PSNR of the captures in dB by FMD's protocol."""
    return quality(image, truth, "fmd-stack")["psnr"]


def stacks(data):
    """Return {name: (noisy, truth, function for the PSNR)}."""
    found = {"synthetic": (*synthetic(), synthetic_psnr)}
    for name, noisy, truth, _ in tasks(data) if data else ():
        if name == f"fmd-stack/{WIDE_FIELD}":
            found[WIDE_FIELD] = noisy, truth, wide_field_psnr
    return found


def add_untrained(table, name, noisy, truth, psnr, strides):
    """Add what needs no training: noisy, Gaussian filter, shipped network; print what auto says."""
    correlation = np.asarray(noise_autocorrelation(noisy)).round(2).tolist()
    print(f"{name}: autocorrelation along y and x {correlation}")
    print(f"auto: stride {noise_stride(noisy)}, hides {correlated_reach(noisy)}")
    blurred = {
        sigma: psnr(scipy.ndimage.gaussian_filter(noisy, (0, sigma, sigma)), truth)
        for sigma in SIGMAS
    }
    best = max(blurred, key=blurred.get)
    table.add(f"{name} noisy", f"{psnr(noisy, truth):.2f}")
    table.add(f"{name} Gaussian, sigma {best:g}", f"{blurred[best]:.2f}")
    for stride in strides:
        network = dataclasses.replace(PRETRAINED, stride=stride)
        instant = jd.instant(noisy, config=jd.TrainConfig(network=network))
        denoised = jd.denoise(instant, noisy).denoised
        table.add(f"{name} instant stride={stride}", f"{psnr(denoised, truth):.2f}")


def trained_psnr(noisy, truth, psnr, *, preset, stride, hidden, sigma):
    """Return the PSNR of a training."""
    network = dataclasses.replace(PRETRAINED, stride=stride)
    config = jd.TrainConfig.preset(preset, network=network, blind=(hidden, hidden), targets="own")
    denoiser = jd.fit(jax.random.key(0), noisy, psf=jd.gaussian_psf(sigma), config=config)
    return psnr(jd.denoise(denoiser, noisy).denoised, truth)


def build_parser():
    """Return the parser of the command line."""
    parser = arguments.parser_of(__doc__, "correlated_noise.json")
    arguments.add_data(parser, "fmd/{raw,gt}", optional="without it, the synthetic stack only")
    arguments.add_folder(parser, "correlated_noise", "the measurements")
    arguments.add_only(parser, "stacks")
    parser.add_argument("--presets", nargs="+", default=["fast", "best"])
    parser.add_argument("--strides", type=int, nargs="+", default=[1, 2])
    parser.add_argument(
        "--hidden", type=int, nargs="+", default=[1], help="hidden pixels on each side"
    )
    parser.add_argument("--sigmas", type=float, nargs="+", default=[1.0], help="of the PSF")
    return parser


def main(argv=None):
    """Run what is not there yet, print and write the table."""
    args = build_parser().parse_args(argv)
    args.folder.mkdir(parents=True, exist_ok=True)
    kept = args.folder / "measurements.json"
    found = arguments.read_kept(kept)
    title = "Noise that neighbours share"
    table = Table(title, ["stack and method", "PSNR in dB"]).start()
    for name, (noisy, truth, psnr) in stacks(args.data).items():
        if not arguments.is_chosen(name, args.only):
            continue
        add_untrained(table, name, noisy, truth, psnr, args.strides)
        for preset, stride, hidden, sigma in itertools.product(
            args.presets, args.strides, args.hidden, args.sigmas
        ):
            label = f"{name} {preset} stride={stride} hidden={hidden} psf={sigma:g}"
            if label not in found:
                options = {"preset": preset, "stride": stride, "hidden": hidden, "sigma": sigma}
                found[label] = trained_psnr(noisy, truth, psnr, **options)
                kept.write_text(json.dumps(found, indent=1))
            table.add(label, f"{found[label]:.2f}")
    store.write(args.output, group="pieces", title=title, tables=[table])


if __name__ == "__main__":
    main()
