"""Which backends compute a gated layer, and why one does not take a call."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from vocoder.kernels.card import Card, refuse_card
from vocoder.kernels.dispatch import REFERENCE, Backend


@dataclass(frozen=True)
class Call:
    """The facts of a call that decide which backend computes it.

    Args:
        device: "cpu", "cuda", ...
        card: The CUDA device; None where it is another.
        dtype: Type of h.
        channels: Number of channels C.
        n_mels: M, or 0 where the conditioning comes projected.
        n_outputs: Number n of outputs.
        d_h: dilation along rows.
        queued: there are past rows.
        has_numba: Numba can be imported.
        causal: no column to the right is seen.
    """

    device: str
    card: Card | None
    dtype: torch.dtype
    channels: int
    n_mels: int
    n_outputs: int
    d_h: int
    queued: bool
    has_numba: bool = True
    causal: bool = False


def refuse_triton(call: Call) -> str | None:
    """Say why the Triton kernels cannot compute a call."""
    if reason := refuse_card(call.device, call.card):
        return reason
    if call.dtype not in (torch.float16, torch.bfloat16):
        return f"{str(call.dtype).removeprefix('torch.')} has no tensor cores; use autocast"
    if call.channels not in (64, 128):
        return f"{call.channels} channels; compiled for 64 and 128"
    if call.n_mels % 16:
        return f"{call.n_mels} mel bands; only multiples of 16"
    if call.n_outputs > 16:
        return f"{call.n_outputs} outputs; at most 16 (splines have more)"
    if call.d_h != 1:
        return f"height dilation {call.d_h}; only 1"
    if call.causal:
        return "a layer that is causal along columns; only symmetric ones"
    if call.queued:
        return "a queue of past rows"
    return None


def refuse_cpu(call: Call) -> str | None:
    """Say why the CPU's own implementation cannot compute a call."""
    if call.device != "cpu":
        return f"the tensors are on the {call.device}, not on the CPU"
    if call.dtype not in (torch.float32, torch.float64, torch.bfloat16):
        return f"{str(call.dtype).removeprefix('torch.')}; only float32, float64 and bfloat16"
    if call.dtype == torch.bfloat16 and not call.has_numba:
        return "numba is not installed, which librosa brings"
    return None


def decline_cpu(call: Call) -> str | None:
    """Say why `F.conv2d` is as fast as the CPU's own implementation, or exact where that matters.

    How many times faster than the reference it is, forward and backward, one thread of a CPU with
    AVX2 that others used too, 16 rows:

        C = 64    1,000 columns: 1.6 to 2.7 for d_w = 1 to 256; 250: 1.4; 64: 1.1 to 1.2
        C = 128   1,000 columns: 1.7
        C = 32    1,000 columns: 1.2
        C = 16    1,000 columns: 1.0
        C = 8     1,000 columns: 0.75

    A queue would transform its past rows again for every row. In bfloat16 the convolution is the
    reference's, and what is saved are passes over memory: on a CPU with AMX 1.3 to 1.9 times as
    fast as the reference.
    """
    if call.dtype == torch.float64:
        return "float64 is for exactness, and the reference defines that"
    if call.channels < 32:
        return f"{call.channels} channels; faster from 32"
    if call.queued:
        return "a queue of past rows"
    return None


BACKENDS: tuple[Backend[Call], ...] = (
    Backend("triton", refuse_triton, "vocoder.kernels.gated_conv.triton_op", "gated_conv2d_triton"),
    Backend("cpu", refuse_cpu, "vocoder.kernels.gated_conv.cpu", "gated_conv2d_cpu", decline_cpu),
    Backend(REFERENCE, lambda _: None, "vocoder.kernels.gated_conv.op", "gated_conv2d_reference"),
)
