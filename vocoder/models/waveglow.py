"""WaveGlow: a flow-based generative network for speech synthesis (ICASSP 2019)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm
from torch.utils.checkpoint import checkpoint

from vocoder.flows.base import Bijection
from vocoder.flows.coupling import Coupling, CouplingEstimator
from vocoder.flows.elementwise import Affine
from vocoder.flows.linear import Conv1x1
from vocoder.flows.reshape import fold_rows, squeeze1d, unfold_rows
from vocoder.models.families.coupling_flow import CouplingFlow, share_out
from vocoder.models.families.sizes import check_sizes
from vocoder.models.families.voice import VoiceConfig
from vocoder.nets.upsample import column_mask
from vocoder.nets.wavenet1d import Conditioned, WaveNet1d
from vocoder.registry import register_model

# Standard deviation of the few samples at the end that fill no column, where the group does not
# divide the hop length; the published code drops them.
_LOOSE_STD = 0.01


@dataclass(frozen=True)
class WaveGlowConfig(VoiceConfig):
    """WaveGlow; the defaults are the published `waveglow_256channels`."""

    hop_length: int = 256  # samples
    window: int = 1024  # samples from the start of a frame on that its mel reaches
    n_flows: int = 12
    n_group: int = 8  # samples of a column, which are the channels of the flows; even
    early_every: int = 4  # flows from one early output to the next
    early_size: int = 2  # channels that leave in an early output; even
    n_layers: int = 8  # layers of each estimator, dilations 1, 2, 4, ...
    channels: int = 256  # residual channels of the estimators
    kernel_size: int = 3  # columns, of the dilated convolutions; odd
    # Odd flows transform the first half given the second, as in the first released model, whose
    # published class is `glow_old.WaveGlow`.
    alternate: bool = False

    def __post_init__(self) -> None:
        sizes = ("n_mels", "hop_length", "window", "n_flows", "n_group", "n_layers", "channels")
        check_sizes(self, *sizes, "early_every", "early_size", "kernel_size")
        if self.window < self.hop_length:
            raise ValueError(
                f"window {self.window} leaves samples without a mel; "
                f"use at least the hop length {self.hop_length}"
            )
        if self.kernel_size % 2 == 0:
            raise ValueError(f"kernel_size must be odd, got {self.kernel_size}")
        if self.n_group % 2 or self.early_size % 2:
            raise ValueError(
                f"n_group {self.n_group} and early_size {self.early_size} must be even, "
                "since couplings halve the channels"
            )
        if self.flow_channels[-1] < 2:
            n_early = (self.n_flows - 1) // self.early_every
            raise ValueError(
                f"n_group {self.n_group} leaves no channels after {n_early} early outputs of "
                f"early_size {self.early_size}; use fewer, smaller or a larger n_group"
            )

    @property
    def granule(self) -> int:
        """Samples of a column, if every frame has a whole number of them."""
        return 1 if self.hop_length % self.n_group else self.n_group

    @property
    def mel_context(self) -> tuple[int, int]:
        """Frames before a crop whose windows reach into it; none after it do."""
        return (self.window - 1) // self.hop_length, 0

    @property
    def flow_channels(self) -> tuple[int, ...]:
        """Channels of each flow: those that no early output has taken."""
        return tuple(
            self.n_group - j // self.early_every * self.early_size for j in range(self.n_flows)
        )


@register_model("waveglow", WaveGlowConfig)
class WaveGlow(CouplingFlow):
    """Invertible 1 × 1 convolutions and affine couplings over columns of samples."""

    config: WaveGlowConfig

    def __init__(self, config: WaveGlowConfig) -> None:
        super().__init__(config)
        self.upsample = nn.ConvTranspose1d(
            config.n_mels, config.n_mels, config.window, stride=config.hop_length
        )
        self.steps = nn.ModuleList(
            Step(channels, first=config.alternate and j % 2 == 1)
            for j, channels in enumerate(config.flow_channels)
        )
        self.nets = nn.ModuleList(
            Network(channels // 2, config) for channels in config.flow_channels
        )

    @property
    def tone_period(self) -> int:
        """Samples of a column, each of which has channels of its own."""
        return self.config.n_group

    @property
    def reach(self) -> tuple[int, int]:
        """Frames before and after its own that a sample of `inverse` depends on at most."""
        config = self.config
        each = (config.kernel_size - 1) // 2 * (2**config.n_layers - 1)  # columns to each side
        # One more for the samples at the end of a piece that fill no column there.
        n_columns = config.n_flows * each + (config.granule == 1)
        frames = math.ceil(n_columns * config.n_group / config.hop_length)
        return frames + config.mel_context[0], frames

    @property
    def frames_per_cycle(self) -> int:
        """Frames until one starts with a column again."""
        return self.config.n_group // math.gcd(self.config.n_group, self.hop_length)

    def trace(self, x: Tensor, cond: Tensor, offset: int = 0) -> tuple[Tensor, list[Tensor]]:
        """Like `forward`, with the log-derivative of each step (B, N) instead of their sum."""
        config = self.config
        G, n_loose = config.n_group, self._n_loose(x.shape[-1])
        columns, loose = x.split([x.shape[-1] - n_loose, n_loose], dim=-1)
        columns = fold_rows(columns, G)
        outputs, log_derivatives = [], []
        checkpointing = self.checkpointing and torch.is_grad_enabled()
        c = self._conditioning(cond, x.shape[-1] - n_loose, offset)
        for j, step, estimator in self._flows(c):
            early, columns = columns.tensor_split([self._n_early(j)], dim=1)
            outputs.append(early)
            if checkpointing:
                columns, log_derivative = checkpoint(
                    step.per_column, columns, estimator, use_reentrant=False
                )
            else:
                columns, log_derivative = step.per_column(columns, estimator)
            log_derivatives.append(F.pad(share_out(log_derivative, G), (0, n_loose)))
        z = unfold_rows(torch.cat([*outputs, columns], dim=1))
        if n_loose:
            z = torch.cat([z, loose / _LOOSE_STD], dim=-1)
            zeros = torch.zeros_like(x[:, :-n_loose])
            log_derivatives.append(F.pad(zeros, (0, n_loose), value=-math.log(_LOOSE_STD)))
        return z, log_derivatives

    def inverse(self, z: Tensor, cond: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Map noise to audio; see `VoiceModel`. z may be shorter than the mel."""
        config = self.config
        G, n_loose = config.n_group, self._n_loose(z.shape[-1])
        n_whole = z.shape[-1] - n_loose
        rows = fold_rows(z[:, :n_whole], G)
        mask = None
        if lengths is not None:
            mask = column_mask(lengths * config.hop_length // G, rows.shape[-1])[:, 0]
        start = G - config.flow_channels[-1]  # the first channel that has not been taken up yet
        columns = rows[:, start:]
        c = self._conditioning(cond, n_whole, 0)
        for j, step, estimator in reversed(self._flows(c, mask)):
            columns = step.inverse(columns, estimator)
            n_early = self._n_early(j)
            start -= n_early
            columns = torch.cat([rows[:, start : start + n_early], columns], dim=1)
        audio = torch.cat([unfold_rows(columns), _LOOSE_STD * z[:, n_whole:]], dim=-1)
        if lengths is None or config.granule > 1:
            return audio
        ends = lengths[:, None] * config.hop_length // G * G
        is_loose = torch.arange(z.shape[-1], device=z.device) >= ends
        return torch.where(is_loose, _LOOSE_STD * z, audio)

    def _n_loose(self, n_samples: int) -> int:
        """Return the samples at the end that fill no column."""
        return n_samples % self.config.n_group if self.config.granule == 1 else 0

    def _n_early(self, j: int) -> int:
        """Return how many channels leave before flow j."""
        config = self.config
        return config.early_size if j > 0 and j % config.early_every == 0 else 0

    def _conditioning(self, mel: Tensor, n_samples: int, offset: int) -> Tensor:
        """Return the upsampled mel of the wanted samples, (B, M · G, T)."""
        n_available = self.hop_length * (mel.shape[-1] - 1) + self.config.window
        self._check_mel(mel, offset + n_samples, n_available)
        c = self.upsample(mel)[..., offset : offset + n_samples]
        return squeeze1d(c, self.config.n_group)

    def _flows(
        self, cond: Tensor, mask: Tensor | None = None
    ) -> list[tuple[int, Step, Conditioned]]:
        """Return the number of each flow, its step and its estimator."""
        flows = []
        for j, (step, net) in enumerate(zip(self.steps, self.nets, strict=True)):
            assert isinstance(step, Step)
            flows.append((j, step, Conditioned(net, step.couple.transform.n_params, cond, mask)))
        return flows


class Step(Bijection[[CouplingEstimator]]):
    """An invertible 1 × 1 convolution, then an affine coupling.

    Args:
        channels: Number of channels c.
        first: Whether the first half is transformed, given the second.
    """

    def __init__(self, channels: int, first: bool) -> None:
        super().__init__()
        self.mix = Conv1x1(channels)
        self.couple = Coupling(Affine(), first)

    def forward(self, x: Tensor, estimator: CouplingEstimator) -> tuple[Tensor, Tensor]:
        """Map x (B, c, T) to z; return z and its log-determinant (B,)."""
        z, log_derivative = self.per_column(x, estimator)
        return z, log_derivative.sum(dim=1)

    def per_column(self, x: Tensor, estimator: CouplingEstimator) -> tuple[Tensor, Tensor]:
        """Like `forward`, with the log-derivative of each column (B, T) instead of their sum."""
        x, mixed = self.mix(x)
        z, log_s = self.couple.elementwise(x, estimator)
        return z, log_s.sum(dim=1) + mixed[:, None] / x.shape[-1]

    def inverse(self, z: Tensor, estimator: CouplingEstimator) -> Tensor:
        """Map z to x."""
        return self.mix.inverse(self.couple.inverse(z, estimator))


class Network(nn.Module):
    """From half of the channels of every column to log_s and t of the other half.

    Args:
        n_half: c / 2.
        config: Configuration of the model.
    """

    def __init__(self, n_half: int, config: WaveGlowConfig) -> None:
        super().__init__()
        self.start: Any = weight_norm(nn.Conv1d(n_half, config.channels, 1))
        self.body = WaveNet1d(
            config.channels,
            config.n_mels * config.n_group,
            tuple(2**i for i in range(config.n_layers)),
            config.kernel_size,
        )
        self.end = nn.Conv1d(config.channels, 2 * n_half, 1)
        for parameter in self.end.parameters():
            nn.init.zeros_(parameter)

    def forward(self, half: Tensor, cond: Tensor, mask: Tensor | None) -> Tensor:
        """Map (B, c/2, T) to (B, c, T): log_s, then t."""
        return self.end(self.body(self.start(half), cond, mask))
