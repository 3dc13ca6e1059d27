"""PSFs as files hold them: after mending, each is about what the good one is."""

import jax
import numpy as np
import pytest

import jaxdenoise as jd
from jaxdenoise.microscope.psf import normalized_psf, padded, psf_sigmas
from jaxdenoise.microscope.psf_cleaning import clean_psf
from jaxdenoise.microscope.psf_faults import psf_faults
from jaxdenoise.microscope.psf_volumes import shallow
from jaxdenoise.microscope.resampling import moved_to_middle, resampled

RNG = np.random.default_rng(0)


def bell(shape, sigma, centre=None):
    """A Gaussian of peak 1, by default in the middle of the array."""
    sides = np.broadcast_to(shape, 2)
    centres = (sides - 1) / 2 if centre is None else np.broadcast_to(centre, 2)
    y, x = (
        np.exp(-((np.arange(n) - c) ** 2) / (2 * s**2))
        for n, c, s in zip(sides, centres, np.broadcast_to(sigma, 2), strict=True)
    )
    return np.outer(y, x)


def error(psf, sigma=1.5):
    """The sum of the absolute differences from the Gaussian of sum 1."""
    truth = normalized_psf(bell(99, sigma))
    return np.abs(padded(psf, (99, 99)) - truth).sum()


THROUGH_FOCUS = np.stack([bell(15, 1.5 + abs(k) / 2) / (1 + abs(k)) ** 2 for k in range(-4, 5)])
MENDED = {
    "even sides, the centre at N/2": (bell(16, 1.5, 8), ("padded from 16x16 to 17x17",)),
    "even sides, the centre between pixels": (bell(16, 1.5), ("moved down by 0.50 and right",)),
    "one even side": (bell((15, 16), 1.5, (7, 8)), ("padded from 15x16 to 15x17",)),
    "a row and a column cut off": (bell(15, 1.5, 8), ("moved up by 1.00 and left by 1.00",)),
    "off by two": (bell(15, 1.5, (9, 7)), ("moved up by 2.00 pixels",)),
    "off by fractions": (bell(17, 1.5, (8.4, 7.3)), ("moved up by 0.40 and right by 0.70",)),
    "a camera's offset": (
        np.rint(100 + 3000 * bell(31, 1.5)).astype(np.uint16),
        ("a pedestal of 3.3 % of the peak",),
    ),
    "a low pedestal in a large frame": (0.005 + bell(63, 1.5), ("a pedestal of 0.5 %",)),
    "too much subtracted": (bell(25, 1.5) - 0.03, ("a pedestal of -3 % of the peak",)),
    "off and on a pedestal": (
        0.1 + bell(25, 1.5, (13.5, 11)),
        ("a pedestal of 11 %", "moved up by 1.50 and right by 1.00"),
    ),
    "a volume": (THROUGH_FOCUS, ("plane 5 of 9, the sharpest",)),
    "centred in the corners": (
        np.fft.ifftshift(bell(32, 1.5, 16)),
        ("rolled from the corners", "padded from 32x32 to 33x33"),
    ),
}


@pytest.mark.parametrize("name", MENDED)
def test_a_psf_is_mended_and_that_is_said(name):
    array, expected = MENDED[name]
    psf, notes = clean_psf(array)
    assert psf.dtype == np.float32
    assert psf.sum() == pytest.approx(1, abs=1e-5)
    assert error(psf) < 0.02
    assert len(notes) == len(expected)
    for note, start in zip(notes, expected, strict=True):
        assert start in note


GOOD = {
    "a Gaussian": bell(15, 1.5),
    "a narrow one": bell(9, 0.4),
    "a wide one that its frame cuts off": bell(15, 4.0),
    "an elongated one": bell((9, 21), (0.7, 2.0)),
    "of one pixel": np.ones((1, 1)),
    "a pixel among zeros": np.pad([[1.0]], 5),
    "a box": np.ones((9, 9)),
    "a line": np.ones((1, 7)),
    "a small one": np.array([[0, 1, 0], [2, 9, 1], [0, 1, 0]], np.uint8),
    "a core with a halo": bell(31, 1.5) + 0.05 * bell(31, 6.0),
    "of heavy tails": (1 + np.hypot(*np.mgrid[-15:16, -15:16]) ** 2 / 9) ** -2.5,
    "with noise": bell(21, 1.5) + RNG.normal(0, 0.01, (21, 21)),
    "a further axis": bell(15, 1.5)[None],
}


