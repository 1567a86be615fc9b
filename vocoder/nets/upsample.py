"""From mel frames to one conditioning vector per audio sample."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from vocoder.kernels.upsample import CpuUpsampler

SLOPE = 0.4  # of the leaky ReLU, as in the published code


class Upsampler(nn.Module):
    """Transposed convolutions over (mel band, time), one per stride, leaky ReLU after each.

    The output has exactly prod(strides) · F samples. Source: WaveFlow (ICML 2020), §4; with strides
    (16, 16) the layers are those of the published code.

    Args:
        strides: factors of the hop length.
    """

    def __init__(self, strides: tuple[int, ...]) -> None:
        super().__init__()
        self.strides = strides
        self.stages = nn.ModuleList(self._stage(stride) for stride in strides)

    @property
    def context(self) -> int:
        """Frames to each side that a sample depends on; see `reach`."""
        return reach(self.strides)

    @staticmethod
    def _stage(stride: int) -> nn.Module:
        odd = stride % 2
        # kernel − 2 · padding = stride keeps the length exact, for odd strides too.
        conv = nn.ConvTranspose2d(
            1, 1, (3, 2 * stride + odd), stride=(1, stride), padding=(1, (stride + odd) // 2)
        )
        return weight_norm(conv, dim=0)

    def forward(self, mel: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Upsample mel (B, M, F) to (B, M, hop · F).

        Args:
            mel: Frames of a log-mel.
            lengths: frames (B,) of each item of a padded batch; what lies beyond is set to zero
                between the stages, so that an item's samples are those it would have alone.
        """
        c = mel.unsqueeze(1)
        if lengths is not None:
            c = c * column_mask(lengths, c.shape[-1])
        for stride, stage in zip(self.strides, self.stages, strict=True):
            c = F.leaky_relu(stage(c), SLOPE)
            if lengths is not None:
                lengths = lengths * stride
                c = c * column_mask(lengths, c.shape[-1])
        return c.squeeze(1)

    @torch.no_grad()
    def pack(self) -> CpuUpsampler:
        """Return what computes the same of one item on a CPU, without weight norm."""
        weights = [stage.weight[0, 0].contiguous() for stage in self.stages]  # type: ignore[index]
        biases = [stage.bias for stage in self.stages]
        return CpuUpsampler(weights, biases, self.strides, SLOPE)  # type: ignore[arg-type]


def reach(strides: tuple[int, ...]) -> int:
    """Return how many frames after its own the last sample of a frame still depends on.

    As many as the first sample looks back, since every stage is symmetric.
    """
    return last_frame(strides, math.prod(strides) - 1)


def last_frame(strides: tuple[int, ...], sample: int) -> int:
    """Return the last frame that a sample depends on, both counted from 0."""
    position = sample
    for stride in reversed(strides):
        position = (position + (stride + stride % 2) // 2) // stride  # the last input it reaches
    return position


def column_mask(lengths: Tensor, width: int) -> Tensor:
    """Return (B, 1, 1, width), true at the first `lengths` columns of each item."""
    columns = torch.arange(width, device=lengths.device)
    return (columns < lengths.unsqueeze(-1))[:, None, None]
