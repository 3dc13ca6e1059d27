"""Reports in a real browser; skipped where none is installed."""

import numpy as np
import pytest
from browser import Browser, executable
from scipy.ndimage import gaussian_filter

from jaxdenoise.config import TrainConfig
from jaxdenoise.microscope.psf import gaussian_psf
from jaxdenoise.network.denoiser import Denoiser, Scale
from jaxdenoise.network.settings import settle
from jaxdenoise.report import viewer
from jaxdenoise.report.content import Channel, ReportContent, Shown
from jaxdenoise.report.findings import CARE, FINE
from jaxdenoise.report.guard import Guard
from jaxdenoise.report.html import write_html
from jaxdenoise.report.index import IndexRow, write_index

pytestmark = pytest.mark.skipif(executable() is None, reason="no Chromium is installed")

SHAPE = (6, 192, 192)
BAD = 4  # the plane that is made brighter
NAMES = [f"plane {n + 1}" for n in range(SHAPE[0])]
DRAWN = "Boolean(document.getElementById('stage')?.dataset.drawn)"


def a_channel(number):
    random = np.random.default_rng(number)
    clean = np.stack([gaussian_filter(random.normal(size=SHAPE[1:]), 3) for _ in range(SHAPE[0])])
    clean = (200 + 400 * clean).astype(np.float32)
    noisy = np.rint(clean + 20 * random.normal(size=SHAPE)).astype(np.float32)
    denoised = clean.copy()
    if number == 0:
        denoised[BAD] *= 1.04
    guard = Guard(SHAPE, name=lambda n: f"{NAMES[n]}, channel {number}")
    rows, columns = (slice(0, length) for length in SHAPE[1:])
    for n in range(SHAPE[0]):
        guard.add(n, rows, columns, noisy[n], denoised[n])
    order = [BAD, 0, 5]  # as many as in conftest.py
    scale = Scale(*(np.float32(v) for v in (100, 50, 30)))
    psf = np.asarray(gaussian_psf(1.0))
    return Channel(
        name=f"channel {number}",
        noisy=noisy[order],
        denoised=denoised[order],
        deconvolved=denoised[order],
        denoiser=Denoiser({}, {}, {}, psf, scale, {}, settle(TrainConfig(symmetries=1))),
        guard=guard.verdict(),
        frames=SHAPE[0],
        frame_names=NAMES,
        shown=[Shown(n, NAMES[n], "evenly chosen") for n in order],
        random_start=denoised[order] + 10,
    )


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "report.html"
    channels = [a_channel(number) for number in range(2)]
    write_html(path, ReportContent(title="two.tif", channels=channels, pixel_size_um=(0.1, 0.1)))
    return path, channels


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with Browser(tmp_path_factory.mktemp("profile")) as one:
        yield one


@pytest.fixture
def page(browser, report):
    browser.open(report[0])
    browser.wait(DRAWN)
    yield browser
    assert browser.problems() == []


def set_value(page, name, value, kind="change"):
    """Do what a user does with a control, and wait until the image is drawn again."""
    before = page.run("document.getElementById('stage').dataset.drawn")
    page.run(
        f"(() => {{ const it = document.getElementById('{name}'); it.value = '{value}';"
        f" it.dispatchEvent(new Event('{kind}', {{ bubbles: true }})); }})()"
    )
    page.wait(f"document.getElementById('stage').dataset.drawn !== '{before}'")


def colour_at(page, x, y):
    """Red, green and blue of the stage at a share of its width and height."""
    return page.run(
        "(() => { const it = document.getElementById('stage'); return [...it.getContext('2d')"
        f".getImageData({x} * it.width, {y} * it.height, 1, 1).data].slice(0, 3); }})()"
    )


def stage_place(page, x, y):
    box = page.run(
        "(() => { const it = document.getElementById('stage'); it.scrollIntoView();"
        " const box = it.getBoundingClientRect(); return [box.x, box.y, box.width, box.height];"
        " })()"
    )
    return box[0] + x * box[2], box[1] + y * box[3]


def test_the_worst_plane_is_shown_first_and_others_can_be_chosen(page):
    assert page.run("document.querySelector('#frame option').textContent") == (
        "plane 5: do not rely on it"
    )
    assert "plane 5" in page.run("document.getElementById('stage').getAttribute('aria-label')")
    set_value(page, "frame", 1)
    assert "plane 1" in page.run("document.getElementById('stage').getAttribute('aria-label')")
    page.run("document.querySelector('.strip button.stop').click()")
    page.wait("document.getElementById('stage-text').textContent.includes('plane 5')")


