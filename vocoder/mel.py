"""Audio to mel-spectrograms, from one recipe to another, and back without a trained voice."""

from __future__ import annotations

import dataclasses
import functools
import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vocoder.appearance import looks_like
from vocoder.device import as_float64
from vocoder.errors import VocoderError
from vocoder.presets import PRESETS, MelPreset, get_preset, preset_difference
from vocoder.seeds import check_seed

__all__ = [
    "PRESETS",
    "GriffinLim",
    "MelPreset",
    "MelSpectrogram",
    "convert_mel",
    "get_preset",
    "looks_like",
    "preset_difference",
]

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
        return _compress(x.unflatten(1, power.shape[:2]).movedim(0, 1), preset)

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


def _compress(x: Tensor, preset: MelPreset) -> Tensor:
    """Apply the preset's logarithm, scale, shift and clip to the filters' outputs."""
    mel = x.clamp_min(preset.floor)
    if preset.log != "none":
        mel = mel.log() if preset.log == "ln" else mel.log10()
    if (preset.scale, preset.shift) != (1.0, 0.0):
        mel = mel * preset.scale + preset.shift
    return mel if preset.clip is None else mel.clamp(*preset.clip)


def _expand(mel: Tensor, preset: MelPreset) -> Tensor:
    """Undo `_compress`: return the filters' outputs."""
    x = (mel - preset.shift) / preset.scale
    if preset.log == "none":
        return x
    return x.exp() if preset.log == "ln" else torch.pow(10.0, x)


# What follows the filters, which can be undone and done again.
_COMPRESSION_FIELDS = ("log", "floor", "scale", "shift", "clip")


def convert_mel(mel: Tensor, source: MelPreset | str, target: MelPreset | str) -> Tensor:
    """Convert a mel-spectrogram to another preset, where that is exact.

    It is when the presets differ in the base of the logarithm, scale, shift, floor and clip alone.
    Values below the target's floor or outside its clip come out at that bound. Values that lie at
    the source's floor or clip stand for anything beyond; they are converted as they are, so that a
    source with a higher floor gives a higher silence than the target's own.

    Args:
        mel: (..., M, F) as `source` describes it.
        source: a preset or its name.
        target: a preset or its name.

    Raises:
        VocoderError: the presets differ in anything else, or `mel` does not have M bands.
    """
    source = get_preset(source) if isinstance(source, str) else source
    target = get_preset(target) if isinstance(target, str) else target
    _check_mel(mel, source)
    compression = {field: getattr(target, field) for field in _COMPRESSION_FIELDS}
    obstacles = preset_difference(dataclasses.replace(source, **compression), target)
    if obstacles:
        raise VocoderError(
            f"no exact conversion of mels from {source.name} to {target.name}: "
            f"{', '.join(obstacles)}; compute them from the audio"
        )
    if not preset_difference(source, target):
        return mel
    # In float64 the way through the exponential costs no digit of a float32 mel.
    return _compress(_expand(as_float64(mel), source), target).to(mel)


def _check_mel(mel: Tensor, preset: MelPreset) -> None:
    if mel.ndim < 2 or mel.shape[-2] != preset.n_mels:
        raise VocoderError(
            f"mel: has shape {tuple(mel.shape)}; preset {preset.name} has {preset.n_mels} bands, "
            f"expected (..., {preset.n_mels}, F)"
        )


