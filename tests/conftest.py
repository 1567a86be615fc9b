"""Fixtures that tests of several folders share.

One thread for each process: the tensors are tiny, and threads that wait for each other on a busy
machine cost more than they save.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

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


@pytest.fixture
def forget_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Undo after the test what it registers, so that no law of another test meets it."""
    from vocoder.data.images.reader import IMAGE_SETS
    from vocoder.data.speech.reader import DATASETS
    from vocoder.registry import MODELS, Registry

    registries: list[Registry[Any]] = [MODELS, DATASETS, IMAGE_SETS]
    for registry in registries:
        registry.names()  # what the package registers is to stay
        monkeypatch.setattr(registry, "_entries", dict(registry._entries))
    monkeypatch.setattr(sys, "path", [*sys.path])
