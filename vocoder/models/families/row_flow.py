"""Row-autoregressive flows over a folded waveform: what WaveFlow and NanoFlow share."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from vocoder.flows.autoregressive import RowAutoregressive, row_orders, take_rows
from vocoder.flows.elementwise import Affine, AffineSpline, Elementwise
from vocoder.flows.reshape import fold_rows, unfold_rows
from vocoder.kernels.invert_flow.op import Conditioning, FlowWeights
from vocoder.models.families.flow import standard_normal_log_prob
from vocoder.models.families.sizes import check_sizes, check_strides
from vocoder.models.families.voice import VoiceConfig, VoiceModel
from vocoder.nets.upsample import Upsampler, column_mask, reach
from vocoder.nets.wavenet2d import Estimator, FlowParameters, Head, NetWeights, Residual, WaveNet2d


@dataclass(frozen=True)
class RowFlowConfig(VoiceConfig):
    """What WaveFlow and NanoFlow have in common."""

    upsample_strides: tuple[int, ...] = (16, 16)  # their product is the hop length in samples
    channels: int = 64  # residual channels of the estimator
    n_height: int = 16  # rows that the waveform is folded into; divides the hop length
    n_layers: int = 8  # layers of the estimator, width dilations 1, 2, 4, ...
    n_layers_per_cycle: int = 1  # height dilations 1, 2, 4, ... repeat after so many layers
    n_flows: int = 8
    transform: Literal["affine", "spline"] = "affine"
    # Frames of mel after its own that a sample depends on, in a model that is causal along time but
    # for them; None: the estimator sees as far ahead as back, some 20 s over all rows and flows.
    lookahead_frames: int | None = None

    def __post_init__(self) -> None:
        sizes = ("n_mels", "channels", "n_height", "n_layers", "n_layers_per_cycle", "n_flows")
        check_sizes(self, *sizes)
        if self.lookahead_frames is not None and self.lookahead_frames < 0:
            raise ValueError(f"lookahead_frames must be 0 or more, got {self.lookahead_frames}")
        check_strides(self.upsample_strides)
        if self.n_height < 2 or self.hop_length % self.n_height:
            divisors = [n for n in range(2, self.hop_length) if self.hop_length % n == 0]
            raise ValueError(
                f"n_height {self.n_height} does not divide the hop length {self.hop_length} "
                f"(the product of upsample_strides); use one of {divisors}"
            )

    @property
    def hop_length(self) -> int:
        """Samples per mel frame."""
        return math.prod(self.upsample_strides)

    @property
    def frame_channels(self) -> int:
        """Channels C of a frame of the conditioning: the mel bands, and what a model adds."""
        return self.n_mels

    @property
    def sample_channels(self) -> int:
        """Channels that the estimator is given for each sample; see `RowFlow.upsampled`."""
        return self.n_mels

    @property
    def granule(self) -> int:
        """Samples of a column: one in each row."""
        return self.n_height

    @property
    def shortest_crop(self) -> int:
        """Samples of the columns between which the outer taps of the widest layer lie."""
        return (2 ** (self.n_layers - 1) + 1) * self.n_height

    @property
    def mel_delay(self) -> int:
        """Frames by which the mel is late for the look-ahead to be as stated; negative: early."""
        if self.lookahead_frames is None:
            return 0
        return reach(self.upsample_strides) - self.lookahead_frames

    @property
    def mel_context(self) -> tuple[int, int]:
        """Frames before and after a crop that its samples depend on."""
        context = reach(self.upsample_strides)
        return max(context + self.mel_delay, 0), max(context - self.mel_delay, 0)


class RowFlow(VoiceModel):
    """K row-autoregressive flows over a folded waveform.

    Args:
        config: Sizes of the model.
        n_nets: Number of estimators: K, or 1 that all flows share.
        n_heads: Number of projections from an estimator to the transform's parameters: K, or 1.
        residual: How the estimator's layers join.
        passthrough: Whether each flow copies its first row.
        bipartize: Whether the later flows flip each half of the rows; see `row_orders`.
    """

    config: RowFlowConfig

    def __init__(
        self,
        config: RowFlowConfig,
        *,
        n_nets: int,
        n_heads: int,
        residual: Residual,
        passthrough: bool = False,
        bipartize: bool = False,
    ) -> None:
        super().__init__(config)
        transform: Elementwise = Affine() if config.transform == "affine" else AffineSpline()
        *orders, self.latent_order = row_orders(
            config.n_height, config.n_flows, flip_first=not passthrough, bipartize=bipartize
        )
        self.upsample = Upsampler(config.upsample_strides)
        self.nets = nn.ModuleList(
            WaveNet2d(
                config.channels,
                config.sample_channels,
                config.n_layers,
                config.n_layers_per_cycle,
                residual,
                causal=self.causal,
            )
            for _ in range(n_nets)
        )
        self.heads = nn.ModuleList(
            Head(config.channels, transform.n_params, scaled=not passthrough)
            for _ in range(n_heads)
        )
        self.steps = nn.ModuleList(
            RowAutoregressive(order, transform, passthrough) for order in orders
        )

    @property
    def gains_from_bf16_on_cpu(self) -> bool:
        """Whether the layers are wide enough, as `kernels.gated_conv2d` measures it."""
        return self.config.channels >= 32

    @property
    def tone_period(self) -> int:
        """Samples of a column; a flow may leave lines at the multiples of rate / n_height."""
        return self.config.n_height

    @property
    def causal(self) -> bool:
        """No column depends on a later one, but for the look-ahead in the mel."""
        return self.config.lookahead_frames is not None

    def forward(self, x: Tensor, cond: Tensor, offset: int = 0) -> tuple[Tensor, Tensor]:
        """Map audio to noise.

        Args:
            x: Audio (B, N), N a multiple of `n_height`.
            cond: Mel (B, M, F), with hop · F ≥ offset + N.
            offset: Samples between the start of the first frame and that of x. A crop comes with
                the frames of `config.mel_context`, so that its conditioning is that of the whole.

        Returns:
            z (B, N), where z[n] belongs to sample n, and logdet (B,).
        """
        z, log_derivatives = self.trace(x, cond, offset)
        return z, torch.stack([d.sum(dim=(1, 2)) for d in log_derivatives]).sum(dim=0)

    def trace(self, x: Tensor, cond: Tensor, offset: int = 0) -> tuple[Tensor, list[Tensor]]:
        """Like `forward`, with each flow's log-derivative of every element: K times (B, H, W)."""
        rows = fold_rows(x, self.config.n_height)
        log_derivatives = []
        checkpointing = self.checkpointing and torch.is_grad_enabled()
        c = self._conditioning(cond, x.shape[-1], offset)
        for step, estimator, flow_cond in self._flows(c, range(self.config.n_flows)):
            if checkpointing:
                rows, log_derivative = checkpoint(
                    step.elementwise, rows, flow_cond, estimator, use_reentrant=False
                )
            else:
                rows, log_derivative = step.elementwise(rows, flow_cond, estimator)
            log_derivatives.append(log_derivative)
        return unfold_rows(rows), log_derivatives

    def flow_logdets(self, x: Tensor, cond: Tensor, offset: int = 0) -> list[float]:
        """Return the mean log-derivative of each flow, in nats per sample."""
        _, log_derivatives = self.trace(x, cond, offset)
        return [log_derivative.mean().item() for log_derivative in log_derivatives]

    def log_prob_per_sample(self, x: Tensor, cond: Tensor) -> Tensor:
        """Return the terms (B, N), one per audio sample, whose sum is `log_prob`, in nats."""
        z, log_derivatives = self.trace(x, cond)
        return standard_normal_log_prob(z) + unfold_rows(torch.stack(log_derivatives).sum(dim=0))

    def inverse(self, z: Tensor, cond: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Map noise to audio.

        Args:
            z: (B, N), N a multiple of `n_height` and at most hop · F.
            cond: Mel (B, M, F) of the audio.
            lengths: Frames (B,) of each item of a padded batch; each item then comes out as it
                would alone, and what lies beyond its end is unspecified.

        Returns:
            Audio (B, N).
        """
        rows = fold_rows(z, self.config.n_height)
        mask = None
        if lengths is not None:
            columns = lengths * (self.hop_length // self.config.n_height)
            mask = column_mask(columns, rows.shape[-1]).movedim(-1, 2)
        c = self._conditioning(cond, z.shape[-1], 0, lengths)
        for step, estimator, flow_cond in self._flows(
            c, reversed(range(self.config.n_flows)), mask
        ):
            rows = step.inverse(rows, flow_cond, estimator)
        return unfold_rows(rows)

    def _conditioning(
        self, mel: Tensor, n_samples: int, offset: int, lengths: Tensor | None = None
    ) -> Tensor:
        """Return the conditioning of the wanted samples, folded into rows (B, H, W, S)."""
        channels = self.config.frame_channels
        if mel.ndim != 3 or mel.shape[1] != channels:
            raise ValueError(f"mel must be (B, {channels}, F), got {tuple(mel.shape)}")
        available = mel.shape[-1] * self.hop_length
        if offset + n_samples > available:
            raise ValueError(
                f"{offset + n_samples} samples need more than {mel.shape[-1]} frames of "
                f"{self.hop_length} samples"
            )
        c = self.upsampled(mel, n_samples, offset, lengths)
        return fold_rows(c, self.config.n_height).permute(0, 2, 3, 1).contiguous()

    def upsampled(
        self, mel: Tensor, n_samples: int, offset: int = 0, lengths: Tensor | None = None
    ) -> Tensor:
        """Return what the estimator is given for the samples from `offset` on, (B, S, n_samples).

        In a causal model the mel comes early enough, or late, for the look-ahead to be as stated,
        and its first and last frame stand for those beyond; in others, zeros do.
        """
        if self.causal:
            hop, context, delay = self.hop_length, self.upsample.context, self.config.mel_delay
            first = offset // hop - context
            last = -(-(offset + n_samples) // hop) + context
            mel = _take_frames(mel, first - delay, last - delay, lengths)
            offset, lengths = offset - first * hop, None
        return self.upsample(mel, lengths)[..., offset : offset + n_samples]

    def conditioning(self, mel: Tensor, lo: int, hi: int, lengths: Tensor | None = None) -> Tensor:
        """Upsample the mel of some columns, and no more of it than they depend on.

        Args:
            mel: (B, M, F), of the whole utterance.
            lo: First column; a column is `n_height` samples.
            hi: One past the last column.
            lengths: Frames (B,) of each item of a padded batch.

        Returns:
            Rows (B, H, hi − lo, M) in natural order, what `invert_flow` takes.
        """
        H, hop = self.config.n_height, self.hop_length
        if self.causal:
            return self._conditioning(mel, (hi - lo) * H, lo * H, lengths)
        context = self.upsample.context
        first = max(lo * H // hop - context, 0)
        last = min(-(-hi * H // hop) + context, mel.shape[-1])
        part = mel[..., first:last]
        if lengths is not None:
            lengths = (lengths - first).clamp(0, last - first)
        return self._conditioning(part, (hi - lo) * H, lo * H - first * hop, lengths)

    def pack_flows(self) -> list[FlowWeights]:
        """Return every flow as `invert_flow` takes it; shared tensors are packed once."""
        nets = [self._net(k).pack() for k in range(len(self.nets))]
        flow_parameters = self._flow_parameters()
        return [
            self._weights(k, nets[k % len(nets)], flow_parameters[k], projected=False)
            for k in range(self.config.n_flows)
        ]

    def _flows(
        self, mel: Tensor, indices: Iterable[int], mask: Tensor | None = None
    ) -> Iterator[tuple[RowAutoregressive, Estimator, Conditioning]]:
        """Yield each flow's step, estimator and conditioning, the rows in its visiting order.

        On a CPU, flows that share a network and an order share the projected conditioning too: the
        projection is an eighth of the work. But where memory is short (checkpointing) it would be
        most of what is kept, and a GPU has less trouble projecting the mel anew in each layer than
        reading what it once projected.
        """
        shared = len(self.nets) == 1
        projected = shared and mel.device.type == "cpu" and not self.checkpointing
        unchanged = torch.autocast(mel.device.type, enabled=False)  # packing is exact
        with unchanged:
            flow_parameters = self._flow_parameters()
        conds: dict[tuple[int, ...], Conditioning] = {}
        net = None
        for k in indices:
            step: RowAutoregressive = self.steps[k]  # type: ignore[assignment]
            with unchanged:
                if net is None or not shared:
                    net = self._net(k).pack()
                weights = self._weights(k, net, flow_parameters[k], projected=projected)
            if step.visits not in conds:
                rows = take_rows(mel, step.visits)
                conds[step.visits] = net.project(rows) if projected else rows
            yield step, Estimator(weights, mask), conds[step.visits]

    def _net(self, index: int) -> WaveNet2d:
        return self.nets[index % len(self.nets)]  # type: ignore[return-value]

    def _weights(
        self, index: int, net: NetWeights, flow: FlowParameters, *, projected: bool
    ) -> FlowWeights:
        step: RowAutoregressive = self.steps[index]  # type: ignore[assignment]
        head: Head = self.heads[index % len(self.heads)]  # type: ignore[assignment]
        return net.for_flow(head, flow, step.order, step.passthrough, projected=projected)

    def _flow_parameters(self) -> list[FlowParameters]:
        return [FlowParameters()] * self.config.n_flows


def _take_frames(mel: Tensor, first: int, last: int, lengths: Tensor | None) -> Tensor:
    """Return frames [first, last) of mels (B, M, F); their first and last stand for all beyond."""
    frames = torch.arange(first, last, device=mel.device).clamp(min=0)
    if lengths is None:
        return mel[..., frames.clamp(max=mel.shape[-1] - 1)]
    frames = frames.minimum(lengths[:, None] - 1)
    return mel.gather(2, frames[:, None].expand(-1, mel.shape[1], -1))
