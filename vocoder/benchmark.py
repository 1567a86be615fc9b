"""What `vocoder benchmark` measures: the layer op, synthesis and training of a voice, here and now.

Everything is set beside the plain reference path in the same run, and beside what the machine's own
matrix product reaches. Arithmetic is counted as the layers are written, one multiply-add as two,
however little of it a backend really does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vocoder import checkpoint, kernels, measuring
from vocoder.baselines import PublishedInverse
from vocoder.device import resolve_device
from vocoder.engine import FlowVocoder, GriffinLimVocoder
from vocoder.errors import VocoderError
from vocoder.kernels import GatedConvWeights, gated_conv2d
from vocoder.measuring import Measurement
from vocoder.models.nanoflow import NanoFlow, NanoFlowConfig
from vocoder.models.waveflow import RowFlow, RowFlowConfig
from vocoder.presets import MelPreset, get_preset
from vocoder.voices import find_voice

OURS, REFERENCE, PUBLISHED, GRIFFIN_LIM = "ours", "reference", "published", "griffin-lim"
BF16, CHECKPOINTED = "reference, bf16 autocast", "ours, checkpointed"


@dataclass(frozen=True)
class Line:
    """One line of the table.

    Args:
        work: what was done.
        by: which path did it.
        seconds: the median of `n_runs`; None if it was predicted to exceed the budget.
        n_runs: see there.
        times_real_time: seconds of audio for each second of work; None for the op.
        gflops: GFLOP/s as written; None for what has no such count.
        of_matmul: that as a fraction of the machine's own matrix product.
        peak_mib: memory above what was in use before.
        speedup: how many times faster than the reference.
    """

    work: str
    by: str
    seconds: float | None
    n_runs: int = 0
    times_real_time: float | None = None
    gflops: float | None = None
    of_matmul: float | None = None
    peak_mib: float | None = None
    speedup: float | None = None


@dataclass(frozen=True)
class _Work:
    """What the paths are compared on.

    Args:
        name: for the table.
        paths: by name, what to run.
        audio_seconds: that it makes or learns from.
        flop: as written.
    """

    name: str
    paths: Mapping[str, Callable[[], object]]
    audio_seconds: float | None
    flop: float


def benchmark(
    voice: str | Path | None = None,
    *,
    device: str | torch.device | None = None,
    seconds: Sequence[float] = (1.0, 10.0),
    batch_sizes: Sequence[int] = (1, 16),
    crops: tuple[int, int] = (4, 16_000),
    budget: float = 60.0,
    report: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Measure a voice on this machine.

    Args:
        voice: a checkpoint file, a run folder or the name of a shipped voice; None is the published
            NanoFlow with 64 channels, untrained, which takes as long as a trained one.
        device: None is a GPU where there is one.
        seconds: durations of audio to synthesise, each in every batch size.
        batch_sizes: utterances at once.
        crops: how many crops of how many samples a training step has.
        budget: seconds for each line of comparison; a path that is predicted to take longer for a
            single run is left out.
        report: gets a word about what is being measured.

    Returns:
        What `format_table` prints and what is fit for JSON: "device", "torch", "model",
        "parameters", "matmul_gflops" (float32; "matmul_bf16_gflops"), "copy_gb_per_s", and "lines",
        the fields of `Line`.

    Raises:
        VocoderError: no such voice or device, or nothing to measure.
    """
    if min([*seconds, *batch_sizes, *crops, budget]) <= 0:
        raise VocoderError("benchmark: durations, batch sizes, crops and budget must be positive")
    device = resolve_device(device)
    model, preset, name = _open(voice)
    report("matrix product and copy")
    matmul = measuring.matmul_rate(device, torch.float32)
    result = {
        "device": measuring.device_name(device),
        "torch": torch.__version__,
        "model": name,
        "parameters": model.n_parameters(),
        "matmul_gflops": matmul / 1e9,
        "matmul_bf16_gflops": measuring.matmul_rate(device, torch.bfloat16) / 1e9,
        "copy_gb_per_s": measuring.copy_rate(device) / 1e9,
    }
    lines: list[Line] = []
    pace: dict[str, float] = {}  # seconds for each FLOP, of every path, in the latest like work
    for works in (
        _op(model.config, device, crops),
        _training(model, preset, device, crops),
        _synthesis(model, preset, device, seconds, batch_sizes),
    ):
        pace.clear()
        for work in works:
            report(work.name)
            lines += _compare(work, device, budget, matmul, pace)
    return {**result, "lines": [asdict(line) for line in lines]}


