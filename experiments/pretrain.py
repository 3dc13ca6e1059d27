"""Train the network that the package ships on synthetic microscopy; no real image is used.

    python experiments/pretrain.py -o pretrained.npz --go-on --scenes 600 --steps 34000 --seed 1

continues where 40,000 steps on other scenes ended (an earlier version of this script, without
fibres and for a PSF of sigma 1). The file belongs at `jaxdenoise/network/pretrained.npz`.

Scenes of filaments, fibres, vesicles, nuclei, membranes and textures are blurred by Gaussian PSFs
of sigma 0.5 to 2.5 pixels and get Poisson-Gaussian noise of 0.5 to 100 photons a pixel. The network
sees a patch in units of its noise (`jaxdenoise.network.pretrained`), half of the patches with blind
spots, and learns the noise-free patch by the logarithm of its mean squared error. About an hour on
one core; the same seed gives the same weights on the same device and versions.
"""

import argparse
import time
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from scipy import ndimage

import jaxdenoise as jd
from jaxdenoise.config import PRETRAINED, TrainConfig
from jaxdenoise.imaging.symmetry import SYMMETRIES, apply_symmetry
from jaxdenoise.microscope.psf import convolve
from jaxdenoise.microscope.synthetic import phantom
from jaxdenoise.network import pretrained, unet
from jaxdenoise.network.settings import settle
from jaxdenoise.targets import blindspot, losses, patches
from jaxdenoise.training.step import apply_gradients, initial_state

SIDE = 256  # pixels of a scene
PATCH = 96
BATCH = 2
PSF_SIGMAS = 0.5, 2.5  # pixels
PHOTONS = 0.5, 100.0  # mean of a scene, without background
STEPS_A_CALL = 100


def filaments(rng):
    """Draw cells of filaments and spots, or of one of them."""
    lines, spots = [(28, 24), (40, 0), (0, 40), (8, 10)][rng.integers(4)]
    return np.asarray(
        phantom(
            jax.random.key(rng.integers(2**31)),
            (SIDE, SIDE),
            filaments_per_cell=lines,
            spots_per_cell=spots,
        )
    )


def fibres(rng):
    """Draw long parallel fibres like stress fibres, or short thick tubules like mitochondria."""
    short = rng.random() < 0.5
    count, points = (
        int(rng.lognormal(4.8, 0.8)),
        int(rng.uniform(*((20, 120) if short else (150, 800)))),
    )  # points are half a pixel apart
    field, start = texture(rng, 2.2), rng.uniform(-30, SIDE + 30, (count, 2))
    row, column = np.clip(start, 0, SIDE - 1).astype(int).T
    spread, bend = (rng.uniform(0.5, 3), 0.12) if short else (rng.uniform(0.1, 0.5), 0.015)
    heading = rng.uniform(0, np.pi) + 0.5 * field[row, column] + spread * rng.standard_normal(count)
    heading = heading[:, None] + np.cumsum(bend * rng.standard_normal((count, points)), axis=1)
    place = start[..., None] + np.cumsum(
        0.5 * np.stack([np.sin(heading), np.cos(heading)], axis=1), axis=2
    )
    canvas = splat(
        place[:, 0], place[:, 1], np.broadcast_to(rng.lognormal(0, 0.8, (count, 1)), heading.shape)
    )
    canvas = ndimage.gaussian_filter(
        canvas, rng.uniform(0.6, 2) if short else rng.uniform(0.2, 0.8)
    )
    return unit(canvas) * np.exp(rng.uniform(0, 1.2) * texture(rng, 2.2)) + rng.uniform(0, 0.3)


def splat(y, x, weight):
    """Draw points at sub-pixel places by bilinear weights."""
    canvas, top, left = np.zeros((SIDE, SIDE)), np.floor(y).astype(int), np.floor(x).astype(int)
    for down, right in ((0, 0), (0, 1), (1, 0), (1, 1)):
        part = weight * abs(1 - down - (y - top)) * abs(1 - right - (x - left))
        inside = (
            (top + down >= 0) & (top + down < SIDE) & (left + right >= 0) & (left + right < SIDE)
        )
        np.add.at(canvas, (top[inside] + down, left[inside] + right), part[inside])
    return canvas


