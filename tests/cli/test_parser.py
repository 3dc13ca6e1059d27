import argparse
import subprocess
import sys

import pytest

from jaxdenoise.cli import elsewhere, options
from jaxdenoise.cli.parser import options_of, parser, verb_names
from jaxdenoise.system.errors import RequestError
from jaxdenoise.workflows import (
    DemoRequest,
    DenoiseRequest,
    EvaluateRequest,
    FilterRequest,
    InfoRequest,
    Optics,
    PreviewRequest,
    PsfRequest,
    SweepRequest,
    Training,
    TrainRequest,
)
from jaxdenoise.workflows.settings import flat

LEAST = {
    "demo": "",
    "denoise": "a.tif -o out",
    "train": "a.tif -o out",
    "sweep": "a.tif -o out",
    "psf": "a.tif -o out.tif",
    "filter": "a.tif -o out",
    "evaluate": "a.tif --reference b.tif",
    "info": "",
}


def command(words, text="jaxdenoise"):
    return options.read(parser().parse_args(words.split()), text)


def test_every_verb_prints_json_and_has_help():
    assert verb_names() == list(LEAST)
    for verb in LEAST:
        assert isinstance(options_of(verb)["json"], argparse.Action)
        assert command(f"{verb} {LEAST[verb]} --json").json
        with pytest.raises(SystemExit, match="0"):
            parser().parse_args([verb, "--help"])


def test_flags_left_out_give_the_default_request():
    place = {"inputs": ["a.tif"], "output": "out"}
    expected = {
        "demo": DemoRequest(),
        "denoise": DenoiseRequest(**place, command="jaxdenoise"),
        "train": TrainRequest(**place, command="jaxdenoise"),
        "sweep": SweepRequest(**place, command="jaxdenoise"),
        "psf": PsfRequest(input="a.tif", output="out.tif"),
        "filter": FilterRequest(**place),
        "evaluate": EvaluateRequest(inputs=["a.tif"], reference="b.tif"),
        "info": InfoRequest(),
    }
    for verb, words in LEAST.items():
        found = command(f"{verb} {words}")
        assert found.request == expected[verb]
        assert (found.verb, found.quiet, found.json, found.processes) == (verb, False, False, None)
    assert command("denoise a.tif -o out --quiet").quiet


# Flag and the option of the request that it sets.
TRAINED = {
    "--preset best": {"preset": "best"},
    "--background 90": {"background": 90.0},
    "--background auto": {"background": "auto"},
    "--blind 2": {"blind": (2, 2)},
    "--blind 1,2": {"blind": (1, 2)},
    "--blind auto": {"blind": "auto"},
    "--stride 2": {"stride": 2},
    "--stride auto": {"stride": "auto"},
    "--neighbours 1": {"neighbours": 1},
    "--targets own": {"targets": "own"},
    "--init random": {"init": "random"},
    "--epochs 3": {"epochs": 3},
    "--patch-size 32": {"patch_size": 32},
    "--batch-size 2": {"batch_size": 2},
    "--filters 8": {"filters": 8},
    "--weights last": {"weights": "last"},
    "--precision float32": {"precision": "float32"},
    "--symmetries 1": {"symmetries": 1},
    "--seed 7": {"seed": 7},
    "--axes TYX": {"axes": "TYX"},
    "--along T": {"along": "T"},
    "--devices 1": {"devices": 1},
    "--no-report": {"report": False},
    "--overwrite": {"overwrite": True},
}
OPTICS = {
    "--na 1.2 --emission 0.5": {
        "optics": Optics(na=1.2, emission=0.5),
        "na": 1.2,
        "emission": 0.5,
        "pinhole": 1.0,
        "excitation": None,
        "pixel_size": None,
    },
}
FLAGS = {
    "denoise": TRAINED
    | {
        "--model run": {"model": "run"},
        "--save-model run": {"save_model": "run"},
        "--instant": {"instant": True},
        "--instant --noise 3": {"instant": True, "noise": 3.0},
        "--members 2": {"members": 2},
        "--channels separate": {"channels": "separate"},
        "--dtype float32": {"dtype": "float32"},
        "--format zarr": {"format": "zarr"},
        "--tile-size 128": {"tile_size": 128},
        "--psf 1.2": {"psf": "1.2"},
    },
    "train": {
        "--resume": {"resume": True},
        "--save-every 0": {"save_every": 0.0},
        "--members 2": {"members": 2},
        "--channels separate": {"channels": "separate"},
        "--epochs 3": {"epochs": 3},
    },
    "sweep": {
        "--psf 0.5,none": {"psfs": ["0.5", "none"]},
        "--psf auto": {},
        "--seeds 2": {"seeds": 2},
        "--members 2": {"seeds": 2},
        "--channels separate": {"channels": "separate"},
        "--halving": {"halving": True},
        "--reference b.tif": {"reference": "b.tif"},
        "--filters 8": {"filters": 8},
    },
    "filter": {
        "--filter box": {"filter": "box"},
        "--sigma 1": {"sigma": 1.0},
        "--sigma 1,2": {"sigma": (1.0, 2.0)},
        "--sigma auto": {"sigma": "auto"},
        "--size 3": {"size": 3},
        "--size 1,3,5": {"size": (1, 3, 5)},
        "--mode wrap": {"mode": "wrap"},
        "--dtype float32": {"dtype": "float32"},
        "--format tiff": {"format": "tiff"},
    },
    "psf": {
        "--size 9": {"size": 9},
        "--saturation 200": {"saturation": 200.0},
        "--bead-diameter 1.5": {"bead_diameter": 1.5},
    },
    "evaluate": {"--data-range 5": {"data_range": 5.0}, "--data-range gt": {}},
    "info": {"b.tif": {"inputs": ("b.tif",)}, "--axes YX": {"axes": "YX"}},
    "demo": {"--seed 3": {"seed": 3}, "--no-report": {"report": False}},
}


