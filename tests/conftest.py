"""Fixtures that tests of several folders share.

One thread for each process: the tensors are tiny, and threads that wait for each other on a busy
machine cost more than they save.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is loaded, and for child processes


@pytest.fixture
def run(capfdbinary: pytest.CaptureFixture[bytes]) -> Callable[..., object]:
    """Run a command line in this process: `run("synthesize", path, "-o", out)`."""
    from commands import run_here

    return functools.partial(run_here, capfdbinary)


@pytest.fixture(scope="session")
def voice(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint of a tiny NanoFlow for the preset tacotron2-22k; only read it."""
    from voices import save_tiny_voice

    return save_tiny_voice(tmp_path_factory.mktemp("voice") / "tiny.safetensors")
