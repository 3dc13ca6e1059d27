import os
from pathlib import Path

import pytest

from jaxdenoise.system import files
from jaxdenoise.system.crew import Crew
from jaxdenoise.system.files import new_file, new_files, new_folder, recover, write_text


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def old(tmp_path):
    """A folder with a file."""
    folder = tmp_path / "a"
    folder.mkdir()
    (folder / "x").write_text("old")
    return folder


def test_a_file_appears_at_the_end(tmp_path):
    with new_file(tmp_path / "a") as temporary:
        temporary.write_text("new")
        assert not (tmp_path / "a").exists()
    assert (tmp_path / "a").read_text() == "new"
    assert names(tmp_path) == ["a"]


def write_half(path, error):
    with new_file(path) as temporary:
        temporary.write_text("half")
        raise error


@pytest.mark.parametrize("error", [OSError(28, "No space left"), KeyboardInterrupt()])
def test_an_error_leaves_the_old_file_and_nothing_else(old, error):
    with pytest.raises(type(error)):
        write_half(old / "x", error)
    assert names(old) == ["x"]
    assert (old / "x").read_text() == "old"


def test_a_text_that_cannot_be_written_leaves_the_old_one(old, monkeypatch):
    def broken(descriptor):
        raise OSError(28, "No space left")

    write_text(old / "new" / "x", "\u00b5")
    assert (old / "new" / "x").read_bytes() == b"\xc2\xb5"
    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(OSError, match="No space"):
        write_text(old / "x", "new")
    assert names(old) == ["new", "x"]
    assert (old / "x").read_text() == "old"


def test_what_a_killed_process_left_is_overwritten(old):
    (old / ".x.unfinished").write_text("half, and longer than the new text")
    write_text(old / "x", "new")
    assert names(old) == ["x"]
    assert (old / "x").read_text() == "new"


def test_files_appear_together_beside_others(old):
    (old / "keep").write_text("mine")
    (old.parent / ".a.unfinished").mkdir()
    (old.parent / ".a.unfinished" / "left").write_text("by a killed process")
    with new_files(old) as folder:
        for name in ("x", "y"):
            (folder / name).write_text("new")
        assert (old / "x").read_text() == "old"
    assert names(old) == ["keep", "x", "y"]
    assert (old / "x").read_text() == "new"
    assert names(old.parent) == ["a"]


def write_one(path):
    with new_files(path) as folder:
        (folder / "x").write_text("new")
        raise KeyError


def test_an_error_leaves_no_files(old):
    with pytest.raises(KeyError):
        write_one(old)
    assert (old / "x").read_text() == "old"
    assert names(old.parent) == ["a"]


def make(folder, **options):
    with new_folder(folder, **options) as temporary:
        temporary.mkdir()
        (temporary / "y").write_text("new")


def test_a_folder_appears_at_the_end(tmp_path):
    (tmp_path / ".a.unfinished").mkdir()  # of a killed process
    make(tmp_path / "a")
    assert names(tmp_path) == ["a"]
    assert names(tmp_path / "a") == ["y"]


def test_a_folder_is_replaced_only_if_asked(old):
    with pytest.raises(OSError, match="not empty"):
        make(old)
    assert names(old) == ["x"]
    (old.parent / ".a.old").mkdir()  # of a process that was killed after its new folder stood
    make(old, replace=True)
    assert names(old) == ["y"]
    assert names(old.parent) == ["a"]


def make_half(path):
    with new_folder(path, replace=True) as temporary:
        temporary.mkdir()
        raise KeyboardInterrupt


def test_an_error_leaves_the_old_folder(old):
    with pytest.raises(KeyboardInterrupt):
        make_half(old)
    assert names(old) == ["x"]
    assert names(old.parent) == ["a"]


def test_a_failed_rename_puts_the_old_folder_back(old, monkeypatch):
    rename = os.rename

    def broken(source, target):
        if Path(source).name == ".a.unfinished":
            raise OSError(28, "No space left")
        rename(source, target)

    monkeypatch.setattr(os, "rename", broken)
    with pytest.raises(OSError, match="No space"):
        make(old, replace=True)
    assert names(old) == ["x"]
    assert names(old.parent) == ["a"]


def test_other_processes_write_but_only_the_primary_one_renames(tmp_path, monkeypatch):
    barriers = []
    monkeypatch.setattr(Crew, "barrier", lambda crew: barriers.append(crew.index))
    (tmp_path / ".a.unfinished").mkdir()
    with new_folder(tmp_path / "a", crew=Crew(1, 2)) as temporary:
        (temporary / "part").write_text("new")
    assert names(tmp_path) == [".a.unfinished"]
    assert barriers == [1, 1, 1]


def test_a_folder_that_is_still_filled_is_removed(old, monkeypatch):
    """As tensorstore's threads do after an interrupt."""
    filled = []

    def fill(seconds):
        filled.append(seconds)

    rmtree = files.shutil.rmtree
    monkeypatch.setattr(files.time, "sleep", fill)
    monkeypatch.setattr(
        files.shutil, "rmtree", lambda path, **options: filled and rmtree(path, **options)
    )
    files.remove_folder(old)
    assert not old.exists()
    assert len(filled) == 1


def test_recovery_after_a_kill(old):
    run = old.parent
    for name in (".b.old", ".a.old", ".c.unfinished", ".d.unfinished.orbax-checkpoint-tmp-7"):
        (run / name).mkdir()
    (run / ".e.unfinished").write_text("a file that another thread may be writing")
    recover(run)
    assert names(run) == [".e.unfinished", "a", "b"]
    assert names(old) == ["x"]
    recover(run / "missing")
