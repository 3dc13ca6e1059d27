"""Parts of the sliding windows that the filters' tests do not reach by themselves."""

from fractions import Fraction

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxdenoise.imaging.windows import divide_half_even, gaussian_radius, gaussian_weights

LARGEST = {
    "uint16": 2**16 - 1,
    "uint32": 2**31 - 1,
    "int32": 2**31 - 1,
}  # of the dividend plus the divisor, as the filters have them


@settings(deadline=None, max_examples=15)
@given(
    data=st.data(),
    dtype=st.sampled_from(list(LARGEST)),
    divisor=st.one_of(st.sampled_from([1, 2, 3, 4, 9, 16, 256, 961, 4096]), st.integers(1, 5000)),
)
def test_division_is_pythons_rounding_of_fractions(data, dtype, divisor):
    largest = LARGEST[dtype] - divisor
    quotient = st.integers(0, largest // divisor - 1)
    near_ties = st.builds(
        lambda whole, beside: whole * divisor + divisor // 2 + beside, quotient, st.integers(-1, 1)
    )
    values = data.draw(
        st.lists(st.one_of(near_ties, st.integers(0, largest)), min_size=8, max_size=8)
    )
    values = [0, largest] + [min(max(value, 0), largest) for value in values]
    if dtype == "int32":
        values += [-value for value in values]
    result = divide_half_even(jnp.array(values, dtype), divisor)
    assert result.dtype == dtype
    np.testing.assert_array_equal(result, [round(Fraction(value, divisor)) for value in values])


@pytest.mark.parametrize("radius", [0, 4, 80])
@pytest.mark.parametrize("sigma", [0, 0.1, 0.7, 3.0, 1000.0])
def test_gaussian_weights_are_symmetric_and_sum_to_1(sigma, radius):
    weights = gaussian_weights(sigma, radius)
    assert weights.shape == (2 * radius + 1,)
    assert weights.sum() == pytest.approx(1, abs=1e-6)
    np.testing.assert_array_equal(weights, weights[::-1])
    assert (np.diff(weights[radius:]) <= 0).all()


@pytest.mark.parametrize(
    ("sigma", "radius"), [(0, 0), (0.1, 0), (0.125, 1), (1.0, 4), (1.3, 5), (2.5, 10)]
)
def test_a_gaussian_is_cut_at_four_sigmas(sigma, radius):
    assert gaussian_radius(sigma) == radius
