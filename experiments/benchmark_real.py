"""Which method is best? Real images with known truth: FMD (stack and single protocol) and W2S (single protocol).

    python experiments/benchmark_real.py ../shared/data -o results.json --methods
    raw,gaussian,instant,best --seeds 3

Protocols: *FMD stack*: train on the captures of a type together, denoise each, clamp to [0, 255],
    PSNR with range 255, mean over the
captures. *FMD single*: the same with the first capture alone. *W2S single*: train on the one image;
its noisy and clean versions were contrast-stretched apart, so the PSNR is scale-invariant
(least-squares affine fit first), with the range of the clean image. The truth is used to measure,
and to choose the parameter of the rows that say "best".

Each result is kept in the JSON file as soon as it is there; a run that is started again goes on
where it stopped. The table is printed as Markdown, and drawn beside the JSON file. Standard errors
are over captures and seeds.
"""

import argparse
import dataclasses
import json
import time
from functools import partial
from pathlib import Path

import jax
import matplotlib
import numpy as np
from skimage.restoration import denoise_nl_means

import jaxdenoise as jd
from jaxdenoise.microscope.calibration import SIGMAS, calibrate, calibrate_gaussian
from jaxdenoise.microscope.noise_estimation import noise_level
from jaxdenoise.prediction import ensemble
from jaxdenoise.training.problem import estimate_background

SIZES = (3, 5, 7)  # of the windows of median and box that are tried
# for the stack protocol, where each capture is denoised with two others of the same scene
NEIGHBOURS = "best with neighbours"
SEARCH = {
    "patch_size": 5,
    "patch_distance": 6,
    "fast_mode": True,
}  # of non-local means, as scikit-image's gallery has it


def tasks(data):
    """(name, noisy (N, H, W), truth (H, W), protocol) of every experiment that the folder has images for."""
    for truth in sorted((data / "fmd" / "gt").glob("*.png")):
        captures = sorted((data / "fmd" / "raw").glob(f"{truth.stem}_*.png"))
        noisy = np.concatenate([jd.read(path).frames for path in captures])
        clean = jd.read(truth).frames[0]
        yield f"fmd-stack/{truth.stem}", noisy, clean, "fmd-stack"
        yield f"fmd-single/{truth.stem}", noisy[:1], clean, "fmd-single"
    for truth in sorted((data / "w2s" / "gt").glob("*.tif")):
        yield (
            f"w2s-single/{truth.stem}",
            jd.read(data / "w2s" / "noisy" / truth.name).frames,
            jd.read(truth).frames[0],
            "w2s-single",
        )


def qualities(images, truth, protocol):
    """PSNR by the protocol, scale-invariant PSNR and SSIM: dict of lists, one value an image."""
    low, high = (0, 255) if protocol.startswith("fmd") else (-np.inf, np.inf)
    data_range = 255.0 if protocol.startswith("fmd") else float(truth.max() - truth.min())
    images = np.clip(np.asarray(images, np.float32), low, high)
    scores = {"psnr": jd.psnr, "si_psnr": jd.si_psnr, "ssim": jd.ssim}
    return {
        name: [float(f(truth, image, data_range=data_range)) for image in images]
        for name, f in scores.items()
    }


def quality(images, truth, protocol):
    """Means of `qualities` over the images."""
    return {
        name: float(np.mean(values)) for name, values in qualities(images, truth, protocol).items()
    }


def criterion(protocol):
    """Which PSNR counts."""
    return "si_psnr" if protocol.startswith("w2s") else "psnr"


# --- methods: (noisy, truth, protocol, seed) to the denoised images, and what is told of them
# ---------------------------------------------


def gaussian(images, sigma):
    """Gaussian filter, image by image."""
    return np.asarray(jd.gaussian_filter(images, (sigma, sigma), mode="mirror"))


def median(images, size):
    """Median filter, image by image."""
    return np.stack([np.asarray(jd.median_filter(image, (size, size))) for image in images])


