"""The script that compares methods on movies: cases, filters, tables, and that it goes on."""

import json

import movies
import numpy as np
import pytest
from common import movie_methods
from common.movie_cases import MOVIES, VOLUMES, case_of, scores_of

SMALL = {"frames": 30, "size": 48}


@pytest.mark.parametrize("row", [*MOVIES, *VOLUMES])
def test_a_case_has_the_psnr_of_its_name(row):
    case = case_of(row, 0, **SMALL)
    decibels = (MOVIES | VOLUMES)[row][0]
    # Deep planes of the darker volume have less noise than its mean.
    above = 5 if row == "voldepth22" else 0.7
    assert -0.7 < scores_of(case, case.frames)["psnr"] - decibels < above
    assert (case.movie is None) == (row in VOLUMES)


def test_filters_chosen_by_the_truth_are_better_and_the_third_dimension_helps():
    found = {
        name: movie_methods.of_rival(name, "p16", 0, SMALL)
        for name in ("raw", "gaussian 2d best", "gaussian 3d best", "running median best")
    }
    quality = {name: row["psnr"] for name, row in found.items()}
    assert quality["gaussian 3d best"] > quality["gaussian 2d best"] + 1
    assert quality["gaussian 2d best"] > quality["raw"] + 5
    assert quality["running median best"] > quality["raw"] + 2
    across, within = map(float, found["gaussian 3d best"]["parameter"].split(", "))
    assert across > 0.5 < within
    assert all(row["memory"] > 1e7 for row in found.values())


def test_the_uniform_transform_is_undone_without_bias_at_few_photons():
    rng = np.random.default_rng(0)
    for photons in (0.5, 2.0, 20.0):
        gain = 300.0
        noisy = gain * rng.poisson(photons, 200_000) + 10 * rng.standard_normal(200_000)
        uniform = movie_methods.to_uniform(noisy, gain)
        assert movie_methods.from_uniform(uniform.mean(), gain) == pytest.approx(
            gain * photons, rel=0.05
        )
    assert uniform.std() == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("instant", ["--instant"]),
        ("best", ["--preset", "best", "--seed", "3"]),
        ("best 2", ["--preset", "best", "--seed", "3", "--neighbours", "2"]),
        ("raw", None),
        ("better", None),
    ],
)
def test_names_become_options_of_the_command_line(name, options):
    assert movie_methods.command_options(name, 3) == options


def test_an_unknown_method_is_refused():
    with pytest.raises(ValueError, match="unknown method better"):
        movie_methods.measured("better", "p16", 0, **SMALL)


def test_measurements_are_kept_and_missing_packages_are_said(tmp_path, monkeypatch, capsys):
    asked = []

    def measured(name, row, seed, **scene):
        asked.append((row, name, seed))
        return movie_methods.of_rival(name, row, seed, scene)

    monkeypatch.setattr(movies, "measured", measured)
    monkeypatch.setitem(movie_methods.PACKAGES, "careamics n2v", "no_such_package")
    output = tmp_path / "movies.json"
    command = ["-o", str(output), "--folder", str(tmp_path), "--only", "p22,vol15", "--seeds", "2"]
    command += ["--frames", "24", "--size", "40", "--methods", "raw,careamics n2v"]
    movies.main(command)
    assert len(asked) == 4
    movies.main(command)
    assert len(asked) == 4
    told = capsys.readouterr().out
    assert "careamics n2v: package no_such_package is not installed" in told
    tables = json.loads(output.read_text())["tables"]
    assert [table["title"] for table in tables] == ["p22", "vol15"]
    raw = dict(zip(tables[0]["columns"], tables[0]["rows"][0], strict=True))
    assert float(raw["PSNR in dB"].split()[0]) == pytest.approx(22, abs=0.3)
    assert dict(zip(tables[1]["columns"], tables[1]["rows"][0], strict=True))["AC in dB"] is None


@pytest.mark.slow
def test_the_command_line_and_a_process_of_its_own_are_measured():
    small = {"frames": 3, "size": 40}
    raw = movie_methods.measured("raw", "p16", 0, **small)
    instant = movie_methods.measured("instant", "p16", 0, **small)
    assert instant["psnr"] > raw["psnr"] + 3
    assert instant["memory"] > 2e8
    assert instant["seconds"] > 0.5
