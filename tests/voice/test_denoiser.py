"""Laws of the denoiser, on a voice that was made to hum."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import assert_one_error_line
from hypothesis import given, settings
from hypothesis import strategies as st
from voices import TACOTRON2, save_tiny_voice, some_mel, voice_models

from vocoder.errors import VocoderError
from vocoder.files.audio import read_wav
from vocoder.judging import metrics
from vocoder.voice import denoiser
from vocoder.voice.denoiser import Denoiser
from vocoder.voice.flow import FlowVocoder
from vocoder.voice.griffin_lim import GriffinLimVocoder
from vocoder.voice.load import load
from vocoder.voice.vocoder import Vocoder

CLIP = Path(__file__).parents[2] / "egs" / "quickstart" / "corpus" / "wavs" / "ES000001.flac"
LEVEL = 0.003  # of each line, -50 dB of full scale: heard well between words


def hum(n_samples):
    """Lines at 1, 2 and 3 eighths of the rate, as flows of 8 or 16 rows leave them."""
    time = torch.arange(n_samples, dtype=torch.float64)
    return sum(LEVEL * torch.sin(2 * math.pi * k / 8 * time + k) for k in (1, 2, 3)).float()


class HummingVoice(Vocoder):
    """Says noise of the mel's loudness, and always hums."""

    def __init__(self):
        super().__init__(TACOTRON2, "humming", "cpu", None)

    def _render(self, mel, frames, temperature, seeds, f0=None):
        n_samples = mel.shape[-1] * self.hop_length
        generator = torch.Generator().manual_seed(seeds[0])
        noise = temperature * torch.randn(len(mel), n_samples, generator=generator)
        loudness = mel.mean(dim=1).exp().repeat_interleave(self.hop_length, dim=1)
        return loudness * noise + hum(n_samples)

    def to(self, device):
        return self

    def _start_stream(self, temperature, seed, block_frames, overlap_frames):
        raise VocoderError("humming: speaks whole utterances alone")


@pytest.fixture(scope="module")
def cleaner():
    return Denoiser(HummingVoice())


@pytest.fixture(scope="module")
def speech():
    return torch.from_numpy(read_wav(CLIP, sample_rate=22050)[0])


def level(audio):
    """The power in the three lines, in dB, away from the ends."""
    middle = audio[2048:-2048].double()
    time = torch.arange(len(middle))
    lines = [(middle * torch.exp(-2j * math.pi * k / 8 * time)).mean().abs() for k in (1, 2, 3)]
    return 20 * math.log10(max(lines))


def test_the_hum_goes_and_speech_stays(cleaner, speech):
    noisy = speech + hum(len(speech))
    clean = cleaner(noisy, strength=1.0)
    assert level(noisy) > -58
    # Where speech covers a line, the phase is that of both: 20 dB would be too much to ask.
    assert level(clean) < level(noisy) - 12
    assert (clean - speech).square().mean() < 0.3 * (noisy - speech).square().mean()
    # By the measures that judge voices, the speech is nearer than before, and near.
    before, after = (
        metrics.log_spectral_distance(speech.numpy(), audio.numpy(), 22050)
        for audio in (noisy, clean)
    )
    assert after < before


def test_mel_consistency_is_no_hum() -> None:
    """Its steps make a loud sound of the mel that the hum is heard in; 16 of them do by default."""
    voice = FlowVocoder(voice_models()["nanoflow"], TACOTRON2, device="cpu")
    bias = Denoiser(voice).bias
    voice.default_refine = 4
    assert torch.equal(Denoiser(voice).bias, bias)


