"""How WaveFlow and NanoFlow stream.

A voice of symmetric estimators depends on some 20 s to each side, but on nearly all of it hardly at
all: it speaks each block with some overlap on both sides, and neighbours are faded into each other.
A causal voice needs no such compromise: it carries the state of its estimators from block to block,
and knows the future no further than `lookahead_frames` of mel.
"""

from __future__ import annotations

import math

from torch import Tensor

from vocoder.errors import VocoderError
from vocoder.flows.reshape import fold_rows
from vocoder.kernels.invert_flow.causal import COLUMNS, CausalInverter
from vocoder.models.families.row_flow import RowFlow
from vocoder.models.families.voice import VoiceModel
from vocoder.models.nanoflow import NanoFlow
from vocoder.models.waveflow import WaveFlow
from vocoder.nets.wavenet2d import WaveNet2d
from vocoder.voice.noise import Noise
from vocoder.voice.renderer import Renderer
from vocoder.voice.renderers.row_flow import RowRenderer
from vocoder.voice.streaming import (
    BLOCK_FRAMES,
    STREAMINGS,
    BlockStream,
    Streaming,
    StreamPlan,
    WindowStreaming,
    plan_windows,
)

CAUSAL_BLOCK_FRAMES = 4  # of a causal voice, whose blocks cost no more work than the whole
OVERLAP_REACHES = 2  # of the estimator; from the curve in docs/streaming.md


class RowStreaming(Streaming):
    """State carried from block to block where a voice is causal, and overlapping windows else."""

    def plan(
        self, model: VoiceModel, block_frames: int | None, overlap_frames: int | None
    ) -> StreamPlan:
        """Return how a row flow streams; see `Streaming.plan`.

        The default block has 4 frames for causal voices and 32 for others; the default overlap is
        twice what the estimator sees and what the upsampler does, and causal voices have none.
        """
        assert isinstance(model, RowFlow)
        reach = estimator_reach(model)
        if streams_exactly(model):
            if overlap_frames is not None:
                raise VocoderError(
                    f"overlap_frames {overlap_frames}: this voice is causal and its blocks need no "
                    "overlap; leave it out"
                )
            before, after = model.config.mel_context
            return StreamPlan(
                CAUSAL_BLOCK_FRAMES if block_frames is None else block_frames,
                before,
                after,
                sight=f"{2 * reach:.3g} frames back, for each row of each flow",
                exact=True,
            )
        if overlap_frames is None:
            overlap_frames = math.ceil(OVERLAP_REACHES * reach) + model.upsample.context
        sight = f"{reach:.3g} frames back and ahead, for each row of each flow"
        return plan_windows(
            BLOCK_FRAMES if block_frames is None else block_frames, overlap_frames, sight
        )

    def start(
        self, renderer: Renderer, plan: StreamPlan, temperature: float, seed: int
    ) -> BlockStream:
        """Return a stream that carries state, or one of windows."""
        model = renderer.model
        assert isinstance(model, RowFlow)
        if not streams_exactly(model):
            return WindowStreaming().start(renderer, plan, temperature, seed)
        inverter = renderer.inverter if isinstance(renderer, RowRenderer) else None
        if not isinstance(inverter, CausalInverter):
            inverter = CausalInverter(model.pack_flows())
        return CausalStream(model, inverter, plan, temperature, seed)


STREAMINGS.register(WaveFlow, NanoFlow)(RowStreaming())


def estimator_reach(model: RowFlow) -> float:
    """Return how many frames a symmetric estimator sees to each side, in each row of each flow."""
    net: WaveNet2d = model.nets[0]  # type: ignore[assignment]
    columns = sum(d_w for _, d_w in net.dilations)
    return columns * model.config.n_height / model.hop_length


def streams_exactly(model: RowFlow) -> bool:
    """Tell whether a voice is causal, and of the affine flows that the row op knows."""
    return model.causal and model.config.transform == "affine"


class CausalStream(BlockStream):
    """Carries the state of a causal voice from block to block.

    Args:
        model: The folded model, which is causal.
        inverter: The inverter of its flows.
        plan: How the stream is cut.
        temperature: Standard deviation of the noise.
        seed: Seed of the noise.
    """

    def __init__(
        self,
        model: RowFlow,
        inverter: CausalInverter,
        plan: StreamPlan,
        temperature: float,
        seed: int,
    ) -> None:
        super().__init__(model.hop_length, plan)
        self.model = model
        self.temperature = temperature
        self.noise = Noise(seed)
        self.n_height, self.dtype = inverter.n_height, inverter.dtype
        self._inversion = inverter.start(
            min(plan.block_frames * self.hop_length // self.n_height, COLUMNS)
        )

    def speak(self, mel: Tensor, first: int, start: int, stop: int) -> Tensor:
        """Return the audio (N,) of frames [start, stop), given the mel from frame `first` on."""
        hop, H = self.hop_length, self.n_height
        mel = mel.to(self.dtype)
        audio = self.noise.take(start * hop, stop * hop).to(mel).mul_(self.temperature)
        begin = (start - first) * hop // H

        def cond(lo: int, hi: int) -> Tensor:
            return self.model.conditioning(mel[None], begin + lo, begin + hi)[0]

        self._inversion.invert_in_place(fold_rows(audio, H), cond)
        return audio.float()
