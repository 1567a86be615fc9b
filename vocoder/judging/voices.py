"""Voices judged on the held-out clips of a corpus: by number, and for eye and ear in a report."""

from __future__ import annotations

import contextlib
import functools
import heapq
import importlib.util
import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from tqdm import tqdm

from vocoder import checkpoint
from vocoder.config import suggest
from vocoder.data.speech.corpus import MANIFEST, Corpus, Utterance
from vocoder.data.speech.given_splits import read_list
from vocoder.errors import VocoderError
from vocoder.judging import metrics
from vocoder.judging.comparison import (
    FIGURES,
    RECORDING,
    Comparison,
    VoiceScores,
    short_names,
)
from vocoder.judging.likelihood import clip_likelihood
from vocoder.judging.report import Example, render_report
from vocoder.judging.report.document import report_file, write_page
from vocoder.mel.presets import MelPreset, preset_difference
from vocoder.voice.catalogue import GRIFFIN_LIM, find_voice
from vocoder.voice.flow import FlowVocoder
from vocoder.voice.load import load
from vocoder.voice.mel_consistency import check_refine
from vocoder.voice.vocoder import Vocoder

# Samples; the rows of the published flows. The lines of voices without a period of their own are
# sought there.
_TONE_PERIOD = 16
_DNSMOS = ("dnsmos_overall", "dnsmos_signal", "dnsmos_background", "dnsmos_p808")
_LIBRARIES = {
    "f0_rmse": "parselmouth",
    "voicing_f1": "parselmouth",
    "stoi": "pystoi",
    "pesq": "pesq",
    **dict.fromkeys(_DNSMOS, "speechmos"),
}

_Metric = Callable[[npt.NDArray[np.float64], npt.NDArray[np.float64], int], float]


def compare(
    voices: str | Path | Sequence[str | Path],
    data: str | Path,
    *,
    n_clips: int | None = None,
    ids: str | Path | None = None,
    temperature: float = 1.0,
    seed: int = 0,
    refine: int | None = None,
    device: str | None = None,
    report: str | Path | None = None,
    n_examples: int = 8,
) -> Comparison:
    """Score voices on the same test clips: likelihood, and copy synthesis against the recordings.

    Clips are worked one at a time, so that memory does not grow with the corpus.

    Args:
        voices: One or several: a checkpoint file, a run folder, a shipped voice, "griffin-lim", or
            "recording" for the recordings themselves, which are ideal.
        data: A folder that `vocoder preprocess` made.
        n_clips: How many test clips, the first in order; None takes all.
        ids: A text file with the id of a held-out clip on each line, of the test or of the
            validation, to score these and no others.
        temperature: Standard deviation of the noise in copy synthesis.
        seed: Seed of the noise.
        refine: Mel-consistency steps in copy synthesis, the same for all voices; None is the
            default of each.
        device: None is a GPU where there is one.
        report: Path of an HTML page to write, to look at and to listen to.
        n_examples: Clips on that page, those that come out worst; 0 for none.

    Returns:
        Every figure that the voices have; likelihoods are of flows only, and STOI, PESQ and DNSMOS
        are there if the extra `metrics` is installed.

    Raises:
        VocoderError: A count is too small; a voice is named twice, unknown, or was made for other
            mels; the corpus has no test clips; a voice makes NaN; or the report cannot be written
            there.
        OSError: The report cannot be written.
    """
    if n_clips is not None and n_clips < 1:
        raise VocoderError(f"n_clips {n_clips}: must be at least 1")
    if refine is not None:
        check_refine(refine)
    if n_examples < 0:
        raise VocoderError(f"n_examples {n_examples}: must be 0 or more")
    with report_file(report) as page:
        corpus = Corpus.open(data)
        clips = corpus.utterances("test") if ids is None else _clips_of(corpus, data, Path(ids))
        clips = clips[:n_clips]
        if not clips:
            raise VocoderError(
                f"{data}: no test clips to score; preprocess it with --test-clips 1 or more"
            )
        tables = [
            _Table(name, _load(name, corpus, data, device), refine, corpus)
            for name in _different_names(voices)
        ]
        examples = _Examples(n_examples if page is not None else 0)
        compute, notes = _metrics_of(corpus.preset)
        undefined: Counter[tuple[str, str]] = Counter()
        for clip in tqdm(clips, desc="clips", disable=None):
            recording = corpus.audio(clip).astype(np.float64) / 32768
            sounds, distances = {}, []
            for table in tables:
                audio = table.perform(corpus, clip, recording, temperature, seed)
                for name, metric in compute.items():
                    value = math.nan
                    with contextlib.suppress(metrics.UndefinedFigureError):
                        value = metric(
                            recording, audio, corpus.preset.sample_rate, table.tone_period
                        )
                    if not math.isfinite(value):
                        undefined[table.name, name] += 1
                    table.add(name, value if math.isfinite(value) else math.nan)
                if table.name != RECORDING:
                    sounds[table.name] = audio
                    distances.append(table.values["mel_distance"][-1])
            badness = float(np.mean(distances)) if distances else 0.0
            examples.offer(badness, Example(clip.id, recording, sounds))
        n_validation = sum(clip.split == "validation" for clip in clips)
        notes += _notes(tables, undefined, len(clips), n_validation)
        comparison = Comparison(
            data=str(data),
            preset=corpus.preset,
            clips=tuple(clip.id for clip in clips),
            seconds=tuple(clip.n_samples / corpus.preset.sample_rate for clip in clips),
            voices=tuple(table.scores() for table in tables),
            temperature=temperature,
            seed=seed,
            refine=refine,
            device=str(next((t.speaker.device for t in tables if t.speaker), "no device")),
            notes=tuple(notes),
            n_validation=n_validation,
        )
        if page is not None:
            write_page(page, render_report(comparison, examples.worst_first()))
    return comparison


