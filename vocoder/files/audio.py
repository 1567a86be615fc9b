"""Sound files in and out: any common format in, 16-bit PCM WAV out."""

from __future__ import annotations

import functools
import io
import logging
import os
import struct
import wave
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
import numpy.typing as npt

from vocoder.errors import VocoderError, reason
from vocoder.files.atomic import atomic_path
from vocoder.files.audio_claims import read_claim

logger = logging.getLogger("vocoder")

_BLOCK = 1 << 16  # samples read, or converted and written, at once

AUDIO_SUFFIXES = (
    *(".wav", ".wave", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aiff", ".aif", ".aifc"),
    *(".au", ".snd", ".caf", ".w64", ".rf64", ".sph"),
)
# Sound that libsndfile does not read, so that a folder of it is not taken for an empty one.
FOREIGN_AUDIO_SUFFIXES = (
    *(".m4a", ".m4b", ".mp4", ".aac", ".wma", ".webm", ".mka", ".amr", ".3gp", ".ape", ".wv"),
    *(".ac3", ".mpc", ".tta", ".shn", ".spx", ".ra", ".dsf", ".dff", ".raw", ".pcm"),
)

# Digital silence in the longest frames of FLAC is 512 samples in a byte with two channels, and
# nothing that is heard comes near. What claims more is a damaged header.
_SAMPLES_PER_BYTE = 4096
# Floats beyond this are samples of 16 or more bits that nobody has divided; masters stay below.
_LOUDEST = 16.0
# Channels whose mean is so much weaker than they are cancel each other: -26 dB.
_CANCELLED = 0.05
# Resampling from 1 Hz would fill the memory from a small file.
_RATES = 1000, 1_000_000  # Hz


def read_wav(
    path: str | os.PathLike[str], *, sample_rate: int | None = None, resample: bool = True
) -> tuple[npt.NDArray[np.float32], int]:
    """Read a sound file as mono float32.

    Reads what libsndfile reads: WAV of 8, 16, 24 or 32-bit integers, floats or telephony's codes,
    FLAC, OGG, Opus, MP3, AIFF and more. Channels are averaged. Resampling to another rate is logged
    once for each pair of rates.

    Args:
        path: Path of the file.
        sample_rate: The rate wanted, in Hz; None keeps the file's own.
        resample: Whether to convert a file of another rate; if False, it is refused.

    Returns:
        The audio (N,), integer formats scaled to [-1, 1), and its sample rate in Hz.

    Raises:
        VocoderError: The file is missing, unreadable, truncated, empty, holds NaN or infinite
            samples, holds floats in the range of integers, has channels that cancel each other, or
            has another rate and `resample` is False.
    """
    channels, rate = _read_channels(path, "float32")
    audio = _mono(channels, str(path))
    if sample_rate is None or sample_rate == rate:
        return np.ascontiguousarray(audio), rate
    if not resample:
        raise VocoderError(
            f"{path}: has {rate} Hz, {sample_rate} Hz are wanted; convert it or allow resampling"
        )
    import librosa

    _say_resampling(rate, sample_rate)
    audio = librosa.resample(audio, orig_sr=rate, target_sr=sample_rate, res_type="soxr_hq")
    return np.ascontiguousarray(audio, dtype=np.float32), sample_rate


def _mono(channels: npt.NDArray[np.float32], path: str) -> npt.NDArray[np.float32]:
    """Return the mean (N,) of channels (N, C), or refuse what cannot be meant."""
    peak = float(np.abs(channels).max())
    if not np.isfinite(peak):
        raise VocoderError(f"{path}: holds NaN or infinite samples; export it again or remove it")
    if peak > _LOUDEST:
        raise VocoderError(
            f"{path}: holds floats up to {peak:.0f}, where full scale is 1; divide them (samples "
            "of 16 bits by 32768) and export it again"
        )
    if channels.shape[1] == 1:
        return channels[:, 0]
    audio = channels.mean(axis=1)
    if np.square(audio).mean() < _CANCELLED**2 * np.square(channels).mean():
        raise VocoderError(
            f"{path}: its channels cancel each other when they are mixed (antiphase); export one "
            "of them alone"
        )
    return audio


def read_int16(
    path: str | os.PathLike[str], *, sample_rate: int
) -> tuple[npt.NDArray[np.int16], int]:
    """Read a sound file as mono 16-bit samples: `read_wav` and `float_to_int16` in one.

    What is stored so already makes no detour through floats, which costs more time than reading.

    Args:
        path: Path of the file.
        sample_rate: the rate wanted, in Hz; audio of another rate is resampled.

    Returns:
        The samples (N,), and how many lay beyond full scale and were clipped.

    Raises:
        VocoderError: As `read_wav`.
    """
    channels, rate = _read_channels(path, "int16")
    if channels.dtype == np.int16 and channels.shape[1] == 1 and rate == sample_rate:
        return channels[:, 0], 0
    return float_to_int16(read_wav(path, sample_rate=sample_rate)[0])


def _read_channels(
    path: str | os.PathLike[str], dtype: Literal["float32", "int16"]
) -> tuple[npt.NDArray[Any], int]:
    """Return the samples (N, channels) and the rate of a file; int16 only of a file of 16 bits."""
    import soundfile

    path = Path(path)
    try:
        with open(path, "rb") as stream:
            claim = read_claim(stream)
            n_bytes = stream.seek(0, os.SEEK_END)
    except OSError as error:
        raise VocoderError(
            f"{path}: cannot be opened ({error.strerror or error}); check the path and permissions"
        ) from None
    try:
        # By its name: through a Python file, libsndfile takes twice the time. As bytes, since
        # soundfile encodes text without the escapes of a name that the locale cannot write.
        name = path if os.name == "nt" else os.fsencode(path)
        with soundfile.SoundFile(
            name if claim.unsized is None else _sized(path, claim.unsized)
        ) as file:
            rate, promised = file.samplerate, file.frames
            if file.subtype != "PCM_16":
                dtype = "float32"
            if not _RATES[0] <= rate <= _RATES[1]:
                raise ValueError(f"it states a sample rate of {rate} Hz")
            if file.seekable() and promised * file.channels > _SAMPLES_PER_BYTE * n_bytes:
                raise ValueError(f"it claims {promised} samples in {n_bytes} bytes")
            channels = _all_samples(file, dtype)
    # The decoders meet damage with any exception, soundfile's own types among them.
    except Exception as error:
        said = getattr(error, "error_string", None)
        why = " ".join(said.split()) if said else reason(error)
        raise VocoderError(
            f"{path}: not readable as audio ({why.rstrip('.')}); "
            "convert it to WAV or FLAC, or remove it"
        ) from None
    if claim.n_missing or len(channels) < promised:
        n_missing = promised - len(channels)
        lack = f"{claim.n_missing} bytes" if claim.n_missing else f"{n_missing} samples"
        raise VocoderError(f"{path}: truncated, {lack} are missing; copy it again or remove it")
    if not len(channels):
        raise VocoderError(f"{path}: holds no samples; remove it or record it again")
    return channels, rate


def _all_samples(file: Any, dtype: Literal["float32", "int16"]) -> npt.NDArray[Any]:
    """Return all samples (N, channels) of an open `soundfile.SoundFile`.

    Where libsndfile cannot seek, soundfile reads no more than it is told to, and the length that
    such a file claims tells little.
    """
    if file.seekable():
        return file.read(dtype=dtype, always_2d=True)
    blocks = []
    while len(block := file.read(_BLOCK, dtype=dtype, always_2d=True)):
        blocks.append(block)
    return np.concatenate(blocks or [block])


@functools.cache
def _say_resampling(source: int, target: int) -> None:
    logger.warning("resampling audio from %d Hz to %d Hz", source, target)


def _sized(path: Path, place: int) -> io.BytesIO:
    """Return a WAV in memory, with the size of its data filled in.

    Args:
        path: The file.
        place: Where it has a 0 in place of the size.
    """
    content = bytearray(path.read_bytes())
    order = ">I" if content.startswith(b"RIFX") else "<I"
    struct.pack_into(order, content, place, min(len(content) - place - 4, 0xFFFFFFFF))
    return io.BytesIO(content)


def float_to_int16(audio: npt.ArrayLike) -> tuple[npt.NDArray[np.int16], int]:
    """Convert samples to 16 bits, the inverse of dividing by 32768.

    Samples are clipped and rounded, never wrapped: 1.0 gives 32767 and -1.2 gives -32768.

    Args:
        audio: samples of any shape, full scale ±1.

    Returns:
        The int16 samples, and how many lay outside [-1, 1].

    Raises:
        VocoderError: A sample is no float, NaN or infinite.
    """
    audio = np.asarray(audio)
    low, high = _check_floats(audio)
    if audio.dtype != np.float64:
        audio = audio.astype(np.float32, copy=False)
    clipped = 0 if low >= -1 and high <= 1 else int(((audio > 1) | (audio < -1)).sum())
    scaled = np.asarray(np.clip(audio, -1, 1) * 32768)
    np.minimum(np.rint(scaled, out=scaled), 32767, out=scaled)
    return scaled.astype(np.int16), clipped


def limit_peak(
    audio: npt.NDArray[np.floating], limit: float
) -> tuple[npt.NDArray[np.floating], float]:
    """Play a whole utterance softer where it would go beyond a limit.

    Args:
        audio: Samples (N,), full scale ±1.
        limit: Greatest magnitude of a sample that is let be.

    Returns:
        The audio, and the gain that it was multiplied with, at most 1.
    """
    peak = float(np.abs(audio).max(initial=0))
    if not peak > limit:
        return audio, 1.0
    gain = limit / peak
    return audio * np.asarray(gain, audio.dtype), gain


def check_peak_limit(limit: float | None) -> None:
    """Raise a `VocoderError` for a limit that is not within full scale."""
    if limit is not None and not 0 < limit <= 1:
        raise VocoderError(f"peak limit {limit:g}: must lie above 0 and be at most 1, full scale")


def _check_floats(audio: npt.NDArray[Any]) -> tuple[float, float]:
    """Return the extremes of audio, or raise a `VocoderError` unless it is finite floats."""
    if audio.dtype.kind != "f":
        raise VocoderError(
            f"audio: holds {audio.dtype}; give floats of full scale 1, as int16 samples / 32768"
        )
    # Almost always all is well, which the two extremes tell in a fraction of the time.
    low, high = (audio.min(), audio.max()) if audio.size else (0, 0)
    if not (np.isfinite(low) and np.isfinite(high)):
        bad = audio.size - int(np.isfinite(audio).sum())
        raise VocoderError(
            f"audio: {bad} of {audio.size} samples are NaN or infinite; check the mel and the voice"
        )
    return low, high


def wav_stream_header(sample_rate: int) -> bytes:
    """Return the header of a mono 16-bit WAV of unknown length, as programs write it to a pipe."""
    form = struct.pack("<HHIIHH", 1, 1, sample_rate, 2 * sample_rate, 2, 16)
    chunks = b"fmt " + struct.pack("<I", len(form)) + form + b"data" + b"\xff" * 4
    return b"RIFF" + b"\xff" * 4 + b"WAVE" + chunks


def write_wav(
    file: str | os.PathLike[str] | BinaryIO, audio: npt.ArrayLike, sample_rate: int
) -> int:
    """Write mono audio (N,) as a 16-bit PCM WAV.

    A path is written atomically: the file is whole or not there. A binary file object needs no
    `seek`, so that standard output will do. It is converted and written block by block, so that
    long audio takes no memory a second time.

    Returns:
        How many samples lay outside [-1, 1] and were clipped.

    Raises:
        VocoderError: `audio` is not one-dimensional, or holds anything but finite floats.
        OSError: The file cannot be written.
    """
    audio = np.asarray(audio)
    if audio.ndim != 1:
        raise VocoderError(f"audio: has shape {audio.shape}; write one channel (N,) at a time")
    _check_floats(audio)  # all of it, before the first byte goes out
    if isinstance(file, str | os.PathLike):
        with atomic_path(file) as temporary, open(temporary, "wb") as stream:
            return _write_pcm(stream, audio, sample_rate)
    return _write_pcm(file, audio, sample_rate)


def _write_pcm(file: BinaryIO, audio: npt.NDArray[Any], sample_rate: int) -> int:
    """Write finite audio (N,) as `write_wav` does; return how many samples were clipped."""
    header = io.BytesIO()
    with wave.open(header, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(sample_rate)
        out.setnframes(len(audio))
        out.writeframesraw(b"")  # writes the header
        # Closing the file would now mend the number of frames in it.
        file.write(header.getbuffer())
    n_clipped = 0
    for start in range(0, len(audio), _BLOCK):
        samples, clipped = float_to_int16(audio[start : start + _BLOCK])
        file.write(samples.astype("<i2").tobytes())
        n_clipped += clipped
    return n_clipped
