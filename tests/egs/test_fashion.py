"""The comparison on Fashion-MNIST, at a size that shows no more than that it runs."""

from __future__ import annotations

import gzip
import importlib
import json
import shutil
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vocoder.errors import VocoderError

EGS = Path(__file__).parents[2] / "egs" / "fashion"
TINY = ("model.n_steps=1", "model.channels=4", "train.steps=4", "train.batch_size=8")
TINY += ("train.eval_every=2", "train.save_every=2", "train.log_every=1")
TINY += ("images.n_validation=1100", "train.eval_images=8")  # more than the outsiders are


def write_clothes(folder: Path) -> Path:
    """Write a little data set in the files of Fashion-MNIST."""
    random = np.random.default_rng(0)
    for split, count in (("train", 1140), ("t10k", 36)):
        images = random.integers(256, size=(count, 28, 28), dtype=np.uint8)
        content = struct.pack(">4B3I", 0, 0, 8, 3, *images.shape) + images.tobytes()
        (folder / f"{split}-images-idx3-ubyte.gz").write_bytes(gzip.compress(content))
    return folder


def command_of(runs: Path, data: Path, *more: str) -> list[str]:
    command = [sys.executable, str(EGS / "compare.py"), "--data", str(data), "--runs", str(runs)]
    overrides = [word for setting in TINY for word in ("-o", setting)]
    return [*command, "--images=8", "--draws=2", *overrides, *more]


def compare(runs: Path, data: Path, *more: str) -> str:
    done = subprocess.run(command_of(runs, data, *more), check=True, capture_output=True, text=True)
    return done.stdout


@pytest.mark.slow
def test_models_are_trained_scored_drawn_and_listed_once(tmp_path: Path) -> None:
    data = write_clothes(tmp_path)
    runs = tmp_path / "runs"
    more = ("--recipes", "fashion/nanoglow", "fashion/nanoglow-mar", "--share=0.5", "--jobs=2")
    first = compare(runs, data, *more)
    results, costs, orders = first.strip().split("\n\n")
    assert results.splitlines()[0].endswith("| digits | noise | upside-down |")
    for table in (results, costs):
        head, _, *rows = table.splitlines()
        assert [row.count("|") for row in rows] == [head.count("|")] * 2
    assert [row.split(" | ")[0] for row in orders.splitlines()[2:]] == [
        "| `fashion/nanoglow` > `fashion/nanoglow-mar`"
    ]
    for name in ("nanoglow-1", "nanoglow-mar-1"):
        figures = json.loads((runs / name / "figures.json").read_text())
        assert figures["steps"] == 2  # the half of 4
        assert figures["precision"] in ("float32", "bf16")
        assert figures["test images"] == 8
        assert figures["minutes"] > 0
        assert np.load(runs / name / "bits.npy").shape == (8,)
        for file in ("samples", "samples-0.8", "reconstructions", "interpolations"):
            assert (runs / name / f"{file}.png").is_file()
        assert (runs / name / "report.html").is_file()
    assert compare(runs, data, *more) == first  # nothing is done again


def settings_of(compare_module: Any, runs: Path, data: Path | None = None, **settings: Any) -> Any:
    """Return the settings of a call of the comparison, by default those of one without options."""
    default = {"share": 1.0, "overrides": (), "n_images": None, "n_draws": 4}
    return compare_module.Settings(data, runs, **(default | settings))


