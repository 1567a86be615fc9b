"""SourceFlow: a NanoFlow over the excitation of speech, between exact steps that the mel tells.

What a mel says of a voice need not be learnt. Its envelope and its gain leave the sound by linear
prediction (`flows/linear_prediction.py`), an exact flow step whose filters come from the mel alone.
Its pitch tells the NanoFlow behind where in each period a sample lies (`nets/pulses.py`).

Between the two a step brings the voice nearer to what is likeliest. The mel tells the shape that
the pulses have on the whole (`nets/pulse_shape.py`), and voiced speech keeps a share w of what a
sample has beside it: e = w e' + (1 − w) shape. It is exact for every w above 0, and no step at all
for w = 1, with which the model is trained and scored.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from vocoder.flows.linear_prediction import synthesise
from vocoder.flows.reshape import unfold_rows
from vocoder.mel.envelope import frame_centre, log_amplitude
from vocoder.models.families.flow import nats_per_dim, standard_normal_log_prob
from vocoder.models.families.sizes import check_sizes
from vocoder.models.families.voice import PitchedVoice
from vocoder.models.families.whitened import (
    SCALE,
    Synthesise,
    WhitenedVoice,
    WhitenedVoiceConfig,
    hold_last,
)
from vocoder.models.nanoflow import NanoFlow, NanoFlowConfig
from vocoder.nets.pitch import REACH, PitchNet
from vocoder.nets.pulse_shape import PulseShape, place_shapes
from vocoder.nets.pulses import (
    N_FEATURES,
    Told,
    pack_pulses,
    packed_channels,
    pulse_features,
    pulses_of_pitch,
    unpack,
)
from vocoder.registry import register_model

_PITCH_WEIGHT = 0.02  # of the pitch's nats per frame, beside nats per sample
_SHAPE_WEIGHT = 0.02  # of the squared error of the pulses, likewise
_LOUDEST = 6.0  # deviations that the pulses are held to in training, so that no click rules them


@dataclass(frozen=True)
class SourceFlowConfig(WhitenedVoiceConfig, NanoFlowConfig):
    """SourceFlow: a filter, a pitch, and all options of the NanoFlow behind them."""

    f_min: float = 55.0  # Hz, the lowest pitch
    f_max: float = 420.0  # Hz, the highest pitch
    pitch_channels: int = 128  # of the net that reads the pitch off the mel
    shape_channels: int = 160  # of the net that reads the shape of the pulses off the mel
    voiced_noise: float = 0.2  # share of its noise that voiced speech keeps when it is spoken

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_order()
        limit = self.preset.sample_rate / 8
        if not 10 <= self.f_min < self.f_max <= limit:
            raise ValueError(
                f"f_min and f_max must rise, and lie between 10 Hz and an eighth of the sample "
                f"rate, {limit:g} Hz; got {self.f_min:g} and {self.f_max:g}"
            )
        check_sizes(self, "pitch_channels", "shape_channels")
        if not 0 < self.voiced_noise <= 1:
            raise ValueError(
                f"voiced_noise must lie above 0 and be at most 1; got {self.voiced_noise:g}"
            )

    @property
    def granule(self) -> int:
        """Samples of whole columns and whole blocks."""
        return self.whole_blocks(super().granule)

    @property
    def frame_channels(self) -> int:
        """Channels of a frame: the mel bands, the pulses of its samples, the share of noise."""
        return self.n_mels + packed_channels(self.hop_length)

    @property
    def sample_channels(self) -> int:
        """Channels that the estimator is given: the mel bands, and features of the pulses."""
        return self.n_mels + N_FEATURES

    @property
    def mel_context(self) -> tuple[int, int]:
        """Frames before and after a crop; the filters of its history, too, lie between two."""
        return self.with_filters(super().mel_context)

    @property
    def pitch_range(self) -> tuple[float, float]:
        """The pitches in Hz that count as a voice."""
        return self.f_min, self.f_max


class Excitation(NanoFlow):
    """A NanoFlow that hears mels and pulses, packed as `SourceFlow.condition` does."""

    config: SourceFlowConfig

    def upsampled(
        self, mel: Tensor, n_samples: int, offset: int = 0, lengths: Tensor | None = None
    ) -> Tensor:
        """Return the upsampled mel and the features of the pulses, (B, M + 16, n_samples)."""
        told = unpack(mel, self.n_mels, offset, n_samples)
        features = pulse_features(told.pulses, self.config.preset.sample_rate)
        spectrum = super().upsampled(told.mel, n_samples, offset, lengths)
        return torch.cat([spectrum, features], dim=1)


@register_model("sourceflow", SourceFlowConfig)
class SourceFlow(WhitenedVoice, PitchedVoice):
    """audio → linear prediction → NanoFlow → noise, given the mel and the pulses of the voice."""

    config: SourceFlowConfig
    excitation: Excitation

    def __init__(self, config: SourceFlowConfig) -> None:
        super().__init__(config)
        self.excitation = Excitation(config)
        self.pitch = PitchNet(config.n_mels, config.pitch_channels, config.f_min, config.f_max)
        reach = math.ceil(config.preset.sample_rate / config.f_min / 2)  # half the longest period
        self.pulse_shape = PulseShape(config.n_mels, config.shape_channels, reach)

    @torch.no_grad()
    def condition(
        self, mel: Tensor, lengths: Tensor | None = None, f0: Tensor | None = None
    ) -> Tensor:
        """Return mels with the pulses of their pitch, (B, M + 2 · hop + 1, F).

        Args:
            mel: Mels (B, M, F).
            lengths: Frames (B,) of each item of a padded batch; None: all are F.
            f0: The pitch (B, F) in Hz, 0 where there is no voice; None: that of the mel.
        """
        preset = self.config.preset
        if f0 is None:
            f0 = self.find_pitch(mel, lengths)
        f0 = hold_last(f0, lengths)
        pulses = pulses_of_pitch(
            f0.to(mel.dtype), preset.sample_rate, self.hop_length, frame_centre(preset)
        )
        packed = pack_pulses(pulses, self.hop_length, self.config.voiced_noise)
        return torch.cat([mel, packed], dim=1)

    @property
    def pitch_reach(self) -> int:
        """Frames on each side of a frame that its pitch is read off."""
        return REACH

    @torch.no_grad()
    def find_pitch(self, mel: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return the pitch (B, F) of mels (B, M, F) in Hz, 0 where there is no voice."""
        dtype = self.pitch.head.weight.dtype
        return self.pitch(log_amplitude(mel, self.config.preset).to(dtype), lengths)

    def losses(
        self, x: Tensor, cond: Tensor, offset: int = 0, history: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Return the loss of the flow, of the pitch and of the shapes; see `VoiceModel.losses`."""
        z, log_derivatives, excitation = self.trace(x, cond, offset, history)
        logdet = torch.stack([d.sum(dim=1) for d in log_derivatives]).sum(dim=0)
        told, preset = unpack(cond, self.n_mels, offset, x.shape[1]), self.config.preset
        centres = cond[:, self.n_mels + self.hop_length + frame_centre(preset) % self.hop_length]
        spectrum = log_amplitude(told.mel, preset).to(self.pitch.head.weight.dtype)
        pitch = self.pitch.loss(spectrum, centres * preset.sample_rate)
        heard = (SCALE * excitation.detach()).clamp(-_LOUDEST, _LOUDEST)
        missed = (self.shapes(told, offset) - heard) * (told.pulses.frequency > 0)
        return {
            "nll": nats_per_dim(z, logdet),
            "pitch": _PITCH_WEIGHT * pitch,
            "shape": _SHAPE_WEIGHT * missed.square().mean(),
        }

    def shapes(self, told: Told, offset: int) -> Tensor:
        """Return the excitation (B, N) that is likeliest, at unit deviation; see `likeliest`."""
        preset = self.config.preset
        spectrum = log_amplitude(told.mel, preset).to(self.pulse_shape.head.weight.dtype)
        shapes = self.pulse_shape(spectrum)
        return place_shapes(shapes, told.pulses, self.hop_length, frame_centre(preset), offset)

    @torch.no_grad()
    def likeliest(self, told: Told, offset: int) -> tuple[Tensor, Tensor]:
        """Return the step to what is likeliest: the shift (B, N) and the share of the rest (B, N).

        Args:
            told: What the model is told of the samples.
            offset: Samples from the start of the first frame to the first of them.
        """
        share = torch.where(told.pulses.frequency > 0, told.noise, 1.0)
        return (1 - share) * self.shapes(told, offset).to(share) / SCALE, share

    def forward(
        self, x: Tensor, cond: Tensor, offset: int = 0, history: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Map audio to noise; see `VoiceModel.forward`."""
        z, log_derivatives, _ = self.trace(x, cond, offset, history)
        return z, torch.stack([d.sum(dim=1) for d in log_derivatives]).sum(dim=0)

    def trace(
        self, x: Tensor, cond: Tensor, offset: int = 0, history: Tensor | None = None
    ) -> tuple[Tensor, list[Tensor], Tensor]:
        """Like `forward`, with more on the way.

        Returns:
            The noise z (B, N), each step's log-derivative of every sample, (B, N) each, and the
            excitation (B, N) between the steps.
        """
        excitation, log_gains = self.whiten(x, cond, offset, history)
        shift, share = self.likeliest(unpack(cond, self.n_mels, offset, x.shape[1]), offset)
        gains = -log_gains - share.log()
        z, rows = self.excitation.trace((excitation - shift) / share, cond, offset)
        return z, [gains, *(unfold_rows(row) for row in rows)], excitation

    def log_prob_per_sample(self, x: Tensor, cond: Tensor) -> Tensor:
        """Return the terms (B, N), one per audio sample, whose sum is `log_prob`, in nats."""
        z, log_derivatives, _ = self.trace(x, cond)
        return standard_normal_log_prob(z) + torch.stack(log_derivatives).sum(dim=0)

    def flow_logdets(
        self, x: Tensor, cond: Tensor, offset: int = 0, history: Tensor | None = None
    ) -> list[float]:
        """Return the mean log-derivative of the filter and of each flow, in nats per sample."""
        _, log_derivatives, _ = self.trace(x, cond, offset, history)
        return [log_derivative.mean().item() for log_derivative in log_derivatives]

    def filter(
        self,
        excitation: Tensor,
        cond: Tensor,
        lengths: Tensor | None = None,
        synthesise: Synthesise = synthesise,
    ) -> Tensor:
        """Map an excitation to audio by the step to what is likeliest, and then the filter."""
        told = unpack(cond, self.n_mels, 0, excitation.shape[1])
        told = told._replace(mel=hold_last(told.mel, lengths))
        return super().filter(self.likelier(excitation, told, 0), cond, lengths, synthesise)

    def likelier(self, excitation: Tensor, told: Told, offset: int) -> Tensor:
        """Return an excitation (B, N) after the step to what is likeliest; see `likeliest`."""
        shift, share = self.likeliest(told, offset)
        return excitation * share + shift
