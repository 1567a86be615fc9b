"""Mels of a TTS model beside the recordings: paired by name, of a length, and of the preset."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from commands import assert_one_error_line, run_here
from helpers import tiny_recipe

from vocoder.data.speech.corpus import Corpus
from vocoder.data.speech.given_mels import pair_mels, read_given_mel
from vocoder.data.speech.maker import Failure, Maker
from vocoder.data.speech.preprocess import PreprocessReport, preprocess
from vocoder.data.speech.reader import Clip, Listing
from vocoder.errors import VocoderError
from vocoder.mel.convert import convert_mel
from vocoder.mel.files import write_mel
from vocoder.mel.presets import get_preset
from vocoder.training.trainer import Trainer

PRESET = get_preset("tacotron2-22k")
N_FRAMES = 40
NAMES = [f"clip{number}" for number in range(4)]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Recordings of noise, 39 hops and a little long, which makes 40 frames."""
    folder = tmp_path / "wavs"
    folder.mkdir()
    for number, name in enumerate(NAMES):
        noise = np.random.default_rng(number).standard_normal((N_FRAMES - 1) * 256 + 100)
        soundfile.write(folder / f"{name}.wav", 0.1 * noise, 22050)
    return folder


@pytest.fixture
def mels(tmp_path: Path) -> Path:
    folder = tmp_path / "mels"
    folder.mkdir()
    for name in NAMES:
        np.save(folder / f"{name}.npy", given(name))
    return folder