class GriffinLim:
    """Turn mel-spectrograms into audio without a trained voice: the baseline.

    The filters are undone by non-negative least squares, then phases are found that fit the
    magnitudes ("A fast Griffin-Lim algorithm", Perraudin, Balazs and Søndergaard, 2013).

    Args:
        preset: a preset or its name.
        n_iter: iterations of the phases.
    """

    momentum = 0.99

    def __init__(self, preset: MelPreset | str, n_iter: int = 60) -> None:
        self.preset = get_preset(preset) if isinstance(preset, str) else preset
        self.n_iter = n_iter

    @torch.no_grad()
    def __call__(self, mel: Tensor, *, seed: int = 0) -> Tensor:
        """Find audio with this mel-spectrogram.

        Args:
            mel: (B, M, F) or (M, F), as the preset describes it, on any device.
            seed: of the first phases; equal seeds give equal audio.

        Returns:
            (B, N) or (N,) with N = F·hop exactly; frame f of the mel lies where `MelSpectrogram`
            takes it from.

        Raises:
            VocoderError: `mel` has another shape, or `seed` is out of range.
        """
        check_seed(seed)
        _check_mel(mel, self.preset)
        if mel.ndim == 2:
            return self(mel[None], seed=seed)[0]
        if mel.ndim != 3:
            raise VocoderError(f"mel: has shape {tuple(mel.shape)}; expected (B, M, F) or (M, F)")
        mel = mel if mel.dtype == torch.float64 else mel.float()
        magnitude = self._magnitude(mel)
        generator = torch.Generator().manual_seed(seed)
        angles = torch.rand(magnitude.shape, generator=generator, dtype=mel.dtype) * 2 * math.pi
        phases = torch.polar(torch.ones_like(angles), angles).to(mel.device)
        window = self._window(mel)
        weight = self._overlap_add(window.square().expand(1, mel.shape[-1], -1)).clamp_min(1e-3)
        previous = torch.zeros_like(phases)
        for _ in range(self.n_iter):
            rebuilt = self._stft(self._istft(magnitude * phases, window) / weight, window)
            phases = rebuilt - self.momentum / (1 + self.momentum) * previous
            phases /= phases.abs().clamp_min(torch.finfo(mel.dtype).tiny)
            previous = rebuilt
        audio = self._istft(magnitude * phases, window) / weight
        n_samples = mel.shape[-1] * self.preset.hop_length
        left = self.preset.pad_widths(n_samples)[0]
        return audio[:, left : left + n_samples]

    def _magnitude(self, mel: Tensor) -> Tensor:
        """Return the magnitudes (B, F, K) whose mel-spectrogram is `mel` (B, M, F)."""
        preset = self.preset
        x = _expand(mel, preset).transpose(1, 2)
        filters = torch.tensor(preset.filterbank(), dtype=mel.dtype, device=mel.device)
        spectrum = _nonnegative_least_squares(x, filters)
        power = spectrum if preset.spectrum == "power" else spectrum.square()
        return (power - preset.power_offset).clamp_min(0).sqrt()

    def _window(self, like: Tensor) -> Tensor:
        preset = self.preset
        window = torch.hann_window(preset.win_length, dtype=like.dtype, device=like.device)
        left = (preset.n_fft - preset.win_length) // 2
        return F.pad(window, (left, preset.n_fft - preset.win_length - left))

    # The padding of the preset is part of the signal here, found like the rest of it; so every
    # padding is served, and the edges owe nothing to a reflection.
    def _stft(self, padded: Tensor, window: Tensor) -> Tensor:
        frames = padded.unfold(-1, self.preset.n_fft, self.preset.hop_length)
        return torch.fft.rfft(frames * window)

    def _istft(self, spectrum: Tensor, window: Tensor) -> Tensor:
        """Overlap and add frames (B, F, K); over the windows' squares it inverts `_stft`."""
        return self._overlap_add(torch.fft.irfft(spectrum, n=self.preset.n_fft) * window)

    def _overlap_add(self, frames: Tensor) -> Tensor:
        n_fft, hop = self.preset.n_fft, self.preset.hop_length
        n_samples = (frames.shape[1] - 1) * hop + n_fft
        folded = F.fold(frames.transpose(1, 2), (1, n_samples), (1, n_fft), stride=(1, hop))
        return folded[:, 0, 0]


def _nonnegative_least_squares(x: Tensor, filters: Tensor, n_iter: int = 30) -> Tensor:
    """Return s ≥ 0 (..., K) that minimises |s·filtersᵀ - x|², by accelerated projected gradient.

    Filters (M, K) of equal height weigh all bands alike, whatever their own normalisation.
    """
    height = filters.amax(dim=1).clamp_min(torch.finfo(filters.dtype).tiny)
    filters, x = filters / height[:, None], x / height
    step = 1 / torch.linalg.matrix_norm(filters, ord=2).square()
    solution = (x @ torch.linalg.pinv(filters).T).clamp_min(0)
    ahead, weight = solution, 1.0
    for _ in range(n_iter):
        following = (ahead - step * (ahead @ filters.T - x) @ filters).clamp_min(0)
        next_weight = (1 + math.sqrt(1 + 4 * weight * weight)) / 2
        ahead = following + (weight - 1) / next_weight * (following - solution)
        solution, weight = following, next_weight
    return solution
