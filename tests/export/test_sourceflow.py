"""The graph of SourceFlow against the model: pitch, pulses and filter, in others' runtimes."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from helpers import perturb
from sherpa_voice import speak_with_sherpa
from torch import Tensor
from voices import some_mel

import vocoder
from vocoder.errors import VocoderError
from vocoder.export.voice_graph import voice_graph
from vocoder.mel.envelope import log_amplitude
from vocoder.mel.presets import PRESETS, MelPreset
from vocoder.models.sourceflow import SourceFlow, SourceFlowConfig
from vocoder.voice.flow import FlowVocoder

TACOTRON2 = PRESETS["tacotron2-22k"]


def model_for(preset: MelPreset = TACOTRON2, **settings: Any) -> SourceFlow:
    """Return a small perturbed model in float64, which hears a voice in some frames."""
    hop = preset.hop_length
    height = next(n for n in (16, 15, 12, 10, 9, 8, 7, 6, 5, 4, 3, 2) if hop % n == 0)
    sizes = {"channels": 4, "n_layers": 2, "n_flows": 2, "flow_embedding": 4, "pitch_channels": 4}
    config = SourceFlowConfig(
        n_mels=preset.n_mels,
        n_height=height,
        preset=preset,
        **{"upsample_strides": (hop,), **sizes, "order": 24, **settings},
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = SourceFlow(config)
    perturb(model, size=0.05).eval()
    with torch.no_grad():  # as many frames above 0 as below
        mel = mel_for(model, 40, 1)
        logits = model.pitch.logits(log_amplitude(mel.float(), preset))
        model.pitch.head.bias[-1] -= logits[0, -1].median()
    return model.double()


def mel_for(model: SourceFlow, n_frames: int, batch: int = 2) -> Tensor:
    """Return mels (B, M, F) between silence and full scale, in float64."""
    preset = model.config.preset
    low, high = preset.silence_floor, preset.compress(1.0)
    generator = torch.Generator().manual_seed(n_frames)
    level = torch.rand(batch, 1, n_frames, generator=generator)
    fine = torch.rand(batch, preset.n_mels, n_frames, generator=generator)
    return (low + (high - low) * (0.2 + 0.6 * (0.7 * level + 0.3 * fine))).double()


def session_of(model: SourceFlow) -> onnxruntime.InferenceSession:
    proto = voice_graph(model.fold(), explicit_noise=True).model("test", "vocoder", "0")
    onnx.checker.check_model(proto, full_check=True)
    return onnxruntime.InferenceSession(
        proto.SerializeToString(), providers=["CPUExecutionProvider"]
    )


def assert_inverted(
    session: onnxruntime.InferenceSession, model: SourceFlow, mel: Tensor, tolerance: float = 5e-4
) -> None:
    """Assert that a graph gives `model.inverse`, to a part of its peak.

    The pitch is found in float32, and the phase, from which the shape of a pulse is read, adds up
    its rounding.
    """
    generator = torch.Generator().manual_seed(1)
    noise = torch.randn(len(mel), mel.shape[-1] * model.hop_length, generator=generator)
    inputs = {"mel": mel.float().numpy(), "noise": noise.numpy()}
    audio = torch.from_numpy(session.run(["audio"], inputs)[0])
    with torch.no_grad():
        mel = mel.float().double()
        expected = model.inverse(noise.double(), model.condition(mel))
    assert audio.shape == expected.shape
    assert (audio - expected).abs().max() <= tolerance * expected.abs().max()


@pytest.mark.parametrize("preset", PRESETS.values(), ids=list(PRESETS))
def test_every_preset(preset: MelPreset) -> None:
    model = model_for(preset)
    session = session_of(model)
    for n_frames in (1, 20):
        assert_inverted(session, model, mel_for(model, n_frames))


OPTIONS = [
    {"order": 0},
    {"order": 1},
    {"order": 128},
    {"variant": "naive"},
    {"lookahead_frames": 2},
    {"upsample_strides": (16, 16)},
]


@pytest.mark.parametrize("options", OPTIONS, ids=[str(option) for option in OPTIONS])
def test_every_option(options: dict[str, Any]) -> None:
    model = model_for(**options)
    session = session_of(model)
    for n_frames in (1, 7, 8, 9, 17):  # blocks go together by those of 8 frames
        assert_inverted(session, model, mel_for(model, n_frames))


def test_some_frames_have_a_voice_and_some_have_none() -> None:
    """Otherwise no test here would look at the pulses, or at their absence."""
    model = model_for()
    f0 = model.find_pitch(mel_for(model, 40))
    assert 0.2 < (f0 > 0).double().mean() < 0.8
    assert len(f0[f0 > 0].unique()) > 10


def test_a_long_mel() -> None:
    model = model_for(order=128)
    assert_inverted(session_of(model), model, mel_for(model, 300, 1), tolerance=1e-3)


def test_silence_and_the_loudest_sound_that_alternate() -> None:
    model = model_for(order=128)
    session = session_of(model)
    silent = torch.full((1, 80, 40), TACOTRON2.silence_floor).double()
    assert_inverted(session, model, silent)
    loud = silent.clone()
    loud[..., ::2] = TACOTRON2.compress(1.0)
    assert_inverted(session, model, loud)
    tones = silent.clone()
    tones[:, 20, ::3] = tones[:, 60, 1::3] = TACOTRON2.compress(1.0)
    assert_inverted(session, model, tones)


def test_splines_are_refused() -> None:
    with pytest.raises(VocoderError, match=r"spline voice.*affine"):
        voice_graph(model_for(transform="spline").fold())


def test_the_file_is_written_and_spoken_by_sherpa_onnx(tmp_path) -> None:  # type: ignore[no-untyped-def]
    pytest.importorskip("sherpa_onnx")
    voice = FlowVocoder(model_for(order=128).float(), TACOTRON2, device="cpu")
    mel = some_mel(14)
    vocoder.export_onnx(voice, tmp_path / "voice.onnx", temperature=0.0)
    audio = speak_with_sherpa(tmp_path, mel)
    expected = voice.synthesize(mel, temperature=0.0).numpy()
    assert np.abs(audio - expected).max() <= 1e-3 * np.abs(expected).max()


def test_half_precision_leaves_the_filter_and_the_pitch_as_they_are(tmp_path) -> None:  # type: ignore[no-untyped-def]
    voice = FlowVocoder(model_for(order=128).float(), TACOTRON2, device="cpu")
    report = vocoder.export_onnx(voice, tmp_path / "voice.onnx", precision="fp16")
    # float16 has 11 bits, and the layers alone use them.
    assert 0 < report.difference <= 1e-2 * report.peak
