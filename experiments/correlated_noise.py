"""Count how often noise that neighbouring pixels share is found, and what the choice is worth.

    python experiments/correlated_noise.py --data DATA -o noise_sharing.json

Ten synthetic scenes at several contrasts, the ratio of their range to the noise's standard
deviation: with noise that neighbours share (white noise smoothed by 0.7 pixels; noise shared along
rows), where it has to be found; and with independent noise, or hardly any (resampled, oversampled,
deconvolved scenes, textures), where nothing may be done. Then every image of a folder. Five minutes
on two cores.

With ``--trainings`` it measures strides and hidden neighbours by training instead: eight frames of
the phantom (PSF sigma 1), their noise blurred by 0.7 pixels and scaled to 23 dB, and the wide-field
stack of FMD. The table has the PSNR in dB for each preset, stride (how far apart the pixels are
that the network sees as neighbours), number of pixels that a blind spot hides on each side, and
PSF. Beside it stand the automatic choice, the shipped network without a training, and the Gaussian
filter with the sigma that is best with the truth. A row takes a minute on two cores. The folder
keeps each measurement; what it holds already is not run again.
"""

import dataclasses
import itertools
import json
from pathlib import Path

import jax
import numpy as np
import scipy.ndimage
from common import arguments, scenes, store
from common.data import tasks
from common.quality import quality
from common.tables import Table

import jaxdenoise as jd
from jaxdenoise.config import PRETRAINED
from jaxdenoise.microscope.synthetic import static_scene
from jaxdenoise.network import pretrained
from jaxdenoise.network.denoiser import Scale
from jaxdenoise.network.exposure import estimate_background
from jaxdenoise.training.noise_sharing import decide

CONTRASTS = (1, 2, 4, 8, 16, 32)  # range of a scene over the noise's standard deviation
LEVELS = (2, 5, 10, 30, 100)  # the same, where the noise is independent
SIGMAS = (1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 4.0)  # of the Gaussian filter
WIDE_FIELD = "WideField_BPAE_B"
NOTE = """\
Found: a stride above 1, or hidden neighbours. Errors are those of the shipped network, in \
standard deviations of the noise, mean over the scenes; the largest loss is the ratio of the error \
of the choice to that of stride 1."""


def scaled(frames):
    """Return frames above their background, and their `Scale`."""
    frames = np.asarray(frames, np.float32)
    background = np.float32(estimate_background(frames))
    frames = frames - background
    return frames, Scale(background, frames.mean(), frames.std())


def choice(frames):
    """Return the `Sharing` of frames (N, H, W)."""
    frames, scale = scaled(frames)
    return decide(frames, scale=scale, network=PRETRAINED, blind="auto", patch_size=96)


def is_found(chosen):
    """Return whether anything is done against shared noise."""
    return chosen.stride > 1 or any(chosen.blind)


def error_at(noisy, clean, stride):
    """Return the shipped network's error against the clean image (240, 240), root mean square."""
    frames, scale = scaled(noisy[None, :240, :240])
    denoised = np.asarray(pretrained.denoised(frames, scale, stride=stride))[0] + scale.background
    return float(np.sqrt(np.mean((denoised - clean[:240, :240]) ** 2)))


def shared_cases(noise):
    """Yield (contrast, noisy, clean) of ten scenes, PSF sigma 1.0 to 2.8, noise of 1."""
    for contrast in CONTRASTS:
        for kind in range(scenes.KINDS):
            clean = contrast * scenes.scene(kind, 1 + 0.2 * kind)
            yield contrast, clean + noise(clean.shape, 100 * kind + contrast), clean


def smoothed(shape, seed):
    """Return white noise of standard deviation 1, smoothed by 0.7 pixels."""
    return scenes.white_noise(shape, seed, smoothing=0.7)


def independent_cases():
    """Yield (name, image) without shared noise, or with so little that detail counts more."""
    for kind in range(scenes.KINDS):
        sigma = 1.5 + kind / 6
        clean, seed = scenes.scene(kind, sigma), 1000 + kind
        draws = np.random.default_rng(seed)
        for level in LEVELS:
            yield "white noise", level * clean + scenes.white_noise(clean.shape, seed)
            yield "photon noise", draws.poisson(level**2 * (clean + 0.02)).astype(float)
        yield "no noise", 1000 * clean
        yield "hardly any noise", 1000 * clean + scenes.white_noise(clean.shape, seed)
        half = draws.poisson(1000 * scenes.scene(kind, sigma / 2 + 0.2, 128) + 50).astype(float)
        yield "resampled, linear", scipy.ndimage.zoom(half, 2, order=1)
        yield "resampled, cubic", scipy.ndimage.zoom(half, 2, order=3)
        photons = draws.poisson(2000 * scenes.scene(kind, 3.5) + 100).astype(float)
        yield "oversampled, smoothed", scenes.blurred(photons, 1.2)
        photons = draws.poisson(3000 * scenes.scene(kind, 2.0) + 100).astype(float)
        yield "deconvolved", deconvolved(photons, 2.0)
    for sigma in (0.6, 0.7, 0.8, 1.0, 1.5):
        for name, image in scenes.textures(sigma):
            yield f"texture of {name}", 1000 * scenes.blurred(image, sigma)
    for kind in range(scenes.KINDS):
        for size in (32, 64, 95):
            clean = 10 * scenes.scene(kind, 1.5, size)
            yield "below 96 pixels", clean + scenes.white_noise(clean.shape, kind)


