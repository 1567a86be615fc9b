"""What `vocoder benchmark` measures: training, and synthesis or sampling, of a model here and now.

Everything is set beside the plain path in the same run, and the arithmetic of voices beside what
the machine's own matrix product reaches. It is counted as the layers are written, one multiply-add
as two, however little of it a backend really does.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from vocoder import checkpoint
from vocoder.benchmark import measuring
from vocoder.benchmark.images import image_works
from vocoder.benchmark.measuring import REFERENCE, Measurement, Work
from vocoder.benchmark.voices import GRIFFIN_LIM, voice_works
from vocoder.checkpoint import DataDescription
from vocoder.device import resolve_device
from vocoder.errors import VocoderError
from vocoder.mel.presets import MelPreset
from vocoder.models.families.flow import FlowModel
from vocoder.models.families.image_flow import ImageFlow
from vocoder.models.families.voice import VoiceModel
from vocoder.recipe import VoiceRecipe, list_recipes, load_recipe
from vocoder.registry import find_model
from vocoder.voice.catalogue import find_voice

DEFAULT_RECIPE = "ljspeech/nanoflow-r64"


@dataclass(frozen=True)
class Line:
    """One line of the table.

    Args:
        work: what was done.
        by: Name of the path that did it.
        seconds: the median of `n_runs`; None if it was predicted to exceed the budget.
        n_runs: Number of runs that were timed.
        rate: seconds of audio, or images, for each second of work; None for the op.
        gflops: GFLOP/s as written; None for what has no such count.
        of_matmul: Speed as a fraction of the machine's own matrix product.
        peak_mib: memory above what was in use before.
        speedup: how many times faster than the reference.
    """

    work: str
    by: str
    seconds: float | None
    n_runs: int = 0
    rate: float | None = None
    gflops: float | None = None
    of_matmul: float | None = None
    peak_mib: float | None = None
    speedup: float | None = None


def benchmark(
    model: str | Path | None = None,
    *,
    device: str | torch.device | None = None,
    seconds: Sequence[float] = (1.0, 10.0),
    batch_sizes: Sequence[int] = (1, 16),
    crops: tuple[int, int] = (4, 16_000),
    budget: float = 60.0,
    report: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Measure a voice or a model of images on this machine.

    Args:
        model: a checkpoint file, a run folder, the name of a shipped voice, or a recipe, whose
            untrained model takes as long as a trained one; None is "ljspeech/nanoflow-r64".
        device: None is a GPU where there is one.
        seconds: durations of audio to synthesise, each in every batch size.
        batch_sizes: utterances at once, or images of a training step and of a sampling.
        crops: how many crops of how many samples a training step of a voice has.
        budget: seconds for each line of comparison; a path that is predicted to take longer for a
            single run is left out.
        report: gets a word about what is being measured.

    Returns:
        What `format_table` prints and what is fit for JSON: "device", "torch", "model",
        "parameters", "matmul_gflops" (float32; "matmul_bf16_gflops"), "copy_gb_per_s", "rate" (the
        unit), and "lines", the fields of `Line`.

    Raises:
        VocoderError: no such model or device, or nothing to measure.
    """
    if not all(0 < number < math.inf for number in (*seconds, *batch_sizes, *crops, budget)):
        raise VocoderError(
            "benchmark: durations, batch sizes, crops and budget must be positive and finite"
        )
    device = resolve_device(device)
    flow, data, name = _open(model)
    if isinstance(flow, VoiceModel) and crops[1] < flow.config.granule:
        raise VocoderError(
            f"benchmark: crops of {crops[1]} samples are shorter than the least that the "
            f"voice takes, {flow.config.granule}"
        )
    report("matrix product and copy")
    matmul = measuring.matmul_rate(device, torch.float32)
    result = {
        "device": measuring.device_name(device),
        "torch": torch.__version__,
        "model": name,
        "parameters": flow.n_parameters(),
        "matmul_gflops": matmul / 1e9,
        "matmul_bf16_gflops": measuring.matmul_rate(device, torch.bfloat16) / 1e9,
        "copy_gb_per_s": measuring.copy_rate(device) / 1e9,
    }
    if isinstance(flow, VoiceModel) and isinstance(data, MelPreset):
        result["rate"] = "x real time"
        kinds = voice_works(flow, data, device, seconds, batch_sizes, crops)
    else:
        assert isinstance(flow, ImageFlow)
        result["rate"] = "images/s"
        kinds = image_works(flow, device, batch_sizes)
    lines: list[Line] = []
    for works in kinds:
        pace: dict[str, float] = {}  # seconds for each unit of size, of every path
        for work in works:
            report(work.name)
            lines += _compare(work, device, budget, matmul, pace)
    return {**result, "lines": [asdict(line) for line in lines]}


