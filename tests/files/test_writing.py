from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from vocoder.files.writing import append, naming

FULL = Path("/dev/full")


class Slow:
    """A file that takes three bytes at a time, and is full after `room`."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.content = b""

    def write(self, content: memoryview) -> int:
        if len(self.content) >= self.room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        taken = bytes(content[:3])
        self.content += taken
        return len(taken)


def test_all_is_written_or_the_file_is_named(tmp_path: Path) -> None:
    whole = Slow(room=10)
    append(whole, tmp_path / "log", b"0123456789")
    assert whole.content == b"0123456789"
    with pytest.raises(OSError, match=r"No space left on device: '.*/log'"):
        append(Slow(room=9), tmp_path / "log", b"0123456789")


@pytest.mark.skipif(not FULL.exists(), reason="needs /dev/full")
def test_a_full_device_is_named() -> None:
    with (
        open(FULL, "ab", buffering=0) as file,
        pytest.raises(OSError, match=r"No space left on device: '/dev/full'"),
    ):
        append(file, FULL, b"x")


def test_an_error_that_names_another_file_keeps_its_name(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught, naming(tmp_path / "out"):
        (tmp_path / "in").read_bytes()
    assert caught.value.filename == str(tmp_path / "in")
    library = OSError("libsound.so: cannot open shared object file")  # without a number
    with pytest.raises(OSError, match=r"^libsound\.so") as caught_too, naming(tmp_path / "out"):
        raise library
    assert caught_too.value is library