def test_pixels_are_those_of_the_images(page, report):
    """Without loss: the values under the pointer are the noisy ones, as they were recorded."""
    page.run("document.getElementById('one-to-one').click()")
    place = stage_place(page, 0.25, 0.5)
    page.run("document.getElementById('fit').click()")
    for x, y in ((0.45, 0.4), (0.48, 0.6)):
        place = stage_place(page, x, y)
        page.mouse("Moved", *place)
        page.wait("document.getElementById('readout').textContent.includes('Noisy')")
        told = page.run("document.getElementById('readout').textContent")
        column, row = (int(part.split()[-1]) for part in told.split(":")[0].split(","))
        noisy = report[1][0].noisy[0, row, column]
        assert f"Noisy {noisy:g}," in told
        value = float(told.split("Denoised ")[1])
        assert value == pytest.approx(float(report[1][0].denoised[0, row, column]), abs=0.6)


def test_the_slider_moves_the_border_between_before_and_after(page):
    set_value(page, "right", "residual")
    places = [(0.45, 0.4), (0.47, 0.5), (0.52, 0.6)]
    set_value(page, "split", 0, "input")
    shown = [colour_at(page, *place) for place in places]
    assert any(red or blue for red, _, blue in shown)  # the residual's colours
    set_value(page, "split", 1, "input")
    shown = [colour_at(page, *place) for place in places]
    assert not any(red or blue for red, _, blue in shown)  # the noisy image is green
    x, y = stage_place(page, 0.9995, 0.5)
    page.drag((x, y), stage_place(page, 0.3, 0.5))
    page.wait("Math.abs(document.getElementById('split').value - 0.3) < 0.05")


def test_contrast_gamma_and_colour(page):
    levels = "document.getElementById('levels').textContent"
    before, at = page.run(levels), colour_at(page, 0.55, 0.5)
    set_value(page, "contrast", 3, "input")
    set_value(page, "gamma", 2, "input")
    after = page.run(levels)
    assert before != after
    assert "gamma 2" in after
    assert colour_at(page, 0.55, 0.5) != at
    set_value(page, "brightness", 1, "input")
    set_value(page, "colour", "#ff00ff")
    red, green, blue = colour_at(page, 0.55, 0.5)
    assert red == blue
    assert green == 0
    page.run("document.getElementById('reset').click()")
    page.wait(f"{levels} === {before!r}")


def test_channels_have_their_own_colour_and_are_shown_together(page):
    assert page.run("document.getElementById('colour').value") == "#00ff00"
    set_value(page, "channel", 1)
    assert page.run("document.getElementById('colour').value") == "#ff00ff"
    assert colour_at(page, 0.55, 0.5)[1] == 0
    page.run("document.getElementById('together').click()")
    set_value(page, "split", 0.4, "input")
    colours = [colour_at(page, x, 0.5) for x in (0.42, 0.5, 0.55)]
    assert any(colour[0] and colour[1] for colour in colours)


def test_dragging_draws_a_line_profile(page):
    set_value(page, "tool", "profile")
    page.drag(stage_place(page, 0.42, 0.4), stage_place(page, 0.48, 0.6))
    page.wait("document.querySelectorAll('#profile path.line').length === 2")
    told = page.run("document.getElementById('profile-text').textContent")
    assert "µm: noisy" in told
    label = page.run("document.querySelector('#profile svg').getAttribute('aria-label')")
    assert told in label
    set_value(page, "x1", 50)  # the same by keyboard
    page.wait(f"document.getElementById('profile-text').textContent !== {told!r}")


def test_zoom_and_pan_are_shared_side_by_side_and_by_keys(page):
    text = "document.getElementById('stage-text').textContent"
    page.run("document.getElementById('one-to-one').click()")
    page.wait(f"{text}.includes('100 % of its size')")
    page.run("document.getElementById('stage').focus()")
    page.key("+")
    page.wait(f"{text}.includes('200 % of its size')")
    page.key("s")
    page.wait("document.getElementById('layout').value === 'beside'")
    set_value(page, "right", "noisy")
    here, there = (colour_at(page, x, 0.5) for x in (0.24, 0.742))
    assert page.run("document.getElementById('split').disabled")
    page.key("]")
    page.wait(f"{text}.includes('plane 1')")
    assert len(here) == len(there) == 3


