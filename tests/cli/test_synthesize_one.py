"""One mel, from a file of any format or a pipe, to one sound."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from commands import n_samples, run_apart
from voices import TACOTRON2, save_mel, some_mel

from vocoder.files.audio import read_wav
from vocoder.mel.files import write_mel
from vocoder.voice.load import load


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".pt", ".safetensors"])
def test_every_mel_format_says_the_same(run, tmp_path, voice, suffix):
    mel = some_mel(4)
    if suffix == ".pt":
        torch.save(mel, tmp_path / "a.pt")
    else:
        write_mel(tmp_path / f"a{suffix}", mel, TACOTRON2)
    result = run(
        "synthesize",
        tmp_path / f"a{suffix}",
        "-o",
        tmp_path / "a.wav",
        "--voice",
        voice,
        "--seed=1",
    )
    assert result.code == 0, result.err
    assert result.out == b""
    audio, rate = read_wav(tmp_path / "a.wav")
    assert rate == 22050
    expected = load(voice).synthesize(mel, seed=1).numpy().clip(-1, 32767 / 32768)
    np.testing.assert_allclose(audio, expected, atol=1 / 32768)


def test_frames_first_is_recognised(run, tmp_path, voice):
    mel = some_mel(5).numpy()
    for name, array in (("a", mel), ("b", mel.T)):
        np.save(tmp_path / f"{name}.npy", array)
    inputs = (tmp_path / "a.npy", tmp_path / "b.npy")
    assert run("synthesize", *inputs, "-o", tmp_path, "--voice", voice, "--seed=1").code == 0
    assert (tmp_path / "a.wav").read_bytes() == (tmp_path / "b.wav").read_bytes()


def test_standard_input_to_standard_output(run, tmp_path, voice):
    content = save_mel(tmp_path / "a.npy").read_bytes()
    result = run("synthesize", "-", "-o", "-", "--voice", voice, "--seed=1", stdin=content)
    assert result.code == 0, result.err
    assert n_samples(result.out) == 4 * 256
    run("synthesize", tmp_path / "a.npy", "-o", tmp_path, "--voice", voice, "--seed=1")
    assert result.out == (tmp_path / "a.wav").read_bytes()


def test_standard_output_through_a_real_pipe(tmp_path, voice):
    content = save_mel(tmp_path / "a.npy").read_bytes()
    result = run_apart("synthesize", "-", "-o", "-", "--voice", voice, input=content)
    assert n_samples(result.out) == 4 * 256
    assert "× real time" in result.err


def test_the_closing_line(run, tmp_path, voice):
    save_mel(tmp_path / "a.npy", 43)
    result = run("synthesize", tmp_path / "a.npy", "-o", tmp_path / "out", "--voice", voice)
    line = re.fullmatch(
        r"vocoder: 1 file, 0\.50 s of audio in (\S+) s: (\S+) × real time \(\S+tiny.*, cpu\)\n",
        result.err.splitlines(keepends=True)[-1],
    )
    assert line
    assert float(line[2]) > 0


def test_clipped_samples_are_counted(run, tmp_path, voice):
    save_mel(tmp_path / "a.npy")
    where = ("-o", tmp_path / "a.wav", "--voice", voice, "--seed=1")
    result = run("synthesize", tmp_path / "a.npy", *where, "--temperature=5")
    assert re.search(r"a\.wav: \d+ samples were clipped", result.err)
    assert "clipped" not in run("synthesize", tmp_path / "a.npy", *where, "--temperature=0").err
