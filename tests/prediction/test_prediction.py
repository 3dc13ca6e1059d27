import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage

from jaxdenoise.microscope.psf import gaussian_psf
from jaxdenoise.network import convolution
from jaxdenoise.network.denoiser import network_output
from jaxdenoise.prediction import forward, tiles, tiling
from jaxdenoise.prediction.tiles import denoise, denoise_image, denoise_tiles

ASYMMETRIC = np.array([[0, 1, 2], [0, 5, 1], [0, 0, 1]], np.float32) / 10


def noisy(shape, seed=0):
    return np.random.default_rng(seed).normal(150, 30, shape).astype(np.float32)


def with_changes(denoiser, **changes):
    return dataclasses.replace(denoiser, config=dataclasses.replace(denoiser.config, **changes))


def assert_equal_to_rounding(a, b, precision="float32"):
    # Two compilations add up in different orders; rarely a factor is then rounded to the next
    # bfloat16.
    np.testing.assert_allclose(
        a, b, rtol=0, atol={"float32": 2e-6, "bfloat16": 1e-3}[precision] * np.abs(b).max()
    )


network = jax.jit(network_output, static_argnames="config")


def reference(denoiser, image):
    """The definition: reflect widely, run the network once, cut, blur with reflected borders."""
    margin, config = tiling.halo(denoiser.config.network, denoiser.psf), denoiser.config
    extra = [-n % config.network.multiple for n in image.shape]
    wide = (
        np.pad(image, [(margin, margin + e) for e in extra], mode="reflect")
        - denoiser.scale.background
    )
    z = network(denoiser.params, jnp.asarray(wide)[None], denoiser.scale, config=config)[0]
    z = np.asarray(z)[margin : margin + image.shape[0], margin : margin + image.shape[1]]
    s = scipy.ndimage.convolve(z.astype(np.float64), denoiser.psf, mode="mirror")
    return s + denoiser.scale.background, z + denoiser.scale.background


@pytest.fixture(scope="module")
def denoiser(make_denoiser):
    """A small model; tests that share it and the image's longer side share the compiled program."""
    return make_denoiser(depth=2)


SIDE = 56  # as of the synthetic scene
PSFS = {"none": np.ones((1, 1)), "gaussian": gaussian_psf(0.7), "asymmetric": ASYMMETRIC}


def as_robustness(*values):
    return [pytest.param(value, marks=pytest.mark.robustness) for value in values]


def cases(fast, *axes):
    """Some cases, and the rest of the product of all axes as tests of robustness."""
    rest = [case for case in itertools.product(*axes) if case not in fast]
    return fast + [pytest.param(*case, marks=pytest.mark.robustness) for case in rest]


@pytest.mark.parametrize(
    ("shape", "psf", "precision"),
    cases(
        [((61, 83), "asymmetric", "float32"), ((7, 9), "none", "bfloat16")],
        [(64, 64), (61, 83), (7, 9)],
        PSFS,
        ["float32", "bfloat16"],
    ),
)
def test_equals_the_definition(make_denoiser, shape, psf, precision):
    denoiser, image = make_denoiser(psf=PSFS[psf], precision=precision), noisy(shape)
    for result in (denoise(denoiser, image, keep_light=False), denoise_image(denoiser, image)):
        for got, expected in zip(result, reference(denoiser, image), strict=True):
            assert got.shape == shape
            assert got.dtype == np.float32
            assert_equal_to_rounding(got, expected, precision)


@pytest.mark.parametrize(
    ("levels", "products"),
    cases(
        [((2, 3), (1, "float32")), ((2, 1), (8, "bfloat16"))],
        [(1, 1), (3, 1), (4, 1), (2, 3)],
        [(1, "float32"), (8, "float32"), (8, "bfloat16")],
    ),
)
def test_tiles_leave_no_seams(make_denoiser, levels, products):
    (depth, stride), (symmetries, precision) = levels, products
    denoiser = make_denoiser(depth=depth, stride=stride, psf=gaussian_psf(1.5), precision=precision)
    denoiser = with_changes(denoiser, symmetries=symmetries)
    image = noisy((57, 93))
    whole = denoise_image(denoiser, image)
    for core in (8, 40):
        tile_size = 2 * tiling.halo(denoiser.config.network, denoiser.psf) + core
        tiled = denoise(denoiser, image, tile_size=tile_size, keep_light=False)
        for got, expected in zip(tiled, whole, strict=True):
            assert_equal_to_rounding(got, expected, precision)


