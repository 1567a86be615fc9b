"""How many mel-consistency steps help a voice: figures by the number of steps, paired over clips.

    pip install 'vocoder[metrics]'
    python egs/mel_consistency.py griffin-lim --data data/prompts-16k

speaks the validation clips of a corpus with each number of steps, sets them against the recordings,
and prints a table with the paired change from one row to the next and its 95 % interval. Of several
numbers of steps, the last line names the smallest after which the mean DNSMOS overall rises by no
more than that interval, or says that it still rises.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import math
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from tqdm import tqdm

from vocoder.data.speech.corpus import Corpus, Utterance
from vocoder.judging import metrics
from vocoder.judging.comparison import FIGURES, Comparison, VoiceScores
from vocoder.voice.griffin_lim import GriffinLimVocoder
from vocoder.voice.load import load
from vocoder.voice.vocoder import Vocoder

NAMES = ("dnsmos_overall", "dnsmos_p808", "stoi", "pesq", "log_spectral_distance", "mel_distance")
Sound = npt.NDArray[np.float64]


def figure(name: str, recording: Sound, audio: Sound, corpus: Corpus) -> float:
    """Return a figure of a clip, NaN where it has none."""
    rate = corpus.preset.sample_rate
    measure: dict[str, Callable[[], float]] = {
        "dnsmos_overall": lambda: metrics.dnsmos_overall(audio, rate),
        "dnsmos_p808": lambda: metrics.dnsmos_p808(audio, rate),
        "stoi": lambda: metrics.stoi(recording, audio, rate),
        "pesq": lambda: metrics.pesq(recording, audio, rate),
        "log_spectral_distance": lambda: metrics.log_spectral_distance(recording, audio, rate),
        "mel_distance": lambda: metrics.mel_distance(recording, audio, rate, preset=corpus.preset),
    }
    with contextlib.suppress(metrics.UndefinedFigureError):
        return measure[name]()
    return math.nan


def score(voice: Vocoder, corpus: Corpus, clips: list[Utterance], steps: list[int]) -> Comparison:
    """Return the figures of each number of steps, as of a voice by that name."""
    values: dict[str, dict[str, list[float]]] = {
        str(n): {name: [] for name in NAMES} for n in ["recording", *steps]
    }
    for clip in tqdm(clips, desc="clips", disable=None):
        recording = corpus.audio(clip).astype(np.float64) / 32768
        sounds = {"recording": recording}
        for n in steps:
            audio = voice.synthesize(torch.tensor(corpus.mel(clip)), seed=0, refine=n).cpu().numpy()
            sounds[str(n)] = audio[: len(recording)].astype(np.float64)
        for row, audio in sounds.items():
            for name in NAMES:
                values[row][name].append(figure(name, recording, audio, corpus))
    return Comparison(
        data="",
        preset=corpus.preset,
        clips=tuple(clip.id for clip in clips),
        seconds=tuple(clip.n_samples / corpus.preset.sample_rate for clip in clips),
        voices=tuple(
            VoiceScores(row, {name: np.array(own) for name, own in figures.items()})
            for row, figures in values.items()
        ),
        temperature=1.0,
        seed=0,
        device=str(voice.device),
    )


def table(found: Comparison) -> str:
    """Return the means in Markdown, and below each row its change since the one above."""
    lines = [
        "| steps | " + " | ".join(FIGURES[name].label for name in NAMES) + " |",
        "|---" * (len(NAMES) + 1) + "|",
    ]
    before = None
    for scores in found.voices:
        means = [f"{scores.summary(name)[0]:.{FIGURES[name].n_decimals + 1}f}" for name in NAMES]
        lines.append(f"| {scores.name} | " + " | ".join(means) + " |")
        if before is not None:
            changes = []
            for name in NAMES:
                mean, low, _, _ = found.difference(name, scores.name, before)
                changes.append(f"{mean:+.3f} ± {mean - low:.3f}")
            lines.append("| | " + " | ".join(changes) + " |")
        before = scores.name if scores.name != "recording" else None
    return "\n".join(lines)


def verdict(found: Comparison, steps: list[int]) -> str:
    """Say after how many steps DNSMOS overall rises by no more than its interval, if it does."""
    for few, more in itertools.pairwise(steps):
        if found.difference("dnsmos_overall", str(more), str(few))[1] <= 0:
            return f"enough: {few} steps"
    return f"DNSMOS overall still rises at {steps[-1]} steps; measure more"


def main() -> None:
    """Measure a voice."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument(
        "voice",
        nargs="?",
        default="griffin-lim",
        help="measure this checkpoint, run folder or shipped voice; by default griffin-lim",
    )
    parser.add_argument(
        "--data", type=Path, required=True, help="speak the clips of this preprocessed corpus"
    )
    parser.add_argument(
        "--split",
        default="validation",
        choices=["validation", "test"],
        help="speak the clips of this split",
    )
    parser.add_argument(
        "--ids", type=Path, help="take only the clips whose ids this file names, one a line"
    )
    parser.add_argument("--clips", type=int, help="take so many clips, evenly spread")
    parser.add_argument(
        "--seconds", type=float, default=2.0, help="leave out clips that are shorter"
    )
    parser.add_argument(
        "--steps",
        type=int,
        nargs="+",
        default=[0, 1, 2, 4, 8],
        help="measure each of these numbers of steps",
    )
    arguments = parser.parse_args()
    corpus = Corpus.open(arguments.data)
    least = arguments.seconds * corpus.preset.sample_rate
    clips = [clip for clip in corpus.utterances(arguments.split) if clip.n_samples >= least]
    if arguments.ids is not None:
        wanted = set(arguments.ids.read_text(encoding="utf-8").split())
        clips = [clip for clip in clips if clip.id in wanted]
    if arguments.clips is not None:
        clips = clips[:: max(1, len(clips) // arguments.clips)][: arguments.clips]
    if not clips:
        sys.exit(f"{arguments.data}: no {arguments.split} clips of that length")
    voice: Vocoder = (
        GriffinLimVocoder(corpus.preset)
        if arguments.voice == "griffin-lim"
        else load(arguments.voice)
    )
    found = score(voice, corpus, clips, arguments.steps)
    print(f"{arguments.voice}: {len(clips)} {arguments.split} clips, {sum(found.seconds):.0f} s\n")
    print(table(found))
    if len(arguments.steps) > 1:
        print(f"\n{verdict(found, arguments.steps)}")


if __name__ == "__main__":
    main()
