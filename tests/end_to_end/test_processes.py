"""Two processes of two simulated devices each, over loopback.

They get the same figures as one process. If one dies, both end, and the run can be resumed.
"""

import csv
import json
import os
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
from small_training import EPOCHS, TRAINING

import jaxdenoise as jd
from jaxdenoise.cli.main import main
from jaxdenoise.cli.verbs import VERBS
from jaxdenoise.system import crew
from jaxdenoise.workflows.stacks import training_stack

ZARR = ["--format", "zarr", "--dtype", "float32"]
TWO = os.environ | {
    "XLA_FLAGS": os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=2"
}


def start(*words, slurm=False):
    """The command line as two processes, which find each other by flags or by SLURM's variables."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    others = (
        ["--distributed"] if slurm else ["--coordinator", f"localhost:{port}", "--processes", "2"]
    )
    command = [sys.executable, "-m", "jaxdenoise", *map(str, words), "--heartbeat", "10", *others]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    job = {
        "SLURM_JOB_ID": str(port),
        "SLURM_STEP_NODELIST": "localhost",
        "SLURM_STEP_NUM_NODES": "1",
        "SLURM_NTASKS": "2",
    }
    pair = []
    for number in ("0", "1"):
        flags, said = (
            ([], job | {"SLURM_PROCID": number, "SLURM_LOCALID": number})
            if slurm
            else (["--process", number], {})
        )
        pair.append(subprocess.Popen([*command, *flags], env=TWO | said, **options))
    return pair


def end(pair, seconds=300):
    """Exit code, output and errors of each, killed if they take longer."""
    try:
        told = [process.communicate(timeout=seconds) for process in pair]
    finally:
        for process in pair:
            process.kill()
    return [(process.returncode, *lines) for process, lines in zip(pair, told, strict=True)]


def run_both(*words, **options):
    found = end(start(*words, **options))
    assert [code for code, *_ in found] == [0, 0], found
    return found


def run_alone(*words):
    assert main(list(map(str, words))) == 0


def history(run):
    with (run / "history.csv").open() as file:
        return {
            name: np.array(values, float) for name, *values in zip(*csv.reader(file), strict=True)
        }


def assert_close_histories(run, expected):
    got, expected = history(run), history(expected)
    assert len(got["epoch"]) == len(expected["epoch"])
    for name in ("train_loss", "validation_loss"):
        # The first value is of the first 100 steps; after them roundings grow.
        np.testing.assert_allclose(got[name][0], expected[name][0], rtol=1e-5)
        np.testing.assert_allclose(got[name], expected[name], rtol=1e-3)


def assert_equal_images(folder, expected):
    """Both hold an OME-Zarr of each result and nothing else, with the same bits."""
    names = ["noisy_deconvolved.ome.zarr", "noisy_denoised.ome.zarr"]
    for name in names:
        both, one = (jd.read(place / name) for place in (folder, expected))
        np.testing.assert_array_equal(both.frames, one.frames)
        assert both.info == one.info
    assert sorted(os.listdir(folder)) == names


@pytest.mark.slow
def test_two_processes_train_and_denoise_to_the_figures_of_one(noisy, alone, tmp_path):
    both, run = tmp_path / "both", tmp_path / "run"
    words = ["denoise", noisy, "--psf", "1.0", "--epochs", EPOCHS, *ZARR, *TRAINING]
    run_both(*words, "-o", both, "--save-model", run)
    assert_close_histories(run, alone)
    assert jd.load(run).config == jd.load(alone).config
    assert list((run / "weights").rglob("ocdbt.process_1")), "orbax did not write by shares"
    run_alone("denoise", noisy, "--model", run, "--no-report", *ZARR, "-o", tmp_path / "again")
    assert_equal_images(both, tmp_path / "again")


@pytest.mark.slow
def test_one_killed_process_ends_the_other_and_the_run_goes_on_to_the_same_figures(noisy, tmp_path):
    run, one = tmp_path / "run", tmp_path / "one"
    words = ["train", noisy, "--epochs", "4", "--save-every", "0", *TRAINING]
    run_alone(*words, "-o", one)
    words = [word for word in words if word != "--quiet"] + ["-o", run]
    pair = start(*words)
    while pair[0].poll() is None and not list(run.glob("epoch-*")):
        time.sleep(0.05)
    pair[1].send_signal(signal.SIGKILL)
    (code, _, lines), _ = end(pair, 120)
    assert code not in (0, 2)
    assert "2 processes; if one dies all end, and train goes on with --resume" in lines
    # JAX says so, unless this process notices by itself before.
    assert (
        "another task died" in lines
        or "jaxdenoise: error: another process of this run died (" in lines
    )
    assert "Traceback" not in lines
    assert not (run / "weights").exists()
    run_both(*words, "--resume")
    assert_close_histories(run, one)
    assert jd.load(run).config == jd.load(one).config


@pytest.mark.slow
def test_processes_that_slurm_started_denoise_to_the_bits_of_one(noisy, alone, tmp_path):
    words = ["denoise", noisy, "--model", alone, "--no-report", *ZARR]
    run_both(*words, "-o", tmp_path / "both", slurm=True)
    run_alone(*words, "-o", tmp_path / "one")
    assert_equal_images(tmp_path / "both", tmp_path / "one")


@pytest.mark.slow
def test_a_sweep_of_both_has_the_scores_of_one(noisy, tmp_path):
    words = ["sweep", noisy, "--psf", "0.5,1.5", "--epochs", "1", "--json", *TRAINING]
    (_, printed, _), (_, silent, _) = run_both(*words, "-o", tmp_path / "both")
    run_alone(*words, "-o", tmp_path / "one")
    both = json.loads(printed.splitlines()[-1])
    one = json.loads((tmp_path / "one" / "sweep.json").read_text())
    assert both["chosen"] == one["chosen"]
    scores = ([row["score"] for row in found["candidates"]] for found in (both, one))
    np.testing.assert_allclose(*scores, rtol=1e-5)
    assert "chosen" not in silent  # though JAX says something


@pytest.mark.slow
def test_what_a_user_does_wrong_is_said_in_one_line_and_both_end(noisy, alone, tmp_path):
    found = end(start("denoise", noisy, "--model", alone, "-o", tmp_path / "out"), 60)
    assert found[0][0] == 2
    assert found[1][0] != 0
    said = "several processes write one image together as OME-Zarr only: say --format zarr"
    assert f"jaxdenoise: error: {said}\n" in found[0][2]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--coordinator", "localhost:1"], "--coordinator, --processes and --process go together"),
        (["--distributed", "--process", "0"], "leave --coordinator, --processes and --process out"),
        (
            ["--coordinator", "localhost:1", "--processes", "2", "--process", "2"],
            "numbered from 0 to 1",
        ),
        (["--devices", "99"], "--devices 99: there are "),
    ],
)
def test_flags_that_do_not_go_together(noisy, tmp_path, capsys, flags, message):
    assert main(["train", str(noisy), "-o", str(tmp_path / "run"), *TRAINING, *flags]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_without_a_cluster_nobody_is_found(noisy, tmp_path):
    words = ["train", str(noisy), "-o", str(tmp_path / "run"), "--distributed"]
    command = [sys.executable, "-m", "jaxdenoise", *words]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 2
    said = "cannot find the other processes by the environment; name them with --coordinator"
    assert said in run.stderr
    assert len(run.stderr.splitlines()) == 1


def test_a_process_that_notices_another_ones_death_says_so_in_one_line(monkeypatch, capsys):
    failed = "INTERNAL: all-reduce failed"

    def fail(args):
        raise RuntimeError(f"{failed}: [gloo/transport/tcp/pair.cc:538] Connection reset by peer")

    monkeypatch.setattr(crew, "ALONE", crew.Crew(1, 2))
    monkeypatch.setattr(os, "_exit", sys.exit)
    monkeypatch.setitem(VERBS, "info", fail)
    with pytest.raises(SystemExit, match="1"):
        main(["info"])
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"jaxdenoise: error: another process of this run died ({failed}")


def test_a_process_with_an_error_of_ours_does_not_wait_for_the_others(monkeypatch, capsys):
    def fail(args):
        raise RuntimeError("a mistake")

    monkeypatch.setattr(crew, "ALONE", crew.Crew(1, 2))
    monkeypatch.setattr(os, "_exit", sys.exit)
    monkeypatch.setitem(VERBS, "info", fail)
    with pytest.raises(SystemExit, match="1"):
        main(["info"])
    assert "RuntimeError: a mistake" in capsys.readouterr().err


class Crew(crew.Crew):
    """Two processes one after the other: what the first one gathers is known to the second."""

    told = {}  # noqa: RUF012

    def all_gather(self, array):
        self.told[self.index] = np.asarray(array)
        return np.stack(
            [self.told.get(number, np.zeros_like(array)) for number in range(self.count)]
        )


def test_each_process_reads_its_share_only(monkeypatch, scene):
    frames, seen = np.asarray(scene.noisy), {}

    class Counted:
        shape, size = frames.shape, frames.size

        def __init__(self, index):
            self.index = index

        def __len__(self):
            return len(frames)

        def __getitem__(self, place):
            seen.setdefault(self.index, []).append(place[0])
            return frames[place]

    for pixels in (frames.size, frames.size // 2):
        whole, _ = training_stack([frames], seed=3, pixels=pixels)
        seen.clear()
        Crew.told.clear()
        for index in (0, 1):
            monkeypatch.setattr(crew, "ALONE", Crew(index, 2))
            stack, _ = training_stack([Counted(index)], seed=3, pixels=pixels)
        monkeypatch.undo()
        np.testing.assert_array_equal(stack, whole)
        assert sum(map(len, seen.values())) == len(whole)
        assert len(seen[0]) == -(-len(whole) // 2)
