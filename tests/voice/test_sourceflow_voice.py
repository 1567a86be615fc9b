"""SourceFlow as a voice: its stream carries the phase of the pulses and the state of the filter."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from helpers import perturb
from torch import Tensor

from vocoder.mel.presets import get_preset
from vocoder.models.sourceflow import SourceFlow, SourceFlowConfig
from vocoder.nets.pitch import REACH
from vocoder.voice.flow import FlowVocoder

PRESET = get_preset("tacotron2-22k")


def some_voice(**settings: Any) -> FlowVocoder:
    shape = {"channels": 6, "n_layers": 2, "n_flows": 2, "flow_embedding": 4, "pitch_channels": 8}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = SourceFlow(SourceFlowConfig(preset=PRESET, **{**shape, "order": 32, **settings}))
    perturb(model, size=0.05)
    with torch.no_grad():
        # A voice in some frames and none in others.
        generator = torch.Generator().manual_seed(1)
        model.pitch.head.weight[-1] = 20 * torch.randn(8, 1, generator=generator)
        model.pitch.head.bias[-1] -= 1.67
    return FlowVocoder(model.eval(), PRESET, device="cpu")


def some_mel(n_frames: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return -7 + 5 * torch.rand(80, n_frames, generator=generator)


def test_the_mel_has_voiced_and_unvoiced_frames() -> None:
    """Or the tests below would show little."""
    f0 = some_voice().model.find_pitch(some_mel(61)[None])
    assert 10 < int((f0 > 0).sum()) < 51


@pytest.mark.parametrize("pieces", [[61], [1] * 61, [20, 1, 9, 31]])
@pytest.mark.parametrize("lookahead", [0, 2])
@pytest.mark.parametrize("pitch", [1.0, 1.25])
def test_a_causal_stream_is_the_whole(lookahead: int, pieces: list[int], pitch: float) -> None:
    voice = some_voice(lookahead_frames=lookahead)
    mel = some_mel(61)
    whole = voice.synthesize(mel, seed=3, pitch=pitch)
    stream = voice.stream(mel.split(pieces, dim=1), seed=3, pitch=pitch)
    # A block, the look-ahead (one frame for the filter), the pitch's reach, its interpolation, and
    # what another pitch waits for: the reach again, and the rest of four frames.
    waits = 0 if pitch == 1 else REACH + 3
    assert stream.latency_frames == 4 + max(lookahead, 1) + REACH + 1 + waits
    streamed = torch.cat(list(stream))
    assert (streamed - whole).abs().max() <= 1e-4 * whole.abs().max()


def test_a_stream_of_windows_is_the_whole_where_they_hold_what_the_estimator_sees() -> None:
    voice = some_voice()
    mel = some_mel(61)
    whole = voice.synthesize(mel, seed=3)
    pieces = mel.split([20, 1, 9, 31], dim=1)
    streamed = torch.cat(list(voice.stream(pieces, seed=3, block_frames=8, overlap_frames=16)))
    assert (streamed - whole).abs().max() <= 1e-3 * whole.abs().max()


def test_a_batch_of_different_lengths_sounds_as_its_items_do_alone() -> None:
    voice = some_voice()
    mel = some_mel(30)
    batch = voice.synthesize(torch.stack([mel, mel]), [30, 11], seed=3)
    for item, n in zip(batch, (30, 11), strict=True):
        alone = voice.synthesize(mel[:, :n], seed=3)
        assert (item[: n * 256] - alone).abs().max() <= 1e-4 * alone.abs().max()
        assert not item[n * 256 :].any()
