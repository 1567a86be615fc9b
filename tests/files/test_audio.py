from __future__ import annotations

import io
import logging
import struct
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from vocoder.errors import VocoderError
from vocoder.files import audio as audio_module
from vocoder.files.audio import (
    check_peak_limit,
    float_to_int16,
    limit_peak,
    read_wav,
    write_wav,
)

RATE = 22050


def tone(n_samples: int = RATE, rate: int = RATE, frequency: float = 440.0) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * frequency * np.arange(n_samples) / rate)).astype(np.float32)


@pytest.mark.parametrize(
    ("suffix", "subtype", "tolerance"),
    [
        # Half a quantisation step of the format; OGG is lossy.
        ("wav", "PCM_U8", 1 / 128),
        ("wav", "PCM_16", 1 / 32768),
        ("wav", "PCM_24", 1 / 2**23),
        ("wav", "PCM_32", 1e-7),
        ("wav", "FLOAT", 0),
        ("wav", "DOUBLE", 0),
        ("flac", "PCM_16", 1 / 32768),
        ("flac", "PCM_24", 1 / 2**23),
        ("ogg", "VORBIS", 0.03),
    ],
)
def test_formats(tmp_path: Path, suffix: str, subtype: str, tolerance: float) -> None:
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, tone(), RATE, subtype=subtype)
    audio, rate = read_wav(path)
    assert rate == RATE
    assert audio.dtype == np.float32
    assert audio.shape == (RATE,)
    assert audio.flags.c_contiguous
    assert np.abs(audio - tone()).max() <= tolerance + 1e-9


def test_channels_are_averaged(tmp_path: Path) -> None:
    left, right = tone(), tone(frequency=1000)
    soundfile.write(tmp_path / "a.wav", np.stack([left, right], 1), RATE, subtype="FLOAT")
    audio, _ = read_wav(tmp_path / "a.wav")
    np.testing.assert_allclose(audio, (left + right) / 2, atol=1e-7)


def test_resampling_is_said_once_and_keeps_the_tone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    audio_module._say_resampling.cache_clear()
    for name in ("a", "b"):
        soundfile.write(tmp_path / f"{name}.wav", tone(16000, 16000), 16000, subtype="FLOAT")
    with caplog.at_level(logging.INFO, logger="vocoder"):
        audio, rate = read_wav(tmp_path / "a.wav", sample_rate=RATE)
        read_wav(tmp_path / "b.wav", sample_rate=RATE)
    assert [record.message for record in caplog.records] == [
        "resampling audio from 16000 Hz to 22050 Hz"
    ]
    assert (rate, len(audio)) == (RATE, RATE)
    # The ends know only half of their neighbourhood.
    np.testing.assert_allclose(audio[500:-500], tone()[500:-500], atol=1e-3)


def test_resampling_can_be_refused(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", tone(16000, 16000), 16000)
    with pytest.raises(VocoderError, match=r"a\.wav: has 16000 Hz, 22050 Hz are wanted"):
        read_wav(tmp_path / "a.wav", sample_rate=RATE, resample=False)
    assert read_wav(tmp_path / "a.wav", sample_rate=16000, resample=False)[1] == 16000


def cut(path: Path, share: float) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])


