import dataclasses
import hashlib
import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
import tifffile

import jaxdenoise as jd
from jaxdenoise import workflows
from jaxdenoise.io import images
from jaxdenoise.runs.layout import has_model
from jaxdenoise.system import crew
from jaxdenoise.system.errors import CheckpointError, RequestError
from jaxdenoise.training import fit, problem, sweep
from jaxdenoise.workflows import (
    Cancelled,
    DenoiseRequest,
    Optics,
    SweepRequest,
    TrainRequest,
    resuming,
)
from jaxdenoise.workflows import run as run_
from jaxdenoise.workflows import training as training_
from jaxdenoise.workflows.psfs import psfs_for
from jaxdenoise.workflows.resuming import choice_in, notes_of
from jaxdenoise.workflows.run import check_devices, training_devices


def same(a, b):
    jax.tree.map(np.testing.assert_array_equal, jd.load(a), jd.load(b))


def request_of(shared, output, training, **options):
    options = {"inputs": [shared.noisy], "report": False, "save_every": 0.0, **options}
    return TrainRequest(output=output, training=training, **options)


def test_the_run_keeps_what_it_was_given(shared, tiny):
    header = json.loads((shared.run / "config.json").read_text())
    assert header["notes"]["seed"] == 0
    assert header["notes"]["psf"] == "1.0"
    assert header["notes"]["inputs"] == [str(shared.noisy)]
    assert jd.load(shared.run).request() == tiny
    assert shared.result.runs == {"": shared.run}
    models, choice, _ = shared.result.trained[""]
    assert choice is None
    assert models.random_start is None
    np.testing.assert_array_equal(models.members[0].psf, jd.load(shared.run).psf)


def test_it_is_what_fit_gives(shared, tiny):
    frames = jd.read(shared.noisy).frames
    denoiser = jd.fit(jax.random.key(0), frames, psf=jd.gaussian_psf(1.0), config=tiny)
    jax.tree.map(np.testing.assert_array_equal, jd.load(shared.run).best, denoiser.best)


def test_a_run_is_not_overwritten_unless_asked(shared, training_of, tmp_path, recorder):
    with pytest.raises(RequestError, match=r"resume=True goes on with it, overwrite=True replaces"):
        workflows.train(request_of(shared, shared.run, training_of()))
    hears = recorder()
    again = workflows.train(request_of(shared, shared.run, training_of(), resume=True), hears)
    assert again.trained == {"": None}
    assert again.to_dict()["runs"][0]["complete_before"]
    assert hears.rows == []
    run = tmp_path / "run"
    workflows.train(request_of(shared, run, training_of(members=2)))
    assert (run / "member-2" / "config.json").exists()
    workflows.train(request_of(shared, run, training_of(), overwrite=True))
    assert not (run / "member-2").exists()
    same(run, shared.run)


def test_a_cancelled_training_goes_on_to_the_same_bits(shared, training_of, tmp_path, recorder):
    run, training = tmp_path / "run", training_of()
    hears = recorder(cancel_after=1)
    with pytest.raises(Cancelled, match="run: resume=True goes on with the training"):
        workflows.train(request_of(shared, run, training, save_every=99.0), hears)
    assert len(hears.rows) == 1
    assert not has_model(run)
    with pytest.raises(CheckpointError, match="unfinished"):
        jd.load(run)
    for changes, message in (
        ({"training": training_of(seed=1)}, "another seed"),
        ({"training": training_of(epochs=4)}, "another epochs"),
        ({"training": training_of(psf=2)}, "another psf"),
        ({"inputs": [shared.second]}, "another pixels_sha256"),
    ):
        with pytest.raises(RequestError, match=message):
            workflows.train(
                request_of(shared, run, **{"training": training, "resume": True, **changes})
            )
    hears = recorder()
    result = workflows.train(request_of(shared, run, training, resume=True), hears)
    assert [(done, total) for _, done, total in hears.begun] == [(1, None)]
    assert [row["epoch"] for row in hears.rows] == [2]
    assert hears.said[-1] == f"wrote {run}"
    assert result.trained[""] is not None
    same(run, shared.run)


