"""The inputs that a command line names."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from vocoder.errors import VocoderError
from vocoder.files.audio import AUDIO_SUFFIXES, FOREIGN_AUDIO_SUFFIXES
from vocoder.files.folders import natural_key, walk_files, warn_of_left_out
from vocoder.files.text import path_text, read_text
from vocoder.mel.files import MEL_SUFFIXES

STANDARD_STREAM = "-"


@dataclass(frozen=True)
class Source:
    """One utterance to speak.

    Attributes:
        path: A mel file or an audio file; None for a `.npy` array that came on standard input.
        name: Path of its audio below the output folder, without a suffix.
        data: what came on standard input.
    """

    path: Path | None
    name: PurePosixPath
    data: bytes = field(default=b"", repr=False)

    @property
    def is_recording(self) -> bool:
        """Whether it is audio, not a mel."""
        return self.path is not None and self.path.suffix.lower() in AUDIO_SUFFIXES

    def __str__(self) -> str:
        return "standard input" if self.path is None else str(self.path)


def standard_input() -> BinaryIO:
    """Return the stream that `-` stands for as an input.

    Raises:
        VocoderError: It is closed.
    """
    if sys.stdin is None:
        raise VocoderError("standard input: is closed; pipe a mel into it, or name a file")
    return sys.stdin.buffer


def collect_sources(inputs: Sequence[str]) -> list[Source]:
    """Return the utterances that the inputs stand for, in order.

    An input is a mel file, an audio file, a `.txt` list of such files (one a line, relative to the
    list), a folder (searched through, in natural order; of a preprocessed corpus, its mels), or "-"
    for a `.npy` array on standard input.

    Raises:
        VocoderError: An input is missing, empty or of an unknown kind.
    """
    sources: list[Source] = []
    for text in inputs:
        path = Path(text)
        if text == STANDARD_STREAM:
            if any(source.path is None for source in sources):
                raise VocoderError("-: standard input can be read only once")
            sources.append(Source(None, PurePosixPath("stdin"), standard_input().read()))
        elif path.is_dir():
            sources += _folder_sources(path)
        elif path.suffix.lower() == ".txt":
            sources += _list_sources(path)
        else:
            sources.append(Source(_known_file(path), PurePosixPath(path.stem)))
    return sources


def _folder_sources(folder: Path) -> list[Source]:
    # The audio of a preprocessed corpus is .npy too, and must not be taken for mels.
    mels = folder / "mels"
    is_corpus = (folder / "manifest.json").is_file() and mels.is_dir()
    root = mels if is_corpus else folder
    found = walk_files(root)
    usable = [path for path in found.files if path.suffix.lower() in MEL_SUFFIXES + AUDIO_SUFFIXES]
    remedy = "convert them to WAV or FLAC"
    warn_of_left_out(root, found, FOREIGN_AUDIO_SUFFIXES, "files of sound", remedy)
    if not usable:
        if (folder / "manifest.json").is_file() and (folder / "shards").is_dir():
            raise VocoderError(
                f"{folder}: its mels are in shards, for training; name the corpus that they are of"
            )
        raise VocoderError(f"{folder}: holds no mel or audio files")
    return [
        Source(root / path, PurePosixPath(path.with_suffix("").as_posix()))
        for path in sorted(usable, key=lambda path: natural_key(path.as_posix()))
    ]


def _list_sources(path: Path) -> list[Source]:
    lines = read_text(path).splitlines()
    sources = []
    for number, line in enumerate(lines, start=1):
        entry = Path(path_text(line.strip()))
        if not line.strip():
            continue
        try:
            file = _known_file(path.parent / entry)
        except VocoderError as error:
            raise VocoderError(f"{path}: line {number}: {error}") from None
        inside = not entry.is_absolute() and ".." not in entry.parts
        name = entry.with_suffix("").as_posix() if inside else entry.stem
        sources.append(Source(file, PurePosixPath(name)))
    if not sources:
        raise VocoderError(f"{path}: lists no files")
    return sources


def _known_file(path: Path) -> Path:
    if not path.is_file():
        raise VocoderError(f"{path}: no such file or folder")
    if path.suffix.lower() not in MEL_SUFFIXES + AUDIO_SUFFIXES:
        known = ", ".join((*MEL_SUFFIXES, *AUDIO_SUFFIXES, ".txt"))
        raise VocoderError(f"{path}: neither a mel nor audio; its name should end in {known}")
    return path