@pytest.mark.parametrize("name", GOOD)
def test_a_good_psf_stays_to_the_bit(name):
    psf, notes = clean_psf(GOOD[name], largest=64)
    assert notes == ()
    np.testing.assert_array_equal(psf, normalized_psf(np.squeeze(GOOD[name]).reshape(psf.shape)))
    assert psf_faults(np.reshape(GOOD[name], psf.shape)) == ()


def test_a_lopsided_psf_is_centred_by_its_peak_or_as_a_whole():
    tail = bell(25, 1.2, 12) + 0.2 * bell(25, 1.5, (12, 15)) + 0.1 * bell(25, 2.0, (12, 17))
    assert clean_psf(tail).notes == ()
    (note,) = clean_psf(np.pad(tail, ((0, 0), (4, 0)))).notes
    assert note.startswith("centred: moved left by 2.0")


@pytest.mark.parametrize(("step", "sigma"), [(2.0, 3.0), (1.6, 2.4), (0.5, 0.75), (0.8, 1.2)])
def test_a_psf_of_other_pixels_is_resampled(step, sigma):
    psf, notes = clean_psf(
        bell(41, sigma), pixel_size=(0.1, 0.1), image_pixel_size=(0.1 * step, 0.1 * step)
    )
    size = f"{0.1 * step:g}"
    assert notes == (f"resampled from pixels of 0.1x0.1 to the image's {size}x{size}",)
    # Larger pixels integrate over their area: their variance is that much greater.
    wider = np.sqrt(1.5**2 + max(0, 1 - 1 / step**2) / 12)
    assert error(psf, wider) < (0.01 if step > 1 else 0.08)


def test_pixel_sizes_that_are_the_same_or_a_mistake():
    same = clean_psf(bell(15, 1.5), pixel_size=(0.1, 0.1), image_pixel_size=(0.1005, 0.1))
    assert same.notes == ()
    psf, (note,) = clean_psf(bell(15, 1.5), pixel_size=(85.0, 85.0), image_pixel_size=(0.1, 0.1))
    assert note.startswith("not resampled: pixels of 85x85 beside the image's 0.1x0.1 must be")
    np.testing.assert_array_equal(psf, normalized_psf(bell(15, 1.5)))


def test_a_psf_as_large_as_the_image_is_cut_to_its_light():
    psf, notes = clean_psf(bell(63, 1.5), largest=64)
    assert (notes, psf.shape) == ((), (17, 17))
    assert error(psf) < 1e-5
    psf, (note,) = clean_psf(bell(63, 4.0), largest=24)
    assert psf.shape == (23, 23)
    assert note.startswith("cut from 47x47 to 23x23 pixels to fit the image, which loses 0.")
    assert clean_psf(bell(31, 4.0), largest=9).psf.shape == (31, 31)  # most would be lost


@pytest.mark.parametrize(
    ("psf", "message"),
    [
        (THROUGH_FOCUS[:5], "the last of its 5 planes is the sharpest"),
        (THROUGH_FOCUS[4:], "the first of its 5 planes is the sharpest"),
        (np.stack([bell(15, 1.5)] * 4), "its 4 planes are equally sharp; give the plane in focus"),
        (np.ones((2, 2, 5, 5)), "one image, or a volume"),
        (np.full((5, 5), np.nan), "NaN"),
        (np.zeros((5, 5)), "sum must be positive"),
        (bell(15, 1.5, (14, 7)), "its centre lies at its border"),
        (np.ones((5, 5), complex), "expected integers or floats"),
    ],
    ids=str,
)
@pytest.mark.wrong_types
def test_what_cannot_be_mended(psf, message):
    with pytest.raises(ValueError, match=message):
        clean_psf(psf)


def test_a_small_box_of_even_sides_stays_symmetric():
    psf, (note,) = clean_psf(np.ones((4, 4)))
    assert note == "centred: moved down by 0.50 and right by 0.50 pixels"
    assert psf.shape == (5, 5)
    np.testing.assert_allclose(psf, psf[::-1, ::-1], atol=1e-6)


