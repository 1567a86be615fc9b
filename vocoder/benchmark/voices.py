"""What `vocoder benchmark` runs of a voice: the layer op, training steps and synthesis."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import fields
from functools import partial

import torch
from torch import Tensor

from vocoder import kernels
from vocoder.benchmark.measuring import OURS, REFERENCE, Work
from vocoder.benchmark.published import PublishedInverse
from vocoder.kernels import GatedConvWeights
from vocoder.kernels.gated_conv.op import gated_conv2d
from vocoder.mel.presets import MelPreset
from vocoder.models.families.row_flow import RowFlow, RowFlowConfig
from vocoder.voice.flow import FlowVocoder
from vocoder.voice.griffin_lim import GriffinLimVocoder

PUBLISHED, GRIFFIN_LIM = "published", "griffin-lim"
BF16, CHECKPOINTED = "reference, bf16 autocast", "ours, checkpointed"


def voice_works(
    model: RowFlow,
    preset: MelPreset,
    device: torch.device,
    seconds: Sequence[float],
    batch_sizes: Sequence[int],
    crops: tuple[int, int],
) -> tuple[Iterator[Work], ...]:
    """Return the works of each kind, the smallest first; see `vocoder.benchmark.benchmark`."""
    return (
        _op(model.config, device, crops),
        _training(model, preset, device, crops),
        _synthesis(model, preset, device, seconds, batch_sizes),
    )


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


def _op(config: RowFlowConfig, device: torch.device, crops: tuple[int, int]) -> Iterator[Work]:
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

    forward_flop = 40 * C**2 * B * H * W
    for d_w in sorted({1, 2 ** (config.n_layers - 1)}):
        for backward in (False, True):
            paths = {
                name: partial(run, backend, d_w, backward)
                for name, backend in ((OURS, "auto"), (REFERENCE, "reference"))
            }
            what = "forward and backward" if backward else "forward"
            flop = (3 if backward else 1) * forward_flop
            yield Work(f"layer, d = {d_w}, {what}", paths, None, flop, flop)


def _training(
    model: RowFlow, preset: MelPreset, device: torch.device, crops: tuple[int, int]
) -> Iterator[Work]:
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
    small = (1, min(crops[1], 64 * model.config.n_height))
    for n_crops, n_samples in dict.fromkeys((small, crops)):
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
        yield Work(name, paths, n / preset.sample_rate, flop, flop)


def _synthesis(
    model: RowFlow,
    preset: MelPreset,
    device: torch.device,
    seconds: Sequence[float],
    batch_sizes: Sequence[int],
) -> Iterator[Work]:
    """Yield every duration in every batch size, the least work first."""
    ours = FlowVocoder(model, preset, device=device, backend="auto")
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
        yield Work(name, paths, n_samples / preset.sample_rate, flop, flop)


def _product(case: tuple[float, int]) -> float:
    return case[0] * case[1]


def _speech_like(preset: MelPreset, n_items: int, n_frames: int) -> Tensor:
    """Return random mels (B, M, F) in a range where speech has them."""
    generator = torch.Generator().manual_seed(0)
    return preset.silence_floor + 6 * torch.rand(
        n_items, preset.n_mels, n_frames, generator=generator
    )
