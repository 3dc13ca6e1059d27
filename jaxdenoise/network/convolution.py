"""The network's convolutions, in float32 or in bfloat16. Pure JAX, NHWC.

In bfloat16 the factors are rounded, and the sums are in float32. On accelerators XLA's own
convolution does either. On CPU it does float32 only, and computes the gradient of a kernel at a
quarter of the speed of the rest. Matrix products in bfloat16 with sums in float32 run on the matrix
units (AMX) or vector units (AVX-512) of CPUs that have such for bfloat16, faster than float32 (AMX
by several times). So on CPU a 3x3 convolution in bfloat16 is a matrix product: three copies of the
image, shifted along the rows and side by side, times the kernel's three rows at once. It gives
three images, which are added, shifted along the columns. The gradients are computed likewise.

On CPU, XLA's convolutions are slow inside compiled loops. Products keep their speed there, and a
loop keeps its memory from one round to the next.
"""

from functools import cache
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

_FEWEST = 8  # channels for which products in bfloat16 pay


def resolve(precision: str, platform: str) -> str:
    """Return the precision that "auto" means on a platform.

    Args:
        precision: "auto", "float32" or "bfloat16".
        platform: "cpu", or that of an accelerator, as `jax.Device` names it.

    Returns:
        For "auto" "bfloat16" where the hardware multiplies it fast, else "float32"; any other
        precision as it is.
    """
    if precision != "auto":
        return precision
    return "bfloat16" if platform != "cpu" or _multiplies_bfloat16() else "float32"


def fast_in_loops(precision: str, platform: str) -> bool:
    """Return whether the network keeps its speed inside `jax.lax.scan` and other loops.

    Arguments as of `resolve`.
    """
    return platform != "cpu" or resolve(precision, platform) == "bfloat16"


def conv3x3(
    x: Float[Array | np.ndarray, "N H W C"],
    kernel: Float[Array | np.ndarray, "3 3 C D"],
    *,
    precision: str,
    platform: str,
    padded: bool = True,
) -> Float[Array, "N H2 W2 D"]:
    """Convolve with 3x3 kernels (as in networks: correlate), with zeros outside the image.

    Args:
        x: (N, H, W, C) float array.
        kernel: (3, 3, C, D) float array.
        precision: "float32" leaves both as they are; "bfloat16" rounds them, and the gradient that
            comes back, to bfloat16 (on CPU not when there are fewer than 8 channels, where it would
            save nothing).
        platform: that computes, as in `resolve`. It decides how bfloat16 is computed.
        padded: whether the result is as large as x; else it lacks the pixels at the border, which
            would see those zeros.

    Returns:
        (N, H, W, D), or (N, H - 2, W - 2, D), the dtype of x.
    """
    if precision == "float32":
        return _convolve(x, kernel, padded)
    if platform == "cpu":
        few = x.shape[-1] < _FEWEST
        found = _conv3x3_of_few(x, kernel) if few else _conv3x3_by_products(x, kernel)
        return found if padded else found[:, 1:-1, 1:-1]
    return _convolve(x.astype(jnp.bfloat16), kernel.astype(jnp.bfloat16), padded).astype(x.dtype)


def matmul(
    x: Float[Array, "*rows C"],
    matrix: Float[Array | np.ndarray, "C D"],
    *,
    precision: str,
    platform: str,
) -> Float[Array, "*rows D"]:
    """Return the matrix product of (..., C) and (C, D); options as of `conv3x3`."""
    if precision == "float32":
        return x @ matrix
    if platform == "cpu":
        return _matmul_rounded(x.reshape(-1, x.shape[-1]), matrix).reshape(*x.shape[:-1], -1)
    return (x.astype(jnp.bfloat16) @ matrix.astype(jnp.bfloat16)).astype(x.dtype)


def _convolve(x, kernel, padded):
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        (1, 1),
        "SAME" if padded else "VALID",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def _conv3x3_of_few(x, kernel):
    """Convolve few channels by one product in float32 with all nine neighbours side by side."""
    n, h, w, c = x.shape
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    neighbours = jnp.stack(
        [padded[:, row : row + h, column : column + w] for row in range(3) for column in range(3)],
        axis=3,
    )
    return neighbours.reshape(n, h, w, 9 * c) @ kernel.reshape(9 * c, -1)


@jax.custom_vjp
def _conv3x3_by_products(x, kernel):
    return _forward(x, kernel)[0]


def _forward(x, kernel):
    bits = _bits(x)
    return _shifted_products(_side_by_side(bits), kernel), (bits, kernel)


def _backward(kept, gradient):
    x, kernel = kept
    n, h, w, c = x.shape
    gradients = _side_by_side(_bits(gradient))
    of_x = _shifted_products(gradients, kernel[::-1, ::-1].swapaxes(2, 3))
    # The kernel's rows: three copies of x, shifted along the columns. Channels come first, as the
    # product wants its left factor.
    columns = jnp.pad(_barrier(x.transpose(3, 0, 1, 2)), ((0, 0), (0, 0), (2, 2), (0, 0)))
    columns = _barrier(jnp.stack([columns[:, :, row : row + h + 2] for row in range(3)]))
    of_kernel = _product(
        columns.reshape(3 * c, n * (h + 2) * w), gradients.reshape(n * (h + 2) * w, -1)
    )
    return of_x, of_kernel.reshape(3, c, 3, -1)[:, :, ::-1].transpose(0, 2, 1, 3)


_conv3x3_by_products.defvjp(_forward, _backward)


def _side_by_side(x):
    """Return (N, H + 2, W, 3, C): each pixel between its left and right neighbour.

    A row of zeros is added above and below.
    """
    width = x.shape[2]
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    return jnp.stack([padded[:, :, column : column + width] for column in range(3)], axis=3)


def _shifted_products(side_by_side, kernel):
    n, h, w, _, c = side_by_side.shape
    matrix = _bits(kernel.transpose(1, 2, 0, 3).reshape(3 * c, -1))
    rows = _product(side_by_side.reshape(n * h * w, 3 * c), matrix).reshape(n, h, w, 3, -1)
    return rows[:, :-2, :, 0] + rows[:, 1:-1, :, 1] + rows[:, 2:, :, 2]


@jax.custom_vjp
def _matmul_rounded(x, matrix):
    return _matmul_forward(x, matrix)[0]


def _matmul_forward(x, matrix):
    bits = _bits(x)
    return _product(bits, _bits(matrix)), (bits, matrix)


def _matmul_backward(kept, gradient):
    x, matrix = kept
    gradient = _bits(gradient)
    return _product(gradient, _bits(matrix.T)), _product(_barrier(x.T), gradient)


_matmul_rounded.defvjp(_matmul_forward, _matmul_backward)

# Without a barrier XLA would compute an operand anew for each of its copies, and hand transposed
# operands to a slower product.
_barrier = jax.lax.optimization_barrier


def _bits(x):
    """Return the values in bfloat16 as integers.

    XLA on CPU moves integers as they are, but converts bfloat16 to float32 and back.
    """
    return _barrier(jax.lax.bitcast_convert_type(x.astype(jnp.bfloat16), jnp.uint16))


def _product(a, b):
    a, b = (jax.lax.bitcast_convert_type(bits, jnp.bfloat16) for bits in (a, b))
    return jax.lax.dot(a, b, preferred_element_type=jnp.float32)


@cache
def _multiplies_bfloat16():
    """Return whether this CPU multiplies bfloat16 in hardware; only Linux says so."""
    cpus = Path("/proc/cpuinfo")
    return cpus.exists() and any(unit in cpus.read_text() for unit in ("amx_bf16", "avx512_bf16"))
