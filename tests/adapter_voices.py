"""Tiny voices for the adapters of pipelines, and what they should say."""

from __future__ import annotations

import dataclasses

from voices import TACOTRON2, pitched_model, voice_models

from vocoder.mel.convert import convert_mel
from vocoder.mel.presets import get_preset
from vocoder.voice.flow import FlowVocoder

HOP = 256


def voice_of(preset, **changes):
    """A tiny voice for a preset, whose 80 bands and hop of 256 all of these pipelines share."""
    preset = get_preset(preset) if isinstance(preset, str) else preset
    if changes:
        preset = dataclasses.replace(preset, name=f"{preset.name}-changed", **changes)
    return FlowVocoder(voice_models()["nanoflow"], preset, name="tiny", device="cpu")


def expected(voice, mel, origin, **options):
    return voice.synthesize(convert_mel(mel, origin, voice.preset), seed=3, **options)


PITCHED = FlowVocoder(pitched_model(), TACOTRON2, name="pitched", device="cpu")
