"""Speaking one utterance after the other for another program, through its pipes.

The protocol, whose version is `PROTOCOL`: the program sends `.npy` arrays (M, F), each the mel of
one utterance, and gets lines of JSON. The first tells of the voice. Then each array is answered, in
order, by one line, which is followed by exactly `n_bytes` bytes of 16-bit samples, of the least
significant byte first; with an `error` there are none, and the next array may be sent.
"""

from __future__ import annotations

import json
import logging
import math
import time
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy.typing as npt
import torch

from vocoder.errors import VocoderError, reason
from vocoder.files.arrays import read_array
from vocoder.files.audio import check_peak_limit, float_to_int16, limit_peak
from vocoder.mel.files import MAX_BYTES, read_mel_array
from vocoder.synthesis.origin import UNSTATED, MelOrigin
from vocoder.synthesis.outputs import naming
from vocoder.voice.pitch import check_pitch
from vocoder.voice.vocoder import Vocoder, check_settings

logger = logging.getLogger("vocoder")

PROTOCOL = 1


@dataclass(frozen=True)
class Service:
    """How utterances are spoken.

    Attributes:
        voice: The voice that speaks.
        origin: What is stated of all mels.
        temperature: Standard deviation of the noise, as `Vocoder.synthesize` takes it.
        seed: Seed of the noise of every utterance; None draws it fresh.
        refine: Mel-consistency steps, as `Vocoder.synthesize` takes them.
        pitch: Factor of the pitch, as `Vocoder.synthesize` takes it.
        peak_limit: Greatest sample of an utterance, above which all of it is played softer; None
            clips what goes beyond full scale.

    Raises:
        VocoderError: A setting makes no sense.
    """

    voice: Vocoder
    origin: MelOrigin = UNSTATED
    temperature: float = 1.0
    seed: int | None = None
    refine: int | None = None
    pitch: float = 1.0
    peak_limit: float | None = None

    def __post_init__(self) -> None:
        check_settings(self.temperature, self.seed)
        check_peak_limit(self.peak_limit)
        if check_pitch(self.pitch) != 1:
            self.voice.check_control()

    def run(self, source: BinaryIO, output: BinaryIO) -> int:
        """Answer every array until there are no more, and return how many there were.

        Args:
            source: Binary stream that the arrays come from; it need not be seekable.
            output: Binary stream that the answers go to; it is flushed after each.

        Raises:
            VocoderError: What comes is no array, so that nobody knows where the next one begins.
                It is answered as an error first.
            OSError: The answers cannot be written.
        """
        voice = self.voice
        facts = {
            "protocol": PROTOCOL,
            "voice": voice.name,
            "preset": voice.preset.name,
            "fingerprint": voice.preset.fingerprint,
            "n_mels": voice.n_mels,
            "hop_length": voice.hop_length,
            "sample_rate": voice.sample_rate,
            "format": "s16le",
        }
        _send(output, facts)
        number = 0
        while magic := source.read(8):
            try:
                array = read_array(source, MAX_BYTES, magic)
            except Exception as error:  # numpy reads the header as Python
                message = f"array {number}: not an .npy array of numbers ({reason(error)})"
                _send(output, _failure(number, message))
                raise VocoderError(f"standard input: {message}; send numpy.save's") from None
            _send(output, *self._answer(number, array))
            number += 1
        return number

    def _answer(self, number: int, array: npt.NDArray[Any]) -> tuple[dict[str, Any], bytes]:
        """Return the line for an utterance, and its samples."""
        name = f"array {number}"
        start = time.perf_counter()
        try:
            mel = read_mel_array(array, self.voice.n_mels, name)
            fitted = self.origin.fitted(mel, self.voice.preset, name)
            audio = self.voice.synthesize(
                fitted,
                temperature=self.temperature,
                seed=self.seed,
                refine=self.refine,
                pitch=self.pitch,
            )
        except VocoderError as error:
            message = str(error)
            named = message if message.startswith(name) else f"{name}: {message}"
            return _failure(number, named), b""
        except Exception as error:  # a fault of ours in one utterance is none of the next ones
            logger.exception("%s", name)
            return _failure(number, f"{name}: {type(error).__name__}: {reason(error)}"), b""
        samples: npt.NDArray[Any] = torch.as_tensor(audio).cpu().numpy()
        gain = 1.0
        if self.peak_limit is not None:
            samples, gain = limit_peak(samples, self.peak_limit)
        pcm, n_clipped = float_to_int16(samples)
        content = pcm.astype("<i2").tobytes()
        line = {
            "utterance": number,
            "n_samples": len(pcm),
            "n_bytes": len(content),
            "n_clipped": n_clipped,
            "gain_db": round(20 * math.log10(gain), 2),
            "seconds": round(time.perf_counter() - start, 4),
        }
        return line, content


def _failure(number: int, message: str) -> dict[str, Any]:
    return {"utterance": number, "n_samples": 0, "n_bytes": 0, "error": message}


def _send(output: BinaryIO, line: dict[str, Any], content: bytes = b"") -> None:
    """Write a line and what belongs to it in one piece, and flush it."""
    try:
        with naming("standard output"):
            output.write(json.dumps(line).encode() + b"\n" + content)
            output.flush()
    except BrokenPipeError:  # in which click would end the program without a word
        raise VocoderError("standard output: closed by the program that reads it") from None
