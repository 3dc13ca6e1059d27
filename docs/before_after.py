"""Draw the picture of the first page from the files of the demonstration: noisy, denoised, truth.

From the root of the repository:

    jaxdenoise demo -o demo && python docs/before_after.py demo docs/_static/before_after.png
"""

import argparse
from pathlib import Path

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import numpy as np

import jaxdenoise as jd

TITLES = {"noisy": "noisy", "denoised": "denoised", "ground_truth": "truth"}


def main():
    """Read the first frame of each file, crop all alike, and write the picture."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("demo", type=Path, help="folder of `jaxdenoise demo`")
    parser.add_argument("output", type=Path)
    parser.add_argument("--frame", type=int, default=0)
    parser.add_argument("--corner", type=int, nargs=2, default=(92, 56), metavar=("Y", "X"))
    parser.add_argument("--side", type=int, default=150, help="of the crop, in pixels")
    args = parser.parse_args()

    (y, x), side = args.corner, args.side
    crops = {}
    for name in TITLES:
        frames = jd.read(args.demo / f"{name}.tif").frames
        crops[name] = frames[min(args.frame, len(frames) - 1), y : y + side, x : x + side]
    low, high = np.quantile(crops["ground_truth"], (0.01, 0.997))

    # Two pixels of the picture for each pixel of the image, exactly.
    panel, gap, top = 2 * side, 6, 30
    width, height = 3 * panel + 2 * gap, panel + top
    figure = plt.figure(figsize=(width / 100, height / 100), dpi=100, facecolor="white")
    for column, (name, title) in enumerate(TITLES.items()):
        left = column * (panel + gap)
        axis = figure.add_axes((left / width, 0, panel / width, panel / height))
        shown = np.clip((crops[name] - low) / (high - low), 0, 1) ** 0.8
        axis.imshow(shown, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        axis.set_title(title, fontsize=13)
        axis.axis("off")
    figure.savefig(args.output, pil_kwargs={"optimize": True})


if __name__ == "__main__":
    main()
