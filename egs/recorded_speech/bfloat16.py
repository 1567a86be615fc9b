"""What bfloat16 does to the sound of a voice: the same clips and the same noise in both types.

    python egs/recorded_speech/bfloat16.py prompts-16k --data data/prompts-16k \
        --ids data/recorded/prompts/judge.txt

A CPU that does not multiply in bfloat16 computes the same sound, slowly.
"""

import argparse
import contextlib
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from tqdm import tqdm

from vocoder import load
from vocoder.data.speech.corpus import Corpus
from vocoder.data.speech.given_splits import read_list
from vocoder.judging import metrics
from vocoder.judging.comparison import VoiceScores
from vocoder.judging.paired import paired_difference

TYPES = ("bfloat16", "float32")
LIKE_FLOAT32 = ("decibels of float32 against the difference", "PESQ of bfloat16 against float32")


def main() -> None:
    """Speak the clips in both types, and print what differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("voice")
    parser.add_argument("--data", type=Path, required=True, help="a preprocessed corpus")
    parser.add_argument("--ids", type=Path, required=True, help="the clips to speak, an id a line")
    parser.add_argument("--clips", type=int, help="only so many, the first ones")
    parser.add_argument("--refine", type=int, default=16, help="steps of mel consistency")
    options = parser.parse_args()
    corpus = Corpus.open(options.data)
    wanted = [name for _, name in read_list(options.ids)][: options.clips]
    clips = {clip.id: clip for clip in corpus.manifest.utterances}
    voices = {name: load(options.voice, device="cpu", dtype=name) for name in TYPES}
    rate = corpus.preset.sample_rate
    found: dict[str, list[float]] = {}

    def note(figure: str, measure: Callable[..., float], *arguments: Any) -> None:
        value = math.nan  # of a clip without enough speech, say
        with contextlib.suppress(metrics.UndefinedFigureError):
            value = measure(*arguments)
        found.setdefault(figure, []).append(value)

    for name in tqdm(wanted, desc="clips", disable=None):
        recording = corpus.audio(clips[name]).astype(np.float64) / 32768
        mel = torch.from_numpy(np.array(corpus.mel(clips[name])))
        sounds = {
            kind: voice.synthesize(mel, seed=0, refine=options.refine).numpy()
            for kind, voice in voices.items()
        }
        narrow, wide = (sounds[kind] for kind in TYPES)
        note(LIKE_FLOAT32[0], decibels_over, wide, wide - narrow)
        note(LIKE_FLOAT32[1], metrics.pesq, wide, narrow, rate)
        for kind, sound in sounds.items():
            note(f"DNSMOS overall, {kind}", metrics.dnsmos_overall, sound, rate)
            note(f"DNSMOS P.808, {kind}", metrics.dnsmos_p808, sound, rate)
            note(f"PESQ, {kind}", metrics.pesq, recording, sound, rate)
            note(f"STOI, {kind}", metrics.stoi, recording, sound, rate)
    scores = VoiceScores("both", {figure: np.array(values) for figure, values in found.items()})
    for figure in LIKE_FLOAT32:
        mean, _, n = scores.summary(figure)
        print(f"{figure}: mean {mean:.3f}, least {np.nanmin(scores.values[figure]):.3f}, {n} clips")
    print("\n| | bfloat16 | float32 | difference, 95 % | clips |\n|---|---|---|---|---|")
    for figure in ("DNSMOS overall", "DNSMOS P.808", "PESQ", "STOI"):
        of_types = [f"{figure}, {kind}" for kind in TYPES]
        means = " | ".join(f"{scores.summary(name)[0]:.4f}" for name in of_types)
        mean, low, high, n = paired_difference(*(scores.values[name] for name in of_types))
        print(f"| {figure} | {means} | {mean:+.4f} ({low:+.4f} to {high:+.4f}) | {n} |")


def decibels_over(sound: npt.NDArray[np.float32], difference: npt.NDArray[np.float32]) -> float:
    """Return by how many decibels a sound (N,) is stronger than a difference (N,)."""
    return 10 * math.log10(np.square(sound).sum() / np.square(difference).sum())


if __name__ == "__main__":
    main()
