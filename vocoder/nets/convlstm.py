"""Convolutional LSTM, for a whole sequence at once or step by step.

Source: Convolutional LSTM network (Shi et al., NeurIPS 2015), without peepholes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, cast

import torch
from torch import Tensor, nn

from vocoder.kernels.grid_conv import GridConv

# Positions of a grid (of one phase, if dilated) up to which `GridStepper` is the faster one: its
# transforms grow with the square of them.
MAX_GRID = 256


class ConvLstm(nn.Module):
    """Layers of convolutional LSTM, zero-padded to the same size, from the zero state.

    Args:
        channels: C, of the input and of the state of each layer.
        n_layers: layers.
        kernel_size: k, odd.
        dilation: of every convolution.
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

    def stepper(self, height: int, width: int) -> ConvLstmStepper:
        """Return the same function for grids of H × W, fed one item of the sequence at a time."""
        layers = cast("list[ConvLstmLayer]", list(self.layers))
        kernel_size, dilation = layers[0].kernel_size, layers[0].dilation
        n_positions = height * width // dilation**2
        if (
            torch.is_grad_enabled()
            or height % dilation
            or width % dilation
            or n_positions > MAX_GRID
        ):
            return PlainStepper(layers)
        return GridStepper(layers, GridConv(height, width, kernel_size, dilation))


class ConvLstmStepper(Protocol):
    """A `ConvLstm` that keeps its own state."""

    def step(self, x: Tensor) -> Tensor:
        """Take the next x (B, C, H, W); return the state (B, C, H, W) of the last layer."""


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


class PlainStepper:
    """A `ConvLstmStepper` that does what its layers do: the definition of the others.

    Args:
        layers: only read.
    """

    def __init__(self, layers: list[ConvLstmLayer]) -> None:
        self.layers = layers
        self.states: list[tuple[Tensor | None, Tensor | None]] = [(None, None)] * len(layers)

    def step(self, x: Tensor) -> Tensor:
        """Take the next x (B, C, H, W); return the state (B, C, H, W) of the last layer."""
        for i, layer in enumerate(self.layers):
            self.states[i] = x, _ = layer.update(layer.from_input(x), *self.states[i])
        return x


class GridStepper:
    """A `ConvLstmStepper` whose convolutions are matrix products in the frequency domain.

    The spectrum of a layer's state serves the next layer now and its own layer at the next step.
    Works in place, hence without gradients.

    Args:
        layers: read now, and not again later.
        grid: their convolution.
    """

    def __init__(self, layers: list[ConvLstmLayer], grid: GridConv) -> None:
        self.grid = grid
        self.analysis, filters, self.synthesis = grid.matrices(layers[0].from_input.weight)

        def spectrum(weight: Tensor) -> Tensor:
            """Turn (4C, C, k, k) into the channel matrices (n, 4C, C) of the n products."""
            taps = sigmoids_only(weight).permute(2, 3, 0, 1)  # (k, k, 4C, C)
            return (filters @ taps.flatten(0, 1).flatten(1)).unflatten(1, taps.shape[2:])

        self.layers = [
            GridLayer(
                spectrum(layer.from_input.weight),
                spectrum(layer.from_state.weight),
                # The constant of a bias is all in the frequency zero, the first product.
                sigmoids_only(layer.bias()).unsqueeze(1) / self.synthesis[0, 0],
            )
            for layer in layers
        ]
        self.products = self.gates = self.analysis.new_empty(0)  # scratch of `step`

    def step(self, x: Tensor) -> Tensor:
        """Take the next x (B, C, H, W); return the state (B, C, H, W) of the last layer."""
        h = self.grid.fold(x)
        n, positions, (C, P) = len(self.analysis), len(h), h.shape[1:]
        if self.products.shape != (n, 4 * C, P):
            self.products = x.new_empty(n, 4 * C, P)
            self.gates = x.new_empty(positions, 4 * C * P)
        spectrum = (self.analysis @ h.flatten(1)).view(n, C, P)
        for layer in self.layers:
            layer.multiply(spectrum, out=self.products)
            torch.mm(self.synthesis, self.products.view(n, -1), out=self.gates)
            h = layer.update(self.gates)
            if layer.state is None:
                layer.state = torch.empty_like(spectrum)
            torch.mm(self.analysis, h, out=layer.state.view(n, -1))
            spectrum = layer.state
        return self.grid.unfold(h.view(positions, C, P))


@dataclass
class GridLayer:
    """Weights and state of one layer of a `GridStepper`."""

    from_input: Tensor  # (n, 4C, C)
    from_state: Tensor  # (n, 4C, C)
    bias: Tensor  # (4C, 1), of the first product
    state: Tensor | None = None  # its spectrum (n, C, P), None for the zero state
    cell: Tensor | None = None  # (positions, C · P), None for zeros
    work: Tensor | None = None

    def multiply(self, spectrum: Tensor, out: Tensor) -> None:
        """Write the products (n, 4C, P) of the input's spectrum (n, C, P) and the state's."""
        torch.bmm(self.from_input, spectrum, out=out)
        if self.state is not None:
            out.baddbmm_(self.from_state, self.state)
        out[0] += self.bias

    def update(self, gates: Tensor) -> Tensor:
        """Return the next state (positions, C · P) for gates (positions, 4C · P).

        tanh(a) = 2 σ(2a) − 1 throughout, since σ is computed three times as fast as tanh. The
        gates come with that 2 multiplied in.
        """
        i, f, g, o = gates.sigmoid_().chunk(4, dim=1)
        if self.cell is None:
            self.cell = (i * g).mul_(2)
            self.work = torch.empty_like(self.cell)
        else:
            self.cell.mul_(f).addcmul_(i, g, value=2)
        self.cell.sub_(i)
        return torch.mul(self.cell, 2, out=self.work).sigmoid_().mul_(o).mul_(2).sub_(o)


def sigmoids_only(gates: Tensor) -> Tensor:
    """Double the cell gate's quarter of the first axis; see `GridLayer.update`."""
    i, f, g, o = gates.chunk(4)
    return torch.cat([i, f, 2 * g, o])
