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

from vocoder.errors import VocoderError
from vocoder.kernels.dispatch import AUTO, REFERENCE, log_choice
from vocoder.kernels.wavenet import COLUMNS, CpuWaveNet, LayerWeights
from vocoder.models.families.voice import VoiceModel
from vocoder.models.waveglow import Network, Step, WaveGlow
from vocoder.nets.wavenet1d import GatedLayer1d
from vocoder.voice.renderer import RENDERERS, Renderer, make_only_reference, make_reference

CPU = "cpu"
WINDOW = 8192  # columns that a flow does at once
_SMALLEST = 256  # columns of a window, below which most of the work is its surroundings


class WaveGlowRenderer(Renderer):
    """The inverse in windows of columns, item by item.

    Args:
        model: The folded model, on a CPU, in `dtype`.
        dtype: float32 or float64.
        window: Columns that a flow does at once, beside those that its network sees around them.
    """

    backend = CPU
    model: WaveGlow

    def __init__(self, model: WaveGlow, dtype: torch.dtype, window: int = WINDOW) -> None:
        super().__init__(model, dtype)
        self.window = window
        self.flows = list(_pack(model))
        self.upsampler = _Upsampler(model)

    @torch.no_grad()
    def render(self, z: Tensor, cond: Tensor, frames: Tensor | None) -> Tensor:
        """Return audio (B, N), in the memory of z."""
        lengths = [cond.shape[-1]] * len(z) if frames is None else frames.tolist()
        for item, mel, n in zip(z, cond, lengths, strict=True):
            self._render(item[: n * self.model.hop_length], mel[:, :n])
        return z

    def _render(self, z: Tensor, mel: Tensor) -> None:
        """Turn z (N,) into audio."""
        config = self.model.config
        rows = z.view(-1, config.n_group)
        start = config.n_group - config.flow_channels[-1]
        x = rows[:, start:]
        conditioning = self.upsampler.over(mel)
        for j in reversed(range(config.n_flows)):
            x = self._invert(self.flows[j], x, conditioning)
            if config.flow_channels[j] < config.flow_channels[max(j - 1, 0)]:
                start -= config.early_size
                x = torch.cat([rows[:, start : start + config.early_size], x], dim=1)
        rows.copy_(x)

    def _invert(self, flow: _Flow, z: Tensor, conditioning: _Conditioning) -> Tensor:
        """Map the columns z (T, c) of a flow to x."""
        T = len(z)
        x = z.new_empty(z.shape)
        window = math.ceil(T / math.ceil(T / self.window))
        for lo in range(0, T, window):
            hi = min(lo + window, T)
            start, stop = max(0, lo - flow.net.reach), min(T, hi + flow.net.reach)
            given = F.pad(z[start:stop, flow.given], (0, 1), value=1.0)
            cond = conditioning.columns(start, stop)
            log_s, t = flow.net(given, cond, lo - start, stop - hi).chunk(2, dim=1)
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
    config = model.config
    C, body = config.channels, net.body
    end = net.end.weight.detach()[..., 0]
    assert net.end.bias is not None
    out_bias = net.end.bias.detach().clone()
    # Channel m · G + g of the model is g · M + m of ours.
    projection = body.cond.weight.detach()[..., 0].unflatten(1, (config.n_mels, -1))
    projection = projection.transpose(1, 2).flatten(1).t()
    assert model.upsample.bias is not None
    constant = projection.t() @ model.upsample.bias.detach().repeat(config.n_group)
    constant += body.cond.bias.detach()
    layers, dilations = [], []
    for i, layer in enumerate(body.layers):
        assert isinstance(layer, GatedLayer1d)
        mine = slice(2 * C * i, 2 * C * (i + 1))
        mix, bias = layer.res_skip.weight.detach()[..., 0], layer.res_skip.bias.detach()
        out_bias += end @ bias[-C:]
        has_residual = len(bias) > C
        layers.append(
            LayerWeights(
                conv=layer.conv.weight.detach().permute(2, 1, 0),
                bias=layer.conv.bias.detach() + constant[mine],
                cond=projection[:, mine],
                res=mix[:C].t() if has_residual else None,
                res_bias=bias[:C] if has_residual else None,
                out=(end @ mix[-C:]).t(),
            )
        )
        dilations.append(layer.conv.dilation[0])
    start = net.start.weight.detach()[..., 0].t()
    front = torch.cat([start, net.start.bias.detach()[None]])
    return CpuWaveNet(layers, dilations, out_bias, front=front)


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
    config, device = model.config, next(model.parameters()).device
    if backend == REFERENCE:
        return make_reference(model, dtype, memory)
    reason = None
    if device.type != "cpu" or backend not in (AUTO, CPU):
        reason = "what is faster than the inverse of a WaveGlow runs on a CPU alone"
    elif dtype not in (None, torch.float32, torch.float64):
        reason = f"the CPU path of WaveGlow knows float32 and float64, not {dtype}"
    elif config.kernel_size != 3 or config.granule == 1:
        reason = "the CPU path of WaveGlow wants kernels of 3 and frames of whole columns"
    if reason is not None:
        return make_only_reference(model, dtype, backend, memory, reason)
    log_choice("synthesis", CPU, {})
    dtype = torch.float32 if dtype is None else dtype
    return WaveGlowRenderer(model.to(dtype), dtype, _window(model, dtype.itemsize, memory))


def _window(model: WaveGlow, itemsize: int, memory: int | None) -> int:
    """Return the columns of a window that keep to a budget in bytes.

    Raises:
        VocoderError: even the smallest window takes more.
    """
    if memory is None:
        return WINDOW
    config = model.config
    C, n_cond = config.channels, config.n_mels * config.n_group
    each = itemsize * (2 * n_cond + 3 * C + 4 * config.n_group)
    block = max(COLUMNS, 4 * 2 ** (config.n_layers - 1))
    fixed = itemsize * block * (9 * C + n_cond)
    around = 2 * (2**config.n_layers - 1) + 7 * 2 ** (config.n_layers - 1)
    least = fixed + each * (_SMALLEST + around)
    if memory < least:
        raise VocoderError(
            f"memory {memory / 2**20:.0f} MB: this voice takes {math.ceil(least / 2**20)} MB "
            "beside its weights; allow that much (--memory)"
        )
    return min(WINDOW, (memory - fixed) // each - around)
