"""Speaking at another pitch: what is refused, and that the voice is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from voices import pitched_model

from vocoder import checkpoint
from vocoder.errors import VocoderError
from vocoder.files.audio import read_wav
from vocoder.mel.presets import get_preset
from vocoder.mel.spectrogram import MelSpectrogram
from vocoder.nets.pulses import unpack
from vocoder.voice.flow import FlowVocoder
from vocoder.voice.griffin_lim import GriffinLimVocoder
from vocoder.voice.load import load

PRESET = get_preset("tacotron2-22k")


@pytest.fixture(scope="module")
def speaker() -> FlowVocoder:
    return FlowVocoder(pitched_model(), PRESET, device="cpu")


def some_mel(n_frames: int = 20) -> np.ndarray:
    return (-7 + 5 * np.random.default_rng(0).random((80, n_frames))).astype(np.float32)


def test_a_factor_of_one_keeps_the_bits(speaker: FlowVocoder) -> None:
    plain = speaker.synthesize(some_mel(), seed=1)
    assert np.array_equal(speaker.synthesize(some_mel(), seed=1, pitch=1.0), plain)
    assert not np.array_equal(speaker.synthesize(some_mel(), seed=1, pitch=1.2), plain)


def test_the_renderer_is_told_the_pitch_that_was_given(
    speaker: FlowVocoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[torch.Tensor] = []
    render = speaker.renderer.render

    def listen(z: torch.Tensor, cond: torch.Tensor, frames: Any) -> torch.Tensor:
        told.append(unpack(cond, 80, 0, cond.shape[-1] * 256).pulses.frequency * 22050)
        return render(z, cond, frames)

    monkeypatch.setattr(speaker.renderer, "render", listen)
    f0 = np.full(20, 150.0)
    f0[10:] = 0
    speaker.synthesize(some_mel(), seed=1, f0=f0, pitch=1.5)
    speaker.synthesize(torch.tensor(some_mel())[None], seed=1, f0=torch.tensor(f0)[None])
    for frequency, expected in zip(told, (225.0, 150.0), strict=True):
        voiced = frequency[0] > 0
        assert torch.allclose(frequency[0, voiced], torch.tensor(expected))
        assert int(voiced.sum()) == 9 * 256 + 128  # to halfway between the tenth frame and the next


def test_an_item_of_a_batch_is_spoken_as_alone(speaker: FlowVocoder) -> None:
    mel = torch.tensor(some_mel())
    f0 = torch.linspace(100, 200, 20)
    settings = {"seed": 1, "pitch": 1.1}
    batch = speaker.synthesize(
        torch.stack([mel, mel]), [20, 9], f0=torch.stack([f0, f0]), **settings
    )
    for item, n in zip(batch, (20, 9), strict=True):
        alone = speaker.synthesize(mel[:, :n], f0=f0[:n], **settings)
        assert (item[: n * 256] - alone).abs().max() <= 1e-4 * alone.abs().max()


@pytest.mark.parametrize("value", [float("nan"), -1.0, 1000.0])
def test_what_pads_a_track_does_not_matter(speaker: FlowVocoder, value: float) -> None:
    mels = torch.tensor(some_mel()).expand(2, -1, -1)
    tracks = torch.full((2, 20), 150.0)
    expected = speaker.synthesize(mels, [20, 9], seed=1, f0=tracks)
    tracks[1, 9:] = value
    assert torch.equal(speaker.synthesize(mels, [20, 9], seed=1, f0=tracks), expected)
    tracks[1, 8] = value
    with pytest.raises(VocoderError, match="f0 at frame 8 of item 1 is"):
        speaker.synthesize(mels, [20, 9], seed=1, f0=tracks)


@pytest.mark.parametrize("pitch", [0, -1, float("nan"), float("inf"), True, "high"])
def test_a_factor_that_makes_no_sense_is_refused(speaker: FlowVocoder, pitch: Any) -> None:
    with pytest.raises(VocoderError, match="give a factor above 0"):
        speaker.synthesize(some_mel(), pitch=pitch)


@pytest.mark.parametrize(
    ("f0", "message"),
    [
        (np.full(19, 150.0), r"f0 has shape \(19,\), and the mel wants \(20,\)"),
        (np.full((1, 20), 150.0), r"f0 has shape \(1, 20\), and the mel wants \(20,\)"),
        (np.full(20, -1.0), "f0 at frame 0 is -1; give Hz"),
        (np.array([150.0] * 7 + [np.nan] + [150.0] * 12), "f0 at frame 7 is nan; give Hz"),
        (np.full(20, np.inf), "f0 at frame 0 is inf; give Hz"),
        (np.full(20, 900.0), "f0 at frame 0 is 900 Hz, and this voice speaks at 55 to 420 Hz"),
        (np.full(20, 20.0), "f0 at frame 0 is 20 Hz, and this voice speaks at 55 to 420 Hz"),
        ([150.0] * 20, "f0 is a list; give an array of Hz"),
    ],
)
def test_a_track_that_does_not_fit_is_refused(speaker: FlowVocoder, f0: Any, message: str) -> None:
    with pytest.raises(VocoderError, match=message):
        speaker.synthesize(some_mel(), f0=f0)


def test_a_factor_beyond_the_range_is_held_there_and_told(
    speaker: FlowVocoder, caplog: pytest.LogCaptureFixture
) -> None:
    speaker.synthesize(some_mel(), pitch=50.0)
    assert "frames would lie beyond the 55 to 420 Hz of this voice" in caplog.text


def test_a_stream_tells_once_of_a_factor_beyond_the_range(
    speaker: FlowVocoder, caplog: pytest.LogCaptureFixture
) -> None:
    list(speaker.stream([some_mel(40)], pitch=50.0))
    assert caplog.text.count("from frame 0 on some would lie beyond the 55 to 420 Hz") == 1


def test_a_stream_at_another_pitch_does_not_depend_on_how_the_mel_was_cut(
    speaker: FlowVocoder,
) -> None:
    mel = some_mel(40)
    whole, pieces = (
        np.concatenate(list(speaker.stream(cut, seed=0, pitch=1.2, refine=1)))
        for cut in ([mel], np.array_split(mel, 9, axis=1))
    )
    assert np.array_equal(whole, pieces)


def test_a_stream_refuses_a_factor_that_makes_no_sense(speaker: FlowVocoder) -> None:
    with pytest.raises(VocoderError, match="give a factor above 0"):
        speaker.stream([some_mel()], pitch=0.0)


@pytest.mark.parametrize("settings", [{"pitch": 1.2}, {"f0": np.full(20, 150.0)}])
def test_a_voice_without_a_pitch_refuses(settings: dict[str, Any]) -> None:
    with pytest.raises(VocoderError, match="griffin-lim: knows no pitch but that of the mel"):
        GriffinLimVocoder(PRESET, n_iter=1).synthesize(some_mel(), **settings)


def test_the_command_line_speaks_at_another_pitch_and_refuses_what_makes_no_sense(
    run: Any, voice: Path, tmp_path: Path
) -> None:
    path = tmp_path / "voice.safetensors"
    checkpoint.save(path, pitched_model(), PRESET, step=1, metrics={})
    np.save(tmp_path / "mel.npy", some_mel())
    np.save(tmp_path / "f0.npy", np.full(20, 150.0))
    np.save(tmp_path / "short.npy", np.full(3, 150.0))
    common = ("synthesize", tmp_path / "mel.npy", "-o", tmp_path / "out.wav", "--voice", path)
    assert run(*common, "--pitch", "1.2", "--f0", tmp_path / "f0.npy").code == 0
    assert "factor above 0" in run(*common, "--pitch", "0").err
    assert "f0 has shape" in run(*common, "--f0", tmp_path / "short.npy").err
    assert "numbers (F,) in Hz" in run(*common, "--f0", tmp_path / "mel.npy").err
    assert "no such file" in run(*common, "--f0", tmp_path / "none.npy").err
    assert "55 to 420 Hz; --pitch and --f0 change it" in run("info", path).out.decode()
    plain = ("synthesize", tmp_path / "mel.npy", "-o", tmp_path / "x.wav", "--voice", voice)
    refused = run(*plain, "--pitch", "1.2")
    assert refused.code != 0
    assert "knows no pitch but that of the mel" in refused.err
    assert "this voice cannot change it" in run("info", voice).out.decode()


RECORDING = Path(__file__).parents[2] / "docs" / "sounds" / "prompt-recording.wav"


def tones_of(audio: np.ndarray, rate: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the pitch (T,) in Hz, 0 where there is no voice, and three formants (T, 3) in Hz."""
    praat = pytest.importorskip("parselmouth")
    sound = praat.Sound(audio.astype(np.float64), rate)
    track = sound.to_pitch_ac(time_step=0.01, pitch_floor=60, pitch_ceiling=500)
    formants = sound.to_formant_burg(time_step=0.01, maximum_formant=5500)
    found = [[formants.get_value_at_time(n, t) for n in (1, 2, 3)] for t in track.xs()]
    return track.selected_array["frequency"], np.array(found)


@pytest.mark.parametrize("factor", [0.8, 1.25])
def test_the_pitch_of_a_recording_moves_and_its_formants_stay(factor: float) -> None:
    voice = load("prompts-16k", device="cpu")
    audio, rate = read_wav(RECORDING, sample_rate=voice.sample_rate)
    mel = MelSpectrogram(voice.preset)(torch.from_numpy(audio))
    plain, moved = (
        tones_of(voice.synthesize(mel, seed=0, pitch=pitch).numpy(), rate)
        for pitch in (1.0, factor)
    )
    both = (plain[0] > 0) & (moved[0] > 0)
    assert both.sum() > 0.8 * (plain[0] > 0).sum()
    cents = 1200 * np.log2(moved[0][both] / plain[0][both] / factor)
    assert abs(np.median(cents)) < 20
    ratios = np.nanmedian(moved[1][both] / plain[1][both], axis=0)
    np.testing.assert_allclose(ratios, 1, atol=0.04)
