"""How far a stream is from the whole utterance, by the overlap of its blocks.

    pip install matplotlib
    python egs/streaming_error.py prompts-22k -o docs/pictures/streaming-error.png

speaks a loud sustained vowel and a sentence with every voice named, as a whole and as a stream, and
measures the difference at the seams: the frame before and the frame after each edge of a block,
against the level of the whole there. It prints a table, and draws it with -o.

    python egs/streaming_error.py --blocks runs/mine

says instead how long a voice computes for a block of its stream, causal or not.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from statistics import median

import numpy as np
import torch

import vocoder

OVERLAPS = (0, 1, 2, 4, 6, 8, 12, 16, 24, 32, 40)
BLOCK = 32
SENTENCE = Path(__file__).parent / "quickstart" / "mels" / "squirrel.npz"


def vowel(rate: int, seconds: float = 2.0, pitch: float = 120.0) -> torch.Tensor:
    """Return a sustained /a/ at full scale: harmonics, three formants, a little vibrato."""
    time = np.arange(int(seconds * rate)) / rate
    phase = 2 * np.pi * pitch * (time - 0.002 * np.cos(2 * np.pi * 5 * time))
    audio = np.zeros_like(time)
    for harmonic in range(1, int(rate / 2 / pitch)):
        frequency = harmonic * pitch
        formants = ((700, 130), (1220, 110), (2600, 160))
        gain = sum(1 / (1 + ((frequency - f) / width) ** 2) for f, width in formants)
        audio += gain / harmonic**0.5 * np.sin(harmonic * phase)
    return torch.from_numpy((0.95 * audio / np.abs(audio).max()).astype(np.float32))


def seam_error(whole: torch.Tensor, stream: torch.Tensor, hop: int) -> float:
    """Return the error of the worst seam in dB below the level of the whole there."""
    ratios = []
    for edge in range(BLOCK * hop, len(whole) - hop, BLOCK * hop):
        seam = slice(edge - hop, edge + hop)
        error = (stream[seam] - whole[seam]).double().square().mean()
        ratios.append(error / whole[seam].double().square().mean())
    return 10 * float(torch.stack(ratios).max().clamp(min=1e-20).log10())


def measure(voice: vocoder.Vocoder, mel: torch.Tensor) -> dict[int, float]:
    """Return the error of the worst seam for each overlap."""
    whole = voice.synthesize(mel, seed=0)
    errors = {}
    for overlap in OVERLAPS:
        parts = voice.stream([mel], seed=0, block_frames=BLOCK, overlap_frames=overlap)
        errors[overlap] = seam_error(whole, torch.cat(list(parts)), voice.hop_length)
    return errors


def time_block(voice: vocoder.Vocoder) -> str:
    """Say how long a block of the voice's stream takes."""
    mel = voice.mel(vowel(voice.sample_rate))
    stream = voice.stream(mel.split(1, dim=1), seed=0)
    seconds, samples = [], []
    while True:
        start = time.perf_counter()
        part = next(stream, None)
        if part is None:
            break
        seconds.append(time.perf_counter() - start)
        samples.append(len(part))
    audio = 1000 * samples[0] / voice.sample_rate
    return f"{1000 * median(seconds):.0f} ms of computing for a block of {audio:.0f} ms of audio"


def main() -> None:
    """Measure the voices named, print a table, and draw it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("voices", nargs="+")
    parser.add_argument("-o", "--out", type=Path)
    parser.add_argument("--blocks", action="store_true")
    arguments = parser.parse_args()
    if arguments.blocks:
        for name in arguments.voices:
            print(f"{Path(name).name}: {time_block(vocoder.load(name))}", flush=True)
        return
    curves = {}
    print(f"{'overlap, frames':<40}", *(f"{overlap:>5}" for overlap in OVERLAPS))
    for name in arguments.voices:
        voice = vocoder.load(name)
        mels = {
            "vowel": voice.mel(vowel(voice.sample_rate)),
            "speech": torch.from_numpy(np.load(SENTENCE)["mel"][:, :160]).float(),
        }
        for kind, mel in mels.items():
            curves[name, kind] = measure(voice, mel)
            row = (f"{error:>5.0f}" for error in curves[name, kind].values())
            print(f"{f'{Path(name).name}: {kind}':<40}", *row, flush=True)
    if arguments.out is not None:
        draw(curves, arguments.out)


def draw(curves: dict[tuple[str, str], dict[int, float]], path: Path) -> None:
    """Draw the curves."""
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 5), layout="constrained")
    colours = {name: f"C{i}" for i, name in enumerate(dict.fromkeys(name for name, _ in curves))}
    for (name, kind), errors in curves.items():
        style = {"linestyle": "-", "marker": "o"} if kind == "vowel" else {"linestyle": ":"}
        label = f"{Path(name).name}, {kind}"
        axes.plot(list(errors), list(errors.values()), color=colours[name], label=label, **style)
    axes.axhline(-60, color="grey", linestyle="--")
    axes.set_xlabel("overlap on each side, frames")
    axes.set_ylabel("error of the worst seam against the signal, dB")
    axes.set_title(f"Streams against the whole utterance, blocks of {BLOCK} frames")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
