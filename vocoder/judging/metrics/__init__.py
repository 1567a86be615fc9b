"""How near one recording comes to another: one function a figure, each (reference, estimate, rate).

docs/evaluation.md tells what each figure is good for, and its traps.
"""

from __future__ import annotations

from vocoder.judging.metrics.pair import UndefinedFigureError
from vocoder.judging.metrics.perceptual import pesq, stoi
from vocoder.judging.metrics.pitch import f0_rmse, voicing_f1
from vocoder.judging.metrics.spectral import (
    log_spectral_distance,
    mel_cepstral_distortion,
    mel_distance,
)
from vocoder.judging.metrics.tones import tone_bias, tone_levels

__all__ = [
    "UndefinedFigureError",
    "f0_rmse",
    "log_spectral_distance",
    "mel_cepstral_distortion",
    "mel_distance",
    "pesq",
    "stoi",
    "tone_bias",
    "tone_levels",
    "voicing_f1",
]
