"""The page itself: whole, escaped, and true to what it shows. test_report_browser opens it."""

from __future__ import annotations

import base64
import io
import re

import numpy as np
import pytest
import soundfile
from comparisons import HOSTILE, RATE, examples_of, made_up
from html_pages import Page, assert_accessible, assert_self_contained
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from vocoder.judging.report import render_report
from vocoder.judging.report.charts import nice_ticks, strip_chart
from vocoder.judging.report.spectrogram import palette, spectrogram_png


@pytest.fixture(scope="module")
def comparison():
    return made_up()


@pytest.fixture(scope="module")
def page(comparison):
    return Page(render_report(comparison, examples_of(comparison)))


def test_no_text_from_outside_becomes_an_element(page):
    assert len(page.all("script")) == 1
    assert all(image["src"].startswith("data:image/png;base64,") for image in page.all("img"))
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)
    text = "".join(page.text)
    for hostile in (f"data/{HOSTILE}", f"{HOSTILE} 2", f"note {HOSTILE}"):
        assert hostile in text  # shown as it is, not taken away


def test_nothing_is_loaded_from_elsewhere(page):
    assert_self_contained(page)


def test_headings_links_and_labels_are_sound(page):
    assert_accessible(page)


def test_the_sound_is_the_16_bits_of_each_voice(page, comparison):
    players = page.all("audio")
    expected = [
        audio for e in examples_of(comparison) for audio in (e.recording, *e.sounds.values())
    ]
    assert len(players) == len(expected) == 6
    for player, audio in zip(players, expected, strict=True):
        content = base64.b64decode(player["src"].removeprefix("data:audio/wav;base64,"))
        found, rate = soundfile.read(io.BytesIO(content), dtype="int16")
        assert rate == RATE
        assert np.abs(found - audio * 32768).max() <= 0.5


def test_a_page_without_examples_or_with_one_voice_alone_is_whole():
    Page(render_report(made_up(), []))
    for voices in (("recording",), (HOSTILE,)):
        lonely = made_up(1, voices)
        Page(render_report(lonely, examples_of(lonely)))


@pytest.mark.parametrize("frequency", [1000, 5000, 9000])
def test_a_tone_is_a_bright_line_at_its_height(frequency):
    tone = np.sin(2 * np.pi * frequency * np.arange(RATE) / RATE)
    picture = np.asarray(Image.open(io.BytesIO(spectrogram_png(tone, RATE, tone))).convert("L"))
    row = int(picture[:, 20:-20].mean(axis=1).argmax())
    assert (1 - (row + 0.5) / len(picture)) * RATE / 2 == pytest.approx(frequency, abs=50)
    faint = np.asarray(Image.open(io.BytesIO(spectrogram_png(tone / 100, RATE, tone))).convert("L"))
    assert 0 < faint[row].mean() < picture[row].mean()  # 40 dB down, on the recording's scale


@pytest.mark.parametrize("n_samples", [1, 600, RATE])
def test_a_picture_of_silence_is_dark_however_short(n_samples):
    silence = np.zeros(n_samples)
    picture = Image.open(io.BytesIO(spectrogram_png(silence, RATE, silence)))
    assert np.unique(np.asarray(picture)).tolist() == [0]


def test_colours_rise_evenly_in_lightness():
    linear = (palette() / 255.0) ** 2.2
    lightness = np.cbrt(linear @ [0.2126, 0.7152, 0.0722])  # as CIE L*, but for its foot
    steps = np.diff(lightness)
    assert (steps > 0).all()
    assert steps[6:].max() < 3 * steps[6:].min()


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6))
def test_ticks_are_few_and_cover(low, width):
    ticks = nice_ticks(low, low + width)
    assert 2 <= len(ticks) <= 7
    assert ticks[0] <= low + 1e-6 * width + 1e-9 * abs(low)
    assert ticks[-1] >= low + width * (1 - 1e-6) - 1e-9 * abs(low)


def test_a_chart_places_each_clip_by_its_value(comparison):
    figure = next(f for f in comparison.figures if f.name == "mel_distance")
    svg = strip_chart(comparison, figure)
    paths = re.findall(r'class="dots" d="([^"]*)"', svg)
    assert len(paths) == 3
    places = np.array([float(x) for path in paths for x in re.findall(r"M([\d.]+) ", path)])
    values = np.concatenate([voice.values["mel_distance"] for voice in comparison.voices])
    assert np.corrcoef(places, values)[0, 1] == pytest.approx(1, abs=1e-4)
    assert "undefined" in strip_chart(
        comparison, next(f for f in comparison.figures if f.name == "f0_rmse")
    )
