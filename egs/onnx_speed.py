"""Time voices in onnxruntime beside the PyTorch engine: loading, speaking, memory.

    python egs/onnx_speed.py prompts-22k ljspeech/nanoflow-r64 ljspeech/waveflow-r64

A voice is a checkpoint, a run folder, a shipped voice, or a recipe, whose untrained model takes as
long as a trained one. Loading is from a file in the page cache, the import of the packages left
out. Both speak the same mel, in turn; the median counts.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime
import torch

from vocoder import checkpoint
from vocoder.benchmark import measuring
from vocoder.export.voice_file import export_onnx
from vocoder.recipe import list_recipes, load_recipe
from vocoder.registry import find_model
from vocoder.voice.load import load


def voice_of(name: str, folder: Path) -> str | Path:
    if name not in list_recipes():
        return name
    recipe = load_recipe(name)
    torch.manual_seed(0)
    path = folder / f"{name.replace('/', '-')}.safetensors"
    checkpoint.save(path, find_model(recipe.model)[0](recipe.config), recipe.preset)
    return path


def load_onnx(path: Path, n_threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = n_threads
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("voices", nargs="+")
    parser.add_argument("--seconds", type=float, default=2.0, help="of audio (default 2)")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--budget", type=float, default=60.0, help="seconds for each voice")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    cpu = torch.device("cpu")
    print(
        f"{measuring.device_name(cpu)}; torch {torch.__version__}, "
        f"onnxruntime {onnxruntime.__version__}; {arguments.seconds:g} s of audio\n"
    )
    print("| voice | runtime | file, MB | load, s | s per s of audio | peak memory, MB |")
    print("|---|---|---|---|---|---|")
    for name in arguments.voices:
        with tempfile.TemporaryDirectory() as text:
            folder = Path(text)
            source = voice_of(name, folder)
            load(source, device="cpu")  # imports what it needs
            start = time.perf_counter()
            voice = load(source, device="cpu")
            rows = {"PyTorch": ("", time.perf_counter() - start)}
            n_frames = round(arguments.seconds * voice.sample_rate / voice.hop_length)
            mel = voice.mel(0.05 * torch.randn(1, (n_frames + 8) * voice.hop_length))
            mel = mel[..., :n_frames]
            ways = {"PyTorch": partial(voice.synthesize, mel)}
            for precision in ("fp32", "fp16"):
                path = folder / f"{precision}.onnx"
                report = export_onnx(voice, path, precision=precision)
                start = time.perf_counter()
                session = load_onnx(path, arguments.threads)
                runtime = f"onnxruntime, {precision}"
                rows[runtime] = f"{report.n_bytes / 1e6:.1f}", time.perf_counter() - start
                inputs = {"mel": np.asarray(mel, np.float32)}
                ways[runtime] = partial(session.run, None, inputs)
            spoken = measuring.compare(ways, cpu, arguments.budget)
        duration = n_frames * voice.hop_length / voice.sample_rate
        for runtime, (size, loading) in rows.items():
            pace = spoken[runtime].seconds / duration
            peak = (spoken[runtime].peak_bytes or 0) / 1e6
            print(f"| {name} | {runtime} | {size} | {loading:.2f} | {pace:.2f} | {peak:.0f} |")


if __name__ == "__main__":
    main()
