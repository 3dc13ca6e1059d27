"""The loss and its parts, against NumPy in float64, finite differences, and the law of units."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxdenoise.targets.losses import (
    LossTerms,
    masked_mean,
    negativity,
    squared_error,
    total_loss,
    total_variation,
)

few = settings(deadline=None, max_examples=20)
seeds = st.integers(0, 2**32 - 1)
weights = st.floats(0, 5)


def case(seed=0, shape=(6, 7)):
    """Noisy, mask, deconvolved, denoised and std, with at least one blind spot."""
    rng = np.random.default_rng(seed)
    noisy, deconvolved, denoised = rng.normal(5, 10, (3, *shape)).astype(np.float32)
    mask = rng.random(shape) < 0.3
    mask[0, 0] = True
    return noisy, mask, deconvolved, denoised, np.float32(rng.uniform(0.5, 20))


def by_hand(noisy, mask, deconvolved, denoised, std, positivity=1.0, variation=0.0):
    x, z, s = (np.asarray(a, np.float64) for a in (noisy, deconvolved, denoised))
    data = (
        np.mean([(x[i] - s[i]) ** 2 for i in np.argwhere(mask).tolist() for i in [tuple(i)]])
        / std**2
    )
    negative = np.where(z < 0, -z, 0).mean() / std
    rough = (np.abs(z[1:] - z[:-1]).mean() + np.abs(z[:, 1:] - z[:, :-1]).mean()) / std
    return data + positivity * negative + variation * rough, data, negative, rough


@jax.jit
def call(noisy, mask, deconvolved, denoised, std, **weights):
    return total_loss(noisy, mask, deconvolved, denoised, std=std, **weights)


gradients = jax.jit(
    jax.grad(lambda *parts: call(*parts, positivity=2.0, variation=0.7).total, argnums=(2, 3))
)


def test_squared_error():
    np.testing.assert_array_equal(
        squared_error(jnp.array([1.0, -2.0]), jnp.array([4.0, -2.5])), [9, 0.25]
    )


def test_negativity():
    np.testing.assert_array_equal(negativity(jnp.array([-3.0, -0.0, 0.0, 2.0])), [3, 0, 0, 0])


def test_total_variation_by_hand():
    # down: 2, 6, 3 (mean 11/3); right: 1, 4, 3, 0 (mean 2)
    assert total_variation(jnp.array([[1.0, 2.0, 6.0], [3.0, 0.0, 0.0]])) == pytest.approx(
        (2 + 2 + 6) / 3 + (1 + 4 + 3 + 0) / 4
    )


def test_total_variation_of_a_constant_is_0_and_of_a_slope_its_steepness():
    y, x = np.indices((5, 8)).astype(np.float32)
    assert total_variation(jnp.full((5, 8), 7.0)) == 0
    assert total_variation(2 * y - 3 * x) == pytest.approx(5)


@pytest.mark.parametrize("shape", [(1, 6), (6, 1), (1, 1)])
def test_total_variation_of_a_single_row_or_column(shape):
    image = np.arange(6, dtype=np.float32)[: shape[0] * shape[1]].reshape(shape)
    assert total_variation(image) == (1 if image.size > 1 else 0)


def test_masked_mean():
    values, mask = jnp.array([[1.0, 2.0], [3.0, 10.0]]), jnp.array([[True, False], [True, True]])
    assert masked_mean(values, mask) == pytest.approx(14 / 3)
    assert masked_mean(values, jnp.ones((2, 2), bool)) == 4


@few
@given(seed=seeds)
def test_masked_mean_does_not_see_what_is_not_masked(seed):
    noisy, mask, *_ = case(seed)
    other = np.where(
        mask, noisy, np.random.default_rng(seed + 1).normal(0, 1e3, noisy.shape).astype(np.float32)
    )
    mean = jax.jit(masked_mean)
    assert float(mean(noisy, mask)) == pytest.approx(
        noisy[mask].astype(np.float64).mean(), rel=1e-4, abs=1e-4
    )
    assert mean(noisy, mask) == mean(other, mask)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_masked_mean_does_not_see_values_that_are_no_numbers(value):
    assert masked_mean(jnp.array([1.0, value, 3.0]), jnp.array([True, False, True])) == 2


def test_an_empty_mask_gives_0_and_a_gradient_of_0():
    value, gradient = jax.value_and_grad(masked_mean)(jnp.arange(4.0), jnp.zeros(4, bool))
    assert value == 0
    np.testing.assert_array_equal(gradient, np.zeros(4))
    noisy, mask, deconvolved, denoised, std = case()
    value, gradient = jax.value_and_grad(
        lambda s: call(noisy, np.zeros_like(mask), deconvolved, s, std, positivity=0.0).total
    )(denoised)
    assert value == 0
    np.testing.assert_array_equal(gradient, np.zeros_like(denoised))


@few
@given(seed=seeds, positivity=weights, variation=weights)
def test_the_loss_is_what_numpy_says(seed, positivity, variation):
    terms = call(*case(seed), positivity=positivity, variation=variation)
    assert isinstance(terms, LossTerms)
    assert all(term.shape == () and term.dtype == jnp.float32 for term in terms)
    np.testing.assert_allclose(terms, by_hand(*case(seed), positivity, variation), rtol=1e-4)


@few
@given(seed=seeds)
def test_within_the_margin_nothing_is_penalised(seed):
    noisy, mask, deconvolved, denoised, std = case(seed)
    lowest = float(np.min(deconvolved))
    terms = call(noisy, mask, deconvolved, denoised, std, margin=max(-lowest, 0))
    assert float(terms.positivity) == pytest.approx(0, abs=1e-6)
    shifted = call(noisy, mask, deconvolved + 3, denoised, std)
    terms = call(noisy, mask, deconvolved, denoised, std, margin=3.0)
    assert float(terms.positivity) == pytest.approx(float(shifted.positivity), rel=1e-4, abs=1e-6)


@few
@given(seed=seeds, positivity=weights, variation=weights)
def test_the_weights_change_the_total_alone(seed, positivity, variation):
    terms = jax.tree.map(float, call(*case(seed), positivity=positivity, variation=variation))
    bare = jax.tree.map(float, call(*case(seed), positivity=0.0, variation=0.0))
    np.testing.assert_allclose(terms[1:], bare[1:], rtol=1e-6)
    assert bare.total == bare.data
    assert terms.total == pytest.approx(
        terms.data + positivity * terms.positivity + variation * terms.variation, rel=1e-5
    )


def test_the_defaults_are_the_published_ours_plus():
    assert call(*case()) == call(*case(), positivity=1.0, variation=0.0)


@few
@given(seed=seeds, unit=st.floats(1e-3, 1e3))
def test_the_loss_has_no_unit(seed, unit):
    noisy, mask, deconvolved, denoised, std = case(seed)
    scaled = call(
        noisy * unit, mask, deconvolved * unit, denoised * unit, std * unit, variation=0.5
    )
    np.testing.assert_allclose(
        scaled, call(noisy, mask, deconvolved, denoised, std, variation=0.5), rtol=1e-4
    )


@few
@given(seed=seeds)
def test_only_blind_spots_count_in_the_data_term(seed):
    noisy, mask, deconvolved, denoised, std = case(seed)
    other = np.where(mask, noisy, -noisy + 3)
    assert call(other, mask, deconvolved, denoised, std) == call(
        noisy, mask, deconvolved, denoised, std
    )
    _, gradient = gradients(noisy, mask, deconvolved, denoised, std)
    assert (np.asarray(gradient)[~mask] == 0).all()


def test_a_perfect_prediction_costs_nothing():
    noisy, mask, *_ = case()
    assert call(noisy, mask, np.abs(noisy), noisy, 3.0).total == 0


@pytest.mark.parametrize("seed", range(3))
def test_gradients_are_finite_differences(seed):
    noisy, mask, deconvolved, denoised, std = case(seed)
    along_z, along_s = np.random.default_rng(seed + 9).normal(size=(2, *noisy.shape))

    def loss(step):
        return by_hand(
            noisy,
            mask,
            deconvolved + step * along_z,
            denoised + step * along_s,
            float(std),
            2.0,
            0.7,
        )[0]

    by_z, by_s = gradients(noisy, mask, deconvolved, denoised, std)
    slope = np.vdot(by_z, along_z) + np.vdot(by_s, along_s)
    assert slope == pytest.approx((loss(1e-6) - loss(-1e-6)) / 2e-6, rel=1e-3, abs=1e-4)


def test_jit_and_vmap():
    cases = [case(seed) for seed in range(3)]
    stacked = [np.stack(parts) for parts in zip(*cases, strict=True)]
    together = jax.jit(jax.vmap(call))(*stacked)
    for index, single in enumerate(cases):
        np.testing.assert_allclose([term[index] for term in together], by_hand(*single), rtol=1e-4)


@pytest.mark.wrong_types
def test_shapes_must_agree():
    row, column = jnp.ones((1, 4)), jnp.ones((4, 1))
    with pytest.raises(ValueError, match="one shape"):
        squared_error(row, column)
    with pytest.raises(ValueError, match="one shape"):
        masked_mean(row, jnp.ones((4, 4), bool))
    with pytest.raises(ValueError, match="one shape"):
        total_loss(row, jnp.ones((1, 4), bool), row, column, std=1.0)
    with pytest.raises(ValueError, match="one shape"):
        total_loss(row, jnp.ones((4, 1), bool), row, row, std=1.0)
