from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import types
from typing import Any

import numpy as np
import pytest
import torch
from helpers import golden
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vocoder.config import ConfigError
from vocoder.device import as_float64
from vocoder.errors import VocoderError
from vocoder.mel.appearance import looks_like
from vocoder.mel.compression import expand
from vocoder.mel.convert import convert_mel
from vocoder.mel.griffin_lim import GriffinLim
from vocoder.mel.presets import ALIASES, PRESETS, MelPreset, get_preset, preset_difference
from vocoder.mel.spectrogram import MelSpectrogram

TACOTRON2 = PRESETS["tacotron2-22k"]
REFERENCES, _ = golden("mel")
GOLDEN_NAMES = sorted(key[4:] for key in REFERENCES if key.startswith("mel."))
each_preset = pytest.mark.parametrize("preset", PRESETS.values(), ids=list(PRESETS))


def speech(preset: MelPreset = TACOTRON2) -> Tensor:
    """One second of speech. A wrong rate changes the voice, not the laws tested with it."""
    return REFERENCES["audio.24000" if preset.sample_rate == 24000 else "audio.22050"]


# The presets


def test_the_seven_references_are_there() -> None:
    assert len(GOLDEN_NAMES) == 7


@pytest.mark.parametrize("name", GOLDEN_NAMES)
def test_mels_of_the_published_code(name: str) -> None:
    reference = REFERENCES[f"mel.{name}"]
    preset = PRESETS[name]
    mel = MelSpectrogram(name)(speech(preset))
    assert mel.shape == reference.shape
    # Rounding in float32 is a millionth of the loudest band, on either side of the comparison, and
    # its last bits differ from one processor to another; the logarithm shows it in the quietest.
    ours, theirs = (expand(x.double(), preset) for x in (mel, reference))
    assert ((ours - theirs).abs() <= 5e-4 * theirs + 1e-6 * theirs.max()).all()


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


# The transform