def box(images, size):
    """Box filter, image by image."""
    return np.stack([np.asarray(jd.box_filter(image, (size, size))) for image in images])


def found(filter, candidates, noisy, truth, protocol, seed):
    """A filter with the parameter that blind spots find."""
    chosen = (
        float(calibrate_gaussian(noisy).best)
        if filter is gaussian
        else calibrate(filter, noisy, list(candidates)).best
    )
    return filter(noisy, chosen), {"parameter": chosen}


def best(filter, candidates, noisy, truth, protocol, seed):
    """A filter with the parameter that the truth chooses."""
    chosen = max(
        candidates,
        key=lambda value: quality(filter(noisy, value), truth, protocol)[criterion(protocol)],
    )
    return filter(noisy, chosen), {"parameter": float(chosen)}


def block_matching(noisy, truth, protocol, seed, *, stabilised):
    """BM3D with the noise that is estimated from the image; with Poisson-Gaussian noise made uniform (Anscombe) or as it is."""
    import bm3d  # for research only, says its licence: not among the dependencies

    background = estimate_background(noisy)
    images = noisy.astype(np.float64) - background
    camera = jd.estimate_noise(images.astype(np.float32))
    gain, read = float(camera.gain), float(camera.read_std)
    if not stabilised or gain <= 0:
        std = float(np.sqrt(max(float(noise_level(images.astype(np.float32))[0]), 1e-6)))
        return np.stack([bm3d.bm3d(image, std) for image in images]) + background, {}
    shift = 3 / 8 * gain**2 + read**2
    uniform = 2 / gain * np.sqrt(np.maximum(gain * images + shift, 0))
    smooth = np.stack([bm3d.bm3d(image, 1.0) for image in uniform])
    return gain * (
        (smooth / 2) ** 2 - 1 / 8
    ) - read**2 / gain + background, {}  # the asymptotically unbiased inverse


def non_local_means(noisy, truth, protocol, seed):
    """scikit-image's non-local means with the noise that is estimated from the image."""
    std = float(np.sqrt(max(float(noise_level(noisy)[0]), 1e-6)))
    return np.stack(
        [denoise_nl_means(image, h=0.8 * std, sigma=std, **SEARCH) for image in noisy]
    ), {}


def network(noisy, truth, protocol, seed, *, config, psf=1.0):
    """A training from the noisy images."""
    denoiser = jd.fit(
        jax.random.key(seed),
        noisy,
        psf=jd.gaussian_psf(psf) if psf else np.ones((1, 1)),
        config=config,
    )
    return jd.denoise(denoiser, noisy).denoised, {
        "epoch": int(np.flatnonzero(denoiser.history["chosen"])[-1]) + 1
    }


def auto(noisy, truth, protocol, seed, *, config, chosen=None):
    """A training whose PSF is chosen from the noisy images, or with the sigma that the first seed chose."""
    from jaxdenoise.training.sweep import HALVING, SIGMAS

    if chosen is not None:
        return network(noisy, truth, protocol, seed, config=config, psf=chosen)[0], {
            "parameter": chosen
        }
    psfs = [jd.gaussian_psf(sigma) if sigma else np.ones((1, 1)) for sigma in SIGMAS]
    swept = jd.sweep(jax.random.key(seed), noisy, psfs=psfs, config=config, halving=HALVING)
    return jd.denoise(swept.denoiser, noisy).denoised, {"parameter": SIGMAS[swept.chosen]}


def together(noisy, truth, protocol, seed, *, config, count=3):
    """The mean of several trainings."""
    psf = jd.gaussian_psf(1.0)
    members = [
        jd.fit(jax.random.key(count * seed + k), noisy, psf=psf, config=config)
        for k in range(count)
    ]
    return ensemble.denoise_ensemble(members, noisy).denoised, {}


def instant(noisy, truth, protocol, seed):
    """The network that the package ships, as it is."""
    return jd.denoise(jd.instant(noisy), noisy).denoised, {}


