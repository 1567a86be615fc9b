"""Files of sound that are cut, or whose size was never filled in."""

from __future__ import annotations

import contextlib
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from vocoder.errors import VocoderError
from vocoder.files.audio import read_int16, read_wav, write_wav
from vocoder.files.audio_claims import read_claim

RATE = 22050


def tone(n_samples: int) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * 440 * np.arange(n_samples) / RATE)).astype(np.float32)


# Each form with a header that tells its length, and the bytes of that header.
HEADERS = {
    ("WAV", "LITTLE"): 44,
    ("WAV", "BIG"): 44,
    ("AIFF", "FILE"): 54,
    ("AIFF", "BIG"): 72,  # AIFC
    ("AU", "BIG"): 24,
    ("AU", "LITTLE"): 24,
    ("W64", "LITTLE"): 104,
    ("RF64", "LITTLE"): 104,
    ("NIST", "LITTLE"): 1024,
    ("CAF", "BIG"): 0,
    ("FLAC", "FILE"): 0,
    ("OGG", "FILE"): 0,
}


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize(("form", "endian"), HEADERS)
def test_a_file_of_any_form_that_is_cut_is_refused(
    tmp_path: Path, form: str, endian: str, channels: int
) -> None:
    path = tmp_path / "a.sound"
    audio = np.stack([tone(4001)] * channels, 1)
    soundfile.write(path, audio, RATE, format=form, endian=endian)
    assert len(read_wav(path)[0]) == 4001
    whole = path.read_bytes()
    path.write_bytes(whole[: int(0.6 * len(whole))])
    with pytest.raises(VocoderError, match=r"truncated|not readable as audio") as caught:
        read_wav(path)
    assert "\n" not in str(caught.value)
    if header := HEADERS[form, endian]:
        missing = header + 2 * 4001 * channels - len(path.read_bytes())
        assert f"truncated, {missing} bytes are missing" in str(caught.value)
        path.write_bytes(whole[: header + 2 * 4001 * channels])  # without what pads the chunk
        assert len(read_wav(path)[0]) == 4001


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("whole", [0, 0xFFFFFFFF])
@pytest.mark.parametrize("subtype", ["PCM_16", "FLOAT"])
def test_a_wav_whose_size_was_never_filled_in_is_read_to_its_end(
    tmp_path: Path, order: str, whole: int, subtype: str
) -> None:
    path = tmp_path / "a.wav"
    endian = "BIG" if order == ">" else "LITTLE"
    soundfile.write(path, tone(1000), RATE, subtype=subtype, endian=endian)
    expected = read_wav(path)[0]
    data = bytearray(path.read_bytes())
    place = data.index(b"data") + 4
    data[4:8], data[place : place + 4] = struct.pack(f"{order}I", whole), bytes(4)
    path.write_bytes(data)
    np.testing.assert_array_equal(read_wav(path)[0], expected)
    if subtype == "PCM_16":
        assert len(read_int16(path, sample_rate=RATE)[0]) == 1000


@pytest.mark.parametrize("after", [b"", b"LIST\4\0\0\0INFO", b"id3 \1\0\0\0x\0"])
def test_a_wav_without_samples_stays_one(tmp_path: Path, after: bytes) -> None:
    path = tmp_path / "a.wav"
    write_wav(path, [], RATE)
    path.write_bytes(path.read_bytes() + after)
    with pytest.raises(VocoderError, match="holds no samples"):
        read_wav(path)


@given(st.sampled_from(sorted(HEADERS)), st.data())
@settings(max_examples=40)
def test_a_damaged_header_gives_audio_or_a_vocoder_error(
    tmp_path_factory: pytest.TempPathFactory, form: tuple[str, str], data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("damage") / "a.sound"
    soundfile.write(path, tone(50), RATE, format=form[0], endian=form[1])
    content = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, min(HEADERS[form], 200) or 50))
    damage = data.draw(st.binary(min_size=1, max_size=8))
    content[place : place + len(damage)] = damage
    path.write_bytes(content)
    with open(path, "rb") as file:
        assert read_claim(file).n_missing >= 0
    with contextlib.suppress(VocoderError):
        read_wav(path)
