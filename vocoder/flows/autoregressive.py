"""A flow step that is autoregressive over the rows of a folded waveform, parallel over columns.

Source: WaveFlow, a compact flow-based model for raw audio (ICML 2020), §3.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from vocoder.flows.base import Bijection
from vocoder.flows.elementwise import Elementwise


class RowQueue(Protocol):
    """A causal estimator that is fed one row at a time."""

    def step(self, row: Tensor) -> Tensor:
        """Take the next input row (B, W); return the parameters (B, P, W) of the row after it."""


class RowEstimator(Protocol):
    """A network that is causal along rows: output row r depends on input rows ≤ r."""

    def __call__(self, rows: Tensor, cond: Any) -> Tensor:
        """Map input rows (B, H, W) to parameters (B, P, H, W)."""

    def queue(self, cond: Any) -> RowQueue:
        """Return the same function as a queue of rows."""


class RowAutoregressive(Bijection[[Any, RowEstimator]]):
    """Transform each row given the rows visited before it.

    Args:
        order: the natural row that is visited first, second, ...; a permutation of range(H).
        transform: the elementwise map.
        passthrough: copy the first row instead of transforming it (the WaveFlow repository);
            otherwise the first row is transformed given a row of zeros (the NanoFlow repository).

    `x` and `z` (B, H, W) are in natural row order on both sides; `cond` is whatever the estimator
    takes, with the rows of `visits`: several steps share an order, and so one reordered copy.
    """

    def __init__(
        self, order: tuple[int, ...], transform: Elementwise, passthrough: bool = False
    ) -> None:
        super().__init__()
        self.order = order
        self.transform = transform
        self.passthrough = passthrough
        self.positions = tuple(sorted(range(len(order)), key=order.__getitem__))
        self.visits = order[1:] if passthrough else order  # the rows that are transformed

    def forward(self, x: Tensor, cond: Any, estimator: RowEstimator) -> tuple[Tensor, Tensor]:
        """Map x to z; return z and its log-determinant (B,)."""
        z, log_derivative = self.elementwise(x, cond, estimator)
        return z, log_derivative.sum(dim=(1, 2))

    def elementwise(self, x: Tensor, cond: Any, estimator: RowEstimator) -> tuple[Tensor, Tensor]:
        """Like `forward`, with log|dz/dx| of every element (B, H, W) instead of its sum."""
        x = take_rows(x, self.order)
        if self.passthrough:
            params = estimator(x[:, :-1], cond)
            z, log_derivative = self.transform.forward(x[:, 1:], params.to(x.dtype))
            z = torch.cat([x[:, :1], z], dim=1)
            log_derivative = F.pad(log_derivative, (0, 0, 1, 0))
        else:
            params = estimator(F.pad(x[:, :-1], (0, 0, 1, 0)), cond)
            z, log_derivative = self.transform.forward(x, params.to(x.dtype))
        return take_rows(z, self.positions), take_rows(log_derivative, self.positions)

    def inverse(self, z: Tensor, cond: Any, estimator: RowEstimator) -> Tensor:
        """Map z to x, one row after the other."""
        rows = [z[:, self.order[0]] if self.passthrough else torch.zeros_like(z[:, 0])]
        queue = estimator.queue(cond)
        for row in self.visits:
            params = queue.step(rows[-1])
            rows.append(self.transform.inverse(z[:, row], params.to(z.dtype)))
        return take_rows(torch.stack(rows[-len(self.order) :], dim=1), self.positions)


def take_rows(rows: Tensor, order: tuple[int, ...]) -> Tensor:
    """Return rows (B, H, W, ...) in the given order; the very tensor if that is the natural one."""
    natural = tuple(range(rows.shape[1]))
    if order == natural:
        return rows
    if order == natural[::-1]:
        return rows.flip(1)  # faster than a gather, and much faster backward
    return rows.index_select(1, torch.tensor(order, device=rows.device))


def row_orders(
    n_height: int, n_flows: int, flip_first: bool, bipartize: bool
) -> list[tuple[int, ...]]:
    """Return the order in which each of the K flows visits the rows, and the latent's order.

    The published code permutes x and its conditioning before or after every flow; the products of
    those permutations give for each flow one order of the natural rows, and nothing need move.

    Args:
        n_height: rows H; even when `bipartize`.
        n_flows: Number of flows K.
        flip_first: permute before each flow (the NanoFlow repository) instead of after it.
        bipartize: Whether to flip each half of the rows from flow K // 2 on, instead of all of
            them.

    Returns:
        K + 1 permutations: those of the flows, and that in which the published code stores z.
    """
    flip = tuple(reversed(range(n_height)))
    half = n_height // 2
    halves = tuple(reversed(range(half))) + tuple(reversed(range(half, n_height)))
    order: tuple[int, ...] = tuple(range(n_height))
    orders = []
    for k in range(n_flows):
        permutation = halves if bipartize and k >= n_flows // 2 else flip
        permuted = tuple(order[row] for row in permutation)
        orders.append(permuted if flip_first else order)
        order = permuted
    return [*orders, order]
