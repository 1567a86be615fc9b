"""What sampling is measured against: the inverses of the published code, written plainly.

Of voices: the published fast inverse keeps the past rows of each layer and convolves them with
`F.conv2d`, channels first, every row anew. Weight norm is folded and the conditioning is projected
for all rows at once; nothing else is prepared. Source: L0SG/NanoFlow and L0SG/WaveFlow.

Unlike there, any height dilation will do, the model is only read, and the output is not cut.

Of autoregressive priors: the published loop convolves each channel and the embedding anew, with
`F.conv2d`. Source: visinf/mar-scf; unlike there, the state is carried from channel to channel.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from vocoder.flows.autoregressive import RowAutoregressive
from vocoder.flows.base import Bijection
from vocoder.flows.reshape import fold_rows, unfold_rows
from vocoder.models.families.row_flow import RowFlow
from vocoder.models.nanoflow import NanoFlow
from vocoder.nets.channel_prior import ChannelPrior
from vocoder.nets.wavenet2d import FlowParameters


class PublishedInverse:
    """`model.inverse` for affine flows, the way the published code computes it.

    Args:
        model: is folded in a copy.
    """

    def __init__(self, model: RowFlow) -> None:
        self.model = model.fold()

    @torch.inference_mode()
    def __call__(self, z: Tensor, mel: Tensor) -> Tensor:
        """Map noise (B, N), N = hop · F, and mels (B, M, F) to audio (B, N)."""
        model = self.model
        rows = fold_rows(z, model.config.n_height)
        mel_rows = fold_rows(
            model.upsampled(mel, z.shape[1]), model.config.n_height
        )  # (B, M, H, W)
        indicator = model.indicator if isinstance(model, NanoFlow) else None
        parameters = [FlowParameters()] * len(model.steps) if indicator is None else indicator()
        net, cond = None, mel_rows
        for k in reversed(range(len(model.steps))):
            if net is not model.nets[k % len(model.nets)]:
                net = model.nets[k % len(model.nets)]
                cond = _project(net, mel_rows)
            head = model.heads[k % len(model.heads)]
            rows = _invert_flow(rows, cond, model.steps[k], net, head, parameters[k])
        return unfold_rows(rows)


def _project(net: Any, mel: Tensor) -> Tensor:
    """Return the conditioning of all layers and rows, (B, L · 2C, H, W)."""
    weight = torch.cat([layer.cond.weight for layer in net.layers])
    return F.conv2d(mel, weight, torch.cat([layer.cond.bias for layer in net.layers]))


def _invert_flow(
    z: Tensor, cond: Tensor, step: Any, net: Any, head: Any, flow: FlowParameters
) -> Tensor:
    """Invert one flow for z (B, H, W)."""
    assert isinstance(step, RowAutoregressive)
    B, _, W = z.shape
    C = net.front.weight.shape[0]
    queues = [z.new_zeros(B, C, 2 * d_h + 1, W) for d_h, _ in net.dilations]
    x = torch.empty_like(z)
    row = torch.zeros_like(z[:, 0])
    if step.passthrough:
        row = x[:, step.order[0]] = z[:, step.order[0]]
    for r in step.visits:
        h = net.front(row[:, None, None])
        skips = torch.zeros_like(h)
        for i, layer in enumerate(net.layers):
            queues[i] = torch.cat([queues[i][:, :, 1:], h], dim=2)
            bias = layer.conv.bias if flow.shift is None else layer.conv.bias + flow.shift[i]
            dilation = net.dilations[i]
            columns, padding = queues[i], dilation[1]
            if net.causal:
                columns, padding = F.pad(columns, (2 * padding, 0)), 0
            a = F.conv2d(columns, layer.conv.weight, bias, padding=(0, padding), dilation=dilation)
            a = a + cond[:, 2 * C * i : 2 * C * (i + 1), r : r + 1]
            residual, skip = layer.res_skip(a[:, :C].tanh() * a[:, C:].sigmoid()).chunk(2, dim=1)
            skips = skips + skip
            gate = 1.0 if flow.gate is None else flow.gate[i][:, None, None]
            h = (h + gate * residual) * net.scale
        params = head.conv(skips)
        if head.scale is not None:
            params = params * (3 * head.scale).exp()
        log_s, t = params[:, :, 0].unbind(dim=1)
        row = x[:, r] = (z[:, r] - t) * (-log_s).exp()
    return x


class PublishedChannelPrior(Bijection[[Tensor | None]]):
    """A `ChannelPrior` whose inverse is computed the way the published code computes it.

    Args:
        prior: computes the other direction; only read.
    """

    def __init__(self, prior: ChannelPrior) -> None:
        super().__init__()
        self.prior = prior

    def forward(self, z: Tensor, given: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return eps (B, C2, H, W) and the log-determinant (B,)."""
        return self.prior(z, given)

    def inverse(self, eps: Tensor, given: Tensor | None) -> Tensor:
        """Return z, one channel after the other."""
        prior: Any = self.prior
        previous = torch.zeros_like(eps[:, :1])
        state = previous.expand(-1, prior.front.out_channels, -1, -1)
        states = [(state, state)] * len(prior.lstm.layers)
        z = []
        for noise in eps.split(1, dim=1):
            x = previous if given is None else torch.cat([previous, prior.embed(given)], dim=1)
            x = prior.front(x)
            for i, layer in enumerate(prior.lstm.layers):
                h, c = states[i]
                gates = layer.from_input(x) + layer.from_state(h)
                i_gate, f_gate, g_gate, o_gate = gates.chunk(4, dim=1)
                c = f_gate.sigmoid() * c + i_gate.sigmoid() * g_gate.tanh()
                x = o_gate.sigmoid() * c.tanh()
                states[i] = (x, c)
            mean, log_std = prior.split_moments(prior.head(x))
            previous = mean.unsqueeze(1) + noise * log_std.unsqueeze(1).exp()
            z.append(previous)
        return torch.cat(z, dim=1)