def test_a_wide_psf_of_little_weight_needs_no_wide_overlap(make_denoiser):
    wide = make_denoiser(depth=2, psf=gaussian_psf(1.0, size=81))
    image = noisy((90, 100))
    narrow = dataclasses.replace(wide, psf=gaussian_psf(1.0, size=13))
    with pytest.raises(ValueError, match="PSF of 81x81 pixels is larger"):
        denoise(wide, image[:80])
    tile_size = 2 * tiling.halo(wide.config.network, narrow.psf) + 16
    for got, expected in zip(
        denoise(wide, image, tile_size=tile_size, keep_light=False),
        reference(wide, image),
        strict=True,
    ):
        assert_equal_to_rounding(got, expected)


def test_tiles_with_too_little_overlap_would_show(make_denoiser, monkeypatch):
    # The tests above can fail: a quarter of the overlap is not enough.
    denoiser, image = make_denoiser(depth=2, psf=gaussian_psf(1.5)), noisy((57, 93))
    whole = denoise(denoiser, image)
    monkeypatch.setattr(tiling, "halo", lambda network, psf: 4)
    tiled = denoise(denoiser, image, tile_size=48)
    assert np.abs(tiled.deconvolved - whole.deconvolved).max() > 1e-3


def test_pieces_are_the_whole(denoiser):
    stack = noisy((2, 130, 90))
    whole = denoise(denoiser, stack, tile_size=80)
    seen = np.zeros(stack.shape, int)
    for place, tile in denoise_tiles(denoiser, stack, tile_size=80, marked=lambda at: stack[at]):
        seen[place] += 1
        for got, expected in zip(tile, whole, strict=True):
            np.testing.assert_array_equal(got, expected[place])
    assert (seen == 1).all()


@pytest.mark.parametrize("memory", [16, *as_robustness(6, 27)])
def test_a_device_without_memory_gets_smaller_tiles(denoiser, monkeypatch, memory):
    stack = noisy((2, SIDE, 40))
    whole = denoise(denoiser, stack)
    limit = memory + 2 * tiling.halo(denoiser.config.network, denoiser.psf)
    denoise_batch = forward.denoise_batch

    def with_little_memory(denoiser, tiles, *args):
        if tiles.shape[-1] > limit:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 1 bytes")
        return denoise_batch(denoiser, tiles, *args)

    monkeypatch.setattr(forward, "denoise_batch", with_little_memory)
    with pytest.warns(UserWarning, match="no memory for tiles"):
        result = denoise(denoiser, stack)
    for got, expected in zip(result, whole, strict=True):
        assert_equal_to_rounding(got, expected)
    limit = 0
    with pytest.raises(jax.errors.JaxRuntimeError), pytest.warns(UserWarning, match="no memory"):
        denoise(denoiser, stack)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_one_program_for_all_tiles(make_denoiser, precision):
    denoiser = make_denoiser(filters=3, depth=2, precision=precision)
    fast_in_loops = convolution.fast_in_loops(precision, "cpu")
    program = forward._denoise_in_turn if fast_in_loops else forward.deconvolve
    before = program._cache_size()
    denoise(denoiser, noisy((130, 90)), tile_size=80)
    denoise(denoiser, noisy((2, 77, 111)), tile_size=80)
    assert program._cache_size() == before + 1


@pytest.mark.parametrize("symmetries", [2, *as_robustness(1, 8)])
def test_tiles_in_one_call_are_tiles_one_by_one(make_denoiser, monkeypatch, symmetries):
    denoiser = make_denoiser(filters=8, depth=2, precision="bfloat16")
    denoiser = with_changes(denoiser, symmetries=symmetries)
    stack, counts = noisy((2, 150, 90)), []
    together = denoise(denoiser, stack, tile_size=80, on_tile=lambda *count: counts.append(count))
    assert counts == [(n + 1, counts[-1][1]) for n in range(counts[-1][1])]
    monkeypatch.setattr(tiles, "_RUNS", 1)
    for a, b in zip(together, denoise(denoiser, stack, tile_size=80), strict=True):
        np.testing.assert_array_equal(a, b)


def test_denoised_is_the_deconvolved_image_blurred(make_denoiser):
    denoiser = make_denoiser(depth=2, psf=ASYMMETRIC)
    result = denoise(denoiser, noisy((40, 50)))
    above = result.deconvolved - float(denoiser.scale.background)
    expected = scipy.ndimage.convolve(above.astype(np.float64), ASYMMETRIC, mode="mirror") + float(
        denoiser.scale.background
    )
    assert_equal_to_rounding(result.denoised, expected)


