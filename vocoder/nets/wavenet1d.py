"""The body of the estimators of WaveGlow and FloWaveNet: a WaveNet that sees to both sides.

Sources: WaveGlow (ICASSP 2019), §2.2, and NVIDIA/waveglow; FloWaveNet (ICML 2019), §3.3, and
ksw0306/FloWaveNet for the details.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from vocoder.kernels.wavenet import CpuWaveNet, LayerWeights


class WaveNet1d(nn.Module):
    """Gated residual layers over columns, each seeing as far ahead as back; returns their skips.

    Args:
        channels: residual channels C.
        n_cond: channels of the conditioning.
        dilations: Dilations in columns, one a layer.
        kernel_size: Kernel size of the dilated convolutions, which is odd.
        scale: factor of what each layer hands to the next.
        whole_last: the last layer has a residual half as the others do. Nothing depends on it, but
            FloWaveNet's checkpoints hold it.
    """

    def __init__(
        self,
        channels: int,
        n_cond: int,
        dilations: tuple[int, ...],
        kernel_size: int = 3,
        scale: float = 1.0,
        whole_last: bool = False,
    ) -> None:
        super().__init__()
        self.scale = scale
        self.cond = weight_norm(nn.Conv1d(n_cond, 2 * channels * len(dilations), 1))
        self.layers = nn.ModuleList(
            GatedLayer1d(channels, kernel_size, dilation, whole_last or i < len(dilations) - 1)
            for i, dilation in enumerate(dilations)
        )

    @property
    def n_dead_parameters(self) -> int:
        """Stored entries that nothing depends on: the last layer's residual half."""
        last: GatedLayer1d = self.layers[-1]  # type: ignore[assignment]
        n_out, n_skip, _ = last.res_skip.weight.shape
        stored = sum(parameter.numel() for parameter in last.res_skip.parameters())
        return stored // n_out * (n_out - n_skip)

    def forward(self, h: Tensor, cond: Tensor, mask: Tensor | None = None) -> Tensor:
        """Map h (B, C, T) and its conditioning (B, n_cond, T) to the sum of the skips (B, C, T).

        Args:
            h: features of the input.
            cond: Conditioning of the layers.
            mask: (B, 1, T), false beyond the end of each item of a padded batch, or None.
        """
        skips = torch.zeros_like(h)
        for layer, c in zip(self.layers, self.cond(cond).chunk(len(self.layers), 1), strict=True):
            r, skip = layer(masked(h, mask), c)
            skips = skips + skip
            if layer is not self.layers[-1]:
                h = (h + r) * self.scale
        return skips

    @torch.no_grad()
    def pack(
        self,
        projection: Tensor,
        constant: Tensor,
        end: nn.Conv1d | None = None,
        front: Tensor | None = None,
    ) -> CpuWaveNet:
        """Return what computes the same on a CPU, for kernels of 3 columns.

        Args:
            projection: (n_cond, 2C · L), from the conditioning to the gates of all layers.
            constant: (2C · L,), what is added there whatever the conditioning.
            end: A 1 × 1 convolution that the sum of the skips goes through; None: none.
            front: A linear map in front of layer 0, as `CpuWaveNet` takes it.
        """
        layers, dilations, out_bias = [], [], projection.new_zeros(1)
        if end is not None and end.bias is not None:
            out_bias = out_bias + end.bias
        width = projection.shape[1] // len(self.layers)
        C = width // 2
        for i, layer in enumerate(self.layers):
            assert isinstance(layer, GatedLayer1d)
            mine = slice(width * i, width * (i + 1))
            mix, bias = layer.res_skip.weight[..., 0], layer.res_skip.bias
            skip, skip_bias = mix[-C:], bias[-C:]
            if end is not None:
                skip, skip_bias = end.weight[..., 0] @ skip, end.weight[..., 0] @ skip_bias
            out_bias = out_bias + skip_bias
            last = i == len(self.layers) - 1
            layers.append(
                LayerWeights(
                    conv=layer.conv.weight.permute(2, 1, 0),
                    bias=layer.conv.bias + constant[mine],
                    cond=projection[:, mine],
                    res=None if last else mix[:C].t(),
                    res_bias=None if last else bias[:C],
                    out=skip.t(),
                )
            )
            dilations.append(layer.conv.dilation[0])
        return CpuWaveNet(layers, dilations, out_bias, self.scale, front)


class GatedLayer1d(nn.Module):
    """A dilated convolution, tanh · σ of its halves, and 1 × 1 residual and skip.

    Args:
        channels: residual channels C.
        kernel_size: Kernel size, which is odd.
        dilation: Dilation in columns.
        residual: make a residual too, and not the skip alone.
    """

    def __init__(self, channels: int, kernel_size: int, dilation: int, residual: bool) -> None:
        super().__init__()
        self.conv: Any = weight_norm(
            nn.Conv1d(channels, 2 * channels, kernel_size, dilation=dilation, padding="same")
        )
        n_out = 2 * channels if residual else channels
        self.res_skip: Any = weight_norm(nn.Conv1d(channels, n_out, 1))

    def forward(self, h: Tensor, cond: Tensor) -> tuple[Tensor, Tensor]:
        """Return residual (B, C or 0, T) and skip (B, C, T) of h (B, C, T), given (B, 2C, T)."""
        filter_half, gate_half = (self.conv(h) + cond).chunk(2, dim=1)
        r = self.res_skip(filter_half.tanh() * gate_half.sigmoid())
        n_skip = filter_half.shape[1]
        residual, skip = r.split([r.shape[1] - n_skip, n_skip], dim=1)
        return residual, skip


class ZeroConv1d(nn.Conv1d):
    """1 × 1 convolution that starts at zero, times exp(3 · log_scale)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 1)
        for parameter in self.parameters():
            nn.init.zeros_(parameter)
        self.log_scale = nn.Parameter(torch.zeros(out_channels))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C_in, T) to (B, C_out, T)."""
        factor = (3 * self.log_scale).exp()
        assert self.bias is not None
        return F.conv1d(x, self.weight * factor[:, None, None], self.bias * factor)


@dataclass(frozen=True)
class Conditioned:
    """What one coupling calls: a network with all that it is given beside half of the channels.

    Args:
        net: maps that half, the conditioning and the mask to n_params · C/2 channels, parameter
            after parameter.
        n_params: parameters of each element.
        cond: (B, n_cond, T).
        mask: Which columns there are; see `WaveNet1d`.
    """

    net: Callable[[Tensor, Tensor, Tensor | None], Tensor]
    n_params: int
    cond: Tensor
    mask: Tensor | None = None

    def __call__(self, half: Tensor) -> Tensor:
        """Map (B, C/2, T) to parameters (B, n_params, C/2, T)."""
        return self.net(half, self.cond, self.mask).unflatten(1, (self.n_params, -1))


def masked(x: Tensor, mask: Tensor | None) -> Tensor:
    """Return x with zeros where the mask is false."""
    return x if mask is None else x.masked_fill(~mask, 0.0)
