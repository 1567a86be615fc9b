"""The preprocessed corpus, which training and judging read.

A preprocessed corpus is a folder:

    manifest.json      what is in it, written last: a folder without one is not finished
    audio/ID.npy       int16 (N,), N a multiple of the hop length
    mels/ID.npy        float32 (M, F) of exactly that audio; frame f starts at sample f·hop
    epochs/ID.npy      int32 (E,), if asked for: samples at which the vocal folds close, rising

or has them all in shards (see `shards`), which the manifest then counts.

With dither, the audio is float32 in the same scale: each sample is moved by less than half a step
of 16 bits, so that rounding gives the 16 bits back.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vocoder.config import suggest
from vocoder.data.speech.epochs import EpochSummary
from vocoder.data.speech.reader import SPLITS, Split, is_safe_id
from vocoder.data.speech.shards import Array, Shards
from vocoder.errors import VocoderError
from vocoder.files.arrays import load_npy
from vocoder.mel.presets import MelPreset

FORMAT = "vocoder-corpus"
VERSION = 1
MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Utterance:
    """One clip of a preprocessed corpus."""

    id: str
    split: Split
    n_samples: int
    n_frames: int
    n_epochs: int | None = None  # None: of a corpus without epochs


@dataclass(frozen=True)
class Manifest:
    """The content of manifest.json."""

    name: str  # of the reader
    preset: MelPreset
    seed: int  # of a random split, and of the dither
    split_rule: str  # in words
    utterances: tuple[Utterance, ...]  # sorted by id
    given_mels: bool = False  # the mels are not those of the recordings
    dither: bool = False  # the audio has noise of half a step of 16 bits
    epochs: EpochSummary | None = None  # how they were found; None: the corpus has none
    shards: tuple[int, ...] | None = None  # how many clips each holds; None: a file for each array

    def arrays(self, utterance: Utterance) -> tuple[Array, ...]:
        """Return what the arrays of a clip are, in the order of a shard."""
        audio = np.dtype(np.float32 if self.dither else np.int16)
        arrays = (
            Array("audio", audio, (utterance.n_samples,)),
            Array("mel", np.dtype(np.float32), (self.preset.n_mels, utterance.n_frames)),
        )
        if utterance.n_epochs is None:
            return arrays
        return (*arrays, Array("epochs", np.dtype(np.int32), (utterance.n_epochs,)))

    def to_json(self) -> str:
        """Return the text of the file, one line for each utterance."""
        seconds = dict.fromkeys(SPLITS, 0.0)
        lines = []
        for utterance in self.utterances:
            length = utterance.n_samples / self.preset.sample_rate
            seconds[utterance.split] += length
            values = {**utterance.__dict__, "seconds": round(length, 3)}
            if utterance.n_epochs is None:
                del values["n_epochs"]
            lines.append(json.dumps(values, ensure_ascii=False))
        head = {
            "format": FORMAT,
            "version": VERSION,
            "name": self.name,
            "seed": self.seed,
            "split_rule": self.split_rule,
            "seconds": {split: round(total, 3) for split, total in seconds.items() if total},
            "fingerprint": self.preset.fingerprint,
            "preset": self.preset.to_dict(),
            **({"given_mels": True} if self.given_mels else {}),
            **({"dither": True} if self.dither else {}),
            **({} if self.epochs is None else {"epochs": vars(self.epochs)}),
            **({} if self.shards is None else {"shards": list(self.shards)}),
        }
        opening = json.dumps(head, ensure_ascii=False, indent=1).removesuffix("\n}")
        text = opening + ',\n "utterances": [\n  ' + ",\n  ".join(lines) + "\n ]\n}\n"
        # Bytes of a name that are no UTF-8 become escapes, which JSON has for them.
        return text.encode("utf-8", "backslashreplace").decode()

    @classmethod
    def from_json(cls, text: str | bytes, where: str = MANIFEST) -> Manifest:
        """Read what `to_json` wrote, checking every field.

        Args:
            text: the file's content, from whatever source.
            where: the file's name, for messages.

        Raises:
            VocoderError: the text is not a manifest that this version can read.
        """
        try:
            values = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise VocoderError(
                f"{where}: not JSON ({error}); preprocess the corpus again"
            ) from None
        if not isinstance(values, dict) or values.get("format") != FORMAT:
            raise VocoderError(f"{where}: not the manifest of a preprocessed corpus")
        if values.get("version") != VERSION:
            raise VocoderError(
                f"{where}: version {values.get('version')!r}, this vocoder reads {VERSION}; "
                "preprocess the corpus again"
            )
        preset = MelPreset.from_dict(_field(values, "preset", dict, where), f"{where}: preset")
        if values.get("fingerprint") != preset.fingerprint:
            raise VocoderError(
                f"{where}: fingerprint {values.get('fingerprint')!r} is not that of its preset, "
                f"{preset.fingerprint}; preprocess the corpus again"
            )
        items = _field(values, "utterances", list, where)
        epochs = _epoch_summary(values.get("epochs"), where)
        utterances = tuple(
            _utterance(item, preset, epochs is not None, f"{where}: utterances[{index}]")
            for index, item in enumerate(items)
        )
        ids = [utterance.id for utterance in utterances]
        if not ids or any(a >= b for a, b in itertools.pairwise(ids)):
            raise VocoderError(f"{where}: utterances must be some, different, and sorted by id")
        return cls(
            name=_field(values, "name", str, where),
            preset=preset,
            seed=_field(values, "seed", int, where),
            split_rule=_field(values, "split_rule", str, where),
            utterances=utterances,
            given_mels=values.get("given_mels") is True,
            dither=values.get("dither") is True,
            epochs=epochs,
            shards=_shards(values.get("shards"), len(utterances), where),
        )


def _shards(values: Any, n_clips: int, where: str) -> tuple[int, ...] | None:
    if values is None:
        return None
    whole = isinstance(values, list) and all(type(n) is int and n > 0 for n in values)
    if not whole or sum(values) != n_clips:
        raise VocoderError(f"{where}: shards must be how many of the {n_clips} clips each holds")
    return tuple(values)


def _field(values: dict[str, Any], key: str, kind: type, where: str) -> Any:
    value = values.get(key)
    if type(value) is not kind:
        raise VocoderError(f"{where}: {key} must be {kind.__name__}, is {str(value)[:40]!r}")
    return value


def _epoch_summary(values: Any, where: str) -> EpochSummary | None:
    if values is None:
        return None
    where = f"{where}: epochs"
    if not isinstance(values, dict):
        raise VocoderError(f"{where}: must be dict, is {str(values)[:40]!r}")
    kinds = {"f_min": float, "f_max": float, "found_by": str, "n_voiced": int, "n_bad": int}
    return EpochSummary(**{key: _field(values, key, kind, where) for key, kind in kinds.items()})


def _utterance(item: Any, preset: MelPreset, has_epochs: bool, where: str) -> Utterance:
    if not isinstance(item, dict):
        raise VocoderError(f"{where}: must be dict, is {str(item)[:40]!r}")
    identity = _field(item, "id", str, where)
    split = _field(item, "split", str, where)
    n_samples = _field(item, "n_samples", int, where)
    n_frames = _field(item, "n_frames", int, where)
    if not is_safe_id(identity):
        raise VocoderError(f"{where}: id {identity[:40]!r} is not fit for a file name")
    if split not in SPLITS:
        raise VocoderError(f"{where}: split {split[:40]!r} is none of {', '.join(SPLITS)}")
    if n_samples < 1 or n_samples % preset.hop_length:
        raise VocoderError(
            f"{where}: n_samples {n_samples} is not a multiple of the hop {preset.hop_length}"
        )
    if n_frames != preset.n_frames(n_samples):
        raise VocoderError(
            f"{where}: n_frames {n_frames}, but {n_samples} samples make "
            f"{preset.n_frames(n_samples)} with preset {preset.name}"
        )
    n_epochs = _field(item, "n_epochs", int, where) if has_epochs else None
    if n_epochs is not None and n_epochs < 0:
        raise VocoderError(f"{where}: n_epochs {n_epochs} is less than 0")
    return Utterance(identity, split, n_samples, n_frames, n_epochs)  # type: ignore[arg-type]


class Corpus:
    """A preprocessed corpus, opened for training; arrays are mapped from disk, not read."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder = folder
        self.manifest = manifest
        self._shards: Shards | None = None
        if manifest.shards is not None:
            arrays = map(manifest.arrays, manifest.utterances)
            self._shards = Shards(folder, manifest.shards, arrays)
            self._numbers = {u.id: number for number, u in enumerate(manifest.utterances)}

    @classmethod
    def open(cls, folder: str | Path) -> Corpus:
        """Open the corpus in `folder`.

        Raises:
            VocoderError: there is none, it is not finished, or its manifest is damaged.
        """
        folder = Path(folder)
        path = folder / MANIFEST
        try:
            text = path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            raise VocoderError(
                f"{folder}: no preprocessed corpus (there is no {MANIFEST}); make it, or finish "
                "what was stopped, with `vocoder preprocess`"
            ) from None
        return cls(folder, Manifest.from_json(text, str(path)))

    @property
    def name(self) -> str:
        """The name of the reader that the corpus came through."""
        return self.manifest.name

    @property
    def preset(self) -> MelPreset:
        """The recipe of the mels."""
        return self.manifest.preset

    @property
    def fingerprint(self) -> str:
        """The fingerprint of `preset`."""
        return self.preset.fingerprint

    def utterances(self, split: Split) -> list[Utterance]:
        """Return the clips of one split, sorted by id.

        Raises:
            VocoderError: `split` is none of `SPLITS`.
        """
        if split not in SPLITS:
            raise VocoderError(f"split {split!r}: unknown{suggest(split, SPLITS)}")
        return [utterance for utterance in self.manifest.utterances if utterance.split == split]

    def audio(self, utterance: Utterance) -> npt.NDArray[np.int16 | np.float32]:
        """Map the audio (N,), full scale 32768: int16, or with dither float32.

        Raises:
            VocoderError: the file is missing, damaged or of another length.
        """
        return self.array(utterance, "audio")

    def mel(self, utterance: Utterance) -> npt.NDArray[np.float32]:
        """Map the mel-spectrogram (M, F), float32.

        Raises:
            VocoderError: the file is missing, damaged or of another shape.
        """
        return self.array(utterance, "mel")

    def epochs(self, utterance: Utterance) -> npt.NDArray[np.int32]:
        """Map the samples (E,) at which the vocal folds close, rising; see `epochs.find_epochs`.

        Raises:
            VocoderError: the corpus has no epochs, or the file is missing, damaged or of another
                length.
        """
        if utterance.n_epochs is None:
            raise VocoderError(
                f"{self.folder}: holds no epochs; preprocess the corpus again, with --epochs, into "
                "another folder"
            )
        return self.array(utterance, "epochs")

    def array(self, utterance: Utterance, kind: str) -> npt.NDArray[Any]:
        """Map an array of a clip.

        Args:
            utterance: The clip in question.
            kind: One of "audio", "mel" and, of a corpus with epochs, "epochs".

        Raises:
            VocoderError: its file is missing or damaged.
        """
        arrays = self.manifest.arrays(utterance)
        if self._shards is not None:
            return self._shards.map(self._numbers[utterance.id], arrays, kind)
        array = next(array for array in arrays if array.kind == kind)
        return map_array(_PATHS[kind](self.folder, utterance.id), array.dtype, array.shape)


