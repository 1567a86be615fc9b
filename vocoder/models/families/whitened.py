"""Voices whose flow works on the excitation of speech, behind a filter that the mel tells.

What a mel says of the envelope and the gain of a sound need not be learnt: it leaves the sound by
linear prediction (`flows/linear_prediction.py`), an exact flow step whose filters come from the mel
alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from vocoder.flows.linear_prediction import (
    Filters,
    LinearPrediction,
    interpolate_frames,
    reflection_coefficients,
    synthesise,
)
from vocoder.mel.envelope import autocorrelation, frame_centre
from vocoder.mel.presets import TACOTRON2, MelPreset, preset_difference
from vocoder.models.families.voice import VoiceConfig, VoiceModel

Self = TypeVar("Self", bound="WhitenedVoice")

# Maps an excitation, its filters and the state before it to sound and the state after it.
Synthesise = Callable[[Tensor, Filters, Tensor], tuple[Tensor, Tensor]]

SCALE = 8.0  # deviations of the excitation that make full scale, for the flow behind
_LONGEST_BLOCK = 32  # samples that have one filter; 64 cost 0.01 nats a sample, 16 gain nothing
_FRAMES_AT_ONCE = 64  # whose filters are made together in the inverse, which bounds its memory


@dataclass(frozen=True)
class WhitenedVoiceConfig(VoiceConfig):
    """What the filter wants to know."""

    preset: MelPreset = TACOTRON2  # of the mels; a recipe tells its own
    order: int = 128  # past samples that the linear prediction reaches back

    def check_order(self) -> None:
        """Refuse an order that the mel cannot tell."""
        if not 0 <= self.order <= self.preset.n_fft // 2:
            raise ValueError(
                f"order must lie between 0 and half the preset's n_fft, {self.preset.n_fft // 2}; "
                f"got {self.order}"
            )

    @property
    def block_length(self) -> int:
        """Samples that have one filter: the longest divisor of the hop length up to 32."""
        hop = self.hop_length
        return max(n for n in range(1, _LONGEST_BLOCK + 1) if hop % n == 0)

    @property
    def history(self) -> int:
        """Samples of the whole blocks that the linear prediction reaches back over."""
        return -(-self.order // self.block_length) * self.block_length

    def whole_blocks(self, granule: int) -> int:
        """Return the granule of a flow, made one of whole blocks too."""
        return math.lcm(granule, self.block_length)

    def with_filters(self, context: tuple[int, int]) -> tuple[int, int]:
        """Return the frames around a crop for a flow, made those of its filters and history too."""
        before, after = context
        reach = self.history + frame_centre(self.preset)
        return max(before, -(-reach // self.hop_length)), max(after, 1)

    def check_preset(self, preset: MelPreset) -> None:
        """Refuse any other preset than that of the filters."""
        super().check_preset(preset)
        if differences := preset_difference(self.preset, preset):
            raise ValueError(
                f"reads its filters off mels of the preset {self.preset.name}, not of "
                f"{preset.name} ({', '.join(differences)})"
            )


class WhitenedVoice(VoiceModel):
    """audio → linear prediction → the flow `excitation` → noise."""

    config: WhitenedVoiceConfig
    excitation: VoiceModel

    def __init__(self, config: WhitenedVoiceConfig) -> None:
        super().__init__(config)
        self.whitening = LinearPrediction()

    @property
    def checkpointing(self) -> bool:  # type: ignore[override]
        """Whether the flow behind the filter keeps only what enters each of its steps."""
        return self.excitation.checkpointing

    @checkpointing.setter
    def checkpointing(self, wanted: bool) -> None:
        self.excitation.checkpointing = wanted

    @property
    def tone_period(self) -> int | None:
        """The period of the flow behind the filter."""
        return self.excitation.tone_period

    @property
    def gains_from_bf16_on_cpu(self) -> bool:
        """Whether the flow behind the filter trains faster in bfloat16."""
        return self.excitation.gains_from_bf16_on_cpu

    def whiten(
        self, x: Tensor, cond: Tensor, offset: int = 0, history: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the excitation (B, N), and ln g of every sample, which the filter divides by.

        The arguments are those of `forward`.
        """
        n_before = 0 if history is None else history.shape[1]
        filters = self.filters(
            cond[:, : self.n_mels], offset - n_before, n_before + x.shape[1], x.dtype
        )
        past = x if history is None else torch.cat([history, x], dim=1)
        excitation, _ = self.whitening(past, filters)
        return excitation[:, n_before:], filters.gains.log()[:, n_before:]

    def inverse(self, z: Tensor, cond: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Map noise to audio; see `VoiceModel.inverse`."""
        return self.filter(self.excitation.inverse(z, cond, lengths), cond, lengths)

    def filter(
        self,
        excitation: Tensor,
        cond: Tensor,
        lengths: Tensor | None = None,
        synthesise: Synthesise = synthesise,
    ) -> Tensor:
        """Map an excitation (B, N) to audio (B, N), some frames after the other.

        Args:
            excitation: What `inverse` of the flow behind the filter gives, N = F · hop.
            cond: The conditioning (B, C, F).
            lengths: Frames (B,) of each item of a padded batch.
            synthesise: The filter; see `flows.linear_prediction.synthesise`.
        """
        mel = hold_last(cond[:, : self.n_mels], lengths)
        state = excitation.new_zeros(len(excitation), self.config.order)
        return self.filter_on(excitation, mel, 0, state, synthesise)

    def filter_on(
        self,
        excitation: Tensor,
        mel: Tensor,
        offset: int,
        state: Tensor,
        synthesise: Synthesise = synthesise,
    ) -> Tensor:
        """Map an excitation (B, N) to audio (B, N) that goes on from a state.

        Args:
            excitation: What the flow gives, N a multiple of the block length.
            mel: Mels (B, M, F) that hold these samples and the frames beside them.
            offset: Samples from the start of the first frame to the first of them.
            state: The state (B, p) of the filters before it, which becomes that after it.
            synthesise: The filter; see `flows.linear_prediction.synthesise`.
        """
        pieces = []
        current = state
        for lo, hi in _ranges(excitation.shape[1], _FRAMES_AT_ONCE * self.hop_length):
            filters = self.filters(mel, offset + lo, hi - lo, excitation.dtype)
            piece, current = synthesise(excitation[:, lo:hi], filters, current)
            pieces.append(piece)
        state.copy_(current)
        return torch.cat(pieces, dim=1)

    @torch.no_grad()
    def filters(self, mel: Tensor, offset: int, n_samples: int, dtype: torch.dtype) -> Filters:
        """Return the filters of the samples from `offset` on.

        They are found in float64: their gain spans many orders of magnitude.

        Args:
            mel: Mels (B, M, F).
            offset: Samples from the start of the first frame, a multiple of the block length.
            n_samples: How many samples, likewise.
            dtype: The type of the filters.
        """
        config, hop = self.config, self.hop_length
        first = max(offset // hop - 1, 0)
        near = mel[..., first : (offset + n_samples) // hop + 2]
        r = autocorrelation(near.double(), config.preset, config.order)
        start = offset - first * hop
        span = frame_centre(config.preset), start, start + n_samples
        reflections = reflection_coefficients(
            interpolate_frames(r, hop, config.block_length, *span)
        )
        # At each sample: a deviation that jumped from block to block would look like a click to
        # the stages, whose past is normalised by it; that cost 0.05 nats a sample.
        powers = interpolate_frames(r[..., :1].log(), hop, 1, *span).exp()
        deviations = SCALE * powers.squeeze(-1).sqrt()
        return Filters(reflections.to(dtype), deviations.to(dtype))

    def fold(self: Self) -> Self:
        """Return a frozen copy for inference, the flow behind the filter folded as its own is."""
        model = super().fold()
        model.excitation = self.excitation.fold()
        return model


def hold_last(frames: Tensor, lengths: Tensor | None) -> Tensor:
    """Let the last frame of each item (B, …, F) stand for all beyond, as where it is alone."""
    if lengths is None:
        return frames
    places = torch.arange(frames.shape[-1], device=frames.device).minimum(lengths[:, None] - 1)
    shape = (len(frames), *[1] * (frames.ndim - 2), frames.shape[-1])
    return frames.gather(-1, places.reshape(shape).expand_as(frames))


def _ranges(n_samples: int, length: int) -> Iterator[tuple[int, int]]:
    """Yield [lo, hi) for pieces of that length, of which the last may be shorter."""
    for lo in range(0, n_samples, length):
        yield lo, min(lo + length, n_samples)
