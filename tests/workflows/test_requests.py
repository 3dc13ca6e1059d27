import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest

import jaxdenoise as jd
from jaxdenoise import workflows
from jaxdenoise.system.errors import ConfigError, RequestError
from jaxdenoise.workflows import (
    DemoRequest,
    DenoiseRequest,
    EvaluateRequest,
    FilterRequest,
    InfoRequest,
    Optics,
    PsfRequest,
    Reporter,
    Silent,
    SweepRequest,
    Training,
    TrainRequest,
)
from jaxdenoise.workflows.settings import flat
from jaxdenoise.workflows.training import outputs, wanted

PLACES = {"inputs": ["noisy.tif"], "output": "out"}


def test_requests_are_made_without_jax():
    code = (
        "import sys; from jaxdenoise import workflows; "
        "workflows.DenoiseRequest(inputs=['noisy.tif'], output='results'); "
        "sys.exit('jax' in sys.modules or 'numpy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_names_are_there():
    assert set(workflows.__all__) <= set(dir(workflows))
    for name in workflows.__all__:
        assert getattr(workflows, name) is not None
    assert callable(workflows.denoise)
    assert callable(workflows.train)
    assert callable(workflows.sweep)
    with pytest.raises(AttributeError, match="no attribute 'sharpen'"):
        workflows.sharpen  # noqa: B018


def test_inputs_are_paths_or_text_and_stay_as_written():
    request = InfoRequest(inputs=[Path("a.tif"), "./b.tif"])
    assert request.inputs == ("a.tif", "./b.tif")
    assert InfoRequest(inputs="c.tif").inputs == ("c.tif",)
    assert TrainRequest(**PLACES).output == Path("out")


def test_a_training_is_a_preset_with_changes():
    assert Training().config() == jd.TrainConfig()
    config = Training(preset="best", epochs=3, neighbours=0, stride=2, patch_size=32).config()
    assert config == jd.TrainConfig.best(
        epochs=3, patch_size=32, network=jd.UNetConfig(filters=32, stride=2)
    )
    given = jd.TrainConfig(averaging=0.5)
    changed = Training(preset=given, weights="last").config()
    assert changed == dataclasses.replace(given, weights="last")


def test_the_psf_where_nothing_says_it():
    assert Training().psf_name == "1.0"
    assert Training(preset="best").psf_name == "auto"
    assert Training(preset="best", psf=0.8).psf_name == "0.8"
    assert Training(psf=Path("psf.tif")).psf_name == "psf.tif"
    assert Training(preset="best", optics=Optics(na=1.4, emission=0.5)).psf_name is None


def test_the_models_that_a_training_asks_for():
    one = wanted(Training(seed=4))
    assert list(one) == [""]
    several = wanted(Training(seed=4, members=3, init="pretrained"))
    assert list(several) == ["", "member-2", "member-3", "random-start"]
    assert [(own.seed, own.init) for own in several.values()] == [
        (4, "pretrained"),
        (5, "pretrained"),
        (6, "pretrained"),
        (4, "random"),
    ]
    best = wanted(Training(preset="best"))
    assert [(own.preset, own.config().init) for own in best.values()] == [
        ("best", "pretrained"),
        ("fast", "random"),
    ]
    assert outputs(one) == ("denoised", "deconvolved")
    assert outputs(several) == ("denoised", "deconvolved", "disagreement", "random_start")


WRONG = [
    (Training, {"members": 0}, "members=0"),
    (Training, {"seed": -1}, "seed=-1"),
    (Training, {"seed": 2**32}, "seed=4294967296"),
    (Training, {"psf": 1, "optics": Optics(na=1.2, emission=0.5)}, "psf=... and na=... both"),
    (Optics, {"na": 1.2}, "na=... needs emission=..."),
    (Optics, {"na": 0, "emission": 0.5}, "na=0: expected a positive number"),
    (DenoiseRequest, {**PLACES, "channels": "both"}, "channels='both' is unknown"),
    (DenoiseRequest, {**PLACES, "dtype": "int8"}, "dtype='int8' is unknown"),
    (DenoiseRequest, {**PLACES, "format": "png"}, "format='png' is unknown"),
    (DenoiseRequest, {**PLACES, "along": "Y"}, "along='Y' is unknown"),
    (DenoiseRequest, {**PLACES, "tile_size": 0}, "tile_size=0"),
    (DenoiseRequest, {**PLACES, "devices": 0}, "devices=0"),
    (DenoiseRequest, {**PLACES, "model": "a", "save_model": "b"}, "save_model=... keeps a new"),
    (DenoiseRequest, {**PLACES, "instant": True, "model": "a"}, "instant=True takes no model"),
    (DenoiseRequest, {**PLACES, "noise": 3.0}, "noise=... goes with instant=True"),
    (DenoiseRequest, {**PLACES, "instant": True, "noise": 0}, "noise=0: expected a positive"),
    (TrainRequest, {**PLACES, "save_every": -1}, "save_every=-1"),
    (SweepRequest, {**PLACES, "seeds": 0}, "seeds=0"),
    (SweepRequest, {**PLACES, "training": Training(psf=1)}, "a sweep takes psfs=..."),
    (FilterRequest, {**PLACES, "filter": "bilateral"}, "filter='bilateral' is unknown"),
    (FilterRequest, {**PLACES, "mode": "zero"}, "mode='zero' is unknown"),
    (FilterRequest, {**PLACES, "size": 4}, "size=4: expected 'auto' or an odd number"),
    (FilterRequest, {**PLACES, "sigma": (1, 1, 1, 1)}, "two or three of them"),
    (EvaluateRequest, {"inputs": ["a"], "reference": "b", "data_range": 0}, "data_range=0"),
    (PsfRequest, {"input": "a", "output": "b", "size": 4}, "size=4: expected an odd number"),
    (PsfRequest, {"input": "a", "output": "b", "saturation": 0}, "saturation=0"),
    (DemoRequest, {"seed": -1}, "seed=-1"),
]


# Options of a training, and whether they count with a model that is there, and with `instant`.
OF_TRAININGS = {
    "preset": ("best", False, False),
    "psf": (1.2, False, False),
    "optics": (Optics(na=1.2, emission=0.5), False, False),
    "seed": (1, False, False),
    "members": (2, False, False),
    "init": ("random", False, False),
    "epochs": (3, False, False),
    "patch_size": (32, False, False),
    "batch_size": (2, False, False),
    "background": (90, False, True),
    "blind": ((1, 1), False, False),
    "targets": ("own", False, False),
    "weights": ("last", True, False),
    "precision": ("float32", False, True),
    "symmetries": (1, False, True),
    "filters": (8, False, False),
    "stride": (2, False, True),
    "neighbours": (0, False, True),
    "guided": (False, False, False),
    "planes": (False, False, False),
}


def test_all_options_of_a_training_are_known():
    assert list(OF_TRAININGS) == [field.name for field in dataclasses.fields(Training)]


@pytest.mark.parametrize("name", OF_TRAININGS)
def test_options_of_a_training_that_does_not_take_place_are_refused(name):
    value, of_model, of_instant = OF_TRAININGS[name]
    named = "na" if name == "optics" else name
    for how, counts in (({"model": "run"}, of_model), ({"instant": True}, of_instant)):
        options = {**PLACES, **how, "training": Training(**{name: value})}
        if counts:
            DenoiseRequest(**options)
        else:
            with pytest.raises(RequestError, match=rf"takes no {named}=\.\.\.: the"):
                DenoiseRequest(**options)


def test_settings_as_a_whole_count_with_the_network_as_it_is():
    whole = Training(preset=jd.TrainConfig(symmetries=1))
    DenoiseRequest(**PLACES, instant=True, training=whole)
    with pytest.raises(RequestError, match=r"model=\.\.\. takes no preset"):
        DenoiseRequest(**PLACES, model="run", training=whole)
    with pytest.raises(RequestError, match=r"no along=\.\.\., no epochs=\.\.\.: "):
        DenoiseRequest(**PLACES, instant=True, along="T", training=Training(epochs=3))


@pytest.mark.parametrize(("request_class", "options", "message"), WRONG)
def test_wrong_values_are_refused_in_the_words_of_python(request_class, options, message):
    with pytest.raises(RequestError) as error:
        request_class(**options)
    assert message in str(error.value)


def test_a_wrong_setting_of_the_training_is_known_at_once():
    with pytest.raises(ConfigError, match="patch_size must be a multiple of 4"):
        Training(patch_size=33)


def test_what_a_report_says_of_a_request():
    request = DenoiseRequest(
        **PLACES, training=Training(psf=1.2), tile_size=128, command="jaxdenoise denoise"
    )
    options = flat(request)
    assert (options["psf"], options["tile_size"], options["preset"]) == (1.2, 128, "fast")
    assert "training" not in options
    optics = TrainRequest(
        **PLACES, training=Training(preset=jd.TrainConfig(), optics=Optics(na=1.2, emission=0.5))
    )
    assert flat(optics)["emission"] == 0.5
    assert flat(optics)["preset"]["epochs"] == 22


def test_the_silent_reporter_is_one():
    silent = Silent()
    assert isinstance(silent, Reporter)
    with silent.training(jd.TrainConfig()) as on_epoch:
        on_epoch({"epoch": 1.0})
    silent.predicting("x.tif")(1, 2)
    silent.say("wrote x.tif")
    assert not silent.cancelled()