def test_where_no_state_is_kept_a_cancelled_training_is_gone(
    shared, training_of, tmp_path, recorder
):
    options = {"inputs": [shared.noisy], "output": tmp_path / "out", "training": training_of()}
    with pytest.raises(Cancelled) as cancelled:
        workflows.denoise(workflows.DenoiseRequest(**options), recorder(cancel_after=1))
    assert "is not kept" in str(cancelled.value)
    assert not (tmp_path / "out").exists()
    sweep = workflows.SweepRequest(**{**options, "output": tmp_path / "swept"}, psfs=[1])
    with pytest.raises(Cancelled):
        workflows.sweep(sweep, recorder(cancel_after=1))
    assert not (tmp_path / "swept" / "sweep.json").exists()


def test_resuming_what_never_began_begins(shared, training_of, tmp_path):
    run = tmp_path / "run"
    with pytest.warns(UserWarning, match="holds no run yet; starting from the first epoch"):
        workflows.train(request_of(shared, run, training_of(), resume=True))
    same(run, shared.run)


def cancelled(shared, training, run, hears):
    """A choice among PSFs that was cancelled."""
    with pytest.raises(Cancelled):
        workflows.train(request_of(shared, run, training), hears)
    return run


@pytest.fixture(scope="module")
def choosing(training_of):
    """A training that chooses among PSFs."""
    return training_of(psf="auto", epochs=6)


@pytest.fixture(scope="module")
def begun(shared, choosing, recorder, tmp_path_factory):
    """Its run folder, cancelled after the third epoch of the first round."""
    run = tmp_path_factory.mktemp("begun") / "run"
    return cancelled(shared, choosing, run, recorder(cancel_after=3))


def resumed(shared, training, run, recorder, epoch):
    hears = recorder()
    workflows.train(request_of(shared, run, training, resume=True), hears)
    ((_, done, total),) = hears.begun
    assert (done, len(hears.rows)) == (epoch, total - epoch)
    return hears


def whole(shared, training, folder):
    workflows.train(request_of(shared, folder / "whole", training))
    return folder / "whole"


def choices(*runs):
    found = [json.loads((run / "config.json").read_text())["notes"]["choice"] for run in runs]
    return [[(row["score"], row["epochs"]) for row in choice["candidates"]] for choice in found]


# One epoch of the first round, of the second, of the chosen model's last.
EPOCHS = [3, pytest.param(9, marks=pytest.mark.robustness)]
EPOCHS += [pytest.param(13, marks=pytest.mark.robustness)]


@pytest.mark.parametrize("epoch", EPOCHS)
def test_a_cancelled_choice_goes_on_to_the_same_bits(
    shared, choosing, begun, tmp_path, recorder, epoch
):
    run = tmp_path / "run"
    if epoch == EPOCHS[0]:
        shutil.copytree(begun, run)
    else:
        cancelled(shared, choosing, run, recorder(cancel_after=epoch))
    hears = resumed(shared, choosing, run, recorder, epoch)
    assert hears.said[0].startswith("PSF: sigma")
    reference = whole(shared, choosing, tmp_path)
    same(run, reference)
    assert choices(run)[0] == choices(reference)[0]
    assert {path.name for path in run.iterdir()} == {path.name for path in reference.iterdir()}


