"""Which frames a report shows, and where it reads them."""

from dataclasses import replace

import numpy as np

from jaxdenoise.report.findings import CARE, STOP
from jaxdenoise.report.guard import GuardVerdict
from jaxdenoise.workflows.origins import origins_of
from jaxdenoise.workflows.requests import DenoiseRequest, TrainRequest
from jaxdenoise.workflows.settings import Optics, Training
from jaxdenoise.workflows.shown_frames import SIDE, window


def verdict(levels):
    return GuardVerdict(max(levels.values()), (), "", {}, 40, levels)


def test_the_worst_come_first_then_the_first_and_the_last():
    found = window((40, 512, 512), range(40), [verdict({5: CARE, 17: STOP})])
    assert len(found.numbers) == 8
    assert found.numbers[:4] == [17, 5, 0, 39]
    assert found.why[:4] == ["the worst", "among the worst", "the first", "the last"]
    assert set(found.why[4:]) == {"evenly chosen"}
    assert len(set(found.numbers)) == 8


def test_half_of_the_places_are_for_usual_frames():
    found = window((40, 512, 512), range(40), [verdict(dict.fromkeys(range(10, 40), STOP))])
    assert sum("worst" in why for why in found.why) == 4


def test_channels_share_the_places_and_odd_frames_are_left_out():
    levels = {3: STOP}
    found = window((40, 512, 512), range(1, 40), [verdict({9: CARE}), verdict(levels)])
    assert found.numbers[:2] == [3, 9]
    assert 0 not in found.numbers
    assert len(found.numbers) == 4


def test_large_frames_are_shown_in_part():
    found = window((3, 5000, 700), range(3))
    assert (found.rows, found.columns) == (slice(1988, 1988 + SIDE), slice(0, 700))
    assert len(found.numbers) == 2


def hows(request, denoiser, evidence=()):
    return {one.what: one.how for one in origins_of(request, denoiser, evidence)}


def test_what_was_given_assumed_or_found(make_denoiser):
    denoiser = make_denoiser(depth=2)
    places = {"inputs": ["a.tif"], "output": "out"}
    psf = np.zeros((9, 9), np.float32)
    psf[3:6, 3:6] = 1 / 9
    denoiser = replace(denoiser, psf=psf)
    default = DenoiseRequest(**places)
    assert hows(default, denoiser)["PSF"] == "assumed"
    assert hows(default, denoiser)["Background"] == "found"
    line = "PSF: sigma 1.2 pixels, that of a microscope with the file's aperture of 1.2"
    assert hows(default, denoiser, [line])["PSF"] == "file"
    given = DenoiseRequest(**places, training=Training(psf=1.2, background=100, stride=1))
    found = hows(given, denoiser)
    assert (found["PSF"], found["Background"], found["Stride"]) == ("given", "given", "given")
    best = TrainRequest(**places, training=Training(preset="best"))
    assert hows(best, denoiser)["PSF"] == "found"
    optics = Training(optics=Optics(na=1.2, emission=0.5))
    assert hows(TrainRequest(**places, training=optics), denoiser)["PSF"] == "given"
    assert hows(DenoiseRequest(**places, instant=True), denoiser)["PSF"] == "network"
