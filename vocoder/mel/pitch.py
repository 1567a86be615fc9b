"""Mels of the same speech at another pitch, with the envelope left where it is.

Below some 1.2 kHz the bands of a mel are narrower than the distance of the harmonics of speech, so
that the mel holds them: a voice that is told another pitch would still be made to sound the old
ones. Here the envelope is freed of the harmonics by averaging its power over the old pitch, as
STRAIGHT does (Kawahara et al., 1999), and each band changes by the ratio of what the window of the
preset sees of the envelope under harmonics of the new pitch and of the old one.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vocoder.mel.compression import compress, expand
from vocoder.mel.envelope import interpolate_bands, log_amplitude
from vocoder.mel.presets import MelPreset

_NOISE = 0.03  # share of the power between the harmonics, which no valley is deeper than
_LARGEST = 6.0  # nats by which a band changes at most


def change_pitch(mel: Tensor, preset: MelPreset, f0: Tensor, new_f0: Tensor) -> Tensor:
    """Return mels whose harmonics lie at the multiples of another pitch.

    Args:
        mel: Mels (B, M, F) of the preset, in float32 or float64.
        preset: The preset of the mels.
        f0: The pitch (B, F) of the mels in Hz; 0 where there is no voice.
        new_f0: The pitch wanted (B, F) in Hz; 0 makes a frame a whisper.

    Returns:
        Mels (B, M, F); a frame without a voice in either keeps its bits.
    """
    power = (2 * interpolate_bands(log_amplitude(mel, preset), preset)).exp()
    envelope = _smooth(power, f0 * (preset.n_fft / preset.sample_rate))
    filters = torch.as_tensor(preset.filterbank().copy(), dtype=mel.dtype, device=mel.device)
    exponent = 0.5 if preset.spectrum == "magnitude" else 1.0

    def seen(pitch: Tensor) -> Tensor:
        spectrum = (envelope * _harmonics(pitch, preset, envelope.shape[-1])) ** exponent
        return filters @ spectrum.mT + torch.finfo(mel.dtype).tiny

    change = (seen(new_f0).log() - seen(f0).log()).clamp(-_LARGEST, _LARGEST)
    voiced = ((f0 > 0) | (new_f0 > 0)).unsqueeze(1)
    return torch.where(voiced, compress(expand(mel, preset) * change.exp(), preset), mel)


def _smooth(power: Tensor, width: Tensor) -> Tensor:
    """Average power (B, F, K) over a width (B, F) in bins around each bin; 0 leaves it.

    Beyond the first and the last bin the spectrum is mirrored.
    """
    n_bins = power.shape[-1]
    pad = n_bins - 1
    mirrored = torch.cat([power[..., 1:].flip(-1), power, power[..., :-1].flip(-1)], dim=-1)
    # The integral of the spectrum, where bin k covers k − ½ to k + ½.
    integral = torch.nn.functional.pad(mirrored.cumsum(dim=-1), (1, 0))
    bins = torch.arange(n_bins, dtype=power.dtype, device=power.device) + pad + 0.5
    half = width.clamp(1.0, pad).unsqueeze(-1) / 2

    def up_to(place: Tensor) -> Tensor:
        left = place.floor().long().clamp(0, integral.shape[-1] - 2)
        before, after = integral.gather(-1, left), integral.gather(-1, left + 1)
        return torch.lerp(before, after, place - left)

    mean = (up_to(bins + half) - up_to(bins - half)) / (2 * half)
    # A difference of sums that span many orders of magnitude may round below what is there.
    lowest = power.amin(dim=-1, keepdim=True)
    return torch.where(width.unsqueeze(-1) > 0, mean.maximum(lowest), power)


def _harmonics(f0: Tensor, preset: MelPreset, n_bins: int) -> Tensor:
    """Return the power (B, F, K) of harmonics in a flat spectrum, of mean 1; 1 where f0 is 0.

    Each is the main lobe of the preset's Hann window.
    """
    rate, window = preset.sample_rate, preset.win_length
    frequencies = torch.arange(n_bins, dtype=f0.dtype, device=f0.device) * (rate / preset.n_fft)
    pitch = torch.where(f0 > 0, f0, 100.0).unsqueeze(-1)
    nearest = (frequencies / pitch).round()
    lobes = torch.zeros_like(nearest)
    for neighbour in (-1, 0, 1):
        harmonic = nearest + neighbour
        distance = (frequencies - harmonic * pitch) * (window / rate)  # in bins of the window
        lobes = lobes + _hann_power(distance) * (harmonic >= 1)
    # The integral of the squared lobe is 3/2 bins of the window.
    comb = lobes * (pitch * (window / rate) / 1.5)
    return torch.where(f0.unsqueeze(-1) > 0, (1 - _NOISE) * comb + _NOISE, torch.ones_like(comb))


def _hann_power(x: Tensor) -> Tensor:
    """Return the squared transform of a Hann window, 1 at x = 0, and 0 beyond the main lobe.

    Args:
        x: Distance from the middle in bins of the window.
    """
    # sin(πx) / (πx (1 − x²)), which is ½ at ±1.
    near_one = (x.abs() - 1).abs() < 1e-3
    safe = torch.where(near_one, 0.0, x)
    transform = torch.where(near_one, 0.5, torch.sinc(safe) / (1 - safe.square()))
    return transform.square() * (x.abs() < 2)
