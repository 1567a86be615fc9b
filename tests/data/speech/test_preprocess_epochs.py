"""Epochs and dither of a preprocessed corpus."""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from commands import assert_one_error_line

from vocoder.data.speech import epochs as module
from vocoder.data.speech.corpus import MANIFEST, Corpus, Manifest
from vocoder.data.speech.crops import Crops
from vocoder.data.speech.epochs import PitchRange, find_epochs
from vocoder.data.speech.preprocess import preprocess
from vocoder.errors import VocoderError
from vocoder.mel.spectrogram import MelSpectrogram

SHIPPED = Path(__file__).parents[3] / "egs" / "quickstart" / "corpus" / "wavs"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four short recordings, and one of next to nothing."""
    folder = tmp_path_factory.mktemp("source")
    for path in sorted(SHIPPED.glob("*.flac"))[:4]:
        audio, rate = soundfile.read(path, dtype="int16")
        soundfile.write(folder / f"{path.stem}.wav", audio[:rate], rate)
    quiet = np.random.default_rng(0).integers(0, 2, 11025).astype(np.int16)
    soundfile.write(folder / "silence.wav", quiet, 22050)
    return folder


@pytest.fixture(scope="module")
def corpus(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    out = tmp_path_factory.mktemp("corpus") / "out"
    preprocess("wavs", source, out, epochs=PitchRange(), dither=True, seed=3, n_jobs=1)
    return Corpus.open(out)


def utterances(corpus: Corpus):
    return [*corpus.utterances("train"), *corpus.utterances("test")]


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


# ---- epochs ----


def test_epochs_are_those_of_the_stored_audio(corpus: Corpus) -> None:
    for utterance in utterances(corpus):
        found = find_epochs(corpus.audio(utterance) / 32768, 22050, PitchRange())
        stored = corpus.epochs(utterance)
        assert stored.dtype == np.int32
        assert (stored == found.positions).all()
        assert len(stored) > 30 or utterance.id == "silence"


def test_the_manifest_tells_how_they_were_found(corpus: Corpus) -> None:
    summary = corpus.manifest.epochs
    assert summary is not None
    assert (summary.f_min, summary.f_max) == (55, 420)
    assert "praat-parselmouth" in summary.found_by
    all_found = [
        find_epochs(corpus.audio(utterance) / 32768, 22050, PitchRange())
        for utterance in utterances(corpus)
    ]
    assert summary.n_voiced == sum(found.n_voiced for found in all_found) > 100
    assert summary.n_bad == sum(found.n_bad for found in all_found)
    assert Manifest.from_json(corpus.manifest.to_json()) == corpus.manifest


def test_the_report_counts_bad_frames(source: Path, tmp_path: Path, monkeypatch) -> None:
    anchor = module._anchor
    monkeypatch.setattr(module, "_anchor", lambda *arguments: anchor(*arguments)[::2])
    report = preprocess("wavs", source, tmp_path / "out", epochs=PitchRange(), n_jobs=1)
    assert f"epochs: {report.manifest.epochs.n_voiced} voiced frames of 10 ms, " in str(report)
    assert report.manifest.epochs.n_bad > 0.9 * report.manifest.epochs.n_voiced


@pytest.mark.slow
def test_workers_find_the_same(corpus: Corpus, source: Path, tmp_path: Path) -> None:
    more = tmp_path / "more"
    more.mkdir()
    for number in range(9):  # more than a worker takes at once
        for path in source.glob("*.wav"):
            shutil.copy2(path, more / f"{path.stem}-{number}.wav")
    for jobs in (1, 2):
        preprocess(
            "wavs", more, tmp_path / f"{jobs}", epochs=PitchRange(), dither=True, n_jobs=jobs
        )
    first, second = contents(tmp_path / "1"), contents(tmp_path / "2")
    assert first.keys() == second.keys()
    assert [name for name in first if first[name] != second[name]] == []


def test_what_is_there_is_kept_and_what_is_lost_is_made_again(
    corpus: Corpus, source: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(corpus.folder, out)
    options = {"epochs": PitchRange(), "dither": True, "seed": 3, "n_jobs": 1}
    before = contents(out)
    assert preprocess("wavs", source, out, **options).n_made == 0
    (out / "epochs" / "silence.npy").unlink()
    torn = next(iter(sorted((out / "epochs").glob("ES*.npy"))))
    torn.write_bytes(torn.read_bytes()[:200])
    assert preprocess("wavs", source, out, **options).n_made == 2
    assert contents(out) == before


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        ({"epochs": None}, "epochs {"),
        ({"epochs": PitchRange(80, 500)}, "epochs {"),
        ({"dither": False}, "dither True, now None"),
    ],
)
def test_other_settings_are_refused(
    corpus: Corpus, source: Path, changes: dict[str, object], difference: str
) -> None:
    options = {"epochs": PitchRange(), "dither": True, "seed": 3, "n_jobs": 1} | changes
    with pytest.raises(VocoderError, match=f"was made with {difference}"):
        preprocess("wavs", source, corpus.folder, **options)


def test_another_version_of_the_search_is_refused(
    corpus: Corpus, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "VERSION", 99)
    with pytest.raises(VocoderError, match=r"was made with epochs .* now .*version 99"):
        preprocess(
            "wavs", source, corpus.folder, epochs=PitchRange(), dither=True, seed=3, n_jobs=1
        )


def test_a_corpus_without_epochs_says_how_to_get_them(source: Path, tmp_path: Path) -> None:
    preprocess("wavs", source, tmp_path / "out", n_jobs=1)
    corpus = Corpus.open(tmp_path / "out")
    assert not (tmp_path / "out" / "epochs").exists()
    assert "epochs" not in (tmp_path / "out" / MANIFEST).read_text()
    with pytest.raises(
        VocoderError, match=r"holds no epochs; preprocess .* with --epochs"
    ) as caught:
        corpus.epochs(corpus.utterances("train")[0])
    assert "\n" not in str(caught.value)


def test_a_missing_tool_is_told_before_any_work(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run
) -> None:
    monkeypatch.setitem(sys.modules, "parselmouth", None)
    out = tmp_path / "out"
    result = run("preprocess", "wavs", "--source", source, "--out", out, "--epochs")
    assert_one_error_line(result, "pip install 'vocoder[pitch]'")
    assert not out.exists()


def test_the_command_finds_epochs_in_a_range(source: Path, tmp_path: Path, run) -> None:
    command = ("preprocess", "wavs", "--source", source, "--out", tmp_path / "out", "--jobs", 1)
    assert run(*command, "--epochs", "--pitch-range", 80, 300).code == 0
    summary = Corpus.open(tmp_path / "out").manifest.epochs
    assert summary is not None
    assert (summary.f_min, summary.f_max) == (80, 300)
    assert_one_error_line(run(*command, "--pitch-range", 80, 300), "give --epochs too")
    assert_one_error_line(
        run(*command, "--epochs", "--pitch-range", 300, 80), "pitch range 300 to 80 Hz: must rise"
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": []}, "epochs: must be dict"),
        ({"epochs": {"f_min": 55.0}}, "epochs: f_max must be float"),
        ({"epochs": None}, None),
    ],
)
def test_a_damaged_summary_is_refused(
    corpus: Corpus, change: dict[str, object], message: str | None
) -> None:
    text = json.dumps(json.loads(corpus.manifest.to_json()) | change)
    if message is None:
        plain = Manifest.from_json(text)
        assert plain.epochs is None
        assert {utterance.n_epochs for utterance in plain.utterances} == {None}
    else:
        with pytest.raises(VocoderError, match=message):
            Manifest.from_json(text)


def test_a_damaged_file_of_epochs_is_named(corpus: Corpus, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(corpus.folder, out)
    opened = Corpus.open(out)
    utterance = next(u for u in utterances(opened) if u.n_epochs)
    np.save(out / "epochs" / f"{utterance.id}.npy", np.zeros(3, np.int32))
    with pytest.raises(VocoderError, match=r"epochs/.*npy: int32 \(3,\), not int32 \(\d+,\)"):
        opened.epochs(utterance)
    with pytest.raises(VocoderError, match="holds no epochs"):
        opened.epochs(dataclasses.replace(utterance, n_epochs=None))


# ---- dither ----


def test_dither_is_less_than_half_a_step_and_rounds_away(corpus: Corpus, source: Path) -> None:
    for utterance in utterances(corpus):
        stored = corpus.audio(utterance)
        plain, _ = soundfile.read(source / f"{utterance.id}.wav", dtype="int16")
        assert stored.dtype == np.float32
        assert (np.rint(stored) == plain[: len(stored)]).all()
        noise = stored - plain[: len(stored)]
        assert np.abs(noise).max() < 0.5
        assert noise.std() == pytest.approx(1 / np.sqrt(12), rel=0.03)


def test_each_clip_has_its_own_noise_of_the_seed(
    corpus: Corpus, source: Path, tmp_path: Path
) -> None:
    for seed in (3, 4):
        preprocess("wavs", source, tmp_path / f"{seed}", dither=True, seed=seed, n_jobs=1)
    again, other = Corpus.open(tmp_path / "3"), Corpus.open(tmp_path / "4")
    noises = []
    for utterance in sorted(utterances(corpus), key=lambda utterance: utterance.id):
        stored = corpus.audio(utterance)
        plain = dataclasses.replace(utterance, n_epochs=None)
        assert (again.audio(plain) == stored).all()
        assert not (other.audio(plain) == stored).all()
        noises.append((stored - np.rint(stored))[:5000])
    correlation = np.corrcoef(noises) - np.eye(len(noises))
    assert np.abs(correlation).max() < 0.1


def test_the_mel_is_that_of_the_dithered_audio(corpus: Corpus) -> None:
    for utterance in utterances(corpus):
        audio = torch.from_numpy(np.array(corpus.audio(utterance)) / 32768)
        assert torch.equal(
            MelSpectrogram(corpus.preset)(audio), torch.tensor(corpus.mel(utterance))
        )


def test_training_sees_the_dither_at_full_scale_one(corpus: Corpus) -> None:
    crops = Crops(corpus, 2048, 0)
    audio = crops.batch(0, 8).audio
    assert audio.dtype == torch.float32
    assert audio.abs().max() < 1
    assert not torch.equal(audio * 32768, (audio * 32768).round())