@pytest.mark.parametrize("hop_length", [16, 40, 300])
def test_a_hum_is_heard_at_any_hop_length(hop_length: int) -> None:
    voice = HummingVoice()
    wide = Denoiser(voice).bias
    voice.preset = dataclasses.replace(TACOTRON2, hop_length=hop_length)
    lines = [k * 1024 // 8 for k in (1, 2, 3)]
    torch.testing.assert_close(Denoiser(voice).bias[lines], wide[lines], rtol=1e-3, atol=0)


def test_speech_without_a_hum_is_hardly_changed(cleaner, speech):
    for strength, decibels in ((0.1, 45), (1.0, 25)):
        error = (cleaner(speech, strength) - speech).square().mean() / speech.square().mean()
        assert -10 * math.log10(error) > decibels


def test_a_humming_silence_becomes_silent(cleaner):
    audio = HummingVoice().synthesize(torch.full((80, 40), TACOTRON2.silence_floor), seed=0)
    clean = cleaner(audio, strength=1.2)
    assert clean[1024:-1024].abs().max() < 0.02 * audio.abs().max()


@given(
    n_samples=st.integers(1, 5000),
    batch=st.integers(0, 3),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
@settings(max_examples=30, deadline=None)
def test_strength_0_is_the_identity_and_the_shape_is_kept(cleaner, n_samples, batch, dtype):
    shape = (batch, n_samples) if batch else (n_samples,)
    audio = torch.rand(shape, generator=torch.Generator().manual_seed(n_samples), dtype=dtype)
    torch.testing.assert_close(cleaner(audio, 0.0), audio, rtol=0, atol=2e-6)
    stronger = cleaner(audio, 0.7)
    assert (stronger.shape, stronger.dtype) == (audio.shape, audio.dtype)
    assert stronger.isfinite().all()


def test_blocks_give_what_the_whole_gives(cleaner, speech, monkeypatch):
    whole = cleaner(speech, 1.0)
    for block in (1, 7):
        monkeypatch.setattr(denoiser, "_BLOCK", block * 256)
        torch.testing.assert_close(cleaner(speech, 1.0), whole, rtol=0, atol=1e-6)


def test_an_item_of_a_batch_is_cleaned_as_alone(cleaner, speech):
    padded = speech.repeat(2, 1)
    padded[1, 10_000:] = 0
    together = cleaner(padded, 0.5)
    torch.testing.assert_close(together[0], cleaner(speech, 0.5), rtol=0, atol=1e-6)
    torch.testing.assert_close(
        together[1, :10_000], cleaner(speech[:10_000], 0.5), rtol=0, atol=1e-6
    )


def test_arrays_and_half_precision(cleaner, speech):
    array = cleaner(speech.numpy(), 0.5)
    assert isinstance(array, np.ndarray)
    np.testing.assert_array_equal(array, cleaner(speech, 0.5).numpy())
    assert cleaner(speech.half(), 0.5).dtype == torch.float16


@pytest.mark.parametrize(
    "voice", [FlowVocoder(voice_models()["nanoflow"], TACOTRON2), GriffinLimVocoder("vocos-24k")]
)
def test_any_voice_has_a_denoiser(voice):
    cleaner = Denoiser(voice)
    assert cleaner.bias.shape == (513,)
    assert cleaner.sample_rate == voice.sample_rate
    mel = some_mel(4) if voice.n_mels == 80 else torch.full((voice.n_mels, 4), -3.0)
    audio = voice.synthesize(mel, seed=0)
    assert cleaner(audio).shape == audio.shape


def test_griffin_lim_has_no_bias():
    assert not Denoiser(GriffinLimVocoder()).bias.any()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_audio_stays_on_its_device(cleaner, speech):
    there = cleaner(speech.cuda(), 0.5)
    assert there.device.type == "cuda"
    torch.testing.assert_close(there.cpu(), cleaner(speech, 0.5), rtol=0, atol=1e-5)


@pytest.mark.parametrize("strength", [-0.1, float("nan"), float("inf")])
def test_a_strength_that_makes_no_sense(cleaner, strength):
    with pytest.raises(VocoderError, match="strength"):
        cleaner(torch.zeros(9), strength)


@pytest.mark.parametrize("audio", [torch.zeros(1, 2, 3), torch.zeros(9, dtype=torch.int16)])
def test_audio_that_makes_no_sense(cleaner, audio):
    with pytest.raises(VocoderError, match=r"audio: has shape"):
        cleaner(audio)


# ---- vocoder synthesize --denoise ----


def test_the_command_denoises_every_file_as_the_class_does(tmp_path, run):
    voice = save_tiny_voice(tmp_path / "tiny.safetensors")
    for n_frames in (9, 5):
        np.save(tmp_path / f"{n_frames}.npy", some_mel(n_frames).numpy())
    inputs = [tmp_path / "9.npy", tmp_path / "5.npy"]
    options = ["--voice", voice, "--seed", 3, "--batch-size", 2, "--denoise", 0.5]
    result = run("synthesize", *inputs, "-o", tmp_path / "out", *options)
    assert result.code == 0, result
    speaker = load(voice)
    for n_frames in (9, 5):
        written, _ = read_wav(tmp_path / "out" / f"{n_frames}.wav")
        plain = speaker.synthesize(some_mel(n_frames), seed=3)
        clean = Denoiser(speaker)(plain, 0.5).clamp(-1, 32767 / 32768)
        np.testing.assert_allclose(written, clean.numpy(), rtol=0, atol=2e-4)
        assert (clean - plain.clamp(-1, 1)).abs().max() > 1e-3


@pytest.mark.parametrize("strength", ["-0.1", "nan", "much"])
def test_the_command_refuses_a_senseless_strength(tmp_path, run, strength):
    np.save(tmp_path / "mel.npy", some_mel(2).numpy())
    options = ["--voice", save_tiny_voice(tmp_path / "tiny.safetensors"), "--denoise", strength]
    out = tmp_path / "out.wav"
    result = run("synthesize", tmp_path / "mel.npy", "-o", out, *options)
    assert_one_error_line(result)
    assert not out.exists()
