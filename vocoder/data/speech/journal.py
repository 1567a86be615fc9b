"""What the files in a corpus folder were made from, so that a killed run can continue.

Every file of a clip appears whole; then a line of journal.jsonl says what it was made from.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vocoder.data.speech.corpus import MANIFEST, array_folders
from vocoder.errors import VocoderError
from vocoder.files import atomic
from vocoder.files.atomic import atomic_path
from vocoder.files.writing import append

JOURNAL = "journal.jsonl"


@dataclass(frozen=True)
class Record:
    """A line of the journal: what the files of a clip were made from."""

    id: str
    file: str  # within the source
    size: int  # its bytes
    mtime_ns: int  # its time of change
    n_samples: int  # of the stored audio
    n_clipped: int  # samples beyond full scale
    mel: Sequence[str | int] = ()  # of a given mel: its file, bytes and time of change
    n_epochs: int = 0
    n_voiced: int = 0  # frames that the pitch tracker calls voiced, if epochs were asked for
    n_bad: int = 0  # those of them with which the epochs do not agree
    n_silent: int = 0  # samples of digital silence, in runs


class Journal:
    """What the files in a corpus folder were made from: the settings, then a line for each clip."""

    def __init__(self, path: Path, settings: Mapping[str, Any]) -> None:
        self.path = path
        self.settings = settings
        self.records: dict[str, Record] = {}

    @classmethod
    def open(cls, out: Path, settings: Mapping[str, Any]) -> Journal:
        """Read the journal of the folder `out`, or begin one.

        Raises:
            VocoderError: the folder is not one of ours, or was made with other settings.
        """
        journal = cls(out / JOURNAL, settings)
        try:
            content = journal.path.read_bytes()
        except FileNotFoundError:
            names = (*(folder.name for folder in array_folders(out)), MANIFEST)
            if foreign := [name for name in names if (out / name).exists()]:
                raise VocoderError(
                    f"{out}: holds {foreign[0]} but no {JOURNAL}, so it cannot be continued; "
                    "give another folder"
                ) from None
            journal._rewrite(())
        else:
            journal._read(content)
        for folder in array_folders(out):
            if folder.name != "epochs" or settings.get("epochs"):
                folder.mkdir(exist_ok=True)
        sweep(out)
        return journal

    def _read(self, content: bytes) -> None:
        # A kill may tear the last line, and a failing disk any: the clip of such a line is made
        # again. Without the first line nothing is known.
        head, *lines = content.split(b"\n")
        try:
            before = json.loads(head)
            before["source"]
        except (ValueError, KeyError, TypeError, RecursionError):
            raise VocoderError(f"{self.path}: damaged; give another folder, or remove it") from None
        differences = [
            f"{name} {before.get(name)!r}, now {value!r}"
            for name, value in self.settings.items()
            if before.get(name) != value
        ]
        if differences:
            raise VocoderError(
                f"{self.path.parent}: was made with {'; '.join(differences)}; give the same again, "
                "another folder, or remove this one"
            )
        for line in lines:
            with contextlib.suppress(ValueError, TypeError, RecursionError):
                record = Record(**json.loads(line))
                self.records[record.id] = record

    @contextlib.contextmanager
    def appending(self, records: Iterable[Record]) -> Iterator[Callable[[Record], Any]]:
        """Keep only `records`, and give a function that adds one to the file at once."""
        self._rewrite(records)
        with open(self.path, "ab", buffering=0) as file:
            yield lambda record: append(file, self.path, _line(vars(record)))

    def _rewrite(self, records: Iterable[Record]) -> None:
        lines = [_line(self.settings), *(_line(vars(record)) for record in records)]
        content = b"".join(lines)
        if not self.path.exists() or self.path.read_bytes() != content:
            with atomic_path(self.path) as temporary:
                temporary.write_bytes(content)

    def close(self, records: Iterable[Record]) -> None:
        """Write the finished journal, sorted by id."""
        self._rewrite(sorted(records, key=lambda record: record.id))


def _line(values: Mapping[str, Any]) -> bytes:
    # ASCII, since a file name may hold bytes that are no UTF-8.
    return json.dumps(values).encode() + b"\n"


def sweep(out: Path) -> None:
    """Remove the temporary files of a run that was killed."""
    for folder in (out, *array_folders(out)):
        atomic.sweep(folder, (".npy", ".json", ".jsonl"))


@contextlib.contextmanager
def only_run(out: Path) -> Iterator[None]:
    """Make the folder `out` and hold it, so that no second run works in it."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise VocoderError(f"{out}: not a folder; give another one") from None
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    handle = os.open(out, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            # Some network file systems have no locks.
            if error.errno in (errno.EAGAIN, errno.EACCES):
                raise VocoderError(f"{out}: another run is at work here; wait for it") from None
        yield
    finally:
        os.close(handle)
