"""What each part of a SourceFlow adds: arms that differ in nothing else, and a story that runs."""

from __future__ import annotations

import importlib.util
import math
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import make_corpus

from vocoder.config import to_dict
from vocoder.recipe import load_recipe

STORY = Path(__file__).parents[2] / "egs" / "recorded_speech" / "parts.py"


def test_the_arms_differ_in_their_parts_alone() -> None:
    plain, whitened, whole = (
        load_recipe(f"recorded/{name}")
        for name in ("parts-nanoflow", "parts-whitened", "voice-16k-cpu")
    )
    assert plain.train == whitened.train == whole.train
    assert whitened.config.inner == {"name": plain.model, **to_dict(plain.config)}
    assert to_dict(plain.config).items() <= to_dict(whole.config).items()


@pytest.mark.slow
def test_all_arms_are_trained_judged_and_listed(tmp_path: Path) -> None:
    for name in ("seen", "unseen"):
        # DNSMOS repeats a clip until it has 9.01 s, and hears every second of what is beyond: 1.2 s
        # cost it a seventh of what 1.0 s do.
        make_corpus(tmp_path / name, 3, 1.2, epochs=True, preset_name="speecht5-16k")
    for name in ("prompts", "unseen"):
        (tmp_path / name).mkdir(exist_ok=True)
        (tmp_path / name / "judge.txt").write_text("clip0\n")
    places = ["--data", tmp_path / "seen", "--unseen", tmp_path / "unseen", "--lists", tmp_path]
    command = [sys.executable, STORY, *places, "--runs", tmp_path / "runs"]
    command += ["--steps", "2", "--clips", "1"]
    done = subprocess.run(map(str, command), check=True, capture_output=True, text=True)
    rows = [line for line in done.stdout.splitlines() if line.startswith("| ")]
    assert sum(row.startswith("| voice") for row in rows) == 2  # a table for each corpus
    assert sum(row.startswith("| linear prediction + NanoFlow | ") for row in rows) == 2 * 2


def test_a_mean_over_seeds_has_the_interval_of_student() -> None:
    spec = importlib.util.spec_from_file_location("parts", STORY)
    assert spec is not None
    assert spec.loader is not None
    story = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(story)
    mean, half = story.mean_over_seeds([1.0, 2.0, 3.0])
    assert (mean, half) == (2.0, pytest.approx(4.303 / 3**0.5, rel=1e-3))
    assert math.isnan(story.mean_over_seeds([1.0])[1])
