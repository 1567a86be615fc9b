"""The fast renderer of WaveGlow on a CPU: flow after flow, in windows that its networks reach over.

Between two flows stands nothing but the samples themselves, so that memory does not grow with the
length beyond the audio. The upsampling and the projection of the mel are one linear map after
another, done as products for whole windows.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from vocoder.kernels.wavenet import COLUMNS, CpuWaveNet, Scratch
from vocoder.models.families.voice import VoiceModel
from vocoder.models.waveglow import Network, Step, WaveGlow
from vocoder.voice.renderer import RENDERERS, Renderer
from vocoder.voice.windows import WindowRenderer, make_window_renderer, spans


class WaveGlowRenderer(WindowRenderer):
    """Flow after flow, each in windows of columns.

    Args:
        model: The folded model, on a CPU, in `dtype`.
        dtype: float32 or float64.
        window: Columns that a flow does at once, beside those that its network sees around them.
    """

    model: WaveGlow
    largest = 8192
    smallest = 256

    def __init__(self, model: WaveGlow, dtype: torch.dtype, window: int = largest) -> None:
        super().__init__(model, dtype, window)
        self.flows = list(_pack(model))
        self.upsampler = _Upsampler(model)

    @classmethod
    def bytes_for(cls, model: VoiceModel, window: int, itemsize: int) -> int:
        """Return the memory that a window takes, beside weights, mel and samples."""
        assert isinstance(model, WaveGlow)
        config = model.config
        C, n_cond = config.channels, config.n_mels * config.n_group
        each = 2 * n_cond + 3 * C + 4 * config.n_group
        block = max(COLUMNS, 4 * 2 ** (config.n_layers - 1))
        around = 2 * (2**config.n_layers - 1) + 7 * 2 ** (config.n_layers - 1)
        return itemsize * (block * (9 * C + n_cond) + each * (window + around))

    def render_item(self, z: Tensor, mel: Tensor) -> None:
        """Turn the noise z (N,) into audio, given its mel (M, F)."""
        config = self.model.config
        rows = z.view(-1, config.n_group)
        start = config.n_group - config.flow_channels[-1]
        x = rows[:, start:]
        conditioning, scratch = self.upsampler.over(mel), Scratch(z)
        for j in reversed(range(config.n_flows)):
            x = self._invert(self.flows[j], x, conditioning, scratch)
            if config.flow_channels[j] < config.flow_channels[max(j - 1, 0)]:
                start -= config.early_size
                x = torch.cat([rows[:, start : start + config.early_size], x], dim=1)
        rows.copy_(x)

    def _invert(
        self, flow: _Flow, z: Tensor, conditioning: _Conditioning, scratch: Scratch
    ) -> Tensor:
        """Map the columns z (T, c) of a flow to x."""
        T = len(z)
        x = z.new_empty(z.shape)
        for lo, hi in spans(T, self.window):
            start, stop = max(0, lo - flow.net.reach), min(T, hi + flow.net.reach)
            given = F.pad(z[start:stop, flow.given], (0, 1), value=1.0)
            cond = conditioning.columns(start, stop)
            params = flow.net(given, cond, lo - start, stop - hi, scratch)
            log_s, t = params.chunk(2, dim=1)
            halves = [z[lo:hi, flow.given], (z[lo:hi, flow.changed] - t) * (-log_s).exp()]
            torch.mm(torch.cat(halves, dim=1), flow.mix, out=x[lo:hi])
        return x


@dataclass(frozen=True)
class _Flow:
    """One flow.

    Args:
        net: Its network, which takes the given half and a one.
        given: Channels that the network hears.
        changed: Channels that it changes.
        mix: (c, c), from both of them to the channels in front of the flow.
    """

    net: CpuWaveNet
    given: slice
    changed: slice
    mix: Tensor


def _pack(model: WaveGlow) -> Iterator[_Flow]:
    """Yield the flows in forward order."""
    for step, net, c in zip(model.steps, model.nets, model.config.flow_channels, strict=True):
        assert isinstance(step, Step)
        assert isinstance(net, Network)
        first, second = slice(0, c // 2), slice(c // 2, c)
        inverse = step.mix.inverse_weight().t().detach()
        if step.couple.first:
            inverse = inverse.roll(-(c // 2), dims=0)
            first, second = second, first
        yield _Flow(_pack_net(model, net), first, second, inverse.contiguous())


def _pack_net(model: WaveGlow, net: Network) -> CpuWaveNet:
    """Return a flow's network, the end folded into its layers."""
    config, cond = model.config, net.body.cond
    # Channel m · G + g of the model is g · M + m of ours.
    projection = cond.weight.detach()[..., 0].unflatten(1, (config.n_mels, -1))
    projection = projection.transpose(1, 2).flatten(1).t()
    assert model.upsample.bias is not None
    constant = projection.t() @ model.upsample.bias.detach().repeat(config.n_group)
    start = net.start.weight.detach()[..., 0].t()
    front = torch.cat([start, net.start.bias.detach()[None]])
    return net.body.pack(projection, constant + cond.bias.detach(), net.end, front)


