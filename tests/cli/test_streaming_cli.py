"""`vocoder synthesize - -o - --stream`: arrays in, samples out, while they come."""

from __future__ import annotations

import io
import os
import select
import subprocess
import sys
import wave

import numpy as np
import pytest
import torch
from commands import REPOSITORY, assert_one_error_line
from voices import TACOTRON2, save_tiny_voice, some_mel

import vocoder
from vocoder.files.audio import float_to_int16, read_wav
from vocoder.mel.convert import convert_mel
from vocoder.mel.presets import get_preset


@pytest.fixture(scope="module")
def voice(tmp_path_factory):
    return save_tiny_voice(
        tmp_path_factory.mktemp("voice") / "causal.safetensors", "nanoflow-causal"
    )


@pytest.fixture(scope="module")
def symmetric(tmp_path_factory):
    return save_tiny_voice(tmp_path_factory.mktemp("voice") / "tiny.safetensors")


def npy(mel):
    buffer = io.BytesIO()
    np.save(buffer, mel.numpy())
    return buffer.getvalue()


def arguments(voice, form="pcm"):
    return ("synthesize", "-", "-o", "-", "--stream", form, "--voice", voice, "--seed=1")


def expected(voice, mel):
    """Return the samples of a stream as bytes."""
    parts = vocoder.load(voice).stream([mel], seed=1)
    return float_to_int16(torch.cat(list(parts)).numpy())[0].astype("<i2").tobytes()


@pytest.mark.parametrize("kind", ["voice", "symmetric"])
@pytest.mark.parametrize("size", [1, 7, 20])
def test_the_pieces_do_not_matter(run, request, kind, size):
    path = request.getfixturevalue(kind)
    mel = some_mel(20)
    content = b"".join(npy(piece) for piece in mel.split(size, dim=1))
    result = run(*arguments(path), stdin=content)
    assert result.code == 0, result.err
    assert len(result.out) == 20 * 256 * 2
    assert result.out == expected(path, mel)
    assert "0.23 s of audio" in result.err


def test_a_wav_of_unknown_length(run, voice, tmp_path):
    result = run(*arguments(voice, "wav"), stdin=npy(some_mel(5)))
    assert result.out[44:] == expected(voice, some_mel(5))
    (tmp_path / "a.wav").write_bytes(result.out)
    audio, rate = read_wav(tmp_path / "a.wav")
    assert (len(audio), rate) == (5 * 256, 22050)
    with wave.open(io.BytesIO(result.out)) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, 22050)


def test_audio_leaves_while_the_mel_still_comes(voice):
    """A real pipe that stays open: the first block must come out before the second goes in."""
    command = [sys.executable, "-m", "vocoder", *map(str, arguments(voice))]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, stdin=pipe, stdout=pipe, stderr=pipe, env=environment
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        mel = some_mel(12)
        process.stdin.write(npy(mel[:, :6]))
        process.stdin.flush()
        assert select.select([process.stdout], [], [], 120)[0]
        first = process.stdout.read(4 * 256 * 2)
        rest, errors = process.communicate(npy(mel[:, 6:]), timeout=120)
    assert first + rest == expected(voice, mel)
    assert process.returncode == 0, errors


@pytest.mark.slow
def test_a_closed_output_pipe_is_one_line(voice):
    command = [sys.executable, "-m", "vocoder", *map(str, arguments(voice))]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        command,
        input=npy(some_mel(40)) * 20,
        stdout=writer,
        stderr=subprocess.PIPE,
        env=environment,
        timeout=120,
    )
    os.close(writer)
    assert done.returncode == 2
    assert done.stderr.decode().splitlines() == [
        "vocoder: error: standard output: closed by the program that reads it"
    ]


GOOD = npy(some_mel(4))


@pytest.mark.parametrize(
    ("content", "n_frames", "words"),
    [
        (b"", 0, ["ended without a frame"]),
        (npy(torch.empty(80, 0)), 0, ["ended without a frame"]),
        (GOOD + npy(torch.zeros(100, 5)), 4, ["frame 4", "100 bands", "80 (preset tacotron2-22k)"]),
        (GOOD + npy(some_mel(4) * torch.nan), 4, ["frame 4: NaN or infinite"]),
        (GOOD + GOOD[:-1], 4, ["array 2", "truncated, 1 of 1280 bytes are missing"]),
        (GOOD + GOOD[:70], 4, ["array 2", "numpy.save"]),
        (bytes(range(100, 200)), 0, ["array 1", "numpy.save"]),
        (npy(torch.linspace(-100, 0, 800).reshape(80, 10)), 0, ["looks like dB", "--preset NAME"]),
    ],
)
def test_what_is_wrong_with_a_stream(run, voice, content, n_frames, words):
    result = run(*arguments(voice), stdin=content)
    assert len(result.out) == n_frames * 256 * 2
    result.out = b""
    assert_one_error_line(result, *words)


def test_options_that_do_not_fit(run, voice, tmp_path):
    stream = ("--stream", "pcm", "--voice", voice)
    np.save(tmp_path / "a.npy", some_mel(3).numpy())
    for places in ((tmp_path / "a.npy", "-o", "-"), ("-", "-o", tmp_path / "a.wav")):
        assert_one_error_line(run("synthesize", *places, *stream), "give - -o -")
    result = run("synthesize", "-", "-o", "-", *stream, "--batch-size=2", stdin=GOOD)
    assert_one_error_line(result, "--batch-size", "--stream, which speaks one utterance")
    result = run("synthesize", "-", "-o", "-", "--stream=pcm", "--voice=griffin-lim", stdin=GOOD)
    assert_one_error_line(result, "griffin-lim", "stream with a trained voice")


def test_a_mel_of_another_preset_is_converted_or_refused(run, voice):
    result = run(*arguments(voice), "--preset", "vocos-24k", stdin=npy(torch.zeros(100, 5)))
    assert_one_error_line(result, "vocos-24k", "tacotron2-22k")
    decibels = convert_mel(some_mel(5), TACOTRON2, get_preset("nanoflow-db-22k"))
    in_decibels = (*arguments(voice), "--preset", "nanoflow-db-22k")
    assert len(run(*in_decibels, stdin=npy(decibels)).out) == 5 * 256 * 2
    bad = decibels.clone()
    bad[7, 2] = -torch.inf  # which a conversion would turn into silence
    for piece, words in (
        (bad, "frame 7: NaN or infinite"),
        (torch.zeros(100, 5), "frame 5: mel has 100 bands"),
    ):
        result = run(*in_decibels, stdin=npy(decibels) + npy(piece))
        result.out = b""
        assert_one_error_line(result, words)


def test_info_tells_latency_and_overlap(run, voice, symmetric):
    text = run("info", symmetric).out.decode()
    assert "stream overlap     2 frames (23 ms) on each side" in text
    assert "stream latency     34 frames (395 ms) until the first audio" in text
    text = run("info", voice).out.decode()
    assert "stream overlap     none: exact; 2 frames (23 ms) of look-ahead" in text
    assert "stream latency     6 frames (70 ms) until the first audio" in text
    assert "needs the whole utterance" in run("info", "griffin-lim").out.decode()
