"""The network of `ChannelPrior` one channel at a time: the layers as they are, and a fast twin."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vocoder.kernels.grid_conv import GridConv
from vocoder.nets.convlstm import ConvLstm, ConvLstmLayer

# Positions of a grid (of one phase, if dilated) up to which `GridSteps` is the faster one: its
# transforms grow with the square of them.
MAX_GRID = 256


class ChannelSteps(Protocol):
    """The network and its state."""

    def step(self, channel: Tensor | None) -> Tensor:
        """Take a channel (B, H, W), None at first; return the moments of the next (B, 2, H, W)."""


def channel_steps(front: Tensor, lstm: ConvLstm, head: nn.Conv2d, constant: Tensor) -> ChannelSteps:
    """Return the fastest steps there are.

    Args:
        front: weight (C, 1, k, k) of the convolution that reads a channel.
        lstm: Maps its output and the constant to states (B, C, H, W).
        head: Maps states to moments.
        constant: what is added to every input of the LSTM, (B, C, H, W).
    """
    layers = cast("list[ConvLstmLayer]", list(lstm.layers))
    dilation, (height, width) = layers[0].dilation, constant.shape[2:]
    if (
        torch.is_grad_enabled()
        or height % dilation
        or width % dilation
        or height * width > MAX_GRID * dilation**2
        or layers[0].kernel_size < head.kernel_size[0]
    ):
        return PlainSteps(front, layers, head, constant)
    return GridSteps(front, layers, head, constant)


class PlainSteps:
    """`ChannelSteps` that do what the layers do: the definition of the others.

    The arguments are those of `channel_steps`.
    """

    def __init__(
        self, front: Tensor, layers: Sequence[ConvLstmLayer], head: nn.Conv2d, constant: Tensor
    ) -> None:
        self.front, self.layers, self.head, self.constant = front, layers, head, constant
        self.states: list[tuple[Tensor | None, Tensor | None]] = [(None, None)] * len(layers)

    def step(self, channel: Tensor | None) -> Tensor:
        """Take a channel (B, H, W), None at first; return the moments of the next (B, 2, H, W)."""
        x = self.constant
        if channel is not None:
            x = x + F.conv2d(channel.unsqueeze(1), self.front, padding="same")
        for i, layer in enumerate(self.layers):
            self.states[i] = x, _ = layer.update(layer.from_input(x), *self.states[i])
        return self.head(x)


class GridSteps:
    """`ChannelSteps` whose convolutions are matrix products in the frequency domain.

    The spectrum of a layer's state serves the next layer now and its own layer at the next step.
    Works in place, hence without gradients.

    Sigmoids are all that is computed, since they take a third of the time of tanh(a) =
    2 (σ(2a) − ½). The factors go where they cost nothing: the gates of the cell come doubled, cells
    are kept doubled, and states halved.

    The arguments are those of `channel_steps`; the dilation must divide H and W, and the kernel of
    the head be no larger than the LSTM's.
    """

    def __init__(
        self, front: Tensor, layers: Sequence[ConvLstmLayer], head: nn.Conv2d, constant: Tensor
    ) -> None:
        height, width = constant.shape[2:]
        kernel_size, dilation = layers[0].kernel_size, layers[0].dilation
        self.grid = GridConv(height, width, kernel_size, dilation)
        self.analysis, self.filters, self.synthesis = self.grid.matrices(constant)
        self.front = front
        self.constant = self._spectrum(constant)
        self.work = GridWork(self.grid.n_positions, self.constant)
        self.layers = [
            GridLayer(
                self._factors(double_cell_gate(layer.from_input.weight), 2 if i else 1),
                self._factors(double_cell_gate(layer.from_state.weight), 2),
                # The constant of a bias is all in the frequency zero, the first product.
                double_cell_gate(layer.bias()).unsqueeze(1) / self.synthesis[0, 0],
            )
            for i, layer in enumerate(layers)
        ]
        self.to_moments = self._factors(_between_phases(head.weight, dilation, kernel_size), 2)
        self.bias = head.bias
        # On the small grids of the later levels one matrix takes a channel to what it adds to the
        # spectrum, in less time than a convolution starts.
        self.from_pixels = None
        if dilation == 1:
            pixels = torch.eye(height * width).to(constant).view(-1, 1, height, width)
            self.from_pixels = self._spectrum(self._read(pixels)).flatten(0, 1)

    def step(self, channel: Tensor | None) -> Tensor:
        """Take a channel (B, H, W), None at first; return the moments of the next (B, 2, H, W)."""
        spectrum, work = self.constant, self.work
        if channel is not None:
            spectrum = self._add_channel(channel)
        for layer in self.layers:
            torch.bmm(layer.from_input, spectrum, out=work.products)
            if layer.state is None:
                layer.state, layer.cell = torch.empty_like(spectrum), torch.zeros_like(work.h)
            else:
                work.products.baddbmm_(layer.from_state, layer.state)
            work.first_product.add_(layer.bias)
            torch.mm(self.synthesis, work.flat_products, out=work.gates)
            work.update(layer.cell)
            torch.mm(self.analysis, work.h, out=layer.state.view(len(self.analysis), -1))
            spectrum = layer.state
        return self._moments(spectrum)

    def _add_channel(self, channel: Tensor) -> Tensor:
        if self.from_pixels is None:
            return self._spectrum(self._read(channel.unsqueeze(1))).add_(self.constant)
        constant = self.constant.flatten(0, 1)  # (n · C, B)
        spectrum = torch.addmm(constant, self.from_pixels, channel.flatten(1).T)
        return spectrum.view_as(self.constant)

    def _moments(self, spectrum: Tensor) -> Tensor:
        P = spectrum.shape[2]
        B = P // self.grid.dilation**2
        # The head has no dilation: it reads all phases of a grid, and writes them.
        products = torch.bmm(self.to_moments, spectrum.view(len(spectrum), -1, B))
        moments = self.grid.unfold((self.synthesis @ products.flatten(1)).view(-1, 2, P))
        return moments if self.bias is None else moments + self.bias.view(-1, 1, 1)

    def _read(self, channel: Tensor) -> Tensor:
        """Convolve a channel (B, 1, H, W) to (B, C, H, W)."""
        return F.conv2d(channel, self.front, padding=self.front.shape[2] // 2)

    def _spectrum(self, x: Tensor) -> Tensor:
        """Transform x (B, C, H, W) to (n, C, P)."""
        folded = self.grid.fold(x)
        return (self.analysis @ folded.flatten(1)).view(-1, *folded.shape[1:])

    def _factors(self, weight: Tensor, scale: int) -> Tensor:
        """Turn weights (N, C, k, k), times `scale`, into the matrices (n, N, C) of the products."""
        factors = (scale * self.filters) @ weight.reshape(-1, self.filters.shape[1]).T
        return factors.view(-1, *weight.shape[:2])


def _between_phases(weight: Tensor, dilation: int, kernel_size: int) -> Tensor:
    """Write a convolution without dilation d as one of the d² phases of its input and output.

    Args:
        weight: (N, C, 3, 3).
        dilation: d.
        kernel_size: k, at least 3, of the result.

    Returns:
        (N · d², C · d², k, k), the phases in the order of `GridConv.fold`.
    """
    N, C = weight.shape[:2]
    d, middle = dilation, kernel_size // 2
    phases = weight.new_zeros(N, d, d, C, d, d, kernel_size, kernel_size)
    for y, x, dy, dx in itertools.product(range(d), range(d), (-1, 0, 1), (-1, 0, 1)):
        (row, from_y), (column, from_x) = divmod(y + dy, d), divmod(x + dx, d)
        phases[:, y, x, :, from_y, from_x, middle + row, middle + column] = weight[
            :, :, 1 + dy, 1 + dx
        ]
    return phases.flatten(3, 5).flatten(0, 2)


def double_cell_gate(gates: Tensor) -> Tensor:
    """Double the third quarter of the first axis."""
    i, f, g, o = gates.chunk(4)
    return torch.cat([i, f, 2 * g, o])


@dataclass
class GridLayer:
    """Weights and state of one layer of `GridSteps`."""

    from_input: Tensor  # (n, 4C, C)
    from_state: Tensor  # (n, 4C, C)
    bias: Tensor  # (4C, 1), of the first product
    state: Tensor | None = None  # half of it: the spectrum (n, C, P), None for the zero state
    cell: Tensor = field(default_factory=lambda: torch.empty(0))  # doubled, (positions, C · P)


class GridWork:
    """What the layers of `GridSteps` compute in, one after the other.

    Args:
        n_positions: positions of a grid.
        like: the spectrum (n, C, P) of an input.
    """

    def __init__(self, n_positions: int, like: Tensor) -> None:
        n, C, P = like.shape
        self.products = like.new_empty(n, 4 * C, P)
        self.flat_products, self.first_product = self.products.flatten(1), self.products[0]
        self.gates = like.new_empty(n_positions, 4 * C * P)
        self.each_gate = self.gates.chunk(4, dim=1)
        self.h = like.new_empty(n_positions, C * P)  # half of the state

    def update(self, cell: Tensor) -> None:
        """Update the doubled `cell` (positions, C · P), and from it `h`, by `gates`."""
        self.gates.sigmoid_()
        i, f, g, o = self.each_gate
        cell.mul_(f).addcmul_(i, g.sub_(0.5), value=4)
        torch.sigmoid(cell, out=self.h).sub_(0.5).mul_(o)
