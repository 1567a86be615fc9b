"""Log-likelihood of whole clips under a model."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch

from vocoder.data.speech.conditioning import Conditioning
from vocoder.data.speech.corpus import Corpus, Utterance
from vocoder.flows.base import full_precision
from vocoder.models.families.voice import VoiceModel

ACTIVE_DB = 40.0


@dataclass(frozen=True)
class Likelihood:
    """Nats per audio sample; more is better."""

    mean_over_clips: float  # as published: unweighted mean of each clip's mean
    per_sample: float  # every sample weighs the same
    active: float  # over frames within ACTIVE_DB of the clip's loudest: silence is cheap to model
    n_clips: int
    n_samples: int


@dataclass(frozen=True)
class ClipLikelihood:
    """Mean nats per audio sample of one clip."""

    mean: float
    n_samples: int
    active: float  # over frames within ACTIVE_DB of the loudest
    n_active: int  # samples of those


@torch.inference_mode()
def clip_log_prob(model: VoiceModel, corpus: Corpus, utterance: Utterance) -> np.ndarray:
    """Return the log-likelihood (N,) of each sample of a whole clip, in nats.

    It is given the mel, and for a model that hears them, the epochs of the recording too.
    """
    device = next(model.parameters()).device
    audio = torch.from_numpy(corpus.audio(utterance).astype(np.float32) / 32768)
    cond = Conditioning(corpus, model.config.pitch_range).frames(utterance)
    with full_precision(device):
        terms = model.log_prob_per_sample(audio[None].to(device), cond[None].to(device))
    return terms[0].double().cpu().numpy()


def clip_likelihood(model: VoiceModel, corpus: Corpus, utterance: Utterance) -> ClipLikelihood:
    """Score a whole clip, in float32 and without dequantisation noise, as published.

    The density is over amplitudes in [−1, 1), so that it is not bounded by zero.
    """
    hop = corpus.preset.hop_length
    terms = clip_log_prob(model, corpus, utterance)
    frames = corpus.audio(utterance).astype(np.float64).reshape(-1, hop)
    power = (frames**2).mean(axis=1)
    # Of a silent clip every frame is as loud as the loudest.
    active = terms.reshape(-1, hop)[power >= power.max() * 10 ** (-ACTIVE_DB / 10)]
    return ClipLikelihood(float(terms.mean()), terms.size, float(active.mean()), active.size)


def log_likelihood(
    model: VoiceModel, corpus: Corpus, utterances: Iterable[Utterance]
) -> Likelihood:
    """Score whole clips one at a time, as `clip_likelihood` does."""
    clips = [clip_likelihood(model, corpus, utterance) for utterance in utterances]
    n_samples = [clip.n_samples for clip in clips]
    return Likelihood(
        mean_over_clips=float(np.mean([clip.mean for clip in clips])),
        per_sample=float(np.average([clip.mean for clip in clips], weights=n_samples)),
        active=float(
            np.average([clip.active for clip in clips], weights=[clip.n_active for clip in clips])
        ),
        n_clips=len(clips),
        n_samples=sum(n_samples),
    )