def nuclei(rng):
    """Draw soft-edged ellipses with chromatin, some overlapping, a few dividing and bright.

    Their bodies are textured and hold bright or dark spots.
    """
    canvas, (y, x) = np.zeros((SIDE, SIDE)), np.mgrid[:SIDE, :SIDE]
    radius, spots = rng.uniform(8, 30), rng.choice([-0.7, 0, 2]) * rng.random()
    for _ in range(rng.integers(5, 3 + int(6000 / radius**2))):
        centre, angle = rng.uniform(0, SIDE, 2), rng.uniform(0, np.pi)
        long, short = radius * rng.uniform(0.7, 1.4), radius * rng.uniform(0.5, 1)
        down, right = y - centre[0], x - centre[1]
        along, across = (
            np.cos(angle) * down + np.sin(angle) * right,
            np.cos(angle) * right - np.sin(angle) * down,
        )
        inside = 1 / (
            1
            + np.exp(
                np.clip(
                    (np.hypot(along / long, across / short) - 1) * short / rng.uniform(0.4, 1.5),
                    -50,
                    50,
                )
            )
        )
        for _ in range(rng.integers(0, 6) if spots else 0):  # chromocentres or nucleoli
            spot_y, spot_x = centre + 0.5 * radius * rng.standard_normal(2)
            inside *= 1 + spots * np.exp(
                -((y - spot_y) ** 2 + (x - spot_x) ** 2)
                / (2 * (radius * rng.uniform(0.08, 0.2)) ** 2)
            )
        canvas += inside * rng.lognormal(0, 0.4)
    return canvas * np.exp(rng.uniform(0, 0.8) * texture(rng))


def membranes(rng):
    """Draw outlines of cells: the borders between the neighbourhoods of random points."""
    count = rng.integers(8, 120)
    points, (y, x) = rng.uniform(-20, SIDE + 20, (count, 2)), np.mgrid[:SIDE, :SIDE]
    distances = np.sort(np.hypot(y[..., None] - points[:, 0], x[..., None] - points[:, 1]), axis=-1)
    width, edge = rng.uniform(0.4, 2.0), distances[..., 1] - distances[..., 0]
    lines = np.exp(-((edge / (2 * width)) ** 2)) * np.exp(0.3 * texture(rng))
    return lines + rng.uniform(0, 0.3) * (1 - lines)


