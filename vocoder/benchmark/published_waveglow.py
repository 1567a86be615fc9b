"""What WaveGlow is measured against: `infer` of the published code, written plainly.

Weight norm is folded, and the inverses of the 1 × 1 convolutions are computed once, as there. All
else is computed for the whole utterance, channels first: the conditioning of all layers of a flow
at once, then layer after layer. Source: NVIDIA/waveglow, glow.py.

Unlike there, the noise is given, and the length is that of the mel.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from vocoder.flows.reshape import fold_rows, squeeze1d, unfold_rows
from vocoder.models.waveglow import Network, Step, WaveGlow


class PublishedWaveGlow:
    """`model.inverse`, the way the published code computes it.

    Args:
        model: is folded in a copy. Its frames must be whole columns.
    """

    def __init__(self, model: WaveGlow) -> None:
        self.model = model.fold()
        self.mixes = [
            step.mix.inverse_weight()[..., None].detach()
            for step in self.model.steps
            if isinstance(step, Step)
        ]

    @torch.inference_mode()
    def __call__(self, z: Tensor, mel: Tensor) -> Tensor:
        """Map noise (B, N), N = hop · F, and mels (B, M, F) to audio (B, N)."""
        model, config = self.model, self.model.config
        channels = config.flow_channels
        spect = squeeze1d(model.upsample(mel)[..., : z.shape[1]], config.n_group)
        rows = fold_rows(z, config.n_group)
        start = config.n_group - channels[-1]
        audio = rows[:, start:]
        for j in reversed(range(config.n_flows)):
            step, net = model.steps[j], model.nets[j]
            assert isinstance(step, Step)
            assert isinstance(net, Network)
            first, second = audio.chunk(2, dim=1)
            given, changed = (second, first) if step.couple.first else (first, second)
            log_s, t = _network(net, given, spect).chunk(2, dim=1)
            changed = (changed - t) / log_s.exp()
            halves = (changed, given) if step.couple.first else (given, changed)
            audio = F.conv1d(torch.cat(halves, dim=1), self.mixes[j])
            if j and channels[j] < channels[j - 1]:
                start -= config.early_size
                audio = torch.cat([rows[:, start : start + config.early_size], audio], dim=1)
        return unfold_rows(audio)


def _network(net: Network, audio: Tensor, spect: Tensor) -> Tensor:
    """Return log_s and t (B, c, T) of half of the channels."""
    body = net.body
    h = net.start(audio)
    C = h.shape[1]
    output = torch.zeros_like(h)
    cond = body.cond(spect)
    for i, layer in enumerate(body.layers):
        a = layer.conv(h) + cond[:, 2 * C * i : 2 * C * (i + 1)]  # type: ignore[operator]
        r = layer.res_skip(a[:, :C].tanh() * a[:, C:].sigmoid())  # type: ignore[operator]
        if r.shape[1] > C:
            h = h + r[:, :C]
        output = output + r[:, -C:]
    end: Tensor = net.end(output)
    return end
