"""Our classical filters beside those of PyTorch, OpenCV and scipy, for a batch of images."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import cv2
import jax.numpy as jnp
import scipy.ndimage
import torch
from torch.nn import functional as F

import jaxdenoise as jd


class FilterRivals(NamedTuple):
    """Functions without arguments that filter the same images."""

    ours: Callable
    torch: Callable
    opencv: Callable
    scipy: Callable


def filter_rivals(stack, device):
    """Return {name: `FilterRivals`} for images (N, H, W); ``device`` is that of PyTorch."""
    ours, theirs = jnp.asarray(stack), torch.from_numpy(stack)[:, None].to(device)
    kernel = torch.tensor([1.0, 4, 6, 4, 1], device=device) / 16

    def one_by_one(function):
        return lambda: [function(image) for image in stack]

    return {
        "median 3x3": FilterRivals(
            lambda: jd.median_filter(ours, (3, 3), mode="nearest"),
            partial(_median, theirs),
            one_by_one(lambda x: cv2.medianBlur(x, 3)),
            one_by_one(lambda x: scipy.ndimage.median_filter(x, 3, mode="nearest")),
        ),
        "Gaussian 5x5": FilterRivals(
            lambda: jd.gaussian_filter(ours, size=(5, 5), mode="mirror"),
            partial(_gaussian, theirs, kernel),
            one_by_one(lambda x: cv2.GaussianBlur(x, (5, 5), 0)),
            one_by_one(lambda x: scipy.ndimage.gaussian_filter(x, 1.1, radius=2, mode="mirror")),
        ),
        "box 3x3": FilterRivals(
            lambda: jd.box_filter(ours, (3, 3), mode="mirror"),
            lambda: F.avg_pool2d(F.pad(theirs, (1, 1, 1, 1), mode="reflect"), 3, stride=1),
            one_by_one(lambda x: cv2.blur(x, (3, 3))),
            one_by_one(lambda x: scipy.ndimage.uniform_filter(x, 3, mode="mirror")),
        ),
    }


def _median(images):
    patches = F.unfold(F.pad(images, (1, 1, 1, 1), mode="replicate"), 3)
    return patches.median(dim=1).values


def _gaussian(images, kernel):
    padded = F.pad(images, (2, 2, 2, 2), mode="reflect")
    return F.conv2d(F.conv2d(padded, kernel[None, None, :, None]), kernel[None, None, None])
