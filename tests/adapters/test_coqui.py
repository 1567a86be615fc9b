"""Coqui speaks through our voices where it is installed (it wants fifty packages).

Everywhere, a stand-in repeats the calls that its source makes, in the same order and types.
"""

from __future__ import annotations

import contextlib
import re
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from adapter_voices import HOP, expected, voice_of
from voices import some_mel

from vocoder import adapters
from vocoder.adapters.coqui import denormalised_preset
from vocoder.errors import VocoderError
from vocoder.mel.convert import convert_mel
from vocoder.mel.presets import PRESETS, get_preset

PROCESSOR = {
    "sample_rate": 22050,
    "fft_size": 1024,
    "hop_length": 256,
    "win_length": 1024,
    "num_mels": 80,
    "mel_fmin": 0.0,
    "mel_fmax": None,
    "log_func": "np.log10",
    "spec_gain": 20.0,
    "do_amp_to_db_mel": True,
    "stft_pad_mode": "reflect",
    "preemphasis": 0.0,
}


class Synthesizer(torch.nn.Module):
    """The calls of Coqui's class of this name, `_run_vocoder` and the end of `tts`."""

    def __init__(self, outputs, denormalize, **changes):
        super().__init__()
        ap = types.SimpleNamespace(**PROCESSOR | changes, denormalize=denormalize)
        self.tts_model = types.SimpleNamespace(ap=ap)
        self.vocoder_model = None
        self.outputs = outputs

    def tts(self):
        vocoder_device = next(self.vocoder_model.parameters()).device
        mel = self.outputs.detach().cpu().numpy()
        mel = self.tts_model.ap.denormalize(mel.T).T
        vocoder_input = self.vocoder_ap.normalize(mel.T)
        rate = self.vocoder_config["audio"]["sample_rate"]
        assert rate / self.tts_model.ap.sample_rate == 1
        vocoder_input = torch.tensor(vocoder_input).unsqueeze(0)
        waveform = self.vocoder_model.inference(vocoder_input.to(vocoder_device))
        return waveform.cpu().numpy().squeeze()


def denormalize(mel):
    return ((np.clip(mel, -4, 4) + 4) * 100 / 8 - 100 + 20).astype(np.float32)


def test_the_calls_of_coqui():
    mel = (some_mel(5) / 3).clamp(-4, 4)
    synthesizer = Synthesizer(mel.T, denormalize)
    voice = voice_of("coqui-22k")
    adapters.CoquiVocoder.plug_into(synthesizer, voice, seed=3)
    audio = synthesizer.tts()
    assert audio.shape == (5 * HOP,)
    assert synthesizer.output_sample_rate == 22050
    decibels = torch.from_numpy(denormalize(mel.numpy()))
    preset = denormalised_preset(synthesizer.tts_model.ap)
    np.testing.assert_array_equal(audio, expected(voice, decibels, preset))
    # The voice's own preset is Coqui's with its normalisation: both ways lead to the same mel.
    back = convert_mel(decibels, preset, "coqui-22k")
    torch.testing.assert_close(back, mel, rtol=0, atol=1e-5)


NATURAL = {"mel_fmax": 8000.0, "log_func": "np.log", "spec_gain": 1.0}


def test_coqui_models_in_natural_logarithms():
    synthesizer = Synthesizer(some_mel(4).T, lambda mel: mel, **NATURAL)
    voice = voice_of("tacotron2-22k")
    adapters.CoquiVocoder.plug_into(synthesizer, voice, seed=3)
    np.testing.assert_allclose(
        synthesizer.tts(), voice.synthesize(some_mel(4), seed=3), rtol=0, atol=2e-5
    )


