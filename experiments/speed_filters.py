"""Speed of the filters beside scipy.ndimage and OpenCV on the CPU, in one run, the rivals taking turns.

    python experiments/speed_filters.py -o speed_filters.json

A batch of 16 images: OpenCV filters them in a loop, scipy filters one (its time is given for 16),
jaxdenoise filters them in one call ("batch") and in a loop of calls ("loop"; results are kept, as
OpenCV's are). Medians of several runs in turn, after a warm-up; compile times apart. With --large
the median filter of large windows: time for each size, and memory for 4096 x 4096.
"""

import argparse
import itertools
import json
import os
import platform
import resource
import statistics
import time
from pathlib import Path

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import scipy.ndimage

import jaxdenoise as jd

BATCH = 16
# name: (ours for a stack, OpenCV's and scipy's for an image), each taking the image(s) and the
# kernel size
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


def images(dtype, side, count=BATCH):
    """Noise of the dtype: (count, side, side)."""
    return np.random.default_rng(0).integers(0, 256, (count, side, side)).astype(dtype)


def times_in_turn(rivals, runs):
    """Seconds of each run of each rival, the rivals alternating; a rival is (callable, runs or None for all)."""
    times = {name: [] for name in rivals}
    for turn in range(runs + 1):
        for name, (function, limit) in rivals.items():
            if limit is not None and turn > limit:
                continue
            began = time.perf_counter()
            jax.block_until_ready(function())
            if turn or limit == 0:  # the first turn warms up
                times[name].append(time.perf_counter() - began)
    return times


def small_windows(runs):
    """One row a filter, size, dtype and side."""
    rows = []
    for side, dtype, name, size in itertools.product(
        (512, 2048), ("float32", "uint8"), FILTERS, (3, 5)
    ):
        rows.append(small_window(name, size, images(dtype, side), runs))
        print(markdown(rows[-1]), flush=True)
    return rows


def small_window(name, size, stack, runs):
    """Milliseconds of all rivals for the batch."""
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
    row = {
        "filter": name,
        "size": size,
        "dtype": str(stack.dtype),
        "side": side,
        "first_call_s": round(first, 2),
    }
    return row | {f"{rival}_ms": round(1e3 * value, 3) for rival, value in times.items()}


def markdown(row):
    """A row of the table: times, and how many times faster the better of ours is."""
    best = min(row["ours_batch_ms"], row["ours_loop_ms"])
    times = " | ".join(
        f"{row[f'{name}_ms']:.1f}" for name in ("ours_batch", "ours_loop", "opencv", "scipy")
    )
    ratios = f"{row['opencv_ms'] / best:.2f} | {row['scipy_ms'] / best:.0f}"
    return f"| {row['filter']} {row['size']}x{row['size']} | {row['dtype']} | {row['side']} | {times} | {ratios} |"


def large_windows():
    """Median filter of one 1024 x 1024 image for growing windows, then of a 4096 x 4096 image with 31 x 31 pixels, and its memory."""
    rows = []
    for dtype in ("float32", "uint8"):
        for side, size in (
            *((1024, size) for size in (3, 5, 7, 9, 11, 13, 15, 21, 31)),
            (4096, 31),
        ):
            image = jnp.asarray(images(dtype, side, 1)[0])
            program = jax.jit(lambda x, size=size: jd.median_filter(x, size, mode="nearest"))
            began = time.perf_counter()
            compiled = program.lower(image).compile()
            built = time.perf_counter() - began
            compiled(image).block_until_ready()
            began = time.perf_counter()
            compiled(image).block_until_ready()
            taken = time.perf_counter() - began
            memory = compiled.memory_analysis().temp_size_in_bytes / image.nbytes
            row = {
                "dtype": dtype,
                "side": side,
                "size": size,
                "seconds": round(taken, 4),
                "ns_per_pixel": round(1e9 * taken / side**2, 1),
            }
            rows.append(
                row | {"compile_s": round(built, 1), "working_memory_in_images": round(memory, 2)}
            )
            print(f"| {' | '.join(map(str, rows[-1].values()))} |", flush=True)
    return rows


def main():
    """Parse, measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, default=Path("speed_filters.json"))
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument(
        "--large", action="store_true", help="large windows of the median filter instead"
    )
    args = parser.parse_args()
    machine = {
        "device": jax.devices()[0].device_kind,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "jax": jax.__version__,
        "opencv": cv2.__version__,
        "scipy": scipy.__version__,
    }
    print(machine)
    if args.large:
        print(
            "| dtype | side | size | seconds | ns per pixel | compile s | working memory in images |\n|---|---|---|---|---|---|---|"
        )
        rows = large_windows()
    else:
        print(
            "| filter | dtype | side | ours, batch (ms) | ours, loop | OpenCV | scipy | times OpenCV | times scipy |"
        )
        print("|---" * 9 + "|")
        rows = small_windows(args.runs)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    args.output.write_text(
        json.dumps({"machine": machine, "rows": rows, "peak_memory_mb": peak}, indent=1)
    )


if __name__ == "__main__":
    main()
