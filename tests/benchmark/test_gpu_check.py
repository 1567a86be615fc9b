"""The check of the kernels: its plan, its budget, and its stages at a scale of a few columns."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from interpreter import interpreted, rerun

from vocoder.benchmark import gpu_check
from vocoder.benchmark.gpu_check import STAGES, Stage, check_gpu, plan, run_stages
from vocoder.benchmark.gpu_report import Measurement
from vocoder.errors import VocoderError

CPU = SimpleNamespace(device=torch.device("cpu"))


def test_the_plan_shares_out_the_budget() -> None:
    lines = plan(270).splitlines()
    assert len(lines) == len(STAGES)
    assert sum(float(line.split()[0]) for line in lines) == pytest.approx(270, abs=len(STAGES))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_one_line_says_so(tmp_path: Path) -> None:
    with pytest.raises(VocoderError, match="needs an NVIDIA GPU, and torch sees none here"):
        check_gpu(tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("budget", [0.0, -1.0, float("nan")])
def test_the_budget_must_be_positive(budget: float, tmp_path: Path) -> None:
    with pytest.raises(VocoderError, match="give a positive number of seconds"):
        check_gpu(tmp_path, budget=budget)


def right(_: Any) -> Iterator[Measurement]:
    yield Measurement("error", 1e-4, "relative", 1e-3)
    yield Measurement("copy", 2.5, "TB/s", predicted=3.0)


def wrong(_: Any) -> Iterator[Measurement]:
    yield Measurement("error", float("nan"), "relative", 1e-3)


def broken(_: Any) -> Iterator[Measurement]:
    yield Measurement("error", 0.0, "relative", 1e-3)
    raise RuntimeError("out of luck\nand a trace")


@pytest.fixture
def stages(monkeypatch: pytest.MonkeyPatch) -> None:
    functions = {"right": right, "wrong": wrong, "broken": broken}
    module = SimpleNamespace(**functions)
    monkeypatch.setitem(sys.modules, "vocoder.benchmark.gpu_stages", module)  # type: ignore[misc]
    monkeypatch.setattr(gpu_check, "version", lambda _: "0")


@pytest.mark.usefixtures("stages")
def test_a_report_says_what_failed_and_goes_on(tmp_path: Path) -> None:
    names = ("right", "broken", "wrong", "right")
    report = run_stages([Stage(name, 1, "") for name in names[:3]], CPU, 60)
    assert not report.passed
    assert report.notes == {"broken": "broken off: out of luck"}
    table = report.table()
    assert "ok: at most 0.001" in table
    assert "FAILED: at most 0.001" in table
    assert "predicted 3" in table
    report.write(tmp_path / "kernels.json")
    assert json.loads((tmp_path / "kernels.json").read_text())["passed"] is False
    assert run_stages([Stage("right", 1, "")], CPU, 60).passed


@pytest.mark.usefixtures("stages")
def test_a_vital_stage_ends_the_check() -> None:
    report = run_stages([Stage("wrong", 1, "", vital=True), Stage("right", 1, "")], CPU, 60)
    assert list(report.measurements) == ["wrong"]
    assert report.notes == {"wrong": "wrong: nothing after this was run"}


@pytest.mark.usefixtures("stages")
def test_a_stage_stops_when_its_share_is_used_up() -> None:
    report = run_stages([Stage("right", 1, "")], CPU, 1e-9)
    assert len(report.measurements["right"]) == 1
    assert "budget is used up" in report.notes["right"]


@interpreted
@pytest.mark.slow
@pytest.mark.parametrize("name", [stage.name for stage in STAGES])
def test_a_stage_runs_at_a_scale_of_a_few_columns(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vocoder.benchmark import gpu_stages
    from vocoder.benchmark.gpu_scale import Scale
    from vocoder.kernels import graphs
    from vocoder.kernels.invert_flow.triton_tiles import Tile

    tile = Tile("columns", 16, 16, 4, 2)
    scale = Scale(
        device=torch.device("cpu"),
        capability=(9, 0),
        channels=(16,),
        n_height=3,
        n_layers=2,
        n_flows=2,
        clips=(("a moment", 5),),
        batches=(1,),
        odd_width=7,
        long_width=5,
        long_items=2,
        tiles=(tile,),
        backend="reference",  # the training op has tests of its own
        train_shape=(1, 5),
        n_replays=1,
        n_steps=2,
        n_matmul=64,
        n_nodes=4,
    )
    monkeypatch.setattr(graphs, "WIDTH_STEP", 8)
    monkeypatch.setattr(gpu_stages, "choose_tile", lambda *_: tile)
    monkeypatch.setattr(gpu_stages, "seconds", once)
    report = run_stages([stage for stage in STAGES if stage.name == name], scale, 600)
    assert not report.notes
    assert report.passed, report.table()
    assert report.measurements[name]


def once(run: Any, device: torch.device) -> float:
    """Run it once: how long the interpreter takes is of no interest."""
    run()
    return 1.0


@pytest.mark.slow
def test_stages_in_the_interpreter() -> None:
    pytest.importorskip("triton")
    rerun(__file__, "slow")
