"""What is known of WaveFlow and NanoFlow: arithmetic, layer op and published inverse."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields
from functools import partial

import torch
from torch import Tensor

from vocoder import kernels
from vocoder.benchmark.measuring import OURS, REFERENCE, Work
from vocoder.benchmark.published import PublishedInverse
from vocoder.benchmark.voices import FAMILIES, Family
from vocoder.kernels import GatedConvWeights, gated_conv2d
from vocoder.models.families.row_flow import RowFlow, RowFlowConfig
from vocoder.models.families.voice import VoiceModel
from vocoder.models.nanoflow import NanoFlow
from vocoder.models.waveflow import WaveFlow


class RowFlows(Family):
    """Row flows; see `Family`."""

    def flop_per_sample(self, model: VoiceModel) -> float:
        """Return the FLOP of all flows for each audio sample, as the layers are written."""
        assert isinstance(model, RowFlow)
        return flop_per_sample(model)

    def ops(
        self, model: VoiceModel, device: torch.device, crops: tuple[int, int]
    ) -> Iterator[Work]:
        """Yield the layer op."""
        assert isinstance(model, RowFlow)
        return _op(model.config, device, crops)

    def published(self, model: VoiceModel) -> Callable[[Tensor, Tensor], Tensor] | None:
        """Return the published inverse; there is none of other transforms than the affine one."""
        assert isinstance(model, RowFlow)
        return PublishedInverse(model) if model.config.transform == "affine" else None


FAMILIES.register(WaveFlow, NanoFlow)(RowFlows())


def flop_per_sample(model: RowFlow) -> float:
    """Return the FLOP of all flows for each audio sample, as the layers are written.

    A layer has 40 C² and its conditioning 4 · M · C, projected once where flows share a network;
    the 1 × 1 convolutions at both ends have 6 C.
    """
    config = model.config
    C, K, L, H = config.channels, config.n_flows, config.n_layers, config.n_height
    layers = L * (K * 40 * C**2 + len(model.nets) * 4 * config.n_mels * C)
    n_rows = len(model.pack_flows()[0].visits)  # one less where the first is passed through
    return (layers + 6 * K * C) * n_rows / H


def _op(config: RowFlowConfig, device: torch.device, crops: tuple[int, int]) -> Iterator[Work]:
    """Yield the layer op, forward and with its gradients, at the smallest and largest dilation."""
    C, H = config.channels, config.n_height
    B, W = crops[0], max(1, crops[1] // H)
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32

    def random(*shape: int, size: float = 1.0) -> Tensor:
        return (size * torch.randn(shape, device=device)).requires_grad_()

    def operand(*shape: int, size: float = 1.0) -> Tensor:
        return random(*shape, size=size).detach().to(dtype).requires_grad_()

    weights = GatedConvWeights(
        conv=operand(9, C, 2 * C, size=(9 * C) ** -0.5),
        bias=random(2 * C),
        cond=None,
        res=operand(C, C, size=C**-0.5),
        res_bias=random(C),
        gate=random(C),
        out=random(C, 2, size=C**-0.5),
    )
    h, cond = operand(B, H, W, C), operand(B, H, W, 2 * C)

    inputs = [h, cond, *(getattr(weights, f.name) for f in fields(weights) if f.name != "cond")]

    def run(backend: str, d_w: int, backward: bool) -> None:
        with kernels.use(backend), torch.set_grad_enabled(backward):
            h_next, y = gated_conv2d(h, cond, weights, dilation=(1, d_w))
        if backward and h_next is not None:
            torch.autograd.grad((h_next, y), inputs, (h_next, y))

    forward_flop = 40 * C**2 * B * H * W
    for d_w in sorted({1, 2 ** (config.n_layers - 1)}):
        for backward in (False, True):
            paths = {
                name: partial(run, backend, d_w, backward)
                for name, backend in ((OURS, "auto"), (REFERENCE, "reference"))
            }
            what = "forward and backward" if backward else "forward"
            flop = (3 if backward else 1) * forward_flop
            yield Work(f"layer, d = {d_w}, {what}", paths, None, flop, flop)
