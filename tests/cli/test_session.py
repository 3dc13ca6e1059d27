import io
import os
import re
import subprocess
import sys
import time
import warnings

import jax
import pytest

from jaxdenoise.cli import options, session
from jaxdenoise.cli.main import main
from jaxdenoise.cli.parser import parser
from jaxdenoise.cli.tables import print_table
from jaxdenoise.cli.verbs import VERBS
from jaxdenoise.system import crew
from jaxdenoise.system.errors import RequestError
from jaxdenoise.workflows import Cancelled


@pytest.fixture
def ends(monkeypatch, capsys):
    """Exit code and standard error of a verb that raises an error."""

    def call(error):
        def fail(command):
            raise error

        monkeypatch.setitem(VERBS, "info", fail)
        return main(["info"]), capsys.readouterr().err

    return call


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (RequestError("overwrite=True replaces it"), 2, "error: --overwrite replaces it"),
        (ValueError("no\nsuch thing"), 2, "error: no such thing"),
        (FileNotFoundError(2, "No such file", "a"), 2, "error: [Errno 2] No such file: 'a'"),
        (MemoryError(), 2, "error: out of memory (MemoryError); give less at a time, or smaller"),
        (RuntimeError("RESOURCE_EXHAUSTED: 9 GB"), 2, "error: out of memory (RESOURCE_EXHAUSTED"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (Cancelled("run: resume=True goes on"), 130, "interrupted; run: --resume goes on"),
    ],
)
def test_errors_are_exit_codes_and_one_line(ends, error, code, line):
    found, said = ends(error)
    assert found == code
    assert said.startswith(f"jaxdenoise: {line}")
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize("platform", ["cuda", "nonsense"])
def test_a_platform_that_is_not_there_is_one_line(platform):
    """JAX reads the variable once, so this takes a process of its own."""
    if platform == "cuda" and jax.default_backend() == "gpu":
        pytest.skip("it is there")
    words = [sys.executable, "-m", "jaxdenoise", "info"]
    environment = {**os.environ, "JAX_PLATFORMS": platform}
    ended = subprocess.run(words, capture_output=True, text=True, env=environment, check=False)
    assert (ended.returncode, ended.stdout) == (2, "")
    said = f"jaxdenoise: error: JAX finds no device of JAX_PLATFORMS={platform}"
    assert ended.stderr.startswith(said)
    assert len(ended.stderr.splitlines()) == 1


@pytest.mark.parametrize("verb", VERBS)
def test_each_verb_looks_for_devices_first(verb, monkeypatch, capsys, tmp_path):
    def devices():
        raise AssertionError

    monkeypatch.setattr(jax, "devices", devices)
    monkeypatch.chdir(tmp_path)
    words = {
        "demo": [],
        "info": [],
        "evaluate": ["a.tif", "--reference", "b.tif"],
    }.get(verb, ["a.tif", "-o", "out"])
    assert main([verb, *words]) == 2
    assert re.fullmatch(
        "jaxdenoise: error: JAX finds no device of JAX_PLATFORMS=[^;]*; unset .*\n",
        capsys.readouterr().err,
    )


@pytest.mark.parametrize("encoding", ["latin-1", "ascii", "utf-8"])
def test_names_that_a_console_cannot_show_are_shown_in_part(monkeypatch, encoding):
    streams = {name: io.TextIOWrapper(io.BytesIO(), encoding) for name in ("stdout", "stderr")}
    for name, stream in streams.items():
        monkeypatch.setattr(sys, name, stream)
    broken = os.fsdecode(b"\xff.tif")  # bytes that are no text in a name

    def say(command):
        print(f"wrote 细胞 {broken}")
        print_table("细胞", {"细胞": {"psnr": 1.0}}, ("psnr",))
        raise RequestError("细胞.tif: no such file")

    monkeypatch.setitem(VERBS, "info", say)
    assert main(["info"]) == 2
    shown = {name: stream.buffer for name, stream in streams.items()}
    for stream in streams.values():
        stream.flush()
    out, err = (shown[name].getvalue().decode(encoding) for name in streams)
    name = "细胞" if encoding == "utf-8" else "??"
    assert f"wrote {name} ?.tif" in out
    assert err == f"jaxdenoise: error: {name}.tif: no such file\n"


def test_an_error_of_ours_is_1_with_a_reason_after_its_traceback(ends):
    code, said = ends(RuntimeError("a mistake"))
    assert code == 1
    assert said.startswith("Traceback")
    assert said.splitlines()[-1] == (
        "jaxdenoise: internal error: RuntimeError: a mistake; please report it with the lines above"
    )


def test_the_death_of_another_process_is_1(ends, monkeypatch):
    monkeypatch.setattr(crew, "ALONE", crew.Crew(1, 2))
    monkeypatch.setattr(os, "_exit", sys.exit)
    with pytest.raises(SystemExit, match="1"):
        ends(RuntimeError("gloo: Connection reset by peer"))


def test_warnings_are_lines_with_flags(monkeypatch, capsys):
    def warn(command):
        warnings.warn("give sigma=... or size=...", stacklevel=1)
        return 0

    monkeypatch.setitem(VERBS, "filter", warn)
    assert main(["filter", "a.tif", "-o", "out"]) == 0
    assert capsys.readouterr().err == "jaxdenoise: warning: give --sigma or --size\n"
    monkeypatch.setattr(crew, "ALONE", crew.Crew(1, 2))
    session._warn("only the first process says it", "filter")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("usable", [True, False])
def test_compiled_programs_are_kept_where_the_user_can_write(tmp_path, monkeypatch, usable):
    home = tmp_path / "cache"
    home.mkdir() if usable else home.touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(home))
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
    monkeypatch.delenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS")
    session.keep_compiled_programs()
    assert os.environ.get("JAX_COMPILATION_CACHE_DIR") == (
        str(home / "jaxdenoise") if usable else None
    )


def test_joining_says_how_many_there_are(monkeypatch, capsys):
    joined = {}
    monkeypatch.setattr(session, "join", lambda **options: joined.update(options))
    monkeypatch.setattr(session, "current_crew", lambda: crew.Crew(0, 2))
    words = ["--coordinator", "localhost:1", "--processes", "2", "--process", "0"]
    args = parser().parse_args(["train", "a.tif", "-o", "run", *words])
    session.join_others(options.read(args, "jaxdenoise train"))
    assert joined == {"coordinator": "localhost:1", "processes": 2, "process": 0, "heartbeat": 30}
    assert "2 processes; if one dies all end" in capsys.readouterr().err


@pytest.mark.benchmark
def test_help_answers_at_once():
    seconds = []
    for words in (["--help"], ["denoise", "--help"], ["--version"]):
        began = time.monotonic()
        subprocess.run(
            [sys.executable, "-m", "jaxdenoise", *words], check=True, capture_output=True
        )
        seconds.append(time.monotonic() - began)
    assert sorted(seconds)[1] < 0.5
