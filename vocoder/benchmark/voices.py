"""What `vocoder benchmark` runs of a voice: training steps, synthesis and the ops of its family."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from functools import partial

import torch
from torch import Tensor

from vocoder import kernels
from vocoder.benchmark.measuring import OURS, REFERENCE, Work
from vocoder.mel.presets import MelPreset
from vocoder.models.families.voice import VoiceModel
from vocoder.registry import ClassRegistry
from vocoder.voice.flow import FlowVocoder
from vocoder.voice.griffin_lim import GriffinLimVocoder

PUBLISHED, GRIFFIN_LIM = "published", "griffin-lim"
CHECKPOINTED = "ours, checkpointed"
OURS_BF16, REFERENCE_BF16 = "ours, bfloat16", "reference, bfloat16"


class Family:
    """What is known of one class of models beyond the voice contract; of most, nothing."""

    def flop_per_sample(self, model: VoiceModel) -> float | None:
        """Return the FLOP of a synthesis for each audio sample, as the layers are written."""
        return None

    def ops(
        self, model: VoiceModel, device: torch.device, crops: tuple[int, int]
    ) -> Iterator[Work]:
        """Yield works of single ops, at the size that a training step on `crops` gives them."""
        yield from ()

    def published(self, model: VoiceModel) -> Callable[[Tensor, Tensor], Tensor] | None:
        """Return the inverse of the published code, from noise (B, N) and mels (B, M, F)."""
        return None


FAMILIES: ClassRegistry[Family] = ClassRegistry("vocoder.benchmark.families")


def voice_works(
    model: VoiceModel,
    preset: MelPreset,
    device: torch.device,
    seconds: Sequence[float],
    batch_sizes: Sequence[int],
    crops: tuple[int, int],
) -> tuple[Iterator[Work], ...]:
    """Return the works of each kind, the smallest first; see `vocoder.benchmark.benchmark`."""
    family = FAMILIES.find(type(model)) or Family()
    return (
        family.ops(model, device, crops),
        _training(model, family, preset, device, crops),
        _synthesis(model, family, preset, device, seconds, batch_sizes),
    )


def _training(
    model: VoiceModel,
    family: Family,
    preset: MelPreset,
    device: torch.device,
    crops: tuple[int, int],
) -> Iterator[Work]:
    """Yield a training step, a small one first to learn how long the paths take."""
    model = model.to(device).requires_grad_().train()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.0)  # the weights stay as they are

    def step(audio: Tensor, mel: Tensor, backend: str, autocast: bool, checkpointing: bool) -> None:
        model.checkpointing = checkpointing
        narrow = torch.autocast(device.type, torch.bfloat16) if autocast else nullcontext()
        with kernels.use(backend):
            with narrow:
                loss = -model.log_prob(audio, model.condition(mel)).mean() / audio.shape[1]
            loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        optimizer.zero_grad()
        model.checkpointing = False

    flop_per_sample = family.flop_per_sample(model)
    cuda = device.type == "cuda"  # where a training step is in bfloat16 anyway
    bf16 = {OURS_BF16: ("auto", True, False), REFERENCE_BF16: ("reference", True, False)}
    small = (1, min(crops[1], 64 * model.config.granule))
    for n_crops, n_samples in dict.fromkeys((small, crops)):
        n_samples -= n_samples % model.config.granule
        audio = 0.1 * torch.randn(n_crops, n_samples, device=device)
        mel = _speech_like(preset, n_crops, -(-n_samples // preset.hop_length)).to(device)
        paths = {
            name: partial(step, audio, mel, *settings)
            for name, settings in {
                OURS: ("auto", cuda, False),
                REFERENCE: ("reference", cuda, False),
                CHECKPOINTED: ("auto", cuda, True),
                **(bf16 if not cuda and model.gains_from_bf16(device) else {}),
            }.items()
        }
        n = n_crops * n_samples
        flop = 3 * n * flop_per_sample if flop_per_sample else None
        name = f"training step, {n_crops} x {n_samples} samples"
        yield Work(name, paths, n / preset.sample_rate, n, flop)


def _synthesis(
    model: VoiceModel,
    family: Family,
    preset: MelPreset,
    device: torch.device,
    seconds: Sequence[float],
    batch_sizes: Sequence[int],
) -> Iterator[Work]:
    """Yield every duration in every batch size, the least work first."""
    ours = FlowVocoder(model, preset, device=device, backend="auto")
    narrow = None
    if device.type == "cpu" and model.gains_from_bf16(device):
        narrow = FlowVocoder(model, preset, device=device, dtype="bfloat16")
    reference = FlowVocoder(model, preset, device=device, backend="reference")
    griffin_lim = GriffinLimVocoder(preset, device=device)
    flop_per_sample = family.flop_per_sample(model)
    published = family.published(model.to(device))
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
        if narrow is not None:
            paths[OURS_BF16] = partial(narrow.synthesize, mel, seed=0)
        if published is not None:
            paths[PUBLISHED] = partial(published, z, mel)
        flop = n_samples * flop_per_sample if flop_per_sample else None
        name = f"synthesis, {n_items} x {duration:g} s"
        yield Work(name, paths, n_samples / preset.sample_rate, n_samples, flop)


def _product(case: tuple[float, int]) -> float:
    return case[0] * case[1]


def _speech_like(preset: MelPreset, n_items: int, n_frames: int) -> Tensor:
    """Return random mels (B, M, F) in a range where speech has them."""
    generator = torch.Generator().manual_seed(0)
    return preset.silence_floor + 6 * torch.rand(
        n_items, preset.n_mels, n_frames, generator=generator
    )
