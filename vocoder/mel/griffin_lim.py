"""Sound from a mel-spectrogram without a trained voice (Griffin and Lim, 1984)."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from vocoder.errors import VocoderError
from vocoder.mel.compression import check_bands, expand
from vocoder.mel.presets import MelPreset, get_preset
from vocoder.seeds import check_seed


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
        check_bands(mel, self.preset)
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
        x = expand(mel, preset).transpose(1, 2)
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
