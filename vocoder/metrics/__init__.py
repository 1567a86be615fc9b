"""How near one recording comes to another: one function a figure, each (reference, estimate, rate).

docs/evaluation.md tells what each figure is good for, and its traps.
"""

from __future__ import annotations

from vocoder.metrics.pair import UndefinedFigureError
from vocoder.metrics.perceptual import pesq, stoi
from vocoder.metrics.pitch import f0_rmse, voicing_f1
from vocoder.metrics.spectral import log_spectral_distance, mel_cepstral_distortion, mel_distance
from vocoder.metrics.tones import tone_bias, tone_levels

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
