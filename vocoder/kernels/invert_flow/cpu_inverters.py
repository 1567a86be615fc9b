"""Which of the CPU's inverters takes which flows."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from vocoder.kernels.invert_flow.causal import CausalInverter
from vocoder.kernels.invert_flow.cpu import CpuInverter
from vocoder.kernels.invert_flow.op import FlowWeights


def cpu_inverter(
    flows: Sequence[FlowWeights], memory: int | None = None
) -> CpuInverter | CausalInverter:
    """Return the CPU's inverter of symmetric or of causal flows.

    Args:
        flows: The flows in forward order, all of one size.
        memory: The bytes that an inversion may take; None is as many as it wants.

    Raises:
        VocoderError: the memory is too little for causal flows.
    """
    if flows[0].causal:
        return CausalInverter(flows, memory)
    if flows[0].dtype == torch.bfloat16:
        from vocoder.kernels.invert_flow.cpu_bf16 import NarrowInverter  # numba takes a while

        return NarrowInverter(flows, memory)
    return CpuInverter(flows, memory)
