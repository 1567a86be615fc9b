"""The report of an image model: whole, escaped, in order, and of what the scoring found."""

from __future__ import annotations

import base64
import io
import json
import math
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from comparisons import HOSTILE
from helpers import save_images, tiny_image_recipe
from html_pages import Page, assert_accessible, assert_self_contained
from image_findings import made_up_findings
from PIL import Image

from vocoder.data.images.sets import Images, open_images
from vocoder.errors import VocoderError
from vocoder.judging import images as image_evaluation
from vocoder.judging.images import evaluate_images
from vocoder.judging.report import image_findings as findings
from vocoder.judging.report.charts import curve_chart, histogram
from vocoder.judging.report.image_page import render_image_report
from vocoder.judging.training_log import TrainingLog
from vocoder.training.trainer import Trainer


@pytest.fixture(scope="module")
def page() -> Page:
    return Page(render_image_report(made_up_findings()))


def test_it_is_self_contained_accessible_and_runs_nothing(page: Page) -> None:
    assert_self_contained(page)
    assert_accessible(page)
    assert not page.all("script")


def test_no_text_from_outside_becomes_an_element(page: Page) -> None:
    assert all(image["src"].startswith("data:image/png;base64,") for image in page.all("img"))
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)
    text = "".join(page.text)
    for hostile in (f"{HOSTILE} on data {HOSTILE}", f"one {HOSTILE}"):
        assert hostile in text  # shown as it is, not taken away


def test_without_examples_and_log_it_is_whole() -> None:
    bare = replace(made_up_findings(), dearest=[], cheapest=[], curves={})
    page = Page(render_image_report(bare))
    assert_accessible(page)
    assert "training" not in page.ids


# ---- the whole way ----


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_images(tmp_path_factory.mktemp("data") / "images.npz", test=10)