def _compare(
    work: _Work, device: torch.device, budget: float, matmul: float, pace: dict[str, float]
) -> Iterator[Line]:
    feasible = {
        name: run for name, run in work.paths.items() if pace.get(name, 0.0) * work.flop <= budget
    }
    measured = measuring.compare(feasible, device, budget) if feasible else {}
    pace.update({name: m.seconds / work.flop for name, m in measured.items()})
    for name in work.paths:
        if name in measured:
            yield _line(work, name, measured[name], measured.get(REFERENCE), matmul)
        else:
            yield Line(work.name, name, None)


def _line(
    work: _Work, name: str, m: Measurement, reference: Measurement | None, matmul: float
) -> Line:
    gflops = None if name == GRIFFIN_LIM else work.flop / m.seconds / 1e9
    return Line(
        work.name,
        name,
        m.seconds,
        m.n_runs,
        times_real_time=work.audio_seconds and work.audio_seconds / m.seconds,
        gflops=gflops,
        of_matmul=gflops and gflops * 1e9 / matmul,
        peak_mib=None if m.peak_bytes is None else m.peak_bytes / 2**20,
        speedup=None if reference is None else reference.seconds / m.seconds,
    )


def _open(voice: str | Path | None) -> tuple[RowFlow, MelPreset, str]:
    if voice is None:
        torch.manual_seed(0)
        return NanoFlow(NanoFlowConfig()), get_preset("tacotron2-22k"), "nanoflow, untrained"
    stored = checkpoint.load(find_voice(voice), device="cpu")
    if not isinstance(stored.model, RowFlow):
        raise VocoderError(f"{voice}: a {stored.model_name} is not a voice; only voices are timed")
    return stored.model, stored.preset, f"{stored.model_name}, {voice}"


def flop_per_sample(model: RowFlow) -> float:
    """Return the FLOP of all flows for each audio sample, as the layers are written.

    A layer has 40 C² and its conditioning 4 · M · C, projected once where flows share a network;
    the 1 × 1 convolutions at both ends have 6 C.
    """
    config = model.config
    C, K, L, H = config.channels, config.n_flows, config.n_layers, config.n_height
    layers = L * (K * 40 * C**2 + len(model.nets) * 4 * config.n_mels * C)
    n_rows = len(model.pack_flows()[0].visits)  # one less where the first is passed through
    return (layers + 6 * K * C) * n_rows / H