class _Upsampler:
    """The transposed convolution, as one product for every frame and those that reach it.

    Args:
        model: The model.
    """

    def __init__(self, model: WaveGlow) -> None:
        hop, weight = model.hop_length, model.upsample.weight.detach()  # (M, M, window)
        self.n_frames = math.ceil(weight.shape[-1] / hop)
        self.columns_per_frame = hop // model.config.n_group
        taps = F.pad(weight, (0, self.n_frames * hop - weight.shape[-1]))
        taps = taps.unflatten(2, (self.n_frames, hop)).flip(2)  # the oldest frame first
        # (frames · M, hop · M), without the bias, which is the networks' own
        self.matrix = taps.permute(2, 0, 3, 1).flatten(0, 1).flatten(1).contiguous()

    def over(self, mel: Tensor) -> _Conditioning:
        """Return what gives the conditioning of a mel (M, F)."""
        return _Conditioning(self, F.pad(mel.t(), (0, 0, self.n_frames - 1, 0)).contiguous())


class _Conditioning:
    """The upsampled mel of an item, window by window; the last one is kept.

    Args:
        upsampler: What upsamples.
        frames: The mel (F, M), silent frames before it.
    """

    def __init__(self, upsampler: _Upsampler, frames: Tensor) -> None:
        self.upsampler, self.frames = upsampler, frames
        self.span = (0, 0)
        self.kept = frames[:0]

    def columns(self, start: int, stop: int) -> Tensor:
        """Return the columns [start, stop) of all flows, (n, G · M)."""
        if self.span != (start, stop):
            del self.kept  # before the next one is made
            n_frames, each = self.upsampler.n_frames, self.upsampler.columns_per_frame
            first, last = start // each, math.ceil(stop / each)
            M = self.frames.shape[1]
            seen = self.frames[first:].as_strided((last - first, n_frames * M), (M, 1), first * M)
            upsampled = (seen.contiguous() @ self.upsampler.matrix).view((last - first) * each, -1)
            self.kept, self.span = upsampled[start - first * each :][: stop - start], (start, stop)
        return self.kept


@RENDERERS.register(WaveGlow)
def make_waveglow_renderer(
    model: VoiceModel, dtype: torch.dtype | None, backend: str, memory: int | None
) -> Renderer:
    """Return the renderer of a WaveGlow; see `RendererMaker`."""
    assert isinstance(model, WaveGlow)
    unknown = None
    if model.config.kernel_size != 3 or model.config.granule == 1:
        unknown = "the CPU path of WaveGlow wants kernels of 3 and frames of whole columns"
    return make_window_renderer(WaveGlowRenderer, model, dtype, backend, memory, unknown)
