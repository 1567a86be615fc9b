"""The mels that a published voice was trained on."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from vocoder.config import ConfigError, from_dict
from vocoder.errors import VocoderError
from vocoder.mel.presets import PRESETS, MelPreset, get_preset
from vocoder.models.families.voice import VoiceConfig

# Our field: its name in the section `data_config` of NVIDIA's configurations.
_FIELDS = {
    "sample_rate": "sampling_rate",
    "n_fft": "filter_length",
    "hop_length": "hop_length",
    "win_length": "win_length",
    "f_min": "mel_fmin",
    "f_max": "mel_fmax",
}


def preset_of(config: Mapping[str, Any], usual: str, model_config: VoiceConfig) -> MelPreset:
    """Return the preset that a published JSON describes, by its name where we know it.

    Args:
        config: the JSON; its section `data_config` tells what differs from the usual.
        usual: name of the preset that the code base trains on.
        model_config: Configuration of the voice.

    Raises:
        VocoderError: the section makes no sense.
    """
    preset = get_preset(usual)
    section = config.get("data_config", {})
    if not isinstance(section, Mapping):
        raise VocoderError("official config: data_config must be a mapping")
    values = preset.to_dict()
    values |= {ours: section[theirs] for ours, theirs in _FIELDS.items() if theirs in section}
    values |= {"n_mels": model_config.n_mels, "hop_length": model_config.hop_length}
    try:
        found = from_dict(MelPreset, values, "official config: data_config")
    except ConfigError as error:
        raise VocoderError(str(error)) from None
    for known in (preset, *PRESETS.values()):
        if known.fingerprint == found.fingerprint:
            return known
    return dataclasses.replace(
        found,
        name=f"imported-{found.sample_rate}-{found.n_mels}band",
        description=f"as {usual}, with the data_config of an imported voice",
    )
