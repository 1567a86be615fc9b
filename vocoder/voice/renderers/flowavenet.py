"""The fast renderer of FloWaveNet on a CPU: block after block, in windows of samples.

The flows of a block are few columns wide, so that a window goes through all of them, with what they
see around it: less at every flow. The conditioning is upsampled once for a window, sample after
sample with its bands together, which any block reads as its own columns: the order that squeezing
gives the channels is that of the projections' weights instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from vocoder.flows.elementwise import Elementwise
from vocoder.flows.reshape import squeeze1d
from vocoder.kernels.upsample import CpuUpsampler
from vocoder.kernels.wavenet import COLUMNS, Scratch
from vocoder.models.families.voice import VoiceModel
from vocoder.models.flowavenet import Flow, FloWaveNet, Network
from vocoder.voice.renderer import RENDERERS, Renderer
from vocoder.voice.windows import WindowRenderer, make_window_renderer, spans


class FloWaveNetRenderer(WindowRenderer):
    """Block after block, each in windows of samples.

    Args:
        model: The folded model, on a CPU, in `dtype`.
        dtype: float32 or float64.
        window: Samples that a block does at once, beside those that its flows see around them.
    """

    model: FloWaveNet
    largest = 2**18
    smallest = 2**12

    def __init__(self, model: FloWaveNet, dtype: torch.dtype, window: int = largest) -> None:
        super().__init__(model, dtype, window)
        self.upsampler = model.upsample.pack()
        with torch.no_grad():
            self.blocks = [_pack_block(model, b) for b in model.config.blocks]

    @classmethod
    def bytes_for(cls, model: VoiceModel, window: int, itemsize: int) -> int:
        """Return the memory that a window takes, beside weights, mel and samples."""
        assert isinstance(model, FloWaveNet)
        config, C = model.config, model.config.channels
        widest = config.dilation_base ** (config.n_layers - 1)
        each = 4 * config.n_mels + 6 * C // 2  # in block 0, of two samples a column
        seen = (
            2
            * (config.n_flows + 1)
            * sum(1 + config.dilation_base**i for i in range(config.n_layers))
        )
        fixed = max(COLUMNS, 4 * widest) * 9 * C + 7 * widest * 3 * C
        return itemsize * (fixed + each * (window + seen * config.granule))

    def render_item(self, z: Tensor, mel: Tensor) -> None:
        """Turn the noise z (N,) into audio, given its mel (M, F)."""
        config = self.model.config
        conditioning, scratch = _Conditioning(self.upsampler, self.model, mel), Scratch(z)
        x, parts = z.unsqueeze(1), {}
        for b in config.blocks:
            x = x.unflatten(0, (-1, 2)).transpose(1, 2).flatten(1)
            if b in config.split_blocks:
                x, parts[b] = x.chunk(2, dim=1)
        for b in reversed(config.blocks):
            if b in parts:
                x = torch.cat([x, parts.pop(b)], dim=1)
            x = self._invert(b, x, conditioning, scratch)
            x = x.unflatten(1, (-1, 2)).transpose(1, 2).flatten(0, 1)
        z.copy_(x.squeeze(1))

    def _invert(self, b: int, z: Tensor, conditioning: _Conditioning, scratch: Scratch) -> Tensor:
        """Map the columns z (T, c) behind a block to those in front of it."""
        T, column = len(z), 2 ** (b + 1)
        x = torch.empty_like(z)
        for lo, hi in spans(T, self.window // column):
            margin = sum(coupling.reach for coupling in self.blocks[b])
            start, stop = max(0, lo - margin), min(T, hi + margin)
            piece, halves = z[start:stop], conditioning.halves(start * column, stop * column)
            cond = halves.view(2, stop - start, -1)
            for coupling in self.blocks[b]:
                margin -= coupling.reach
                left = max(0, lo - margin) - start
                right = stop - min(T, hi + margin)
                piece = coupling.invert(piece, cond, left, right, scratch)
                cond = cond[:, left : cond.shape[1] - right]
                start, stop = start + left, stop - right
            x[lo:hi] = piece
        return x


class _Net:
    """A network of the model, packed.

    Args:
        net: The network, without weight norm.
        heard: The halves of the mel that it hears, in that order.
        column: Samples of a column.
    """

    def __init__(self, net: Network, heard: Sequence[int], column: int) -> None:
        self.heard = list(heard)
        cond = net.body.cond
        # Channel m · n + s of a half is not that of sample s, but of the one that squeezing, again
        # and again, puts there; and ours is s · M/2 + m.
        samples = torch.arange(column)[None, None]
        while samples.shape[-1] > 1:
            samples = squeeze1d(samples, 2)
        projection = cond.weight[..., 0].unflatten(1, (len(heard), -1, column))
        projection = projection[..., samples.flatten().argsort()].transpose(2, 3)
        self.body = net.body.pack(projection.flatten(1).t(), cond.bias)
        self.front = net.front.weight.permute(2, 1, 0).flatten(0, 1).contiguous()  # (3 · n_in, C)
        self.middle = net.middle.weight[..., 0].t().contiguous()
        factor = (3 * net.end.log_scale).exp()
        assert net.end.bias is not None
        self.end = (net.end.weight[..., 0].t() * factor).contiguous()
        self.biases = net.front.bias, net.middle.bias, net.end.bias * factor

    @property
    def reach(self) -> int:
        """Columns to each side that the output of one depends on."""
        return self.body.reach + 1

    def __call__(self, x: Tensor, cond: Tensor, left: int, right: int, scratch: Scratch) -> Tensor:
        """Return what the network puts out, (n − left − right, n_out).

        Args:
            x: Half of the channels of some columns, (n, n_in).
            cond: Both halves of their conditioning, (2, n, n_cond).
            left: Columns at the start that are there to be seen alone; see `CpuWaveNet`.
            right: Columns at the end, likewise.
            scratch: Memory to work in.
        """
        front, middle, end = self.biases
        padded = F.pad(x, (0, 0, 1, 1))
        taps = torch.cat([padded[k : k + len(x)] for k in range(3)], dim=1)
        h = torch.addmm(front, taps, self.front).relu_()
        heard = [cond[half] for half in self.heard]
        own = heard[0] if len(heard) == 1 else torch.cat(heard, dim=1)
        u = self.body(h, own, left, right, scratch).relu_()
        return torch.addmm(end, torch.addmm(middle, u, self.middle).relu_(), self.end)


@dataclass(frozen=True)
class _Coupling:
    """A coupling and what stands in front of it: a flow of the model, or a prior.

    Args:
        net: Its network.
        transform: What it does to the changed half.
        swapped: Whether the half that it changes comes first, behind it.
        scale: (c,), of the channels in front of it; ActNorm's.
        shift: (c,), what is added to them.
    """

    net: _Net
    transform: Elementwise
    swapped: bool
    scale: Tensor
    shift: Tensor

    @property
    def reach(self) -> int:
        """Columns to each side that the inverse of one depends on."""
        return self.net.reach

    def invert(self, z: Tensor, cond: Tensor, left: int, right: int, scratch: Scratch) -> Tensor:
        """Map columns (n, c) to those in front, (n − left − right, c); see `_Net`."""
        given, changed = z.chunk(2, dim=1)[:: -1 if self.swapped else 1]
        inner = slice(left, len(z) - right)
        params = self.net(given, cond, left, right, scratch)
        params = params.unflatten(1, (self.transform.n_params, -1))
        halves = [given[inner], self.transform.inverse(changed[inner], params)]
        return torch.addcmul(self.shift, torch.cat(halves, dim=1), self.scale)


def _pack_block(model: FloWaveNet, b: int) -> list[_Coupling]:
    """Return the couplings of a block in the order of the inverse, its prior first if it splits."""
    config, column = model.config, 2 ** (b + 1)
    couplings = []
    if b in config.split_blocks:
        prior = model.priors[str(b)]
        assert isinstance(prior, Network)
        swapped = (b + 1) * config.n_flows % 2
        net = _Net(prior, (swapped, 1 - swapped), column)
        ones = net.end.new_ones(config.block_channels[b])
        couplings.append(_Coupling(net, model.split.transform, False, ones, 0 * ones))
    flows = zip(model.flows[b], model.nets[b], strict=True)  # type: ignore[call-overload]
    for i, (flow, network) in reversed(list(enumerate(flows))):
        assert isinstance(flow, Flow)
        net = _Net(network, [(b * config.n_flows + i) % 2], column)
        ones = flow.norm.bias.new_ones(1, config.block_channels[b], 1)
        shift = flow.norm.inverse(0 * ones)
        scale = flow.norm.inverse(ones) - shift
        couplings.append(
            _Coupling(net, flow.couple.transform, True, scale.flatten(), shift.flatten())
        )
    return couplings


class _Conditioning:
    """The upsampled mel of an item, window by window; the last one is kept.

    Args:
        upsampler: What upsamples.
        model: The model.
        mel: The mel (M, F).
    """

    def __init__(self, upsampler: CpuUpsampler, model: FloWaveNet, mel: Tensor) -> None:
        self.upsampler, self.mel = upsampler, mel
        self.hop, self.context = model.hop_length, model.upsample.context
        self.span = (0, 0)
        self.kept = mel[:0]

    def halves(self, lo: int, hi: int) -> Tensor:
        """Return the samples [lo, hi) of the lower and the upper bands, (2, n, M/2)."""
        if self.span != (lo, hi):
            del self.kept  # before the next one is made
            hop = self.hop
            first, last = max(lo // hop - self.context, 0), -(-hi // hop) + self.context
            samples = self.upsampler(self.mel[:, first:last])
            samples = samples[:, lo - first * hop : hi - first * hop]
            self.kept = samples.unflatten(0, (2, -1)).transpose(1, 2).contiguous()
            self.span = (lo, hi)
        return self.kept


@RENDERERS.register(FloWaveNet)
def make_flowavenet_renderer(
    model: VoiceModel, dtype: torch.dtype | None, backend: str, memory: int | None
) -> Renderer:
    """Return the renderer of a FloWaveNet; see `RendererMaker`."""
    return make_window_renderer(FloWaveNetRenderer, model, dtype, backend, memory)
