"""Sound from a mel-spectrogram without a trained voice (Griffin and Lim, 1984)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vocoder.errors import VocoderError
from vocoder.mel.compression import check_bands, expand
from vocoder.mel.presets import MelPreset, get_preset
from vocoder.mel.stft import stft, window_weight, windowed_inverse
from vocoder.seeds import check_seed


class GriffinLim:
    """Turn mel-spectrograms into audio without a trained voice: the baseline.

    The filters are undone by non-negative least squares, then phases are found that fit the
    magnitudes ("A fast Griffin-Lim algorithm", Perraudin, Balazs and Søndergaard, 2013).

    Args:
        preset: The preset or its name.
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
            seed: Seed of the first phases; equal seeds give equal audio.

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
        # Drawn on the CPU, so that every device gets the same.
        turns = torch.rand(
            magnitude.shape, generator=generator, dtype=mel.dtype, device=generator.device
        )
        angles = turns * 2 * math.pi
        phases = torch.polar(torch.ones_like(angles), angles).to(mel.device)
        # The padding of the preset is part of the signal here, found like the rest of it; so every
        # padding is served, and the edges owe nothing to a reflection.
        preset = self.preset
        weight = window_weight(mel.shape[-1], preset, mel).clamp_min(1e-3)
        previous = torch.zeros_like(phases)
        for _ in range(self.n_iter):
            rebuilt = stft(windowed_inverse(magnitude * phases, preset) / weight, preset)
            phases = rebuilt - self.momentum / (1 + self.momentum) * previous
            phases /= phases.abs().clamp_min(torch.finfo(mel.dtype).tiny)
            previous = rebuilt
        audio = windowed_inverse(magnitude * phases, preset) / weight
        n_samples = mel.shape[-1] * preset.hop_length
        left = preset.pad_widths(n_samples)[0]
        return audio[:, left : left + n_samples]

    def _magnitude(self, mel: Tensor) -> Tensor:
        """Return the magnitudes (B, F, K) whose mel-spectrogram is `mel` (B, M, F)."""
        preset = self.preset
        x = expand(mel, preset).transpose(1, 2)
        filters = torch.tensor(preset.filterbank(), dtype=mel.dtype, device=mel.device)
        spectrum = _nonnegative_least_squares(x, filters)
        power = spectrum if preset.spectrum == "power" else spectrum.square()
        return (power - preset.power_offset).clamp_min(0).sqrt()


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
