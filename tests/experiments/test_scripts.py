"""Every experiment starts: its imports hold, its command line parses, and its help is complete."""

import importlib
import importlib.util
import os
from pathlib import Path

import pytest

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
NEEDS = {  # packages beyond those of the extra "test"
    "quality_vs_seconds": "torch",
    "speed_vs_pytorch": "torch",
}
SCRIPTS = sorted(path.stem for path in EXPERIMENTS.glob("*.py"))


@pytest.fixture
def script(request, monkeypatch):
    """An experiment as a module; what its import sets in the environment is undone."""
    monkeypatch.setattr(os, "environ", os.environ.copy())
    package = NEEDS.get(request.param)
    if package is not None and importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed")
    return importlib.import_module(request.param)


def test_there_are_scripts():
    assert set(NEEDS) < set(SCRIPTS)


@pytest.mark.parametrize("script", SCRIPTS, indirect=True)
def test_help_says_what_the_script_measures(script, capsys):
    with pytest.raises(SystemExit) as ended:
        script.main(["--help"])
    assert ended.value.code == 0
    told = " ".join(capsys.readouterr().out.split())
    assert script.__doc__.splitlines()[0] in told
    assert "--output" in told


@pytest.mark.parametrize("script", SCRIPTS, indirect=True)
def test_its_docstring_has_its_command_and_readme_its_line(script):
    assert f"python experiments/{script.__name__}.py" in script.__doc__
    assert f"| `{script.__name__}.py` |" in (EXPERIMENTS / "README.md").read_text()


@pytest.mark.parametrize("script", ["benchmark_real"], indirect=True)
def test_settings_change_the_training_and_the_name_of_its_column(script):
    settings = ["--set", "batch_size=4", "--set", "network.depth=4", "--epochs", "3", "--psf", "0"]
    args = script.build_parser().parse_args(["data", *settings])
    config = script.configured(args)
    assert (config.batch_size, config.network.depth, config.epochs) == (4, 4, 3)
    label = script.label_of("deconoising", args)
    assert label == "deconoising fast epochs=3 psf=0 batch_size=4 network.depth=4"
    assert script.label_of("best", args) == "best"


@pytest.mark.parametrize("script", ["benchmark_real"], indirect=True)
def test_quality_table_has_cells_and_means(script):
    runs = {
        "0": {"psnr": [30.0, 32.0], "si_psnr": [0, 0], "ssim": [0.5, 0.7], "seconds": [1, 1]},
    }
    tuned = {"0": runs["0"] | {"psnr": [33.0, 33.0], "parameter": 0.75}}
    results = {"fmd-stack/A": {"raw": runs, "best": tuned}, "fmd-stack/B": {"raw": runs}}
    table = script.quality_table(results, ["raw", "best"])
    raw = "31.00 \N{PLUS-MINUS SIGN} 1.00 / 0.600"
    assert table.rows[0] == ["fmd-stack/A", raw, "33.00 / 0.600 (0.75)"]
    assert table.rows[1] == ["fmd-stack/B", raw, "-"]
    assert table.rows[2] == ["**fmd-stack, mean PSNR**", "31.000", "-"]


@pytest.mark.parametrize("script", ["psf_choice"], indirect=True)
def test_automatic_choice_is_read_off_the_kept_errors(script):
    def errors(level):
        return {str(epoch): [level, level + 0.01, level - 0.01] for epoch in range(1, 11)}

    rows = [{"psf": 0.5 * k, "errors": errors(abs(k - 2) + 1.0)} for k in range(7)]
    assert script.automatic(rows, 10) == 2
    assert script.rank_correlation([1, 2, 3], [10, 20, 40]) == pytest.approx(1)


@pytest.mark.parametrize("script", ["scaling"], indirect=True)
def test_efficiency_is_of_speed_on_devices_and_of_rate_where_they_are_simulated(script):
    cases, times = [(1, 80), (4, 80)], [1.0, 0.5]
    real = script.scaling_table("t", "patches", cases, times, None)
    simulated = script.scaling_table("t", "patches", cases, times, 4)
    assert real.rows == [[1, "80", "1", "1.00"], [4, "160", "0.5", "0.50"]]
    assert [row[-1] for row in simulated.rows] == ["1.00", "2.00"]


@pytest.mark.parametrize("script", ["speed_vs_pytorch"], indirect=True)
def test_cells_of_a_measurement_have_medians_and_ranges(script):
    times = {"ours": [2.0, 1.0, 4.0], "opencv": [0.5, 0.5, 0.25]}
    row = script.measurement("filters", "images a second", times, amount=8, rate=2.5)
    told = "ours 2 to 8; opencv 16 (16 to 32); rate 2.5"
    assert script.cells(row) == ["filters", "4", None, None, "images a second", None, told]