@each_preset
@settings(max_examples=15, deadline=None)
@given(extra=st.integers(0, 3000))
def test_lengths_are_exact(preset: MelPreset, extra: int) -> None:
    n_samples = preset.min_samples + extra
    mel = MelSpectrogram(preset)(torch.zeros(n_samples))
    assert mel.shape == (preset.n_mels, preset.n_frames(n_samples))
    expected = {
        "center": n_samples // preset.hop_length + 1,
        "same": n_samples // preset.hop_length,
        "same-ceil": -(-n_samples // preset.hop_length),
    }
    assert mel.shape[1] == expected[preset.padding]


@each_preset
def test_audio_shorter_than_its_reflection_is_refused(preset: MelPreset) -> None:
    needed = preset.min_samples
    with pytest.raises(VocoderError, match=f"{needed - 1} samples .* at least {needed}$"):
        MelSpectrogram(preset)(torch.zeros(needed - 1))
    assert MelSpectrogram(preset)(torch.zeros(needed)).shape[1] >= 1


def test_audio_must_be_floats_of_one_or_two_dimensions() -> None:
    with pytest.raises(VocoderError, match=r"int16; scale it to floats"):
        MelSpectrogram(TACOTRON2)(torch.zeros(2000, dtype=torch.int16))
    with pytest.raises(VocoderError, match=r"shape \(1, 1, 2000\)"):
        MelSpectrogram(TACOTRON2)(torch.zeros(1, 1, 2000))


@each_preset
def test_silence_has_the_value_to_pad_with(preset: MelPreset) -> None:
    mel = MelSpectrogram(preset)(torch.zeros(preset.min_samples, dtype=torch.float64))
    assert mel.min().item() == pytest.approx(preset.silence_floor, abs=1e-9)
    # Bands differ only where |X|² itself has a floor that shows through the filters.
    if not preset.power_floor and preset.name != "fish-44k":
        assert mel.max().item() == pytest.approx(preset.silence_floor, abs=1e-9)


@pytest.mark.parametrize(
    ("name", "floor"),
    [
        ("tacotron2-22k", -11.5129),
        ("pwg-22k", -10),
        ("vocos-24k", -16.118),
        ("coqui-22k", -4),
        ("nanoflow-db-22k", 0),
    ],
)
def test_silence_floors(name: str, floor: float) -> None:
    assert PRESETS[name].silence_floor == pytest.approx(floor, abs=1e-3)


@each_preset
def test_the_formula(preset: MelPreset) -> None:
    """Compare with the definition, computed frame by frame in float64."""
    audio = speech(preset)[:6000].double()
    left, right = preset.pad_widths(len(audio))
    padded = np.pad(audio.numpy(), (left, right), mode=preset.pad_mode)
    n = np.arange(preset.win_length)
    window = np.zeros(preset.n_fft)
    start = (preset.n_fft - preset.win_length) // 2
    window[start : start + preset.win_length] = 0.5 - 0.5 * np.cos(2 * np.pi * n / len(n))
    for frame in (0, 3, preset.n_frames(len(audio)) - 1):
        begin = frame * preset.hop_length
        power = np.abs(np.fft.rfft(padded[begin : begin + preset.n_fft] * window)) ** 2
        power = np.maximum(power + preset.power_offset, preset.power_floor)
        spectrum = np.sqrt(power) if preset.spectrum == "magnitude" else power
        expected = [preset.compress(x) for x in preset.filterbank() @ spectrum]
        mel = MelSpectrogram(preset)(audio)[:, frame]
        np.testing.assert_allclose(mel.numpy(), expected, rtol=1e-9, atol=1e-9)


def test_a_batch_and_long_audio_equal_their_parts() -> None:
    transform = MelSpectrogram(TACOTRON2)
    batch = torch.stack([speech().repeat(10), speech().repeat(10).flip(0)]).double()
    mel = transform(batch)
    assert mel.shape == (2, 80, TACOTRON2.n_frames(batch.shape[1]))
    torch.testing.assert_close(mel[1], transform(batch[1]), rtol=0, atol=1e-9)
    # Frames beyond the first block, from an excerpt that starts on a frame.
    excerpt = transform(batch[0, 400 * 256 : 500 * 256])
    torch.testing.assert_close(mel[0, :, 403:497], excerpt[:, 3:97], rtol=0, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype: torch.dtype) -> None:
    audio = speech().to(dtype)
    mel = MelSpectrogram(TACOTRON2)(audio)
    assert mel.dtype == torch.float32
    torch.testing.assert_close(mel, MelSpectrogram(TACOTRON2)(audio.float()))


def test_autocast_changes_nothing() -> None:
    transform = MelSpectrogram(TACOTRON2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mel = transform(speech())
    assert torch.equal(mel, transform(speech()))


@each_preset
def test_gradients(preset: MelPreset) -> None:
    small = dataclasses.replace(
        preset, n_fft=32, win_length=24, hop_length=8, n_mels=4, f_min=0.0, floor=1e-12, clip=None
    )
    audio = torch.randn(2, 60, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert torch.autograd.gradcheck(MelSpectrogram(small), (audio.requires_grad_(),))


def test_float64_of_an_apple_gpu_is_on_the_cpu() -> None:
    """It has none, so that nothing but `cpu` may be asked of what lies there."""
    mel = torch.randn(80, 3)
    there: Any = types.SimpleNamespace(device=torch.device("mps"), cpu=lambda: mel)
    assert torch.equal(as_float64(there), mel.double())


@each_preset
def test_gradients_in_digital_silence_are_finite(preset: MelPreset) -> None:
    audio = torch.zeros(4000)
    audio[:2000] = speech()[:2000]
    audio.requires_grad_()
    MelSpectrogram(preset)(audio).sum().backward()
    assert audio.grad is not None
    assert audio.grad.isfinite().all()
    assert audio.grad.any()


def test_inference_mode_does_not_spoil_later_training() -> None:
    preset = dataclasses.replace(TACOTRON2, name="not yet used", f_max=7777.0)
    with torch.inference_mode():
        MelSpectrogram(preset)(speech())
    audio = speech().clone().requires_grad_()
    MelSpectrogram(preset)(audio).sum().backward()
    assert audio.grad is not None


def test_filters_of_two_presets_do_not_mix() -> None:
    alone = {name: MelSpectrogram(name)(speech()) for name in ("hifigan-22k", "bigvgan-22k-80band")}
    for name, mel in alone.items():
        assert torch.equal(MelSpectrogram(name)(speech()), mel)
    assert not torch.equal(*alone.values())


# Conversion


def convertible(a: MelPreset, b: MelPreset) -> bool:
    fields = {difference.split()[0] for difference in preset_difference(a, b)}
    return fields <= {"log", "floor", "scale", "shift", "clip"}


PAIRS = [
    (a, b) for a in PRESETS.values() for b in PRESETS.values() if a is not b and convertible(a, b)
]


def test_the_convertible_pairs_are_there() -> None:
    names = {(a.name, b.name) for a, b in PAIRS}
    assert ("nanoflow-db-22k", "tacotron2-22k") in names
    assert ("tacotron2-22k", "speechbrain-22k") in names
    assert ("hifigan-22k", "tacotron2-22k") not in names


def made_up(**changes: Any) -> MelPreset:
    return dataclasses.replace(TACOTRON2, name="made-up", **changes)


@pytest.mark.parametrize(
    ("source", "target"),
    [
        *PAIRS,
        (TACOTRON2, made_up(log="log10", floor=1e-10)),
        (made_up(log="log10", floor=1e-10), TACOTRON2),
        (TACOTRON2, made_up(log="none", floor=0.0)),
        (made_up(log="none", floor=0.0), TACOTRON2),
        (TACOTRON2, made_up(log="log10", scale=1.6, shift=2.4, floor=1e-8, clip=(-4.0, 4.0))),
        (made_up(log="log10", scale=20.0, shift=-20.0), TACOTRON2),
        (TACOTRON2, made_up(scale=0.5, shift=2.0)),
    ],
    ids=lambda preset: f"{preset.name}:{preset.fingerprint[:4]}",
)
def test_converted_mels_equal_computed_ones(source: MelPreset, target: MelPreset) -> None:
    audio = torch.cat([speech().double(), torch.zeros(4000, dtype=torch.float64)])
    converted = convert_mel(MelSpectrogram(source)(audio), source, target)
    expected = MelSpectrogram(target)(audio)
    # Below the higher of the two floors, and the clips, a value stands for anything beyond.
    x = MelSpectrogram(made_up(log="none", floor=0.0))(audio)
    low, high = 0.0, float("inf")
    for preset in (source, target):
        low = max(low, preset.floor)
        if preset.clip is not None:
            a, b = (10 ** ((bound - preset.shift) / preset.scale) for bound in preset.clip)
            low, high = max(low, a), min(high, b)
    known = (x > low * 1.0001) & (x < high * 0.9999)
    assert known.float().mean() > 0.5
    torch.testing.assert_close(converted[known], expected[known], rtol=1e-6, atol=1e-6)
    assert converted.min() >= target.silence_floor - 1e-6
    if source.floor <= target.floor and source.clip is None:
        torch.testing.assert_close(converted, expected, rtol=1e-6, atol=1e-6)


def test_a_round_trip_in_float32() -> None:
    mel = MelSpectrogram(TACOTRON2)(speech())
    for other in (made_up(log="log10", floor=1e-10), made_up(scale=0.125, shift=1.0)):
        back = convert_mel(convert_mel(mel, TACOTRON2, other), other, TACOTRON2)
        assert back.dtype == torch.float32
        torch.testing.assert_close(back, mel, rtol=0, atol=5e-6)


def test_batches_convert() -> None:
    mel = MelSpectrogram(TACOTRON2)(speech()[None].repeat(2, 1))
    converted = convert_mel(mel, "tacotron2-22k", "nanoflow-db-22k")
    assert converted.shape == mel.shape
    # An array gives an array, of the same values.
    as_array = convert_mel(mel.numpy(), "tacotron2-22k", "nanoflow-db-22k")
    np.testing.assert_array_equal(as_array, converted.numpy())


@pytest.mark.parametrize(
    ("source", "target", "difference"),
    [
        ("tacotron2-22k", "hifigan-22k", "padding center ≠ same"),
        ("tacotron2-22k", "pwg-22k", "f_min 0 ≠ 80, f_max 8000 ≠ 7600;"),
        ("bigvgan-22k-80band", "hifigan-22k", "f_max 11025 ≠ 8000;"),
        ("vocos-24k", "bigvgan-24k-100band", "mel_scale htk ≠ slaney"),
        ("bigvgan-44k-128band-256x", "bigvgan-44k-128band-512x", "hop_length 256 ≠ 512"),
    ],
)
def test_inexact_conversions_are_refused(source: str, target: str, difference: str) -> None:
    mel = torch.zeros(PRESETS[source].n_mels, 5)
    with pytest.raises(VocoderError) as caught:
        convert_mel(mel, source, target)
    assert f"from {source} to {target}" in str(caught.value)
    assert difference in str(caught.value)
    assert "\n" not in str(caught.value)
    assert " floor" not in str(caught.value), "what can be converted is no obstacle"


def test_conversion_checks_the_bands() -> None:
    with pytest.raises(VocoderError, match=r"shape \(100, 5\); preset tacotron2-22k has 80 bands"):
        convert_mel(torch.zeros(100, 5), TACOTRON2, "nanoflow-db-22k")


# Recognition

LISTENERS = {
    "as recorded": lambda x, noise: x,
    "full scale": lambda x, noise: x / x.abs().max(),
    "clipped": lambda x, noise: (8 * x).clamp(-1, 1),
    "quiet": lambda x, noise: x / 100,
    "nearly silent": lambda x, noise: x / 3000,
    "noisy": lambda x, noise: x + 0.1 * x.std() * noise,
    "16 bit with hiss": lambda x, noise: (x * 10000 + 3 * noise).round() / 32768,
    "mostly pause": lambda x, noise: torch.cat([torch.zeros(60000), 0.3 * x]),
    "silence": lambda x, noise: torch.zeros_like(x),
    "one click": lambda x, noise: torch.eye(1, len(x))[0],
    "least bit": lambda x, noise: noise.round() / 32768,
    "white noise": lambda x, noise: (0.3 * noise).clamp(-1, 1),
    "sine": lambda x, noise: torch.sin(0.1 * torch.arange(len(x))),
    "short": lambda x, noise: x[8000:12000],
}


@each_preset
@pytest.mark.parametrize("name", LISTENERS)
def test_no_false_alarm(preset: MelPreset, name: str) -> None:
    audio = speech(preset)
    noise = torch.randn(audio.shape, generator=torch.Generator().manual_seed(0))
    mel = MelSpectrogram(preset)(LISTENERS[name](audio, noise))
    assert looks_like(mel, preset) is None
    # A text-to-speech model smooths what it predicts, and misses the floor a little.
    smooth = torch.nn.functional.avg_pool2d(mel[None], 3, stride=1)[0]
    assert looks_like(smooth if preset.log == "none" else smooth - 0.01, preset) is None


def scaled(name: str, x: Tensor) -> Tensor:
    """Magnitudes in another unit, as other projects store them."""
    log10 = x.clamp_min(1e-5).log10()
    return {
        "ln": x.clamp_min(1e-5).log(),
        "log10": log10,
        "log10, low floor": x.clamp_min(1e-10).log10(),
        "dB": 20 * log10,
        "0..1": (0.2 * log10 + 0.9).clamp(0, 1),
        "-4..4": (1.6 * x.clamp_min(1e-8).log10() + 2.4).clamp(-4, 4),
        "linear": x,
        "z-score": (log10 - log10.mean(1, keepdim=True)) / log10.std(1, keepdim=True),
    }[name]


@pytest.mark.parametrize("gain", [1.0, 0.1])
@pytest.mark.parametrize(
    ("unit", "preset", "phrase"),
    [
        ("log10", "tacotron2-22k", "looks like log10"),
        ("log10, low floor", "tacotron2-22k", "looks like log10"),
        ("dB", "tacotron2-22k", "looks like dB"),
        ("0..1", "tacotron2-22k", "looks normalised to 0..1"),
        ("-4..4", "tacotron2-22k", "looks normalised to -4..4"),
        ("linear", "tacotron2-22k", "looks like linear magnitude"),
        ("z-score", "tacotron2-22k", "looks normalised to zero mean and unit variance"),
        ("ln", "pwg-22k", "looks like ln"),
        ("dB", "pwg-22k", "looks like dB"),
        ("0..1", "pwg-22k", "looks normalised to 0..1"),
        ("linear", "pwg-22k", "looks like linear magnitude"),
        ("z-score", "pwg-22k", "looks normalised to zero mean and unit variance"),
        ("ln", "nanoflow-db-22k", "looks like ln"),
        ("log10", "nanoflow-db-22k", "looks like log10"),
        ("linear", "nanoflow-db-22k", "looks like linear magnitude"),
        ("ln", "coqui-22k", "looks like ln"),
        ("0..1", "coqui-22k", "looks normalised to 0..1"),
        ("dB", "vocos-24k", "looks like dB"),
        ("ln", "librosa-22k", "looks like ln"),
        ("log10", "hifigan-22k", "looks like log10"),
        ("ln", "espnet-16k", "looks like ln"),
    ],
)
def test_common_confusions_are_named(unit: str, preset: str, phrase: str, gain: float) -> None:
    # With a pause, as sentences have: -60 dB of full scale is where normalised mels are clipped.
    audio = torch.cat([gain * speech(), torch.zeros(6000)])
    x = MelSpectrogram(made_up(log="none", floor=0.0))(audio)
    appearance = looks_like(scaled(unit, x), preset)
    assert appearance is not None
    assert appearance.startswith(phrase)


def test_log10_without_a_pause_is_told_by_its_contrast() -> None:
    noise = torch.randn(speech().shape, generator=torch.Generator().manual_seed(0))
    x = MelSpectrogram(made_up(log="none", floor=0.0))(speech() + 1e-3 * noise)
    assert looks_like(scaled("log10", x), "tacotron2-22k") == "looks like log10"
    assert looks_like(scaled("ln", x), "pwg-22k") == "looks like ln"


def test_values_beyond_the_preset_are_told_with_the_range() -> None:
    mel = MelSpectrogram(TACOTRON2)(speech()) + 5
    appearance = looks_like(mel, TACOTRON2)
    assert appearance is not None
    assert "beyond -11.51 to 3.2" in appearance


def test_non_finite_values_are_told() -> None:
    mel = MelSpectrogram(TACOTRON2)(speech())
    mel[3, 4] = torch.nan
    assert looks_like(mel, TACOTRON2) == "holds NaN or infinite values"


# Griffin-Lim


@each_preset
def test_griffin_lim_gives_whole_frames_that_lie_where_they_were(preset: MelPreset) -> None:
    n_samples, middle = 40 * preset.hop_length, 17.3 * preset.hop_length
    time = torch.arange(n_samples)
    noise = torch.randn(n_samples, generator=torch.Generator().manual_seed(0))
    burst = 0.1 * noise * torch.exp(-0.5 * ((time - middle) / (2 * preset.hop_length)) ** 2)
    mel = MelSpectrogram(preset)(burst)
    found = GriffinLim(preset, n_iter=30)(mel)
    assert found.shape == (mel.shape[1] * preset.hop_length,)

    def centre(audio: Tensor) -> float:
        energy = audio.square()
        return (energy * torch.arange(len(energy))).sum().item() / energy.sum().item()

    # Half a hop, the difference of "center" and "same", would be four times as much.
    assert abs(centre(found) - centre(burst)) < preset.hop_length / 8


@each_preset
def test_griffin_lim_has_the_mel_it_was_given(preset: MelPreset) -> None:
    audio = speech(preset)
    audio = audio[: len(audio) // preset.hop_length * preset.hop_length]
    ruler = dataclasses.replace(preset, log="log10", floor=1e-3, scale=20.0, shift=0.0, clip=None)
    mel = MelSpectrogram(preset)(audio)
    found = GriffinLim(preset, n_iter=8)(mel)[: len(audio)]
    distance = (MelSpectrogram(ruler)(found) - MelSpectrogram(ruler)(audio)).abs().mean()
    shifted = (MelSpectrogram(ruler)(audio.roll(256)) - MelSpectrogram(ruler)(audio)).abs().mean()
    assert distance < 3  # dB
    assert distance < shifted


def test_griffin_lim_follows_its_seed_and_takes_batches() -> None:
    invert = GriffinLim(TACOTRON2, n_iter=3)
    mel = MelSpectrogram(TACOTRON2)(speech()[:8192])
    assert torch.equal(invert(mel, seed=1), invert(mel, seed=1))
    assert not torch.equal(invert(mel, seed=1), invert(mel, seed=2))
    batch = invert(torch.stack([mel, mel]))
    assert batch.shape == (2, mel.shape[1] * 256)


def test_griffin_lim_improves_with_iterations() -> None:
    mel = MelSpectrogram(TACOTRON2)(speech()[:16384])
    distances = [
        (MelSpectrogram(TACOTRON2)(GriffinLim(TACOTRON2, n)(mel)[:16384]) - mel).abs().mean().item()
        for n in (0, 5, 40)
    ]
    assert distances == sorted(distances, reverse=True)


@pytest.mark.parametrize("n_frames", [1, 2])
@each_preset
def test_griffin_lim_of_hardly_any_frames(preset: MelPreset, n_frames: int) -> None:
    mel = torch.full((preset.n_mels, n_frames), preset.silence_floor)
    audio = GriffinLim(preset, n_iter=2)(mel)
    assert audio.shape == (n_frames * preset.hop_length,)
    assert audio.isfinite().all()


def test_griffin_lim_checks_the_shape() -> None:
    with pytest.raises(VocoderError, match=r"shape \(100, 5\)"):
        GriffinLim(TACOTRON2)(torch.zeros(100, 5))
    with pytest.raises(VocoderError, match="expected"):
        GriffinLim(TACOTRON2)(torch.zeros(1, 1, 80, 5))
