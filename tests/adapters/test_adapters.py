"""Pipelines of other projects speak through our voices.

torchaudio's Tacotron 2 and transformers' SpeechT5, with random weights, always call us here. ESPnet
and Coqui call us where they are installed (ESPnet pins an older torch, Coqui wants fifty packages);
everywhere, stand-ins repeat the calls that their sources make, in the same order and types.
WaveGlow is no package: Tacotron 2 hands its mels to `infer`, as torchaudio's and NVIDIA's examples
do.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from voices import TACOTRON2, pitched_model, some_mel, voice_models

from vocoder import adapters
from vocoder.adapters.base import Adapter
from vocoder.adapters.coqui import denormalised_preset
from vocoder.errors import VocoderError
from vocoder.mel.convert import convert_mel
from vocoder.mel.presets import PRESETS, get_preset
from vocoder.voice.flow import FlowVocoder
from vocoder.voice.griffin_lim import GriffinLimVocoder
from vocoder.voice.load import load

HOP = 256


def voice_of(preset, **changes):
    """A tiny voice for a preset, whose 80 bands and hop of 256 all of these pipelines share."""
    preset = get_preset(preset) if isinstance(preset, str) else preset
    if changes:
        preset = dataclasses.replace(preset, name=f"{preset.name}-changed", **changes)
    return FlowVocoder(voice_models()["nanoflow"], preset, name="tiny", device="cpu")


def expected(voice, mel, origin, **options):
    return voice.synthesize(convert_mel(mel, origin, voice.preset), seed=3, **options)


PITCHED = FlowVocoder(pitched_model(), TACOTRON2, name="pitched", device="cpu")


# ---- the laws of every adapter ----

SPEAK = {
    "torchaudio": lambda adapter, mel: adapter(mel[None])[0][0],
    "espnet": lambda adapter, mel: adapter(mel.T),
    "coqui": lambda adapter, mel: adapter.inference(mel[None])[0, 0],
    "huggingface": lambda adapter, mel: adapter(mel.T),
    "waveglow": lambda adapter, mel: adapter.infer(mel[None])[0],
}
CLASSES = {
    "torchaudio": adapters.TorchaudioVocoder,
    "espnet": adapters.EspnetVocoder,
    "coqui": adapters.CoquiVocoder,
    "huggingface": adapters.HuggingFaceVocoder,
    "waveglow": adapters.WaveGlowVocoder,
}
every_adapter = pytest.mark.parametrize("name", CLASSES)


@every_adapter
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
def test_it_is_synthesize_on_the_converted_mel(name, dtype):
    voice = voice_of("nanoflow-db-22k")
    adapter = CLASSES[name](voice, "tacotron2-22k", seed=3)
    mel = some_mel(5).to(dtype)
    audio = SPEAK[name](adapter, mel)
    wide = mel.float() if dtype == torch.float16 else mel
    assert audio.shape == (5 * HOP,)
    assert audio.dtype == dtype
    assert torch.equal(audio, expected(voice, wide, "tacotron2-22k").to(dtype))
    audio *= 2  # a pipeline may work in place


@every_adapter
def test_a_mel_of_another_kind_is_refused_before_anything_is_spoken(name):
    with pytest.raises(VocoderError, match=r"no exact conversion .* f_min 80 ≠ 0") as caught:
        CLASSES[name](voice_of("tacotron2-22k"), "pwg-22k")
    assert "\n" not in str(caught.value)


@every_adapter
@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize(
    ("convert", "kind"), [(torch.Tensor.long, "torch.int64"), (torch.Tensor.numpy, "a ndarray")]
)
def test_a_mel_that_is_no_tensor_of_floats_is_refused(name, dimensions, convert, kind):
    """Integers would come back as integers, which is silence."""
    adapter = CLASSES[name](voice_of("tacotron2-22k"), "tacotron2-22k")
    call = getattr(adapter, {"coqui": "inference", "waveglow": "infer"}.get(name, "forward"))
    with pytest.raises(VocoderError, match=f"mel: is {kind}; give a tensor of floats"):
        call(convert(some_mel(4) if dimensions == 2 else some_mel(4)[None]))


@every_adapter
def test_settings_that_no_voice_takes_are_refused_when_it_is_made(name):
    voice = voice_of("tacotron2-22k")
    with pytest.raises(VocoderError, match="seed -1"):
        CLASSES[name](voice, "tacotron2-22k", seed=-1)
    if name != "waveglow":  # whose temperature is an argument of `infer`
        with pytest.raises(VocoderError, match="temperature -1"):
            CLASSES[name](voice, "tacotron2-22k", temperature=-1.0)


@every_adapter
def test_a_pipeline_may_treat_it_as_a_module(name):
    adapter = CLASSES[name](voice_of("tacotron2-22k"), "tacotron2-22k", seed=0)
    before = SPEAK[name](adapter, some_mel(2))
    assert adapter.to(torch.float64).eval().requires_grad_(False) is adapter
    assert next(adapter.parameters()).device.type == "cpu"
    assert not adapter.state_dict()["place"].numel()
    with torch.no_grad():
        assert torch.equal(SPEAK[name](adapter, some_mel(2)), before)
    assert "tiny, tacotron2-22k" in repr(adapter)


@every_adapter
def test_without_a_seed_the_noise_is_fresh(name):
    adapter = CLASSES[name](voice_of("tacotron2-22k"), "tacotron2-22k")
    first, second = (SPEAK[name](adapter, some_mel(2)) for _ in range(2))
    assert not torch.equal(first, second)


@pytest.mark.parametrize("name", [name for name in CLASSES if name != "waveglow"])
def test_temperature_is_that_of_synthesize(name):
    voice = voice_of("tacotron2-22k")
    adapter = CLASSES[name](voice, "tacotron2-22k", temperature=0.5, seed=3)
    cooler = expected(voice, some_mel(2), TACOTRON2, temperature=0.5)
    assert torch.equal(SPEAK[name](adapter, some_mel(2)), cooler)


@every_adapter
def test_pitch_is_that_of_synthesize_and_refused_by_a_voice_that_knows_none(name):
    mel = some_mel(6)
    adapter = CLASSES[name](PITCHED, TACOTRON2, seed=3, pitch=1.25)
    higher = expected(PITCHED, mel, TACOTRON2, pitch=1.25)
    torch.testing.assert_close(SPEAK[name](adapter, mel), higher, rtol=0, atol=2e-5)
    assert not torch.equal(higher, expected(PITCHED, mel, TACOTRON2))
    with pytest.raises(VocoderError, match="tiny: knows no pitch but that of the mel"):
        CLASSES[name](voice_of("tacotron2-22k"), "tacotron2-22k", pitch=1.25)
    with pytest.raises(VocoderError, match="pitch 0: give a factor above 0"):
        CLASSES[name](PITCHED, "tacotron2-22k", pitch=0)


def test_a_pipeline_may_hand_in_its_pitch():
    mel, f0 = some_mel(6), torch.tensor([0.0, 0, 140, 150, 160, 0])
    audio = Adapter(PITCHED, TACOTRON2, seed=3).speak(mel, f0=f0)
    assert torch.equal(audio, expected(PITCHED, mel, TACOTRON2, f0=f0))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@every_adapter
def test_audio_comes_back_to_the_device_of_the_mel(name):
    adapter = CLASSES[name](voice_of("tacotron2-22k"), "tacotron2-22k")
    assert SPEAK[name](adapter, some_mel(2).cuda()).device.type == "cuda"


def test_adapters_import_no_pipeline():
    from test_layers import modules_after

    names = ("torchaudio", "espnet", "coqui", "huggingface", "waveglow")
    modules = modules_after(f"import {', '.join(f'vocoder.adapters.{name}' for name in names)}")
    assert not modules & {"torchaudio", "espnet2", "TTS", "transformers"}


# ---- torchaudio, and WaveGlow behind the same Tacotron 2 ----


@pytest.fixture(scope="module")
def tacotron2():
    models = pytest.importorskip("torchaudio.models")
    torch.manual_seed(0)
    small = {"symbol_embedding_dim": 16, "encoder_embedding_dim": 16, "attention_hidden_dim": 8}
    small |= {"attention_rnn_dim": 16, "decoder_rnn_dim": 16, "prenet_dim": 8}
    small |= {"postnet_embedding_dim": 8, "attention_location_n_filter": 4}
    model = models.Tacotron2(n_symbol=20, decoder_max_step=13, gate_threshold=0.52, **small).eval()
    tokens = torch.randint(0, 20, (2, 9))
    return model, tokens, torch.tensor([9, 5])


def test_torchaudio_tacotron2_speaks(tacotron2):
    from torchaudio.pipelines import Tacotron2TTSBundle

    model, tokens, token_lengths = tacotron2
    voice = voice_of("nanoflow-db-22k")
    speaker = adapters.TorchaudioVocoder(voice, seed=3)
    protocol = Tacotron2TTSBundle.Vocoder
    for member in protocol.__abstractmethods__:
        assert hasattr(speaker, member)
    with torch.inference_mode():
        specgrams, lengths, _ = model.infer(tokens, token_lengths)
        lengths[1] = min(7, int(lengths[0]))  # random weights stop where they like
        waveforms, n_samples = speaker(specgrams, lengths)
    assert waveforms.shape == (2, HOP * int(lengths.max()))
    assert n_samples.tolist() == [HOP * int(n) for n in lengths]
    assert speaker.sample_rate == 22050
    for waveform, mel, n in zip(waveforms, specgrams, lengths.tolist(), strict=True):
        alone = expected(voice, mel[:, :n], "torchaudio-tacotron2-22k")
        torch.testing.assert_close(waveform[: n * HOP], alone, rtol=0, atol=2e-5)
        assert not waveform[n * HOP :].any()
    same, none = speaker(specgrams)
    assert none is None
    assert same.shape == waveforms.shape


@pytest.mark.parametrize(
    "lengths", [[4, 2], np.array([4, 2]), torch.tensor([4, 2], dtype=torch.uint8)]
)
def test_torchaudio_lengths_of_any_kind_become_samples(lengths):
    speaker = adapters.TorchaudioVocoder(voice_of("tacotron2-22k"))
    _, n_samples = speaker(some_mel(4).expand(2, -1, -1), lengths)
    assert n_samples.tolist() == [4 * HOP, 2 * HOP]


@pytest.mark.parametrize("voice", [voice_of("tacotron2-22k"), PITCHED], ids=lambda v: v.name)
def test_tacotron2_speaks_through_infer(tacotron2, voice):
    model, tokens, token_lengths = tacotron2
    waveglow = adapters.WaveGlowVocoder(voice, seed=3).eval()
    with torch.no_grad():
        mel, _, _ = model.infer(tokens, token_lengths)
        audio = waveglow.infer(mel, sigma=0.666)
    assert audio.shape == (2, HOP * mel.shape[-1])
    assert torch.equal(audio, expected(voice, mel, TACOTRON2, temperature=0.666))


# ---- Hugging Face ----


@pytest.fixture(scope="module")
def speecht5():
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.SpeechT5Config(
        vocab_size=20,
        hidden_size=16,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        speech_decoder_prenet_units=8,
        speech_decoder_postnet_units=8,
        speaker_embedding_dim=8,
        speech_decoder_prenet_dropout=0.0,
    )
    model = transformers.SpeechT5ForTextToSpeech(config).eval()
    # Random weights have no sense for when to stop: let it depend on what was said.
    torch.nn.init.normal_(model.speech_decoder_postnet.prob_out.weight, std=1.0)
    return model


# Its decoder stops an utterance when the gate rises; the limit keeps the test short.
LIMITS = {"minlenratio": 0.5, "maxlenratio": 3.0}


def without_dropout(model, **call):
    """Generate: SpeechT5's prenet drops out even when not training, by torch's generator."""
    torch.manual_seed(5)
    return model.generate_speech(**call, **LIMITS)


@pytest.mark.parametrize("name", ["tiny", "prompts-16k"])
def test_speecht5_speaks(speecht5, name):
    voice = voice_of("speecht5-16k", log="ln") if name == "tiny" else load(name, device="cpu")
    speaker = adapters.HuggingFaceVocoder(voice, seed=3)
    call = {"input_ids": torch.tensor([[4, 5, 6, 7]]), "speaker_embeddings": torch.zeros(1, 8)}
    spectrogram = without_dropout(speecht5, **call)
    audio = without_dropout(speecht5, vocoder=speaker, **call)
    assert audio.shape == (HOP * len(spectrogram),)
    torch.testing.assert_close(
        audio, expected(voice, spectrogram.T, "speecht5-16k"), rtol=0, atol=2e-5
    )


def test_a_batch_of_speecht5_gives_what_single_utterances_give(speecht5, monkeypatch):
    voice = voice_of("speecht5-16k")
    speaker = adapters.HuggingFaceVocoder(voice, seed=3)
    tokens = torch.tensor([[4, 5, 6, 7, 8], [9, 10, 11, 1, 1]])
    call = {
        "input_ids": tokens,
        "attention_mask": (tokens != 1).int(),
        "speaker_embeddings": torch.randn(2, 8, generator=torch.Generator().manual_seed(1)),
        "return_output_lengths": True,
    }
    # A gate that opens for one utterance before the other.
    gate, steps = speecht5.speech_decoder_postnet.prob_out, []

    def open_one_by_one(hidden):
        steps.append(len(steps))
        wanted = torch.tensor([4, 2])
        return torch.where(len(steps) >= wanted, 9.0, -9.0)[:, None].expand(-1, 2)

    monkeypatch.setattr(gate, "forward", open_one_by_one)
    spectrograms, lengths = without_dropout(speecht5, **call)
    steps.clear()
    audio, n_samples = without_dropout(speecht5, vocoder=speaker, **call)
    assert len(set(lengths)) == 2
    assert n_samples == [HOP * n for n in lengths]
    assert audio.shape == (2, HOP * max(lengths))
    for wave, mel, n in zip(audio, spectrograms, lengths, strict=True):
        alone = expected(voice, mel[:n].T, "speecht5-16k")
        torch.testing.assert_close(wave[: n * HOP], alone, rtol=0, atol=2e-5)
        assert not wave[n * HOP :].any()  # not the buzz of the zeros that pad the batch


def test_the_pipeline_of_transformers_speaks(speecht5):
    import tokenizers
    import transformers

    words = {word: number for number, word in enumerate(["[UNK]", "a", "few", "words"], start=4)}
    rules = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="[UNK]"))
    rules.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    speaker = adapters.HuggingFaceVocoder(voice_of("speecht5-16k"), seed=3)
    pipeline = transformers.TextToAudioPipeline(
        model=speecht5,
        tokenizer=transformers.PreTrainedTokenizerFast(
            tokenizer_object=rules, model_input_names=["input_ids"]
        ),
        vocoder=speaker,
        device="cpu",
    )
    heard = []
    speaker.register_forward_hook(lambda _, inputs, output: heard.append(inputs[0]))
    output = pipeline("a few words", forward_params={"speaker_embeddings": torch.zeros(1, 8)})
    assert output["sampling_rate"] == 16000
    (spectrogram,) = heard
    assert output["audio"].shape == (HOP * len(spectrogram),)
    wanted = expected(speaker.voice, spectrogram.T, "speecht5-16k")
    np.testing.assert_array_equal(output["audio"], wanted)


# ---- ESPnet ----


def test_espnet_takes_the_preset_of_its_recipes():
    for preset in ("espnet-16k", "pwg-22k", "pwg-24k"):
        assert adapters.EspnetVocoder(GriffinLimVocoder(preset)).preset == get_preset(preset)
    with pytest.raises(VocoderError, match=r"44100 Hz, .* 16000, 22050, 24000; say preset="):
        adapters.EspnetVocoder(GriffinLimVocoder("fish-44k"))


def test_the_calls_of_espnet():
    """`Text2Speech.__init__` casts and evaluates a module; `__call__` takes (F, M) and `.fs`."""
    voice = voice_of("pwg-22k", log="ln")
    speaker = adapters.EspnetVocoder(voice, seed=3)
    if isinstance(speaker, torch.nn.Module):
        speaker.to(dtype=torch.float32).eval()
    output = {"feat_gen_denorm": some_mel(6).T / 2.3}
    with torch.no_grad():
        wav = speaker(output["feat_gen_denorm"])
    assert wav.shape == (6 * HOP,)
    assert speaker.fs == 22050
    assert torch.equal(wav, expected(voice, output["feat_gen_denorm"].T, "pwg-22k"))


def test_text2speech_of_espnet_speaks(tmp_path):
    """The real `Text2Speech`, on a tiny FastSpeech with random weights."""
    inference = pytest.importorskip("espnet2.bin.tts_inference")
    import yaml
    from espnet2.tasks.tts import TTSTask

    tts = {"adim": 8, "aheads": 2, "elayers": 1, "eunits": 8, "dlayers": 1, "dunits": 8}
    tts |= {"postnet_layers": 1, "postnet_chans": 4, "duration_predictor_chans": 4}
    config = {
        **vars(TTSTask.get_parser().parse_args(["--output_dir", str(tmp_path)])),
        "token_list": ["<blank>", "<unk>", *"abcdefgh", "<sos/eos>"],
        "token_type": "char",
        "tts": "fastspeech",
        "tts_conf": tts,
        "feats_extract": "fbank",
        "feats_extract_conf": {"fs": 22050, "fmin": 80, "fmax": 7600, "n_mels": 80},
        "normalize": None,
        "pitch_extract": None,
        "energy_extract": None,
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    torch.manual_seed(0)
    text2speech = inference.Text2Speech(tmp_path / "config.yaml", None, device="cpu")
    voice = voice_of("pwg-22k")
    text2speech.vocoder = adapters.EspnetVocoder(voice, seed=3)
    torch.nn.init.constant_(text2speech.tts.duration_predictor.linear.bias, 1.0)
    output = text2speech(torch.tensor([3, 4, 5]))
    feats = output["feat_gen"]
    assert len(feats) > 3
    assert output["wav"].shape == (HOP * len(feats),)
    assert text2speech.fs == 22050
    assert torch.equal(output["wav"], expected(voice, feats.T, "pwg-22k"))


# ---- Coqui ----

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


def test_the_base_alone_takes_both_shapes():
    voice = voice_of("tacotron2-22k")
    speak = Adapter(voice, TACOTRON2, seed=3).speak
    mel = some_mel(4)
    torch.testing.assert_close(speak(mel), speak(mel[None])[0], rtol=0, atol=2e-5)


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
