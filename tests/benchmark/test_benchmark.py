"""The benchmark: complete, consistent, and open about what it left out."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import assert_one_error_line
from voices import save_tiny_voice

from vocoder.benchmark import measuring
from vocoder.benchmark.families.row_flow import flop_per_sample
from vocoder.benchmark.run import DEFAULT_RECIPE, benchmark, format_table
from vocoder.benchmark.voices import CHECKPOINTED, OURS_BF16, REFERENCE_BF16
from vocoder.errors import VocoderError
from vocoder.models.families.flow import FlowModel
from vocoder.models.nanoflow import NanoFlow, NanoFlowConfig
from vocoder.models.waveflow import WaveFlow, WaveFlowConfig
from vocoder.recipe import load_recipe

CPU = torch.device("cpu")
QUICK: dict[str, Any] = {"seconds": (0.05,), "batch_sizes": (1, 2), "crops": (1, 512)}


@pytest.fixture(autouse=True)
def small_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure the machine by small products and copies, which is soon done."""
    for name, size in (("matmul_rate", {"size": 64}), ("copy_rate", {"n_bytes": 1 << 16})):
        monkeypatch.setattr(measuring, name, partial(getattr(measuring, name), **size))


def test_arithmetic_is_counted_as_published() -> None:
    ends = 6 * 8  # K · 6 for each channel
    assert flop_per_sample(NanoFlow(NanoFlowConfig())) == 10_649_600 + 64 * ends
    assert flop_per_sample(WaveFlow(WaveFlowConfig())) == 11_796_480 + 64 * ends
    passthrough = WaveFlow(WaveFlowConfig(first_row="passthrough"))
    assert flop_per_sample(passthrough) == (11_796_480 + 64 * ends) * 15 / 16


@pytest.mark.parametrize("gains", [False, True])
def test_every_path_is_measured(
    gains: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FlowModel, "gains_from_bf16", lambda *_: gains)
    result = benchmark(save_tiny_voice(tmp_path / "voice"), device="cpu", budget=10.0, **QUICK)
    lines = json.loads(json.dumps(result))["lines"]
    by_work: dict[str, dict[str, dict[str, Any]]] = {}
    for line in lines:
        assert line["by"] not in by_work.get(line["work"], {})  # nothing is measured twice
        by_work.setdefault(line["work"], {})[line["by"]] = line
    layer, training, synthesis = (
        {w: paths for w, paths in by_work.items() if w.startswith(word)}
        for word in ("layer", "training", "synthesis")
    )
    assert len(layer) == 4  # two dilations, with and without gradients
    assert list(synthesis) == ["synthesis, 1 x 0.05 s", "synthesis, 2 x 0.05 s"]
    assert all(list(paths) == ["ours", "reference"] for paths in layer.values())
    plain, narrow = {"ours", "reference"}, {OURS_BF16, REFERENCE_BF16}
    for paths in training.values():
        assert set(paths) == {*plain, CHECKPOINTED, *(narrow if gains else ())}
    for paths in synthesis.values():
        spoken = {*plain, "published", "griffin-lim"}
        assert set(paths) == spoken | ({OURS_BF16} if gains else set())
    for paths in by_work.values():
        reference = paths["reference"]
        assert reference["speedup"] == 1
        for line in paths.values():
            assert line["speedup"] == pytest.approx(reference["seconds"] / line["seconds"])
            if line["gflops"] is not None:
                share = line["gflops"] / result["matmul_gflops"]
                assert line["of_matmul"] == pytest.approx(share)
    table = format_table(result)
    assert result["device"] in table
    assert all(work in table for work in by_work)


def test_images_are_trained_and_sampled() -> None:
    """A recipe by name: mAR-SCF's sampling beside the published loop, Glow has no such loop."""
    sampled_by = {}
    for recipe in ("digits/marscf", "digits/glow"):
        result = benchmark(recipe, device="cpu", batch_sizes=(2, 1), budget=1e-6)
        assert result["model"] == f"{recipe}, untrained"
        assert result["rate"] == "images/s"
        lines = {(line["work"], line["by"]): line for line in result["lines"]}
        for n in (1, 2):
            for by in ("reference", "checkpointed"):
                assert (f"training step, {n} x 1x8x8", by) in lines
        line = lines["training step, 1 x 1x8x8", "checkpointed"]
        assert line["rate"] == pytest.approx(1 / line["seconds"])
        assert lines["sampling, 2 x 1x8x8", "ours"]["seconds"] is None  # predicted to take longer
        sampled_by[recipe] = {by for work, by in lines if work.startswith("sampling")}
        assert "images/s" in format_table(result)
    assert sampled_by == {"digits/marscf": {"ours", "reference"}, "digits/glow": {"ours"}}


def test_default_is_the_published_nanoflow_of_64_channels() -> None:
    assert load_recipe(DEFAULT_RECIPE).config == NanoFlowConfig()


def test_what_would_take_too_long_is_left_out(tmp_path: Path) -> None:
    result = benchmark(save_tiny_voice(tmp_path / "voice"), device="cpu", budget=1e-6, **QUICK)
    left_out = {line["work"] for line in result["lines"] if line["seconds"] is None}
    # The first work of a kind tells how long the others would take.
    assert "synthesis, 1 x 0.05 s" not in left_out
    assert "synthesis, 2 x 0.05 s" in left_out
    assert format_table(result).count("left out") == sum(
        line["seconds"] is None for line in result["lines"]
    )


@pytest.mark.parametrize("change", [{"seconds": (0.0,)}, {"batch_sizes": (0,)}, {"budget": -1.0}])
def test_nothing_to_measure(change: dict[str, Any]) -> None:
    with pytest.raises(VocoderError, match="must be positive"):
        benchmark(device="cpu", **(QUICK | change))
    with pytest.raises(VocoderError, match="crops of 8 samples are shorter than the least"):
        benchmark(device="cpu", **(QUICK | {"crops": (1, 8)}))


def test_contestants_take_turns() -> None:
    order: list[str] = []
    paths = {"a": lambda: order.append("a"), "b": lambda: order.append("b")}
    measured = measuring.compare(paths, CPU, budget=10.0)
    assert order == ["a", "b"] * 6
    assert measured["a"].n_runs == 5
    order.clear()
    assert measuring.compare(paths, CPU, budget=0.0)["b"].n_runs == 1
    assert order == ["a", "b"]


def test_peak_memory_is_that_of_the_work() -> None:
    def allocate() -> None:
        for _ in range(3):  # one after the other: the peak is one of them
            torch.zeros(1 << 24)

    peak = measuring.compare({"": allocate}, CPU, budget=0.0)[""].peak_bytes
    if peak is None:
        pytest.skip("this system does not tell the peak")
    assert peak > 2**26 - 2**20  # pages are counted in lots
    assert peak < 1.5 * 2**26


def test_command(tmp_path: Path, run: Callable[..., Any]) -> None:
    voice = save_tiny_voice(tmp_path / "voice")
    quick = ["--device", "cpu", "--seconds", "0.05", "--batch-size", "1", "--crops", "1", "512"]
    done = run("benchmark", voice, *quick, "--budget", "0.1", "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["lines"]
    done = run("benchmark", voice, *quick, "--budget", "0.1")
    assert b"synthesis, 1 x 0.05 s" in done.out


def test_command_names_what_is_wrong(run: Callable[..., Any]) -> None:
    assert_one_error_line(run("benchmark", "nobody"), "nobody")
    assert_one_error_line(run("benchmark", "--budget", "0"), "positive")
