"""What the experiments share: the results' files, tables, data, quality and timing."""

import dataclasses
import datetime
import json
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from common import arguments, data, memory, quality, store, timing
from common.tables import Table, markdown_section, markdown_tables

import jaxdenoise as jd

RESULTS = sorted((Path(__file__).parents[2] / "experiments" / "results").glob("*.json"))
TABLE = Table("Quality", ["image", "PSNR"], [["a|b", "30.10"], ["c", None]])


@pytest.fixture
def written(tmp_path):
    path = tmp_path / "results.json"
    options = {"group": "quality", "title": "Ours", "command": "python experiments/x.py"}
    store.write(path, **options, tables=[TABLE], note="In dB.")
    return path


def test_results_are_read_as_they_were_written(written):
    record = store.read(written)
    assert tuple(record) == store.KEYS
    assert record["tables"] == [dataclasses.asdict(TABLE)]
    assert record["date"] == f"{datetime.date.today()}"
    assert {"cores", "Python", "jax"} < set(record["machine"].replace(",", "").split())
    assert (record["group"], record["note"]) == ("quality", "In dB.")


def test_commit_is_that_of_the_checkout_or_the_version(monkeypatch):
    assert store.commit()
    monkeypatch.setenv("PATH", "")
    assert store.commit() == f"jaxdenoise {jd.__version__}"


def test_command_is_as_it_is_typed(monkeypatch):
    monkeypatch.setattr("sys.argv", ["somewhere/volume.py", "a file.tif", "--seeds", "2"])
    assert store.command_line() == "python experiments/volume.py 'a file.tif' --seeds 2"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"commit": ""}, "empty: commit"),
        ({"date": "yesterday"}, "isoformat"),
        ({"tables": [{"title": "t", "columns": ["a"], "rows": [["1", "2"]]}]}, "columns"),
        ({"tables": [{"title": "t", "rows": []}]}, "keys"),
        ({"more": 1}, "keys"),
    ],
)
def test_irregular_results_are_refused(written, change, told):
    with pytest.raises(ValueError, match=told):
        store.check(store.read(written) | change)


def test_tables_are_markdown(written):
    rows = "| a\\|b | 30.10 |\n| c | - |"
    assert markdown_tables(written) == f"**Quality**\n\n| image | PSNR |\n|---|---|\n{rows}"


def test_a_section_says_how_it_was_measured(written):
    section = markdown_section(written, heading="###")
    assert section.startswith("### Ours\n\n```sh\npython experiments/x.py\n```\n\n")
    record = store.read(written)
    assert all(record[key] in section for key in ("machine", "commit", "date", "note"))
    assert section.endswith(markdown_tables(written) + "\n")


def test_rows_are_shown_as_they_are_added(capsys):
    table = Table("t", ["a", "b"]).start()
    table.add(1, None)
    table.add(2, 3, show=False)
    assert capsys.readouterr().out == "\n**t**\n\n| a | b |\n|---|---|\n| 1 | - |\n"
    assert table.rows == [[1, None], [2, 3]]
    with pytest.raises(ValueError, match="3 cells for 2 columns"):
        table.add(1, 2, 3)


def test_there_are_results():
    assert len(RESULTS) > 30


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_every_result_is_regular(path):
    record = store.read(path)
    assert record["note"] or record["tables"]
    assert all(line == line.rstrip() for line in record["note"].splitlines())
    for table in record["tables"]:
        assert table["title"]
        assert table["rows"]
        assert all(
            cell is None or isinstance(cell, str | int | float)
            for row in table["rows"]
            for cell in row
        )
    section = markdown_section(path)
    assert section.count("\n|---") == len(record["tables"])


def test_titles_and_groups_of_results():
    records = [json.loads(path.read_text(encoding="utf-8")) for path in RESULTS]
    titles = [record["title"] for record in records]
    assert len(set(titles)) == len(titles)
    groups = {"quality", "filters", "psf", "pieces", "speed", "devices", "robustness", "parity"}
    groups |= {"movies"}
    assert {record["group"] for record in records} == groups


def test_tasks_of_a_folder(tmp_path):
    rng = np.random.default_rng(0)
    for folder, name in (
        ("fmd/gt", "A.png"),
        ("fmd/raw", "A_1.png"),
        ("fmd/raw", "A_2.png"),
        ("w2s/gt", "x.tif"),
        ("w2s/noisy", "x.tif"),
    ):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        image = rng.integers(0, 255, (16, 16)).astype(np.uint8)
        imagecodecs.imwrite(tmp_path / folder / name, image)
    found = {name: (noisy.shape, truth.shape) for name, noisy, truth, _ in data.tasks(tmp_path)}
    assert found == {
        "fmd-stack/A": ((2, 16, 16), (16, 16)),
        "fmd-single/A": ((1, 16, 16), (16, 16)),
        "w2s-single/x": ((1, 16, 16), (16, 16)),
    }


def test_actin_is_cropped_and_less_its_offset(tmp_path):
    stack = np.full((2, 520, 530), 620, np.uint16)
    tifffile.imwrite(tmp_path / "diaphragm.tif", stack)
    assert data.actin_stack(tmp_path / "diaphragm.tif", None).shape == (2, 512, 512)
    assert np.all(data.actin_stack(tmp_path / "diaphragm.tif", None) == 100)
    assert np.all(data.actin_stack(tmp_path / "diaphragm.tif", 0) == 620)


def test_quality_follows_the_protocol():
    truth = np.linspace(0, 255, 256, dtype=np.float32).reshape(16, 16)
    stretched = np.stack([3 * truth + 5, truth])
    fmd = quality.qualities(stretched, truth, "fmd-stack")
    w2s = quality.qualities(stretched, truth, "w2s-single")
    assert fmd["psnr"][0] < 20 < fmd["psnr"][1]
    assert min(w2s["si_psnr"]) > 60  # the least-squares fit undoes the stretching
    assert fmd["si_psnr"][0] < 30  # clamped to [0, 255] first
    assert quality.quality(stretched, truth, "fmd-stack")["psnr"] == np.mean(fmd["psnr"])
    assert quality.criterion("w2s-single") == "si_psnr"
    assert quality.criterion("fmd-stack/A") == "psnr"


def test_rivals_take_turns():
    turns = []
    rivals = {
        "fast": (lambda: turns.append("fast"), None),
        "slow": (lambda: turns.append("slow"), 1),
        "once": (lambda: turns.append("once"), 0),
    }
    times = timing.times_in_turn(rivals, 2)
    assert turns == ["fast", "slow", "once", "fast", "slow", "fast"]
    assert {name: len(seconds) for name, seconds in times.items()} == {
        "fast": 2,
        "slow": 1,
        "once": 1,
    }
    assert timing.seconds(lambda: None) >= 0


def test_peak_memory_is_of_this_process():
    held = np.ones(2**24, np.uint8)
    assert memory.peak_of_this_process() > held.nbytes


def test_only_takes_several_texts():
    parser = arguments.parser_of("Measure.\n\nMore.", "x.json")
    arguments.add_only(parser)
    args = parser.parse_args(["--only", "fmd,w2s"])
    assert [arguments.is_chosen(name, args.only) for name in ("fmd-stack/A", "x")] == [True, False]
    assert arguments.is_chosen("x", parser.parse_args([]).only)


def test_kept_measurements(tmp_path):
    assert arguments.read_kept(tmp_path / "none.json") == {}
    (tmp_path / "kept.json").write_text('{"a": 1}')
    assert arguments.read_kept(tmp_path / "kept.json") == {"a": 1}
