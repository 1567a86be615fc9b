"""FloWaveNet: a generative flow for raw audio (ICML 2019)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm
from torch.utils.checkpoint import checkpoint

from vocoder.flows.base import Bijection
from vocoder.flows.coupling import Coupling, CouplingEstimator
from vocoder.flows.elementwise import Elementwise, Shift, Standardise
from vocoder.flows.linear import SignedActNorm
from vocoder.flows.reshape import squeeze1d, unsqueeze1d
from vocoder.models.families.coupling_flow import CouplingFlow, share_out
from vocoder.models.families.sizes import check_sizes, check_strides
from vocoder.models.families.voice import VoiceConfig
from vocoder.nets.upsample import Upsampler, column_mask, last_frame, reach
from vocoder.nets.wavenet1d import Conditioned, WaveNet1d, ZeroConv1d, masked
from vocoder.registry import register_model

_PRIOR_LAYERS = 2  # of every prior's network, whatever the flows' have


@dataclass(frozen=True)
class FloWaveNetConfig(VoiceConfig):
    """FloWaveNet; the defaults are those of the published training."""

    upsample_strides: tuple[int, ...] = (16, 16)  # their product is the hop length in samples
    n_blocks: int = 8  # each halves the columns; 2 ** n_blocks divides the hop length
    n_flows: int = 6  # in each block
    n_layers: int = 2  # of each estimator, dilations 1, 2, 4, ...
    channels: int = 256  # residual channels of the estimators and priors
    blocks_per_split: int = 4  # half of the channels leave after every so many blocks
    coupling: Literal["affine", "additive"] = "affine"
    dilation_base: int = 2  # 3 in the published code before 2019-02

    def __post_init__(self) -> None:
        sizes = ("n_mels", "n_blocks", "n_flows", "n_layers", "channels", "blocks_per_split")
        check_sizes(self, *sizes, "dilation_base")
        check_strides(self.upsample_strides)
        if self.n_mels % 2:
            raise ValueError(f"n_mels {self.n_mels}: each flow hears half of them; use an even one")
        if self.hop_length % self.granule:
            raise ValueError(
                f"n_blocks {self.n_blocks}: {self.granule} samples (2 ** n_blocks) do not divide "
                f"the hop length {self.hop_length} (the product of upsample_strides)"
            )

    @property
    def hop_length(self) -> int:
        """Samples per mel frame."""
        return math.prod(self.upsample_strides)

    @property
    def granule(self) -> int:
        """Samples of a column of the last block."""
        return 2**self.n_blocks

    @property
    def mel_context(self) -> tuple[int, int]:
        """Frames before and after a crop that its samples depend on."""
        return reach(self.upsample_strides), reach(self.upsample_strides)

    @property
    def split_blocks(self) -> tuple[int, ...]:
        """The blocks after which half of the channels leave; never the last."""
        step = self.blocks_per_split
        return tuple(range(step - 1, self.n_blocks - 1, step))

    @property
    def block_channels(self) -> tuple[int, ...]:
        """Channels of each block, after its squeeze."""
        return tuple(2 ** (b + 1 - sum(s < b for s in self.split_blocks)) for b in self.blocks)

    @property
    def blocks(self) -> range:
        """The numbers of the blocks."""
        return range(self.n_blocks)


@register_model("flowavenet", FloWaveNetConfig)
class FloWaveNet(CouplingFlow):
    """ActNorm and coupling at ever coarser columns; what leaves at a split passes a prior.

    z (B, N) has the layout that the published inverse takes: folded into columns as the audio is,
    the second half of the channels at each split is the noise of what left there.
    """

    config: FloWaveNetConfig

    def __init__(self, config: FloWaveNetConfig) -> None:
        super().__init__(config)
        self.upsample = Upsampler(config.upsample_strides)
        transform: Elementwise = Standardise() if config.coupling == "affine" else Shift()
        flows, nets, priors = [], [], {}
        for b, channels in enumerate(config.block_channels):
            n_half, n_cond = channels // 2, config.n_mels * 2 ** (b + 1)
            n_out = n_half * transform.n_params
            flows.append(nn.ModuleList(Flow(channels, transform) for _ in range(config.n_flows)))
            nets.append(
                nn.ModuleList(
                    Network(n_half, n_cond // 2, n_out, config.n_layers, config)
                    for _ in range(config.n_flows)
                )
            )
            if b in config.split_blocks:
                priors[str(b)] = Network(n_half, n_cond, channels, _PRIOR_LAYERS, config)
        self.flows, self.nets = nn.ModuleList(flows), nn.ModuleList(nets)
        self.priors = nn.ModuleDict(priors)
        self.split = Coupling(Standardise())

    @property
    def tone_period(self) -> int:
        """Samples of a column of the last block."""
        return self.config.granule

    @property
    def reach(self) -> tuple[int, int]:
        """Frames before and after its own that a sample of `inverse` depends on at most."""
        config = self.config
        each = _columns_seen(config.n_layers, config)
        samples = sum(2 ** (b + 1) * config.n_flows * each for b in config.blocks)
        prior = _columns_seen(_PRIOR_LAYERS, config)
        samples += sum(2 ** (b + 1) * prior for b in config.split_blocks)
        frames = last_frame(config.upsample_strides, self.hop_length - 1 + samples)
        return frames, frames

    def trace(self, x: Tensor, cond: Tensor, offset: int = 0) -> tuple[Tensor, list[Tensor]]:
        """Like `forward`, with the log-derivative of each step (B, N) instead of their sum."""
        parts, log_derivatives = {}, []
        checkpointing = self.checkpointing and torch.is_grad_enabled()
        c = self._conditioning(cond, x.shape[-1], offset)
        x = x.unsqueeze(1)
        for b in self.config.blocks:
            x, c = squeeze1d(x, 2), squeeze1d(c, 2)
            for flow, estimator in self._flows(b, c):
                if checkpointing:
                    x, d = checkpoint(flow.per_column, x, estimator, use_reentrant=False)
                else:
                    x, d = flow.per_column(x, estimator)
                log_derivatives.append(share_out(d, 2 ** (b + 1)))
            if str(b) in self.priors:
                x, d = self.split.elementwise(x, self._prior(b, c))
                log_derivatives.append(share_out(d.sum(dim=1), 2 ** (b + 1)))
                x, parts[b] = x.chunk(2, dim=1)
        z = x
        for b in reversed(self.config.blocks):
            z = torch.cat([z, parts[b]], dim=1) if b in parts else z
            z = unsqueeze1d(z, 2)
        return z.squeeze(1), log_derivatives

    def inverse(self, z: Tensor, cond: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Map noise to audio; see `VoiceModel`. z may be shorter than the mel."""
        c = self._conditioning(cond, z.shape[-1], 0, lengths)
        x = z.unsqueeze(1)
        parts = {}
        for b in self.config.blocks:
            x, c = squeeze1d(x, 2), squeeze1d(c, 2)
            if str(b) in self.priors:
                x, parts[b] = x.chunk(2, dim=1)
        for b in reversed(self.config.blocks):
            mask = None
            if lengths is not None:
                columns = lengths * self.hop_length // 2 ** (b + 1)
                mask = column_mask(columns, x.shape[-1])[:, 0]
            if b in parts:
                x = torch.cat([x, parts[b]], dim=1)
                x = self.split.inverse(x, self._prior(b, c, mask))
            for flow, estimator in reversed(self._flows(b, c, mask)):
                x = flow.inverse(x, estimator)
            x, c = unsqueeze1d(x, 2), unsqueeze1d(c, 2)
        return x.squeeze(1)

    def _conditioning(
        self, mel: Tensor, n_samples: int, offset: int, lengths: Tensor | None = None
    ) -> Tensor:
        """Return the upsampled mel of the wanted samples, (B, M, N)."""
        if n_samples % self.config.granule:
            raise ValueError(
                f"{n_samples} samples are not a multiple of the {self.config.granule} of a column"
            )
        self._check_mel(mel, offset + n_samples, mel.shape[-1] * self.hop_length)
        return self.upsample(mel, lengths)[..., offset : offset + n_samples]

    def _flows(
        self, b: int, cond: Tensor, mask: Tensor | None = None
    ) -> list[tuple[Flow, Conditioned]]:
        """Return the flows of a block, each with its estimator.

        The published code swaps the halves of the conditioning after every flow, and each flow
        hears the first half alone; squeezing leaves the halves where they are.
        """
        halves = cond.chunk(2, dim=1)
        flows = cast("list[Flow]", list(self.flows[b]))  # type: ignore[call-overload]
        nets = cast("list[Network]", list(self.nets[b]))  # type: ignore[call-overload]
        first = b * self.config.n_flows
        return [
            (flow, Conditioned(net, flow.couple.transform.n_params, halves[(first + i) % 2], mask))
            for i, (flow, net) in enumerate(zip(flows, nets, strict=True))
        ]

    def _prior(self, b: int, cond: Tensor, mask: Tensor | None = None) -> Conditioned:
        """Return the estimator of what leaves after block b, given what stays."""
        halves = cond.chunk(2, dim=1)
        swapped = (b + 1) * self.config.n_flows % 2
        given = torch.cat([halves[swapped], halves[1 - swapped]], dim=1)
        return Conditioned(self.priors[str(b)], self.split.transform.n_params, given, mask)


