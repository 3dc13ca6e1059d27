"""PSFs of stacks along Z: by numbers, from files, optics and beads, and their results."""

from dataclasses import replace

import numpy as np
import pytest
import tifffile

import jaxdenoise as jd
from jaxdenoise import workflows
from jaxdenoise.io import images
from jaxdenoise.microscope.optics import confocal_axial_sigma, widefield_axial_sigma
from jaxdenoise.microscope.psf import gaussian_psf, psf_sigmas
from jaxdenoise.network.exposure import measure_exposure
from jaxdenoise.system.errors import RequestError
from jaxdenoise.workflows import Optics, Training
from jaxdenoise.workflows.instant import together_if_better
from jaxdenoise.workflows.movies import for_movies
from jaxdenoise.workflows.psfs import mixes_planes, psfs_for
from jaxdenoise.workflows.stacks import TrainingStack

OPTICS = {"na": 1.2, "emission": 0.52, "refractive_index": 1.33}


def write(path, array, axes, **metadata):
    tifffile.imwrite(
        path,
        array,
        imagej=True,
        resolution=(10, 10),
        metadata={"axes": axes, "unit": "um", **metadata},
    )
    return path


def scene(shape, seed=0):
    rng = np.random.default_rng(seed)
    truth = np.zeros(shape, np.float32)
    truth[tuple(rng.integers(0, n, 60) for n in shape)] = 3000
    clean = np.asarray(jd.convolve(truth, gaussian_psf((1.0, 1.0, 1.0))))
    return (100 + rng.poisson(clean + 20)).astype(np.uint16)


@pytest.fixture
def stack(tmp_path):
    return write(tmp_path / "stack.tif", scene((8, 40, 44)), "ZYX", spacing=0.3)


@pytest.fixture
def plane(tmp_path):
    return write(tmp_path / "plane.tif", scene((8, 40, 44))[4], "YX")


def found(training, *paths):
    files = [images.open_image(path) for path in paths]
    (psf,) = psfs_for(training, list(map(str, paths)), files).values()
    assert mixes_planes(training, files) == (psf.ndim == 3)
    return psf


def test_two_and_three_numbers_are_widths_of_a_volume(stack):
    assert psf_sigmas(found(Training(psf="2,1"), stack)) == pytest.approx((2, 1, 1), rel=0.01)
    three = found(Training(psf=(2.0, 1.0, 1.5)), stack)
    assert psf_sigmas(three) == pytest.approx((2, 1, 1.5), rel=0.01)
    assert found(Training(psf=1.0), stack).ndim == 2


def test_what_takes_no_volume_is_refused_with_advice(plane, stack):
    with pytest.raises(RequestError, match=r"needs stacks along Z.*give the width in the plane"):
        found(Training(psf="2,1"), plane)
    with pytest.raises(RequestError, match="needs stacks along Z"):
        found(Training(optics=Optics(**OPTICS)), plane)
    with pytest.raises(RequestError, match="4 widths"):
        found(Training(psf="2,1,1,1"), stack)
    with pytest.raises(RequestError, match=r"z_step=\.\.\. needs refractive_index"):
        Optics(na=1.2, emission=0.52, z_step=0.3)


def test_optics_give_the_width_along_z_from_the_files_step(stack, tmp_path):
    wide = found(Training(optics=Optics(**OPTICS)), stack)
    axial = widefield_axial_sigma(1.2, 0.52, refractive_index=1.33, z_step=0.3)
    assert psf_sigmas(wide)[0] == pytest.approx(axial, rel=0.02)
    confocal = found(Training(optics=Optics(**OPTICS, excitation=0.488, z_step=0.1)), stack)
    axial = confocal_axial_sigma(1.2, 0.488, 0.52, refractive_index=1.33, z_step=0.1)
    assert psf_sigmas(confocal)[0] == pytest.approx(axial, rel=0.02)
    silent = write(tmp_path / "silent.tif", scene((8, 40, 44)), "ZYX")
    with pytest.raises(RequestError, match="distance between its planes; give it with z_step"):
        found(Training(optics=Optics(**OPTICS)), silent)


def test_a_file_with_a_volume_is_one_of_volumes_where_the_planes_distance_is_known(
    stack, plane, tmp_path
):
    volume = np.asarray(gaussian_psf((3.0, 1.0, 1.0)))
    psf = str(write(tmp_path / "psf.tif", volume, "ZYX", spacing=0.1))
    assert psf_sigmas(found(Training(psf=psf), stack)) == pytest.approx((1.04, 1, 1), rel=0.03)
    assert found(Training(psf=psf), plane).ndim == 2
    silent = write(tmp_path / "silent.tif", scene((8, 40, 44)), "ZYX")
    assert found(Training(psf=psf), silent).ndim == 2


