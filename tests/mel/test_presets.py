"""Presets: their names and fingerprints, JSON, and what is refused."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from typing import Any

import pytest
from speech_mels import TACOTRON2, each_preset

from vocoder.config import ConfigError
from vocoder.errors import VocoderError
from vocoder.mel.presets import ALIASES, PRESETS, MelPreset, get_preset, preset_difference


def changed(preset: MelPreset, field: str) -> MelPreset:
    """Change one field to another legal value."""
    value = getattr(preset, field)
    literals: dict[str, dict[str, Any]] = {
        "spectrum": {"magnitude": "power", "power": "magnitude"},
        "mel_scale": {"slaney": "htk", "htk": "slaney"},
        "mel_norm": {"slaney": "none", "none": "slaney"},
        "log": {"ln": "log10", "log10": "ln"},
        "padding": {"center": "same", "same": "same-ceil", "same-ceil": "center"},
        "pad_mode": {"reflect": "constant", "constant": "reflect"},
        "clip": {None: (-1.0, 1.0)},
    }
    if field in literals:
        return dataclasses.replace(preset, **{field: literals[field][value]})
    if isinstance(value, str):
        return dataclasses.replace(preset, **{field: f"{value} indeed"})
    step = {"sample_rate": 50, "n_fft": 2, "f_max": -1.0}.get(field, -1 if value == 1024 else 1)
    if isinstance(value, float) and field not in ("f_min", "f_max"):
        step = 1e-12
    return dataclasses.replace(preset, **{field: value + step})


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(MelPreset)])
def test_the_fingerprint_tells_every_field_that_changes_values(field: str) -> None:
    other = changed(TACOTRON2, field)
    assert getattr(other, field) != getattr(TACOTRON2, field)
    same = field in ("name", "description")
    assert (other.fingerprint == TACOTRON2.fingerprint) == same
    assert (preset_difference(other, TACOTRON2) == []) == same


def test_fingerprints_do_not_depend_on_process_or_version() -> None:
    # Stored in corpora and voices: a change of this value makes all of them strangers.
    assert TACOTRON2.fingerprint == "84c3ee9c302f"
    whole = dataclasses.replace(TACOTRON2, f_max=8000, f_min=0)
    assert whole.fingerprint == TACOTRON2.fingerprint


def test_presets_share_a_fingerprint_only_where_they_are_the_same() -> None:
    twins = {"tacotron2-22k", "torchaudio-tacotron2-22k", "speechbrain-22k"}
    for a in PRESETS.values():
        for b in PRESETS.values():
            same = a is b or {a.name, b.name} <= twins
            assert (a.fingerprint == b.fingerprint) == same
            assert (preset_difference(a, b) == []) == same


def test_names_aliases_and_suggestions() -> None:
    assert all(get_preset(name).name == name for name in PRESETS)
    for alias, name in ALIASES.items():
        assert get_preset(alias) is PRESETS[name]
    with pytest.raises(
        VocoderError, match=r"'tacotron-22k': unknown; did you mean 'tacotron2-22k'"
    ):
        get_preset("tacotron-22k")
    with pytest.raises(VocoderError, match="`vocoder presets` lists them"):
        get_preset("?")


@each_preset
def test_a_preset_survives_json(preset: MelPreset) -> None:
    assert MelPreset.from_dict(json.loads(json.dumps(preset.to_dict()))) == preset


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hop_lenght": 256}, "preset.hop_lenght: unknown key; did you mean 'hop_length'"),
        ({"log": "log2"}, "preset.log: 'log2' is not one of"),
        ({"n_mels": "many"}, "preset.n_mels: expected int"),
        ({"hop_length": 0}, "1 ≤ hop_length"),
        ({"win_length": 2048}, "win_length ≤ n_fft"),
        ({"f_max": 12000.0}, "f_max ≤ sample_rate/2"),
        ({"floor": 0.0}, "floor must be positive"),
        ({"scale": 0.0}, "scale positive"),
        ({"clip": [1.0, 0.0]}, "clip must be"),
    ],
)
def test_an_illegal_preset_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        MelPreset.from_dict(TACOTRON2.to_dict() | change)


def test_a_preset_must_say_everything() -> None:
    values = TACOTRON2.to_dict()
    del values["power_offset"]
    with pytest.raises(ConfigError, match="power_offset"):
        MelPreset.from_dict(values)


def test_differences_are_readable() -> None:
    a, b = PRESETS["bigvgan-24k-100band"], PRESETS["hifigan-22k"]
    assert preset_difference(a, b) == [
        "sample_rate 24000 ≠ 22050",
        "n_mels 100 ≠ 80",
        "f_max 12000 ≠ 8000",
    ]


def test_presets_need_no_torch() -> None:
    code = "import sys, vocoder.mel.presets; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
