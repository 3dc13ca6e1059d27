"""What a training sees of files that may be larger than the memory. Host side."""

import numpy as np

from jaxdenoise import processes

PIXELS = 2**25  # that are kept in memory, 134 MB in float32: more than the preset "fast" looks at in all its steps
_SIDE = 512  # of a random square


def training_stack(sources, *, seed, reach=0, pixels=PIXELS):
    """All frames, or random squares of them where they are more than the memory should hold.

    Several processes read a share each, and tell each other.

    Args:
        sources: list of arrays (N, H, W), or of `frames.Frames`, all of one H and W.
        seed: of the places of the squares, which are uniform over all frames.
        reach: how many neighbours on each side the network sees: then the frames of the sources, `frames.Frames`, stay in rows.
        pixels: how many are kept at the most.

    Returns:
        (N, H, W) float32 array, or (M, S, S) with S at most 512 and M S^2 at most ``pixels``; with neighbours (R, N, H, W) or (M, N, S, S),
        N frames in a row.

    Raises:
        ValueError: the sources' rows differ in length.
    """
    row, crew = _row(sources) if reach else 1, processes.crew()
    owners = np.repeat(range(len(sources)), [len(source) for source in sources])
    numbers = np.concatenate([range(len(source)) for source in sources])
    if sum(source.size for source in sources) <= pixels:
        if crew.count == 1:
            stacks = [np.asarray(source, np.float32) for source in sources]
            stack = stacks[0] if len(stacks) == 1 else np.concatenate(stacks)
        else:
            shape = len(numbers), *sources[0].shape[1:]
            stack = crew.read(shape, lambda i: sources[owners[i]][numbers[i], :, :])
        return stack.reshape(-1, row, *stack.shape[1:]) if reach else stack
    height, width = sources[0].shape[1:]
    rng, side_y, side_x = np.random.default_rng(seed), min(_SIDE, height), min(_SIDE, width)
    run = min(row, 4 * reach + 1)
    count, rooms = max(1, pixels // (run * side_y * side_x)), (len(owners), height - side_y + 1, width - side_x + 1)
    places = [[rng.integers(room) for room in rooms] for _ in range(count)]

    def squares(index):
        frame, y, x = places[index]
        place = numbers[frame] % row
        first = numbers[frame] - place + min(place, row - run)
        return [sources[owners[frame]][number, y : y + side_y, x : x + side_x] for number in range(first, first + run)]

    stack = crew.read((count, run, side_y, side_x), squares)
    return stack if reach else stack[:, 0]


def _row(sources):
    rows = {source.row for source in sources}
    if len(rows) > 1:
        raise ValueError(f"the files have {', '.join(map(str, sorted(rows)))} neighbouring frames in a row; run them one by one")
    return rows.pop()
