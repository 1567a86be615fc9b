"""The triangular filters are those of librosa, and need no librosa."""

from __future__ import annotations

import subprocess
import sys

import librosa
import numpy as np
import pytest

from vocoder.mel.filterbank import triangular_filters
from vocoder.mel.presets import PRESETS

SHAPES = [
    *((p.sample_rate, p.n_fft, p.n_mels, p.f_min, p.f_max) for p in PRESETS.values()),
    (16000, 512, 128, 0.0, 8000.0),  # bands narrower than a bin
    (8000, 256, 1, 300.0, 3400.0),
    (48000, 2048, 20, 900.0, 1100.0),  # around the break of Slaney's scale
]


@pytest.mark.parametrize("norm", ["slaney", "none"])
@pytest.mark.parametrize("scale", ["slaney", "htk"])
@pytest.mark.filterwarnings("ignore:Empty filters")
def test_they_are_those_of_librosa(scale: str, norm: str) -> None:
    for rate, n_fft, n_mels, f_min, f_max in SHAPES:
        expected = librosa.filters.mel(
            sr=rate,
            n_fft=n_fft,
            n_mels=n_mels,
            fmin=f_min,
            fmax=f_max,
            htk=scale == "htk",
            norm=None if norm == "none" else norm,
            dtype=np.float64,
        )
        ours = triangular_filters(rate, n_fft, n_mels, f_min, f_max, scale, norm)  # type: ignore[arg-type]
        assert not ours.flags.writeable
        np.testing.assert_allclose(ours, expected, atol=1e-12 * expected.max(), rtol=0)


CORE = """
import sys
for missing in ("librosa", "soundfile", "torchaudio", "tensorboard", "numba"):
    sys.modules[missing] = None
import torch
from vocoder.mel.spectrogram import MelSpectrogram
from vocoder.recipe import load_recipe
from vocoder.registry import find_model
from vocoder.voice.flow import FlowVocoder

recipe = load_recipe("tiny/sourceflow")
model = find_model(recipe.model)[0](recipe.config)
mel = MelSpectrogram(recipe.preset)(0.1 * torch.randn(1, 4096))
cond = model.condition(mel)
sum(model.losses(0.1 * torch.randn(1, 2048), cond, 256).values()).backward()
FlowVocoder(model, recipe.preset, device="cpu").synthesize(mel, [mel.shape[2]])
"""


def test_the_core_trains_and_speaks_without_what_reads_sound_or_draws() -> None:
    """As on a bare machine with a GPU: torch, numpy, safetensors, PyYAML and click are there."""
    result = subprocess.run([sys.executable, "-c", CORE], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-2000:]