def methods(config, psf):
    """Name to (function, whether it depends on the seed); `config` and the PSF's sigma are of the row "deconoising"."""
    fast, winner = jd.TrainConfig(), jd.TrainConfig.preset("best")
    near = dataclasses.replace(winner, network=dataclasses.replace(winner.network, neighbours=1))
    return {
        "raw": (lambda noisy, *_: (noisy, {}), False),
        "median 3": (lambda noisy, *_: (median(noisy, 3), {}), False),
        "box 3": (lambda noisy, *_: (box(noisy, 3), {}), False),
        "gaussian 1": (lambda noisy, *_: (gaussian(noisy, 1.0), {}), False),
        "median auto": (partial(found, median, SIZES), False),
        "box auto": (partial(found, box, SIZES), False),
        "gaussian auto": (partial(found, gaussian, SIGMAS), False),
        "median best": (partial(best, median, SIZES), False),
        "box best": (partial(best, box, SIZES), False),
        "gaussian best": (partial(best, gaussian, SIGMAS.tolist()), False),
        "non-local means": (non_local_means, False),
        "bm3d": (partial(block_matching, stabilised=False), False),
        "bm3d anscombe": (partial(block_matching, stabilised=True), False),
        "n2v": (partial(network, config=dataclasses.replace(fast, targets="own"), psf=0.0), True),
        "deconoising": (partial(network, config=config, psf=psf), True),
        "deconoising auto": (partial(auto, config=fast), True),
        "instant": (instant, False),
        "best random": (partial(network, config=dataclasses.replace(winner, init="random")), True),
        "best": (partial(auto, config=winner), True),
        "best with 3 members": (partial(together, config=winner), True),
        NEIGHBOURS: (partial(network, config=near), True),
    }


# --- the table
# ---------------------------------------------------------------------------------------------------------------------------


def summary(runs, key):
    """Mean and standard error over captures and seeds."""
    values = np.concatenate([run[key] for run in runs.values()])
    return float(values.mean()), float(
        values.std(ddof=1) / np.sqrt(values.size)
    ) if values.size > 1 else 0.0


def print_markdown(results, names):
    """One row an experiment: PSNR (scale-invariant for W2S) and its standard error / SSIM, parameter in brackets; then means, seconds."""
    print(f"| experiment | {' | '.join(names)} |")
    print("|---" * (len(names) + 1) + "|")
    for task, rows in results.items():
        print(f"| {task} | {' | '.join(cell(rows.get(name), criterion(task)) for name in names)} |")
    for protocol in dict.fromkeys(task.split("/")[0] for task in results):
        own = [rows for task, rows in results.items() if task.startswith(protocol)]
        for label, key in (("PSNR", criterion(protocol)), ("SSIM", "ssim"), ("seconds", "seconds")):
            shown = [
                [summary(rows[name], key)[0] for rows in own if name in rows] for name in names
            ]
            cells = [
                f"{np.mean(values):{'.3g' if key == 'seconds' else '.3f'}}"
                if len(values) == len(own)
                else "-"
                for values in shown
            ]
            print(f"| **{protocol}, mean {label}** | {' | '.join(cells)} |")


def cell(runs, key):
    """PSNR +- standard error / SSIM (parameter) of a method, or a dash."""
    if not runs:
        return "-"
    mean, error = summary(runs, key)
    told = dict.fromkeys(run["parameter"] for run in runs.values() if "parameter" in run)
    spread = f" \N{PLUS-MINUS SIGN} {error:.2f}" if error else ""
    return f"{mean:.2f}{spread} / {summary(runs, 'ssim')[0]:.3f}" + (
        f" ({', '.join(f'{value:.2g}' for value in told)})" if told else ""
    )


