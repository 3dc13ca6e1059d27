"""Combinations of parameters: each value once in the fast tests, the full grid in `robustness`."""

from itertools import product

import pytest


def covering(**values):
    """Parametrize a test by all combinations; those that add no value are marked `robustness`."""
    sizes = [len(some) for some in values.values()]
    fast = {tuple(i % size for size in sizes) for i in range(max(sizes))}
    cases = []
    for places in product(*map(range, sizes)):
        case = [some[place] for some, place in zip(values.values(), places, strict=True)]
        cases.append(pytest.param(*case, marks=[] if places in fast else pytest.mark.robustness))
    return pytest.mark.parametrize(list(values), cases)


def fewer(name, fast, full):
    """Parametrize a test by how often it tries; the larger number is for `robustness`."""
    return pytest.mark.parametrize(name, [fast, pytest.param(full, marks=pytest.mark.robustness)])
