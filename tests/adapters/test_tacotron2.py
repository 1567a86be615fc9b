"""torchaudio's Tacotron 2, with random weights, speaks through our voices.

WaveGlow is no package: Tacotron 2 hands its mels to `infer`, as torchaudio's and NVIDIA's examples
do.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from adapter_voices import HOP, PITCHED, expected, voice_of
from voices import TACOTRON2, some_mel

from vocoder import adapters


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
