"""Figures of a voice on the held-out clips of a corpus."""

from __future__ import annotations

import importlib.util
import time
from pathlib import Path

import numpy as np
import torch

from vocoder import metrics
from vocoder.data.base import Corpus
from vocoder.engine import FlowVocoder, GriffinLimVocoder, Vocoder, load
from vocoder.errors import VocoderError
from vocoder.likelihood import log_likelihood
from vocoder.presets import preset_difference
from vocoder.voices import GRIFFIN_LIM


def evaluate(
    voice: str | Path,
    data: str | Path,
    *,
    n_clips: int | None = None,
    temperature: float = 1.0,
    seed: int = 0,
    device: str | None = None,
) -> dict[str, float]:
    """Score a voice on test clips: likelihood, and copy synthesis against the recordings.

    Args:
        voice: a checkpoint, run folder, shipped voice or "griffin-lim".
        data: a folder that `vocoder preprocess` made.
        n_clips: how many test clips, the first in order; None takes all.
        temperature: of the noise in copy synthesis.
        seed: of the noise.
        device: None is a GPU where there is one.

    Returns:
        Figures by name. Likelihoods (of flows) are in nats per sample; PESQ and STOI are there if
        the extra `metrics` is installed.

    Raises:
        VocoderError: the voice was made for other mels, or the corpus has no test clips.
    """
    corpus = Corpus.open(data)
    speaker: Vocoder
    if str(voice) == GRIFFIN_LIM:
        speaker = GriffinLimVocoder(corpus.preset, device=device)
    else:
        speaker = load(voice, device=device)
    differences = preset_difference(corpus.preset, speaker.preset)
    if differences:
        raise VocoderError(
            f"{data}: made with preset {corpus.preset.name}, the voice wants "
            f"{speaker.preset.name} ({', '.join(differences)}); preprocess it anew"
        )
    clips = corpus.utterances("test")[:n_clips]
    if not clips:
        raise VocoderError(f"{data}: no test clips to score")
    figures: dict[str, float] = {"clips": len(clips)}
    if isinstance(speaker, FlowVocoder):
        score = log_likelihood(speaker.model, corpus, clips)
        figures |= {
            "nats/dim, mean over clips": score.mean_over_clips,
            "nats/dim, by length": score.per_sample,
            "nats/dim, active frames": score.active,
        }
    rows = []
    audio_seconds = compute_seconds = 0.0
    for clip in clips:
        recording = corpus.audio(clip).astype(np.float64) / 32768
        mel = torch.tensor(corpus.mel(clip))
        started = time.perf_counter()
        audio = speaker.synthesize(mel, temperature=temperature, seed=seed).cpu().numpy()
        compute_seconds += time.perf_counter() - started
        audio_seconds += len(audio) / speaker.sample_rate
        rows.append(_compare(recording, audio[: len(recording)], corpus))
    for name in rows[0]:
        figures[name] = float(np.mean([row[name] for row in rows]))
    figures["× real time"] = audio_seconds / compute_seconds
    return figures


def _compare(recording: np.ndarray, audio: np.ndarray, corpus: Corpus) -> dict[str, float]:
    """Return every metric whose library is installed."""
    rate = corpus.preset.sample_rate
    result = {
        "log-spectral distance, dB": metrics.log_spectral_distance(recording, audio, rate),
        "mel distance": metrics.mel_distance(recording, audio, rate, preset=corpus.preset),
    }
    if importlib.util.find_spec("pystoi"):
        result["STOI"] = metrics.stoi(recording, audio, rate)
    if importlib.util.find_spec("pesq"):
        result["PESQ"] = metrics.pesq(recording, audio, rate)
    return result
