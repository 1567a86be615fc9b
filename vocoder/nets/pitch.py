"""The pitch of a voice, read off its mel-spectrogram."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vocoder.nets.upsample import column_mask

WIDTH = 5  # frames that a layer sees
N_LAYERS = 3
# Frames on each side that a pitch depends on: those of the layers, and one of the median.
REACH = N_LAYERS * (WIDTH // 2) + 1

N_BINS = 240  # of the range of pitches, at equal musical intervals
_BLUR = 1.0  # bins, deviation of what is learnt around the true pitch
NEAR = 4  # bins on each side of the likeliest one, whose mean is the pitch


class PitchNet(nn.Module):
    """Tells the pitch and whether there is a voice, by a few convolutions over frames.

    Args:
        n_mels: Bands M of the mel.
        channels: Channels of the layers.
        f_min: The lowest pitch in Hz.
        f_max: The highest pitch in Hz.
    """

    def __init__(self, n_mels: int, channels: int, f_min: float, f_max: float) -> None:
        super().__init__()
        sizes = [n_mels, *[channels] * N_LAYERS]
        self.layers = nn.ModuleList(
            nn.Conv1d(size, channels, WIDTH, padding=WIDTH // 2) for size in sizes[:-1]
        )
        self.head = nn.Conv1d(channels, N_BINS + 1, 1)
        self.log_f_min, self.log_f_max = math.log(f_min), math.log(f_max)

    @property
    def bin_width(self) -> float:
        """Difference between the logarithms of neighbouring bins' pitches."""
        return (self.log_f_max - self.log_f_min) / (N_BINS - 1)

    def logits(self, spectrum: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return the log-odds of each bin and, last, of a voice, (B, 240 + 1, F).

        Args:
            spectrum: Natural logarithms of amplitudes (B, M, F); see `mel.envelope.log_amplitude`.
            lengths: Frames (B,) of each item of a padded batch, which does not see its padding.
        """
        x = spectrum / 4  # about unit deviation
        mask = None if lengths is None else column_mask(lengths, x.shape[-1]).squeeze(1)
        for layer in self.layers:
            x = F.relu(layer(x if mask is None else x * mask))
        return self.head(x)

    def forward(self, spectrum: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return the pitch (B, F) in Hz, 0 where there is no voice; see `logits`."""
        *_, n_frames = spectrum.shape
        odds, voice = self.logits(spectrum, lengths).split([N_BINS, 1], dim=1)
        best = odds.argmax(dim=1, keepdim=True)
        bins = torch.arange(N_BINS, device=odds.device)[:, None]
        near = odds.masked_fill((bins - best).abs() > NEAR, -math.inf).softmax(dim=1)
        log_f0 = self.log_f_min + self.bin_width * (near * bins).sum(dim=1)
        last = spectrum.new_full((len(spectrum),), n_frames) if lengths is None else lengths
        return _median(log_f0, last).exp() * (_median(voice.squeeze(1), last) > 0)

    def loss(self, spectrum: Tensor, f0: Tensor) -> Tensor:
        """Return the cross-entropy in nats per frame, of the voice and of the bin of its pitch.

        Args:
            spectrum: Natural logarithms of amplitudes (B, M, F), as `logits` takes them.
            f0: The true pitch (B, F) in Hz, 0 where there is no voice.
        """
        odds, voice = self.logits(spectrum).split([N_BINS, 1], dim=1)
        voiced = f0 > 0
        place = (torch.where(voiced, f0, 1.0).log() - self.log_f_min) / self.bin_width
        bins = torch.arange(N_BINS, device=f0.device)[:, None]
        wanted = (-0.5 * ((bins - place.unsqueeze(1)) / _BLUR) ** 2).softmax(dim=1)
        pitch = -(wanted * odds.log_softmax(dim=1)).sum(dim=1) * voiced
        return pitch.mean() + F.binary_cross_entropy_with_logits(
            voice.squeeze(1), voiced.to(voice.dtype)
        )


def _median(values: Tensor, lengths: Tensor) -> Tensor:
    """Return the median over three neighbours of (B, F); an end stands for the frame beyond it."""
    frames = torch.arange(values.shape[1], device=values.device)
    last = lengths.long()[:, None] - 1
    before = values.gather(1, (frames - 1).clamp_min(0).expand_as(values))
    after = values.gather(1, (frames + 1).minimum(last).clamp_min(0))
    return torch.stack([before, values, after]).median(dim=0).values
