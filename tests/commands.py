"""Run the real command line, in this process or in one of its own."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import wave
from dataclasses import dataclass
from pathlib import Path

import pytest

from vocoder.cli import main

REPOSITORY = Path(__file__).parents[1]


@dataclass
class Result:
    code: int
    out: bytes
    err: str


def run_here(capfdbinary, *arguments, stdin=b""):
    """Run `vocoder ARGUMENTS…` in this process, which spares the import of torch."""
    capfdbinary.readouterr()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        with pytest.raises(SystemExit) as exit_:
            main([str(argument) for argument in arguments])
    out, err = capfdbinary.readouterr()
    return Result(exit_.value.code, out, err.decode())


def run_apart(*arguments, **settings):
    """Run `vocoder ARGUMENTS…` in a process of its own, with `settings` of subprocess.run."""
    command = [sys.executable, "-m", "vocoder", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    settings = {"stdout": subprocess.PIPE, "timeout": 120, **settings}
    done = subprocess.run(command, stderr=subprocess.PIPE, env=environment, **settings)
    return Result(done.returncode, done.stdout, done.stderr.decode())


def assert_one_error_line(result, *words):
    """Exit code 2 and, of all output, one line that begins as it should and holds `words`."""
    assert result.code == 2, result
    assert result.err.startswith("vocoder: error: "), result.err
    assert result.err.count("\n") == 1, result.err
    assert result.err.endswith("\n")
    for word in words:
        assert str(word) in result.err, (word, result.err)
    assert not result.out


def left_in(folder):
    """Return the names of all files below `folder`, hidden ones too."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def error_command(result):
    """Return the arguments of the command that an error tells to run."""
    return re.search(r"convert it: vocoder (.*)$", result.err.strip())[1].split()


def n_samples(path_or_bytes):
    """Return how many samples a WAV holds, which is to be mono and of 16 bits."""
    source = io.BytesIO(path_or_bytes) if isinstance(path_or_bytes, bytes) else str(path_or_bytes)
    with wave.open(source) as file:
        assert (file.getnchannels(), file.getsampwidth()) == (1, 2)
        return file.getnframes()
