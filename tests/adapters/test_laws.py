"""What holds for the adapter of every pipeline."""

from __future__ import annotations

import pytest
import torch
from adapter_voices import HOP, PITCHED, expected, voice_of
from voices import TACOTRON2, some_mel

from vocoder import adapters
from vocoder.adapters.base import Adapter
from vocoder.errors import VocoderError

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


def test_the_base_alone_takes_both_shapes():
    voice = voice_of("tacotron2-22k")
    speak = Adapter(voice, TACOTRON2, seed=3).speak
    mel = some_mel(4)
    torch.testing.assert_close(speak(mel), speak(mel[None])[0], rtol=0, atol=2e-5)