def test_eight_symmetries_make_the_result_equivariant(denoiser):
    denoiser, image = with_changes(denoiser, symmetries=8), noisy((SIDE, SIDE))
    straight = denoise(denoiser, image)
    for turn in (lambda x: x[::-1], lambda x: x[:, ::-1], np.transpose, np.rot90):
        for got, expected in zip(denoise(denoiser, turn(image)), straight, strict=True):
            assert_equal_to_rounding(got, turn(expected))


def test_a_stack_is_its_frames(denoiser):
    stack = noisy((3, 30, SIDE))
    together = denoise(denoiser, stack)
    assert together.denoised.shape == stack.shape
    for i, frame in enumerate(stack):
        np.testing.assert_array_equal(together.denoised[i], denoise(denoiser, frame).denoised)


def test_integer_images_are_accepted(denoiser):
    image = noisy((32, SIDE)).astype(np.uint16)
    got, expected = denoise(denoiser, image), denoise(denoiser, image.astype(np.float32))
    np.testing.assert_array_equal(got.denoised, expected.denoised)


def test_the_default_tile_is_bounded(denoiser):
    network, psf = denoiser.config.network, denoiser.psf
    assert tiling.core_size((100, 4000), None, network, psf) == 512
    # Images up to a quarter smaller share the compiled program.
    assert tiling.core_size((29, 21), None, network, psf) == 32
    assert tiling.core_size((32, 21), None, network, psf) == 32
    assert tiling.core_size((33, 21), None, network, psf) == 40


def test_progress_counts_every_tile(denoiser):
    calls = []
    stack = noisy((2, 70, 70))
    denoise(denoiser, stack, tile_size=80, on_tile=lambda *counts: calls.append(counts))
    assert calls[-1][0] == calls[-1][1] == len(calls) == 8


@pytest.mark.parametrize(
    ("stack", "options", "message"),
    [
        (noisy((32, 32)), {"tile_size": 20}, "tile size 20"),
        (np.full((8, 8), np.inf), {}, "64 pixels are infinite"),
        (noisy((2, 2, 2, 8, 8)), {}, "expected a stack"),
        (noisy((0, 8, 8)), {}, "at least one pixel"),
        (noisy((4, 40)), {}, "larger than the image"),
        pytest.param(noisy((32, 32)).astype(complex), {}, "complex", marks=pytest.mark.wrong_types),
    ],
)
def test_bad_input(denoiser, stack, options, message):
    with pytest.raises(ValueError, match=message) as error:
        denoise(denoiser, stack, **options)
    assert "\n" not in str(error.value)


def test_jit_vmap_and_grad(denoiser):
    stack = jnp.asarray(noisy((2, 20, 24)))
    expected = denoise(denoiser, np.asarray(stack), keep_light=False).denoised
    mapped = jax.jit(jax.vmap(denoise_image, (None, 0)))(denoiser, stack)
    assert_equal_to_rounding(mapped.denoised, expected)

    def brightness(image):
        return denoise_image(denoiser, image).denoised.mean()

    gradient = jax.jit(jax.grad(brightness))(stack[0])
    direction = noisy((20, 24), seed=1) / 100
    there, here = (brightness(stack[0] + step * direction) for step in (1, -1))
    np.testing.assert_allclose(
        jnp.vdot(gradient, direction), (there - here) / 2, rtol=2e-2, atol=1e-4
    )


def test_weights_are_chosen_by_the_configuration(denoiser, make_denoiser):
    both = dataclasses.replace(denoiser, last=make_denoiser(depth=2, seed=9).last)
    best, last = (
        denoise(with_changes(both, weights=name), noisy((32, SIDE))) for name in ("best", "last")
    )
    assert np.abs(best.denoised - last.denoised).max() > 1e-3


def test_tiles_of_the_default_size_fit_any_stride(make_denoiser, monkeypatch):
    denoiser, image = make_denoiser(depth=2, stride=3), noisy((70, 80))
    whole = denoise(denoiser, image, keep_light=False)
    monkeypatch.setattr(tiling, "_TILE", 32)
    for got, expected in zip(denoise(denoiser, image, keep_light=False), whole, strict=True):
        assert_equal_to_rounding(got, expected)
