"""Measure the speed of the filters beside scipy.ndimage and OpenCV on the CPU.

    python experiments/speed_filters.py -o speed_filters.json

A batch of 16 images: OpenCV filters them in a loop, scipy filters one (its time is given for 16),
jaxdenoise filters them in one call and in a loop of calls, image by image (results are kept, as
OpenCV's are). Medians of several runs in which the rivals take turns, after a warm-up.
With --large instead the median filter of large windows: times of one 1024 x 1024 image for
each size, then of a 4096 x 4096 image with 31 x 31 pixels, with compile times and memory.
"""

import itertools
import statistics
import time

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import scipy.ndimage
from common import arguments, memory, store
from common.tables import Table
from common.timing import times_in_turn

import jaxdenoise as jd

BATCH = 16
# {name: (ours for a stack, OpenCV's and scipy's for an image)}, each of the image(s) and the size.
FILTERS = {
    "median": (
        lambda x, k: jd.median_filter(x, (k, k), mode="nearest"),
        lambda x, k: cv2.medianBlur(x, k),
        lambda x, k: scipy.ndimage.median_filter(x, k, mode="nearest"),
    ),
    "box": (
        lambda x, k: jd.box_filter(x, (k, k), mode="mirror"),
        lambda x, k: cv2.blur(x, (k, k)),
        lambda x, k: scipy.ndimage.uniform_filter(x, k, mode="mirror"),
    ),
    "gaussian": (
        lambda x, k: jd.gaussian_filter(x, size=(k, k), mode="mirror"),
        lambda x, k: cv2.GaussianBlur(x, (k, k), 0),
        lambda x, k: scipy.ndimage.gaussian_filter(
            x, 0.3 * ((k - 1) / 2 - 1) + 0.8, radius=k // 2, mode="mirror"
        ),
    ),
}
COLUMNS = ["filter", "image", "first call, s", "ours, one call", "ours, image by image", "OpenCV"]
COLUMNS += ["scipy", "times OpenCV", "times scipy"]
LARGE_COLUMNS = ["dtype", "side", "window", "seconds", "ns a pixel", "compile, s"]
LARGE_COLUMNS += ["working memory in images"]


def images(dtype, side, count=BATCH):
    """Return noise of the dtype, (count, side, side)."""
    return np.random.default_rng(0).integers(0, 256, (count, side, side)).astype(dtype)


def small_windows(runs):
    """Return a row for each filter, size, dtype and side: milliseconds for the batch."""
    table = Table(f"Milliseconds for {BATCH} images", COLUMNS).start()
    cases = itertools.product((512, 2048), ("float32", "uint8"), FILTERS, (3, 5))
    for side, dtype, name, size in cases:
        first, times = small_window(name, size, images(dtype, side), runs)
        best = min(times["ours_batch"], times["ours_loop"])
        table.add(
            f"{name} {size}x{size}",
            f"{dtype} {side}",
            f"{first:.2f}",
            *(f"{1e3 * value:.1f}" for value in times.values()),
            f"{times['opencv'] / best:.2f}",
            f"{times['scipy'] / best:.0f}",
        )
    return table


def small_window(name, size, stack, runs):
    """Return the seconds of the first call, and {rival: median seconds for the batch}."""
    ours, opencv, scipy_filter = FILTERS[name]
    side, on_device = stack.shape[-1], jnp.asarray(stack)
    frames = list(on_device)
    began = time.perf_counter()
    ours(on_device, size).block_until_ready()
    first = time.perf_counter() - began
    rivals = {
        "ours_batch": (lambda: ours(on_device, size), None),
        "opencv": (lambda: [opencv(image, size) for image in stack], None),
        "ours_loop": (lambda: [ours(image, size) for image in frames], None),
        "scipy": (lambda: scipy_filter(stack[0], size), 3 if side == 512 else 0),
    }
    times = {
        rival: statistics.median(values) for rival, values in times_in_turn(rivals, runs).items()
    }
    times["scipy"] *= BATCH
    return first, {name: times[name] for name in ("ours_batch", "ours_loop", "opencv", "scipy")}


def large_windows():
    """Return a row for each dtype and window of the median filter."""
    table = Table('Median filter of one image, mode="nearest"', LARGE_COLUMNS).start()
    sizes = [*((1024, size) for size in (3, 5, 7, 9, 11, 13, 15, 21, 31)), (4096, 31)]
    for dtype, (side, size) in itertools.product(("float32", "uint8"), sizes):
        image = jnp.asarray(images(dtype, side, 1)[0])
        program = jax.jit(lambda x, size=size: jd.median_filter(x, size, mode="nearest"))
        began = time.perf_counter()
        compiled = program.lower(image).compile()
        built = time.perf_counter() - began
        compiled(image).block_until_ready()
        began = time.perf_counter()
        compiled(image).block_until_ready()
        taken = time.perf_counter() - began
        working = compiled.memory_analysis().temp_size_in_bytes / image.nbytes
        a_pixel = f"{1e9 * taken / side**2:.1f}"
        table.add(dtype, side, size, f"{taken:.4f}", a_pixel, f"{built:.1f}", f"{working:.2f}")
    return table


def build_parser():
    """Return the parser of the command line."""
    parser = arguments.parser_of(__doc__, "speed_filters.json")
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument(
        "--large", action="store_true", help="large windows of the median filter instead"
    )
    return parser


def main(argv=None):
    """Measure, print and write the table."""
    args = build_parser().parse_args(argv)
    table = large_windows() if args.large else small_windows(args.runs)
    title = "Large windows of the median filter" if args.large else "Speed of the filters"
    peak = memory.peak_of_this_process() / 1e6
    versions = f"OpenCV {cv2.__version__}, scipy {scipy.__version__}"
    note = f"{versions}. Peak memory of the whole run: {peak:.0f} MB."
    store.write(args.output, group="speed", title=title, tables=[table], note=note)


if __name__ == "__main__":
    main()