def bad_file(path: Path, kind: str) -> Path:
    path = path / f"bad-{kind}.{'flac' if kind == 'flac' else 'wav'}"
    if kind in ("nan", "infinite"):
        audio = tone()
        audio[100] = np.nan if kind == "nan" else np.inf
        soundfile.write(path, audio, RATE, subtype="FLOAT")
    elif kind == "zero-length":
        path.touch()
    elif kind == "no samples":
        soundfile.write(path, tone(0), RATE)
    elif kind == "text":
        path.write_text("This is not sound.\n" * 100)
    elif kind == "folder":
        path.mkdir()
    elif kind in ("truncated", "flac", "header"):
        soundfile.write(path, tone(), RATE, subtype="PCM_16")
        cut(path, 20 / 44144 if kind == "header" else 0.6)
    return path


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("nan", "NaN"),
        ("infinite", "infinite"),
        ("zero-length", "not readable as audio"),
        ("no samples", "holds no samples"),
        ("text", "not readable as audio"),
        ("folder", "cannot be opened"),
        ("missing", "cannot be opened"),
        ("truncated", "truncated"),
        ("flac", "truncated|not readable"),
        ("header", "not readable|truncated|no samples"),
    ],
)
def test_a_bad_file_is_named_in_one_line(tmp_path: Path, kind: str, reason: str) -> None:
    path = bad_file(tmp_path, kind)
    with pytest.raises(VocoderError, match=reason) as caught:
        read_wav(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
    assert ";" in str(caught.value), "the remedy follows a semicolon"


def test_a_truncated_wav_tells_what_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    write_wav(path, tone(1000), RATE)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(VocoderError, match="10 bytes are missing"):
        read_wav(path)


@pytest.mark.parametrize("size", [0x7FFFF000, 0xFFFFFFFF])
def test_a_wav_written_to_a_pipe_promises_no_size(tmp_path: Path, size: int) -> None:
    path = tmp_path / "a.wav"
    write_wav(path, tone(1000), RATE)
    data = bytearray(path.read_bytes())
    data[40:44] = struct.pack("<I", size)
    path.write_bytes(data)
    assert len(read_wav(path)[0]) == 1000


@given(st.binary(max_size=200), st.integers(0, 100))
def test_any_bytes_give_audio_or_a_vocoder_error(
    tmp_path_factory: pytest.TempPathFactory, noise: bytes, position: int
) -> None:
    buffer = io.BytesIO()
    write_wav(buffer, tone(50), RATE)
    data = buffer.getvalue()
    path = tmp_path_factory.mktemp("fuzz") / "a.wav"
    path.write_bytes(data[:position] + noise + data[position + len(noise) // 2 :])
    try:
        audio, rate = read_wav(path)
    except VocoderError as error:
        assert "\n" not in str(error)
    else:
        assert rate > 0
        assert np.isfinite(audio).all()


def test_int16_clips_rounds_and_never_wraps() -> None:
    samples, clipped = float_to_int16([0.0, 1.0, -1.0, -1.2, 1.5, 0.4 / 32768, 0.6 / 32768])
    assert samples.dtype == np.int16
    assert samples.tolist() == [0, 32767, -32768, -32768, 32767, 0, 1]
    assert clipped == 2


@given(st.lists(st.integers(-32768, 32767), min_size=1, max_size=50))
def test_int16_round_trip(values: list[int]) -> None:
    samples, clipped = float_to_int16(np.array(values, np.float32) / 32768)
    assert samples.tolist() == values
    assert clipped == 0


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=50))
def test_int16_follows_its_input(values: list[float]) -> None:
    samples, clipped = float_to_int16(np.array(values, np.float64))
    bounded = np.clip(np.array(values), -1, 32767 / 32768)
    assert np.abs(samples / 32768 - bounded).max(initial=0) <= 0.5 / 32768 + 1e-12
    assert clipped == sum(abs(value) > 1 for value in values)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_non_finite_audio_is_refused_and_nothing_written(tmp_path: Path, value: float) -> None:
    with pytest.raises(VocoderError, match="1 of 3 samples are NaN or infinite"):
        write_wav(tmp_path / "a.wav", [0.0, value, 0.0], RATE)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "audio",
    [np.array([0, 300], np.int16), np.array([1j]), np.array(["0.5"]), np.array([True]), [0, 1]],
    ids=["int16", "complex", "text", "bool", "int"],
)
def test_only_floats_are_written(tmp_path: Path, audio: Any) -> None:
    """Integers would be a square wave of full scale."""
    for convert in (float_to_int16, lambda audio: write_wav(tmp_path / "a.wav", audio, 22050)):
        with pytest.raises(VocoderError, match="give floats of full scale 1"):
            convert(audio)
    assert not list(tmp_path.iterdir())


