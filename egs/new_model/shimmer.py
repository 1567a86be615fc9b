"""A vocoder in one file: the affine couplings of Real NVP (ICLR 2017) over columns of samples."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vocoder import VoiceConfig, VoiceModel, register_model
from vocoder.flows.elementwise import Affine
from vocoder.flows.reshape import fold_rows, unfold_rows
from vocoder.models.families.flow import standard_normal_log_prob


@dataclass(frozen=True)
class ShimmerConfig(VoiceConfig):
    hop_length: int = 256  # samples per mel frame
    granule: int = 16  # samples of a column; even, and a divisor of the hop length
    channels: int = 48  # channels of each network
    n_flows: int = 8  # even, so that each half of a column is changed as often as the other
    dilations: tuple[int, ...] = (1, 2, 4)  # columns between the taps of each layer


def network(config: ShimmerConfig) -> nn.Module:
    """From half of each column and its mel, (B, C/2 + M, W), to parameters (B, 2, C/2, W)."""
    n = config.channels
    layers: list[nn.Module] = [nn.Conv1d(config.granule // 2 + config.n_mels, n, 1)]
    for d in config.dilations:
        layers += [nn.GELU(), nn.Conv1d(n, n, 3, padding=d, dilation=d)]
    last = nn.Conv1d(n, config.granule, 1)
    nn.init.zeros_(last.weight)  # the flow starts as the identity, nearly
    return nn.Sequential(*layers, nn.GELU(), last, nn.Unflatten(1, (2, config.granule // 2)))


@register_model("shimmer", ShimmerConfig)
class Shimmer(VoiceModel):
    def __init__(self, config: ShimmerConfig) -> None:
        super().__init__(config)
        self.networks = nn.ModuleList(network(config) for _ in range(config.n_flows))

    @property
    def reach(self) -> tuple[int, int]:  # a voice that leaves this out is refused by --stream
        columns = self.config.n_flows * sum(self.config.dilations)
        return (-(-columns * self.config.granule // self.hop_length),) * 2

    def forward(self, x: Tensor, cond: Tensor, offset: int = 0) -> tuple[Tensor, Tensor]:
        z, log_derivative = self.trace(x, cond, offset)
        return z, log_derivative.sum(dim=1)

    def log_prob_per_sample(self, x: Tensor, cond: Tensor) -> Tensor:
        z, log_derivative = self.trace(x, cond, 0)
        return standard_normal_log_prob(z) + log_derivative

    def trace(self, x: Tensor, cond: Tensor, offset: int) -> tuple[Tensor, Tensor]:
        rows, mel = fold_rows(x, self.config.granule), self.columns(cond, offset, x.shape[1])
        total = torch.zeros_like(rows)  # log-derivatives, each in the row of its sample
        for net in self.networks:
            (kept, changed), (done, waiting) = rows.chunk(2, dim=1), total.chunk(2, dim=1)
            changed, log_s = Affine().forward(changed, net(torch.cat([kept, mel], dim=1)))
            rows = torch.cat([changed, kept], dim=1)  # the halves change places
            total = torch.cat([waiting + log_s, done], dim=1)
        return unfold_rows(rows), unfold_rows(total)

    def inverse(self, z: Tensor, cond: Tensor, lengths: Tensor | None = None) -> Tensor:
        if lengths is not None:  # the items of a padded batch, each by itself
            sounds = torch.zeros_like(z)
            for sound, noise, mel, n in zip(sounds, z, cond, lengths.tolist(), strict=True):
                noise = noise[None, : n * self.hop_length]
                sound[: noise.shape[1]] = self.inverse(noise, mel[None, :, :n])
            return sounds
        rows, mel = fold_rows(z, self.config.granule), self.columns(cond, 0, z.shape[1])
        for net in reversed(self.networks):
            changed, kept = rows.chunk(2, dim=1)
            changed = Affine().inverse(changed, net(torch.cat([kept, mel], dim=1)))
            rows = torch.cat([kept, changed], dim=1)
        return unfold_rows(rows)

    def columns(self, mel: Tensor, offset: int, n_samples: int) -> Tensor:
        columns = mel.repeat_interleave(self.hop_length // self.config.granule, dim=-1)
        return columns.narrow(-1, offset // self.config.granule, n_samples // self.config.granule)
