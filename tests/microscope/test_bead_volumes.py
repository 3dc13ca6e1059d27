"""A PSF of volumes from synthetic beads whose widths are known."""

import numpy as np
import pytest

from jaxdenoise.microscope.bead_volumes import measure_volume_psf
from jaxdenoise.microscope.psf import psf_sigmas

SIGMA = (2.2, 1.3, 1.5)


def beads(seed=0, depth=25, noise=4.0, edge=False):
    rng = np.random.default_rng(seed)
    volume = np.full((depth, 110, 110), 100.0)
    for row in range(4):
        for column in range(4):
            middle = 1.0 if edge else depth / 2 + rng.uniform(-1.5, 1.5)
            place = (
                middle,
                16 + 26 * row + rng.uniform(-2, 2),
                16 + 26 * column + rng.uniform(-2, 2),
            )
            lines = [
                np.exp(-0.5 * ((np.arange(n) - c) / s) ** 2)
                for n, c, s in zip(volume.shape, place, SIGMA, strict=True)
            ]
            volume += rng.uniform(300, 600) * np.einsum("i,j,k->ijk", *lines)
    return volume + noise * rng.normal(size=volume.shape)


def test_beads_in_a_stack_give_all_three_widths():
    found = measure_volume_psf(beads())
    assert found.beads >= 10
    assert found.sigma == pytest.approx(SIGMA, rel=0.03)
    assert found.fwhm == pytest.approx(np.array(SIGMA) * 2.3548, rel=0.05)
    assert all(side % 2 == 1 for side in found.psf.shape)
    assert found.psf.sum() == pytest.approx(1, abs=1e-5)
    assert np.unravel_index(found.psf.argmax(), found.psf.shape) == tuple(
        side // 2 for side in found.psf.shape
    )
    assert psf_sigmas(found.psf) == pytest.approx(SIGMA, rel=0.08)


def test_beads_without_planes_around_them_are_refused():
    with pytest.raises(ValueError, match="at least 7 planes"):
        measure_volume_psf(np.ones((3, 50, 50)))
    with pytest.raises(ValueError, match="planes above and below"):
        measure_volume_psf(beads(edge=True))
