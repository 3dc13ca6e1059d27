"""Images for the tests of metrics: a smooth one and a noisy copy."""

import numpy as np

SHAPE = (37, 50)


def pair(seed=0, *, dtype=np.float32, scale=1.0, offset=0.0, shape=SHAPE):
    """A smooth image and a noisy copy of it, with values from about offset to offset + scale."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: shape[0], : shape[1]]
    reference = 0.5 + 0.3 * np.sin(x / 5 + rng.uniform(0, 6)) * np.cos(y / 7)
    image = reference + 0.05 * rng.normal(size=shape)
    return (reference * scale + offset).astype(dtype), (image * scale + offset).astype(dtype)
