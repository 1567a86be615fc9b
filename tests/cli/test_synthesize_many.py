"""Folders, lists and corpora of mels and recordings, and where their sound goes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from commands import assert_one_error_line, left_in, n_samples
from helpers import make_corpus
from hypothesis import given
from hypothesis import strategies as st
from voices import TACOTRON2, save_mel

from vocoder.files.audio import read_wav, write_wav
from vocoder.files.folders import natural_key
from vocoder.mel.files import read_mel


def test_a_folder_keeps_its_names(run, tmp_path, voice):
    for name in ("b", "a10", "a9", "deep/er/c"):
        save_mel(tmp_path / f"in/{name}.npy")
    (tmp_path / "in/.hidden.npy").write_bytes(b"junk")
    (tmp_path / "in/notes.txt").write_text("not a list here")
    result = run("synthesize", tmp_path / "in", "-o", tmp_path / "out", "--voice", voice)
    assert result.code == 0, result.err
    assert left_in(tmp_path / "out") == ["a10.wav", "a9.wav", "b.wav", "deep/er/c.wav"]
    assert "vocoder: 4 files" in result.err


def test_a_list_is_relative_to_itself(run, tmp_path, voice):
    save_mel(tmp_path / "lists/sub/a.npy")
    save_mel(tmp_path / "b.npy")
    listing = tmp_path / "lists/some.txt"
    listing.write_text(f"sub/a.npy\n\n../b.npy\n{save_mel(tmp_path / 'c.npy')}\n")
    result = run("synthesize", listing, "-o", tmp_path / "out", "--voice", voice)
    assert result.code == 0, result.err
    assert left_in(tmp_path / "out") == ["b.wav", "c.wav", "sub/a.wav"]


def test_a_preprocessed_corpus(run, tmp_path, voice):
    make_corpus(tmp_path / "corpus", n_clips=2)
    result = run("synthesize", tmp_path / "corpus", "-o", tmp_path / "out", "--voice", voice)
    assert result.code == 0, result.err
    assert left_in(tmp_path / "out") == ["clip0.wav", "clip1.wav"]
    mel = np.load(tmp_path / "corpus/mels/clip0.npy")
    assert n_samples(tmp_path / "out/clip0.wav") == mel.shape[1] * 256


def test_copy_synthesis_resamples(run, tmp_path, voice):
    """A tone at 44.1 kHz, analysed at the voice's rate, lasts as long as before."""
    tone = 0.3 * np.sin(2 * np.pi * 440 * np.arange(22_050) / 44_100)
    write_wav(tmp_path / "tone.wav", tone, 44_100)
    out = tmp_path / "out"
    result = run("synthesize", tmp_path / "tone.wav", "-o", out, "--voice", voice)
    assert result.code == 0, result.err
    n_frames = TACOTRON2.n_frames(11_025)
    assert n_samples(out / "tone.wav") == n_frames * 256


@pytest.mark.parametrize("batch_size", [2, 3, 10])
def test_the_batch_size_changes_nothing(run, tmp_path, voice, batch_size):
    for n_frames in (7, 2, 5, 3):
        save_mel(tmp_path / f"in/{n_frames}.npy", n_frames, seed=n_frames)
    for size in (1, batch_size):
        out = tmp_path / f"out{size}"
        run(
            "synthesize", tmp_path / "in", "-o", out, "--voice", voice, "--seed=1",
            "--batch-size", size,
        )  # fmt: skip
    for one in (tmp_path / "out1").iterdir():
        alone, _ = read_wav(one)
        batched, _ = read_wav(tmp_path / f"out{batch_size}" / one.name)
        np.testing.assert_allclose(batched, alone, atol=2 / 32768)  # rounded to 16 bits


@given(st.lists(st.integers(0, 10**6), unique=True))
def test_natural_order_is_that_of_the_numbers(numbers):
    names = [f"clip{number}" for number in numbers]
    assert sorted(names, key=natural_key) == [f"clip{number}" for number in sorted(numbers)]


@given(st.lists(st.text()))
def test_any_names_can_be_ordered(names):
    sorted(names, key=natural_key)


def test_two_inputs_for_one_output_are_refused_before_any_work(run, tmp_path, voice):
    a, b = save_mel(tmp_path / "1/x.npy"), save_mel(tmp_path / "2/x.npy")
    out = tmp_path / "out"
    result = run("synthesize", a, b, "-o", out, "--voice", voice)
    assert_one_error_line(result, out / "x.wav", a, b)
    assert not out.exists()


def test_an_input_is_never_replaced(run, tmp_path):
    path = tmp_path / "a.wav"
    write_wav(path, np.zeros(3000), 22050)
    before = path.read_bytes()
    assert_one_error_line(run("synthesize", path, "-o", tmp_path), path, "would replace an input")
    assert path.read_bytes() == before


def test_one_file_holds_one_input(run, tmp_path):
    mels = [save_mel(tmp_path / f"{i}.npy") for i in range(2)]
    assert_one_error_line(run("synthesize", *mels, "-o", tmp_path / "x.wav"), "2 inputs")
    assert_one_error_line(run("synthesize", *mels, "-o", "-"), "one input")
    assert_one_error_line(run("synthesize", mels[0], "-o", tmp_path / "x.flac"), "only .wav")


def test_an_output_is_a_file_that_can_be_written_or_a_folder(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_mel(Path("a.npy"))
    speak = ("synthesize", "a.npy", "--voice", "griffin-lim", "-o")
    convert = ("convert-mel", "a.npy", "--from", "tacotron2-22k", "--to", "nanoflow-db-22k", "-o")
    assert_one_error_line(run(*speak, "b.mp3"), "only .wav files", "b.mp3/ if that is one")
    assert_one_error_line(run(*convert, "b.pt"), "only .npz, .safetensors, .npy files")
    for command, names in ((speak, [""]), (convert, ["", "-"])):
        for name in names:
            assert_one_error_line(run(*command, name), f"-o {name!r}: name a file (.", "a folder")
    assert left_in(tmp_path) == ["a.npy"]
    for command, names in (
        (speak, ["b.WAV", "v1.0/", "v1.0"]),
        (convert, ["b.NPZ", "b.NPY", "b.Safetensors"]),
    ):
        for name in names:
            result = run(*command, name)
            assert result.code == 0, result.err
    written = ["a.npy", "b.NPY", "b.NPZ", "b.Safetensors", "b.WAV", "v1.0/a.wav"]
    assert left_in(tmp_path) == written
    for name in ("b.NPY", "b.NPZ", "b.Safetensors"):
        assert read_mel(name).mel.shape == (80, 4)


def test_a_list_in_capitals(run, tmp_path, voice):
    save_mel(tmp_path / "a.npy")
    (tmp_path / "LIST.TXT").write_text("a.npy\n")
    result = run("synthesize", tmp_path / "LIST.TXT", "-o", tmp_path / "out", "--voice", voice)
    assert result.code == 0, result.err