def _clips_of(corpus: Corpus, data: str | Path, ids: Path) -> list[Utterance]:
    """Return the held-out clips that a file names, in its order.

    Raises:
        VocoderError: a line names no clip, one that was trained on, or one a second time.
    """
    known = {clip.id: clip for clip in corpus.manifest.utterances}
    clips: dict[str, Utterance] = {}
    for number, name in read_list(ids):
        place = f"{ids} line {number}: {name[:80]!r}"
        if name not in known:
            raise VocoderError(
                f"{place} is no clip of {data}; a line is an id of {MANIFEST}{suggest(name, known)}"
            )
        if known[name].split == "train":
            raise VocoderError(f"{place} is a training clip; name clips that are held out")
        if name in clips:
            raise VocoderError(f"{place} is named a second time")
        clips[name] = known[name]
    return list(clips.values())


def _notes(
    tables: Sequence[_Table],
    undefined: Counter[tuple[str, str]],
    n_clips: int,
    n_validation: int,
) -> list[str]:
    """Return what a reader of the figures should know of them, and of clips that have none."""
    labels = short_names([table.name for table in tables])
    notes = [
        f"{labels[table.name]}: {note}"
        for table in tables
        if (note := table.likelihood_note()) is not None
    ]
    notes += [
        f"{labels[voice]}: {FIGURES[name].label} is undefined for {n} of {n_clips} clips"
        for (voice, name), n in undefined.items()
    ]
    notes += [
        f"{labels[table.name]}: the log-likelihood is not finite for {table.n_diverged} of "
        f"{n_clips} clips; take an earlier checkpoint"
        for table in tables
        if table.n_diverged
    ]
    if n_validation:
        notes.append("validation clips selected the checkpoint of a voice, and are no test of it")
    return notes


def _different_names(voices: str | Path | Sequence[str | Path]) -> list[str]:
    names = [str(v) for v in ([voices] if isinstance(voices, str | Path) else voices)]
    if not names:
        raise VocoderError("voices: none named; give one or more")
    for name, count in Counter(names).items():
        if count > 1:
            raise VocoderError(f"voice {name!r}: named twice; name each once")
    return names


def _load(name: str, corpus: Corpus, data: str | Path, device: str | None) -> Vocoder | None:
    """Return what speaks under a name, None for the recording, if it fits the corpus."""
    if name == RECORDING:
        return None
    if name == GRIFFIN_LIM:
        return load(name, preset=corpus.preset, device=device)
    if checkpoint.is_of_images(find_voice(name)):
        raise VocoderError(
            f"{name}: is an image model, not a voice; `vocoder evaluate-images` scores it"
        )
    speaker = load(name, device=device)
    differences = preset_difference(corpus.preset, speaker.preset)
    if differences:
        raise VocoderError(
            f"{data}: made with preset {corpus.preset.name}, the voice {name} wants "
            f"{speaker.preset.name} ({', '.join(differences)}); preprocess it anew"
        )
    return speaker


def _metrics_of(preset: MelPreset) -> tuple[dict[str, Callable[..., float]], list[str]]:
    """Return the metrics that can be computed, (recording, audio, rate, tone period), and notes."""

    def without_rows(metric: _Metric) -> Callable[..., float]:
        return lambda recording, audio, rate, _: metric(recording, audio, rate)

    def without_reference(metric: Callable[..., float]) -> Callable[..., float]:
        return lambda _, audio, rate, __: metric(audio, rate)

    compute: dict[str, Callable[..., float]] = {
        "log_spectral_distance": without_rows(metrics.log_spectral_distance),
        "mel_distance": without_rows(functools.partial(metrics.mel_distance, preset=preset)),
        "mel_cepstral_distortion": without_rows(metrics.mel_cepstral_distortion),
        "f0_rmse": without_rows(metrics.f0_rmse),
        "voicing_f1": without_rows(metrics.voicing_f1),
        "tone_bias": metrics.tone_bias,
        "stoi": without_rows(metrics.stoi),
        "pesq": without_rows(metrics.pesq),
        **{name: without_reference(getattr(metrics, name)) for name in _DNSMOS},
    }
    missing = [name for name in _LIBRARIES if not importlib.util.find_spec(_LIBRARIES[name])]
    for name in missing:
        del compute[name]
    labels = ", ".join(FIGURES[name].label for name in missing)
    note = f"{labels}: left out, not installed; run: pip install 'vocoder[metrics]'"
    return compute, [note] if missing else []


