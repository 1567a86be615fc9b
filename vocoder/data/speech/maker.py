"""From one recording to the audio and the mel that training reads."""

from __future__ import annotations

import contextlib
import functools
import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from vocoder.data.speech.corpus import audio_path, epochs_path, mel_path
from vocoder.data.speech.epochs import PitchRange, find_epochs
from vocoder.data.speech.journal import Record
from vocoder.data.speech.reader import Clip
from vocoder.data.speech.silence import silent_samples
from vocoder.errors import VocoderError
from vocoder.files.arrays import npy_header
from vocoder.files.writing import naming
from vocoder.mel.presets import MelPreset

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Failure:
    """A file that cannot be used."""

    file: str  # within the source
    reason: str


class Maker:
    """Makes the files of a clip; cheap to send to another process."""

    def __init__(
        self,
        source: Path,
        out: Path,
        preset: MelPreset,
        pitch: PitchRange | None = None,
        dither_seed: int | None = None,
    ) -> None:
        self.source = source
        self.out = out
        self.preset = preset
        self.pitch = pitch
        self.dither_seed = dither_seed

    def source_state(self, clip: Clip) -> tuple[str, int, int, tuple[str | int, ...]]:
        """Return the file of a clip within the source, its bytes and time of change.

        Then come those of the mel given with it, if any.
        """
        state = clip.path.stat()
        mel: tuple[str | int, ...] = ()
        if clip.mel is not None:
            given = clip.mel.stat()
            mel = (str(clip.mel), given.st_size, given.st_mtime_ns)
        return str(clip.path.relative_to(self.source)), state.st_size, state.st_mtime_ns, mel

    def has_files(self, record: Record) -> bool:
        """Tell whether the files of a clip are there in full length."""
        n_values = self.preset.n_mels * self.preset.n_frames(record.n_samples)
        sample_size = 2 if self.dither_seed is None else 4
        return (
            audio_path(self.out, record.id).stat().st_size > sample_size * record.n_samples
            and mel_path(self.out, record.id).stat().st_size > 4 * n_values
            and (
                self.pitch is None
                or epochs_path(self.out, record.id).stat().st_size > 4 * record.n_epochs
            )
        )

    def make(self, clip: Clip) -> Record | Failure:
        """Write the audio, the mel and, if asked for, the epochs of one clip.

        Raises:
            OSError: a file cannot be written; that is no failure of the clip.
        """
        from vocoder.data.speech.given_mels import common_frames, read_given_mel
        from vocoder.files.audio import read_int16

        hop = self.preset.hop_length
        given = None
        try:
            file, size, mtime_ns, mel_state = self.source_state(clip)
            audio, n_clipped = read_int16(clip.path, sample_rate=self.preset.sample_rate)
            n_samples = len(audio) // hop * hop
            if clip.mel is not None:
                given = read_given_mel(clip.mel, self.preset, functools.partial(self._mel, audio))
                n_recorded = self.preset.n_frames(n_samples)
                n_frames = common_frames(given.shape[1], n_recorded)
                given = given[:, :n_frames]
                n_samples -= (n_recorded - n_frames) * hop
        except VocoderError as error:
            reason = str(error).removeprefix(f"{clip.path}: ")
            return Failure(str(clip.path.relative_to(self.source)), reason)
        except OSError as error:
            place = "" if error.filename in (clip.path, str(clip.path)) else f"{error.filename}: "
            reason = f"{place}{error.strerror or error}"
            return Failure(str(clip.path.relative_to(self.source)), reason)
        if n_samples < self.preset.min_samples:
            return Failure(
                file,
                f"too short, {len(audio)} samples; preset {self.preset.name} needs "
                f"{-(-self.preset.min_samples // hop) * hop}, in whole frames of {hop}",
            )
        n_silent = silent_samples(audio[:n_samples])
        if n_silent == n_samples:
            return Failure(file, "digital silence: all its samples are the same")
        samples: npt.NDArray[Any] = audio[:n_samples]
        if self.dither_seed is not None:
            samples = dithered(samples, self.dither_seed, clip.id)
        mel = self._mel(samples) if given is None else given
        _write_array(audio_path(self.out, clip.id), samples)
        _write_array(mel_path(self.out, clip.id), mel.numpy())
        record = Record(
            clip.id, file, size, mtime_ns, n_samples, n_clipped, mel_state, n_silent=n_silent
        )
        return record if self.pitch is None else self._with_epochs(record, samples, self.pitch)

    def _with_epochs(self, record: Record, samples: npt.NDArray[Any], pitch: PitchRange) -> Record:
        found = find_epochs(samples / 32768, self.preset.sample_rate, pitch)
        _write_array(epochs_path(self.out, record.id), found.positions)
        return replace(
            record,
            n_epochs=len(found.positions),
            n_voiced=found.n_voiced,
            n_bad=found.n_bad,
        )

    def _mel(self, samples: npt.NDArray[Any]) -> Tensor:
        """Return the mel (M, F) of the audio as stored, which is what training sees."""
        import torch

        from vocoder.mel.spectrogram import MelSpectrogram

        stored = torch.from_numpy(np.multiply(samples, 1 / 32768, dtype=np.float32))
        with torch.inference_mode():
            return MelSpectrogram(self.preset)(stored)


def dithered(samples: npt.NDArray[np.int16], seed: int, identity: str) -> npt.NDArray[np.float32]:
    """Return 16-bit samples (N,) moved by uniform noise of less than half a step each.

    What was rounded away is put back as noise, so that no stretch is digital silence, of which a
    density has no bound. Rounding gives the samples back.

    Args:
        samples: (N,), full scale 32768.
        seed: Seed of the noise.
        identity: Identity of the clip; each gets its own noise, whatever others there are.
    """
    digest = hashlib.sha256(identity.encode("utf-8", "surrogateescape")).digest()
    random = np.random.default_rng([seed, int.from_bytes(digest, "big")])
    noise = random.random(len(samples), np.float32)
    return samples + (noise - np.float32(0.5)) * np.float32(0.99)


def _write_array(path: Path, array: npt.NDArray[Any]) -> None:
    """Write a .npy file, or on an error nothing.

    Straight to its name, which a kill may leave half-written: the journal vouches for whole files,
    the manifest for a whole corpus, and a rename would cost as much again as the file.
    """
    array = np.ascontiguousarray(array)
    try:
        with naming(path), open(path, "wb") as file:
            file.write(npy_header(array.dtype, array.shape))
            file.write(array.data)
    except OSError:
        with contextlib.suppress(OSError):
            path.unlink()
        raise
