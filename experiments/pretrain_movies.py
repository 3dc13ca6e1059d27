"""Train the network for movies that the package ships on synthetic scenes; no real image is used.

    python experiments/pretrain_movies.py -o pretrained_movies.npz --steps 20000

The file belongs at `jaxdenoise/network/pretrained_movies.npz`; `--go-on` starts from the one that
is there. What is shipped comes from 20,000 steps on 360 movies (learning rate 8e-4), 20,000 more on
720 with `--bias 0.93` (5e-4), and from the mean of both 14,000 with `--bias 0.9` (4e-4). On
simulated calcium movies of 10 dB (seeds 200 and 220, one symmetry) the three gave peaks of somata
of -25 and -22 %, -23 and -20 %, -24 and -22 %, and 30.2, 29.5 and 30.2 dB.

The movies of `common.moving_scenes` get Poisson-Gaussian noise of 0.5 to 100 photons a pixel twice,
in three of ten movies shared by neighbours along x or along both axes, and their guides
(`jaxdenoise.network.guides`). The network sees a patch, those of the frames before
and after, and the guide, in units of the noise, and corrects the guide. Short flashes are added to
half of the patches, in the frame or in those beside it, which must not show.

What is asked for is honesty first: of the squared error, the part that is the same with both noises
(the bias: transients that are too small or at the wrong time) counts more than the part that
differs (the noise that is left), ten times with `--bias 0.9`. The product of the errors with both
noises estimates the former. The squared error alone shrinks weak transients. 20,000 steps took
22 minutes on two cores that others used too, after five for 360 movies; 720 movies take 11 GB.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import scipy.ndimage
from common import pretraining
from common.moving_scenes import moving_scene

from jaxdenoise.config import PRETRAINED_MOVIES
from jaxdenoise.imaging.symmetry import SYMMETRIES, apply_symmetry
from jaxdenoise.microscope.psf import convolve
from jaxdenoise.network import pretrained, stacks, unet
from jaxdenoise.network.guides import guides
from jaxdenoise.network.settings import shape_of
from jaxdenoise.targets import blindspot

SIDE, PATCH, BATCH = 128, 96, 2  # pixels of a movie and of a patch; patches a step
LENGTHS, SHARES = (6, 12, 32, 64, 96), (0.1, 0.15, 0.25, 0.3, 0.2)  # frames, and how often
PHOTONS = 0.5, 100.0
FLASHES = 4  # a patch, at most
CORRELATED = 0.3  # share of the movies in which neighbours share their noise
LARGEST = 6e4  # float16 holds no more


def movie(seed):
    """Draw a movie: clean frames (T, H, W), and two of noisy ones and their guides.

    All are in units of the noise.
    """
    rng = np.random.default_rng((5, seed))
    frames = int(rng.choice(LENGTHS, p=SHARES))
    signal = moving_scene(rng, frames, SIDE)
    signal = signal / signal.mean() + rng.choice([0, 1]) * rng.lognormal(-1.5, 1)
    level = np.exp(rng.uniform(*np.log(PHOTONS)))
    read_std = 0 if rng.random() < 0.5 else 3 * rng.random() ** 2 * np.sqrt(level)
    unit = np.sqrt(level * signal.mean() + read_std**2)
    share, axes = rng.uniform(0, 0.4) * (rng.random() < CORRELATED), rng.choice([1, 2])
    kernel = np.array([share, 1, share]) / np.sqrt(1 + 2 * share**2)
    found = [level * signal / unit]
    for _ in range(2):
        noise = rng.poisson(level * signal) - level * signal
        noise += read_std * rng.standard_normal(signal.shape)
        for axis in range(axes):
            noise = scipy.ndimage.convolve1d(noise, kernel, axis=2 - axis, mode="wrap")
        noisy = level * signal + noise
        found += [noisy / unit, guides(jnp.asarray(noisy / unit, jnp.float32))]
    return [np.asarray(part, np.float16) for part in found]


def material(count, seed):
    """Return all frames of `count` movies, and for each frame the two beside it and its mean."""
    parts, beside, means, first = [], [], [], 0
    for number in range(seed * 10**6, seed * 10**6 + count):
        drawn = movie(number)
        if any(not np.isfinite(part).all() or abs(part).max() > LARGEST for part in drawn):
            continue
        frames = len(drawn[0])
        parts.append(drawn)
        beside.append(stacks.table(frames, frames, 1) + first)
        means.append(np.full(frames, drawn[1].mean(dtype=np.float32)))
        first += frames
    clean, *noisy = (jnp.asarray(np.concatenate(part)) for part in zip(*parts, strict=True))
    return clean, noisy, jnp.asarray(np.concatenate(beside)), jnp.asarray(np.concatenate(means))


def flashes(key):
    """Draw spots of one size that light up, in units of the noise: a patch, often an empty one."""
    places, size, heights, any_of, each = jax.random.split(key, 5)
    y, x = jnp.split(jax.random.uniform(places, (FLASHES, 2), maxval=PATCH), 2, axis=1)
    sigma = jnp.exp(jax.random.uniform(size, minval=jnp.log(0.7), maxval=jnp.log(5.0)))
    height = jnp.exp(
        jax.random.uniform(heights, (FLASHES,), minval=jnp.log(2.0), maxval=jnp.log(30.0))
    )
    height *= jax.random.bernoulli(each, 0.4, (FLASHES,)) * jax.random.bernoulli(any_of)
    pixels = jnp.arange(PATCH)
    rows, columns = (jnp.exp(-((pixels - at) ** 2) / (2 * sigma**2)) for at in (y, x))
    return jnp.einsum("n,ny,nx->yx", height / jnp.maximum(sigma, 1), rows, columns)


def sample(key, data):
    """Draw a clean patch and what the network sees of it with both noises, less the movie's mean.

    Half of the patches have blind spots.
    """
    clean, noisy, beside, means = data
    names = ("place", "frame", "turn", "own", "before", "after", "some", "unit", "spots", "fill")
    keys = dict(zip((*names, "blind"), jax.random.split(key, len(names) + 1), strict=True))
    number = jax.random.randint(keys["frame"], (), 0, len(clean))
    y, x = jax.random.randint(keys["place"], (2,), 0, SIDE - PATCH + 1)
    symmetry = jax.random.randint(keys["turn"], (), 0, SYMMETRIES)

    def cut(frames, n):
        patch = jax.lax.dynamic_slice(frames, (n, y, x), (1, PATCH, PATCH))[0]
        return apply_symmetry(patch.astype(jnp.float32), symmetry)

    flash, mean = flashes(keys["own"]), means[number]
    others = [flashes(keys[name]) for name in ("before", "after")]
    others = jax.random.bernoulli(keys["some"], 0.6) * jnp.stack(others)
    # The noise is known to some ten per cent.
    unit = jnp.exp(jax.random.uniform(keys["unit"], minval=-0.15, maxval=0.15))
    mask = blindspot.stratified_mask(keys["spots"], (PATCH, PATCH), box=6)
    mask &= jax.random.bernoulli(keys["blind"])
    seen = []
    for frames, guide in (noisy[:2], noisy[2:]):
        visible = blindspot.replace_from_neighbourhood(
            keys["fill"], cut(frames, number) + flash, mask
        )
        neighbours = jnp.stack([cut(frames, beside[number, k]) for k in range(2)]) + others
        stack = jnp.concatenate([visible[None], neighbours, cut(guide, number)[None]])
        seen.append(unit * (stack - mean))
    return unit * (cut(clean, number) + flash - mean), jnp.stack(seen)


def loss(bias, params, key, data, psf, config):
    """Return the error of a batch over itself, of which bias counts most, and its logarithm."""
    clean, seen = jax.vmap(lambda one: sample(one, data))(jax.random.split(key, BATCH))
    images = seen.reshape(-1, *seen.shape[2:]) / pretrained.SCALE
    arithmetic = {"precision": config.precision, "platform": config.platform}
    corrections = unet.apply(
        params, images[:, 0], config.network, beside=images[:, 1:], **arithmetic
    )
    deconvolved = pretrained.SCALE * (corrections + images[:, -1])
    denoised = jax.vmap(convolve, (0, None))(deconvolved, psf).reshape(BATCH, 2, PATCH, PATCH)
    errors = denoised - clean[:, None]
    square = jnp.mean(errors**2, axis=(1, 2, 3))
    shared = jnp.mean(errors[:, 0] * errors[:, 1], axis=(1, 2))
    # As with the logarithm, each patch counts alike.
    relative = ((1 - bias) * square + bias * shared) / jax.lax.stop_gradient(square + 1e-3)
    return relative.mean(), jnp.log(square + 1e-3).mean()


def first_weights(seed):
    """Return random weights that hardly correct the guide."""
    params = unet.init(jax.random.key(seed), shape_of(PRETRAINED_MOVIES))
    params["conv_final"] = jax.tree.map(lambda leaf: 0.1 * leaf, params["conv_final"])
    return params


def build_parser():
    """Return the parser of the command line."""
    parser = pretraining.build_parser(__doc__.splitlines()[0], steps=20_000)
    parser.add_argument("--movies", type=int, default=360)
    about = "share of the squared error that counts only as far as both noises share it"
    parser.add_argument("--bias", type=float, default=0.9, help=f"{about} (default: 0.9)")
    return parser


def main(argv=None):
    """Draw the movies, train, write the averaged weights now and then."""
    args = build_parser().parse_args(argv)
    data = material(args.movies, args.seed)
    start = pretraining.shipped(pretrained.MOVIES) if args.go_on else first_weights(args.seed)
    pretraining.train(args, partial(loss, args.bias), data, start, PRETRAINED_MOVIES)


if __name__ == "__main__":
    main()
