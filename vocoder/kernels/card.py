"""The GPU that a call runs on, and why no Triton kernel of ours can run there."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass

OLDEST = (8, 0)  # compute capability: the first cards with tensor cores for bfloat16 and cp.async


@dataclass(frozen=True)
class Card:
    """The facts of a CUDA device.

    Args:
        name: What its maker calls it, such as "Tesla T4".
        capability: Compute capability, such as (7, 5).
        is_nvidia: It is NVIDIA's. torch for ROCm calls the cards of AMD CUDA devices too, and has
            a compute capability for each.
        has_triton: Triton can be imported.
    """

    name: str
    capability: tuple[int, int]
    is_nvidia: bool
    has_triton: bool


def find_card(device: str, index: int | None = None) -> Card | None:
    """Return the card of a device of this machine, or None where it is no CUDA device.

    Args:
        device: "cpu", "cuda", ...
        index: Number of the CUDA device; None is the current one.
    """
    if device != "cuda":
        return None
    import torch

    return Card(
        torch.cuda.get_device_name(index),
        torch.cuda.get_device_capability(index),
        torch.version.hip is None,
        importlib.util.find_spec("triton") is not None,
    )


class Lack(str):
    """A reason that lies in the machine, whatever the call, with its remedy: worth a warning."""

    __slots__ = ()


def refuse_card(device: str, card: Card | None) -> str | None:
    """Say why no Triton kernel of ours can run on a device, whatever the call."""
    if card is None:
        return f"the tensors are on the {device}, not on an NVIDIA GPU"
    if not card.is_nvidia:
        return Lack(
            f"{card.name} is no NVIDIA card; the kernels need one with compute capability 8.0 or "
            "newer"
        )
    if card.capability < OLDEST:
        version = ".".join(map(str, card.capability))
        return Lack(
            f"{card.name} has compute capability {version}; the kernels need a card with 8.0 or "
            "newer, such as an A100 or any of the RTX 30 series"
        )
    if not card.has_triton:
        return Lack(f"{card.name} lacks triton, which is not installed; `pip install triton`")
    return None
