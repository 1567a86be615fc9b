"""One check of what a mel looks like, for all ways in."""

from __future__ import annotations

import io
import logging

import numpy as np
import pytest
import torch
from commands import assert_one_error_line
from voices import TACOTRON2

import vocoder
from vocoder.files.audio import read_wav
from vocoder.mel.appearance import looks_like
from vocoder.mel.spectrogram import MelSpectrogram

CLIP = "egs/quickstart/corpus/wavs/ES000003.flac"
Z_SCORES = "zero mean and unit variance; undo it with the statistics"


@pytest.fixture(scope="module")
def mel() -> np.ndarray:
    audio, _ = read_wav(CLIP, sample_rate=22050)
    return MelSpectrogram(TACOTRON2)(audio[:33075])


def strange(mel: np.ndarray) -> dict[str, tuple[np.ndarray, str]]:
    """Return the mel in the units of others, and what is to be said of it."""
    score = (mel - mel.mean(1, keepdims=True)) / mel.std(1, keepdims=True)
    return {
        "dB": (20 / np.log(10) * mel, "looks like dB; if only the logarithm is another, give"),
        "z-scores": (score, Z_SCORES),
        "constant": (np.full_like(mel, 0.55), "looks"),
        "ln of power": (np.maximum(2 * mel, -23.03), "looks like ln of power"),
    }


KINDS = ["dB", "z-scores", "constant", "ln of power"]


def npy(*arrays: np.ndarray) -> bytes:
    file = io.BytesIO()
    for array in arrays:
        np.save(file, array.astype(np.float32))
    return file.getvalue()


@pytest.mark.parametrize("kind", KINDS)
def test_every_way_in_tells_of_a_strange_mel(run, tmp_path, voice, mel, caplog, kind) -> None:
    bad, words = strange(mel)[kind]
    np.save(tmp_path / "a.npy", bad.astype(np.float32))
    out = ("-o", tmp_path / "a.wav", "--voice", voice)
    refused = run("synthesize", tmp_path / "a.npy", *out)
    assert_one_error_line(refused, tmp_path / "a.npy: no preset stated", words, "--preset NAME")
    # At any array of a stream; what was good before it has been spoken.
    streamed = run("synthesize", "-", "-o", "-", "--stream=pcm", "--voice", voice,
                   stdin=npy(mel, bad))  # fmt: skip
    assert streamed.code == 2
    assert words in streamed.err
    assert len(streamed.out) == 2 * 256 * mel.shape[1]
    # Stated, it is believed, but not without a word.
    caplog.clear()
    assert run("synthesize", tmp_path / "a.npy", *out, "--preset=tacotron2-22k").code == 0
    assert [words in record.message for record in caplog.records] == [True]
    assert str(tmp_path / "a.npy") in caplog.text
    caplog.clear()
    speaker = vocoder.load(voice, device="cpu")
    speaker.synthesize(bad.astype(np.float32), seed=0)
    assert words in caplog.text
    caplog.clear()
    list(speaker.stream([mel, bad.astype(np.float32)], seed=0))
    assert words in caplog.text


def test_a_good_mel_is_spoken_without_a_word(voice, mel, caplog) -> None:
    speaker = vocoder.load(voice, device="cpu")
    with caplog.at_level(logging.WARNING):
        speaker.synthesize(np.stack([mel, mel]), [len(mel[0]), 40], seed=0)
        for size in (1, 7, 32):
            list(speaker.stream([mel[:, i : i + size] for i in range(0, 64, size)], seed=0))
    assert caplog.text == ""


@pytest.mark.parametrize("size", [1, 5, 32])
def test_no_piece_of_speech_raises_an_alarm(mel, size) -> None:
    for start in range(0, mel.shape[1], size):
        piece = torch.from_numpy(mel[:, start : start + size])
        assert looks_like(piece, TACOTRON2) is None


def test_normalised_mels_are_spoken_with_their_statistics(run, tmp_path, voice, mel) -> None:
    """As the mel itself is: from files, from standard input and in a stream."""
    mean, scale = mel.mean(1), mel.std(1)
    np.savez(tmp_path / "stats.npz", mean=mean, scale=scale)
    np.save(tmp_path / "z.npy", (mel - mean[:, None]) / scale[:, None])
    np.save(tmp_path / "db.npy", (20 / np.log(10) * mel).astype(np.float32))
    np.save(tmp_path / "plain.npy", mel)
    speak = ("--voice", voice, "--seed=1")
    expected = run("synthesize", tmp_path / "plain.npy", "-o", "-", *speak).out
    for name, flags in (
        ("z.npy", ("--mel-stats", tmp_path / "stats.npz")),
        ("db.npy", ("--mel-scale=db",)),
    ):
        spoken = run("synthesize", tmp_path / name, "-o", "-", *speak, *flags)
        assert spoken.code == 0, spoken.err
        found, right = (np.frombuffer(wav[44:], "<i2") for wav in (spoken.out, expected))
        assert np.abs(found.astype(int) - right).max() <= 40  # of 32768
        content = (tmp_path / name).read_bytes()
        streamed = run("synthesize", "-", "-o", "-", "--stream=pcm", *speak, *flags, stdin=content)
        assert streamed.code == 0, streamed.err
        assert len(streamed.out) == 2 * len(right)


def test_a_conversion_counts_what_the_target_clips(run, tmp_path, mel, caplog) -> None:
    loud = mel + 4
    np.save(tmp_path / "loud.npy", loud)
    flags = ("--from=tacotron2-22k", "--to=nanoflow-db-22k")
    assert run("convert-mel", tmp_path / "loud.npy", "-o", tmp_path / "a.npz", *flags).code == 0
    back = vocoder.convert_mel(
        vocoder.convert_mel(torch.from_numpy(loud), *(flag.split("=")[1] for flag in flags)),
        "nanoflow-db-22k", "tacotron2-22k",
    )  # fmt: skip
    n_changed = int((back - torch.from_numpy(loud)).abs().gt(1e-3).sum())
    assert n_changed
    assert f"loud.npy: {n_changed} of {loud.size} values" in caplog.text
