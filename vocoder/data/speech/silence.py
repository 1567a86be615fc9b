"""Digital silence: stretches of one value, whose likelihood under a density has no bound."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from vocoder.data.speech.corpus import Corpus, Utterance

SILENT_RUN = 256  # samples; no recording of anything holds one value so long
MUCH_SILENCE = 0.05  # of a corpus; the gates of most studios leave less
_CLIPS = 64  # that tell of a corpus: all of a large one would take minutes to read


def silent_samples(samples: npt.NDArray[np.int16 | np.float32]) -> int:
    """Return how many samples (N,) lie in runs of `SILENT_RUN` or more that are all the same."""
    changes = np.flatnonzero(samples[1:] != samples[:-1]) + 1
    runs = np.diff(changes, prepend=0, append=len(samples))
    return int(runs[runs >= SILENT_RUN].sum())


def silent_share(corpus: Corpus, utterances: Sequence[Utterance]) -> float:
    """Return the share of digital silence in clips of a corpus, by 64 of them spread evenly.

    Args:
        corpus: The preprocessed corpus.
        utterances: The clips in question, at least one.

    Raises:
        VocoderError: The audio of a clip is missing or damaged.
    """
    step = -(-len(utterances) // _CLIPS)
    some = utterances[::step]
    n_silent = sum(silent_samples(corpus.audio(utterance)) for utterance in some)
    return n_silent / sum(utterance.n_samples for utterance in some)


def silence_warning(share: float) -> str:
    """Return what to tell of a corpus of which this share is digital silence."""
    return (
        f"{100 * share:.0f} % of the audio is digital silence, whose likelihood has no bound, so "
        "that a training would learn little else; preprocess it with --dither, or cut it away"
    )
