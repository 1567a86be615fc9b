"""From files of mels and recordings to files of sound."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor
from tqdm import tqdm

from vocoder.errors import VocoderError
from vocoder.files.audio import check_peak_limit, limit_peak, read_wav, write_wav
from vocoder.mel.appearance import telling_of_misfits
from vocoder.mel.files import read_mel
from vocoder.mel.presets import MelPreset
from vocoder.mel.spectrogram import MelSpectrogram
from vocoder.synthesis.origin import UNSTATED, MelOrigin
from vocoder.synthesis.outputs import Report, naming, prepare_folders
from vocoder.synthesis.sources import Source
from vocoder.synthesis.speakers import Speakers
from vocoder.voice.batches import pad_mels
from vocoder.voice.denoiser import Denoiser, check_strength
from vocoder.voice.pitch import F0, check_pitch
from vocoder.voice.vocoder import Vocoder, check_settings


@dataclass(frozen=True)
class _Job:
    source: Source
    output: Path | BinaryIO
    voice: Vocoder
    n_frames: int


def synthesize_files(
    speakers: Speakers,
    sources: Sequence[Source],
    outputs: Sequence[Path | BinaryIO],
    *,
    origin: MelOrigin = UNSTATED,
    temperature: float = 1.0,
    seed: int | None = None,
    batch_size: int = 1,
    refine: int | None = None,
    pitch: float = 1.0,
    f0: F0 | None = None,
    denoise: float = 0.0,
    peak_limit: float | None = None,
) -> Report:
    """Speak every source into its output, with a progress bar on standard error.

    All inputs are read and checked before the first is spoken, so that a bad one costs no time and
    leaves nothing behind. Mels are of the preset of `origin`, else of the preset that they name,
    else of the one that `speakers` expects, provided that their values look like it. Audio is
    copied through the same preset.

    Args:
        speakers: Who speaks each of them.
        sources: What to speak, as `collect_sources` returns it.
        outputs: a WAV path or an open binary file for each source.
        origin: What is stated of all mels.
        temperature: Standard deviation of the noise, as `Vocoder.synthesize` takes it.
        seed: the same for every file, so that a file's audio does not depend on its neighbours.
        batch_size: utterances spoken at once; with more than one they go in order of length.
        refine: Mel-consistency steps, as `Vocoder.synthesize` takes them.
        pitch: Factor of the pitch, as `Vocoder.synthesize` takes it.
        f0: The pitch (F,) of the only source, as `Vocoder.synthesize` takes it.
        denoise: strength of the `Denoiser`; 0 is none.
        peak_limit: Greatest sample of an utterance, above which all of it is played softer; None
            clips what goes beyond full scale. The report tells of either.

    Raises:
        VocoderError: an input is unreadable or does not fit the voice.
        OSError: an output cannot be written.
    """
    if batch_size < 1:
        raise VocoderError(f"batch size {batch_size}: must be at least 1")
    check_settings(temperature, seed)
    check_strength(denoise)
    check_peak_limit(peak_limit)
    check_pitch(pitch)
    if f0 is not None and len(sources) != 1:
        raise VocoderError(
            f"f0: one track cannot fit {len(sources)} mels; speak them one at a time"
        )
    jobs = []
    for source, output in zip(sources, outputs, strict=True):
        mel, stated = _read(source, origin, speakers.expected)
        jobs.append(_Job(source, output, speakers.find(stated, mel, source), mel.shape[-1]))
    if batch_size > 1:
        jobs.sort(key=lambda job: (job.voice.preset.fingerprint, job.n_frames))
    prepare_folders([output for output in outputs if isinstance(output, Path)])

    denoisers = {voice: Denoiser(voice) for voice in speakers.voices} if denoise else {}
    report = Report()
    total = sum(job.n_frames * job.voice.hop_length / job.voice.sample_rate for job in jobs)
    bar_format = "{l_bar}{bar}| {n:.1f}/{total:.1f} s [{elapsed}<{remaining}]"
    with (
        tqdm(total=total, desc=str(speakers), bar_format=bar_format, disable=None) as bar,
        telling_of_misfits(),
    ):
        for batch in _batches(jobs, batch_size):
            voice = batch[0].voice
            mels = [_read(job.source, origin, speakers.expected)[0] for job in batch]
            start = time.perf_counter()
            padded, lengths = pad_mels(mels, voice.preset)
            audio = voice.synthesize(
                padded,
                lengths,
                temperature=temperature,
                seed=seed,
                refine=refine,
                pitch=pitch,
                f0=None if f0 is None else f0[None],
            )
            if denoise:
                audio = denoisers[voice](audio, denoise)
            audio = audio.cpu()
            report.compute_seconds += time.perf_counter() - start
            for job, row, n_frames in zip(batch, audio, lengths, strict=True):
                n_samples = n_frames * voice.hop_length
                _write(job, row[:n_samples], report, peak_limit)
                bar.update(n_samples / voice.sample_rate)
    return report


def _read(source: Source, origin: MelOrigin, expected: MelPreset) -> tuple[Tensor, MelPreset]:
    """Return the (M, F) mel of a source and the preset it is made with."""
    if source.path is not None and source.is_recording:
        stated = origin.preset or expected
        audio, _ = read_wav(source.path, sample_rate=stated.sample_rate)
        try:
            with torch.inference_mode():
                return MelSpectrogram(stated)(torch.from_numpy(audio)), stated
        except VocoderError as error:
            raise VocoderError(f"{source}: {error}") from None
    file = io.BytesIO(source.data) if source.path is None else source.path
    read = read_mel(file, n_mels=expected.n_mels, preset=origin.preset)
    return origin.restored(read.mel, read.preset, expected, str(source))


def _batches(jobs: Sequence[_Job], size: int) -> Iterator[list[_Job]]:
    """Yield runs of at most `size` jobs of the same voice."""
    batch: list[_Job] = []
    for job in jobs:
        if batch and (len(batch) == size or job.voice is not batch[0].voice):
            yield batch
            batch = []
        batch.append(job)
    if batch:
        yield batch


def _write(job: _Job, audio: Tensor, report: Report, peak_limit: float | None) -> None:
    name = str(job.output) if isinstance(job.output, Path) else "standard output"
    samples = audio.numpy()
    if peak_limit is not None:
        samples, gain = limit_peak(samples, peak_limit)
        if gain < 1:
            report.gains[name] = gain
    with naming(name):
        n_clipped = write_wav(job.output, samples, job.voice.sample_rate)
        if not isinstance(job.output, Path):
            job.output.flush()
    report.n_files += 1
    report.audio_seconds += len(audio) / job.voice.sample_rate
    if n_clipped:
        report.clipped[name] = n_clipped
