"""Recordings to a corpus: bad files, what is there already, stops and kills."""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from helpers import write_tone
from hypothesis import given
from hypothesis import strategies as st

from vocoder.data.speech import maker
from vocoder.data.speech.corpus import Corpus
from vocoder.data.speech.preprocess import preprocess
from vocoder.data.speech.silence import silent_samples
from vocoder.errors import VocoderError
from vocoder.mel.spectrogram import MelSpectrogram

SHIPPED = Path(__file__).parents[3] / "egs" / "quickstart" / "corpus"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    for number in range(6):
        write_tone(folder / f"clip{number}.wav")
    return folder


def contents(folder: Path) -> dict[str, str]:
    """Return the hash of every file, hidden ones too."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_the_shipped_clips_become_a_corpus(tmp_path):
    report = preprocess("ljspeech", SHIPPED, tmp_path / "out")
    assert report.failures == ()
    assert (report.n_made, report.n_kept) == (20, 0)
    assert "18 training and 2 test clips" in str(report)
    assert "the first 2 of 20 ids in sorted order" in str(report)
    corpus = Corpus.open(tmp_path / "out")
    assert (corpus.name, corpus.preset.name) == ("ljspeech", "tacotron2-22k")
    assert [clip.id for clip in corpus.utterances("test")] == ["ES000001", "ES000002"]
    assert len(corpus.utterances("train")) == 18
    for utterance in corpus.utterances("test"):
        stored = corpus.audio(utterance)
        read, _ = soundfile.read(SHIPPED / "wavs" / f"{utterance.id}.flac", dtype="int16")
        n_samples = len(read) // 256 * 256
        assert utterance.n_samples == n_samples
        assert utterance.n_frames == n_samples // 256 + 1
        np.testing.assert_array_equal(stored, read[:n_samples])
        mel = MelSpectrogram("tacotron2-22k")(torch.from_numpy(stored / np.float32(32768)))
        np.testing.assert_allclose(corpus.mel(utterance), mel.numpy(), rtol=0, atol=1e-6)


def test_any_rate_and_channels_come_out_at_the_rate_of_the_preset(tmp_path, caplog):
    write_tone(tmp_path / "in" / "same.wav", rate=24000, channels=2)
    for name in ("a.wav", "b.flac", "c.ogg"):
        write_tone(tmp_path / "in" / name, rate=44100, channels=2)
    report = preprocess("wavs", tmp_path / "in", tmp_path / "out", preset="vocos-24k", n_jobs=1)
    assert report.failures == ()
    for utterance in report.manifest.utterances:
        assert utterance.n_samples == 12000 // 256 * 256
    corpus = Corpus.open(tmp_path / "out")
    (stored,) = (corpus.audio(u) for u in report.manifest.utterances if u.id == "same")
    read, _ = soundfile.read(tmp_path / "in" / "same.wav")
    np.testing.assert_allclose(stored / 32768, read.mean(axis=1)[: len(stored)], atol=1 / 32768)


def test_workers_make_the_same_files_and_say_a_thing_once(tmp_path, source, caplog):
    for number in range(34):
        write_tone(source / f"low{number:02d}.wav", seconds=0.1, rate=16000)
    caplog.set_level(logging.WARNING, "vocoder")
    preprocess("wavs", source, tmp_path / "one", n_jobs=1)
    caplog.clear()
    report = preprocess("wavs", source, tmp_path / "two", n_jobs=2)
    assert report.n_jobs == 2
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert [record.message for record in caplog.records] == [
        "resampling audio from 16000 Hz to 22050 Hz"
    ]


# ---- bad files ----


def bad_files(folder: Path) -> dict[str, str]:
    """Write one file of every kind that cannot be used; return what is to be said of each."""
    write_tone(folder / "truncated.wav")
    whole = (folder / "truncated.wav").read_bytes()
    (folder / "truncated.wav").write_bytes(whole[: len(whole) // 2])
    write_tone(folder / "cut.flac")
    whole = (folder / "cut.flac").read_bytes()
    (folder / "cut.flac").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.wav").touch()
    (folder / "text.wav").write_text("this is no sound")
    soundfile.write(folder / "zero.wav", np.zeros(0), 22050)
    nan = np.full(4000, np.nan, np.float32)
    soundfile.write(folder / "nan.wav", nan, 22050, subtype="FLOAT")
    soundfile.write(folder / "short.wav", np.zeros(300), 22050)
    soundfile.write(folder / "silent.wav", np.full(9000, 0.1), 22050)
    write_tone(folder / "antiphase.wav", channels=1)
    sound, rate = soundfile.read(folder / "antiphase.wav")
    soundfile.write(folder / "antiphase.wav", np.stack([sound, -sound], 1), rate)
    soundfile.write(folder / "integers.wav", sound * 32768, rate, subtype="FLOAT")
    (folder / "dangling.wav").symlink_to(folder / "nowhere.wav")
    return {
        "antiphase.wav": "cancel each other",
        "cut.flac": "",
        "dangling.wav": "No such file",
        "empty.wav": "not readable",
        "integers.wav": "full scale is 1",
        "nan.wav": "NaN",
        "short.wav": "too short, 300 samples; preset tacotron2-22k needs 768, in whole frames",
        "silent.wav": "digital silence",
        "text.wav": "not readable",
        "truncated.wav": "truncated",
        "zero.wav": "no samples",
    }


@pytest.mark.parametrize("n_jobs", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_bad_files_are_named_and_left_out(tmp_path, source, n_jobs):
    expected = bad_files(source)
    for number in range(10):  # so that there is work for two
        write_tone(source / f"more{number}.wav", seconds=0.1)
    report = preprocess("wavs", source, tmp_path / "out", seed=1, n_jobs=n_jobs)
    assert [file for file, _ in report.failures] == list(expected)
    for (_, reason), words in zip(report.failures, expected.values(), strict=True):
        assert words in reason
        assert str(source) not in reason
        assert "\n" not in reason
    ids = [utterance.id for utterance in report.manifest.utterances]
    assert len(ids) == 16
    assert {path.stem for path in (tmp_path / "out" / "mels").iterdir()} == set(ids)
    assert {path.stem for path in (tmp_path / "out" / "audio").iterdir()} == set(ids)


def test_no_sound_is_passed_over_in_silence(tmp_path):
    source = tmp_path / "source"
    write_tone(source / "a.wav")
    for name in ("b.aiff", "c.MP3"):
        write_tone(source / name)
    write_tone(tmp_path / "elsewhere/d.flac")
    (source / "link").symlink_to(tmp_path / "elsewhere")
    (source / "loop").symlink_to(source)
    for name in ("e.m4a", "deep/f.WMA", "notes.txt", "cover.jpg"):
        (source / name).parent.mkdir(exist_ok=True)
        (source / name).write_bytes(b"something")
    report = preprocess("wavs", source, tmp_path / "out", n_jobs=1)
    assert [u.id for u in report.manifest.utterances] == ["a", "b", "c", "link-d"]
    assert [file for file, _ in report.failures] == ["deep/f.WMA", "e.m4a", "loop"]
    assert dict(report.failures)["e.m4a"].startswith(".m4a cannot be read; convert it")


def test_strict_stops_at_the_first_and_can_be_continued(tmp_path, source):
    (source / "clip3.wav").write_text("this is no sound")
    with pytest.raises(VocoderError, match=r"clip3\.wav: not readable"):
        preprocess("wavs", source, tmp_path / "out", n_jobs=1, strict=True)
    assert not (tmp_path / "out" / "manifest.json").exists()
    write_tone(source / "clip3.wav")
    report = preprocess("wavs", source, tmp_path / "out", n_jobs=1, strict=True)
    assert (report.n_kept, report.n_made) == (3, 3)


def test_strict_minds_the_metadata_too(tmp_path):
    shutil.copytree(SHIPPED, tmp_path / "lj")
    with open(tmp_path / "lj" / "metadata.csv", "a") as file:
        file.write("nothing\n")
    with pytest.raises(VocoderError, match=r"metadata.csv line 21: has no `|`"):
        preprocess("ljspeech", tmp_path / "lj", tmp_path / "out", strict=True)
    report = preprocess("ljspeech", tmp_path / "lj", tmp_path / "out")
    assert [file for file, _ in report.failures] == ["metadata.csv line 21"]


def test_a_corpus_with_no_usable_clip_gives_no_manifest(tmp_path):
    for name in ("a.wav", "b.wav"):
        (tmp_path / name).write_text("this is no sound")
    with pytest.raises(
        VocoderError, match=r"no usable clip; .* the first of 2: a\.wav: not readable"
    ):
        preprocess("wavs", tmp_path, tmp_path / "out")
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_loud_floats_are_clipped_and_counted(tmp_path, source, caplog):
    loud = np.full(4000, 1.5, np.float32)
    loud[::100] = 0
    soundfile.write(source / "loud.wav", loud, 22050, subtype="FLOAT")
    report = preprocess("wavs", source, tmp_path / "out", n_jobs=1)
    assert report.n_clipped == 1
    assert "1 clips go beyond full scale" in caplog.text
    corpus = Corpus.open(tmp_path / "out")
    (loud,) = (clip for clip in report.manifest.utterances if clip.id == "loud")
    assert set(corpus.audio(loud).tolist()) == {32767, 0}


@pytest.mark.parametrize("share", [0, 0.02, 0.5])
@pytest.mark.parametrize("dither", [False, True])
def test_much_digital_silence_is_told_of(tmp_path, source, caplog, share, dither):
    """Its likelihood has no bound, so that a training learns little else; dither mends that."""
    for path in source.glob("*.wav"):
        sound, rate = soundfile.read(path)
        sound[: int(share * len(sound))] = 0
        soundfile.write(path, sound, rate)
    preprocess("wavs", source, tmp_path / "out", n_jobs=1, dither=dither)
    told = "of the audio is digital silence" in caplog.text
    assert told == (share > 0.05 and not dither)
    if told:
        caplog.clear()
        preprocess("wavs", source, tmp_path / "out", n_jobs=1)  # what is kept counts too
        assert "of the audio is digital silence" in caplog.text


@given(st.lists(st.tuples(st.integers(-3, 3), st.integers(1, 600)), min_size=1))
def test_silence_is_counted_in_runs(runs):
    samples = np.concatenate([np.full(length, value, np.int16) for value, length in runs])
    lengths = [len(list(group)) for _, group in itertools.groupby(samples.tolist())]
    assert silent_samples(samples) == sum(length for length in lengths if length >= 256)


# ---- the folder ----


def test_what_is_there_is_kept(tmp_path, source):
    out = tmp_path / "out"
    preprocess("wavs", source, out)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.*")}
    report = preprocess("wavs", source, out)
    assert (report.n_made, report.n_kept) == (0, 6)
    assert "nothing to do" in str(report)
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.*")} == before


def test_changes_of_the_source_are_followed(tmp_path, source, caplog):
    preprocess("wavs", source, tmp_path / "out")
    write_tone(source / "clip1.wav", seconds=0.7)
    write_tone(source / "new.wav")
    (source / "clip2.wav").unlink()
    (tmp_path / "out" / "mels" / "clip4.npy").write_bytes(b"half")
    report = preprocess("wavs", source, tmp_path / "out")
    assert (report.n_made, report.n_kept) == (3, 3)
    assert "1 clips changed in the source" in caplog.text
    assert "1 clips lost their files" in caplog.text
    preprocess("wavs", source, tmp_path / "fresh")
    assert contents(tmp_path / "out") == contents(tmp_path / "fresh")


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        ({"preset": "hifigan-22k"}, "preset 'tacotron2-22k', now 'hifigan-22k'"),
        ({"seed": 1}, "seed 0, now 1"),
        ({"test_clips": 2}, "test_clips None, now 2"),
        ({"source": SHIPPED}, "now '.*quickstart/corpus'"),
    ],
)
def test_other_settings_are_refused(tmp_path, source, changes, difference):
    preprocess("wavs", source, tmp_path / "out")
    before = contents(tmp_path / "out")
    arguments = {"source": source, **changes}
    with pytest.raises(VocoderError, match=difference):
        preprocess("wavs", out=tmp_path / "out", **arguments)
    assert contents(tmp_path / "out") == before


def test_a_folder_of_something_else_is_left_alone(tmp_path, source):
    (tmp_path / "out" / "audio").mkdir(parents=True)
    (tmp_path / "out" / "audio" / "precious.npy").touch()
    with pytest.raises(VocoderError, match=r"holds audio but no journal\.jsonl"):
        preprocess("wavs", source, tmp_path / "out")
    (tmp_path / "file").touch()
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(VocoderError, match="not a folder"):
            preprocess("wavs", source, out)
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / "journal.jsonl").write_text("{")
    with pytest.raises(VocoderError, match=r"journal\.jsonl: damaged"):
        preprocess("wavs", source, tmp_path / "torn")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written(tmp_path, source):
    (tmp_path / "locked").mkdir(mode=0o500)
    with pytest.raises(PermissionError):
        preprocess("wavs", source, tmp_path / "locked" / "out")


def test_two_runs_in_one_folder_are_refused(tmp_path, source):
    fcntl = pytest.importorskip("fcntl")
    (tmp_path / "out").mkdir()
    handle = os.open(tmp_path / "out", os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        with pytest.raises(VocoderError, match="another run is at work here"):
            preprocess("wavs", source, tmp_path / "out")
    finally:
        os.close(handle)
    assert preprocess("wavs", source, tmp_path / "out").n_made == 6


def test_a_full_disk_is_no_fault_of_the_clip(tmp_path, source):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        with pytest.raises(OSError, match=r"\[Errno .*clip0\.npy"):
            preprocess("wavs", source, tmp_path / "out", n_jobs=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert set(contents(tmp_path / "out")) == {"journal.jsonl"}
    assert preprocess("wavs", source, tmp_path / "out", n_jobs=1).n_made == 6


# ---- interruption ----


def test_an_interrupted_run_goes_on(tmp_path, source, monkeypatch):
    preprocess("wavs", source, tmp_path / "whole", n_jobs=1)
    out = tmp_path / "out"
    write = maker._write_array
    n_written = 0

    def interrupted(path: Path, array: np.ndarray) -> None:
        nonlocal n_written
        n_written += 1
        if n_written == 6:  # the third clip has its audio but no mel
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(1)
        write(path, array)

    with monkeypatch.context() as patch:
        patch.setattr(maker, "_write_array", interrupted)
        with pytest.raises(KeyboardInterrupt):
            preprocess("wavs", source, out, n_jobs=1)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    assert not (out / "manifest.json").exists()
    # A kill may leave more: a temporary file, and a torn line.
    (out / "mels" / ".clip5.0123abcd.npy").write_bytes(b"half")
    with open(out / "journal.jsonl", "ab") as file:
        file.write(b'{"id": "clip5", "file": "cl')
    report = preprocess("wavs", source, out, n_jobs=1)
    assert (report.n_kept, report.n_made) == (2, 4)
    assert contents(out) == contents(tmp_path / "whole")


def start(source: Path, out: Path, n_jobs: int) -> subprocess.Popen[bytes]:
    call = f"preprocess('wavs', {str(source)!r}, {str(out)!r}, n_jobs={n_jobs})"
    command = [
        sys.executable,
        "-c",
        f"from vocoder.data.speech.preprocess import preprocess; {call}",
    ]

    def hear_interrupts() -> None:  # a shell's background jobs are deaf to them, and so are these
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    return subprocess.Popen(command, start_new_session=True, preexec_fn=hear_interrupts)


def wait_for_mels(out: Path, n_mels: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        if (out / "mels").exists() and len(list((out / "mels").glob("[!.]*.npy"))) >= n_mels:
            return
        time.sleep(0.002)


def members_after_a_while(session: int) -> list[int]:
    """Return the processes that the session still has after at most 30 seconds."""
    deadline = time.monotonic() + 30
    while (members := session_members(session)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return members


def session_members(session: int) -> list[int]:
    members = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, session_id = stat.read_text().rpartition(")")[2].split()[:4]
        except OSError:
            continue
        if int(session_id) == session and state != "Z":
            members.append(int(stat.parent.name))
    return members


@pytest.mark.slow
@pytest.mark.parametrize("n_jobs", [1, 2])
def test_a_run_killed_four_times_gives_the_same_bytes(tmp_path, n_jobs):
    n_clips = 240
    for number in range(n_clips):
        write_tone(tmp_path / "in" / f"{number:03d}.wav", seconds=1)
    preprocess("wavs", tmp_path / "in", tmp_path / "whole", n_jobs=1)
    out, chance = tmp_path / "out", random.Random(n_jobs)
    n_killed = 0
    for attempt in range(4):
        process = start(tmp_path / "in", out, n_jobs)
        n_before = len(list((out / "mels").glob("[!.]*.npy"))) if attempt else 0
        wait_for_mels(out, n_before + chance.randrange(1, 30), process)
        time.sleep(chance.random() * 0.005)
        n_killed += process.poll() is None
        process.kill()
        process.wait()
        assert not (out / "manifest.json").exists() or process.returncode == 0
    assert n_killed == 4
    # The workers end with their parent.
    assert members_after_a_while(process.pid) == []
    kept = preprocess("wavs", tmp_path / "in", out, n_jobs=1).n_kept
    assert 4 <= kept < n_clips
    assert contents(out) == contents(tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_a_run_with_workers_leaves_a_clean_folder(tmp_path, number):
    for clip in range(600):
        write_tone(tmp_path / "in" / f"{clip:03d}.wav", seconds=1)
    out = tmp_path / "out"
    process = start(tmp_path / "in", out, 2)
    wait_for_mels(out, 40, process)
    # As a terminal does: to the whole group for Ctrl-C.
    (os.killpg if number == signal.SIGINT else os.kill)(process.pid, number)
    assert process.wait(30) != 0
    assert members_after_a_while(process.pid) == []
    assert not (out / "manifest.json").exists()
    assert not [name for name in contents(out) if Path(name).name.startswith(".")]
    lines = (out / "journal.jsonl").read_text().splitlines()
    assert all(isinstance(json.loads(line), dict) for line in lines)
    assert len(lines) > 1