class _Table:
    """The figures of one voice as they come in, clip by clip."""

    def __init__(
        self, name: str, speaker: Vocoder | None, refine: int | None, corpus: Corpus
    ) -> None:
        self.name = name
        self.speaker = speaker
        self.refine = refine
        self.values: dict[str, list[float]] = {}
        self.weights: dict[str, list[float]] = {}
        self.tone_period = _TONE_PERIOD
        if isinstance(speaker, FlowVocoder):
            self.tone_period = speaker.model.tone_period or _TONE_PERIOD
        self.hears_epochs = (
            isinstance(speaker, FlowVocoder) and speaker.model.config.pitch_range is not None
        )
        self.has_likelihood = isinstance(speaker, FlowVocoder) and not (
            self.hears_epochs and corpus.manifest.epochs is None
        )
        self.n_diverged = 0  # clips of no finite likelihood
        self._is_warm = False

    def add(self, figure: str, value: float, weight: float | None = None) -> None:
        self.values.setdefault(figure, []).append(value)
        if weight is not None:
            self.weights.setdefault(figure, []).append(weight)

    def perform(
        self,
        corpus: Corpus,
        clip: Utterance,
        recording: npt.NDArray[np.float64],
        temperature: float,
        seed: int,
    ) -> npt.NDArray[np.float64]:
        """Return a clip (N,) as the voice says it, and note the voice's own figures."""
        if self.speaker is None:
            return recording
        if isinstance(self.speaker, FlowVocoder) and self.has_likelihood:
            score = clip_likelihood(self.speaker.model, corpus, clip)
            # A likelihood of NaN is no better than none at all.
            mean, active = (
                x if math.isfinite(x) else -math.inf for x in (score.mean, score.active)
            )
            self.n_diverged += mean == -math.inf
            self.add("nats_per_dim", mean)
            self.add("nats_per_dim_by_length", mean, score.n_samples)
            self.add("nats_per_dim_active", active, score.n_active)
        mel = torch.tensor(corpus.mel(clip))
        speak = functools.partial(
            self.speaker.synthesize, temperature=temperature, seed=seed, refine=self.refine
        )
        if not self._is_warm:  # what is compiled or cached at the first call is no speed
            speak(mel[:, :32])
            self._is_warm = True
        started = time.perf_counter()
        audio = speak(mel).cpu().numpy()
        seconds = time.perf_counter() - started
        self.add("times_real_time", len(audio) / self.speaker.sample_rate / seconds, seconds)
        if not np.isfinite(audio).all():
            raise VocoderError(
                f"voice {self.name}: makes NaN or infinite samples of clip {clip.id}; "
                "take an earlier checkpoint, or another --temperature"
            )
        return audio[: len(recording)].astype(np.float64)

    def likelihood_note(self) -> str | None:
        """Return what the likelihood of a model that hears more than the mel is given."""
        if not self.hears_epochs:
            return None
        if not self.has_likelihood:
            return (
                "its log-likelihood is one given epochs, and is left out, since the corpus "
                "holds none; preprocess it with --epochs"
            )
        return (
            "its log-likelihood is one given the mel and the epochs of the recording; do not "
            "set it beside one given the mel alone"
        )

    def scores(self) -> VoiceScores:
        values = {name: np.array(self.values[name]) for name in FIGURES if name in self.values}
        return VoiceScores(
            self.name, values, {name: np.array(weights) for name, weights in self.weights.items()}
        )


@dataclass
class _Examples:
    """The worst clips offered so far, at most `size`."""

    size: int

    def __post_init__(self) -> None:
        self._heap: list[tuple[float, int, Example]] = []
        self._n_offered = 0

    def offer(self, badness: float, example: Example) -> None:
        self._n_offered += 1
        # Of equally bad ones the first stays: the count, never two alike, decides.
        heapq.heappush(self._heap, (badness, -self._n_offered, example))
        if len(self._heap) > self.size:
            heapq.heappop(self._heap)

    def worst_first(self) -> list[Example]:
        return [example for _, _, example in sorted(self._heap, key=lambda item: item[:2])[::-1]]
