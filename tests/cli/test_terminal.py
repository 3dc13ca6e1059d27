import os
import signal
import sys
import threading

import pytest

from jaxdenoise.cli.terminal import Bars, Lines, print_table, reporter
from jaxdenoise.config import TrainConfig
from jaxdenoise.system import crew
from jaxdenoise.workflows import Reporter

ROW = {"train_loss": 0.5, "validation_loss": 0.25}


def test_bars_show_the_progress(capsys):
    config = TrainConfig(epochs=4)
    with Bars() as bars:
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
    assert all(f"wrote {name}" in shown and f"denoising {name}" in shown for name in names)
    print_table(names[1], {name: {"psnr": 30} for name in names}, ("psnr",))
    shown = capsys.readouterr().out
    assert all(name in shown for name in names)


def test_lines_are_messages_alone(capsys):
    for quiet in (True, False):
        lines = Lines(quiet=quiet)
        assert isinstance(lines, Reporter)
        with lines.training(TrainConfig()) as on_epoch:
            on_epoch(ROW)
        lines.predicting("x.tif")(1, 1)
        lines.say("wrote x.tif")
        assert capsys.readouterr() == ("", "" if quiet else "wrote x.tif\n")


@pytest.mark.parametrize("made", [Bars, lambda: Lines(quiet=True)])
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
        with Lines(quiet=True).training(TrainConfig()):
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
