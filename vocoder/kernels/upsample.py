"""The upsampling of a mel on a CPU: a product for all bands of all frames, stage after stage.

`nets.upsample.Upsampler` defines it. A stage sees three bands of three frames, whatever its stride,
so that nine numbers become all that it makes of a frame at once.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


class CpuUpsampler:
    """Transposed convolutions over (band, time), packed once.

    Args:
        weights: The kernels (3, 2 · stride + odd) of the stages.
        biases: The bias of each stage, one number.
        strides: The stride of each stage in time.
        slope: The slope of the leaky ReLU behind each stage.
    """

    def __init__(
        self,
        weights: Sequence[Tensor],
        biases: Sequence[Tensor],
        strides: Sequence[int],
        slope: float,
    ) -> None:
        self.slope = slope
        self.biases = list(biases)
        self.matrices = [_matrix(*stage) for stage in zip(weights, strides, strict=True)]

    def __call__(self, mel: Tensor) -> Tensor:
        """Upsample a mel (M, F) to (M, hop · F)."""
        c = mel
        for matrix, bias in zip(self.matrices, self.biases, strict=True):
            M, n = c.shape
            seen = F.pad(c, (1, 1, 1, 1)).unfold(0, 3, 1).unfold(1, 3, 1).reshape(M * n, 9)
            c = F.leaky_relu_(torch.addmm(bias, seen, matrix), self.slope).view(M, -1)
        return c


def _matrix(weight: Tensor, stride: int) -> Tensor:
    """Return (9, stride), from three bands of three frames to the samples of the middle one."""
    n_taps = weight.shape[1]
    padding = (stride + stride % 2) // 2
    before = stride - padding  # of the frame before, the taps that reach no sample of this one
    taps = F.pad(weight, (before, 3 * stride - before - n_taps))  # (3, 3 · stride)
    # The last third of the taps brings the frame before to this one, the first third that after.
    return taps.view(3, 3, stride).flip(0, 1).reshape(9, stride)
