"""The layers of one flow as the training op computes them: outputs, gradients, a few steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields, replace

import torch
from torch import Tensor

from vocoder.kernels.gated_conv.op import GatedConvWeights, gated_conv2d
from vocoder.kernels.invert_flow.op import FlowWeights, cast_flows


def gradients(
    h: Tensor, cond: Tensor, weights: GatedConvWeights, dilation: tuple[int, int]
) -> dict[str, Tensor]:
    """Return the training op's outputs and every gradient of a smooth function of them."""
    tensors = {"h": h, "cond": cond, **present(weights)}
    leaves = {name: t.detach().clone().requires_grad_() for name, t in tensors.items()}
    layer = {field.name: leaves.get(f"w.{field.name}") for field in fields(GatedConvWeights)}
    layer["cond"] = None
    h_next, y = gated_conv2d(
        leaves["h"],
        leaves["cond"],
        GatedConvWeights(**layer),  # type: ignore[arg-type]
        dilation=dilation,
    )
    outputs = {"y": y} if h_next is None else {"y": y, "h_next": h_next}
    loss = sum(
        # Positive, lest the sums over all positions cancel and leave the rounding alone.
        (o * (2 + torch.arange(o.numel(), device=o.device).view_as(o).cos())).sum()
        for o in outputs.values()
    )
    assert isinstance(loss, Tensor)
    found = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
    named = {f"d{name}": g for name, g in zip(leaves, found, strict=True) if g is not None}
    return {name: t.detach() for name, t in (outputs | named).items()}


def present(weights: GatedConvWeights) -> dict[str, Tensor]:
    """Return the tensors of a layer by name."""
    values = {f"w.{field.name}": getattr(weights, field.name) for field in fields(weights)}
    return {name: value for name, value in values.items() if value is not None}


def forward(h: Tensor, conds: Sequence[Tensor], flow: FlowWeights) -> Tensor:
    """Return y (B, H, W, 2) of all layers."""
    y: Tensor | None = None
    rows: Tensor | None = h
    for layer, dilation, cond in zip(flow.layers, flow.dilations, conds, strict=True):
        assert rows is not None
        rows, more = gated_conv2d(rows, cond, layer, dilation=dilation)
        y = more if y is None else y + more
    assert y is not None
    return y


def trainable(flow: FlowWeights) -> tuple[FlowWeights, list[Tensor]]:
    """Return a flow with leaves of autograd for weights, and the leaves."""
    layers = []
    leaves: list[Tensor] = []
    for layer in flow.layers:
        own = {
            name.removeprefix("w."): tensor.detach().clone().requires_grad_()
            for name, tensor in present(layer).items()
        }
        leaves += own.values()
        layers.append(replace(layer, **own))  # type: ignore[arg-type]
    return replace(flow, layers=tuple(layers)), leaves


def step(h: Tensor, conds: Sequence[Tensor], flow: FlowWeights) -> Tensor:
    """Do a forward and backward pass; return all gradients of the weights in a row."""
    own, leaves = trainable(flow)
    loss = forward(h, conds, own).square().mean()
    return torch.cat([g.float().flatten() for g in torch.autograd.grad(loss, leaves)])


def loss_curve(h: Tensor, conds: Sequence[Tensor], flow: FlowWeights, n_steps: int) -> list[float]:
    """Train the weights of one flow on one batch; return the loss of every step."""
    x = h[..., 0].float()
    own, leaves = trainable(replace(flow, layers=_map(flow, torch.Tensor.float)))
    optimizer = torch.optim.Adam(leaves, lr=1e-3)
    losses = []
    for _ in range(n_steps):
        narrow = cast_flows([own], h.dtype)[0]
        log_s, t = forward(h, conds, narrow).unbind(-1)
        loss = (0.5 * (x * log_s.exp() + t).square() - log_s).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def in_double(flow: FlowWeights) -> FlowWeights:
    """Return a flow in float64."""
    return replace(
        flow,
        layers=_map(flow, torch.Tensor.double),
        front_weight=flow.front_weight.double(),
        front_bias=flow.front_bias.double(),
        out_bias=flow.out_bias.double(),
    )


def _map(flow: FlowWeights, change: Callable[[Tensor], Tensor]) -> tuple[GatedConvWeights, ...]:
    return tuple(
        replace(
            layer,
            **{n.removeprefix("w."): change(t) for n, t in present(layer).items()},  # type: ignore[arg-type]
        )
        for layer in flow.layers
    )
