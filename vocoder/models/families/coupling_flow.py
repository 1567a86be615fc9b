"""Flows of couplings over columns of samples: what WaveGlow and FloWaveNet share."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor

from vocoder.models.families.flow import standard_normal_log_prob
from vocoder.models.families.voice import VoiceModel


class CouplingFlow(VoiceModel):
    """Half of the channels of every column transformed given the other half, flow after flow.

    Every estimator sees a bounded number of columns to each side, and so does the whole inverse:
    pieces of an utterance can be rendered exactly by themselves.
    """

    @abstractmethod
    def trace(self, x: Tensor, cond: Tensor, offset: int = 0) -> tuple[Tensor, list[Tensor]]:
        """Like `forward`, with the log-derivative of each step (B, N) instead of their sum.

        A step mixes the samples of a column; each has an equal share of the column's.
        """

    def forward(self, x: Tensor, cond: Tensor, offset: int = 0) -> tuple[Tensor, Tensor]:
        """Map audio to noise; see `VoiceModel`."""
        z, log_derivatives = self.trace(x, cond, offset)
        return z, torch.stack([d.sum(dim=1) for d in log_derivatives]).sum(dim=0)

    def flow_logdets(self, x: Tensor, cond: Tensor, offset: int = 0) -> list[float]:
        """Return the mean log-derivative of each step, in nats per sample."""
        _, log_derivatives = self.trace(x, cond, offset)
        return [log_derivative.mean().item() for log_derivative in log_derivatives]

    def log_prob_per_sample(self, x: Tensor, cond: Tensor) -> Tensor:
        """Return the terms (B, N), one per audio sample, whose sum is `log_prob`, in nats."""
        z, log_derivatives = self.trace(x, cond)
        return standard_normal_log_prob(z) + torch.stack(log_derivatives).sum(dim=0)

    def _check_mel(self, mel: Tensor, n_needed: int, n_available: int) -> None:
        """Raise a ValueError for a mel of a wrong shape, or too short for the samples wanted."""
        if mel.ndim != 3 or mel.shape[1] != self.n_mels:
            raise ValueError(f"mel must be (B, {self.n_mels}, F), got {tuple(mel.shape)}")
        if n_needed > n_available:
            raise ValueError(
                f"{n_needed} samples need more than {mel.shape[-1]} frames of "
                f"{self.hop_length} samples"
            )


def share_out(log_derivative: Tensor, column: int) -> Tensor:
    """Return (B, T), of columns, as equal shares (B, N) of the `column` samples of each."""
    return (log_derivative / column).repeat_interleave(column, dim=1)
