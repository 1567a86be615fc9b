"""From audio to the mel-spectrogram of a preset."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from vocoder.errors import VocoderError
from vocoder.mel.compression import compress
from vocoder.mel.presets import MelPreset, get_preset
from vocoder.mel.stft import block_frames, pad, stft


class MelSpectrogram(nn.Module):
    """Turn audio into the mel-spectrogram of a preset.

    It has no state: filters and window follow the device and dtype of the audio.
    """

    def __init__(self, preset: MelPreset | str) -> None:
        super().__init__()
        self.preset = get_preset(preset) if isinstance(preset, str) else preset

    def forward(self, audio: Tensor | npt.NDArray[Any]) -> Tensor | npt.NDArray[Any]:
        """Compute the mel-spectrogram; differentiable for tensors.

        Args:
            audio: Samples (B, N) or (N,) of full scale ±1, at the preset's sample rate, as a tensor
                or an array. Half precision is computed, and returned, in float32.

        Returns:
            The mel (B, M, F) or (M, F), with F = `preset.n_frames(N)`; an array where `audio` is
            one.

        Raises:
            VocoderError: The audio does not hold floats of that shape, or is too short.
        """
        if isinstance(audio, np.ndarray):
            native = np.ascontiguousarray(audio, audio.dtype.newbyteorder("="))
            return self._mel(torch.from_numpy(native)).numpy()
        return self._mel(audio)

    def _mel(self, audio: Tensor) -> Tensor:
        preset = self.preset
        if not audio.is_floating_point():
            raise VocoderError(f"audio: is {audio.dtype}; scale it to floats in [-1, 1]")
        if audio.ndim == 1:
            return self._mel(audio[None])[0]
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
        padded = pad(audio, preset)
        n_frames, hop = preset.n_frames(n_samples), preset.hop_length
        n_blocks = math.ceil(n_batch * n_frames / block_frames(audio.device))
        block = math.ceil(n_frames / max(1, n_blocks))
        mels = []
        # Autocast would multiply with the filters in half precision.
        with torch.autocast(audio.device.type, enabled=False):
            for start in range(0, n_frames, block):
                end = min(start + block, n_frames)
                part = padded[:, start * hop : (end - 1) * hop + preset.n_fft]
                mels.append(mel_of_spectrum(stft(part, preset), preset))
        return torch.cat(mels, dim=-1)

    def extra_repr(self) -> str:
        """Name the preset where the module is printed."""
        return repr(self.preset.name)


def mel_of_spectrum(spectrum: Tensor, preset: MelPreset) -> Tensor:
    """Return the mel (B, M, F) of spectra (B, F, K); differentiable.

    Args:
        spectrum: Complex spectra as `stft` gives them.
        preset: The preset of spectra and mel.
    """
    groups = _filters(preset, spectrum.device, spectrum.real.dtype)
    parts = torch.view_as_real(spectrum[..., : groups[-1][0].stop]).square()
    power = parts[..., 0] + parts[..., 1]
    if preset.power_offset:
        power = power + preset.power_offset
    if preset.spectrum == "magnitude":
        # The tiny floor keeps the gradient of the root finite in digital silence.
        tiny = torch.finfo(power.dtype).tiny
        power = power.clamp_min(max(preset.power_floor, tiny)).sqrt()
    elif preset.power_floor:
        power = power.clamp_min(preset.power_floor)
    # One plain product a group: a batched one, even of a single item, is a third slower.
    rows = power.flatten(0, 1)
    x = torch.cat([filters @ rows[:, bins].mT for bins, filters in groups])
    return compress(x.unflatten(1, power.shape[:2]).movedim(0, 1), preset)


@functools.lru_cache(maxsize=64)
def _filters(
    preset: MelPreset, device: torch.device, dtype: torch.dtype
) -> list[tuple[slice, Tensor]]:
    """Return the filters in groups (bins, (M/4, K)).

    Low filters reach over a few bins only; in four groups the product costs a quarter.
    """
    filters = preset.filterbank()
    groups = []
    # What is made in inference mode could not serve a later backward pass.
    with torch.inference_mode(False):
        for group in np.array_split(filters, min(4, preset.n_mels)):
            used = np.flatnonzero(group.any(axis=0))
            bins = slice(int(used.min(initial=0)), int(used.max(initial=0)) + 1)
            groups.append((bins, torch.tensor(group[:, bins], dtype=dtype, device=device)))
    return groups