@pytest.mark.parametrize("verb", FLAGS)
def test_each_flag_sets_its_option_alone(verb):
    before = flat(command(f"{verb} {LEAST[verb]}").request)
    for words, changes in FLAGS[verb].items():
        after = flat(command(f"{verb} {LEAST[verb]} {words}").request)
        changed = {name: value for name, value in after.items() if value != before[name]}
        assert changed == changes, words


TRAINING_VERBS = ("denoise", "train", "sweep")


@pytest.mark.parametrize("verb", TRAINING_VERBS)
def test_flags_are_the_same_where_something_is_trained_or_a_line_says_what_to_write(verb, capsys):
    known = {name for action in options_of(verb).values() for name in action.option_strings}
    for other in TRAINING_VERBS:
        for action in options_of(other).values():
            for flag in action.option_strings:
                words = [verb, "a.tif", "-o", "out", flag, *["3"] * (action.nargs != 0)]
                if flag in known or flag in ("-h", "--help"):
                    continue
                with pytest.raises(SystemExit, match="2"):
                    parser().parse_args(words)
                (line,) = capsys.readouterr().err.splitlines()
                assert line.startswith(f"jaxdenoise: error: {flag}: {verb} ")


def test_no_line_is_about_a_flag_that_the_verb_has():
    for verb, lines in elsewhere._INSTEAD.items():
        known = {name for action in options_of(verb).values() for name in action.option_strings}
        assert not known & lines.keys()


def test_members_of_a_sweep_are_its_seeds():
    place = {"inputs": ["a.tif"], "output": "out"}
    request = SweepRequest(**place, training=Training(members=3))
    assert (request.seeds, request.training.members) == (3, 1)
    with pytest.raises(RequestError, match="seeds=2 and members=3 both say"):
        SweepRequest(**place, training=Training(members=3), seeds=2)


def test_optics_are_a_part_of_the_training():
    words = "--na 1.2 --emission 0.5 --excitation 0.4 --pinhole 2"
    found = command(f"train a.tif -o out {words}").request
    optics = Optics(na=1.2, emission=0.5, excitation=0.4, pinhole=2.0)
    assert found.training == Training(optics=optics)
    with pytest.raises(RequestError, match=r"^pinhole=\.\.\. needs excitation"):
        command("train a.tif -o out --na 1.2 --emission 0.5 --pinhole 2")
    for flag, name in (("--emission 0.5", "emission"), ("--pixel-size 0.1", "pixel_size")):
        with pytest.raises(RequestError, match=rf"^{name}=\.\.\.: needs na="):
            command(f"denoise a.tif -o out {flag}")
    with pytest.raises(RequestError, match=r"na=\.\.\. needs emission"):
        command("train a.tif -o out --na 1.2")


def test_how_processes_find_each_other():
    by_hand = "--coordinator localhost:1 --processes 2 --process 1 --heartbeat 5"
    assert command(f"train a.tif -o out {by_hand}").processes == ("localhost:1", 2, 1, 5)
    found = command("train a.tif -o out --distributed").processes
    assert found == (None, None, None, 30)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--coordinator a:1", "--coordinator, --processes and --process go together"),
        ("--distributed --process 0", "leave --coordinator, --processes and --process out"),
        ("--coordinator a:1 --processes 2 --process 2", "numbered from 0 to 1"),
        ("--distributed --devices 1", "--devices is for a single process"),
    ],
)
def test_flags_of_processes_that_do_not_go_together(words, message):
    with pytest.raises(RequestError, match=message):
        command(f"denoise a.tif -o out {words}")


