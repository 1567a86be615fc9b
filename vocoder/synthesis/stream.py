"""Speaking from a stream of mels into a stream of sound."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import BinaryIO, Literal

import torch
from torch import Tensor

from vocoder.errors import VocoderError
from vocoder.files.audio import float_to_int16, wav_stream_header
from vocoder.mel.appearance import telling_of_misfits
from vocoder.mel.files import read_mel_pieces
from vocoder.synthesis.origin import UNSTATED, MelOrigin
from vocoder.synthesis.outputs import Report, naming
from vocoder.voice.vocoder import Vocoder


def synthesize_stream(
    voice: Vocoder,
    source: BinaryIO,
    output: BinaryIO,
    form: Literal["pcm", "wav"],
    *,
    origin: MelOrigin = UNSTATED,
    temperature: float = 1.0,
    seed: int | None = None,
    refine: int | None = None,
    pitch: float = 1.0,
) -> Report:
    """Speak the pieces of one mel as they come, and hand the audio on at once.

    Args:
        voice: the voice; see `Vocoder.stream`.
        source: `.npy` arrays (M, f), one after the other.
        output: gets 16-bit samples, of the least significant byte first, for "wav" behind a header.
        form: "pcm" or "wav".
        origin: What is stated of the mel; without a preset it is the voice's, provided that each
            piece looks like it.
        temperature: Standard deviation of the noise, as `Vocoder.synthesize` takes it.
        seed: Seed of the noise, as `Vocoder.synthesize` takes it.
        refine: Mel-consistency steps, as `Vocoder.synthesize` takes them.
        pitch: Factor of the pitch, as `Vocoder.synthesize` takes it.

    Returns:
        What was done; waiting for pieces and for the output is no computing.

    Raises:
        VocoderError: what comes is no mel of the voice, or the voice cannot stream.
        OSError: the output cannot be written.
    """
    report = Report(n_files=1)
    pieces = _timed(_fitting_pieces(source, origin, voice), report)
    parts = voice.stream(pieces, temperature=temperature, seed=seed, refine=refine, pitch=pitch)

    def hand_on(content: bytes) -> None:
        try:
            with naming("standard output"):
                output.write(content)
                output.flush()
        except BrokenPipeError:  # in which click would end the program without a word
            raise VocoderError("standard output: closed by the program that reads it") from None

    if form == "wav":
        hand_on(wav_stream_header(voice.sample_rate))
    start = time.perf_counter()
    for part in parts:
        samples, n_clipped = float_to_int16(torch.as_tensor(part).cpu().numpy())
        report.compute_seconds += time.perf_counter() - start
        hand_on(samples.astype("<i2").tobytes())
        report.audio_seconds += len(samples) / voice.sample_rate
        if n_clipped:
            report.clipped.setdefault("standard output", 0)
            report.clipped["standard output"] += n_clipped
        start = time.perf_counter()
    report.compute_seconds += time.perf_counter() - start
    return report


def _timed(pieces: Iterator[Tensor], report: Report) -> Iterator[Tensor]:
    """Yield the pieces, and take the time that they are waited for off the computing."""
    start = time.perf_counter()
    for piece in pieces:
        report.compute_seconds -= time.perf_counter() - start
        yield piece
        start = time.perf_counter()
    report.compute_seconds -= time.perf_counter() - start


def _fitting_pieces(source: BinaryIO, origin: MelOrigin, voice: Vocoder) -> Iterator[Tensor]:
    """Yield the pieces of a mel as the voice takes them."""
    expected = origin.preset or voice.preset
    for piece in read_mel_pieces(source, expected.n_mels):
        with telling_of_misfits():  # the voice tells of them, by their frames
            fitted = origin.fitted(piece, voice.preset, "standard input")
        yield fitted