@pytest.fixture
def compare_module(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(EGS)
    return importlib.import_module("compare")


@pytest.mark.parametrize("kept", sorted(path.name for path in (EGS / "results").iterdir()))
def test_kept_figures_are_taken_for_those_of_a_call_without_options_alone(
    tmp_path: Path, compare_module: Any, kept: str
) -> None:
    shutil.copytree(EGS / "results" / kept, tmp_path / kept)
    name, _, seed = kept.rpartition("-")
    run = (f"fashion/{name}", int(seed))
    compare_module.do(run, settings_of(compare_module, tmp_path))
    for other, told in (
        ({"share": 0.5}, r"train\.steps \d+, not \d+"),
        ({"n_draws": 2}, "--draws 4, not 2"),
        ({"n_images": 20}, "--images None, not 20"),
        ({"overrides": ("train.batch_size=32",)}, r"train\.batch_size 64, not 32"),
        ({"overrides": ("train.lr=0.01",)}, r"train\.lr 0\.001, not 0\.01"),
    ):
        with pytest.raises(VocoderError, match=f"{kept}: .* {told}.*; take another --runs"):
            compare_module.do(run, settings_of(compare_module, tmp_path, **other))


def test_a_training_that_had_ended_is_recorded_as_it_was(
    tmp_path: Path, compare_module: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was killed while it was scored, and is scored by a call that asks for another one."""
    runs, run = tmp_path / "runs", ("fashion/glow", 1)
    settings = {"data": write_clothes(tmp_path), "overrides": TINY}
    monkeypatch.setattr(compare_module, "judge", lambda *a: sys.exit("killed"))
    with pytest.raises(SystemExit):
        compare_module.do(run, settings_of(compare_module, runs, **settings))
    assert not (runs / "glow-1" / "figures.json").exists()
    monkeypatch.setattr(compare_module, "judge", lambda *a: {"dequantisations": 4})
    other = (*TINY, "train.batch_size=4", "train.precision=bf16")
    asked = settings_of(compare_module, runs, **settings | {"overrides": other}, share=0.5)
    for _ in range(2):  # the figures are kept, and refused again
        with pytest.raises(VocoderError, match=r"glow-1: .*train\.steps 4, not 2"):
            compare_module.do(run, asked)
    figures = json.loads((runs / "glow-1" / "figures.json").read_text())
    assert (figures["steps"], figures["precision"]) == (4, "float32")
    seconds = 60 * figures["minutes"]
    assert figures["images/s"] == pytest.approx(4 * 8 / seconds)
    compare_module.do(run, settings_of(compare_module, runs, **settings))


def test_a_run_that_fails_does_not_stop_the_others(
    tmp_path: Path, compare_module: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(EGS / "results" / "glow-1", tmp_path / "glow-1")
    (tmp_path / "marscf-affine-1").write_text("a file where the folder should be")
    runs = [("fashion/marscf-affine", 1), ("fashion/glow", 1)]
    assert not compare_module.do_all(runs, settings_of(compare_module, tmp_path), 1)
    told = capsys.readouterr().err
    assert told.count("failed") == 1
    assert str(tmp_path / "marscf-affine-1") in told


@pytest.mark.slow
def test_a_stopped_comparison_keeps_nothing_half_done_and_goes_on(tmp_path: Path) -> None:
    data, runs = write_clothes(tmp_path), tmp_path / "runs"
    command = command_of(runs, data, "--recipes", "fashion/glow", "-o", "train.steps=100000")
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        next(line for line in process.stderr if line.startswith("step "))
        process.terminate()
        said = process.stderr.read()
    assert process.returncode == 1
    assert "the same command goes on" in said.splitlines()[-1]
    assert not (runs / "glow-1" / "figures.json").exists()
    saved = max(runs.glob("glow-1/checkpoint-*")).stem.rpartition("-")[2]
    steps = int(saved) + 2
    more = ("--recipes", "fashion/glow", "-o", f"train.steps={steps}")
    done = subprocess.run(command_of(runs, data, *more), check=True, capture_output=True, text=True)
    told = [line.split(":")[0] for line in done.stderr.splitlines() if line.startswith("step ")]
    assert told == [f"step {step}/{steps}" for step in (steps - 1, steps)]  # none is done again
    assert (runs / "glow-1" / "figures.json").is_file()


def row(recipe: str, seed: int, bits: float, validation: float) -> dict[str, Any]:
    return {
        "recipe": f"fashion/{recipe}",
        "seed": seed,
        "parameters": 1000,
        "steps": 2,
        "precision": "float32",
        "minutes": 1.0,
        "images/s": 3.0,
        "bits/dim at 1x28x28": bits,
        "standard error": 0.01,
        "bits/dim at 1x28x28, importance-weighted": bits,
        "inversion error": 1e-6,
        "samples/s": 2.0,
        "outside: noise": 9.0,
        "validation/bits_per_dim": validation,
    }


def test_the_tables_pair_images_and_the_validation_images_choose(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(EGS)
    compare_module, tables = (importlib.import_module(name) for name in ("compare", "tables"))
    ease = np.linspace(0, 3, 50)  # of an image, the same for all
    wobble = np.tile([-0.01, 0.01], 25)
    for recipe, seed, harder, validation in (
        ("nanoglow-naive", 1, 0.2, 3.0),
        ("nanoglow-decomposed", 1, 0.1, 3.2),
        ("nanoglow", 1, 0.1, 3.1),
        ("nanoglow", 2, 0.0, 2.9),  # of a seed that the other lacks
    ):
        bits = ease + harder + wobble * (recipe == "nanoglow")
        folder = tmp_path / f"{recipe}-{seed}"
        folder.mkdir()
        np.save(folder / "bits.npy", bits)
        figures = row(recipe, seed, float(bits.mean()), validation)
        (folder / "figures.json").write_text(json.dumps(figures))
    results, costs, seeds, orders = tables.tables(tmp_path).split("\n\n")
    assert results.splitlines()[2].startswith("| `fashion/nanoglow` | 2 | 1.500 ± ")
    assert (
        costs.splitlines()[2] == "| `fashion/nanoglow` | 2 | 1,000 | 2 | float32 | 1.0 | 3 | 2.0 |"
    )
    assert seeds.splitlines()[2:] == ["| `fashion/nanoglow` | 2 | 1.550 (1.500 to 1.600) |"]
    first, second = orders.splitlines()[2:]
    assert "| +0.1000 (+0.1000 to +0.1000) | 1 | holds |" in first
    assert second.endswith(" | 1 | open |")
    assert compare_module.best(tmp_path, 1) == ["fashion/nanoglow-naive", "fashion/nanoglow"]


def orders_of(bits: dict[str, list[float]], runs: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the rows of the table of orders for runs that have these bits."""
    monkeypatch.syspath_prepend(EGS)
    for recipe, values in bits.items():
        folder = runs / f"{recipe}-1"
        folder.mkdir()
        np.save(folder / "bits.npy", np.array(values))
        figures = row(recipe, 1, float(np.mean(values)), 3.0)
        (folder / "figures.json").write_text(json.dumps(figures))
    table = importlib.import_module("tables").tables(runs).split("\n\n")[-1]
    return "\n".join(table.splitlines()[2:])


@pytest.mark.parametrize("failed", [np.inf, np.nan])  # an earlier version wrote NaN
@pytest.mark.parametrize(
    ("more", "less", "found"),
    [
        ([4.0, 4.0], [3.0, None], "| -inf | 1 | open |"),
        ([None, 4.0], [3.0, None], "| not known | 1 | not known |"),
        ([4.0, None], [3.0, None], "| not known | 1 | not known |"),
    ],
)
def test_a_model_that_fails_on_an_image_wins_no_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failed: float, more: Any, less: Any, found: str
) -> None:
    bits = {
        name: [failed if value is None else value for value in values] * 10
        for name, values in (("glow", more), ("marscf-affine", less))
    }
    assert found in orders_of(bits, tmp_path, monkeypatch)


def test_runs_of_other_images_are_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bits = {"glow": [3.0] * 20, "marscf-affine": [4.0]}
    with pytest.raises(VocoderError, match=r"glow-1.*remove figures\.json") as refusal:
        orders_of(bits, tmp_path, monkeypatch)
    told = str(refusal.value)
    assert "marscf-affine-1: has the bits of 1 images" in told
    assert "\n" not in told


def test_the_documentation_shows_the_tables_of_the_kept_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(EGS)
    kept = importlib.import_module("tables").tables(EGS / "results")
    assert "| `fashion/glow` | 1 |" in kept
    page = (EGS.parents[1] / "docs" / "images.md").read_text(encoding="utf-8")
    assert all(table in page for table in kept.split("\n\n"))
