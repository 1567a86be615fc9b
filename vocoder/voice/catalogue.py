"""The voices that ship with the package, and which of them speaks when nobody names one.

`pretrained/voices.json` lists them:

    {
      "presets": {preset: {"voice": name, "reason": why}},
      "no_voice": why Griffin-Lim speaks mels of all other presets,
      "griffin_lim_refine": mel-consistency steps that it takes where nothing else is asked for,
      "voices": {name: {"file": …, "card": …, "refine": …, "stream_refine": …,
                        "figures": {…}}}
    }

A voice that loses to Griffin-Lim on held-out sentences is listed, but is never the default.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vocoder.config import from_dict, suggest
from vocoder.errors import VocoderError
from vocoder.mel.presets import PRESETS, TACOTRON2, MelPreset, preset_difference

GRIFFIN_LIM = "griffin-lim"
_FOLDER = Path(__file__).parent.parent / "pretrained"


@dataclass(frozen=True)
class ShippedVoice:
    """One entry of `voices.json`; the files are named relative to its folder."""

    file: str  # the checkpoint
    card: str  # what it was trained on, for how long, and its figures, in Markdown
    refine: int = 0  # mel-consistency steps that it takes where nothing else is asked for
    stream_refine: int = 0  # the same in a stream, which lags behind by what each reaches ahead
    figures: Mapping[str, Any] = field(default_factory=dict)  # measured on held-out sentences

    @property
    def path(self) -> Path:
        """The checkpoint's path."""
        return _FOLDER / self.file

    @property
    def card_path(self) -> Path:
        """The card's path."""
        return _FOLDER / self.card


@dataclass(frozen=True)
class Default:
    """A voice that speaks when nobody names one."""

    voice: str
    reason: str  # why that one, for people to read


@dataclass(frozen=True)
class Catalogue:
    """The content of `voices.json`."""

    presets: Mapping[str, Default]  # which voice speaks mels of these
    no_voice: str  # why Griffin-Lim speaks mels of all others
    griffin_lim_refine: int  # mel-consistency steps that it takes where nothing else is asked for
    voices: Mapping[str, ShippedVoice]

    @classmethod
    def read(cls) -> Catalogue:
        """Read the catalogue of the installed package."""
        content = json.loads((_FOLDER / "voices.json").read_text(encoding="utf-8"))
        voices = {
            name: from_dict(ShippedVoice, entry, f"voices.json: voices.{name}")
            for name, entry in content["voices"].items()
        }
        presets = {
            name: from_dict(Default, entry, f"voices.json: presets.{name}")
            for name, entry in content["presets"].items()
        }
        return cls(presets, content["no_voice"], content["griffin_lim_refine"], voices)


def voice_names() -> list[str]:
    """Return the names that `vocoder.load` knows beside paths."""
    return [GRIFFIN_LIM, *sorted(Catalogue.read().voices)]


def default_voice(preset: MelPreset) -> Default:
    """Return the voice that speaks mels of a preset when none is named."""
    catalogue = Catalogue.read()
    # A preset of the same name that a file states may differ from ours.
    is_ours = not preset_difference(PRESETS.get(preset.name, TACOTRON2), preset)
    own = catalogue.presets.get(preset.name) if is_ours else None
    return own or Default(GRIFFIN_LIM, catalogue.no_voice)


def shipped_or_path(path_or_name: str | os.PathLike[str]) -> Path:
    """Return the checkpoint of a shipped voice given by its name, and anything else as a path."""
    voice = Catalogue.read().voices.get(os.fspath(path_or_name))
    return Path(path_or_name) if voice is None else voice.path


def find_voice(path_or_name: str) -> Path:
    """Return the checkpoint file or run folder of a voice given by name or path.

    What could be both is a name; write ./NAME for the path.

    Raises:
        VocoderError: There is neither such a voice nor such a path.
    """
    voices = Catalogue.read().voices
    path = shipped_or_path(path_or_name)
    if not path_or_name or not path.exists():  # an empty path is the current folder
        if path_or_name == GRIFFIN_LIM:
            raise VocoderError(
                f"voice {GRIFFIN_LIM!r}: an algorithm without a checkpoint; name a trained voice "
                f"({', '.join(sorted(voices))}, a file or a run folder)"
            )
        names = voice_names()
        raise VocoderError(
            f"voice {path_or_name!r}: no such file, run folder or shipped voice "
            f"({', '.join(names)}){suggest(path_or_name, names)}"
        )
    return path
