"""What bfloat16 does to the sound of a voice: the same clips and the same noise in both types.

    python egs/recorded_speech/bfloat16.py prompts-16k --data data/prompts-16k \
        --ids data/recorded/prompts/judge.txt

A CPU that does not multiply in bfloat16 computes the same sound, slowly.
"""

import argparse
import math
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from vocoder import load
from vocoder.data.speech.corpus import Corpus
from vocoder.data.speech.given_splits import read_list
from vocoder.judging import metrics
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

    def note(figure: str, value: float) -> None:
        found.setdefault(figure, []).append(value)

    for name in tqdm(wanted, desc="clips", disable=None):
        recording = corpus.audio(clips[name]).astype(np.float64) / 32768
        mel = torch.from_numpy(np.array(corpus.mel(clips[name])))
        sounds = {
            kind: voice.synthesize(mel, seed=0, refine=options.refine).numpy()
            for kind, voice in voices.items()
        }
        narrow, wide = (sounds[kind] for kind in TYPES)
        apart = np.square(wide - narrow).sum()
        note(LIKE_FLOAT32[0], 10 * math.log10(np.square(wide).sum() / apart))
        note(LIKE_FLOAT32[1], metrics.pesq(wide, narrow, rate))
        for kind, sound in sounds.items():
            note(f"DNSMOS overall, {kind}", metrics.dnsmos_overall(sound, rate))
            note(f"DNSMOS P.808, {kind}", metrics.dnsmos_p808(sound, rate))
            note(f"PESQ, {kind}", metrics.pesq(recording, sound, rate))
            note(f"STOI, {kind}", metrics.stoi(recording, sound, rate))
    for figure in LIKE_FLOAT32:
        values = np.array(found[figure])
        print(f"{figure}: mean {values.mean():.3f}, least {values.min():.3f}")
    print("\n| | bfloat16 | float32 | difference, 95 % |\n|---|---|---|---|")
    for figure in ("DNSMOS overall", "DNSMOS P.808", "PESQ", "STOI"):
        narrow, wide = (np.array(found[f"{figure}, {kind}"]) for kind in TYPES)
        apart = paired_difference(narrow, wide)
        interval = f"{apart.mean:+.4f} ({apart.low:+.4f} to {apart.high:+.4f})"
        print(f"| {figure} | {narrow.mean():.4f} | {wide.mean():.4f} | {interval} |")


if __name__ == "__main__":
    main()
