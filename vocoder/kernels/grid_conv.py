"""Convolution of a small grid in its frequency domain: few products, all of them in matrix form.

Nearly all positions of a grid of 4 to 16 pixels are near an edge, and a 5 × 5 convolution spends
much of its work on the padding. The discrete Fourier transform of a grid padded by half a kernel
turns the convolution into one product of channel matrices for each frequency: about 1.5 (m + k/2)²
real products for each pair of channels instead of (m · k)². The transforms of so small a grid are
products with constant matrices themselves. In all,

    y = synthesis · ((analysis · x) ⊙ (filter · w))

where ⊙ is the matrix product over channels for each of the n products. A dilated convolution falls
apart into d² of them without dilation, one for each phase.

Source of the idea of a bilinear algorithm and of three real products for a complex one: Fast
algorithms for digital signal processing (Blahut, 1985), chapters 1 and 3.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor


@dataclass(frozen=True)
class GridConv:
    """Convolution to the same size, zero-padded, of grids H × W; stride 1.

    Args:
        height: Height H of the grid.
        width: Width W of the grid.
        kernel_size: Kernel size k, which is odd.
        dilation: d; must divide H and W, so that all phases have the same grid.
    """

    height: int
    width: int
    kernel_size: int
    dilation: int

    @property
    def _sides(self) -> tuple[int, int]:
        """Height and width of the grid of one phase."""
        return self.height // self.dilation, self.width // self.dilation

    @property
    def n_positions(self) -> int:
        """Positions of the grid of one phase."""
        return math.prod(self._sides)

    def matrices(self, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the constant matrices in the type and on the device of `like`.

        Returns:
            analysis (n, positions), filter (n, k²) and synthesis (positions, n). The first product
            is that of frequency zero, so that the first column of synthesis is constant.
        """
        return tuple(  # type: ignore[return-value]
            matrix.to(like.dtype).to(like.device)
            for matrix in _bilinear_algorithm(self._sides, self.kernel_size)
        )

    def fold(self, x: Tensor) -> Tensor:
        """Turn x (B, C, H, W) into (positions, C, P), P = d² · B grids without dilation."""
        d = self.dilation
        x = x.unflatten(3, (-1, d)).unflatten(2, (-1, d))  # (B, C, h, d, w, d)
        return x.permute(2, 4, 1, 3, 5, 0).flatten(3).flatten(0, 1)

    def unfold(self, x: Tensor) -> Tensor:
        """Undo `fold`."""
        d = self.dilation
        x = x.unflatten(2, (d, d, -1)).unflatten(0, self._sides)  # (h, w, C, d, d, B)
        return x.permute(5, 2, 0, 3, 1, 4).flatten(4).flatten(2, 3)


@lru_cache(maxsize=32)
def _bilinear_algorithm(sides: tuple[int, int], kernel_size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return analysis, filter and synthesis of `GridConv`, in double precision.

    A frequency f and its negative have conjugate coefficients, so one of each pair is computed: its
    product (a + ib) · (c + id), a + ib of the grid, is

        real = c (a + b) − b (c + d)        imaginary = c (a + b) + a (d − c)

    from three real products. A frequency that is its own negative is real and takes one.
    """
    analysis, filters, synthesis = [], [], []
    reach = (kernel_size - 1) // 2
    # With so many frequencies what wraps around the grid comes from the padding alone. Taps
    # farther off the centre than the grid is long reach nothing but padding.
    sizes = [side + min(reach, side - 1) for side in sides]
    n_frequencies = math.prod(sizes)
    grid = torch.cartesian_prod(*(torch.arange(side) for side in sides))
    taps = torch.cartesian_prod(*[torch.arange(-reach, reach + 1)] * 2)
    inside = (taps.abs() < torch.tensor(sides)).all(dim=1)
    for row in range(sizes[0]):
        for column in range(sizes[1]):
            negative = (-row % sizes[0], -column % sizes[1])
            if negative < (row, column):
                continue
            turns = 2 * math.pi * (torch.tensor([row, column]).double() / torch.tensor(sizes))
            angle, tap_angle = grid.double() @ turns, taps.double() @ turns
            a, b = angle.cos(), -angle.sin()
            c, d = tap_angle.cos() * inside, tap_angle.sin() * inside
            if negative == (row, column):
                analysis += [a]
                filters += [c]
                synthesis += [angle.cos() / n_frequencies]
                continue
            analysis += [a + b, a, b]
            filters += [c, d - c, c + d]
            real, imaginary = angle.cos(), -angle.sin()  # what each adds to y
            weights = (real + imaginary, imaginary, -real)
            synthesis += [2 * weight / n_frequencies for weight in weights]
    return torch.stack(analysis), torch.stack(filters), torch.stack(synthesis, dim=1)
