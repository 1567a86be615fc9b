"""Convolutional LSTM.

Source: Convolutional LSTM network (Shi et al., NeurIPS 2015), without peepholes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ConvLstm(nn.Module):
    """Layers of convolutional LSTM, zero-padded to the same size, from the zero state.

    Args:
        channels: C, of the input and of the state of each layer.
        n_layers: Number of layers.
        kernel_size: Kernel size k, which is odd.
        dilation: Dilation of every convolution.
        parity: two biases for each gate and all weights U(±1/√C), as in the published code of
            mAR-SCF. With 5 × 5 kernels that saturates the gates; otherwise weights start by the
            size of their fan-in, and gates start open to the past (forget bias 1).
    """

    def __init__(
        self, channels: int, n_layers: int, kernel_size: int, dilation: int, parity: bool
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            ConvLstmLayer(channels, kernel_size, dilation, parity) for _ in range(n_layers)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map a sequence (T, B, C, H, W) to the states of the last layer, of the same shape."""
        for layer in self.layers:
            x = layer(x)
        return x


class ConvLstmLayer(nn.Module):
    """One layer; gates in the order input, forget, cell, output.

    The arguments are those of `ConvLstm`.
    """

    def __init__(self, channels: int, kernel_size: int, dilation: int, parity: bool) -> None:
        super().__init__()
        self.kernel_size, self.dilation = kernel_size, dilation

        def conv(bias: bool) -> nn.Conv2d:
            return nn.Conv2d(
                channels, 4 * channels, kernel_size, padding="same", dilation=dilation, bias=bias
            )

        self.from_input = conv(bias=True)
        self.from_state = conv(bias=parity)
        if parity:
            for parameter in self.parameters():
                nn.init.uniform_(parameter, -(channels**-0.5), channels**-0.5)
        else:
            assert self.from_input.bias is not None
            with torch.no_grad():
                self.from_input.bias.zero_()[channels : 2 * channels] = 1.0

    def bias(self) -> Tensor:
        """Return the sum of the biases (4C,)."""
        assert self.from_input.bias is not None
        ours, theirs = self.from_input.bias, self.from_state.bias
        return ours if theirs is None else ours + theirs

    def forward(self, x: Tensor) -> Tensor:
        """Map a sequence (T, B, C, H, W) to the states, of the same shape."""
        gates = self.from_input(x.flatten(0, 1)).unflatten(0, x.shape[:2])
        states: list[Tensor] = []
        h = c = None
        for gate in gates.unbind(0):
            h, c = self.update(gate, h, c)
            states.append(h)
        return torch.stack(states)

    def update(self, gates: Tensor, h: Tensor | None, c: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the next state and cell.

        Args:
            gates: what the input adds to them (B, 4C, H, W).
            h: state (B, C, H, W), None for the zero state.
            c: cell (B, C, H, W), None likewise.
        """
        if h is not None:
            gates = gates + self.from_state(h)
        elif self.from_state.bias is not None:
            gates = gates + self.from_state.bias.view(-1, 1, 1)
        i, f, g, o = gates.chunk(4, dim=1)
        new = i.sigmoid() * g.tanh()
        c = new if c is None else f.sigmoid() * c + new
        return o.sigmoid() * c.tanh(), c