def _op(config: RowFlowConfig, device: torch.device, crops: tuple[int, int]) -> Iterator[_Work]:
    """Yield the layer op, forward and with its gradients, at the smallest and largest dilation."""
    C, H = config.channels, config.n_height
    B, W = crops[0], max(1, crops[1] // H)
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32

    def random(*shape: int, size: float = 1.0) -> Tensor:
        return (size * torch.randn(shape, device=device)).requires_grad_()

    def operand(*shape: int, size: float = 1.0) -> Tensor:
        return random(*shape, size=size).detach().to(dtype).requires_grad_()

    weights = GatedConvWeights(
        conv=operand(9, C, 2 * C, size=(9 * C) ** -0.5),
        bias=random(2 * C),
        cond=None,
        res=operand(C, C, size=C**-0.5),
        res_bias=random(C),
        gate=random(C),
        out=random(C, 2, size=C**-0.5),
    )
    h, cond = operand(B, H, W, C), operand(B, H, W, 2 * C)

    inputs = [h, cond, *(getattr(weights, f.name) for f in fields(weights) if f.name != "cond")]

    def run(backend: str, d_w: int, backward: bool) -> None:
        with kernels.use(backend), torch.set_grad_enabled(backward):
            h_next, y = gated_conv2d(h, cond, weights, dilation=(1, d_w))
        if backward and h_next is not None:
            torch.autograd.grad((h_next, y), inputs, (h_next, y))

    flop = 40 * C**2 * B * H * W
    for d_w in sorted({1, 2 ** (config.n_layers - 1)}):
        for backward in (False, True):
            paths = {
                name: partial(run, backend, d_w, backward)
                for name, backend in ((OURS, "auto"), (REFERENCE, "reference"))
            }
            what = "forward and backward" if backward else "forward"
            yield _Work(f"layer, d = {d_w}, {what}", paths, None, flop * (3 if backward else 1))


def _training(
    model: RowFlow, preset: MelPreset, device: torch.device, crops: tuple[int, int]
) -> Iterator[_Work]:
    """Yield a training step, a small one first to learn how long the paths take."""
    model = model.to(device).requires_grad_().train()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.0)  # the weights stay as they are
    precision = torch.bfloat16

    def step(audio: Tensor, mel: Tensor, backend: str, autocast: bool, checkpointing: bool) -> None:
        model.checkpointing = checkpointing
        narrow = torch.autocast(device.type, precision) if autocast else nullcontext()
        with kernels.use(backend):
            with narrow:
                loss = -model.log_prob(audio, mel).mean() / audio.shape[1]
            loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        optimizer.zero_grad()
        model.checkpointing = False

    cuda = device.type == "cuda"
    for n_crops, n_samples in ((1, min(crops[1], 64 * model.config.n_height)), crops):
        n_samples -= n_samples % model.config.n_height
        audio = 0.1 * torch.randn(n_crops, n_samples, device=device)
        mel = _speech_like(preset, n_crops, -(-n_samples // preset.hop_length)).to(device)
        paths = {
            name: partial(step, audio, mel, *settings)
            for name, settings in {
                OURS: ("auto", cuda, False),
                REFERENCE: ("reference", cuda, False),
                CHECKPOINTED: ("auto", cuda, True),
                **({} if cuda else {BF16: ("reference", True, False)}),
            }.items()
        }
        n = n_crops * n_samples
        flop = 3 * n * flop_per_sample(model)
        name = f"training step, {n_crops} x {n_samples} samples"
        yield _Work(name, paths, n / preset.sample_rate, flop)


def _synthesis(
    model: RowFlow,
    preset: MelPreset,
    device: torch.device,
    seconds: Sequence[float],
    batch_sizes: Sequence[int],
) -> Iterator[_Work]:
    """Yield every duration in every batch size, the least work first."""
    ours = FlowVocoder(model, preset, device=device)
    reference = FlowVocoder(model, preset, device=device, backend="reference")
    griffin_lim = GriffinLimVocoder(preset, device=device)
    published = PublishedInverse(model.to(device)) if model.config.transform == "affine" else None
    for duration, n_items in sorted(((s, b) for s in seconds for b in batch_sizes), key=_product):
        n_frames = max(1, round(duration * preset.sample_rate / preset.hop_length))
        n_samples = n_items * n_frames * preset.hop_length
        mel = _speech_like(preset, n_items, n_frames).to(device)
        z = torch.randn(n_items, n_frames * preset.hop_length, device=device)
        paths: dict[str, Callable[[], object]] = {
            OURS: partial(ours.synthesize, mel, seed=0),
            REFERENCE: partial(reference.synthesize, mel, seed=0),
            GRIFFIN_LIM: partial(griffin_lim.synthesize, mel, seed=0),
        }
        if published is not None:
            paths[PUBLISHED] = partial(published, z, mel)
        flop = n_samples * flop_per_sample(model)
        name = f"synthesis, {n_items} x {duration:g} s"
        yield _Work(name, paths, n_samples / preset.sample_rate, flop)


def _product(case: tuple[float, int]) -> float:
    return case[0] * case[1]


def _speech_like(preset: MelPreset, n_items: int, n_frames: int) -> Tensor:
    """Return random mels (B, M, F) in a range where speech has them."""
    generator = torch.Generator().manual_seed(0)
    return preset.silence_floor + 6 * torch.rand(
        n_items, preset.n_mels, n_frames, generator=generator
    )


def format_table(result: dict[str, Any]) -> str:
    """Return the result of `benchmark` as text."""
    head = (
        f"{result['device']}; torch {result['torch']}\n"
        f"{result['model']}, {result['parameters']:,} parameters\n"
        f"matrix product {result['matmul_gflops']:,.0f} GFLOP/s in float32, "
        f"{result['matmul_bf16_gflops']:,.0f} in bfloat16; copy {result['copy_gb_per_s']:.1f} GB/s"
    )
    titles = ("work", "by", "seconds", "x real time", "GFLOP/s", "of matmul", "MiB", "x reference")
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
        number(line.times_real_time, ".3g"),
        number(line.gflops, ",.0f"),
        number(line.of_matmul, ".0%"),
        number(line.peak_mib, ",.0f"),
        number(line.speedup, ".2f"),
    )
