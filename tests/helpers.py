"""What several test files need."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from vocoder.data.speech.corpus import Manifest, Utterance
from vocoder.data.speech.epochs import EpochSummary
from vocoder.kernels.invert_flow.op import Source
from vocoder.mel.presets import get_preset
from vocoder.mel.spectrogram import MelSpectrogram
from vocoder.models.families.coupling_flow import CouplingFlow
from vocoder.models.families.image_flow import ImageFlow
from vocoder.models.families.row_flow import RowFlow
from vocoder.models.families.voice import VoiceModel
from vocoder.models.flowavenet import FloWaveNet, FloWaveNetConfig
from vocoder.models.nanoflow import NanoFlow, NanoFlowConfig
from vocoder.models.waveflow import WaveFlow, WaveFlowConfig
from vocoder.models.waveglow import WaveGlow, WaveGlowConfig
from vocoder.recipe import ImageRecipe, Recipe

GOLDEN = Path(__file__).parent / "golden"


def golden(name: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors of a reference file and the configuration in its header."""
    path = GOLDEN / f"{name}.safetensors"
    with safetensors.safe_open(path, framework="pt") as file:
        config = json.loads((file.metadata() or {}).get("config", "{}"))
    return safetensors.torch.load_file(path), config


def perturb(model: nn.Module, seed: int = 0, size: float = 0.2) -> nn.Module:
    """Move every parameter, so that no zero-initialised layer hides an error."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += size * torch.randn(parameter.shape, generator=generator).to(parameter)
    return model


def tiny_models() -> dict[str, RowFlow]:
    """Return one small perturbed model in float64 of every family, hop 24, 4 mel bands."""
    shape = {"n_mels": 4, "upsample_strides": (4, 6), "channels": 4, "n_layers": 3}
    configs = {
        "waveflow": WaveFlowConfig(**shape, n_height=6, n_flows=3),
        "waveflow-cycle": WaveFlowConfig(**shape, n_height=8, n_flows=2, n_layers_per_cycle=3),
        "waveflow-passthrough": WaveFlowConfig(
            **shape, n_height=6, n_flows=3, first_row="passthrough"
        ),
        "waveflow-bipartize": WaveFlowConfig(
            **shape, n_height=6, n_flows=5, first_row="passthrough", bipartize=True
        ),
        "waveflow-shift-bipartize": WaveFlowConfig(**shape, n_height=4, n_flows=3, bipartize=True),
        "nanoflow-naive": NanoFlowConfig(**shape, n_height=6, n_flows=3, variant="naive"),
        "nanoflow-decomposed": NanoFlowConfig(**shape, n_height=4, n_flows=4, variant="decomposed"),
        "nanoflow": NanoFlowConfig(**shape, n_height=6, n_flows=3, flow_embedding=5),
        "nanoflow-cycle": NanoFlowConfig(
            **shape, n_height=12, n_flows=2, flow_embedding=5, n_layers_per_cycle=2
        ),
        "nanoflow-spline": NanoFlowConfig(
            **shape, n_height=6, n_flows=2, flow_embedding=5, transform="spline"
        ),
        "nanoflow-causal": NanoFlowConfig(
            **shape, n_height=6, n_flows=3, flow_embedding=5, lookahead_frames=2
        ),
        "waveflow-causal": WaveFlowConfig(
            **shape, n_height=8, n_flows=2, n_layers_per_cycle=3, lookahead_frames=0
        ),
    }
    torch.manual_seed(0)
    return {name: perturb(_build(config)).double() for name, config in configs.items()}


def _build(config: WaveFlowConfig | NanoFlowConfig) -> RowFlow:
    return NanoFlow(config) if isinstance(config, NanoFlowConfig) else WaveFlow(config)


def coupling_models() -> dict[str, CouplingFlow]:
    """Return one small perturbed model in float64 of every family, hop 24, 4 mel bands."""
    glow = {"n_mels": 4, "hop_length": 24, "window": 60, "n_layers": 2, "channels": 4}
    wavenet = {"n_mels": 4, "upsample_strides": (4, 6), "channels": 4, "n_blocks": 3, "n_flows": 2}
    configs = {
        "waveglow": WaveGlowConfig(**glow, n_flows=4, n_group=6, early_every=2),
        "waveglow-wide-kernel": WaveGlowConfig(**glow, n_flows=2, n_group=4, kernel_size=5),
        "waveglow-alternate": WaveGlowConfig(
            **glow, n_flows=4, n_group=8, early_every=3, early_size=4, alternate=True
        ),
        # Ten samples do not divide a frame.
        "waveglow-loose": WaveGlowConfig(**glow, n_flows=3, n_group=10, early_every=1),
        "flowavenet": FloWaveNetConfig(**wavenet, blocks_per_split=1),
        "flowavenet-additive": FloWaveNetConfig(**wavenet, coupling="additive"),
        # Three flows in each of three blocks, after which the halves of the mel are exchanged.
        "flowavenet-odd": FloWaveNetConfig(**wavenet | {"n_flows": 3}, blocks_per_split=2),
        "flowavenet-2018": FloWaveNetConfig(**wavenet, dilation_base=3, n_layers=3),
    }
    torch.manual_seed(0)
    models: dict[str, CouplingFlow] = {
        name: WaveGlow(config) if isinstance(config, WaveGlowConfig) else FloWaveNet(config)
        for name, config in configs.items()
    }
    return {name: perturb(model).double() for name, model in models.items()}


def audio_and_mel(model: VoiceModel, n_frames: int = 3, batch: int = 2) -> tuple[Tensor, Tensor]:
    """Return random audio (B, N) and mel (B, M, F) that fit each other, in float64."""
    generator = torch.Generator().manual_seed(1)
    audio = torch.randn(batch, n_frames * model.hop_length, generator=generator).double()
    mel = torch.randn(batch, model.n_mels, n_frames, generator=generator).double()
    return 0.3 * audio, mel


def source(model: RowFlow, mel: Tensor, frames: Tensor | None = None) -> Source:
    """Return what gives an inverter the conditioning of mels (B, M, F)."""

    def give(items: slice, lo: int, hi: int) -> Tensor:
        own = None if frames is None else frames[items]
        return model.conditioning(mel[items], lo, hi, own)

    return give


def make_corpus(
    folder: Path,
    n_clips: int = 5,
    seconds: float = 0.5,
    epochs: bool = False,
    preset_name: str = "tacotron2-22k",
) -> Path:
    """Write a preprocessed corpus of noisy tones; the first clip is the test."""
    preset = get_preset(preset_name)
    analyse = MelSpectrogram(preset)
    generator = np.random.default_rng(0)
    n_samples = int(seconds * preset.sample_rate) // preset.hop_length * preset.hop_length
    (folder / "audio").mkdir(parents=True)
    (folder / "mels").mkdir()
    utterances = []
    for i in range(n_clips):
        time = np.arange(n_samples) / preset.sample_rate
        tone = 0.3 * np.sin(2 * np.pi * 110 * (i + 1) * time)
        audio = tone + 0.03 * generator.standard_normal(n_samples)
        pcm = (audio * 32767).astype(np.int16)
        mel = analyse(torch.from_numpy(pcm.astype(np.float32) / 32768)).numpy()
        np.save(folder / "audio" / f"clip{i}.npy", pcm)
        np.save(folder / "mels" / f"clip{i}.npy", mel)
        split = "train" if i else "test"
        n_epochs = None
        if epochs:  # one in each period
            places = np.arange(0, n_samples, preset.sample_rate / (110 * (i + 1))).astype(np.int32)
            (folder / "epochs").mkdir(exist_ok=True)
            np.save(folder / "epochs" / f"clip{i}.npy", places)
            n_epochs = len(places)
        utterances.append(Utterance(f"clip{i}", split, n_samples, mel.shape[1], n_epochs))
    found = EpochSummary(55.0, 420.0, "known", 100, 0) if epochs else None
    rule = "the first clip is the test"
    manifest = Manifest("wavs", preset, 0, rule, tuple(utterances), epochs=found)
    (folder / "manifest.json").write_text(manifest.to_json(), encoding="utf-8")
    return folder


def tiny_recipe(**train: Any) -> Recipe:
    """Return a recipe whose training step takes milliseconds."""
    settings = {
        "steps": 6,
        "batch_size": 2,
        "segment_length": 1024,
        "log_every": 2,
        "eval_every": 4,
        "save_every": 2,
        "eval_clips": 1,
        "ema_decay": 0.9,
    }
    model = {"name": "nanoflow", "channels": 4, "n_layers": 2, "n_flows": 2, "flow_embedding": 4}
    return Recipe.from_dict({"model": model, "train": settings | train}, "test")


def save_images(path: Path, train: int = 24, test: int = 6, seed: int = 0, **shape: int) -> Path:
    """Write an .npz of smooth random images, by default grey, 4 × 8 and of 8 values."""
    channels, height, width = (
        shape.get(name, size) for name, size in (("channels", 1), ("height", 4), ("width", 8))
    )
    random = np.random.default_rng(seed)
    ramp = np.linspace(0, 4, width) + np.linspace(0, 2, height)[:, None]
    splits = {
        name: (ramp + random.integers(0, 2, (n, channels, height, width))).astype(np.uint8)
        for name, n in (("train", train), ("test", test))
    }
    np.savez(path, **splits, n_values=8)  # type: ignore[arg-type]
    return path


def tiny_image_recipe(model: dict[str, Any] | None = None, **train: Any) -> ImageRecipe:
    """Return a recipe for what `save_images` writes, whose training step takes milliseconds."""
    size = {"image_channels": 1, "image_height": 4, "image_width": 8, "n_levels": 1}
    settings = {
        "steps": 6,
        "batch_size": 8,
        "log_every": 2,
        "eval_every": 4,
        "save_every": 2,
        "warmup_steps": 0,
        "ema_decay": 0.9,
    }
    values = {
        "model": {"name": "glow", "n_steps": 2, "channels": 4, **size, **(model or {})},
        "images": {"dataset": "arrays", "n_validation": 6, "augmentation": {"flip": True}},
        "train": settings | train,
    }
    recipe = Recipe.from_dict(values, "test")
    assert isinstance(recipe, ImageRecipe)
    return recipe


def write_tone(path: Path, seconds: float = 0.5, rate: int = 22050, channels: int = 1) -> None:
    """Write a noisy tone that is another one for every name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    import soundfile

    noise = np.random.default_rng(list(path.name.encode()))
    time_axis = np.arange(round(seconds * rate)) / rate
    tone = 0.4 * np.sin(2 * np.pi * noise.uniform(100, 900) * time_axis)
    audio = tone[:, None] + 0.01 * noise.standard_normal((len(tone), channels))
    soundfile.write(path, audio, rate)


def state_of(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {k.removeprefix("state."): t for k, t in tensors.items() if k.startswith("state.")}


def top_latent(model: ImageFlow, eps: torch.Tensor) -> torch.Tensor:
    """Return what reaches the top prior, which the published code hands out as z."""
    shape = model.flow.shapes[-1]
    size = shape.n_factored * shape.height * shape.width
    top = eps[:, -size:].unflatten(1, (shape.n_factored, shape.height, shape.width))
    return model.flow.priors[-1].inverse(top, None)


def run_killed(work: Callable[[], object], n_finished: int) -> None:
    """Run something in a fork of this process that dies at its next file after so many."""
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status), "it was to be killed"
        return
    left = n_finished

    def replace(old: str, new: str) -> None:
        nonlocal left
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1
        os.rename(old, new)

    os.replace = replace
    try:
        work()
    finally:
        os._exit(1)
