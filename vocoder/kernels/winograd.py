"""Winograd's minimal filtering F(m, 3): m outputs of a 3-tap filter from m + 2 products, not 3 m.

A tile of m outputs is A (G g ⊙ B d), with g the taps and d the m + 2 inputs that the tile reaches.
Source: Fast algorithms for convolutional neural networks (Lavin and Gray, CVPR 2016), §4.

Along a row with dilation d the outputs p, p + d, ..., p + (m − 1) d share inputs, so tiles come in
blocks of m · d columns: column b · m · d + i · d + p is output i of tile (b, p).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Filtering:
    """F(m, 3), or for m = 1 the degenerate F(1, 1), which knows the middle tap alone.

    Args:
        m: outputs of a tile.
        G: (m + 2, 3), what turns taps into factors.
        A: (m, m + 2), what turns products into outputs.
        ones: the product that reaches every output with factor 1, where a bias can be added.
    """

    m: int
    G: tuple[tuple[float, ...], ...]
    A: tuple[tuple[float, ...], ...]
    ones: int

    @property
    def n_products(self) -> int:
        """Products of a tile."""
        return len(self.G)

    def cost(self, width: int, dilation: int) -> int:
        """Return the products for every channel pair of a row of `width` columns."""
        return self.n_products * dilation * -(-width // (self.m * dilation))

    def factors(self, taps: Tensor) -> Tensor:
        """Turn taps (..., 3, C, N) into factors (n_products, ..., C, N)."""
        G = torch.tensor(self.G, dtype=torch.float64, device=taps.device)
        return torch.einsum("ik,...kcn->i...cn", G, taps.double()).to(taps.dtype)

    def output_matrix(self, like: Tensor) -> Tensor:
        """Return A (m, n_products), of the type of `like`."""
        return like.new_tensor(self.A)

    def transform(self, x: Tensor, out: Tensor) -> None:
        """Write B x into `out`.

        Args:
            x: (n_products, ...): entry i holds input i of every tile. The middle entry alone for
                m = 1.
            out: the same shape; must not overlap x.
        """
        if self.m == 1:
            out.copy_(x)
        elif self.m == 2:
            torch.sub(x[0], x[2], out=out[0])
            torch.add(x[1], x[2], out=out[1])
            torch.sub(x[2], x[1], out=out[2])
            torch.sub(x[3], x[1], out=out[3])
        else:
            odd, even = x[3:5] - x[1:3]  # x3 − x1, x4 − x2
            odd4, even4 = torch.sub(x[3:5], x[1:3], alpha=4)  # x3 − 4 x1, x4 − 4 x2
            torch.add(even, x[0] - x[2], alpha=4, out=out[0])
            torch.add(even4, odd4, out=out[1])
            torch.sub(even4, odd4, out=out[2])
            torch.add(even, odd, alpha=2, out=out[3])
            torch.sub(even, odd, alpha=2, out=out[4])
            torch.sub(x[5] - x[3], odd, alpha=4, out=out[5])


MIDDLE = Filtering(1, ((0, 1, 0),), ((1,),), ones=0)
F2 = Filtering(
    2,
    ((1, 0, 0), (1 / 2, 1 / 2, 1 / 2), (1 / 2, -1 / 2, 1 / 2), (0, 0, 1)),
    ((1, 1, 1, 0), (0, 1, -1, 1)),
    ones=1,
)
F4 = Filtering(
    4,
    (
        (1 / 4, 0, 0),
        (-1 / 6, -1 / 6, -1 / 6),
        (-1 / 6, 1 / 6, -1 / 6),
        (1 / 24, 1 / 12, 1 / 6),
        (1 / 24, -1 / 12, 1 / 6),
        (0, 0, 1),
    ),
    ((1, 1, 1, 1, 1, 0), (0, 1, -1, 2, -2, 0), (0, 1, 1, 4, 4, 0), (0, 1, -1, 8, -8, 1)),
    ones=1,
)


def choose_filtering(width: int, dilation: int) -> Filtering:
    """Return the cheapest filtering of a whole row; wide tiles waste columns at large dilations."""
    if dilation >= width:
        return MIDDLE  # the outer taps see nothing but padding
    return min((F4, F2), key=lambda filtering: filtering.cost(width, dilation))