def draw(results, names, path):
    """How far each method is above the Gaussian filter whose sigma the truth chose, a dot an experiment."""
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 0.4 * len(names) + 1.2), layout="constrained")
    for place, name in enumerate(names):
        for task, rows in results.items():
            if name in rows and "gaussian best" in rows:
                gain = (
                    summary(rows[name], criterion(task))[0]
                    - summary(rows["gaussian best"], criterion(task))[0]
                )
                colour = {"fmd-stack": "C0", "fmd-single": "C1", "w2s-single": "C2"}[
                    task.split("/")[0]
                ]
                axes.plot(gain, place, "o", color=colour, alpha=0.7)
    axes.axvline(0, color="grey", linewidth=1)
    axes.set(
        yticks=range(len(names)),
        yticklabels=names,
        xlabel="dB above the best Gaussian filter (chosen with the truth)",
    )
    for number, protocol in enumerate(("fmd-stack", "fmd-single", "w2s-single")):
        axes.plot([], [], "o", color=f"C{number}", label=protocol)
    axes.invert_yaxis()
    axes.legend()
    figure.savefig(path, dpi=120)


def changes(args):
    """What tells the rows "deconoising" of several runs apart."""
    numbers = [
        f"{name}={value:g}"
        for name, value, usual in (("epochs", args.epochs, None), ("psf", args.psf, 1.0))
        if value != usual
    ]
    return [args.preset, *numbers, *args.set]


def main():
    """Parse, run what is not there yet, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder with fmd/{raw,gt} and w2s/{noisy,gt}")
    parser.add_argument("-o", "--output", type=Path, default=Path("benchmark_real.json"))
    parser.add_argument(
        "--methods",
        default="raw,gaussian 1,gaussian auto,gaussian best,deconoising",
        help="names with commas, or all",
    )
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument(
        "--only",
        default="",
        help="run the experiments whose names hold one of these texts, with commas",
    )
    parser.add_argument(
        "--preset", default="fast", choices=("fast", "best", "paper"), help="of the row deconoising"
    )
    parser.add_argument("--epochs", type=int, help="of the row deconoising")
    parser.add_argument(
        "--psf", type=float, default=1.0, help="sigma of its PSF in pixels, 0 for none"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="FIELD=JSON",
        help="a field of its TrainConfig, as batch_size=8 or network.depth=4",
    )
    args = parser.parse_args()
    config = jd.TrainConfig.preset(
        args.preset, **({"epochs": args.epochs} if args.epochs else {})
    ).to_dict()
    for setting in args.set:
        name, value = setting.split("=", 1)
        *place, field = name.split(".")
        (config[place[0]] if place else config)[field] = json.loads(value)
    known = methods(jd.TrainConfig.from_dict(config), args.psf)
    names = list(known) if args.methods == "all" else args.methods.split(",")
    results = json.loads(args.output.read_text()) if args.output.exists() else {}
    chosen = [
        task for task in tasks(args.data) if any(part in task[0] for part in args.only.split(","))
    ]
    for name in names:
        method, seeded = known[name]
        label = " ".join([name, *(changes(args) if name == "deconoising" else [])])
        for task, noisy, truth, protocol in chosen:
            if name == NEIGHBOURS and len(noisy) < 3:
                continue
            runs = results.setdefault(task, {}).setdefault(label, {})
            for seed in range(args.seeds if seeded else 1):
                if str(seed) in runs:
                    continue
                began = time.monotonic()
                again = (
                    {"chosen": runs["0"].get("parameter")}
                    if seed and getattr(method, "func", None) is auto
                    else {}
                )
                images, told = method(noisy, truth, protocol, seed, **again)
                seconds = [(time.monotonic() - began) / len(noisy)] * len(noisy)
                runs[str(seed)] = qualities(images, truth, protocol) | {"seconds": seconds} | told
                args.output.write_text(json.dumps(results, indent=1))
                print(
                    f"{task} {label} {seed}: {cell({'0': runs[str(seed)]}, criterion(protocol))}",
                    flush=True,
                )
    shown = list(dict.fromkeys(name for task in chosen for name in results[task[0]]))
    results = {task[0]: results[task[0]] for task in chosen}
    print_markdown(results, shown)
    draw(results, shown, args.output.with_suffix(".png"))


if __name__ == "__main__":
    main()
