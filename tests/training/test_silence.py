"""A corpus of digital silence is told of before a training learns nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers import make_corpus, tiny_recipe

from vocoder.data.speech.corpus import audio_path
from vocoder.errors import VocoderError
from vocoder.recipe import VoiceRecipe
from vocoder.training.voice import VoiceTask


def silence(corpus: Path, share: float) -> None:
    """Make the beginning of every clip silent."""
    for path in audio_path(corpus, "x").parent.iterdir():
        samples = np.load(path)
        samples[: int(share * len(samples))] = 3
        np.save(path, samples)


@pytest.mark.parametrize(
    ("share", "told"), [(0.0, False), (0.03, False), (0.2, True), (0.99, True)]
)
def test_much_silence_is_told(tmp_path, caplog, share: float, told: bool) -> None:
    corpus = make_corpus(tmp_path / "corpus", seconds=2)
    silence(corpus, share)
    recipe = tiny_recipe()
    assert isinstance(recipe, VoiceRecipe)
    VoiceTask(recipe, corpus)
    assert ("digital silence" in caplog.text) == told
    assert ("--dither" in caplog.text) == told
    assert (str(corpus) in caplog.text) == told


def test_nothing_but_silence_is_refused(tmp_path) -> None:
    corpus = make_corpus(tmp_path / "corpus")
    silence(corpus, 1)
    recipe = tiny_recipe()
    assert isinstance(recipe, VoiceRecipe)
    with pytest.raises(VocoderError, match="corpus: all of its audio is digital silence"):
        VoiceTask(recipe, corpus)
