"""How large a check of the kernels works, and the flows that it works on."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from vocoder.kernels.gated_conv.op import GatedConvWeights
from vocoder.kernels.invert_flow.op import FlowWeights
from vocoder.kernels.invert_flow.triton_tiles import LONG, SHORT, Tile, choose_tile


@dataclass(frozen=True)
class Scale:
    """How large the check works.

    Args:
        device: Device to work on.
        capability: Compute capability of the card whose tiles are used.
        channels: C of the models.
        n_height: Number of rows H.
        n_layers: Number of layers L.
        n_flows: Number of flows K.
        clips: columns of one item, by the name of its duration.
        batches: Numbers of items in a batch.
        odd_width: columns of a correctness check.
        long_width: columns of a clip whose offsets exceed 32 bits with `long_items` items.
        long_items: Number of items beside `long_width`.
        tiles: what is checked and compared; None: those that suit the card.
        backend: Backend of the training op.
        train_shape: (B, W) of a training step.
        n_replays: Number of replays of a graph that must give the same every time.
        n_steps: Number of steps of the loss curve.
        n_matmul: side of the matrices of the ceilings.
        n_nodes: Number of nodes of a graph that measures the launches.
    """

    device: torch.device
    capability: tuple[int, int]
    channels: tuple[int, ...] = (64, 128)
    n_height: int = 16
    n_layers: int = 8
    n_flows: int = 8
    clips: tuple[tuple[str, int], ...] = (("1 s", 1_378), ("10 s", 13_781))
    batches: tuple[int, ...] = (1, 16)
    odd_width: int = 1_031
    long_width: int = 82_688
    long_items: int = 8
    tiles: tuple[Tile, ...] | None = None
    backend: str = "triton"
    train_shape: tuple[int, int] = (8, 1_000)
    n_replays: int = 100
    n_steps: int = 50
    n_matmul: int = 8_192
    n_nodes: int = 1_032


def describe(tile: Tile, dtype: torch.dtype) -> str:
    """Return a tile's name."""
    ahead = " ahead" if tile.look_ahead else ""
    size = f"{tile.n_columns}x{tile.depth} {tile.n_warps}w {tile.n_stages}s"
    return f"{str(dtype).removeprefix('torch.')} {tile.layout}{ahead} {size}"


def tiles_of(scale: Scale, channels: int, n_columns: int) -> list[Tile]:
    """Return the tiles to compare, the chosen one first."""
    if scale.tiles is not None:
        return list(scale.tiles)
    chosen = choose_tile(scale.capability, channels, n_columns)
    short = choose_tile(scale.capability, channels, 1)
    others = [short, replace(short, look_ahead=False), replace(short, n_columns=16)]
    for n in (SHORT, LONG + 1):
        wide = choose_tile(scale.capability, channels, n)
        others += [wide, replace(wide, layout="columns", n_columns=64)]
    return list(dict.fromkeys([chosen, *others]))


def random_flow(
    scale: Scale, channels: int, seed: int = 0, *, passthrough: bool = False
) -> FlowWeights:
    """Return a flow in float32 with weights of about the sizes of a trained one."""
    generator = torch.Generator(scale.device).manual_seed(seed)

    def random(*shape: int, size: float = 1.0) -> Tensor:
        return size * torch.randn(*shape, generator=generator, device=scale.device)

    C, L = channels, scale.n_layers
    return FlowWeights(
        layers=tuple(
            GatedConvWeights(
                conv=random(9, C, 2 * C, size=0.5 * C**-0.5),
                bias=random(2 * C, size=0.2),
                cond=None,
                res=None if i == L - 1 else random(C, C, size=0.5 * C**-0.5),
                res_bias=None if i == L - 1 else random(C, size=0.1),
                gate=None if i == L - 1 else random(C, size=0.5),
                out=random(C, 2, size=0.05 * C**-0.5),
            )
            for i in range(L)
        ),
        front_weight=random(C),
        front_bias=random(C),
        out_bias=random(2, size=0.1),
        dilations=tuple((1, 2**i) for i in range(L)),
        scale=1.0,
        order=tuple(reversed(range(scale.n_height))),
        passthrough=passthrough,
    )


def random_inputs(
    scale: Scale, flow: FlowWeights, n_items: int, width: int
) -> tuple[Tensor, list[Tensor]]:
    """Return z and projected conditioning; all layers have the same, to spare memory."""
    generator = torch.Generator(scale.device).manual_seed(1)
    shape = (n_items, scale.n_height, width)
    z = torch.randn(*shape, generator=generator, device=scale.device)
    cond = torch.randn(*shape, 2 * flow.channels, generator=generator, device=scale.device)
    return z, [0.5 * cond] * len(flow.layers)
