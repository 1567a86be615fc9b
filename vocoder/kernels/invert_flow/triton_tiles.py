"""How the Triton kernels of `invert_flow` cut a row, for each card, model and length."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Tile:
    """How a layer's row is cut, and into how many warps and pipeline stages.

    Args:
        layout: "columns", columns by channels with loads through pointers; "descriptors", the same
            with tiles that the card copies by itself; "transposed", channels by columns.
        n_columns: columns of one program.
        depth: input channels of one product.
        n_warps: warps of one program.
        n_stages: products whose operands are on their way.
        look_ahead: compute what the rows above give beside the row before ("transposed" alone).
    """

    layout: Literal["columns", "descriptors", "transposed"]
    n_columns: int
    depth: int
    n_warps: int
    n_stages: int
    look_ahead: bool = False


# A row of so many columns, all items together, is too short to fill a card with wide tiles ...
SHORT = 4_000
# ... and one of so many is long enough for the widest.
LONG = 40_000
OPENER = Tile("columns", n_columns=32, depth=32, n_warps=4, n_stages=2)
CLOSER = Tile("columns", n_columns=256, depth=1, n_warps=4, n_stages=1)


def choose_tile(capability: tuple[int, int], channels: int, n_columns: int) -> Tile:
    """Return the tile of a layer; a static table, since tuning while running breaks capture.

    Args:
        capability: Compute capability of the card; what is neither 8.0 nor 9.0 gets the tiles that
            fit every card.
        channels: C, 64 or 128.
        n_columns: B · W.
    """
    narrow = channels == 64
    n_warps = 4 if narrow else 8
    # Shared memory holds the stages: 227 KB, 163 KB and 99 KB.
    depth = 64 if narrow or capability in ((8, 0), (9, 0)) else 32
    if n_columns < SHORT:
        n_stages = 4 if narrow and capability == (9, 0) else 3
        return Tile("transposed", 32, depth, n_warps, n_stages, look_ahead=True)
    if capability != (9, 0):
        return Tile("columns", 64, depth, n_warps, 3 if depth == 64 else 4)
    if narrow and n_columns > LONG:
        return Tile("descriptors", 256, depth, 8, 3)
    return Tile("descriptors", 128, depth, n_warps, 3)
