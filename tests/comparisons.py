"""A comparison with everything that can go wrong in its texts, and examples for a report."""

from __future__ import annotations

import numpy as np

from vocoder.judging.comparison import Comparison, VoiceScores
from vocoder.judging.report import Example
from vocoder.mel.presets import get_preset

RATE = 22050
HOSTILE = "</script><script>alert('x')</script><img src=x onerror=alert(1)>\"' &amp; 𝄞"


def made_up(n_clips: int = 3, voices: tuple[str, ...] = ("recording", "griffin-lim", HOSTILE)):
    """Return a comparison with random figures, the recording ideal and the last voice a whisper."""
    random = np.random.default_rng(0)
    scores = []
    for index, name in enumerate(voices):
        distance = np.zeros(n_clips) if name == "recording" else index + random.random(n_clips)
        values = {
            "mel_distance": distance,
            "f0_rmse": distance * 10 if name != HOSTILE else np.full(n_clips, np.nan),
            "stoi": 1 - distance / 10,
        }
        scores.append(VoiceScores(name, values))
    return Comparison(
        data=f"data/{HOSTILE}",
        preset=get_preset("tacotron2-22k"),
        clips=tuple(f"{HOSTILE} {i}" for i in range(n_clips)),
        seconds=(0.5,) * n_clips,
        voices=tuple(scores),
        temperature=1.0,
        seed=0,
        device="cpu",
        notes=(f"note {HOSTILE}",),
    )


def examples_of(comparison: Comparison, n_examples: int = 2) -> list[Example]:
    time = np.arange(RATE // 2) / RATE
    others = [voice.name for voice in comparison.voices if voice.name != "recording"]
    return [
        Example(
            clip,
            0.5 * np.sin(2 * np.pi * 500 * time),
            {
                name: 0.5 * np.sin(2 * np.pi * 1000 * (i + 1) * time)
                for i, name in enumerate(others)
            },
        )
        for clip in comparison.clips[:n_examples]
    ]
