"""Files that are either whole or not there."""

from __future__ import annotations

import errno
import os
import re
import secrets
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from vocoder.errors import VocoderError
from vocoder.files.writing import naming

# A temporary name is longer than that of its file, whose own may be as long as names can be.
_LONGEST_PART = 100  # bytes of the stem, and of the suffix


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path beside `path`; when the block ends well, it becomes `path` at once.

    A killed process leaves at most a hidden `.name.*` file, never half of `path`. The temporary
    file keeps the suffix of `path`, which some writers take the format from. A file that is
    replaced hands on its permissions, and of a link it is the target that is replaced.

    Raises:
        VocoderError: `path` is a device, a pipe or a socket, which a file would take the place of.
        OSError: the folder cannot be written to, `path` is one, or the disk is full; `path`, which
            the error names, is then as it was.
    """
    path = Path(path)
    target = _target(path)
    with naming(path):
        kept = _replaced_mode(path)
    temporary = target.with_name(_temporary_name(target))
    with naming(path, temporary):
        # Not tempfile's, whose files are private: this one gets the usual permissions of a file,
        # unless it takes the place of one, which may be private.
        handle = os.open(
            temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666 if kept is None else 0o600
        )
        mode = stat.S_IMODE(os.fstat(handle).st_mode) if kept is None else kept
        os.close(handle)
        try:
            yield temporary
            with open(temporary, "rb+") as file:
                os.fsync(file.fileno())
            if stat.S_IMODE(os.stat(temporary).st_mode) != mode:  # some writers make it private
                os.chmod(temporary, mode)
            os.replace(temporary, target)
        except BaseException:
            with suppress(FileNotFoundError):
                temporary.unlink()
            raise


def _target(path: Path) -> Path:
    """Return the file that is written: of a link, what it leads to."""
    return Path(os.path.realpath(path)) if path.is_symlink() else path


def _replaced_mode(path: Path) -> int | None:
    """Return the permissions of the file at `path`; None where there is none.

    Raises:
        VocoderError: There is something that is no file.
        OSError: It is a folder, or cannot be looked at.
    """
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        raise VocoderError(
            f"{path}: is a device, pipe or socket, not a file; give the name of a file, or - for "
            "standard output where the command can write there"
        )
    return stat.S_IMODE(mode)


def _temporary_name(path: Path) -> str:
    stem, suffix = (
        part if len(os.fsencode(part)) <= _LONGEST_PART else _first_bytes(part)
        for part in (path.stem, path.suffix)
    )
    return f".{stem}.{secrets.token_hex(4)}{suffix}"


def sweep(folder: Path, suffixes: Sequence[str]) -> None:
    """Remove the temporary files that writers of `atomic_path` left when they were killed.

    Args:
        folder: The folder to look in, held so that no writer is at work in it; it may be missing.
        suffixes: The suffixes of the files that are written there, such as ".npy".
    """
    pattern = re.compile(rf"\..*\.[0-9a-f]{{8}}({'|'.join(map(re.escape, suffixes))})", re.DOTALL)
    with suppress(FileNotFoundError, NotADirectoryError):
        for entry in os.scandir(folder):
            if pattern.fullmatch(entry.name):
                os.unlink(entry.path)


def _first_bytes(name: str) -> str:
    """Return the first whole characters of a long name."""
    return os.fsencode(name)[:_LONGEST_PART].decode("utf-8", "ignore")


def check_place(path: str | os.PathLike[str]) -> None:
    """Refuse a place that a file cannot be written to, before the work for it is done.

    Raises:
        VocoderError: It is a folder or a device, or lies in a folder that does not exist.
        OSError: The folder cannot be written to, or the disk is full.
    """
    path = Path(path)
    if path.is_dir():
        raise VocoderError(f"{path}: is a folder; name a file in it")
    if not path.parent.is_dir():
        raise VocoderError(f"{path}: there is no folder {path.parent}; make it first")
    target = _target(path)
    temporary = target.with_name(_temporary_name(target))
    with naming(path, temporary):
        _replaced_mode(path)
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        temporary.unlink()