def vesicles(rng):
    """Draw discs, rings and points of a few pixels, sparse or crowded, bright and dim."""
    canvas, (y, x) = np.zeros((SIDE, SIDE)), np.mgrid[-9:10, -9:10]
    ring = rng.random() < 0.5
    for _ in range(int(rng.lognormal(5.3, 0.8))):
        row, column = rng.integers(0, SIDE + 18, 2)
        radius, shift = rng.uniform(0.3, 6) * rng.uniform(0.2, 1), rng.uniform(-0.5, 0.5, 2)
        distance = np.hypot(y - shift[0], x - shift[1])
        shape = (
            np.exp(-((distance - radius * ring) ** 2) / (2 * 0.5**2))
            if ring
            else 1 / (1 + np.exp((distance - radius) * 3))
        )
        top, left = row - 18, column - 18
        rows, columns = (slice(max(start, 0), min(start + 19, SIDE)) for start in (top, left))
        part = shape[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
        canvas[rows, columns] += part * rng.lognormal(0, 0.7)
    return canvas


def texture(rng, falls=None):
    """Draw clouds of mean 0 and standard deviation 1.

    Their amplitude falls with some power of the frequency: `falls`, or a random one.
    """
    frequency = np.hypot(np.fft.fftfreq(SIDE)[:, None], np.fft.rfftfreq(SIDE)) + 1 / SIDE
    spectrum = np.fft.rfft2(rng.standard_normal((SIDE, SIDE))) / frequency ** (
        falls or rng.uniform(0.8, 2.2)
    )
    clouds = np.fft.irfft2(spectrum, s=(SIDE, SIDE))
    return (clouds - clouds.mean()) / clouds.std()


def tissue(rng):
    """Draw clouds alone, which fill the whole image."""
    return np.exp(rng.uniform(0.2, 1.0) * texture(rng))


def scene(rng):
    """Draw a blurred scene (H, W) of one or two kinds and mean 1, with a background or without."""
    kinds = filaments, nuclei, membranes, vesicles, tissue, fibres, fibres
    image = sum(
        rng.uniform(0.2, 1) * unit(kinds[kind](rng))
        for kind in rng.integers(0, len(kinds), rng.integers(1, 3))
    )
    image = ndimage.gaussian_filter(image, rng.uniform(*PSF_SIGMAS), mode="mirror")
    return (unit(image) + rng.choice([0, 1]) * rng.lognormal(-1.5, 1)).astype(np.float32)


def unit(image):
    """Scale to mean 1."""
    return image / image.mean()


def noisy_patch(key, scenes):
    """Draw a clean and a noisy patch (P, P) and the mean of their scene.

    All are in units of the scene's noise, as `pretrained` scales them.
    """
    places, turns, levels, photons, reads = jax.random.split(key, 5)
    where = patches._random_place(places, scenes.shape, PATCH)
    chosen = jax.lax.dynamic_index_in_dim(scenes, where[0], keepdims=False)
    clean = apply_symmetry(
        patches._cut(scenes, where, PATCH), jax.random.randint(turns, (), 0, SYMMETRIES)
    )
    level, read, zero = jax.random.uniform(levels, (3,))
    level = PHOTONS[0] * (PHOTONS[1] / PHOTONS[0]) ** level
    read_std = jnp.where(zero < 0.5, 0.0, 3 * read**2 * jnp.sqrt(level))
    noise_std = jnp.sqrt(level * chosen.mean() + read_std**2)
    noisy = jax.random.poisson(photons, level * clean) + read_std * jax.random.normal(
        reads, clean.shape
    )
    return level * clean / noise_std, noisy / noise_std, level * chosen.mean() / noise_std


def loss(params, key, scenes, psf, config):
    """Return the mean logarithm of a batch's squared errors, in units of the noise variance."""

    def one(key):
        draw, spots, fill, blind = jax.random.split(key, 4)
        clean, noisy, mean = noisy_patch(draw, scenes)
        mask = blindspot.stratified_mask(spots, noisy.shape, box=6) & jax.random.bernoulli(blind)
        return clean, blindspot.replace_from_neighbourhood(fill, noisy, mask), mean

    clean, visible, mean = jax.vmap(one)(jax.random.split(key, BATCH))
    mean = mean[:, None, None]
    deconvolved = (
        pretrained.SCALE
        * unet.apply(
            params,
            (visible - mean) / pretrained.SCALE,
            config.network,
            precision=config.precision,
            platform=config.platform,
        )
        + mean
    )
    denoised = jax.vmap(convolve, (0, None))(deconvolved, psf)
    # The logarithm lets each patch count alike, as in a mean of PSNRs; without it only the
    # brightest would count.
    errors = losses.squared_error(denoised, clean).mean(axis=(1, 2))
    return jnp.log(errors + 1e-3).mean() + 0.05 * jnp.mean(losses.negativity(deconvolved))


@partial(jax.jit, static_argnames="config", donate_argnums=0)
def steps(state, key, scenes, psf, config):
    """Take `STEPS_A_CALL` steps; return the state and their losses."""

    def step(state, _):
        value, gradients = jax.value_and_grad(loss)(
            state.params, jax.random.fold_in(key, state.step), scenes, psf, config
        )
        return apply_gradients(state, gradients, 1.0, config), value

    return jax.lax.scan(step, state, length=STEPS_A_CALL)


def build_parser():
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, required=True, help="file of the weights")
    parser.add_argument("--scenes", type=int, default=500)
    parser.add_argument("--steps", type=int, default=40_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--go-on",
        action="store_true",
        help="start from the weights that the package ships, not from random ones",
    )
    return parser


def main(argv=None):
    """Draw the scenes, train, write the averaged weights now and then."""
    args = build_parser().parse_args(argv)
    rng, key = np.random.default_rng(args.seed), jax.random.key(args.seed)
    scenes = jnp.asarray(np.stack([scene(rng) for _ in range(args.scenes)]))
    request = TrainConfig(
        network=PRETRAINED,
        epochs=args.steps // STEPS_A_CALL,
        steps_per_epoch=STEPS_A_CALL,
        averaging=0.999,
    )
    config = settle(request)
    psf = jnp.asarray(jd.gaussian_psf(pretrained.PSF_SIGMA), jnp.float32)
    params = (
        jax.tree.map(jnp.asarray, pretrained.shipped())
        if args.go_on
        else unet.init(key, config.network)
    )
    state, began = initial_state(params), time.monotonic()
    for call in range(config.epochs):
        state, values = steps(state, key, scenes, psf, config)
        if call % 10 == 9 or call == config.epochs - 1:
            print(
                f"{state.step} steps, {time.monotonic() - began:.0f} s, loss {values.mean():.4f}",
                flush=True,
            )
            pretrained.write(args.output, state.averaged)


if __name__ == "__main__":
    main()
