"""How the Triton kernels of `gated_conv2d` cut their products, for each card and model."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Tile:
    """How much of a product one program computes, and with what.

    Args:
        columns: columns of a tile (for the weight gradient, of one step of the sum).
        depth: channels of one step of the sum (for the weight gradient, output channels).
        n_warps: warps of a program.
        n_stages: steps of loads in flight.
    """

    columns: int
    depth: int
    n_warps: int
    n_stages: int


@dataclass(frozen=True)
class Tiles:
    """The tiles of the four kernels."""

    forward: Tile
    gate: Tile
    input: Tile
    weight: Tile


def choose_tiles(capability: tuple[int, int], channels: int) -> Tiles:
    """Return the tiles; a static table, since tuning while running breaks capture.

    Args:
        capability: Compute capability of the card; what is neither 8.0 nor 9.0 gets the tiles that
            fit every card.
        channels: Number of channels C.
    """
    big = capability in ((8, 0), (9, 0))  # shared memory for 64 channels in three stages
    step = 64 if big else 32
    depth = min(channels, step)
    if channels <= 64:
        return Tiles(
            forward=Tile(128, depth, 8, 3),
            gate=Tile(64, channels, 8, 1),
            input=Tile(128, depth, 8, 3),
            weight=Tile(step, 2 * channels, 4, 3),
        )
    hopper = capability == (9, 0)
    return Tiles(
        forward=Tile(128 if hopper else 64, depth, 8, 3),
        gate=Tile(32, channels, 8, 1),
        input=Tile(128, depth, 8, 3),
        weight=Tile(step, 256 if hopper else 128, 8, 3),
    )