def test_coqui_models_without_a_logarithm():
    changes = {"mel_fmax": 8000.0, "do_amp_to_db_mel": False}
    synthesizer = Synthesizer(some_mel(4).exp().T, lambda mel: mel, **changes)
    voice = voice_of("tacotron2-22k")
    adapters.CoquiVocoder.plug_into(synthesizer, voice, seed=3)
    np.testing.assert_allclose(
        synthesizer.tts(), voice.synthesize(some_mel(4), seed=3), rtol=0, atol=2e-5
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"preemphasis": 0.97}, "preemphasis 0.97"),
        ({"sample_rate": 16000}, "sample_rate 16000 ≠ 22050"),
        ({"mel_fmax": 8000.0}, "f_max 8000 ≠ 11025"),
        ({"hop_length": 200}, "hop_length 200 ≠ 256"),
    ],
)
def test_coqui_models_that_do_not_fit_are_refused(changes, words):
    synthesizer = Synthesizer(some_mel(4).T, denormalize, **changes)
    with pytest.raises(VocoderError, match=words):
        adapters.CoquiVocoder.plug_into(synthesizer, voice_of("coqui-22k"))
    assert synthesizer.vocoder_model is None


def test_synthesizer_of_coqui_speaks(tmp_path, monkeypatch):
    """The real `Synthesizer`, on a tiny Glow-TTS with random weights."""
    pytest.importorskip("TTS")
    from TTS.tts.configs.glow_tts_config import GlowTTSConfig
    from TTS.tts.models.glow_tts import GlowTTS
    from TTS.utils.synthesizer import Synthesizer as RealSynthesizer

    encoder = {"kernel_size": 3, "dropout_p": 0.1, "num_layers": 1, "num_heads": 2}
    config = GlowTTSConfig(
        num_flow_blocks_dec=2,
        hidden_channels_enc=8,
        hidden_channels_dec=8,
        hidden_channels_dp=8,
        encoder_params={**encoder, "hidden_channels_ffn": 8, "input_length": None},
        num_block_layers=1,
        text_cleaner="basic_cleaners",
        test_sentences=[],
    )
    torch.manual_seed(0)
    model = GlowTTS(config)
    config.save_json(str(tmp_path / "config.json"))
    torch.save({"model": model.state_dict(), "step": 0}, tmp_path / "model.pth")
    synthesizer = RealSynthesizer(
        tts_checkpoint=tmp_path / "model.pth", tts_config_path=tmp_path / "config.json"
    )
    voice = voice_of("coqui-22k")
    speaker = adapters.CoquiVocoder.plug_into(synthesizer, voice, seed=3)
    heard = []
    inference = speaker.inference
    monkeypatch.setattr(speaker, "inference", lambda mel: heard.append(mel) or inference(mel))
    audio = np.array(synthesizer.tts("A few words."), dtype=np.float32)
    (mel,) = heard
    n_samples = HOP * mel.shape[-1]
    silence = audio[n_samples:]
    assert not silence.any()  # Coqui appends it to every sentence
    wanted = expected(voice, mel[0], speaker.preset)
    np.testing.assert_array_equal(audio[:n_samples], wanted)


def test_the_table_of_the_docs_is_what_converts():
    text = (Path(__file__).parents[2] / "docs" / "tts.md").read_text(encoding="utf-8")
    table = text.partition("| pipeline | its preset |")[2].partition("\n\n")[0]
    rows = [re.findall(r"[^|]+", line) for line in table.splitlines()[2:]]
    assert len(rows) == 9
    coqui = {"dB before normalisation": {}, "ln": NATURAL}
    for _, mels, said in rows:
        if mels.strip() in coqui:
            processor = types.SimpleNamespace(**PROCESSOR | coqui[mels.strip()])
            origin, itself = denormalised_preset(processor), set()
        else:
            origin = get_preset(re.search(r"`([\w-]+)`", mels)[1])
            itself = {origin.name}
        exact = set()
        for target in PRESETS.values():
            with contextlib.suppress(VocoderError):
                convert_mel(torch.zeros(origin.n_mels, 1), origin, target)
                exact.add(target.name)
        assert set(re.findall(r"`([\w-]+)`", said)) | itself == exact, mels
        assert ("its own alone" in said) == (exact == itself), mels