def test_volumes_are_trained_on_with_their_planes_and_the_psf_together(stack, tmp_path):
    file, both = images.open_image(stack), np.stack([scene((6, 40, 44))] * 8)
    times = images.open_image(write(tmp_path / "times.tif", both, "TZYX", spacing=0.3))
    few = images.open_image(write(tmp_path / "few.tif", scene((4, 40, 44)), "ZYX"))
    asked = Training(preset="best", psf="2,1")
    for files in ([file], [times], [file, times]):
        network = for_movies(asked, files, None).config().network
        assert (network.neighbours, network.planes) == (4, True)
    flat = for_movies(replace(asked, psf=1.0), [times], None).config().network
    assert flat.guided  # the longer axis is the time
    assert for_movies(asked, [few], None) is asked
    assert for_movies(replace(asked, neighbours=0), [file], None).config().network.planes is False


def test_planes_that_do_not_help_leave_the_rows_of_the_psf():
    rng = np.random.default_rng(3)
    frames = (100 + rng.poisson(rng.uniform(0, 50, (2, 6, 32, 32)))).astype(np.float32)
    stack = TrainingStack(frames, None, measure_exposure(frames.reshape(-1, 32, 32)))
    training = Training(preset="best", psf="2,1", neighbours=4, planes=True, stride=1)
    alone, kept, said = together_if_better(training, stack, mixed=True)
    assert alone.config().network.neighbours == 0
    assert kept is stack
    assert "other planes: none" in said[0]


@pytest.mark.slow
def test_each_volume_of_a_file_is_denoised_by_itself(tmp_path, tiny, recorder):
    both = np.stack([scene((6, 40, 44)), scene((6, 40, 44), 1)])
    path = write(tmp_path / "movie.tif", both, "TZYX", spacing=0.3)
    training = Training(preset=tiny, psf="0.8,1")
    options = {"inputs": [path], "report": True, "dtype": "float32", "overwrite": True}
    request = workflows.DenoiseRequest(
        output=tmp_path / "out", training=training, save_model=tmp_path / "run", **options
    )
    workflows.denoise(request, recorder())
    assert (tmp_path / "out" / "movie_report.html").exists()
    denoiser = jd.load(tmp_path / "run")
    assert denoiser.psf.ndim == 3
    result = images.read(tmp_path / "out" / "movie_denoised.tif").frames.reshape(both.shape)
    alone = jd.denoise(denoiser, both)
    np.testing.assert_allclose(result, alone.denoised, rtol=1e-5, atol=1e-2)
    again = workflows.DenoiseRequest(
        output=tmp_path / "again", model=tmp_path / "run", **options | {"report": False}
    )
    workflows.denoise(again, recorder())
    same = images.read(tmp_path / "again" / "movie_denoised.tif").frames.reshape(both.shape)
    np.testing.assert_array_equal(same, result)


def test_a_model_of_volumes_takes_no_images_and_other_neighbours(stack, plane, tmp_path, tiny):
    training = Training(preset=tiny, psf="0.8,1")
    request = workflows.TrainRequest(
        inputs=[stack], output=tmp_path / "run", training=training, report=False
    )
    workflows.train(request)
    with pytest.raises(RequestError, match="denoises stacks along Z alone"):
        workflows.denoise(
            workflows.DenoiseRequest(inputs=[plane], output=tmp_path, model=tmp_path / "run")
        )
    both = Training(preset=tiny, psf="0.8,1", neighbours=1)
    with pytest.raises(RequestError, match="neighbours are those along Z"):
        workflows.train(
            workflows.TrainRequest(
                inputs=[stack], output=tmp_path / "other", training=both, along="T"
            )
        )


def test_beads_through_focus_give_a_volume_that_keeps_its_step(tmp_path, stack):
    rng, sigma = np.random.default_rng(0), (2.0, 1.2, 1.2)
    beads = np.full((21, 90, 90), 100.0)
    for y in range(18, 80, 26):
        for x in range(18, 80, 26):
            lines = [
                np.exp(-0.5 * ((np.arange(n) - c) / s) ** 2)
                for n, c, s in zip(beads.shape, (10, y, x), sigma, strict=True)
            ]
            beads += 2000 * np.einsum("i,j,k->ijk", *lines)
    noisy = (beads + rng.normal(0, 5, beads.shape)).astype(np.uint16)
    path = write(tmp_path / "beads.tif", noisy, "ZYX", spacing=0.15)
    result = workflows.measure_psf(workflows.PsfRequest(input=path, output=tmp_path / "psf.tif"))
    assert result.to_dict()["axial_sigma"] == pytest.approx(2.0, rel=0.03)
    assert psf_sigmas(found(Training(psf=str(tmp_path / "psf.tif")), stack)) == pytest.approx(
        (1.04, 1.2, 1.2), rel=0.08
    )
