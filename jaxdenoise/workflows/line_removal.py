"""Take line noise out of a file that is in memory, each channel by itself. Host side."""

from pathlib import Path

import numpy as np

from jaxdenoise.imaging.gaps import mark_gaps
from jaxdenoise.imaging.line_noise import find_line_noise
from jaxdenoise.io.images import Image, ImageFile
from jaxdenoise.workflows.partition import channel_count, channels_of


def without_line_noise(
    path: str | Path, file: ImageFile, image: Image
) -> tuple[Image, tuple[str, ...]]:
    """Return an image without line noise, and a line for each kind that was taken out.

    Args:
        path: of the file.
        file: the opened file, which says which frames are of which channel.
        image: all its frames, filled. Where they hold no data, such as around a rotated image, they
            stay as they are.

    Returns:
        The image itself if none was found.
    """
    several = channel_count(file) > 1
    frames, evidence = image.frames, list[str]()
    for channel, own in enumerate(channels_of(path, file) if several else [file]):
        numbers = np.asarray(own.frames.numbers)
        marked = np.stack([mark_gaps(frame) for frame in image.frames[numbers]])
        found = find_line_noise(marked)
        if found is None:
            continue
        evidence += [f"channel {channel}: {line}" if several else line for line in found.evidence]
        frames = frames.copy() if frames is image.frames else frames
        for n, number in enumerate(numbers):
            cleaned = found.removed_from(marked[n], n)
            frames[number] = np.where(np.isnan(cleaned), image.frames[number], cleaned)
    return image._replace(frames=frames), tuple(evidence)
