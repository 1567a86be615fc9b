"""From audio to the mel-spectrogram of a preset."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vocoder.errors import VocoderError
from vocoder.mel.compression import compress
from vocoder.mel.presets import MelPreset, get_preset

# Frames transformed at once. On a CPU the block stays in the cache; elsewhere it only bounds the
# memory that an hour of audio takes.
_BLOCK = {"cpu": 256}
_DEVICE_BLOCK = 16384


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
            VocoderError: the audio does not hold floats of that shape, or is too short.
        """
        if isinstance(audio, np.ndarray):
            return self._mel(torch.from_numpy(np.ascontiguousarray(audio))).numpy()
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
        padded = _pad(audio, preset)
        n_frames, hop = preset.n_frames(n_samples), preset.hop_length
        n_blocks = math.ceil(n_batch * n_frames / _BLOCK.get(audio.device.type, _DEVICE_BLOCK))
        block = math.ceil(n_frames / max(1, n_blocks))
        mels = []
        # Autocast would multiply with the filters in half precision.
        with torch.autocast(audio.device.type, enabled=False):
            for start in range(0, n_frames, block):
                end = min(start + block, n_frames)
                mels.append(self._frames(padded[:, start * hop : (end - 1) * hop + preset.n_fft]))
        return torch.cat(mels, dim=-1)

    def _frames(self, padded: Tensor) -> Tensor:
        """Compute the mel (B, M, F) of audio that holds its padding."""
        preset = self.preset
        window, groups = _transform(preset, padded.device, padded.dtype)
        # As torch.stft does it, but with frames as rows, which suit all that follows.
        frames = padded.unfold(-1, preset.n_fft, preset.hop_length) * window
        spectrum = torch.fft.rfft(frames)[..., : groups[-1][0].stop]
        parts = torch.view_as_real(spectrum).square()
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

    def extra_repr(self) -> str:
        """Name the preset where the module is printed."""
        return repr(self.preset.name)


@functools.lru_cache(maxsize=64)
def _transform(
    preset: MelPreset, device: torch.device, dtype: torch.dtype
) -> tuple[Tensor, list[tuple[slice, Tensor]]]:
    """Return the window (n_fft,) and the filters in groups (bins, (M/4, K)).

    Low filters reach over a few bins only; in four groups the product costs a quarter.
    """
    filters = preset.filterbank()
    groups = []
    # What is made in inference mode could not serve a later backward pass.
    with torch.inference_mode(False):
        window = torch.hann_window(preset.win_length, periodic=True, dtype=dtype, device=device)
        before = (preset.n_fft - preset.win_length) // 2
        window = F.pad(window, (before, preset.n_fft - preset.win_length - before))
        for group in np.array_split(filters, min(4, preset.n_mels)):
            used = np.flatnonzero(group.any(axis=0))
            bins = slice(int(used.min(initial=0)), int(used.max(initial=0)) + 1)
            groups.append((bins, torch.tensor(group[:, bins], dtype=dtype, device=device)))
    return window, groups


def _pad(audio: Tensor, preset: MelPreset) -> Tensor:
    """Pad (B, N) on both sides as the preset says."""
    left, right = preset.pad_widths(audio.shape[1])
    if preset.pad_mode == "constant":
        return F.pad(audio, (left, right))
    # F.pad reflects sample by sample, which costs half as much time as the transform itself.
    head, tail = audio[:, 1 : left + 1].flip(1), audio[:, -right - 1 : -1].flip(1)
    return torch.cat([head, audio, tail], dim=1)