def test_two_fingers_zoom_about_the_pixel_between_them(page):
    text = "document.getElementById('stage-text').textContent"
    page.run("document.getElementById('one-to-one').click()")
    page.wait(f"{text}.includes('100 % of its size')")
    near, far = (
        [stage_place(page, 0.5 + by, 0.5) for by in (-reach, reach)] for reach in (0.1, 0.2)
    )
    page.touch("Start", *near)
    page.touch("Move", *far)
    page.wait(f"{text}.includes('200 % of its size')")
    page.touch("Move", *near)
    page.touch("End")
    page.wait(f"{text}.includes('100 % of its size')")
    # One finger moves the image afterwards.
    before = page.run("document.getElementById('stage').dataset.drawn")
    page.drag(stage_place(page, 0.3, 0.5), stage_place(page, 0.35, 0.5))
    page.wait(f"document.getElementById('stage').dataset.drawn !== '{before}'")
    assert "100 % of its size" in page.run(text)


@pytest.mark.parametrize("dark", [False, True])
def test_dark_and_light_pages(browser, report, dark):
    browser.open(report[0], dark=dark)
    ground = browser.run("getComputedStyle(document.body).backgroundColor")
    lightness = sum(map(int, ground[4:-1].split(",")))
    assert (lightness < 150) == dark
    line = browser.run("getComputedStyle(document.querySelector('.chart path.blue.line')).stroke")
    assert line == ("rgb(86, 180, 233)" if dark else "rgb(0, 114, 178)")


@pytest.mark.parametrize("width", [390, 1280, 2560])
def test_nothing_is_wider_than_the_window(browser, report, width):
    browser.open(report[0], width=width)
    browser.wait(DRAWN)
    assert browser.run("document.documentElement.scrollWidth") == width
    assert browser.problems() == []


def test_a_page_is_printed_unfolded(page):
    pdf = page.pdf()
    assert pdf.startswith(b"%PDF")
    assert len(pdf) > 50_000
    page.run("dispatchEvent(new Event('beforeprint'))")
    assert page.run("document.querySelectorAll('details:not([open])').length") == 0
    page.run("dispatchEvent(new Event('afterprint'))")
    assert page.run("document.querySelectorAll('details:not([open])').length") > 0


def test_the_methods_text_is_copied(page):
    page.run("document.querySelector('button[data-copy]').click()")
    page.wait("/Copied|Selected/.test(document.querySelector('button[data-copy]').textContent)")


def test_every_picture_has_a_text_for_readers_who_do_not_see_it(page):
    missing = page.run(
        "[...document.querySelectorAll('img, svg, canvas')].filter((one) =>"
        " !(one.alt || one.getAttribute('aria-label'))).length"
    )
    assert missing == 0
    nameless = page.run(
        "[...document.querySelectorAll('select, input, button')].filter((one) =>"
        " !(one.labels?.length || one.textContent.trim() || one.ariaLabel)).length"
    )
    assert nameless == 0


def test_an_index_is_sorted_by_its_heads(browser, tmp_path):
    rows = [
        IndexRow("b10.tif", None, FINE, "", 30.0),
        IndexRow("b9.tif", None, CARE, "the mean moved", 4.0),
        IndexRow("a.tif", None, FINE, "", 200.0),
    ]
    browser.open(write_index(tmp_path / "index.html", rows))

    def sorted_by(head):
        browser.run(f"document.querySelectorAll('th button')[{head}].click()")
        return browser.run("[...document.querySelectorAll('tbody th')].map((it) => it.textContent)")

    assert sorted_by(0)[0] == "b9.tif"  # the worst first
    assert sorted_by(1) == ["a.tif", "b9.tif", "b10.tif"]
    assert sorted_by(1) == ["b10.tif", "b9.tif", "a.tif"]
    assert sorted_by(3) == ["b9.tif", "b10.tif", "a.tif"]
    assert browser.problems() == []


def test_images_are_packed_without_loss():
    """What the browser unpacks in `test_pixels_are_those_of_the_images`."""
    image = np.random.default_rng(0).integers(0, 65535, (7, 9)).astype(np.float32)
    values, whole = viewer.pack(image, 1.0)
    np.testing.assert_array_equal(values["low"] + values["step"] * whole, image)
    values, whole = viewer.pack(image / 7, 0.01)
    found = values["low"] + values["step"] * whole
    np.testing.assert_allclose(found, image / 7, atol=0.51 * values["step"])
    assert values["step"] == pytest.approx(np.ptp(image / 7) / 65535)