def audio_path(folder: Path, identity: str) -> Path:
    """Return where a corpus keeps the audio of a clip."""
    return folder / "audio" / f"{identity}.npy"


def mel_path(folder: Path, identity: str) -> Path:
    """Return where a corpus keeps the mel of a clip."""
    return folder / "mels" / f"{identity}.npy"


def epochs_path(folder: Path, identity: str) -> Path:
    """Return where a corpus keeps the epochs of a clip."""
    return folder / "epochs" / f"{identity}.npy"


_PATHS = {"audio": audio_path, "mel": mel_path, "epochs": epochs_path}


def array_folders(folder: Path) -> tuple[Path, ...]:
    """Return the folders of a corpus that hold a file for each clip."""
    return tuple(path(folder, "").parent for path in _PATHS.values())


def map_array(path: Path, dtype: Any, shape: Sequence[int]) -> npt.NDArray[Any]:
    """Map a .npy file read-only, without ever unpickling.

    Raises:
        VocoderError: it is missing, damaged, pickled, or not of this dtype and shape.
    """
    remedy = "preprocess the corpus again"
    try:
        array = load_npy(path)
    except VocoderError as error:
        raise VocoderError(f"{error}; {remedy}") from None
    if array.dtype != dtype or array.shape != tuple(shape):
        found = f"{array.dtype} {array.shape}"
        raise VocoderError(f"{path}: {found}, not {np.dtype(dtype)} {tuple(shape)}; {remedy}")
    return array
