"""Voices as the vocoder of other projects' pipelines, one file each; `docs/tts.md` shows them all.

No file here imports the project that it serves, and each is loaded when its name is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOME = {
    "CoquiVocoder": "coqui",
    "EspnetVocoder": "espnet",
    "HuggingFaceVocoder": "huggingface",
    "TorchaudioVocoder": "torchaudio",
    "WaveGlowVocoder": "waveglow",
}

__all__ = [*_HOME]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
