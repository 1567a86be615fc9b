"""Who speaks a mel: the voice that was named, or else the default voice of the mel's preset."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from torch import Tensor

from vocoder.errors import VocoderError
from vocoder.mel.convert import convert_mel
from vocoder.mel.presets import PRESETS, TACOTRON2, MelPreset, preset_difference
from vocoder.synthesis.sources import Source
from vocoder.voice.catalogue import GRIFFIN_LIM, Default, default_voice
from vocoder.voice.load import load
from vocoder.voice.vocoder import Vocoder


class Speakers:
    """The voices of one run, each loaded when the first mel wants it.

    Args:
        name: A checkpoint file, a run folder, a shipped voice or "griffin-lim"; None lets the
            default voice of its preset speak each mel.
        settings: How to load voices: the arguments of `load`, by their names.

    Attributes:
        expected: The preset of mels of which nobody says one.
        defaults: What spoke because nobody named a voice, and why, by the preset's name.

    Raises:
        VocoderError: There is no such voice, or it cannot be loaded so.
    """

    def __init__(self, name: str | None, **settings: Any) -> None:
        self.name, self.settings = name, settings
        self.defaults: dict[str, Default] = {}
        self.expected = TACOTRON2
        self._named: Vocoder | None = None
        self._voices: dict[str, Vocoder] = {}  # by the fingerprint of their preset
        if name not in (None, GRIFFIN_LIM):
            self._named = load(name, **settings)
            self.expected = self._named.preset
            self._voices[self.expected.fingerprint] = self._named

    @property
    def voices(self) -> list[Vocoder]:
        """What has been loaded so far."""
        return list(self._voices.values())

    def __str__(self) -> str:
        """Name the voices that have been loaded so far."""
        return ", ".join(dict.fromkeys(voice.name for voice in self.voices))

    def first(self, preset: MelPreset | None) -> Vocoder:
        """Return the voice that was named, or else the default of a preset."""
        return self._named or self._load(preset or self.expected)

    def find(self, stated: MelPreset, mel: Tensor, source: Source) -> Vocoder:
        """Return the voice for a mel (M, F) of the preset `stated`.

        Raises:
            VocoderError: There is none; the message has the way out.
        """
        if mel.shape[0] != stated.n_mels:
            # With both presets the same, the voice's own words say it best.
            raise VocoderError(
                f"{source}: mel has {mel.shape[0]} bands, this voice was trained with "
                f"{stated.n_mels} (preset {stated.name})"
                if stated == self.expected
                else f"{source}: mel has {mel.shape[0]} bands, its preset {stated.name} has "
                f"{stated.n_mels}; state another with --preset NAME"
            )
        if self._named is not None and stated.fingerprint != self._named.preset.fingerprint:
            raise _misfit(mel, stated, self._named.preset, source)
        return self._load(stated)

    def _load(self, preset: MelPreset) -> Vocoder:
        if preset.fingerprint not in self._voices:
            voice = load(self.name, preset=preset, **self.settings)
            if self.name is None:
                self.defaults[preset.name] = default_voice(preset)
            self._voices[preset.fingerprint] = voice
        return self._voices[preset.fingerprint]


def _misfit(mel: Tensor, stated: MelPreset, wanted: MelPreset, source: Source) -> VocoderError:
    """Return the error for a mel that is of another preset than that of the voice."""
    difference = ", ".join(preset_difference(stated, wanted))
    if source.is_recording:
        return VocoderError(
            f"{source}: is a recording, whose mel by preset {stated.name} is not the voice's "
            f"{wanted.name} ({difference}); leave --preset out"
        )
    misfit = (
        f"{source}: made with preset {stated.name}, but the voice wants {wanted.name} "
        f"({difference})"
    )
    try:
        convert_mel(mel, stated, wanted)
    except VocoderError:
        remedy = "it cannot be converted exactly: make it anew, or use --voice griffin-lim"
        return VocoderError(f"{misfit}; {remedy}")
    path = source.path or Path("MEL.npy")
    target = _listed_name(wanted)
    if target is None:
        return VocoderError(
            f"{misfit}; `vocoder presets` does not list that one, so make the mel with it, "
            f'and state its fields as "preset" in {path.with_suffix(".json").name} beside the mel '
            "(in Python: vocoder.load(VOICE).preset.to_dict())"
        )
    command = ["vocoder", "convert-mel", str(path)]
    command += ["-o", str(path.with_name(f"{path.stem}.{target}.npz"))]
    # What is not listed is stated by the file, which convert-mel reads, too.
    origin = _listed_name(stated)
    command += [] if origin is None else ["--from", origin]
    return VocoderError(f"{misfit}; convert it: {shlex.join([*command, '--to', target])}")


def _listed_name(preset: MelPreset) -> str | None:
    """Return the name by which a command knows a preset; None where it knows none such."""
    listed = PRESETS.values()
    return next((own.name for own in listed if own.fingerprint == preset.fingerprint), None)
