"""Mels of the same speech at another pitch, with the envelope left where it is.

Below some 1.2 kHz the bands of a mel are narrower than the distance of the harmonics of speech, so
that the mel holds them: a voice that is told another pitch would still be made to sound the old
ones. Here the envelope is freed of the harmonics as CheapTrick does it (Morise, 2015): its power is
averaged over two thirds of the pitch, and its logarithm over the pitch. The new mel is what the
window of the preset sees of the envelope under harmonics of the new pitch, scaled band by band so
that its own envelope, found in the same way, is the old one.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vocoder.mel.compression import compress
from vocoder.mel.envelope import interpolate_bands, log_amplitude
from vocoder.mel.presets import MelPreset

# Share of the power that lies between the harmonics: of the first one, and more of each next, since
# a pitch that moves within the window blurs the higher ones more. A comb as deep everywhere raises
# the bands from 0.8 to 2.3 kHz by 4 dB and the first formant by a fifth.
_NOISE, _BLUR = 0.02, 0.03
# By how much the peaks of the averaged logarithm are raised again and its valleys lowered. With the
# 0.15 of CheapTrick the first formant fell where the pitch rose.
_RECOVERY = 0.1
_LARGEST = 5.0  # nats of power by which the envelope of the new mel is corrected at most


def change_pitch(mel: Tensor, preset: MelPreset, f0: Tensor, new_f0: Tensor) -> Tensor:
    """Return mels whose harmonics lie at the multiples of another pitch.

    Args:
        mel: Mels (B, M, F) of the preset, in float32 or float64.
        preset: The preset of the mels.
        f0: The pitch (B, F) of the mels in Hz; 0 where there is no voice.
        new_f0: The pitch wanted (B, F) in Hz; 0 makes a frame a whisper.

    Returns:
        Mels (B, M, F); a frame whose pitch stays keeps its bits.
    """
    exponent = 0.5 if preset.spectrum == "magnitude" else 1.0
    filters = torch.as_tensor(preset.filterbank().copy(), dtype=torch.float64, device=mel.device)

    def banded(power: Tensor) -> Tensor:
        return filters @ (power**exponent).mT + torch.finfo(torch.float64).tiny

    envelope = _envelope(mel.double(), preset, f0.double())
    harmonics = _harmonics(new_f0.double(), preset, envelope.shape[-1])
    changed = banded(envelope * harmonics)
    own = _envelope(compress(changed, preset), preset, new_f0.double())
    correction = (envelope.log() - own.log()).clamp(-_LARGEST, _LARGEST).exp()
    changed = changed * banded(correction) / filters.sum(dim=-1, keepdim=True)
    stays = (f0 == new_f0).unsqueeze(1)
    return torch.where(stays, mel, compress(changed, preset).to(mel.dtype))


def _envelope(mel: Tensor, preset: MelPreset, f0: Tensor) -> Tensor:
    """Return the power (B, F, K) of a mel (B, M, F) without the harmonics of its pitch (B, F)."""
    power = (2 * interpolate_bands(log_amplitude(mel, preset), preset)).exp()
    width = f0.unsqueeze(-1) * (preset.n_fft / preset.sample_rate)  # in bins
    logs = _smooth(power, 2 / 3 * width).log()
    n_fft = 2 * (logs.shape[-1] - 1)
    cepstrum = torch.fft.irfft(logs, n=n_fft)
    lag = torch.arange(n_fft, dtype=logs.dtype, device=logs.device)
    periods = width * torch.minimum(lag, n_fft - lag) / n_fft  # of the pitch
    recovery = 1 + 2 * _RECOVERY * (1 - (2 * torch.pi * periods).cos())
    smooth = torch.fft.rfft(cepstrum * torch.sinc(periods) * recovery).real.exp()
    return torch.where(width > 0, smooth, power)


def _smooth(power: Tensor, width: Tensor) -> Tensor:
    """Average power (B, F, K) over a width (B, F, 1) in bins around each bin.

    Beyond the first and the last bin the spectrum is mirrored.
    """
    n_bins = power.shape[-1]
    pad = n_bins - 1
    mirrored = torch.cat([power[..., 1:].flip(-1), power, power[..., :-1].flip(-1)], dim=-1)
    # The integral of the spectrum, where bin k covers k − ½ to k + ½.
    integral = torch.nn.functional.pad(mirrored.cumsum(dim=-1), (1, 0))
    bins = torch.arange(n_bins, dtype=power.dtype, device=power.device) + pad + 0.5
    half = width.clamp(1.0, pad) / 2

    def up_to(place: Tensor) -> Tensor:
        left = place.floor().long().clamp(0, integral.shape[-1] - 2)
        before, after = integral.gather(-1, left), integral.gather(-1, left + 1)
        return torch.lerp(before, after, place - left)

    mean = (up_to(bins + half) - up_to(bins - half)) / (2 * half)
    # A difference of sums that span many orders of magnitude may round below what is there.
    return mean.maximum(power.amin(dim=-1, keepdim=True))


def _harmonics(f0: Tensor, preset: MelPreset, n_bins: int) -> Tensor:
    """Return the power (B, F, K) of harmonics in a flat spectrum, of mean 1; 1 where f0 is 0.

    Each is the main lobe of the preset's Hann window.
    """
    rate, window = preset.sample_rate, preset.win_length
    frequencies = torch.arange(n_bins, dtype=f0.dtype, device=f0.device) * (rate / preset.n_fft)
    pitch = torch.where(f0 > 0, f0, 100.0).unsqueeze(-1)
    number = frequencies / pitch
    lobes = torch.zeros_like(number)
    for neighbour in (-1, 0, 1):
        harmonic = number.round() + neighbour
        distance = (frequencies - harmonic * pitch) * (window / rate)  # in bins of the window
        lobes = lobes + _hann_power(distance) * (harmonic >= 1)
    # The integral of the squared lobe is 3/2 bins of the window.
    comb = lobes * (pitch * (window / rate) / 1.5)
    noise = (_NOISE + _BLUR * (number - 1).clamp_min(0)).clamp_max(1)
    return torch.where(f0.unsqueeze(-1) > 0, torch.lerp(comb, torch.ones_like(comb), noise), 1.0)


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
