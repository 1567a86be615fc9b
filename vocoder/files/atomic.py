"""Files that are either whole or not there."""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from vocoder.files.writing import naming


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path beside `path`; when the block ends well, it becomes `path` at once.

    A killed process leaves at most a hidden `.name.*` file, never half of `path`. The temporary
    file keeps the suffix of `path`, which some writers take the format from.

    Raises:
        OSError: the folder cannot be written to, or the disk is full; `path`, which the error
            names, is then as it was.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.stem}.{secrets.token_hex(4)}{path.suffix}")
    with naming(path, temporary):
        # Not tempfile's, whose files are private: this one gets the usual permissions of a file.
        handle = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
        mode = os.fstat(handle).st_mode
        os.close(handle)
        try:
            yield temporary
            if os.stat(temporary).st_mode != mode:  # some writers put a private file in its place
                os.chmod(temporary, stat.S_IMODE(mode))
            with open(temporary, "rb+") as file:
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            with suppress(FileNotFoundError):
                temporary.unlink()
            raise
