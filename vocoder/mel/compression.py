"""How a preset compresses the amplitudes of its bands, and what undoes it."""

from __future__ import annotations

import torch
from torch import Tensor

from vocoder.errors import VocoderError
from vocoder.mel.presets import MelPreset


def compress(x: Tensor, preset: MelPreset) -> Tensor:
    """Apply the preset's logarithm, scale, shift and clip to the filters' outputs."""
    mel = x.clamp_min(preset.floor)
    if preset.log != "none":
        mel = mel.log() if preset.log == "ln" else mel.log10()
    if (preset.scale, preset.shift) != (1.0, 0.0):
        mel = mel * preset.scale + preset.shift
    return mel if preset.clip is None else mel.clamp(*preset.clip)


def expand(mel: Tensor, preset: MelPreset) -> Tensor:
    """Undo `compress`: return the filters' outputs."""
    x = (mel - preset.shift) / preset.scale
    if preset.log == "none":
        return x
    return x.exp() if preset.log == "ln" else torch.pow(10.0, x)


# What follows the filters, which can be undone and done again.
COMPRESSION_FIELDS = ("log", "floor", "scale", "shift", "clip")


def check_bands(mel: Tensor, preset: MelPreset) -> None:
    """Raise a `VocoderError` unless `mel`, (…, M, F), has the bands of the preset."""
    if mel.ndim < 2 or mel.shape[-2] != preset.n_mels:
        raise VocoderError(
            f"mel: has shape {tuple(mel.shape)}; preset {preset.name} has {preset.n_mels} bands, "
            f"expected (..., {preset.n_mels}, F)"
        )
