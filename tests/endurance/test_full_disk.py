"""Disks that are full at a random write of every command that writes.

A small file system of its own is filled up to a random rest, of bytes or of files; where that may
not be mounted, the size of a file is limited instead. The short form fills it twice for each
command; docs/reliability.md has the figures of a longer one:

    VOCODER_FULL_DISKS=12 pytest -s -m slow tests/endurance/test_full_disk.py
"""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from forks import Forks
from writing_commands import NAMES, Command, writing_commands

from vocoder import checkpoint

FULL = int(os.environ.get("VOCODER_FULL_DISKS", 2))  # times that each command meets a full disk
# A comparison takes seconds to begin, which the short form leaves out.
FILLED = [name for name in NAMES if name != "compare" or FULL > 2]
BYTES, FILES = 16 << 20, 1000  # what fits onto the disk
REASONS = {
    "bytes": "No space left on device",
    "files": "No space left on device",
    "largest": "File too large",
}


class Disk:
    """A file system that can be filled, in a folder."""

    def __init__(self, folder: Path) -> None:
        self.place = folder / "place"
        self.ballast = folder / "ballast"
        self.place.mkdir()
        self.ballast.mkdir()

    def fill(self, kind: str, rest: int) -> None:
        """Leave no more than `rest` bytes, or files."""
        state = os.statvfs(self.ballast)
        if kind == "bytes":
            n_bytes = state.f_bavail * state.f_frsize - rest
            with open(self.ballast / "bytes", "wb") as file:
                if n_bytes > 0:
                    os.posix_fallocate(file.fileno(), 0, n_bytes)
        for i in range(state.f_favail - rest if kind == "files" else 0):
            (self.ballast / f"{i}").touch()

    def empty(self) -> None:
        """Give back what `fill` has taken."""
        for path in self.ballast.iterdir():
            path.unlink()


@pytest.fixture(scope="module")
def forks() -> Iterator[Forks]:
    with Forks() as forks:
        yield forks


@pytest.fixture
def kinds(tmp_path: Path) -> Iterator[tuple[str, ...]]:
    """The ways in which the folder `tmp_path / "disk"` can be filled here."""
    disk = tmp_path / "disk"
    disk.mkdir()
    settings = f"size={BYTES},nr_inodes={FILES}"
    mount = ["mount", "-t", "tmpfs", "-o", settings, "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        yield ("largest",)
        return
    try:
        yield ("bytes", "files", "largest")
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="needs limits of POSIX")
@pytest.mark.parametrize("name", FILLED)
def test_a_full_disk_is_one_line_and_loses_nothing(forks, kinds, tmp_path, voice, name) -> None:
    if name == "export":
        pytest.importorskip("onnxruntime")
    disk = Disk(tmp_path / "disk")
    command = writing_commands(tmp_path, disk.place, voice)[name]
    expected = finished(forks, command)
    chance = random.Random(name)
    most = {
        "bytes": 4096 + sum(-(-path.stat().st_size // 4096) * 4096 for path in all_files(disk)),
        "files": 1 + len(list(disk.place.rglob("*"))),
        "largest": max(path.stat().st_size for path in all_files(disk)),
    }
    command.begin()
    n_full = n_finished = 0
    while n_full < FULL:
        kind = kinds[n_full % len(kinds)]
        rest = chance.randrange(most[kind])
        before = command.contents()
        limit = rest if kind == "largest" else None
        disk.fill(kind, rest)
        run = forks.run(*command.started(), largest_file=limit)
        disk.empty()
        if run["code"] == 0:
            assert command.contents() == expected
            n_finished += 1
            command.begin()
            continue
        check_error(run, disk.place, REASONS[kind])
        check_files(command, before, expected)
        n_full += 1
        if chance.random() < 0.5 or n_full == FULL:
            assert finished(forks, command) == expected
            n_finished += 1
            command.begin()
    print(f"\n{name}: {n_full} full disks ({', '.join(kinds)}), {n_finished} finished runs")


def finished(forks: Forks, command: Command) -> dict[Path, str]:
    """Let a command go on to its end, with room, and return its results."""
    run = forks.run(*command.started())
    assert run["code"] == 0, run["err"]
    contents = command.contents()
    assert contents
    return contents


def all_files(disk: Disk) -> list[Path]:
    return [path for path in disk.place.rglob("*") if path.is_file()]


def check_error(run: dict[str, Any], place: Path, reason: str) -> None:
    """The last line of standard error is the only one that tells of an error, and names a place."""
    lines = run["err"].splitlines()
    assert run["code"] == 2, run["err"]
    assert [line for line in lines if "rror" in line] == lines[-1:], run["err"]
    assert "Traceback" not in run["err"]
    assert lines[-1].startswith(f"vocoder: error: {place}/"), run["err"]
    assert reason in lines[-1], run["err"]


def check_files(command: Command, before: dict[Path, str], expected: dict[Path, str]) -> None:
    """What lies there is old or new, nothing is half, hidden or lost."""
    after = command.contents()
    for path, digest in after.items():
        if path.name == "best.safetensors":  # of one evaluation or another
            checkpoint.load(path)
        else:
            assert digest in (before.get(path), expected.get(path)), path
    # An array that the journal does not vouch for may be made anew.
    lost = {path for path in before.keys() - after.keys() if path.parent.parent != command.out}
    assert not lost
    hidden = [path for path in command.out.parent.rglob("*") if path.name.startswith(".")]
    assert not hidden
    assert not (command.out / "run.lock").exists()
