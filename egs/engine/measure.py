"""Measure what docs/engine.md shows: where a synthesis's time goes, its memory, and its pace.

    python egs/engine/measure.py profile        # 2 s of the published NanoFlow, both inverses
    python egs/engine/measure.py memory         # a tiny voice, 10 s to 10 min, under 64 MB
    python egs/engine/measure.py training       # 100 steps, ours beside the plain layers
    python egs/engine/measure.py voices         # what ships, as fast as it speaks by default

Each writes JSON beside this file; `draw.py` makes the pictures of the first two.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections.abc import Callable
from pathlib import Path

import librosa
import torch
from torch.profiler import ProfilerActivity, profile

from vocoder import MelSpectrogram, kernels, load
from vocoder.benchmark import measuring
from vocoder.benchmark.published import PublishedInverse
from vocoder.mel.presets import get_preset
from vocoder.models.nanoflow import NanoFlow, NanoFlowConfig
from vocoder.voice.catalogue import Catalogue
from vocoder.voice.flow import FlowVocoder

HERE = Path(__file__).parent
SPEECH = HERE.parent / "quickstart" / "corpus" / "wavs" / "ES000001.flac"
PRESET = get_preset("tacotron2-22k")
CPU = torch.device("cpu")

# What the parts of the picture are made of; everything else is views, allocation and Python.
PARTS = {
    "products": ("bmm", "mm", "addmm", "baddbmm", "mkldnn_convolution", "_convolution"),
    "gate": ("sigmoid", "tanh", "addcmul", "mul"),
    "sums": ("add", "add_", "sub", "sub_"),
    "copies": ("copy_", "cat", "fill_", "zero_"),
}


def mel_of(seconds: float) -> torch.Tensor:
    """Return a random mel (M, F) of that length."""
    n_frames = round(seconds * PRESET.sample_rate / PRESET.hop_length)
    return torch.randn(PRESET.n_mels, n_frames).clamp(-2, 2) - 5


def measure_profile() -> dict[str, object]:
    """Return the seconds of each part for the published inverse and ours."""
    torch.manual_seed(0)
    model, mel = NanoFlow(NanoFlowConfig()), mel_of(2.0)
    voice, published = FlowVocoder(model, PRESET, device=CPU), PublishedInverse(model)
    z = torch.randn(1, mel.shape[1] * PRESET.hop_length)
    paths: dict[str, Callable[[], object]] = {
        "published": lambda: published(z, mel[None]),
        "ours": lambda: voice.synthesize(mel, seed=0),
    }
    result: dict[str, object] = {"device": measuring.device_name(CPU), "torch": torch.__version__}
    for name, run in paths.items():
        run()
        with profile(activities=[ProfilerActivity.CPU]) as recorded:
            run()
        spent = {event.key: event.self_cpu_time_total / 1e6 for event in recorded.key_averages()}
        parts = {
            part: sum(spent.pop(f"aten::{op}", 0.0) for op in ops) for part, ops in PARTS.items()
        }
        result[name] = {**parts, "rest": sum(spent.values())}
    return result


def measure_memory() -> dict[str, object]:
    """Return the peak memory of a tiny voice's synthesis beside its mel and audio, in MiB."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    budget = 64 * 2**20
    model = NanoFlow(NanoFlowConfig(channels=8, n_layers=3, n_flows=1, flow_embedding=8))
    voice = FlowVocoder(model, PRESET, device=CPU, memory=budget)
    voice.synthesize(mel_of(1.0))
    lines = []
    for seconds in (10, 30, 60, 120, 300, 600):
        mel = mel_of(seconds)
        work = {"": lambda mel=mel: voice.synthesize(mel, seed=0)}
        peak = measuring.compare(work, CPU, budget=0.0)[""].peak_bytes
        assert peak is not None, "only Linux tells the peak"
        audio = 4 * mel.shape[1] * PRESET.hop_length
        lines.append({"seconds": seconds, "peak": peak / 2**20, "audio": audio / 2**20})
        print(lines[-1], flush=True)
    return {"budget": budget / 2**20, "platform": platform.system(), "lines": lines}