BAD = {
    "denoise a.tif -o out": [
        "--epochs 0",
        "--epochs 1.5",
        "--neighbours=-1",
        "--seed=-1",
        "--noise nan",
        "--background dark",
        "--background inf",
        "--blind 1,2,3",
        "--blind=-1",
        "--stride wide",
        "--preset slow",
        "--symmetries 3",
        "--along C",
        "--sharp",
    ],
    "train a.tif -o out": ["--save-every=-1", "--channels both"],
    "filter a.tif -o out": [
        "--size 4",
        "--size 3,",
        "--sigma=-1",
        "--sigma 1,1,1,1",
        "--mode zero",
    ],
    "psf a.tif -o out.tif": ["--size 8", "--saturation 0"],
    "evaluate a.tif --reference b.tif": ["--data-range 0", "--data-range wide"],
    "sharpen": [""],
    "": [""],
}


@pytest.mark.parametrize("words", [f"{verb} {flag}" for verb in BAD for flag in BAD[verb]])
def test_wrong_values_are_said_in_one_line(words, capsys):
    with pytest.raises(SystemExit, match="2"):
        parser().parse_args(words.split())
    (line,) = capsys.readouterr().err.splitlines()
    assert "error: " in line
    assert line.endswith("--help)")


def test_neither_help_nor_wrong_flags_load_numpy_or_jax():
    for words in (["--help"], ["denoise"]):
        code = (
            "import sys, jaxdenoise.cli.main as c\n"
            f"try: c.main({words})\n"
            "except SystemExit: sys.exit('jax' in sys.modules or 'numpy' in sys.modules)"
        )
        run = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True)
        assert run.returncode == 0


@pytest.mark.parametrize("verb", LEAST)
def test_help_fits_a_page_and_has_three_examples(verb, capsys):
    with pytest.raises(SystemExit, match="0"):
        parser().parse_args([verb, "--help"])
    short = capsys.readouterr().out
    assert len(short.splitlines()) <= 60
    lines = [line for line in short.splitlines() if line.startswith(f"  jaxdenoise {verb}")]
    assert len(lines) == 3
    for line in lines:
        command(line.split("jaxdenoise ", 1)[1])  # each is understood
    with pytest.raises(SystemExit, match="0"):
        parser().parse_args([verb, "--help-all"])
    whole = capsys.readouterr().out
    for action in options_of(verb).values():
        assert action.option_strings[-1] in whole


def test_every_value_has_its_default_in_the_help():
    told = {"required", "output", "axes", "model", "save_model", "noise", "reference"}
    without = {
        f"{verb} {action.option_strings[-1]}"
        for verb in LEAST
        for action in options_of(verb).values()
        if action.nargs != 0
        and not action.required
        and action.dest not in told
        and "default" not in (action.help or "")
    }
    # These are left out, ask for something more, or follow from what the optics need.
    assert {flag.split()[1] for flag in without} <= {
        *("--tile-size", "--log", "--tensorboard", "--na", "--emission", "--excitation"),
        *("--refractive-index", "--coordinator", "--processes", "--process", "--bead-diameter"),
        *("--saturation", "--sigma", "--size"),
    }


def test_batches_and_previews():
    batch = command("denoise data more -o out --recursive --train-on a.tif --train-on b*.tif")
    assert batch.request.recursive
    assert batch.request.train_on == ("a.tif", "b*.tif")
    assert command("denoise a.tif -o out --train-on each").request.train_on == "each"
    assert command("denoise a.tif -o out --skip-existing").request.skip_existing
    for words in ("--preview", "--crop 8,0,64"):
        assert isinstance(command(f"denoise a.tif -o out {words}").request, PreviewRequest)
    assert command("denoise a.tif -o out --crop 8,0,64").request.crop == (8, 0, 64)
    kept = command("train a.tif -o out --log run.log --tensorboard losses")
    assert (kept.log, kept.tensorboard) == ("run.log", "losses")


def test_a_folder_for_results_has_not_the_name_of_an_image():
    for verb in ("denoise", "train", "filter"):
        with pytest.raises(RequestError, match=r"results go into a folder, such as output='out'"):
            command(f"{verb} a.tif -o out.tif")
