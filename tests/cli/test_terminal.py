import io
import os
import re
import signal
import sys
import threading

import pytest
from rich.console import Console

from jaxdenoise.cli import terminal
from jaxdenoise.cli.tables import print_cells, print_table
from jaxdenoise.cli.terminal import Bars, Interrupt, Lines, Log, reporter
from jaxdenoise.config import TrainConfig
from jaxdenoise.system import crew
from jaxdenoise.system.errors import RequestError
from jaxdenoise.workflows import Reporter

ROW = {"train_loss": 0.5, "validation_loss": 0.25}


def test_bars_show_the_progress(capsys):
    config = TrainConfig(epochs=4)
    with Bars(Console(stderr=True, width=120)) as bars:
        assert isinstance(bars, Reporter)
        with bars.training(config, done=2) as on_epoch:
            on_epoch(ROW)
            on_epoch(ROW)
        bars.predicting("x.tif")(1, 1)
        bars.say("wrote x.tif")
        assert not bars.cancelled()
    shown = capsys.readouterr()
    assert shown.out == ""
    for text in ("4/4", "loss 0.5000", "validation 0.2500", "patches/s", "x.tif", "wrote x.tif"):
        assert text in shown.err


def test_brackets_in_names_are_no_markup(capsys):
    names = ["cell[gfp].tif", "out[/b]/x.tif", "[red]a:smile:.tif"]
    with Bars() as bars:
        for name in names:
            bars.predicting(name)(1, 1)
            bars.say(f"wrote {name}")
    shown = capsys.readouterr().err
    assert all(f"wrote {name}" in shown for name in names)
    assert f"denoising {names[-1]}" in shown  # in place of the ones before
    print_table(names[1], {name: {"psnr": 30} for name in names}, ("psnr",))
    shown = capsys.readouterr().out
    assert all(name in shown for name in names)


def test_lines_are_messages_alone_at_first(capsys):
    for quiet in (True, False):
        lines = Lines(quiet=quiet)
        assert isinstance(lines, Reporter)
        with lines.training(TrainConfig()) as on_epoch:
            on_epoch(ROW)
        lines.predicting("x.tif")(1, 1)
        lines.say("wrote x.tif")
        assert capsys.readouterr() == ("", "" if quiet else "wrote x.tif\n")


@pytest.mark.parametrize("made", [Bars, lambda: Lines(quiet=True, interrupt=Interrupt())])
def test_the_first_ctrl_c_asks_and_the_second_stops(made, capsys):
    before, reports = signal.getsignal(signal.SIGINT), made()
    with reports.training(TrainConfig()):
        os.kill(os.getpid(), signal.SIGINT)
        assert reports.cancelled()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before
    assert "stopping after this epoch; Ctrl-C again stops at once" in capsys.readouterr().err


def test_signals_are_left_alone_outside_the_main_thread():
    before, found = signal.getsignal(signal.SIGINT), []

    def train():
        with Lines(quiet=True, interrupt=Interrupt()).training(TrainConfig()):
            found.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=train)
    thread.start()
    thread.join()
    assert found == [before]


def test_the_reporter_suits_where_standard_error_goes(monkeypatch, capsys):
    with reporter(quiet=False) as reports:
        reports.say("said")
        assert isinstance(reports, Lines)
    with reporter(quiet=True) as reports:
        reports.say("not said")
    monkeypatch.setattr(crew, "ALONE", crew.Crew(1, 2))
    with reporter(quiet=False) as reports:
        reports.say("not said by the second process")
    monkeypatch.undo()
    assert capsys.readouterr().err == "said\n"
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with reporter(quiet=False) as reports:
        assert isinstance(reports, Bars)


def test_a_table_rounds_by_column(capsys):
    print_table("scores", {"a": {"psnr": 1.2345, "ssim": None}}, ("psnr", "ssim"))
    printed = capsys.readouterr().out
    assert "scores" in printed
    assert "1.23 " in printed
    assert "- " in printed


@pytest.mark.parametrize("width", [40, 70, 120])
def test_on_narrow_terminals_the_losses_go_first(width):
    stream = io.StringIO()
    with Bars(Console(file=stream, force_terminal=True, width=width)) as bars:
        with bars.training(TrainConfig(epochs=40)) as on_epoch:
            for _ in range(20):
                on_epoch(ROW)
        bars.predicting("a file with a name that is far too long for any terminal.tif")(3, 7)
        lines = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", bars_shown(bars, width)).splitlines()
    training, predicting = lines[:2]
    assert "20/40" in training
    assert re.search(r"\d:\d\d", training)
    assert "3/7" in predicting
    assert ("validation" in training) == (width == 120)
    assert max(map(len, lines)) <= width


def bars_shown(bars, width):
    console = Console(file=io.StringIO(), width=width)
    console.print(bars._progress.get_renderable())
    return console.file.getvalue()


def test_without_a_terminal_there_is_a_line_now_and_then(monkeypatch, capsys):
    moments = iter(range(0, 10_000, 10))  # seconds
    monkeypatch.setattr(terminal.time, "monotonic", lambda: next(moments))
    lines = Lines()
    with lines.training(TrainConfig(epochs=9), done=1) as on_epoch:
        for _ in range(8):
            on_epoch(ROW)
    said = capsys.readouterr().err.splitlines()
    assert 2 <= len(said) <= 5
    assert re.fullmatch(
        r"training: epoch \d of 9, \d+:\d\d left, loss 0.5000, validation 0.2500", said[0]
    )
    tell = lines.predicting("a.tif")
    for done in range(6):
        tell(done + 1, 6)
    assert re.match(r"denoising a.tif: \d of 6, \d+:\d\d left", capsys.readouterr().err)


def test_a_log_keeps_what_is_said(tmp_path, capsys):
    log = Log(str(tmp_path / "new" / "run.log"))
    with reporter(quiet=True, log=log) as reports:
        reports.say("wrote a.tif")
        reports.insist("verdict: use with care")
    first, second = (tmp_path / "new" / "run.log").read_text().splitlines()
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d wrote a.tif", first)
    assert second.endswith(" verdict: use with care")
    assert capsys.readouterr().err == "verdict: use with care\n"
    with pytest.raises(RequestError, match="the log cannot be written"):
        Log(str(tmp_path))


def test_into_a_pipe_tables_go_whole(capsys):
    name = "a folder/" * 30 + "[a].tif"
    print_cells("files", ("file", "verdict"), [(name, "no problems found")])
    assert any(name in line for line in capsys.readouterr().out.splitlines())
