"""The verdict names the plane, and the channel, in which something is wrong."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from jaxdenoise.config import TrainConfig
from jaxdenoise.network.denoiser import Denoiser, Scale
from jaxdenoise.network.settings import settle
from jaxdenoise.report import viewer
from jaxdenoise.report.content import Channel, ReportContent, Shown
from jaxdenoise.report.findings import FINE, STOP
from jaxdenoise.report.guard import Guard
from jaxdenoise.report.guard_measures import Noise
from jaxdenoise.report.html import write_html

COUNT, SIDE = 40, 192
SHOWN = [0, 20, COUNT - 1]  # as many as in conftest.py: each program is compiled once


@pytest.fixture(scope="module")
def volume():
    """A noisy volume of 40 planes and its clean version, as a good result."""
    random = np.random.default_rng(0)
    points = random.uniform(size=(COUNT, SIDE, SIDE)) < 0.02
    clean = gaussian_filter(points.astype(float), (1, 2, 2))
    clean = (200 + 300 * clean / clean.max()).astype(np.float32)
    return clean + 10 * random.normal(size=clean.shape).astype(np.float32), clean


def channel_of(noisy, denoised, name=""):
    names = [f"plane {n + 1}" for n in range(COUNT)]
    guard = Guard(noisy.shape, name=lambda n: ", ".join(filter(None, (names[n], name))))
    whole = slice(0, SIDE), slice(0, SIDE)
    for n in range(COUNT):
        guard.add(n, *whole, noisy[n], denoised[n])
    scale = Scale(*(np.float32(v) for v in (200, 20, 30)))
    psf = np.ones((1, 1), np.float32)
    return Channel(
        name=name,
        noisy=noisy[SHOWN],
        denoised=denoised[SHOWN],
        deconvolved=denoised[SHOWN],
        denoiser=Denoiser({}, {}, {}, psf, scale, {}, settle(TrainConfig())),
        guard=guard.verdict(),
        shown=[Shown(n, names[n], "evenly chosen") for n in SHOWN],
        frames=COUNT,
        frame_names=names,
    )


def raised(verdict):
    return [finding for finding in verdict.findings if finding.level > FINE]


def test_the_plane_that_was_made_brighter_is_named(volume, tmp_path):
    noisy, clean = volume
    brighter = clean.copy()
    brighter[17] *= 1.04
    channel = channel_of(noisy, brighter)
    assert channel.guard.levels == {17: STOP}
    verdict = write_html(tmp_path / "r.html", ReportContent(title="v.tif", channels=[channel]))
    assert verdict.level == STOP
    assert all("Plane 18: " in finding.text for finding in raised(verdict))
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "39 of 40 frames: no problems found. Not so: plane 18." in text
    assert "40 planes of 192 x 192 pixels" in text
    assert text.count('class="stop" title="plane 18: do not rely on it"') == 1


def test_the_channel_that_was_destroyed_is_named(volume, tmp_path):
    noisy, clean = volume
    destroyed = np.stack([gaussian_filter(plane, 8) for plane in clean])
    channels = [channel_of(noisy, clean, "channel 0"), channel_of(noisy, destroyed, "channel 1")]
    verdict = write_html(tmp_path / "r.html", ReportContent(title="c.tif", channels=channels))
    assert verdict.level == STOP
    assert {finding.title.split(":")[0] for finding in raised(verdict)} == {"Channel 1"}
    assert any(finding.title.startswith("Channel 0: ") for finding in verdict.findings)
    told = [finding.title for finding in verdict.findings]
    assert "All channels: The course of a training" in told  # not applicable, and said once


def test_planes_that_were_not_judged_are_not_applicable(volume, tmp_path):
    noisy, clean = volume
    channel = channel_of(noisy, clean)
    guard = replace(channel.guard, frames=COUNT - 1, levels={5: STOP})
    odd = replace(channel, guard=guard, odd={3: "holds a single grey level"})
    write_html(tmp_path / "r.html", ReportContent(title="v.tif", channels=[odd]))
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "38 of 40 frames: no problems found. Not so: plane 6. Not applicable: plane 4." in text
    assert '"plane 4: not applicable, holds a single grey level"' in text
    elsewhere = replace(odd, guard=replace(guard, frames=20))
    write_html(tmp_path / "r.html", ReportContent(title="v.tif", channels=[elsewhere]))
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "19 of 40 frames: no problems found" in text
    assert "The others were judged elsewhere" in text


def test_all_that_fail_are_known_where_not_all_findings_are_kept(volume):
    noisy, clean = volume
    channel = channel_of(noisy, clean + 60)
    assert set(channel.guard.levels) == set(range(COUNT))


@pytest.mark.slow
def test_a_page_stays_small_whatever_it_shows():
    """The worst case: five channels of white noise without a grey scale, and all maps."""
    side = 458  # of five channels, see `workflows.shown_frames`
    random = np.random.default_rng(0)
    image = random.normal(size=(side, side)) * 1e3
    maps = {"invention": image / 1e3, "disagreement": abs(image) / 1e3}
    stacks = dict.fromkeys(("noisy", "denoised", "deconvolved", "truth"), image)
    noise = Noise(np.array([0.0]), np.array([1e6]))
    frames = [viewer.Frame(n, f"plane {n + 1}", "", FINE, stacks | maps) for n in range(4)]
    channels = [
        viewer.ViewedChannel(f"channel {c}", "#00ff00", 1e3, noise, frames) for c in "01234"
    ]
    html, held = viewer.viewer(channels, place=None, pixel_size_um=None, side=228)
    assert held == 1
    assert len(html) < 11e6