def _columns_seen(n_layers: int, config: FloWaveNetConfig) -> int:
    """Return how many columns a network sees to each side."""
    return 1 + sum(config.dilation_base**i for i in range(n_layers))


class Flow(Bijection[[CouplingEstimator]]):
    """ActNorm and a coupling; then the halves of the channels change places.

    Args:
        channels: Number of channels c.
        transform: the coupling's elementwise map.
    """

    def __init__(self, channels: int, transform: Elementwise) -> None:
        super().__init__()
        self.norm = SignedActNorm(channels)
        self.couple = Coupling(transform)

    def forward(self, x: Tensor, estimator: CouplingEstimator) -> tuple[Tensor, Tensor]:
        """Map x (B, c, T) to z; return z and its log-determinant (B,)."""
        z, log_derivative = self.per_column(x, estimator)
        return z, log_derivative.sum(dim=1)

    def per_column(self, x: Tensor, estimator: CouplingEstimator) -> tuple[Tensor, Tensor]:
        """Like `forward`, with the log-derivative of each column (B, T) instead of their sum."""
        x, normed = self.norm(x)
        z, log_derivative = self.couple.elementwise(x, estimator)
        per_column = log_derivative.sum(dim=1) + normed[:, None] / x.shape[-1]
        return z.roll(z.shape[1] // 2, dims=1), per_column

    def inverse(self, z: Tensor, estimator: CouplingEstimator) -> Tensor:
        """Map z to x."""
        return self.norm.inverse(self.couple.inverse(z.roll(z.shape[1] // 2, dims=1), estimator))


class Network(nn.Module):
    """From half of the channels of every column to what the other half is transformed by.

    Args:
        n_in: channels of that half.
        n_cond: channels of the conditioning.
        n_out: parameters of all elements of the other half.
        n_layers: Number of layers of the WaveNet.
        config: Configuration of the model.
    """

    def __init__(
        self, n_in: int, n_cond: int, n_out: int, n_layers: int, config: FloWaveNetConfig
    ) -> None:
        super().__init__()
        channels = config.channels
        self.front: Any = weight_norm(nn.Conv1d(n_in, channels, 3, padding="same"))
        self.body = WaveNet1d(
            channels,
            n_cond,
            tuple(config.dilation_base**i for i in range(n_layers)),
            scale=math.sqrt(0.5),
            whole_last=True,
        )
        self.middle: Any = weight_norm(nn.Conv1d(channels, channels, 1))
        self.end = ZeroConv1d(channels, n_out)

    def forward(self, half: Tensor, cond: Tensor, mask: Tensor | None) -> Tensor:
        """Map (B, n_in, T) to (B, n_out, T), parameter after parameter."""
        h = self.front(masked(half, mask)).relu()
        skips = self.body(h, cond, mask)
        return self.end(self.middle(skips.relu()).relu())
