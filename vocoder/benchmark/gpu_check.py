"""The kernels on a GPU, checked and timed by one command within a time budget.

Right results come first, then the same results every time, then how fast. A stage yields its
measurements one by one, so that whatever the budget allows is kept. Not yet run on a GPU.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

import torch

from vocoder.benchmark.gpu_report import Measurement, Report
from vocoder.benchmark.gpu_scale import Scale
from vocoder.errors import VocoderError
from vocoder.kernels.card import find_card, refuse_card

BUDGET = 540.0  # seconds


@dataclass(frozen=True)
class Stage:
    """A part of the check, known without importing Triton.

    Args:
        name: Name of the stage, and of its function in `gpu_stages`.
        seconds: Share of the default budget, in seconds.
        purpose: What the stage is for, as the plan says it.
        vital: Whether a limit that is not kept ends the check.
    """

    name: str
    seconds: int
    purpose: str
    vital: bool = False

    def load(self) -> Callable[[Scale], Iterator[Measurement]]:
        """Return what yields the measurements."""
        module = import_module("vocoder.benchmark.gpu_stages")
        function: Callable[[Scale], Iterator[Measurement]] = getattr(module, self.name)
        return function


STAGES = (
    Stage("ceilings", 30, "copy, matmul, cache and launch rates of this card"),
    Stage("correctness", 90, "both ops, every tile, against float64"),
    Stage("races", 40, "replays and buckets give the same bits every time", vital=True),
    Stage("tiles", 120, "every tile timed, for the static table"),
    Stage("synthesis", 100, "times real time, signal to noise, peak memory"),
    Stage("training", 120, "forward and backward against plain torch, loss curves"),
    Stage("composition", 40, "torch.compile, capture, offsets beyond 32 bits"),
)


def plan(budget: float = BUDGET) -> str:
    """Return what a check does, one line a stage."""
    total = sum(stage.seconds for stage in STAGES)
    return "\n".join(
        f"{budget * stage.seconds / total:5.0f} s  {stage.name}: {stage.purpose}"
        for stage in STAGES
    )


def check_gpu(folder: Path, *, budget: float = BUDGET) -> Report:
    """Run every stage on the current GPU and write DIR/kernels.json.

    Args:
        folder: made if need be.
        budget: seconds in all; a stage that has used up its share goes no further.

    Raises:
        VocoderError: there is no GPU that the kernels run on, or the budget is not positive.
    """
    if not budget > 0:
        raise VocoderError(f"budget {budget:g}: give a positive number of seconds, such as 540")
    if not torch.cuda.is_available():
        raise VocoderError("the kernel check needs an NVIDIA GPU, and torch sees none here")
    card = find_card("cuda")
    assert card is not None
    if reason := refuse_card("cuda", card):
        raise VocoderError(reason)
    folder.mkdir(parents=True, exist_ok=True)
    report = run_stages(STAGES, Scale(torch.device("cuda"), card.capability), budget)
    report.write(folder / "kernels.json")
    return report


def run_stages(stages: Sequence[Stage], scale: Scale, budget: float) -> Report:
    """Run stages one after the other, each within its share of the budget.

    Args:
        stages: The stages, in order.
        scale: How large they work.
        budget: Seconds in all.
    """
    on_card = scale.device.type == "cuda"
    name = torch.cuda.get_device_name(scale.device) if on_card else "interpreter"
    versions = {"torch": torch.__version__, "triton": version("triton")}
    report = Report(name, versions, {}, {})
    total = sum(stage.seconds for stage in stages)
    deadline = time.monotonic()
    for stage in stages:
        # What earlier stages left over is there for later ones.
        deadline += budget * stage.seconds / total
        measurements = report.measurements[stage.name] = []
        try:
            for measurement in stage.load()(scale):
                measurements.append(measurement)
                if time.monotonic() > deadline:
                    report.notes[stage.name] = "broken off: its share of the budget is used up"
                    break
        except (RuntimeError, ValueError) as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            report.notes[stage.name] = f"broken off: {reason}"
        if stage.vital and not all(m.passed for m in measurements):
            report.notes[stage.name] = "wrong: nothing after this was run"
            break
        if on_card:
            torch.cuda.empty_cache()
    return report
