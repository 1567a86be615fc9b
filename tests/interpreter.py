"""Triton's interpreter, which runs kernels on the CPU: it must be asked for before Triton loads."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

INTERPRETING = os.environ.get("TRITON_INTERPRET") == "1"
interpreted = pytest.mark.skipif(not INTERPRETING, reason="runs in a process of its own")


def rerun(file: str, markers: str = "") -> None:
    """Run the `interpreted` tests of a file in a new process; a crash there is a failure here."""
    if INTERPRETING:  # or the caller would run in there too, and rerun, for ever
        pytest.skip("the interpreter is running")
    command = [sys.executable, "-m", "pytest", "-x", "-p", "no:cacheprovider", file]
    result = subprocess.run(
        [*command, "-m", markers],
        env=os.environ | {"TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert " passed" in result.stdout
