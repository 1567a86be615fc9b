"""What a model is given beside the sound of a corpus."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import make_corpus

from vocoder.data.speech.conditioning import Conditioning
from vocoder.data.speech.corpus import Corpus
from vocoder.data.speech.crops import Crops
from vocoder.errors import VocoderError
from vocoder.nets.pulses import unpack

RANGE = (55.0, 420.0)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return Corpus.open(make_corpus(tmp_path_factory.mktemp("data") / "c", epochs=True))


def test_a_model_that_hears_mels_alone_is_given_the_mel(corpus: Corpus) -> None:
    utterance = corpus.utterances("train")[0]
    frames = Conditioning(corpus, None).frames(utterance, 3, 9)
    assert np.array_equal(frames, corpus.mel(utterance)[:, 3:9])


def test_pulses_follow_the_epochs(corpus: Corpus) -> None:
    utterance = corpus.utterances("train")[0]  # a tone of 220 Hz
    frames = Conditioning(corpus, RANGE).frames(utterance)
    mel, (phase, frequency), _ = unpack(frames[None], 80, 0, utterance.n_frames * 256)
    assert np.array_equal(mel[0], corpus.mel(utterance))
    voiced = frequency[0] > 0
    assert voiced[1 : utterance.n_samples - 101].all()
    assert frequency[0, voiced].mean() * 22050 == pytest.approx(220, rel=0.01)
    assert not phase[0, corpus.epochs(utterance).astype(int)].any()


def test_pitches_beyond_the_range_are_no_voice(corpus: Corpus) -> None:
    utterance = corpus.utterances("train")[0]
    packed = Conditioning(corpus, (55.0, 200.0)).frames(utterance)[80:]
    assert not packed[:-1].any()
    assert (packed[-1] == 1).all()  # a recording keeps all of its noise


def test_a_part_of_the_frames_is_that_of_the_whole(corpus: Corpus) -> None:
    utterance = corpus.utterances("train")[1]
    conditioning = Conditioning(corpus, RANGE)
    whole = conditioning.frames(utterance)
    assert torch.equal(conditioning.frames(utterance, 5, 12), whole[:, 5:12])


def test_crops_come_with_their_history_and_silence_before_a_clip(corpus: Corpus) -> None:
    crops = Crops(corpus, 1024, seed=0, context=(1, 1), history=600, pitch_range=RANGE)
    batch = crops.batch(0, 16)
    assert batch.history is not None
    assert batch.audio.shape == (16, 1024)
    assert batch.history.shape == (16, 600)
    assert batch.cond.shape == (16, 80 + 513, 6)
    whole = {
        u.id: np.pad(corpus.audio(u).astype(np.float32) / 32768, (600, 0))
        for u in corpus.utterances("train")
    }
    both = torch.cat([batch.history, batch.audio], dim=1).numpy()
    for crop in both:
        assert any(
            np.array_equal(audio[start : start + 1624], crop)
            for audio in whole.values()
            for start in range(0, len(audio) - 1624 + 1, 256)
        )


def test_a_corpus_without_epochs_is_refused_with_the_remedy(tmp_path: Path) -> None:
    plain = Corpus.open(make_corpus(tmp_path / "plain"))
    with pytest.raises(VocoderError, match=r"holds no epochs.*--epochs"):
        Conditioning(plain, RANGE)