def test_light_is_kept_by_other_pixels():
    psf = RNG.gamma(1, 1, (9, 12))
    for centre, step in (((4.0, 5.5), (1.0, 1.0)), ((2.3, 7.1), (2.5, 0.4))):
        assert resampled(psf, centre, step).sum() == pytest.approx(psf.sum(), rel=0.02)
    np.testing.assert_allclose(resampled(psf, (4.0, 6.0)), moved_to_middle(psf, (4, 6)), atol=1e-9)
    assert moved_to_middle(psf, (8, 0)).shape == (17, 23)


def test_an_array_that_is_off_or_on_a_pedestal_is_warned_of():
    stack = np.zeros((1, 32, 32), np.float32)  # refused after the warning
    message = r"PSF: its centre is 2\.00 pixels off and it stands on a pedestal of 10 % of its peak"
    with pytest.warns(UserWarning, match=message), pytest.raises(ValueError, match="constant"):
        jd.fit(jax.random.key(0), stack, psf=0.1 + bell(19, 1.5, (9, 11)))


# Volumes


def bells(shape, sigma, centre=None):
    """A Gaussian on pixels of any number of axes, peak 1."""
    middle = [n // 2 for n in shape] if centre is None else centre
    lines = [
        np.exp(-0.5 * ((np.arange(n) - c) / s) ** 2)
        for n, c, s in zip(shape, middle, sigma, strict=True)
    ]
    return np.einsum("i,j,k->ijk", *lines)


def sigmas(psf):
    return psf_sigmas(psf)


def test_a_good_volume_stays_to_the_bit():
    volume = bells((13, 15, 15), (2.0, 1.5, 1.5))
    psf, notes = clean_psf(volume, volume=True)
    assert notes == ()
    np.testing.assert_array_equal(psf, normalized_psf(volume))
    assert psf_faults(volume) == ()


def test_a_volume_is_centred_and_freed_of_its_pedestal():
    volume = bells((16, 20, 17), (2.0, 1.5, 1.5), (6.3, 9.0, 8.4)) + 0.05
    psf, notes = clean_psf(volume, volume=True)
    assert all(side % 2 == 1 for side in psf.shape)
    assert notes[0] == "a pedestal of 5.2 % of the peak taken off"
    assert notes[1].startswith("centred: moved deeper by 1.70 and down by 1.00 and left by 0.40")
    assert sigmas(psf) == pytest.approx((2.0, 1.5, 1.5), rel=0.05)
    middle = [
        (np.arange(n) - n // 2) @ psf.sum(axis=tuple({0, 1, 2} - {axis}))
        for axis, n in enumerate(psf.shape)
    ]
    assert np.abs(middle).max() < 0.15
    assert (
        "2 planes off"
        in psf_faults(np.pad(bells((13, 15, 15), (2, 1, 1)), ((4, 0),) + 2 * ((0, 0),)))[0]
    )


def test_planes_of_another_distance_are_resampled():
    volume = bells((41, 15, 15), (6.0, 1.5, 1.5))
    psf, (note,) = clean_psf(
        volume, volume=True, pixel_size=(0.1, 0.1, 0.1), image_pixel_size=(0.3, 0.1, 0.1)
    )
    assert note == "resampled from pixels of 0.1x0.1x0.1 to the image's 0.3x0.1x0.1"
    assert sigmas(psf) == pytest.approx((2.0, 1.5, 1.5), rel=0.03)
    same = clean_psf(volume, volume=True, pixel_size=(0.1, 0.1), image_pixel_size=(0.3, 0.1, 0.1))
    assert same.notes == ()


def test_the_deepest_planes_without_much_light_are_cut_off():
    psf = normalized_psf(bells((31, 9, 9), (2.0, 1.0, 1.0)))
    kept, lost = shallow(psf, most=8, share=0.01)
    assert kept.shape == (11, 9, 9)
    assert 0 < lost <= 0.01
    kept, lost = shallow(psf, most=2, share=0.01)
    assert kept.shape == (5, 9, 9)
    assert lost == pytest.approx(0.21, abs=0.02)
