"""Read the images of the experiments. Host side.

A data folder holds images of 512 x 512 pixels in 8 bits: ``fmd/{raw,gt}`` (Zhang et al., CVPR 2019)
and ``w2s/{noisy,gt}`` (Zhou et al., arXiv 2003.05961). Either may be missing.
"""

import jax
import numpy as np

import jaxdenoise as jd
from jaxdenoise.microscope import synthetic

ACTIN_OFFSET = 520.0  # grey level without light in Mouse actin, as the report has it
SYNTHETIC_OFFSET = 100.0


def tasks(data):
    """Yield each experiment of the folder: (name, noisy (N, H, W), truth (H, W), protocol)."""
    for truth in sorted((data / "fmd" / "gt").glob("*.png")):
        captures = sorted((data / "fmd" / "raw").glob(f"{truth.stem}_*.png"))
        noisy = np.concatenate([jd.read(path).frames for path in captures])
        clean = jd.read(truth).frames[0]
        yield f"fmd-stack/{truth.stem}", noisy, clean, "fmd-stack"
        yield f"fmd-single/{truth.stem}", noisy[:1], clean, "fmd-single"
    for truth in sorted((data / "w2s" / "gt").glob("*.tif")):
        yield (
            f"w2s-single/{truth.stem}",
            jd.read(data / "w2s" / "noisy" / truth.name).frames,
            jd.read(truth).frames[0],
            "w2s-single",
        )


def actin_stack(path, offset):
    """Return the frames (N, 512, 512) of Mouse actin less the offset, cropped as in the report.

    Args:
        path: the calibration stack; None for a synthetic stack whose PSF has sigma 1.0 instead.
        offset: grey level without light; None for that of the report or of the synthetic stack.
    """
    if path is None:
        scene = synthetic.static_scene(
            jax.random.key(0), frames=100, shape=(512, 512), psf_sigma=1.0
        )
        stack, usual = np.asarray(scene.noisy), SYNTHETIC_OFFSET
    else:
        stack, usual = jd.read(path).frames[:, :512, :512], ACTIN_OFFSET
    return stack - np.float32(usual if offset is None else offset)


def actin_title(path):
    """Return the title of a table on `actin_stack`."""
    if path is None:
        return "Mouse actin: not given; a synthetic stack of 100 frames instead"
    return f"Mouse actin, {path}"
