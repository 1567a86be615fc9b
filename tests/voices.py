"""Tiny voices with random weights, for tests of what surrounds a model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from helpers import perturb

from vocoder import checkpoint
from vocoder.mel.presets import get_preset
from vocoder.models.nanoflow import NanoFlow, NanoFlowConfig
from vocoder.models.sourceflow import SourceFlow, SourceFlowConfig
from vocoder.models.waveflow import WaveFlow, WaveFlowConfig

# A NanoFlow of 32 channels and 4 flows that was trained on synthetic speech. It was written before
# checkpoints knew of images.
TRAINED = Path(__file__).parent / "golden" / "nanoflow-32.safetensors"
TACOTRON2 = get_preset("tacotron2-22k")
SIZES = {"channels": 6, "n_layers": 2, "n_flows": 2}


def voice_models():
    """Return one small perturbed model of each kind, the same ones at every call."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        models = {
            "nanoflow": NanoFlow(NanoFlowConfig(**SIZES, flow_embedding=4)),
            "nanoflow-decomposed": NanoFlow(NanoFlowConfig(**SIZES, variant="decomposed")),
            "waveflow": WaveFlow(WaveFlowConfig(**SIZES)),
            "waveflow-passthrough": WaveFlow(WaveFlowConfig(**SIZES, first_row="passthrough")),
            "nanoflow-causal": NanoFlow(
                NanoFlowConfig(**SIZES, flow_embedding=4, lookahead_frames=2)
            ),
        }
    return {kind: perturb(model, size=0.1).eval() for kind, model in models.items()}


def pitched_model():
    """Return a small perturbed model that is told the pitch, and hears a voice in every frame."""
    sizes = {**SIZES, "flow_embedding": 4, "pitch_channels": 8}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = SourceFlow(SourceFlowConfig(preset=TACOTRON2, order=32, **sizes))
    perturb(model, size=0.05)
    with torch.no_grad():
        model.pitch.head.bias[-1] += 9
    return model.eval()


def save_tiny_voice(path, kind="nanoflow"):
    checkpoint.save(path, voice_models()[kind], TACOTRON2, step=7, metrics={"nll": 1.5})
    return path


def some_mel(n_frames, seed=0):
    """A mel (80, F) with values such as speech has under the preset tacotron2-22k."""
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(80, n_frames, generator=generator) * 2 - 5).clamp(-11.5, 2)


def save_mel(path, n_frames=4, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, some_mel(n_frames, seed).numpy())
    return path