@pytest.fixture(scope="module")
def run_dir(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "run"
    Trainer(tiny_image_recipe(), data, folder, device="cpu").fit()
    return folder


def test_it_shows_the_images_in_the_order_of_their_bits(run_dir: Path, data: Path) -> None:
    report = run_dir / "report.html"
    figures = evaluate_images(run_dir, data, device="cpu", report=report, n_examples=4)
    page = Page(report.read_text(encoding="utf-8"))
    places = [int(name) for text in page.text for name in re.findall(r"^no\. (\d+)$", text)]
    shown = [image for image in page.all("img") if image["alt"].startswith("Test image")]
    bits = [float(text) for text in page.text if re.fullmatch(r"\d+\.\d{4} ", text)]
    assert len(places) == len(bits) == len(shown) == 8
    assert bits[:4] == sorted(bits[:4], reverse=True)
    assert bits[4:] == sorted(bits[4:])
    assert max(bits[4:]) <= min(bits[:4])
    test = open_images("arrays", data, n_validation=0, seed=0).test
    content = base64.b64decode(shown[0]["src"].removeprefix("data:image/png;base64,"))
    pixels = np.asarray(Image.open(io.BytesIO(content)))[:, :, 0]
    np.testing.assert_array_equal(pixels, np.rint(test[places[:1]][0, 0] * 255.0 / 7))
    assert f"{figures['bits/dim at 1x4x8']:.4f}" in page.text
    for name in ("Samples at temperature 1", "Samples at temperature 0.8", "Reconstructions"):
        assert name in [image["alt"] for image in page.all("img")]


def test_the_curve_is_there_for_a_run_alone(run_dir: Path, data: Path) -> None:
    report = run_dir / "report.html"
    checkpoint = next(run_dir.glob("checkpoint*.safetensors"))
    for path, has_curve in ((run_dir, True), (checkpoint, False)):
        evaluate_images(path, data, device="cpu", report=report)
        assert ("training" in Page(report.read_text(encoding="utf-8")).ids) == has_curve


def test_no_report_changes_a_figure(run_dir: Path, data: Path) -> None:
    plain = evaluate_images(run_dir, data, device="cpu", n_draws=2)
    report = run_dir / "report.html"
    assert plain == evaluate_images(run_dir, data, device="cpu", n_draws=2, report=report)


def test_a_bad_place_is_refused_before_anything_is_scored(
    run_dir: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_evaluation, "bits_per_dim", lambda *a, **k: pytest.fail("scored"))
    for report, words in (
        (run_dir, "is a folder; name a file"),
        (run_dir / "no" / "report.html", "there is no folder"),
    ):
        with pytest.raises(VocoderError, match=words):
            evaluate_images(run_dir, data, device="cpu", report=report)
    with pytest.raises(VocoderError, match="examples -1: must be 0 or more"):
        evaluate_images(run_dir, data, device="cpu", n_examples=-1)


def test_a_failure_leaves_no_half_of_a_report(
    run_dir: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise VocoderError("no")

    monkeypatch.setattr(image_evaluation, "bits_per_dim", fail)
    before = sorted(run_dir.iterdir())
    with pytest.raises(VocoderError):
        evaluate_images(run_dir, data, device="cpu", report=run_dir / "another.html")
    assert sorted(run_dir.iterdir()) == before


def test_every_level_of_a_test_image_is_shown_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Level 1 of 17 was black: float32 put the lower end of its step into the step below."""
    monkeypatch.setattr(findings, "_drawings", lambda *a: [])
    for n_values in range(2, 257):
        levels = np.arange(n_values, dtype=np.uint8)
        images = Images(levels.reshape(1, 1, 1, -1), np.arange(1))
        model: Any = SimpleNamespace(images=SimpleNamespace(n_values=n_values))
        bits = torch.zeros(1)
        found = findings.look(model, str(tmp_path), images, {}, bits, seed=0, n_examples=1)
        shown = found.dearest[0].pixels[0, :, 0]
        np.testing.assert_array_equal(shown, np.rint(levels * 255.0 / (n_values - 1)))


# ---- charts and log ----


def test_a_histogram_counts_every_finite_value() -> None:
    values = np.array([1.0, 1.0, 2.0, 3.0, math.inf, math.nan])
    svg = histogram(values, "bits")
    assert 'aria-label="bits: 4 from 1.000 to 3.000, mean 1.750; 2 not finite"' in svg
    heights = [float(y) for y in re.findall(r"M[\d.]+ 200\.0V([\d.]+)H", svg)]
    assert len(heights) == 3
    assert (200 - heights[0]) == pytest.approx(2 * (200 - heights[1]), abs=0.2)
    assert "none is finite" in histogram(np.array([math.nan]), "bits")
    assert "<svg" in histogram(np.array([2.0]), "bits")


def test_curves_fall_within_the_frame() -> None:
    steps = np.arange(1.0, 101)
    svg = curve_chart({"a": (steps, 1000 / steps), "b": (steps[:1], np.array([math.nan]))}, "bits")
    points = re.search(r'points="([^"]*)"', svg)
    assert points
    heights = [float(point.split(",")[1]) for point in points[1].split()]
    assert heights == sorted(heights)  # downwards is more
    assert min(heights) >= 0
    assert max(heights) <= 200
    assert "a ends at 10.000" in svg
    assert "none is finite" in curve_chart({"a": (steps[:0], steps[:0])}, "bits")


def test_a_log_with_half_a_line_is_read(tmp_path: Path) -> None:
    lines = [{"step": 5, "train/processor_seconds": 2.5}, {"step": 10, "validation/x": 2.0}]
    lines.append({"step": 10, "train/processor_seconds": 5.0})
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (tmp_path / "log.jsonl").write_text(text + "[1]\n" + '{"step": 15, "train/i')
    log = TrainingLog.read(tmp_path)
    np.testing.assert_array_equal(log.series("validation/x"), ([10], [2]))
    assert log.processor_seconds() == 2.5 + 5
    assert TrainingLog.read(tmp_path / "nothing").lines == ()


@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize(
    "damage",
    [
        *(b"\xff", b"\xff\xfe{", b'{"step": 7, "x": "\xe9"}', b"[" * 9999, b"null", b"\0", b""),
        *(b'{"step": "7"}', b'{"step": 7, "x": [1]}'),
    ],
)
def test_a_damaged_line_of_a_log_spoils_no_other(tmp_path: Path, damage: bytes, place: int) -> None:
    lines = [b'{"step": 5, "x": 2.5}', b'{"step": 10, "x": 3}']
    lines.insert(place, damage)
    (tmp_path / "log.jsonl").write_bytes(b"\n".join(lines))
    np.testing.assert_array_equal(TrainingLog.read(tmp_path).series("x"), ([5, 10], [2.5, 3]))
