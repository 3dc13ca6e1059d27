"""Blind spots: one in each cell, every pixel equally likely, never replaced by itself."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from jaxdenoise.targets.blindspot import (
    box_size,
    replace_from_neighbourhood,
    spacing,
    stratified_mask,
)

few = settings(deadline=None, max_examples=15)
seeds = st.integers(0, 2**32 - 1)


def keys(count, seed=0):
    return jax.random.split(jax.random.key(seed), count)


def distinct(*shape, dtype=np.float32):
    """An image whose values say where they are."""
    return np.arange(np.prod(shape)).reshape(shape).astype(dtype)


def looks_uniform(counts):
    return stats.chisquare(counts).pvalue > 1e-4


mask_of = jax.jit(stratified_mask, static_argnums=1, static_argnames=("box", "regular"))
replaced = jax.jit(replace_from_neighbourhood, static_argnames=("radius", "blind", "replacement"))


@functools.partial(jax.jit, static_argnums=1, static_argnames="box")
def masks_of(many, shape, *, box):
    return jax.vmap(lambda key: stratified_mask(key, shape, box=box))(many)


# box_size


def test_the_published_box():
    assert box_size(1 / 32) == 6
    assert box_size(312.5 / (100 * 100)) == round(np.sqrt(100 * 100 / 312.5))


@given(density=st.floats(1e-6, 1))
def test_a_box_has_about_the_density(density):
    box = box_size(density)
    assert isinstance(box, int)
    assert box >= 1
    assert abs(box - density**-0.5) <= 0.5


@pytest.mark.parametrize("density", [0, -0.1, 1.1, float("nan"), float("inf")])
def test_a_density_that_cannot_be(density):
    with pytest.raises(ValueError, match="density"):
        box_size(density)


# stratified_mask


@few
@given(
    case=st.sampled_from([((12, 8), 4), ((7, 20), 6), ((2, 3), 4), ((1, 9), 2)]),
    seed=seeds,
)
def test_one_pixel_in_each_cell(case, seed):
    (height, width), box = case
    mask = np.asarray(mask_of(jax.random.key(seed), (height, width), box=box))
    assert mask.shape == (height, width)
    assert mask.dtype == bool
    for top in range(0, height, box):
        for left in range(0, width, box):
            cell = mask[top : top + box, left : left + box]
            assert cell.sum() == 1 if cell.shape == (box, box) else cell.sum() <= 1


@pytest.mark.parametrize("shape", [(12, 8), (13, 10), (3, 2)])
def test_every_pixel_is_as_likely_also_at_the_border(shape):
    box, draws = 4, 8000
    masks = masks_of(keys(draws), shape, box=box)
    p = 1 / box**2
    deviations = (np.asarray(masks).sum(0) - draws * p) / np.sqrt(draws * p * (1 - p))
    assert np.abs(deviations).max() < 4.5


def test_uniform_over_the_places_of_a_cell_and_cells_do_not_depend_on_each_other():
    masks = np.asarray(masks_of(keys(8000), (3, 6), box=3))
    left, right = masks[:, :, :3].reshape(-1, 9).argmax(1), masks[:, :, 3:].reshape(-1, 9).argmax(1)
    assert looks_uniform(np.bincount(left * 9 + right, minlength=81))


def test_a_mask_is_decided_by_its_key_also_under_jit():
    masks = [stratified_mask(key, (12, 8), box=4) for key in keys(2)]
    assert (masks[0] == mask_of(keys(2)[0], (12, 8), box=4)).all()
    assert (masks[0] != masks[1]).any()


def test_box_1_masks_everything():
    assert stratified_mask(jax.random.key(0), (4, 5), box=1).all()


# replace_from_neighbourhood


@few
@given(
    case=st.sampled_from([((9, 8), 2), ((3, 4), 4), ((9, 1), 1), ((1, 2), 2)]),
    seed=seeds,
)
def test_a_pixel_is_replaced_by_another_of_its_neighbourhood(case, seed):
    (height, width), radius = case
    image = distinct(height, width)
    mask = np.random.default_rng(seed).random(image.shape) < 0.6
    result = np.asarray(replaced(jax.random.key(seed), image, mask, radius=radius))
    np.testing.assert_array_equal(result[~mask], image[~mask])
    assert (result != image)[mask].all()
    y, x = np.indices(image.shape)
    from_y, from_x = np.divmod(result.astype(int), width)
    assert ((result >= 0) & (result < image.size)).all()
    assert (np.abs(from_y - y) <= radius).all()
    assert (np.abs(from_x - x) <= radius).all()


@pytest.mark.parametrize("radius", [1, 2])
def test_every_other_pixel_of_the_neighbourhood_is_as_likely(radius):
    image, mask = jnp.asarray(distinct(6, 7)), jnp.ones((6, 7), bool)
    draw = jax.jit(
        jax.vmap(lambda key: replace_from_neighbourhood(key, image, mask, radius=radius))
    )
    results = np.asarray(draw(keys(12000, seed=1))).astype(int)
    for y, x in [(3, 3), (0, 0), (5, 6), (0, 6), (0, 3), (3, 0), (5, 3), (3, 6), (1, 1), (4, 5)]:
        allowed = (
            image[max(y - radius, 0) : y + radius + 1, max(x - radius, 0) : x + radius + 1]
            .ravel()
            .astype(int)
        )
        allowed = np.setdiff1d(allowed, [int(image[y, x])])
        counts = np.bincount(results[:, y, x], minlength=image.size)
        assert counts.sum() == counts[allowed].sum()
        assert looks_uniform(counts[allowed])


def test_replaced_pixels_are_drawn_independently():
    image, mask = jnp.asarray(distinct(1, 4)), jnp.ones((1, 4), bool)
    results = np.asarray(
        jax.jit(jax.vmap(lambda key: replace_from_neighbourhood(key, image, mask, radius=1)))(
            keys(4000)
        )
    ).astype(int)
    assert looks_uniform(
        np.bincount(results[:, 0, 1] + results[:, 0, 2] // 2, minlength=4)
    )  # {0, 2} and {1, 3}


@pytest.mark.parametrize(
    "dtype", ["uint8", "uint16", "int32", "float16", "bfloat16", "float32", "bool"]
)
def test_any_dtype_is_kept(dtype):
    image, mask = jax.ShapeDtypeStruct((5, 6), dtype), jax.ShapeDtypeStruct((5, 6), bool)
    result = jax.eval_shape(replace_from_neighbourhood, jax.random.key(0), image, mask)
    assert (result.shape, result.dtype) == (image.shape, image.dtype)


def test_jit_and_vmap_give_the_same():
    images, masks = jnp.asarray(distinct(3, 9, 8)), masks_of(keys(3), (9, 8), box=2)
    together = jax.jit(jax.vmap(replace_from_neighbourhood))(keys(3), images, masks)
    for result, key, image, mask in zip(together, keys(3), images, masks, strict=True):
        np.testing.assert_array_equal(result, replaced(key, image, mask))
    without_jit = replace_from_neighbourhood(keys(3)[0], images[0], masks[0])
    np.testing.assert_array_equal(together[0], without_jit)


def test_a_numpy_image_under_vmap_over_keys():
    image, mask = distinct(9, 8), np.ones((9, 8), bool)
    results = jax.vmap(lambda key: replaced(key, image, mask))(keys(3))
    np.testing.assert_array_equal(results[1], replaced(keys(3)[1], image, mask))


def test_the_gradient_goes_to_the_pixels_that_are_seen():
    image, mask = jnp.asarray(distinct(4, 4)), jnp.zeros((4, 4), bool).at[1, 1].set(True)
    gradient = jax.jit(
        jax.grad(lambda x: replace_from_neighbourhood(jax.random.key(0), x, mask).sum())
    )(image)
    assert gradient[1, 1] == 0
    assert gradient.sum() == 16


@pytest.mark.parametrize(
    ("image", "mask", "radius", "message"),
    [
        pytest.param((4, 4), (4, 5), 2, "one shape", marks=pytest.mark.wrong_types),
        pytest.param((2, 4, 4), (2, 4, 4), 2, r"\(H, W\)", marks=pytest.mark.wrong_types),
        pytest.param((4,), (4,), 2, r"\(H, W\)", marks=pytest.mark.wrong_types),
        ((4, 4), (4, 4), 0, "radius 0"),
        ((4, 4), (4, 4), -1, "radius -1"),
        ((1, 1), (1, 1), 2, "1x1"),
        ((0, 4), (0, 4), 2, "0x4"),
    ],
    ids=str,
)
def test_what_cannot_be_replaced(image, mask, radius, message):
    with pytest.raises(ValueError, match=message):
        replace_from_neighbourhood(
            jax.random.key(0), jnp.zeros(image), jnp.ones(mask, bool), radius=radius
        )


def test_hidden_neighbourhoods_are_far_enough_apart():
    assert spacing(1 / 32) == box_size(1 / 32) == 6
    for blind in ((1, 0), (0, 1), (3, 3), (2, 5)):
        assert spacing(1 / 32, blind) > 2 * max(blind)
        places = np.argwhere(
            mask_of(keys(1)[0], (70, 70), box=spacing(1 / 32, blind), regular=True)
        )
        for axis in (0, 1):
            assert set(np.diff(np.unique(places[:, axis]))) == {spacing(1 / 32, blind)}


def test_every_pixel_is_as_likely_in_a_regular_mask():
    masks = jax.vmap(lambda key: mask_of(key, (7, 9), box=4, regular=True))(keys(2000))
    assert looks_uniform(np.asarray(masks.sum(axis=0)).ravel())


@few
@given(
    case=st.sampled_from([((0, 3), 1, (8, 30)), ((3, 1), 2, (23, 17)), ((0, 0), 2, (11, 8))]),
    seed=seeds,
)
def test_what_a_blind_spot_hides_comes_from_beyond(case, seed):
    check_what_is_hidden(*case, seed)


@pytest.mark.robustness
@settings(deadline=None, max_examples=60)
@given(
    blind=st.tuples(st.integers(0, 3), st.integers(0, 3)),
    radius=st.integers(1, 2),
    shape=st.tuples(*[st.integers(8, 30)] * 2),
    seed=seeds,
)
def test_what_any_blind_spot_hides_comes_from_beyond(blind, radius, shape, seed):
    check_what_is_hidden(blind, radius, shape, seed)


def check_what_is_hidden(blind, radius, shape, seed):
    key, image = jax.random.key(seed), distinct(*shape)
    mask = np.asarray(mask_of(key, shape, box=2 * max(blind) + 2, regular=True))
    result = np.asarray(replaced(key, image, mask, radius=radius, blind=blind))
    rows, columns = np.indices(shape)
    hidden = np.zeros(shape, bool)
    for y, x in np.argwhere(mask):
        own = (abs(rows - y) <= blind[0]) & (abs(columns - x) <= blind[1])
        hidden |= own
        source_y, source_x = np.divmod(result[own].astype(int), shape[1])
        down, right = abs(source_y - y), abs(source_x - x)
        assert np.all((down <= blind[0] + radius) & (right <= blind[1] + radius))
        assert np.all((down > blind[0]) | (right > blind[1]))
    np.testing.assert_array_equal(result[~hidden], image[~hidden])


@pytest.mark.parametrize("centre", [(4, 4), (0, 4), (8, 8)], ids=["inside", "edge", "corner"])
def test_every_pixel_around_what_is_hidden_is_as_likely(centre):
    mask = np.zeros((9, 9), bool)
    mask[centre] = True
    results = jax.vmap(lambda key: replaced(key, distinct(9, 9), mask, radius=1, blind=(1, 2)))(
        keys(1000)
    )
    rows, columns = np.indices((9, 9))
    own = (abs(rows - centre[0]) <= 1) & (abs(columns - centre[1]) <= 2)
    values, counts = np.unique(np.asarray(results)[:, own], return_counts=True)
    around = (abs(rows - centre[0]) <= 2) & (abs(columns - centre[1]) <= 3) & ~own
    np.testing.assert_array_equal(values, distinct(9, 9)[around])
    assert looks_uniform(counts)


def test_an_image_that_could_be_hidden_whole():
    with pytest.raises(ValueError, match="7x3 image has no neighbour"):
        replace_from_neighbourhood(
            keys(1)[0], jnp.zeros((7, 3)), jnp.zeros((7, 3), bool), blind=(3, 1)
        )


EDGES = [((0, 0), 2, (8, 13)), ((2, 1), 1, (20, 9))]
STATISTICS = {"median": np.median, "mean": np.mean}


@few
@given(case=st.sampled_from(list(zip(EDGES, STATISTICS, strict=True))), seed=seeds)
def test_the_median_or_mean_of_the_neighbourhood(case, seed):
    (blind, radius, shape), replacement = case
    check_the_statistic(blind, radius, shape, replacement, seed)


@pytest.mark.robustness
@few
@given(
    blind=st.sampled_from([(0, 0), (2, 1)]),
    radius=st.integers(1, 2),
    shape=st.sampled_from([(8, 13), (20, 9)]),
    replacement=st.sampled_from(list(STATISTICS)),
    seed=seeds,
)
def test_the_median_or_mean_of_any_neighbourhood(blind, radius, shape, replacement, seed):
    check_the_statistic(blind, radius, shape, replacement, seed)


def check_the_statistic(blind, radius, shape, replacement, seed):
    key = jax.random.key(seed)
    image = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    mask = np.asarray(mask_of(key, shape, box=2 * max(blind) + 2, regular=True))
    rows, columns = np.indices(shape)
    expected = image.copy()
    for y, x in np.argwhere(mask):
        own = (abs(rows - y) <= blind[0]) & (abs(columns - x) <= blind[1])
        around = (
            (abs(rows - y) <= blind[0] + radius) & (abs(columns - x) <= blind[1] + radius) & ~own
        )
        expected[own] = STATISTICS[replacement](image[around])
    result = replaced(key, image, mask, radius=radius, blind=blind, replacement=replacement)
    np.testing.assert_allclose(result, expected, atol=1e-6)
