"""Which voice is loaded under which name, and with what it speaks."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from voices import TACOTRON2, save_tiny_voice, some_mel, voice_models

import vocoder
from vocoder.errors import VocoderError
from vocoder.mel.presets import get_preset, preset_difference
from vocoder.voice.catalogue import Catalogue, default_voice
from vocoder.voice.flow import FlowVocoder
from vocoder.voice.griffin_lim import GriffinLimVocoder
from vocoder.voice.load import load


def test_load_by_file_and_run_folder(tmp_path):
    save_tiny_voice(tmp_path / "best.safetensors")
    mel = some_mel(2)
    expected = FlowVocoder(voice_models()["nanoflow"], TACOTRON2).synthesize(mel, seed=0)
    for path in (tmp_path, tmp_path / "best.safetensors", str(tmp_path)):
        voice = load(path)
        assert (voice.name, voice.preset) == (str(path), TACOTRON2)
        torch.testing.assert_close(voice.synthesize(mel, seed=0), expected, rtol=0, atol=2e-5)


def test_the_default_voice_of_a_preset_hears_that_preset():
    for preset, default in Catalogue.read().presets.items():
        assert preset_difference(load(default.voice).preset, get_preset(preset)) == []


def test_every_shipped_voice_has_a_card_and_is_small():
    voices = Catalogue.read().voices.values()
    assert all(voice.card_path.is_file() for voice in voices)
    assert sum(voice.path.stat().st_size for voice in voices) < 6e6


def test_load_griffin_lim_and_the_default():
    assert isinstance(load("griffin-lim"), GriffinLimVocoder)
    assert vocoder.load().name == default_voice(TACOTRON2).voice
    assert load("griffin-lim", preset="vocos-24k").preset == get_preset("vocos-24k")


def test_the_default_voice_is_that_of_the_preset_whatever_its_name_says():
    for preset, default in Catalogue.read().presets.items():
        voice = load(preset=preset)
        assert (voice.name, voice.preset) == (default.voice, get_preset(preset))
        other = dataclasses.replace(get_preset(preset), f_max=4000.0)
        assert load(preset=other).name == "griffin-lim"
        assert load(preset=other).preset == other


def test_a_voice_is_refused_for_mels_of_another_preset(tmp_path):
    save_tiny_voice(tmp_path / "best.safetensors")
    assert load(tmp_path, preset="tacotron2-22k").preset == TACOTRON2
    with pytest.raises(VocoderError, match=r"trained with the preset tacotron2-22k, not with voc"):
        load(tmp_path, preset="vocos-24k")
    with pytest.raises(VocoderError, match="preset 'tacotron': unknown"):
        load(preset="tacotron")


def test_griffin_lim_takes_steps_of_mel_consistency_where_it_is_loaded():
    mel, steps = some_mel(4), Catalogue.read().griffin_lim_refine
    assert steps > 0
    plain = GriffinLimVocoder(device="cpu")
    loaded = load("griffin-lim", device="cpu").synthesize(mel, seed=0)
    assert torch.equal(loaded, plain.synthesize(mel, seed=0, refine=steps))
    assert not torch.equal(loaded, plain.synthesize(mel, seed=0))


def test_griffin_lim_has_no_backend_and_no_budget():
    assert isinstance(load("griffin-lim", backend="auto"), GriffinLimVocoder)
    for options in ({"backend": "cpu"}, {"memory": 2**30}):
        with pytest.raises(VocoderError, match="griffin-lim: has no backend to choose"):
            load("griffin-lim", **options)


def test_load_suggests_a_name():
    with pytest.raises(VocoderError, match=r"'griffin-lin'.*did you mean 'griffin-lim'\?"):
        load("griffin-lin")
