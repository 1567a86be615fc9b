"""Fast renderers of WaveFlow and NanoFlow: row after row, on a CPU and on a GPU."""

from __future__ import annotations

import importlib.util
import threading
from dataclasses import dataclass

import torch
from torch import Tensor

from vocoder.errors import VocoderError
from vocoder.flows.reshape import fold_rows, unfold_rows
from vocoder.kernels.dispatch import choose, log_choice
from vocoder.kernels.invert_flow.causal import CausalInverter
from vocoder.kernels.invert_flow.cpu import RowInverter
from vocoder.kernels.invert_flow.cpu_tiles import Tiles
from vocoder.kernels.invert_flow.op import BACKENDS, Call, cast_flows
from vocoder.models.families.row_flow import RowFlow
from vocoder.models.families.voice import VoiceModel
from vocoder.models.nanoflow import NanoFlow
from vocoder.models.waveflow import WaveFlow
from vocoder.voice.renderer import RENDERERS, Renderer, make_only_reference, make_reference

DEFAULT_MEMORY = 2 * 2**30  # bytes


class RowRenderer(Renderer):
    """What the renderers of row flows have in common."""

    model: RowFlow

    def _columns(self, frames: Tensor) -> Tensor:
        """Return how many columns of the folded waveform so many frames are."""
        return frames * (self.model.hop_length // self.model.config.n_height)


class CpuRenderer(RowRenderer):
    """The CPU's row op, under a budget of memory.

    Args:
        model: folded.
        dtype: float32 or float64.
        memory: bytes to plan with, beside the model, its mels and audio.
    """

    backend = "cpu"

    def __init__(self, model: RowFlow, dtype: torch.dtype, memory: int) -> None:
        super().__init__(model.to(dtype), dtype)
        self.memory = memory
        self.inverter = RowInverter(self.model.pack_flows())

    def render(self, z: Tensor, mel: Tensor, frames: Tensor | None) -> Tensor:
        """Return audio (B, N), in the memory of z."""
        H = self.inverter.n_height
        plan = plan_inversion(self.inverter, len(z), z.shape[1] // H, self.memory)
        if plan.n_items == 1 and frames is not None:
            for item, item_mel, n in zip(z, mel, frames.tolist(), strict=True):
                n_samples = n * self.model.hop_length
                self.render(item[None, :n_samples], item_mel[None, :, :n], None)
            return z
        for start in range(0, len(z), plan.n_items):
            group = slice(start, start + plan.n_items)
            own = None if frames is None else frames[group]
            self._render_group(z[group], mel[group], own, plan)
        return z

    def _render_group(self, z: Tensor, mel: Tensor, frames: Tensor | None, plan: Plan) -> None:
        self.inverter.invert_in_place(
            fold_rows(z, self.inverter.n_height),
            lambda lo, hi: self.model.conditioning(mel, lo, hi, frames),
            None if frames is None else self._columns(frames).tolist(),
            plan.tiles,
            project_once=plan.project_once,
        )


class CausalRenderer(RowRenderer):
    """The row op of causal flows, some columns after the other, in memory that no length adds to.

    Args:
        model: folded, causal.
        dtype: float32 or float64.
        memory: bytes to plan with, as for `CpuRenderer`.

    Raises:
        VocoderError: the budget is too small for this voice.
    """

    backend = "cpu"

    def __init__(self, model: RowFlow, dtype: torch.dtype, memory: int) -> None:
        super().__init__(model.to(dtype), dtype)
        self.inverter = CausalInverter(self.model.pack_flows())
        needed = self.inverter.bytes_needed()
        if needed > memory:
            raise VocoderError(
                f"memory {memory / 2**20:.0f} MB: this voice takes {needed / 2**20:.0f} MB for any "
                "utterance; allow that much (--memory)"
            )

    def render(self, z: Tensor, mel: Tensor, frames: Tensor | None) -> Tensor:
        """Return audio (B, N)."""
        rows = fold_rows(z, self.inverter.n_height)
        widths = [rows.shape[2]] * len(z) if frames is None else self._columns(frames).tolist()
        for i, width in enumerate(widths):
            item = slice(i, i + 1)
            own = None if frames is None else frames[item]

            def cond(lo: int, hi: int, item: slice = item, own: Tensor | None = own) -> Tensor:
                return self.model.conditioning(mel[item], lo, hi, own)[0]

            self.inverter.start().invert_in_place(rows[i, :, :width], cond)
        return unfold_rows(rows)


class TritonRenderer(RowRenderer):
    """The GPU's row op: 16-bit operands, float32 noise and audio, one CUDA graph a batch and width.

    Args:
        model: folded, in float32 on a GPU.
        dtype: float16 or bfloat16, of the operands.
    """

    backend = "triton"

    def __init__(self, model: RowFlow, dtype: torch.dtype) -> None:
        from vocoder.kernels.graphs import GraphCache
        from vocoder.kernels.invert_flow.triton_op import Inversion

        super().__init__(model, dtype)
        flows = cast_flows(model.pack_flows()[::-1], dtype)
        device = next(model.parameters()).device
        self._turn = threading.Lock()  # threads share the programs, and each program its buffers
        self._programs = GraphCache(
            lambda n_items, width: Inversion.allocate(flows, n_items, width), device
        )

    def render(self, z: Tensor, mel: Tensor, frames: Tensor | None) -> Tensor:
        """Return audio (B, N)."""
        rows = fold_rows(z, self.model.config.n_height)
        n_items, _, width = rows.shape
        if frames is None:
            frames = torch.full((n_items,), mel.shape[-1], device=z.device)
        cond = self.model.conditioning(mel, 0, width, frames)
        with self._turn:
            program, run = self._programs.get(n_items, width)
            program.fill(rows, cond, self._columns(frames))
            run()
            return unfold_rows(program.x[..., :width])


@dataclass(frozen=True)
class Plan:
    """How a batch is inverted under a budget.

    Args:
        n_items: of the batch at a time.
        tiles: windows of columns.
        project_once: keep the projected conditioning for all flows.
    """

    n_items: int
    tiles: Tiles
    project_once: bool


def plan_inversion(inverter: RowInverter, n_items: int, width: int, memory: int) -> Plan:
    """Return the fastest plan that keeps to a budget.

    All columns at once, with the conditioning projected once, is fastest; then without keeping the
    projections; then tile after tile, each item for itself.

    Raises:
        VocoderError: not even one tile keeps to it.
    """
    whole = Tiles.whole(width, inverter.n_steps)
    for project_once in (True, False):
        each = inverter.bytes_needed(1, width, whole, project_once)
        if each <= memory:
            return Plan(min(n_items, memory // each), whole, project_once)

    def tiles(n_lags: int) -> Tiles:
        return Tiles(width, n_lags * inverter.lag, inverter.lag, inverter.n_steps)

    one, two = (inverter.bytes_needed(1, width, tiles(n), False) for n in (1, 2))
    if one > memory:
        raise VocoderError(
            f"memory {memory / 2**20:.0f} MB: this voice takes {one / 2**20:.0f} MB for any "
            "long utterance; allow that much (--memory), or speak shorter mels"
        )
    return Plan(1, tiles(1 + (memory - one) // max(two - one, 1)), project_once=False)


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
        capability=torch.cuda.get_device_capability(device) if cuda else (0, 0),
        dtype=narrow if dtype is None else dtype,
        z_dtype=torch.float32 if cuda or dtype is None else dtype,
        channels=config.channels,
        n_mels=config.n_mels,
        d_h=2 ** (min(config.n_layers, config.n_layers_per_cycle) - 1),
        causal=model.causal,
        has_triton=cuda and importlib.util.find_spec("triton") is not None,
    )
    choice = choose(BACKENDS, facts, backend)
    log_choice("synthesis", choice.backend.name, choice.refusals)
    if choice.backend.name == "triton":
        return TritonRenderer(model, facts.dtype)
    if choice.backend.name == "cpu":
        make = CausalRenderer if model.causal else CpuRenderer
        return make(
            model,
            torch.float32 if dtype is None else dtype,
            DEFAULT_MEMORY if memory is None else memory,
        )
    return make_reference(model, dtype, memory)
