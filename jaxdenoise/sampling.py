"""What a training sees of files that may be larger than the memory. Host side."""

import numpy as np

PIXELS = 2**25  # that are kept in memory, 134 MB in float32: more than the preset "fast" looks at in all its steps
_SIDE = 512  # of a random square


def training_stack(sources, *, seed, pixels=PIXELS):
    """All frames, or random squares of them where they are more than the memory should hold.

    Args:
        sources: list of arrays (N, H, W), or of `frames.Frames`, all of one H and W.
        seed: of the places of the squares, which are uniform over all frames.
        pixels: how many are kept at the most.

    Returns:
        (N, H, W) float32 array, or (M, S, S) with S at most 512 and M S^2 at most ``pixels``.
    """
    if sum(source.size for source in sources) <= pixels:
        stacks = [np.asarray(source, np.float32) for source in sources]
        return stacks[0] if len(stacks) == 1 else np.concatenate(stacks)
    height, width = sources[0].shape[1:]
    rng, side_y, side_x = np.random.default_rng(seed), min(_SIDE, height), min(_SIDE, width)
    owners = np.repeat(range(len(sources)), [len(source) for source in sources])
    numbers = np.concatenate([range(len(source)) for source in sources])
    stack = np.empty((max(1, pixels // (side_y * side_x)), side_y, side_x), np.float32)
    for square in stack:
        frame, y, x = (rng.integers(room) for room in (len(owners), height - side_y + 1, width - side_x + 1))
        square[...] = sources[owners[frame]][numbers[frame], y : y + side_y, x : x + side_x]
    return stack