def deconvolved(image, sigma):
    """Return an image deconvolved by Wiener's filter, without negative values."""
    frequency = 2 * np.pi * np.fft.fftfreq(len(image))
    passed = np.exp(-(sigma**2) * (frequency[:, None] ** 2 + frequency**2) / 2)
    found = np.fft.ifft2(np.fft.fft2(image) * passed / (passed**2 + 0.003)).real
    return np.maximum(found, 0)


def shared_table(title, noise):
    """Return how often shared noise is found, and the errors of the shipped network, a contrast."""
    columns = ["contrast", "found", "stride 1", "the choice", "better stride of 1 and 2"]
    columns += ["largest loss against stride 1"]
    table = Table(title, columns).start()
    rows = {contrast: [] for contrast in CONTRASTS}
    for contrast, noisy, clean in shared_cases(noise):
        chosen = choice(noisy[None])
        errors = {stride: error_at(noisy, clean, stride) for stride in {1, 2, chosen.stride}}
        rows[contrast].append(
            (is_found(chosen), errors[1], errors[chosen.stride], min(errors.values()))
        )
    for contrast, row in rows.items():
        found, usual, reached, best = np.array(row).T
        losses = reached / usual
        means = [f"{values.mean():.3f}" for values in (usual, reached, best)]
        table.add(f"{contrast}", f"{found.sum():.0f} of {len(row)}", *means, f"{losses.max():.2f}")
    return table


def independent_table():
    """Return how often something is done where nothing should be."""
    counts = {}
    for name, image in independent_cases():
        done, of = counts.get(name, (0, 0))
        counts[name] = done + is_found(choice(np.asarray(image)[None])), of + 1
    table = Table("Nothing to find", ["images", "something done"]).start()
    for name, (done, of) in counts.items():
        table.add(name, f"{done} of {of}")
    return table


def files_table(paths):
    """Return the choice for each image file; those that cannot be read are left out."""
    table = Table("Real images", ["file", "stride", "hidden", "why"]).start()
    for name, path in paths.items():
        try:
            frames = np.asarray(jd.read(path).frames, np.float32)
        except Exception as error:
            print(f"{name}: not read ({type(error).__name__})", flush=True)
            continue
        chosen = choice(frames.reshape(-1, *frames.shape[-2:]))
        table.add(name, f"{chosen.stride}", f"{chosen.blind[0]}, {chosen.blind[1]}", chosen.text)
    return table


def image_files(folder, extra):
    """Return {name: path} of all files below a folder, and of others."""
    found = {path.name: path for path in extra}
    if folder:
        files = (path for path in sorted(folder.rglob("*")) if path.is_file())
        found |= {str(path.relative_to(folder)): path for path in files}
    return found


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
    print(f"{name}: {choice(noisy).text}")
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
    parser = arguments.parser_of(__doc__, "noise_sharing.json")
    arguments.add_data(parser, "images", optional="without it, synthetic images only")
    parser.add_argument("--files", type=Path, nargs="+", default=[], help="more images")
    arguments.add_folder(parser, "correlated_noise", "the measurements of trainings")
    arguments.add_only(parser, "stacks")
    training = parser.add_argument_group("with --trainings")
    training.add_argument("--trainings", action="store_true", help="measure by training")
    training.add_argument("--presets", nargs="+", default=["fast", "best"])
    training.add_argument("--strides", type=int, nargs="+", default=[1, 2])
    training.add_argument(
        "--hidden", type=int, nargs="+", default=[1], help="hidden pixels on each side"
    )
    training.add_argument("--sigmas", type=float, nargs="+", default=[1.0], help="of the PSF")
    return parser


def trainings_table(args):
    """Run what is not there yet; return the table."""
    args.folder.mkdir(parents=True, exist_ok=True)
    kept = args.folder / "measurements.json"
    found = arguments.read_kept(kept)
    table = Table("PSNR by stride and hidden pixels", ["stack and method", "PSNR in dB"]).start()
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
    return table


def main(argv=None):
    """Measure, print and write the tables."""
    args = build_parser().parse_args(argv)
    if args.trainings:
        title, tables = "Noise that neighbours share, by training", [trainings_table(args)]
    else:
        title = "Whether noise that neighbours share is found"
        tables = [
            shared_table("White noise smoothed by 0.7 pixels: root mean square errors", smoothed),
            shared_table("Noise shared along rows: root mean square errors", scenes.row_noise),
            independent_table(),
            files_table(image_files(args.data, args.files)),
        ]
    store.write(args.output, group="pieces", title=title, tables=tables, note=NOTE)


if __name__ == "__main__":
    main()
