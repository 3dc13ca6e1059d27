"""Train the network for volumes that the package ships on synthetic stacks; no real image is used.

    python experiments/pretrain_volumes.py -o pretrained_volumes.npz

The file belongs at `jaxdenoise/network/pretrained_volumes.npz`. The stacks of
`common.random_volumes` get Poisson-Gaussian noise of 0.1 to 200 photons a voxel. The network sees a
patch of a plane and those of the planes above and below, in units of the noise, and learns the
noise-free patch by the logarithm of its mean squared error. Half of the patches have blind spots in
their own plane. It begins with the weights of the network for single frames, which then sees a mean
of the planes. 8,000 steps took 47 minutes on two cores that others used too, and 1.6 GB.
"""

import jax
import jax.numpy as jnp
import numpy as np
from common import pretraining
from common.random_volumes import volume_scene_random

from jaxdenoise.config import PRETRAINED_VOLUMES
from jaxdenoise.imaging.symmetry import SYMMETRIES, apply_symmetry
from jaxdenoise.microscope.psf import convolve
from jaxdenoise.network import pretrained, stacks, unet
from jaxdenoise.targets import blindspot

SIDE, PATCH, BATCH = 128, 96, 2  # pixels of a stack and of a patch; patches a step
DEPTHS, SHARES = (5, 8, 12, 20, 32, 48), (0.08, 0.12, 0.2, 0.25, 0.25, 0.1)  # planes, how often
PHOTONS = 0.1, 200.0
LEAST = 1e-4  # of a mean squared error, in units of the noise
LARGEST = 6e4  # float16 holds no more
REACH = PRETRAINED_VOLUMES.neighbours


def stack_of(seed):
    """Draw a stack: clean planes (Z, H, W) and noisy ones, in units of the noise."""
    rng = np.random.default_rng((8, seed))
    signal = volume_scene_random(rng, int(rng.choice(DEPTHS, p=SHARES)), SIDE)
    level = np.exp(rng.uniform(*np.log(PHOTONS)))
    read_std = 0 if rng.random() < 0.5 else 3 * rng.random() ** 2 * np.sqrt(level)
    unit = np.sqrt(level * signal.mean() + read_std**2)
    noisy = rng.poisson(level * signal) + read_std * rng.standard_normal(signal.shape)
    return np.asarray(level * signal / unit, np.float16), np.asarray(noisy / unit, np.float16)


def material(count, seed):
    """Return all planes of `count` stacks, the numbers of those beside each, and its mean."""
    clean, noisy, beside, means, first = [], [], [], [], 0
    for number in range(seed * 10**6, seed * 10**6 + count):
        drawn = stack_of(number)
        if any(not np.isfinite(part).all() or abs(part).max() > LARGEST for part in drawn):
            continue
        planes = len(drawn[0])
        clean.append(drawn[0])
        noisy.append(drawn[1])
        beside.append(stacks.mirrored_table(planes, planes, REACH) + first)
        means.append(np.full(planes, drawn[1].mean(dtype=np.float32)))
        first += planes
    return tuple(jnp.asarray(np.concatenate(part)) for part in (clean, noisy, beside, means))


def sample(key, data):
    """Draw a clean patch and what the network sees of it, less the stack's mean."""
    clean, noisy, beside, means = data
    names = "place", "plane", "turn", "flip", "unit", "spots", "fill", "blind"
    keys = dict(zip(names, jax.random.split(key, len(names)), strict=True))
    number = jax.random.randint(keys["plane"], (), 0, len(clean))
    y, x = jax.random.randint(keys["place"], (2,), 0, SIDE - PATCH + 1)
    symmetry = jax.random.randint(keys["turn"], (), 0, SYMMETRIES)

    def cut(planes, n):
        patch = jax.lax.dynamic_slice(planes, (n, y, x), (1, PATCH, PATCH))[0]
        return apply_symmetry(patch.astype(jnp.float32), symmetry)

    mask = blindspot.stratified_mask(keys["spots"], (PATCH, PATCH), box=6)
    mask &= jax.random.bernoulli(keys["blind"])
    visible = blindspot.replace_from_neighbourhood(keys["fill"], cut(noisy, number), mask)
    around = beside[number]
    around = jnp.where(jax.random.bernoulli(keys["flip"]), around[::-1], around)
    others = jnp.stack([cut(noisy, around[k]) for k in range(2 * REACH)])
    # The noise is known to some ten per cent.
    unit = jnp.exp(jax.random.uniform(keys["unit"], minval=-0.15, maxval=0.15))
    seen = jnp.concatenate([visible[None], others])
    return unit * (cut(clean, number) - means[number]), unit * (seen - means[number])


def loss(params, key, data, psf, config):
    """Return the mean logarithm of the errors of a batch, twice."""
    clean, seen = jax.vmap(lambda one: sample(one, data))(jax.random.split(key, BATCH))
    images = seen / pretrained.SCALE
    arithmetic = {"precision": config.precision, "platform": config.platform}
    output = unet.apply(params, images[:, 0], config.network, beside=images[:, 1:], **arithmetic)
    denoised = jax.vmap(convolve, (0, None))(pretrained.SCALE * output, psf)
    error = jnp.log(jnp.mean((denoised - clean) ** 2, axis=(1, 2)) + LEAST).mean()
    return error, error


def first_weights():
    """Return the weights of the network for single frames, which sees the nearest planes most."""
    nearness = np.exp(-np.arange(1, REACH + 1) / 1.5)
    shares = np.array([1.5, *nearness[::-1], *nearness])
    return pretraining.widened(shares / shares.sum())


def build_parser():
    """Return the parser of the command line."""
    parser = pretraining.build_parser(__doc__.splitlines()[0], steps=8_000)
    parser.add_argument("--stacks", type=int, default=320)
    return parser


def main(argv=None):
    """Draw the stacks, train, write the averaged weights now and then."""
    args = build_parser().parse_args(argv)
    data = material(args.stacks, args.seed)
    start = pretraining.shipped(pretrained.VOLUMES) if args.go_on else first_weights()
    pretraining.train(args, loss, data, start, PRETRAINED_VOLUMES)


if __name__ == "__main__":
    main()
