"""SpeechT5 of transformers, with random weights, speaks through our voices."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from adapter_voices import HOP, expected, voice_of

from vocoder import adapters
from vocoder.voice.load import load


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
