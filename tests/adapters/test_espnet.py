"""ESPnet speaks through our voices where it is installed (it pins an older torch).

Everywhere, stand-ins repeat the calls that its source makes, in the same order and types.
"""

from __future__ import annotations

import pytest
import torch
from adapter_voices import HOP, expected, voice_of
from voices import some_mel

from vocoder import adapters
from vocoder.errors import VocoderError
from vocoder.mel.presets import get_preset
from vocoder.voice.griffin_lim import GriffinLimVocoder


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