def measure_training() -> dict[str, object]:
    """Return the losses of 100 steps of the same training by our layers and by F.conv2d."""
    losses = {}
    for name in ("cpu", "reference"):
        torch.manual_seed(0)
        model = NanoFlow(NanoFlowConfig(channels=16, n_layers=5, n_flows=2, flow_embedding=32))
        optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
        generator = torch.Generator().manual_seed(1)
        curve = []
        for _ in range(100):
            t = torch.arange(2048) / PRESET.sample_rate
            pitch = 100 + 100 * torch.rand(4, 1, generator=generator)
            audio = 0.3 * (2 * torch.pi * pitch * t).sin()
            audio += 0.02 * torch.randn(audio.shape, generator=generator)
            mel = pitch[:, None].log().expand(4, PRESET.n_mels, 8) - 5
            with kernels.use(name):
                loss = -model.log_prob(audio, mel).mean() / audio.shape[1]
                optimizer.zero_grad()
                loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
            optimizer.step()
            curve.append(loss.item())
        losses[name] = curve
    worst = max(abs(a - b) for a, b in zip(*losses.values(), strict=True))
    print(f"losses {losses['cpu'][0]:.4f} to {losses['cpu'][-1]:.4f}; apart by {worst:.2g}")
    return {"losses": losses, "worst": worst}


def measure_voices() -> dict[str, object]:
    """Return how many times faster than real time the shipped voices speak, and how soon."""
    lines = []
    for name in Catalogue.read().voices:
        preset = load(name, device="cpu").preset
        voices = {
            f"Griffin-Lim, {preset.name}": load("griffin-lim", preset=preset, device="cpu"),
            f"{name}, float32": load(name, device="cpu"),
            f"{name}, auto": load(name, device="cpu", dtype="auto"),
        }
        audio, _ = librosa.load(SPEECH, sr=preset.sample_rate)
        spoken = MelSpectrogram(preset)(torch.from_numpy(audio))
        paces: dict[str, dict[str, object]] = {key: {"voice": key} for key in voices}
        for n_items, seconds in ((1, 1), (16, 1), (1, 10), (16, 10)):
            n_frames = round(seconds * preset.sample_rate / preset.hop_length)
            mel = spoken.repeat(1, -(-n_frames // spoken.shape[1]))[:, :n_frames]
            mels = mel.expand(n_items, -1, -1)
            work = {
                key: lambda voice=voice, mels=mels: voice.synthesize(mels, seed=0)
                for key, voice in voices.items()
            }
            for key, taken in measuring.compare(work, CPU, budget=15.0).items():
                paces[key][f"{n_items} x {seconds} s"] = n_items * seconds / taken.seconds
        whole = spoken.repeat(1, 4)
        streams = {key: voice for key, voice in voices.items() if voice.name != "griffin-lim"}
        first = {
            key: lambda voice=voice, mel=whole: next(iter(voice.stream([mel], seed=0)))
            for key, voice in streams.items()
        }
        for key, taken in measuring.compare(first, CPU, budget=5.0).items():
            frames = streams[key].stream([whole]).latency_frames
            paces[key]["waits for, s"] = frames * preset.hop_length / preset.sample_rate
            paces[key]["then computes for, s"] = taken.seconds
        lines += paces.values()
    heads = list(lines[-1])  # Griffin-Lim, which cannot stream, has fewer
    print("| " + " | ".join(heads) + " |\n" + "|---" * len(heads) + "|")
    for name, *figures in (line.values() for line in lines):
        print(f"| {name} | " + " | ".join(f"{figure:.3g}" for figure in figures) + " |")
    return {"device": measuring.device_name(CPU), "torch": torch.__version__, "lines": lines}


MEASURES = {
    "profile": measure_profile,
    "memory": measure_memory,
    "training": measure_training,
    "voices": measure_voices,
}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=MEASURES)
    what = parser.parse_args().what
    (HERE / f"{what}.json").write_text(json.dumps(MEASURES[what](), indent=1) + os.linesep)