def test_written_wav(tmp_path: Path) -> None:
    audio = tone(1001)
    audio[:3] = [1.5, -1.5, 0.25]
    assert write_wav(tmp_path / "a.wav", audio, RATE) == 2
    with wave.open(str(tmp_path / "a.wav")) as file:
        assert file.getparams()[:4] == (1, 2, RATE, 1001)
    back, rate = read_wav(tmp_path / "a.wav")
    assert rate == RATE
    assert np.abs(back - np.clip(audio, -1, 1)).max() <= 1 / 32768


def test_an_unseekable_file_object_will_do(tmp_path: Path) -> None:
    class Pipe(io.BytesIO):
        def seek(self, *_: int) -> int:
            raise io.UnsupportedOperation("seek")

        def seekable(self) -> bool:
            return False

    pipe = Pipe()
    write_wav(pipe, tone(100), RATE)
    write_wav(tmp_path / "a.wav", tone(100), RATE)
    assert pipe.getvalue() == (tmp_path / "a.wav").read_bytes()


def test_only_one_channel_is_written() -> None:
    with pytest.raises(VocoderError, match=r"shape \(2, 100\)"):
        write_wav(io.BytesIO(), np.zeros((2, 100)), RATE)


# ---- every format that libsndfile knows ----


def writable_formats() -> list[tuple[str, str]]:
    return [
        (form, subtype)
        for form in soundfile.available_formats()
        for subtype in soundfile.available_subtypes(form)
        if form != "RAW" and soundfile.check_format(form, subtype)
    ]


@pytest.mark.parametrize(("form", "subtype"), writable_formats())
def test_every_format_is_read_or_named(tmp_path: Path, form: str, subtype: str) -> None:
    """Telephony's codes among them, in which libsndfile cannot seek."""
    path = tmp_path / "a.sound"
    try:
        soundfile.write(path, tone(8000, 8000), 8000, format=form, subtype=subtype)
    except (soundfile.SoundFileError, ValueError):
        pytest.skip("libsndfile does not write it")
    try:
        audio, rate = read_wav(path)
    except VocoderError as error:
        assert str(error).startswith(f"{path}: not readable as audio (")
        assert "\n" not in str(error)
        assert "DWVW" in subtype, "only these, of which libsndfile loses the place"
    else:
        assert rate in (8000, 44100)  # XI holds no rate
        assert 8000 <= len(audio) <= 8000 + 512  # some codes fill up their last block


@pytest.mark.parametrize("suffix", audio_module.AUDIO_SUFFIXES)
def test_the_suffixes_that_are_taken_for_sound_are_read(tmp_path: Path, suffix: str) -> None:
    forms = {
        **{".wave": "WAV", ".oga": "OGG", ".opus": "OGG", ".aif": "AIFF", ".aifc": "AIFF"},
        **{".snd": "AU", ".sph": "NIST"},
    }
    path = tmp_path / f"a{suffix}"
    form = forms.get(suffix, suffix[1:].upper())
    subtype = {".opus": "OPUS"}.get(suffix)
    soundfile.write(path, tone(24000, 24000), 24000, format=form, subtype=subtype)
    audio, rate = read_wav(path)
    assert (len(audio), rate) == (24000, 24000)


def test_sizes_are_checked_before_memory_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.flac"
    soundfile.write(path, tone(), RATE, subtype="PCM_16")
    content = bytearray(path.read_bytes())
    # The number of samples is 36 bits of STREAMINFO, from the middle of byte 21 on.
    content[21] |= 0x02
    path.write_bytes(content)
    assert soundfile.info(path).frames > 2**33
    monkeypatch.setattr(soundfile.SoundFile, "read", None)  # nothing is asked for
    with pytest.raises(VocoderError, match=r"a\.flac: not readable as audio \(it claims 8589"):
        read_wav(path)