@pytest.mark.slow
def test_members_get_the_psf_that_the_first_one_chose(shared, training_of, tmp_path):
    run = tmp_path / "run"
    training = training_of(psf="auto", members=2)
    result = workflows.train(request_of(shared, run, training))
    notes = json.loads((run / "member-2" / "config.json").read_text())["notes"]
    chosen = result.trained[""].choice["chosen"]
    assert (notes["psf"], notes["seed"]) == (f"{chosen:g}", 1)
    assert result.to_dict()["runs"][0]["choice"]["chosen"] == chosen
    # Without the second member, resuming trains that one alone.
    before = (run / "weights" / "SHA256SUMS").read_text()
    for path in sorted((run / "member-2").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    with pytest.warns(UserWarning, match="holds no run yet"):
        workflows.train(request_of(shared, run, training, resume=True))
    assert (run / "weights" / "SHA256SUMS").read_text() == before
    assert has_model(run / "member-2")


ROW = {"psf": 1.0, "seed": 0, "score": 0.5, "score_se": 0.1, "psnr": None, "seconds": 1.0}
ROW |= {"epochs": 2}
DAMAGED_CHOICES = (
    {"chosen": 7},
    {"chosen": 1.0},
    {"chosen": 1.0, "candidates": []},
    {"chosen": 0.5, "candidates": [ROW]},
    {"chosen": 7.0, "candidates": [ROW | {"psf": 7.0}]},
    {"chosen": [1.0], "candidates": [ROW]},
    {"chosen": 1.0, "candidates": [ROW, 3]},
    {"chosen": 1.0, "candidates": [ROW | {"score": "low"}]},
    {"chosen": 1.0, "candidates": [ROW | {"score": float("nan")}]},
    {"chosen": 1.0, "candidates": [{"psf": 1.0}]},
    [1.0],
    "1.0",
    1.0,
)


@pytest.mark.parametrize("choice", DAMAGED_CHOICES)
def test_a_damaged_choice_is_one_line(tmp_path, choice):
    with pytest.raises(CheckpointError, match="which PSF was chosen; overwrite=True trains anew"):
        choice_in(tmp_path / "run", {"choice": choice})


def with_choice(run, choice):
    """Write a choice into a run folder."""
    header = json.loads((run / "config.json").read_text())
    header["notes"]["choice"] = choice
    (run / "config.json").write_text(json.dumps(header))


def test_a_finished_member_whose_choice_is_damaged_is_refused(shared, training_of, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(shared.run, run)
    with_choice(run, DAMAGED_CHOICES[0])
    with pytest.raises(CheckpointError, match="which PSF was chosen; overwrite=True trains anew"):
        workflows.train(request_of(shared, run, training_of(members=2), resume=True))
    good = {"chosen": 1.0, "candidates": [ROW, ROW | {"psf": 0.5}]}
    assert choice_in(run, {"choice": good}) == good
    assert choice_in(run, {}) is None


def test_the_pixels_are_hashed_once_for_all_members(shared, training_of, tmp_path, monkeypatch):
    counted, digest_of = [], resuming.pixels_digest

    def counting(stack):
        counted.append(stack.nbytes)
        return digest_of(stack)

    monkeypatch.setattr(training_, "pixels_digest", counting)
    options = {"training": training_of(members=2, epochs=1), "report": False}
    workflows.train(request_of(shared, tmp_path / "run", **options))
    stack = jd.read(shared.noisy).frames
    assert counted == [stack.nbytes]
    notes = [
        json.loads((tmp_path / "run" / name / "config.json").read_text())["notes"]
        for name in ("", "member-2")
    ]
    digest = hashlib.sha256(stack.tobytes()).hexdigest()
    assert [one["pixels_sha256"] for one in notes] == [digest] * 2
    denoising = workflows.DenoiseRequest(inputs=[shared.noisy], output=tmp_path / "out", **options)
    workflows.denoise(denoising)
    assert len(counted) == 1  # without a run folder there is nothing to note


@pytest.fixture
def counted(monkeypatch):
    """A list that grows by each call of `problem.prepare`."""
    counted = []

    def counting(*args, **options):
        counted.append(options["config"].epochs)
        return problem.prepare(*args, **options)

    for module in (fit, sweep, run_):
        monkeypatch.setattr(module, "prepare", counting)
    return counted


def test_images_are_prepared_once_for_each_training(shared, training_of, tmp_path, counted):
    training, options = training_of(epochs=1), {"inputs": [shared.noisy], "report": False}

    def prepared(workflow, request):
        counted.clear()
        workflow(request)
        return len(counted)

    asked = request_of(shared, tmp_path / "run", training)
    assert prepared(workflows.train, asked) == 1
    asked = DenoiseRequest(output=tmp_path / "out", training=training, **options)
    assert prepared(workflows.denoise, asked) == 1
    asked = DenoiseRequest(output=tmp_path / "m", model=tmp_path / "run", **options)
    assert prepared(workflows.denoise, asked) == 0
    frames, config = jd.read(shared.noisy).frames, training.config()
    counted.clear()
    jd.fit(jax.random.key(0), frames, psf=jd.gaussian_psf(1.0), config=config)
    jd.instant(frames, config=dataclasses.replace(config, symmetries=1))
    assert len(counted) == 2


@pytest.mark.slow
def test_images_are_prepared_once_for_a_sweep(shared, training_of, tmp_path, counted):
    options = {"inputs": [shared.noisy], "report": False, "psfs": ["none", 1]}
    request = SweepRequest(output=tmp_path, training=training_of(epochs=1), **options)
    workflows.sweep(request)
    assert len(counted) == 1


def test_a_choice_that_was_changed_by_hand_is_refused(shared, choosing, begun, tmp_path, recorder):
    run, training = tmp_path / "run", choosing
    shutil.copytree(begun, run)
    for choice in (DAMAGED_CHOICES[0], DAMAGED_CHOICES[-1]):
        with_choice(run, choice)
        with pytest.raises(CheckpointError, match="which PSF was chosen; overwrite=True trains"):
            workflows.train(request_of(shared, run, training, resume=True))
    with_choice(run, None)
    for state in Path(run / "candidates").glob("*/epoch-*"):
        for path in sorted(state.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        state.rmdir()
    with pytest.warns(UserWarning, match="no epoch was saved yet"), pytest.raises(Cancelled):
        workflows.train(request_of(shared, run, training, resume=True), recorder(cancel_after=1))


def psf_of(training, shared):
    files = [images.open_image(shared.noisy)]
    (psf,) = psfs_for(training, [shared.noisy], files).values()
    return psf


def test_psfs_from_files_and_optics(shared, training_of, tmp_path):
    psf = np.array([[0, 1, 0], [2, 9, 1], [0, 1, 0]])
    tifffile.imwrite(tmp_path / "psf.tif", psf.astype(np.uint8))
    measured = psf_of(training_of(psf=tmp_path / "psf.tif"), shared)
    np.testing.assert_allclose(measured * 14, psf, rtol=1e-6)
    assert psf_of(training_of(psf="none"), shared).shape == (1, 1)
    optics = training_of(optics=Optics(na=1.2, emission=0.52))
    expected = jd.gaussian_psf(0.2103 * 0.52 / 1.2 / 0.1)  # 0.1 um, says the file
    np.testing.assert_allclose(psf_of(optics, shared), expected, atol=1e-4)
    confocal = Optics(na=1.2, emission=0.52, excitation=0.488, pixel_size=0.05)
    assert psf_of(training_of(optics=confocal), shared).shape[0] > 9
    assert notes_of(optics, ["a.tif"], "")["psf"] == {
        "na": 1.2,
        "emission": 0.52,
        "excitation": None,
        "pinhole": 1.0,
        "pixel_size": None,
    }


def test_a_measured_psf_is_trained_with(shared, training_of, tmp_path):
    psf = np.pad(np.array([[0, 1, 0], [2, 9, 1], [0, 1, 0]]), 3)  # as large as the shared one's
    tifffile.imwrite(tmp_path / "psf.tif", psf.astype(np.uint8))
    training = training_of(psf=tmp_path / "psf.tif")
    (model,) = (
        workflows.train(request_of(shared, tmp_path / "run", training)).trained[""].models.members
    )
    np.testing.assert_allclose(np.asarray(model.psf).max() * 14, 9, rtol=1e-6)


def test_devices_are_as_many_as_there_are(monkeypatch):
    here = jax.devices()
    assert training_devices(None, batch_size=4, several=True) == here
    assert training_devices(1, batch_size=4) == here[:1]
    assert training_devices(None, batch_size=1) == here[:1]
    check_devices(None)
    check_devices(1)
    with pytest.raises(RequestError, match="devices=99: there are "):
        check_devices(99)
    monkeypatch.setattr(crew, "ALONE", crew.Crew(0, 2))
    with pytest.raises(RequestError, match="is for a single process"):
        check_devices(1)
