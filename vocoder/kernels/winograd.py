"""Winograd's minimal filtering F(m, 3): m outputs of a 3-tap filter from m + 2 products, not 3 m.

A tile of m outputs is A (G g ⊙ B d), with g the taps and d the m + 2 inputs that the tile reaches.
Source: Fast algorithms for convolutional neural networks (Lavin and Gray, CVPR 2016), §4.

Along a row with dilation d the outputs p, p + d, ..., p + (m − 1) d share inputs, so tiles come in
blocks of m · d columns: column b · m · d + i · d + p is output i of tile (b, p).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor


@dataclass(frozen=True)
class Filtering:
    """F(m, 3), or for m = 1 the degenerate F(1, 1), which knows one tap alone.

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
        """Write B x into `out`; see `bind`."""
        self.bind(x, out, x.new_empty(x.numel()))()

    def bind(self, x: Tensor, out: Tensor, scratch: Tensor) -> Callable[[], object]:
        """Return what writes B x into `out` whenever it is called; its views are made here, once.

        Args:
            x: (n_products, ...): entry i holds input i of every tile. That of the one tap alone
                for m = 1.
            out: the same shape; must not overlap x.
            scratch: one-dimensional, of as many elements or more; overwritten.
        """
        if self.m == 1:
            return partial(out.copy_, x)
        if self.m == 2:
            x0, x1, x2, x3 = x
            return _sequence(
                partial(torch.sub, x0, x2, out=out[0]),
                partial(torch.add, x1, x2, out=out[1]),
                partial(torch.sub, x2, x1, out=out[2]),
                partial(torch.sub, x3, x1, out=out[3]),
            )
        differences, weighted = scratch[: x.numel()].view(x.shape).split((4, 2))
        a, b, c, d = differences  # x2 − x0, x3 − x1, x4 − x2, x5 − x3
        e, f = weighted  # x3 − 4 x1, x4 − 4 x2
        return _sequence(
            partial(torch.sub, x[2:], x[:4], out=differences),
            partial(torch.sub, x[3:5], x[1:3], alpha=4, out=weighted),
            partial(torch.sub, c, a, alpha=4, out=out[0]),
            partial(torch.add, f, e, out=out[1]),
            partial(torch.sub, f, e, out=out[2]),
            partial(torch.add, c, b, alpha=2, out=out[3]),
            partial(torch.sub, c, b, alpha=2, out=out[4]),
            partial(torch.sub, d, b, alpha=4, out=out[5]),
        )


def _sequence(*calls: Callable[[], object]) -> Callable[[], object]:
    def run() -> None:
        for call in calls:
            call()

    return run


MIDDLE = Filtering(1, ((0, 1, 0),), ((1,),), ones=0)
LAST = Filtering(1, ((0, 0, 1),), ((1,),), ones=0)
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


def choose_filtering(width: int, dilation: int, causal: bool = False) -> Filtering:
    """Return the cheapest filtering of a whole row; wide tiles waste columns at large dilations.

    Args:
        width: columns of the row.
        dilation: Dilation between the taps.
        causal: the last tap reads the output's own column, not the middle one.
    """
    if dilation >= width:
        return LAST if causal else MIDDLE  # the other taps see nothing but padding
    return min((F4, F2), key=lambda filtering: filtering.cost(width, dilation))
