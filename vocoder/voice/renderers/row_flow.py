"""Fast renderers of WaveFlow and NanoFlow: row after row, on a CPU and on a GPU."""

from __future__ import annotations

import importlib.util

import torch
from torch import Tensor

from vocoder.flows.reshape import fold_rows
from vocoder.kernels.card import find_card
from vocoder.kernels.dispatch import choose, log_choice
from vocoder.kernels.invert_flow.op import BACKENDS, Call, Inverter, cast_flows
from vocoder.models.families.row_flow import RowFlow
from vocoder.models.families.voice import VoiceModel
from vocoder.models.nanoflow import NanoFlow
from vocoder.models.waveflow import WaveFlow
from vocoder.voice.renderer import RENDERERS, Renderer, make_only_reference, make_reference

DEFAULT_MEMORY = 2 * 2**30  # bytes that an inversion on a CPU may take


class RowRenderer(Renderer):
    """Row after row by one of the fast inverters, whichever it is.

    Args:
        model: The folded model, on its device.
        dtype: The type that the inverter computes in.
        backend: The name of the inverter's backend.
        inverter: Inverts the flows of the model.
    """

    model: RowFlow

    def __init__(
        self, model: RowFlow, dtype: torch.dtype, backend: str, inverter: Inverter
    ) -> None:
        super().__init__(model, dtype)
        self.backend = backend
        self.inverter = inverter

    def render(self, z: Tensor, cond: Tensor, frames: Tensor | None) -> Tensor:
        """Return audio (B, N), in the memory of z."""
        H = self.model.config.n_height

        def samples(items: slice, lo: int, hi: int) -> Tensor:
            given, own = cond[items], frames
            if own is not None:
                own = own[items]
                if len(own) == 1:  # cut, so that it is the same to the bit as alone
                    given, own = given[..., : int(own)], None
            return self.model.conditioning(given, lo, hi, own)

        columns = None if frames is None else frames * (self.model.hop_length // H)
        self.inverter.invert_in_place(fold_rows(z, H), samples, columns)
        return z


@RENDERERS.register(WaveFlow, NanoFlow)
def make_row_renderer(
    model: VoiceModel, dtype: torch.dtype | None, backend: str, memory: int | None
) -> Renderer:
    """Return the renderer of a row flow; see `RendererMaker`."""
    assert isinstance(model, RowFlow)
    config, device = model.config, next(model.parameters()).device
    cuda = device.type == "cuda"
    if config.transform != "affine":
        reason = f"the row op knows affine flows alone, this one is a {config.transform}"
        return make_only_reference(model, dtype, backend, memory, reason)
    narrow = torch.float16 if cuda else torch.float32
    facts = Call(
        device=device.type,
        card=find_card(device.type, device.index),
        dtype=narrow if dtype is None else dtype,
        z_dtype=torch.float32 if cuda or dtype in (None, torch.bfloat16) else dtype,
        channels=config.channels,
        n_mels=config.sample_channels,
        d_h=2 ** (min(config.n_layers, config.n_layers_per_cycle) - 1),
        causal=model.causal,
        has_numba=importlib.util.find_spec("numba") is not None,
    )
    choice = choose(BACKENDS, facts, backend)
    log_choice("synthesis", choice.backend.name, choice.refusals)
    if choice.backend.name == "triton":
        flows = cast_flows(model.pack_flows(), facts.dtype)
        return RowRenderer(model, facts.dtype, "triton", choice.backend.load()(flows))
    if choice.backend.name == "cpu":
        flows = cast_flows(model.to(facts.z_dtype).pack_flows(), facts.dtype)
        inverter = choice.backend.load()(flows, DEFAULT_MEMORY if memory is None else memory)
        return RowRenderer(model, facts.dtype, "cpu", inverter)
    return make_reference(model, dtype, memory)