def given(name: str, n_frames: int = N_FRAMES) -> np.ndarray:
    """Return a speech-like mel that no recording has."""
    random = np.random.default_rng(list(name.encode()))
    loudness = np.repeat(random.uniform(-7, -1, n_frames // 8 + 1), 8)[:n_frames]
    mel = loudness - np.linspace(0, 4, PRESET.n_mels)[:, None]
    return (mel + 0.3 * random.standard_normal(mel.shape)).astype(np.float32)


def run(source: Path, mels: Path, out: Path, **options: Any) -> PreprocessReport:
    return preprocess("wavs", source, out, mels=mels, n_jobs=1, **options)


def test_the_given_mels_are_what_training_sees(source: Path, mels: Path, tmp_path: Path) -> None:
    report = run(source, mels, tmp_path / "out")
    assert "given mels" in str(report)
    corpus = Corpus.open(tmp_path / "out")
    assert corpus.manifest.given_mels
    assert len(report.manifest.utterances) == 4
    for utterance in report.manifest.utterances:
        assert utterance.n_frames == N_FRAMES
        np.testing.assert_array_equal(corpus.mel(utterance), given(utterance.id))
    last = Trainer(tiny_recipe(), tmp_path / "out", tmp_path / "run", device="cpu").fit()
    assert last.exists()


def test_the_recordings_own_mels_give_the_same_corpus(source: Path, tmp_path: Path) -> None:
    """Which is how a corpus comes back that was made without."""
    preprocess("wavs", source, tmp_path / "own", n_jobs=1)
    run(source, tmp_path / "own" / "mels", tmp_path / "out")
    own, corpus = Corpus.open(tmp_path / "own"), Corpus.open(tmp_path / "out")
    assert own.manifest.utterances == corpus.manifest.utterances
    assert not own.manifest.given_mels
    for utterance in own.manifest.utterances:
        np.testing.assert_array_equal(own.mel(utterance), corpus.mel(utterance))
        np.testing.assert_array_equal(own.audio(utterance), corpus.audio(utterance))


@pytest.mark.parametrize("difference", [-2, -1, 1, 2])
def test_the_longer_of_mel_and_recording_is_cut(
    source: Path, mels: Path, tmp_path: Path, difference: int
) -> None:
    mel = given("clip0", N_FRAMES + difference)
    np.save(mels / "clip0.npy", mel)
    run(source, mels, tmp_path / "out")
    corpus = Corpus.open(tmp_path / "out")
    utterance = next(u for u in corpus.manifest.utterances if u.id == "clip0")
    assert utterance.n_frames == min(N_FRAMES, N_FRAMES + difference)
    assert utterance.n_samples == (utterance.n_frames - 1) * 256
    np.testing.assert_array_equal(corpus.mel(utterance), mel[:, : utterance.n_frames])
    recording, _ = soundfile.read(source / "clip0.wav", dtype="int16")
    np.testing.assert_array_equal(corpus.audio(utterance), recording[: utterance.n_samples])


BAD = {
    "3 frames more": (lambda path: np.save(path, given("x", 43)), "43 frames, the recording makes"),
    "3 frames less": (lambda path: np.save(path, given("x", 37)), "they may differ by 2"),
    "79 bands": (lambda path: np.save(path, given("x")[1:]), "shape (79, 40)"),
    "NaN": (lambda path: np.save(path, given("x") * np.nan), "NaN"),
    "a pickle": (lambda path: np.save(path, np.array([{}]), allow_pickle=True), "not a readable"),
    "decibels": (lambda path: np.save(path, 8 * given("x")), "looks like dB"),
    "no mel": (Path.unlink, "there is no mel clip1.npy or the like in"),
    "two mels": (
        lambda path: np.savez(path.with_suffix(".npz"), mel=given("x")),
        "clip1.npy and clip1.npz",
    ),
    "another preset": (
        lambda path: (
            path.unlink(),
            write_mel(
                path.with_suffix(".npz"), torch.tensor(given("x")), get_preset("hifigan-22k")
            ),
        ),
        "no exact conversion",
    ),
}


@pytest.mark.parametrize(("spoil", "words"), BAD.values(), ids=BAD)
def test_what_does_not_fit_is_named_and_left_out(
    source: Path, mels: Path, tmp_path: Path, spoil: Any, words: str
) -> None:
    spoil(mels / "clip1.npy")
    report = run(source, mels, tmp_path / "out")
    ((file, reason),) = report.failures
    assert file == "clip1.wav"
    assert words in reason
    assert "clip1" in reason or "frames" in reason
    assert len(report.manifest.utterances) == 3


def test_a_turned_array_and_an_exact_conversion(source: Path, mels: Path, tmp_path: Path) -> None:
    log10 = get_preset("nanoflow-db-22k")
    np.save(mels / "clip0.npy", given("clip0").T)
    (mels / "clip1.npy").unlink()
    converted = convert_mel(torch.tensor(given("clip1")), PRESET, log10)
    write_mel(mels / "clip1.npz", converted, log10)
    assert run(source, mels, tmp_path / "out").failures == ()
    corpus = Corpus.open(tmp_path / "out")
    for utterance in corpus.manifest.utterances[:2]:
        np.testing.assert_allclose(corpus.mel(utterance), given(utterance.id), atol=1e-4)


@pytest.mark.parametrize("stated", ["tacotron2-22k", "nanoflow-db-22k", None])
def test_the_recording_tells_which_way_a_square_mel_lies(
    tmp_path: Path, stated: str | None
) -> None:
    """As many frames as bands: the shape says nothing."""
    source, mels = tmp_path / "wavs", tmp_path / "mels"
    source.mkdir()
    mels.mkdir()
    for name in NAMES:
        random = np.random.default_rng(list(name.encode()))
        loudness = np.repeat(10 ** random.uniform(-3, -1, 8), 10 * 256)[: 79 * 256 + 100]
        soundfile.write(
            source / f"{name}.wav", loudness * random.standard_normal(len(loudness)), 22050
        )
    own = Corpus.open(preprocess("wavs", source, tmp_path / "own", n_jobs=1).out)
    wanted = {}
    for turn, utterance in enumerate(own.manifest.utterances):
        random = np.random.default_rng(turn)
        wanted[utterance.id] = own.mel(utterance) + 0.5 * random.standard_normal((80, 80))
        array = convert_mel(torch.tensor(wanted[utterance.id]), PRESET, stated or PRESET).numpy()
        beside = {} if stated is None else {"preset": np.array(stated)}
        np.savez(mels / f"{utterance.id}.npz", mel=array.T if turn % 2 else array, **beside)
    assert run(source, mels, tmp_path / "out").failures == ()
    corpus = Corpus.open(tmp_path / "out")
    for utterance in corpus.manifest.utterances:
        np.testing.assert_allclose(corpus.mel(utterance), wanted[utterance.id], atol=1e-4)


def test_a_mel_that_cannot_be_opened_is_named(source: Path, tmp_path: Path) -> None:
    absent = tmp_path / "absent.npy"
    clip = Clip("clip0", source / "clip0.wav", "train", absent)
    made = Maker(source, tmp_path / "out", PRESET).make(clip)
    assert made == Failure("clip0.wav", f"{absent}: No such file or directory")
    gone = Maker(source, tmp_path / "out", PRESET).make(Clip("x", source / "x.wav", "train"))
    assert gone == Failure("x.wav", "No such file or directory")


def test_a_changed_mel_is_taken_anew(source: Path, mels: Path, tmp_path: Path) -> None:
    run(source, mels, tmp_path / "out")
    np.save(mels / "clip2.npy", given("other"))
    os.utime(mels / "clip2.npy", (1, 1))
    report = run(source, mels, tmp_path / "out")
    assert (report.n_made, report.n_kept) == (1, 3)
    corpus = Corpus.open(tmp_path / "out")
    np.testing.assert_array_equal(corpus.mel(corpus.manifest.utterances[2]), given("other"))
    with pytest.raises(VocoderError, match=r"was made with mels '.*', now None"):
        preprocess("wavs", source, tmp_path / "out", n_jobs=1)


def listing(source: Path, *names: str) -> Listing:
    return Listing(
        tuple(Clip(name.replace("/", "-"), source / f"{name}.wav", "train") for name in names), ""
    )


def test_names_pair_by_path_by_id_and_where_unique_by_file_name(tmp_path: Path) -> None:
    for name in ("anna/one", "bert-one", "deep/er/two", "one", "x/one"):
        path = tmp_path / "mels" / f"{name}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, given("x"))
    source = tmp_path / "wavs"
    paired = pair_mels(
        listing(source, "anna/one", "bert/one", "carl/one", "two"), source, tmp_path / "mels"
    )
    found = {clip.id: clip.mel for clip in paired.clips}
    assert found == {
        "anna-one": tmp_path / "mels/anna/one.npy",
        "bert-one": tmp_path / "mels/bert-one.npy",
        "two": tmp_path / "mels/deep/er/two.npy",
    }
    # one.npy may be anybody's.
    assert [file for file, _ in paired.problems] == ["carl/one.wav"]


def test_a_mel_of_an_own_folder_says_its_preset(mels: Path) -> None:
    (mels / "clip0.json").write_text(json.dumps({"preset": "nanoflow-db-22k"}))
    converted = convert_mel(torch.tensor(given("clip0")), PRESET, "nanoflow-db-22k")
    np.save(mels / "clip0.npy", converted.numpy())
    read = read_given_mel(mels / "clip0.npy", PRESET, lambda: pytest.fail("needs no recording"))
    np.testing.assert_allclose(read.numpy(), given("clip0"), atol=1e-4)


def test_command(source: Path, mels: Path, tmp_path: Path, capfdbinary: Any) -> None:
    out = ("--source", source, "--out", tmp_path / "out", "--mels")
    missing = run_here(capfdbinary, "preprocess", "wavs", *out, tmp_path / "nowhere")
    assert_one_error_line(missing, "nowhere", "not a folder")
    (tmp_path / "empty").mkdir()
    empty = run_here(capfdbinary, "preprocess", "wavs", *out, tmp_path / "empty")
    assert_one_error_line(empty, "holds no .npy")
    assert not (tmp_path / "out").exists()
    done = run_here(capfdbinary, "preprocess", "wavs", *out, mels)
    assert done.code == 0, done.err
    assert b"given mels" in done.out
