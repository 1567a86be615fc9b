"""The comparison on Fashion-MNIST, at a size that shows no more than that it runs."""

from __future__ import annotations

import gzip
import json
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

EGS = Path(__file__).parents[2] / "egs" / "fashion"
TINY = ("model.n_steps=1", "model.channels=4", "train.steps=4", "train.batch_size=8")
TINY += ("train.eval_every=2", "train.save_every=2", "train.log_every=1", "images.n_validation=8")


def write_clothes(folder: Path) -> Path:
    """Write a little data set in the files of Fashion-MNIST."""
    random = np.random.default_rng(0)
    for split, count in (("train", 40), ("t10k", 36)):
        images = random.integers(256, size=(count, 28, 28), dtype=np.uint8)
        content = struct.pack(">4B3I", 0, 0, 8, 3, *images.shape) + images.tobytes()
        (folder / f"{split}-images-idx3-ubyte.gz").write_bytes(gzip.compress(content))
    return folder


def compare(runs: Path, data: Path, *more: str) -> str:
    command = [sys.executable, str(EGS / "compare.py"), "--data", str(data), "--runs", str(runs)]
    overrides = [word for setting in TINY for word in ("-o", setting)]
    done = subprocess.run(
        [*command, "--images=8", "--draws=2", *overrides, *more],
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout


@pytest.mark.slow
def test_models_are_trained_scored_drawn_and_listed_once(tmp_path: Path) -> None:
    data = write_clothes(tmp_path)
    runs = tmp_path / "runs"
    more = ("--recipes", "fashion/glow", "fashion/nanoglow-mar", "--share=0.5")
    first = compare(runs, data, *more)
    head, _, *rows = first.splitlines()
    assert head.endswith("| digits | noise | upside-down |")
    assert [row.count("|") for row in rows] == [head.count("|")] * 2
    for name in ("glow-1", "nanoglow-mar-1"):
        figures = json.loads((runs / name / "figures.json").read_text())
        assert figures["steps"] == 2  # the half of 4
        assert figures["test images"] == 8
        for file in ("samples", "samples-0.8", "reconstructions", "interpolations"):
            assert (runs / name / f"{file}.png").is_file()
        assert (runs / name / "report.html").is_file()
    assert compare(runs, data, *more) == first  # nothing is done again
