"""How good a recording is: one function a figure.

Most take (reference, estimate, rate) and tell how near the one comes to the other; DNSMOS takes
(audio, rate), for it hears no reference.

docs/evaluation.md tells what each figure is good for, and its traps.
"""

from __future__ import annotations

from vocoder.judging.metrics.dnsmos import (
    dnsmos_background,
    dnsmos_overall,
    dnsmos_p808,
    dnsmos_signal,
)
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
    "dnsmos_background",
    "dnsmos_overall",
    "dnsmos_p808",
    "dnsmos_signal",
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