@pytest.mark.parametrize("rate", [1, 999, 2**31 - 1])
def test_a_rate_that_no_recorder_has_is_refused(tmp_path: Path, rate: int) -> None:
    """From 1 Hz, resampling would make gigabytes of a small file."""
    path = tmp_path / "a.wav"
    write_wav(path, tone(1000), RATE)
    content = bytearray(path.read_bytes())
    content[24:28] = struct.pack("<I", rate)
    path.write_bytes(content)
    with pytest.raises(VocoderError, match=rf"a\.wav: .*states a sample rate of {rate} Hz"):
        read_wav(path, sample_rate=RATE)


@pytest.mark.parametrize(
    "error", [MemoryError(), ValueError(""), IndexError(), OSError(5, "Input/output error")]
)
def test_whatever_a_decoder_raises_names_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    path = tmp_path / "a.wav"
    write_wav(path, tone(1000), RATE)

    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(soundfile.SoundFile, "read", fail)
    with pytest.raises(VocoderError, match=r"a\.wav: not readable as audio \(.+\); convert it"):
        read_wav(path)


# ---- sound that cannot be meant ----


@pytest.mark.parametrize("scale", [32768, 8388608, 2**31])
@pytest.mark.parametrize("subtype", ["FLOAT", "DOUBLE"])
def test_floats_in_the_range_of_integers_are_refused(
    tmp_path: Path, scale: float, subtype: str
) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, tone() * scale, RATE, subtype=subtype)
    with pytest.raises(VocoderError, match=r"a\.wav: holds floats up to \d+, where full"):
        read_wav(path)
    soundfile.write(path, tone() * 8, RATE, subtype=subtype)
    assert np.abs(read_wav(path)[0]).max() == pytest.approx(4, abs=0.01)  # a loud master


@given(st.floats(-1, 1), st.integers(2, 4))
def test_channels_are_mixed_unless_they_cancel(
    tmp_path_factory: pytest.TempPathFactory, gain: float, n_channels: int
) -> None:
    """One channel and its copies times a gain: what is left of the sound decides."""
    path = tmp_path_factory.mktemp("mix") / "a.wav"
    gains = np.array([1.0] + [gain] * (n_channels - 1))
    soundfile.write(path, tone()[:, None] * gains, RATE, subtype="FLOAT")
    left = abs(gains.mean()) / np.sqrt(np.square(gains).mean())
    if left < 0.049:
        with pytest.raises(VocoderError, match=r"a\.wav: its channels cancel each other"):
            read_wav(path)
    elif left > 0.051:
        np.testing.assert_allclose(read_wav(path)[0], tone() * gains.mean(), atol=1e-6)


def test_silence_in_all_channels_is_silence(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros((1000, 2)), RATE)
    assert not read_wav(tmp_path / "a.wav")[0].any()


@given(
    st.lists(st.floats(-8, 8, width=32), max_size=50),
    st.floats(0.0625, 1, width=32),
)
def test_a_peak_limit_is_one_gain_for_all_samples(values: list[float], limit: float) -> None:
    audio = np.array(values, np.float32)
    softer, gain = limit_peak(audio, limit)
    assert 0 < gain <= 1
    np.testing.assert_allclose(softer, audio * np.float32(gain), atol=1e-7)
    assert np.abs(softer).max(initial=0) <= limit * (1 + 1e-6)
    assert (gain == 1) == (np.abs(audio).max(initial=0) <= limit)
    assert softer.dtype == np.float32


@pytest.mark.parametrize("limit", [0, -1, 1.01, np.nan, np.inf])
def test_a_peak_limit_lies_within_full_scale(limit: float) -> None:
    with pytest.raises(VocoderError, match="peak limit"):
        check_peak_limit(limit)
