"""The reports in a real browser. Debian: apt-get install chromium; others go by their names."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import time

import pytest
from comparisons import examples_of, made_up
from image_findings import made_up_findings

from vocoder.judging.report import render_report
from vocoder.judging.report.image_page import render_image_report

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
BROWSER = next((path for name in BROWSERS if (path := shutil.which(name))), None)
sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = [
    pytest.mark.skipif(BROWSER is None, reason="no Chromium or Chrome is installed"),
    pytest.mark.timeout(120),
]


@pytest.fixture(scope="module")
def browser():
    # As root, as in a container, Chromium refuses its own sandbox; the page is ours.
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=arguments)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    comparison = made_up()
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(render_report(comparison, examples_of(comparison)), encoding="utf-8")
    return path


@contextlib.contextmanager
def opened(browser, path):
    """A page, opened; nothing may have been said in the console, or asked of the network."""
    context = browser.new_context(viewport={"width": 1200, "height": 800})
    page = context.new_page()
    said, asked = [], []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("dialog", lambda dialog: (said.append(dialog.message), dialog.dismiss()))
    page.on("request", lambda request: asked.append(request.url[:60]))
    page.goto(path.as_uri())
    yield page
    assert not said
    assert [url for url in asked if not url.startswith("data:")] == [path.as_uri()[:60]]
    context.close()


@pytest.fixture
def page(browser, path):
    with opened(browser, path) as page:
        yield page


def until(page, condition: str) -> None:
    """Wait for what the page's own policy forbids playwright's wait_for_function to evaluate."""
    deadline = time.monotonic() + 10
    while not page.evaluate(condition):
        assert time.monotonic() < deadline, condition
        time.sleep(0.01)


def playing(page) -> list[int]:
    return page.evaluate(
        "[...document.querySelectorAll('audio')].flatMap((a, i) => (a.paused ? [] : [i]))"
    )


def focused(page) -> int:
    return page.evaluate(
        "[...document.querySelectorAll('.player button')].indexOf(document.activeElement)"
    )


def test_every_sound_loads_and_plays(page):
    found = page.evaluate(
        """async () => {
          const found = [];
          for (const audio of document.querySelectorAll("audio")) {
            audio.muted = true;  // what plays by itself has to be silent
            await audio.play();
            const start = performance.now();
            while (audio.currentTime < 0.05 && performance.now() - start < 5000)
              await new Promise((resolve) => setTimeout(resolve, 10));
            found.push([audio.duration, audio.currentTime]);
            audio.pause();
          }
          return found;
        }"""
    )
    assert len(found) == 6
    for duration, current in found:
        assert duration == pytest.approx(0.5, abs=0.01)
        assert current >= 0.05


def test_every_picture_is_drawn(page):
    sizes = page.evaluate(
        "[...document.images].map((i) => [i.complete, i.naturalWidth, i.clientHeight])"
    )
    assert len(sizes) == 6
    assert all(complete and width > 10 and height > 50 for complete, width, height in sizes)


def test_the_keyboard_reaches_and_plays_everything(page):
    page.evaluate("document.querySelectorAll('audio').forEach((audio) => { audio.loop = true; })")
    for _ in range(40):
        page.keyboard.press("Tab")
        if focused(page) == 0:
            break
    assert focused(page) == 0
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("Space")
    until(page, "!document.querySelector('audio').paused")
    until(page, "document.activeElement.ariaPressed === 'true'")
    page.keyboard.press("ArrowRight")  # the next voice goes on where the first one was
    until(page, "!document.querySelectorAll('audio')[1].paused")
    assert (focused(page), playing(page)) == (1, [1])
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")  # there is no fourth
    assert focused(page) == 2
    page.keyboard.press("ArrowDown")  # another clip does not start by itself
    assert focused(page) == 5
    until(page, "[...document.querySelectorAll('audio')].every((a) => a.paused)")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Tab")
    assert focused(page) == 3
    page.keyboard.press("Enter")
    until(page, "!document.querySelectorAll('audio')[3].paused")
    assert playing(page) == [3]
    page.keyboard.press("Space")
    until(page, "document.querySelectorAll('audio')[3].paused")
    page.keyboard.press("Home")
    assert page.evaluate("document.querySelectorAll('audio')[3].currentTime") == 0


def test_the_moment_is_kept_from_voice_to_voice(page):
    page.evaluate("document.querySelector('audio').currentTime = 0.3")
    page.locator(".player button").first.focus()
    page.keyboard.press("ArrowRight")
    moment = page.evaluate("document.querySelectorAll('audio')[1].currentTime")
    assert moment == pytest.approx(0.3, abs=0.01)


def test_a_click_into_a_picture_plays_from_there(page):
    page.evaluate("document.querySelectorAll('audio').forEach((audio) => { audio.loop = true; })")
    picture = page.locator(".picture").nth(1)
    width = picture.bounding_box()["width"]
    picture.click(position={"x": width / 2, "y": 20})
    until(page, "!document.querySelectorAll('audio')[1].paused")
    assert playing(page) == [1]
    assert page.locator(".head").nth(1).is_visible()


def test_the_table_sorts_both_ways_with_the_undefined_last(page):
    heads = page.locator(".sortable th[scope=col]")
    title = page.locator(".sortable th", has_text="pitch error")
    column = heads.all_inner_texts().index(title.inner_text())
    button = title.locator("button")
    orders = []
    for key in ("Enter", "Space"):
        button.focus()
        page.keyboard.press(key)
        orders.append(title.get_attribute("aria-sort"))
        cells = page.locator(f".sortable tbody tr > :nth-child({column + 1})").all_inner_texts()
        assert cells[-3:] == ["–"] * 3  # the whisper has no pitch
        numbers = [float(cell) for cell in cells[:-3]]
        assert numbers == sorted(numbers, reverse=orders[-1] == "descending")
    assert set(orders) == {"ascending", "descending"}
    assert page.locator(".sortable [aria-sort]:not([aria-sort=none])").count() == 1


def test_it_fits_narrow_screens_and_follows_the_scheme(page):
    assert_fits_and_follows_the_scheme(page)


def assert_fits_and_follows_the_scheme(page):
    for width, scheme in itertools.product((320, 1200), ("light", "dark")):
        page.set_viewport_size({"width": width, "height": 700})
        page.emulate_media(color_scheme=scheme)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        ink, ground = page.evaluate(
            """() => ["color", "backgroundColor"].map((name) => {
              const [r, g, b] = getComputedStyle(document.body)[name].match(/[0-9.]+/g).map(Number);
              return (0.2126 * r + 0.7152 * g + 0.0722 * b) / 255;
            })"""
        )
        assert (ink < 0.2 and ground > 0.9) if scheme == "light" else (ink > 0.8 and ground < 0.2)


def test_without_scripts_the_browsers_own_players_are_there(browser, path):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(path.as_uri())
    assert page.locator("audio").first.is_visible()
    assert not page.locator(".player button").first.is_visible()
    context.close()


# ---- the page of an image model ----


@pytest.fixture
def image_page(browser, tmp_path):
    path = tmp_path / "images.html"
    path.write_text(render_image_report(made_up_findings()), encoding="utf-8")
    with opened(browser, path) as page:
        yield page


def test_every_picture_and_chart_of_an_image_model_is_drawn(image_page):
    sizes = image_page.evaluate(
        "[...document.images].map((i) => [i.complete, i.naturalWidth, i.clientHeight])"
    )
    assert len(sizes) == 2 + 3 + 3
    assert all(complete and width == 8 and height > 30 for complete, width, height in sizes)
    charts = image_page.evaluate("[...document.querySelectorAll('svg')].map((s) => s.clientHeight)")
    assert len(charts) == 2
    assert all(height > 100 for height in charts)


def test_the_page_of_an_image_model_fits_and_follows_the_scheme(image_page):
    assert_fits_and_follows_the_scheme(image_page)