def _open(model: str | Path | None) -> tuple[FlowModel, DataDescription | None, str]:
    """Return a model, its mels' preset if it is a voice, and its name."""
    named = DEFAULT_RECIPE if model is None else os.fspath(model)
    if named.endswith((".yaml", ".yml")) or named in list_recipes():
        recipe = load_recipe(named)
        torch.manual_seed(0)
        untrained: FlowModel = find_model(recipe.model)[0](recipe.config)
        preset = recipe.preset if isinstance(recipe, VoiceRecipe) else None
        return untrained, preset, f"{recipe.name}, untrained"
    stored = checkpoint.load(find_voice(named), device="cpu")
    return stored.model, stored.data, f"{stored.model_name}, {named}"


def _compare(
    work: Work, device: torch.device, budget: float, matmul: float, pace: dict[str, float]
) -> Iterator[Line]:
    feasible = {
        name: run for name, run in work.paths.items() if pace.get(name, 0.0) * work.size <= budget
    }
    measured = measuring.compare(feasible, device, budget) if feasible else {}
    pace.update({name: m.seconds / work.size for name, m in measured.items()})
    for name in work.paths:
        if name in measured:
            yield _line(work, name, measured[name], measured.get(REFERENCE), matmul)
        else:
            yield Line(work.name, name, None)


def _line(
    work: Work, name: str, m: Measurement, reference: Measurement | None, matmul: float
) -> Line:
    gflops = work.flop / m.seconds / 1e9 if work.flop and name != GRIFFIN_LIM else None
    return Line(
        work.name,
        name,
        m.seconds,
        m.n_runs,
        rate=work.amount and work.amount / m.seconds,
        gflops=gflops,
        of_matmul=gflops and gflops * 1e9 / matmul,
        peak_mib=None if m.peak_bytes is None else m.peak_bytes / 2**20,
        speedup=None if reference is None else reference.seconds / m.seconds,
    )


def format_table(result: dict[str, Any]) -> str:
    """Return the result of `benchmark` as text."""
    head = (
        f"{result['device']}; torch {result['torch']}\n"
        f"{result['model']}, {result['parameters']:,} parameters\n"
        f"matrix product {result['matmul_gflops']:,.0f} GFLOP/s in float32, "
        f"{result['matmul_bf16_gflops']:,.0f} in bfloat16; copy {result['copy_gb_per_s']:.1f} GB/s"
    )
    titles = ("work", "by", "seconds", result["rate"], "GFLOP/s", "of matmul", "MiB", "x reference")
    rows = [titles, *(_cells(Line(**line)) for line in result["lines"])]
    widths = [max(len(row[i]) for row in rows) for i in range(len(titles))]
    table = [
        "  ".join(
            cell.ljust(width) if i < 2 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    return "\n".join([head, "", *table])


def _cells(line: Line) -> tuple[str, ...]:
    if line.seconds is None:
        return (line.work, line.by, "left out", "", "", "", "", "")

    def number(value: float | None, form: str) -> str:
        return "" if value is None else format(value, form)

    return (
        line.work,
        line.by,
        number(line.seconds, ".4g"),
        number(line.rate, ".3g"),
        number(line.gflops, ",.0f"),
        number(line.of_matmul, ".0%"),
        number(line.peak_mib, ",.0f"),
        number(line.speedup, ".2f"),
    )
