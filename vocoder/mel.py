"""Audio to mel-spectrograms, from one recipe to another, and back without a trained voice."""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vocoder.errors import VocoderError
from vocoder.presets import PRESETS, MelPreset, get_preset, preset_difference

__all__ = [
    "PRESETS",
    "MelPreset",
    "MelSpectrogram",
    "get_preset",
    "preset_difference",
]

# Frames transformed at once. On a CPU the block stays in the cache; elsewhere it only bounds the
# memory that an hour of audio takes.
_CPU_BLOCK = 256
_DEVICE_BLOCK = 16384


class MelSpectrogram(nn.Module):
    """Turn audio into the mel-spectrogram of a preset.

    It has no state: filters and window follow the device and dtype of the audio.
    """

    def __init__(self, preset: MelPreset | str) -> None:
        super().__init__()
        self.preset = get_preset(preset) if isinstance(preset, str) else preset

    def forward(self, audio: Tensor) -> Tensor:
        """Compute the mel-spectrogram; differentiable.

        Args:
            audio: (B, N) or (N,), full scale ±1, at the preset's sample rate. Half precision is
                computed, and returned, in float32.

        Returns:
            (B, M, F) or (M, F), with F = `preset.n_frames(N)`.

        Raises:
            VocoderError: the audio is no floating-point tensor of that shape, or too short.
        """
        preset = self.preset
        if not audio.is_floating_point():
            raise VocoderError(f"audio: is {audio.dtype}; scale it to floats in [-1, 1]")
        if audio.ndim == 1:
            return self(audio[None])[0]
        if audio.ndim != 2:
            raise VocoderError(f"audio: has shape {tuple(audio.shape)}; expected (B, N) or (N,)")
        n_batch, n_samples = audio.shape
        if n_samples < preset.min_samples:
            raise VocoderError(
                f"audio: {n_samples} samples are too few for preset {preset.name}; "
                f"it needs at least {preset.min_samples}"
            )
        if audio.dtype not in (torch.float32, torch.float64):
            audio = audio.float()
        padded = F.pad(audio, preset.pad_widths(n_samples), mode=preset.pad_mode)
        n_frames, hop = preset.n_frames(n_samples), preset.hop_length
        block = max(1, (_CPU_BLOCK if audio.device.type == "cpu" else _DEVICE_BLOCK) // n_batch)
        # Autocast would multiply with the filters in half precision.
        with torch.autocast(audio.device.type, enabled=False):
            mels = [
                self._frames(
                    padded[:, start * hop : (min(start + block, n_frames) - 1) * hop + preset.n_fft]
                )
                for start in range(0, n_frames, block)
            ]
            return torch.cat(mels, dim=-1)

    def _frames(self, padded: Tensor) -> Tensor:
        """Compute the mel (B, M, F) of audio that holds its padding."""
        preset = self.preset
        window, filters = _transform(preset, padded.device, padded.dtype)
        spectrum = torch.stft(
            padded,
            n_fft=preset.n_fft,
            hop_length=preset.hop_length,
            win_length=preset.win_length,
            window=window,
            center=False,
            normalized=False,
            onesided=True,
            return_complex=True,
        )[:, : filters.shape[1]]
        power = spectrum.real.square() + spectrum.imag.square()
        if preset.power_offset:
            power = power + preset.power_offset
        if preset.spectrum == "magnitude":
            # The tiny floor keeps the gradient of the root finite in digital silence.
            tiny = torch.finfo(power.dtype).tiny
            power = power.clamp_min(max(preset.power_floor, tiny)).sqrt()
        elif preset.power_floor:
            power = power.clamp_min(preset.power_floor)
        return _compress(filters @ power, preset)

    def extra_repr(self) -> str:
        """Name the preset where the module is printed."""
        return repr(self.preset.name)


@functools.lru_cache(maxsize=64)
def _transform(
    preset: MelPreset, device: torch.device, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Return the window (win_length,) and the filters (M, K), K bins up to the last one used."""
    # What is made in inference mode could not serve a later backward pass.
    with torch.inference_mode(False):
        window = torch.hann_window(preset.win_length, periodic=True, dtype=dtype, device=device)
        filters = preset.filterbank()
        n_bins = int(filters.any(axis=0).nonzero()[0].max()) + 1
        return window, torch.tensor(filters[:, :n_bins], dtype=dtype, device=device)


def _compress(x: Tensor, preset: MelPreset) -> Tensor:
    """Apply the preset's logarithm, scale, shift and clip to the filters' outputs."""
    mel = x.clamp_min(preset.floor)
    if preset.log != "none":
        mel = mel.log() if preset.log == "ln" else mel.log10()
    if (preset.scale, preset.shift) != (1.0, 0.0):
        mel = mel * preset.scale + preset.shift
    return mel if preset.clip is None else mel.clamp(*preset.clip)
