"""A child process that speaks one utterance after the other, as a service would use it."""

from __future__ import annotations

import io
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np
import pytest
from commands import REPOSITORY
from voices import pitched_model, some_mel

import vocoder
from vocoder.errors import VocoderError
from vocoder.files.audio import float_to_int16
from vocoder.mel.presets import get_preset
from vocoder.synthesis.service import Service
from vocoder.voice.flow import FlowVocoder


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def answers(stream: BinaryIO) -> Iterator[tuple[dict[str, Any], bytes]]:
    """Yield each line with the bytes that belong to it, as any program would read them."""
    while line := stream.readline():
        facts = json.loads(line)
        content = stream.read(facts.get("n_bytes", 0))
        assert len(content) == facts.get("n_bytes", 0)
        yield facts, content


MELS = [some_mel(n, seed=n).numpy() for n in (3, 40, 1, 12)]
BAD = {
    "NaN": np.full((80, 4), np.nan, np.float32),
    "no frames": np.zeros((80, 0), np.float32),
    "other bands": np.zeros((100, 7), np.float32),
    "three axes": np.zeros((1, 80, 4), np.float32),
    "integers": np.zeros((80, 4), np.int16),
    "text": np.array("speak!"),
    "dB": np.linspace(-100, 0, 400).reshape(80, 5),
}


def test_a_service_answers_each_utterance_before_it_takes_the_next(voice) -> None:
    """Interactively: nothing is sent before the last answer has come, so nothing may be held."""
    command = [sys.executable, "-m", "vocoder", "serve", "--stdio", "--voice", str(voice)]
    child = subprocess.Popen(
        [*command, "--seed=5", "--device=cpu", "--dtype=bfloat16"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    assert child.stdin is not None
    assert child.stdout is not None
    assert child.stderr is not None
    with child:
        replies = answers(child.stdout)
        facts, _ = next(replies)
        assert (facts["protocol"], facts["n_mels"], facts["sample_rate"]) == (1, 80, 22050)
        speaker = vocoder.load(voice, device="cpu", dtype="bfloat16")
        number = 0
        for mel, bad in zip(MELS, list(BAD.values())[: len(MELS)], strict=True):
            for array in (mel, bad, mel.T.copy()):
                child.stdin.write(npy(array))
                child.stdin.flush()
                line, content = next(replies)
                assert line["utterance"] == number
                number += 1
                if array is bad:
                    assert line["n_bytes"] == 0
                    assert f"array {number - 1}: " in line["error"]
                    continue
                expected, n_clipped = float_to_int16(speaker.synthesize(mel, seed=5))
                assert np.frombuffer(content, "<i2").tolist() == expected.tolist()
                assert line["n_samples"] == len(expected) == 256 * mel.shape[1]
                assert line["n_clipped"] == n_clipped
        child.stdin.close()
        assert child.wait(60) == 0
        assert f"answered {number} arrays" in child.stderr.read().decode()


def serve(service: Service, content: bytes) -> list[tuple[dict[str, Any], bytes]]:
    out = io.BytesIO()
    try:
        service.run(io.BytesIO(content), out)
    finally:
        out.seek(0)
    return list(answers(out))


@pytest.mark.parametrize("kind", BAD)
def test_an_error_is_that_of_one_utterance(voice, kind: str) -> None:
    service = Service(vocoder.load(voice, device="cpu"), seed=1)
    good = npy(MELS[0])
    facts, first, wrong, last = serve(service, good + npy(BAD[kind]) + good)
    assert "error" not in facts[0]
    assert "array 1" in wrong[0]["error"]
    assert "\n" not in wrong[0]["error"]
    assert first[1] == last[1] != b""
    assert [line["utterance"] for line, _ in (first, wrong, last)] == [0, 1, 2]


def test_a_fault_of_ours_is_that_of_one_utterance(voice, monkeypatch, caplog) -> None:
    speaker = vocoder.load(voice, device="cpu")
    monkeypatch.setattr(speaker, "_render", None)
    _, line = serve(Service(speaker), npy(MELS[0]))
    assert line[0]["error"].startswith("array 0: TypeError: ")
    assert "Traceback" in caplog.text


@pytest.mark.parametrize(
    "junk", [b"RIFFjunkjunk", npy(MELS[0])[:-3], pickle.dumps([1, 2, 3]),
             b"\x93NUMPY\x01\x00\x04\x00{()}"],
    ids=["sound", "truncated", "pickle", "header"],
)  # fmt: skip
def test_what_is_no_array_ends_the_service_with_an_answer(voice, junk: bytes) -> None:
    """Nobody knows where the next one would begin."""
    out = io.BytesIO()
    service = Service(vocoder.load(voice, device="cpu"), seed=1)
    with pytest.raises(VocoderError, match=r"standard input: array 1: not an \.npy array"):
        service.run(io.BytesIO(npy(MELS[0]) + junk), out)
    out.seek(0)
    _, spoken, last = answers(out)
    assert spoken[0]["n_samples"] == 256 * 3
    assert "array 1: not an .npy array" in last[0]["error"]


def test_the_gain_of_a_peak_limit_is_stated(voice) -> None:
    speaker = vocoder.load(voice, device="cpu")
    audio = speaker.synthesize(MELS[1], seed=1)
    gain = 0.1 / np.abs(audio).max()
    plain = serve(Service(speaker, seed=1), npy(MELS[1]))[1]
    softer = serve(Service(speaker, seed=1, peak_limit=0.1), npy(MELS[1]))[1]
    assert plain[0]["gain_db"] == 0
    assert softer[0]["gain_db"] == pytest.approx(20 * np.log10(gain), abs=0.01)
    assert softer[0]["n_clipped"] == 0
    found = np.frombuffer(softer[1], "<i2") / 32768
    assert np.abs(found - gain * audio).max() <= 1 / 32768


def test_files_are_played_softer_with_a_word(run, tmp_path, voice) -> None:
    np.save(tmp_path / "a.npy", MELS[1])
    out = tmp_path / "a.wav"
    result = run("synthesize", tmp_path / "a.npy", "-o", out, "--voice", voice, "--seed=1",
                 "--peak-limit=0.01")  # fmt: skip
    assert result.code == 0
    assert "dB softer, for the peak limit" in result.err
    audio, _ = vocoder.read_wav(out)
    assert np.abs(audio).max() == pytest.approx(0.01, abs=1 / 32768)
    refused = run("synthesize", tmp_path / "a.npy", "-o", out, "--peak-limit=2")
    assert "peak limit 2: must lie above 0" in refused.err


def test_a_service_speaks_at_another_pitch_or_refuses_at_once(voice) -> None:
    speaker = FlowVocoder(pitched_model(), get_preset("tacotron2-22k"), device="cpu")
    _, (_, content) = serve(Service(speaker, seed=1, pitch=1.2), npy(MELS[0]))
    higher, _ = float_to_int16(speaker.synthesize(MELS[0], seed=1, pitch=1.2))
    assert content == higher.astype("<i2").tobytes()
    with pytest.raises(VocoderError, match="knows no pitch but that of the mel"):
        Service(vocoder.load(voice, device="cpu"), pitch=1.2)
