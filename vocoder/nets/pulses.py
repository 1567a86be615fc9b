"""Where in the period of the voice each sample lies, and how an estimator is told.

No likelihood can guess from a mel where the pulses of the voice fall. In training the epochs of the
recording tell it (`data/speech/epochs.py`), and in synthesis the integral of the pitch does.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

N_FEATURES = 16  # a multiple of 16, together with 80 mel bands too, as the GPU kernels want it

HARMONICS = 4  # whose cosine and sine are told
WIDTHS = (75e-6, 150e-6, 310e-6, 750e-6)  # seconds, deviations of the bumps at each pulse
SLOPES = (75e-6, 310e-6)  # seconds, of the bumps whose slope is told too
MIDDLE = 200.0  # Hz, the pitch whose logarithm is told as 0


class Pulses(NamedTuple):
    """The place of samples in the period of the voice.

    Attributes:
        phase: What has passed of the period, 0 to 1, (B, N).
        frequency: Periods per sample (B, N); 0 where there is no voice.
    """

    phase: Tensor
    frequency: Tensor


class Told(NamedTuple):
    """What a model is told of some samples.

    Attributes:
        mel: Mels (B, M, F), from some frame on.
        pulses: The pulses of the samples, (B, N).
        noise: The share of its noise that each sample keeps where there is a voice, (B, N).
    """

    mel: Tensor
    pulses: Pulses
    noise: Tensor


def pulses_of_epochs(epochs: Tensor, lo: int, hi: int, shortest: float, longest: float) -> Pulses:
    """Return the pulses of a recording.

    Args:
        epochs: The samples (E,) at which the vocal folds close, rising.
        lo: The first sample that is wanted.
        hi: One past the last.
        shortest: Samples of the shortest period; what is closer holds no voice between it.
        longest: Samples of the longest period, likewise.

    Returns:
        Pulses of one item of hi − lo samples, in float32.
    """
    samples = torch.arange(lo, hi)
    if len(epochs) < 2:
        return Pulses(torch.zeros(1, hi - lo), torch.zeros(1, hi - lo))
    after = torch.searchsorted(epochs.long(), samples)  # the first epoch that is not before it
    inside = (after > 0) & (after < len(epochs))
    after = after.clamp(1, len(epochs) - 1)
    previous = epochs[after - 1].long()
    period = (epochs[after].long() - previous).double()
    voiced = inside & (period > shortest) & (period < longest)
    phase = torch.where(voiced, (samples - previous) / period % 1, 0.0)
    frequency = torch.where(voiced, 1 / period, 0.0)
    return Pulses(phase.float()[None], frequency.float()[None])


def pulses_of_pitch(
    f0: Tensor,
    sample_rate: int,
    hop_length: int,
    centre: int,
    phase: Tensor | float = 0.0,
    lo: int = 0,
    hi: int | None = None,
) -> Pulses:
    """Return the pulses that a pitch stands for: its integral, a pulse at each whole number.

    Between frames the logarithm of the pitch is interpolated; a sample has a voice if the frame
    that is nearest to it has one.

    Args:
        f0: The pitch (B, F) in Hz; 0 where there is no voice.
        sample_rate: Samples per second.
        hop_length: Samples per frame.
        centre: The sample of a frame, counted from its start, that its pitch stands for.
        phase: What has passed of the period before the first sample, (B,).
        lo: The first frame whose samples are wanted.
        hi: One past the last such frame; None: F.

    Returns:
        Pulses of (hi − lo) · hop_length samples, the phase in float64.
    """
    n_frames = f0.shape[1]
    hi = n_frames if hi is None else hi
    samples = torch.arange(lo * hop_length, hi * hop_length, device=f0.device)
    position = (samples - centre).double() / hop_length
    left = position.floor().long()
    weight = (position - left).to(f0.dtype)
    left, right = left.clamp(0, n_frames - 1), (left + 1).clamp(0, n_frames - 1)
    nearest = torch.where(weight < 0.5, left, right)
    voiced = f0 > 0
    log_f0 = torch.where(voiced, f0, 1.0).log()
    own = log_f0[:, nearest]
    before = torch.where(voiced[:, left], log_f0[:, left], own)
    after = torch.where(voiced[:, right], log_f0[:, right], own)
    frequency = torch.lerp(before, after, weight).exp() / sample_rate * voiced[:, nearest]
    start = torch.as_tensor(phase, dtype=torch.float64, device=f0.device).reshape(-1, 1)
    return Pulses((start + frequency.double().cumsum(dim=1)) % 1, frequency)


def packed_channels(hop_length: int) -> int:
    """Return how many channels of a frame `pack_pulses` gives."""
    return 2 * hop_length + 1


def pack_pulses(pulses: Pulses, hop_length: int, noise: float = 1.0) -> Tensor:
    """Return pulses as channels of frames, (B, 2 · hop_length + 1, F).

    They have the type of the frequency.

    Args:
        pulses: The pulses (B, F · hop_length) of whole frames.
        hop_length: Samples per frame.
        noise: The share of its noise that a voice keeps beside its pulses, the last channel.
    """
    frames = [
        values.to(pulses.frequency.dtype).unflatten(1, (-1, hop_length)).mT for values in pulses
    ]
    return torch.cat([*frames, torch.full_like(frames[0][:, :1], noise)], dim=1)


def unpack(cond: Tensor, n_mels: int, offset: int, n_samples: int) -> Told:
    """Return what the channels of frames tell of some samples.

    Args:
        cond: Mels, and below them what `pack_pulses` gives, (B, M + 2 · hop_length + 1, F).
        n_mels: Bands M of the mels.
        offset: Samples from the start of the first frame to the first sample that is wanted.
        n_samples: How many samples are wanted.
    """
    mel, packed = cond.tensor_split([n_mels], dim=1)
    hop = packed.shape[1] // 2
    first = offset // hop
    packed = packed[..., first : -(-(offset + n_samples) // hop)]
    start = offset - first * hop
    own = slice(start, start + n_samples)
    phase, frequency = (
        values.mT.flatten(1)[:, own] for values in packed[:, : 2 * hop].split(hop, dim=1)
    )
    noise = packed[:, -1].repeat_interleave(hop, dim=1)[:, own]
    return Told(mel, Pulses(phase, frequency), noise)


def pulse_features(pulses: Pulses, sample_rate: int) -> Tensor:
    """Return what an estimator is told of the pulses, (B, N_FEATURES, N).

    They are whether there is a voice; the cosine and sine of the phase and of its multiples; bumps
    of several widths at each pulse, and the slopes of some; and the pitch in octaves. All are 0
    where there is no voice.
    """
    phase, frequency = pulses
    voiced = frequency > 0
    period = torch.where(voiced, 1 / frequency.clamp_min(torch.finfo(frequency.dtype).tiny), 0.0)
    seconds = torch.where(phase < 0.5, phase, phase - 1) * period / sample_rate  # to the next pulse
    angles = [2 * math.pi * k * phase for k in range(1, HARMONICS + 1)]
    bumps = {width: torch.exp(-0.5 * (seconds / width) ** 2) for width in WIDTHS}
    octaves = torch.where(voiced, frequency * (sample_rate / MIDDLE), 1.0).log2()
    features = [
        torch.ones_like(phase),
        *(angle.cos() for angle in angles),
        *(angle.sin() for angle in angles),
        *bumps.values(),
        *(seconds / width * bumps[width] for width in SLOPES),
        octaves,
    ]
    return torch.stack(features, dim=1) * voiced.unsqueeze(1)
