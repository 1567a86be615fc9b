"""Writing whose errors name the file: what the operating system says of a write knows only why."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol


class _Raw(Protocol):
    """A file without a buffer, which may take less than it is given."""

    def write(self, content: memoryview, /) -> int | None: ...


@contextmanager
def naming(path: Path, temporary: Path | None = None) -> Iterator[None]:
    """Let the errors of a block that writes a file name it.

    Args:
        path: The file that is written.
        temporary: The hidden file in its place, which nobody has heard of.

    Raises:
        OSError: What the block raised. It names `path`, unless it names another file.
    """
    try:
        yield
    except OSError as error:
        unnamed = error.filename is None and error.errno is not None
        if unnamed or (temporary is not None and error.filename in (temporary, str(temporary))):
            raise OSError(error.errno, error.strerror, str(path)) from None
        raise


def append(file: _Raw, path: Path, content: bytes) -> None:
    """Write all of `content` to a file that has no buffer.

    On a disk that fills, such a file takes a part without an error; the next call has the reason. A
    buffer is no remedy: it is written again when the file is closed, and fails again.

    Args:
        file: The file, opened with `buffering=0`.
        path: Path of that file, which errors name.
        content: What to add to it.

    Raises:
        OSError: It cannot be written.
    """
    left = memoryview(content)
    with naming(path):
        while left:
            n_written = file.write(left)
            if not n_written:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            left = left[n_written:]
