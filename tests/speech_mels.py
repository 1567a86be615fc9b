"""Recorded speech, presets, and the mels of them that published code makes."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from helpers import golden
from torch import Tensor

from vocoder.mel.presets import PRESETS, MelPreset

TACOTRON2 = PRESETS["tacotron2-22k"]
REFERENCES, _ = golden("mel")
GOLDEN_NAMES = sorted(key[4:] for key in REFERENCES if key.startswith("mel."))
each_preset = pytest.mark.parametrize("preset", PRESETS.values(), ids=list(PRESETS))


def speech(preset: MelPreset = TACOTRON2) -> Tensor:
    """One second of speech. A wrong rate changes the voice, not the laws tested with it."""
    return REFERENCES["audio.24000" if preset.sample_rate == 24000 else "audio.22050"]


def made_up(**changes: Any) -> MelPreset:
    return dataclasses.replace(TACOTRON2, name="made-up", **changes)
