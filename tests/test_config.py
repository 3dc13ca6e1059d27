"""Requests: what the published table says, ranges that hold, and JSON that comes back."""

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxdenoise.config import PRESETS, PRETRAINED_VOLUMES, TrainConfig, UNetConfig
from jaxdenoise.network.settings import NetworkShape, shape_of
from jaxdenoise.system.errors import ConfigError
from jaxdenoise.targets.blindspot import box_size

whole = st.integers(1, 10**6)
positive = st.floats(min_value=0, exclude_min=True, max_value=1e300)
weight = st.floats(min_value=0, max_value=1e300)
networks = st.builds(
    UNetConfig,
    depth=st.integers(1, 8),
    filters=st.integers(1, 64),
    skip=st.sampled_from(["add", "concat"]),
)


@st.composite
def configs(draw):
    network = draw(networks)
    multiple = shape_of(network).multiple
    return TrainConfig(
        network=network,
        patch_size=multiple * draw(st.integers(-(-8 // multiple), 50)),
        output_scale=draw(positive),
        batch_size=draw(st.integers(1, 2**14)),
        epochs=draw(st.integers(1, 2**15)),
        steps_per_epoch=draw(st.integers(1, 2**15)),
        learning_rate=draw(positive),
        schedule=draw(st.sampled_from(["cosine", "plateau"])),
        patience=draw(whole),
        density=draw(st.floats(min_value=0, exclude_min=True, max_value=0.25)),
        radius=draw(whole),
        blind=draw(st.one_of(st.just("auto"), st.tuples(st.integers(0, 16), st.integers(0, 16)))),
        positivity=draw(weight),
        positivity_margin=draw(weight),
        variation=draw(weight),
        averaging=draw(st.floats(0, 1, exclude_max=True)),
        validation=draw(st.sampled_from(["auto", "frames", "pixels"])),
        validation_fraction=draw(st.floats(0, 1, exclude_min=True, exclude_max=True)),
        validation_patches=draw(st.integers(1, 2**14)),
        validation_redraw=draw(st.booleans()),
        background=draw(
            st.one_of(st.just("auto"), st.integers(-(10**9), 10**9), st.floats(-1e38, 1e38))
        ),
        weights=draw(st.sampled_from(["best", "averaged", "last"])),
        axial=draw(st.sampled_from(["auto", "trained", "fitted"])),
        symmetries=draw(st.sampled_from([1, 2, 4, 8])),
    )


def through_json(config):
    return TrainConfig.from_dict(json.loads(json.dumps(config.to_dict())))


def as_json(**changes):
    return {**TrainConfig().to_dict(), **changes}


def refused(error):
    """The message of a ConfigError, which must be one line."""
    message = str(error.value)
    assert message
    assert "\n" not in message
    return message


@settings(deadline=None, max_examples=50)
@given(config=configs())
def test_json_brings_back_every_config(config):
    again = through_json(config)
    assert again == config
    assert hash(again) == hash(config)
    assert again.to_dict() == config.to_dict()


@pytest.mark.parametrize(
    "config", [TrainConfig(), TrainConfig.paper(), TrainConfig.paper(background=520, epochs=3)]
)
def test_json_brings_back_the_presets(config):
    assert through_json(config) == config
    assert type(through_json(config).network) is UNetConfig


def test_to_dict_writes_every_field_and_nothing_else():
    values = TrainConfig().to_dict()
    assert list(values) == [field.name for field in dataclasses.fields(TrainConfig)]
    network = {
        "depth": 3,
        "filters": 32,
        "skip": "add",
        "top_skip": True,
        "pooling": "max",
        "stride": "auto",
        "space_to_depth": 1,
        "neighbours": 0,
        "guided": False,
        "planes": False,
    }
    assert values["network"] == network
    for later in ("guided", "planes", "space_to_depth"):  # than version 0.1.0
        del values["network"][later]
    assert TrainConfig.from_dict(values) == TrainConfig()
    assert "FRAMES_TO_SPARE" not in values


def test_a_network_for_volumes_sees_planes_and_starts_from_its_own_weights():
    for changes in ({"neighbours": 0}, {"neighbours": 1, "guided": True}):
        with pytest.raises(ConfigError, match="volumes"):
            UNetConfig(planes=True, **changes)
    assert TrainConfig.best(network=PRETRAINED_VOLUMES).network.planes
    fewer = dataclasses.replace(PRETRAINED_VOLUMES, neighbours=2)
    with pytest.raises(ConfigError, match="pretrained"):
        TrainConfig.best(network=fewer)
    assert TrainConfig.best(network=dataclasses.replace(fewer, planes=False)).network.neighbours


@pytest.mark.parametrize(
    ("field", "published"),
    [
        ("network", UNetConfig(depth=3, filters=64, skip="add", stride=1)),
        ("output_scale", 10),
        ("patch_size", 100),
        ("radius", 2),  # a 5x5 neighbourhood
        ("density", 1 / 32),
        ("positivity", 1),
        ("positivity_margin", 0),
        ("variation", 0),
        ("learning_rate", 1e-3),
        ("schedule", "plateau"),
        ("patience", 10),
        ("epochs", 200),
        ("steps_per_epoch", 10),
        ("batch_size", 20),
        ("validation", "frames"),
        ("validation_fraction", 0.3),
        ("validation_patches", 20),
        ("validation_redraw", True),
        ("weights", "best"),
        ("averaging", 0),  # the rest is ours alone: the published procedure averages nothing
        ("symmetries", 1),
        ("blind", (0, 0)),
    ],
)
def test_the_paper_preset_is_the_published_table(field, published):
    assert getattr(TrainConfig.paper(), field) == published


def test_the_paper_preset_has_the_published_grid():
    assert box_size(TrainConfig.paper().density) == round((100 * 100 / 312.5) ** 0.5) == 6
    assert UNetConfig(stride=1) == TrainConfig.paper().network


def test_presets():
    assert PRESETS == ("fast", "best", "paper")
    assert TrainConfig.preset("fast") == TrainConfig()
    assert TrainConfig.preset("paper") == TrainConfig.paper()
    assert TrainConfig.preset("paper", epochs=7) == dataclasses.replace(
        TrainConfig.paper(), epochs=7
    )
    with pytest.raises(ConfigError, match="preset must be one of fast, best, paper, not 'slow'"):
        TrainConfig.preset("slow")


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(TrainConfig)])
def test_a_missing_field_is_named(field):
    values = as_json()
    del values[field]
    earlier = {"positivity_margin": 0, "axial": "trained"}  # which version 0.1.0 did not have
    if field in earlier:
        assert getattr(TrainConfig.from_dict(values), field) == earlier[field]
        return
    with pytest.raises(ConfigError) as error:
        TrainConfig.from_dict(values)
    assert field in refused(error) or field == "network"


@pytest.mark.parametrize("field", ["depth", "filters", "skip"])
def test_a_missing_field_of_the_network_is_named(field):
    values = as_json()
    del values["network"][field]
    with pytest.raises(ConfigError, match=field) as error:
        TrainConfig.from_dict(values)
    refused(error)


def test_unknown_fields_are_named():
    for values in (
        as_json(learnig_rate=1.0),
        as_json(network={**UNetConfig().__dict__, "learnig_rate": 1.0}),
    ):
        with pytest.raises(ConfigError, match="learnig_rate") as error:
            TrainConfig.from_dict(values)
        refused(error)


@pytest.mark.parametrize("values", [None, 3, "fast", [], [["epochs", 3]], {}])
def test_what_is_no_config_is_refused(values):
    with pytest.raises(ConfigError) as error:
        TrainConfig.from_dict(values)
    refused(error)


WRONG = {
    int: ["3", 2.5, 3.0, True, None, [3], {}],
    float: ["1.0", True, None, [1.0], {}, float("nan"), float("inf"), -float("inf")],
    str: [3, 1.5, True, None, ["auto"], {}, "nonsense", ""],
    bool: [1, 0, 0.0, "true", None, []],
    UNetConfig: [None, 3, "unet", [], [3, 64, "add"], True],
}


@pytest.mark.wrong_types
@pytest.mark.parametrize("field", dataclasses.fields(TrainConfig), ids=lambda field: field.name)
def test_a_value_of_the_wrong_kind_is_refused(field):
    wrong = WRONG[type(field.default)]
    if field.name == "background":  # a word or a number
        wrong = [True, None, ["auto"], {}, "nonsense", "", float("nan"), float("inf")]
    if field.name == "blind":
        wrong = [True, None, 3, ["auto"], {}, "nonsense", "", [1], [1, 2, 3], [1.0, 2], [True, 1]]
    for value in wrong:
        with pytest.raises(ConfigError) as error:
            TrainConfig.from_dict(as_json(**{field.name: value}))
        refused(error)


@pytest.mark.wrong_types
@pytest.mark.parametrize(
    ("field", "values"), [("depth", WRONG[int]), ("filters", WRONG[int]), ("skip", WRONG[str])]
)
def test_a_value_of_the_wrong_kind_in_the_network_is_refused(field, values):
    for value in values:
        with pytest.raises(ConfigError) as error:
            TrainConfig.from_dict(
                as_json(network={**dataclasses.asdict(UNetConfig()), field: value})
            )
        refused(error)


def test_json_may_write_a_whole_number_where_a_fraction_is_meant():
    assert TrainConfig.from_dict(as_json(output_scale=10, averaging=0)) == TrainConfig(
        output_scale=10.0, averaging=0.0
    )


RANGES = [  # field, the first and last that are allowed, what lies just outside
    ("batch_size", [1, 2**14], [0, -1, 2**14 + 1, 10**30]),
    ("epochs", [1, 999, (2**31 - 1) // 100], [0, -1, 2**31 // 100 + 1, 10**30]),
    ("steps_per_epoch", [1, 999], [0, -1]),
    ("patience", [1, 999], [0, -1]),
    ("radius", [1, 99], [0, -1]),
    ("validation_patches", [1, 2**14], [0, -1, 2**14 + 1, 10**30]),
    ("patch_size", [8, 12, 64, 100], [0, -4, 4, 9, 10, 62, 101]),
    ("output_scale", [1e-9, 1e9], [0.0, -1.0, float("inf"), float("nan")]),
    ("learning_rate", [1e-9, 1e9], [0.0, -1.0, float("inf"), float("nan")]),
    ("positivity", [0.0, 1e9], [-1e-9, float("inf"), float("nan")]),
    ("positivity_margin", [0.0, 1e9], [-1e-9, float("inf"), float("nan")]),
    ("variation", [0.0, 1e9], [-1e-9, float("inf"), float("nan")]),
    ("density", [1e-9, 0.25], [0.0, 0.2500001, -0.1, float("nan")]),
    ("averaging", [0.0, 0.9999], [1.0, -1e-9, float("nan")]),
    ("validation_fraction", [1e-9, 0.9999], [0.0, 1.0, float("nan")]),
    ("schedule", ["cosine", "plateau"], ["Cosine", "", "constant"]),
    ("validation", ["auto", "frames", "pixels"], ["none", ""]),
    ("weights", ["best", "averaged", "last"], ["first", ""]),
    ("axial", ["auto", "trained", "fitted"], ["none", ""]),
    ("symmetries", [1, 2, 4, 8], [0, 3, 5, 16]),
    ("blind", ["auto", (0, 0), (16, 0)], ["none", (-1, 0), (0, 17), (1, 1, 1)]),
    (
        "background",
        ["auto", 0, -3.5, 520, 1e38],
        ["dark", float("nan"), float("inf"), 1e39, 10**400],
    ),
]


@pytest.mark.wrong_types
@pytest.mark.parametrize(("field", "inside", "outside"), RANGES, ids=[row[0] for row in RANGES])
def test_ranges(field, inside, outside):
    for value in inside:
        assert getattr(TrainConfig(**{field: value}), field) == value
    for value in outside:
        with pytest.raises(ConfigError, match=f"^{field} must be .*, not ") as error:
            TrainConfig(**{field: value})
        assert repr(value) in refused(error)


@pytest.mark.parametrize(
    ("field", "inside", "outside"),
    [
        ("depth", [1, 8], [0, 9, -1]),
        ("filters", [1, 2048], [0, -1, 2049, 10**30]),
        ("skip", ["add", "concat"], ["sum", ""]),
    ],
)
def test_ranges_of_the_network(field, inside, outside):
    for value in inside:
        assert getattr(UNetConfig(**{field: value}), field) == value
    for value in outside:
        with pytest.raises(ConfigError, match=f"^{field} must be .*, not ") as error:
            UNetConfig(**{field: value})
        assert repr(value) in refused(error)


def test_the_patch_must_fit_the_depth():
    assert TrainConfig(network=UNetConfig(depth=6), patch_size=32).patch_size == 32
    with pytest.raises(ConfigError, match="patch_size must be a multiple of 32"):
        TrainConfig(network=UNetConfig(depth=6), patch_size=48)


@pytest.mark.wrong_types
@pytest.mark.parametrize(
    "changes",
    [
        {"batch_size": 2.5},
        {"epochs": np.int64(3)},
        {"symmetries": True},
        {"background": True},
        {"positivity": True},
        {"patch_size": 64.0},
    ],
    ids=str,
)
def test_a_config_that_is_accepted_comes_back_from_json(changes):
    try:
        config = TrainConfig(**changes)
    except ConfigError:
        return
    assert through_json(config) == config


@pytest.mark.wrong_types
@pytest.mark.parametrize(
    "changes",
    [
        {"batch_size": "2"},
        {"density": "thin"},
        {"learning_rate": None},
        {"schedule": ["cosine"]},
        {"network": {"depth": 3}},
    ],
    ids=str,
)
def test_wrong_kinds_are_config_errors_from_python_too(changes):
    with pytest.raises(ConfigError) as error:
        TrainConfig(**changes)
    refused(error)


@pytest.mark.wrong_types
def test_a_network_of_the_wrong_kind_is_a_config_error_from_python_too():
    with pytest.raises(ConfigError):
        UNetConfig(depth="3")


def test_a_config_error_is_a_value_error():
    assert issubclass(ConfigError, ValueError)


def test_frozen_and_hashable():
    config = TrainConfig()
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.epochs = 3
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.network.depth = 2
    assert {config: 1, TrainConfig.paper(): 2}[TrainConfig()] == 1
    assert hash(config) == hash(TrainConfig(network=UNetConfig(filters=32)))


@pytest.mark.parametrize("depth", range(1, 9))
def test_multiple(depth):
    assert NetworkShape(depth=depth).multiple == 2 ** (depth - 1)


def test_importing_the_config_does_not_import_jax():
    code = "import sys, jaxdenoise.config; sys.exit('jax' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
