import os
from pathlib import Path

import pytest
from bad_files import make_files
from bad_runs import make_runs
from command_shell import Shell


@pytest.fixture(scope="session")
def _shell(tmp_path_factory, make_denoiser):
    folder = tmp_path_factory.mktemp("wrong")
    (folder / "here").mkdir()
    before = Path.cwd()
    os.chdir(folder / "here")
    make_files()
    make_runs(make_denoiser)
    os.chdir(before)
    shell = Shell(folder)
    yield shell
    shell.close()


@pytest.fixture
def shell(_shell, monkeypatch):
    """Runs command lines in a folder of good and bad files and runs, the current directory."""
    monkeypatch.chdir(_shell.folder / "here")
    return _shell
