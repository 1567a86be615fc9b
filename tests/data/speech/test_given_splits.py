"""Splits that lists state, clip by clip."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from commands import assert_one_error_line
from helpers import write_tone

from vocoder.data.speech.corpus import Corpus, Manifest
from vocoder.data.speech.crops import Crops
from vocoder.data.speech.preprocess import preprocess
from vocoder.data.speech.sharding import shard_corpus
from vocoder.errors import VocoderError
from vocoder.mel.files import read_mel


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    for name in ("en/digits/1", "en/digits/2", "en/hello", "it/hello", "it/via"):
        write_tone(folder / f"{name}.wav")
    return folder


def write(path: Path, *lines: str, encoding: str = "utf-8") -> Path:
    path.write_text("".join(f"{line}\n" for line in lines), encoding=encoding)
    return path


def ids(corpus: Corpus, split: str) -> list[str]:
    return [utterance.id for utterance in corpus.utterances(split)]  # type: ignore[arg-type]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_lists_say_which_clips_are_held_out(tmp_path, source, encoding) -> None:
    # By path, by path without suffix, and by id.
    test = write(tmp_path / "test.txt", "en/hello.wav", "", "it/hello", encoding=encoding)
    validation = write(tmp_path / "dev.txt", "en-digits-1", encoding=encoding)
    report = preprocess(
        "wavs", source, tmp_path / "out", test_list=test, validation_list=validation
    )
    corpus = Corpus.open(tmp_path / "out")
    assert ids(corpus, "test") == ["en-hello", "it-hello"]
    assert ids(corpus, "validation") == ["en-digits-1"]
    assert ids(corpus, "train") == ["en-digits-2", "it-via"]
    assert "2 training, 1 validation and 2 test clips" in str(report)
    assert "test: the 2 clips of test.txt; validation: the 1 clips of dev.txt" in str(report)


def test_a_corpus_may_be_for_judging_alone(tmp_path, source) -> None:
    names = [path.relative_to(source).as_posix() for path in source.rglob("*.wav")]
    test = write(tmp_path / "test.txt", *names)
    preprocess("wavs", source, tmp_path / "out", test_list=test)
    corpus = Corpus.open(tmp_path / "out")
    assert len(corpus.utterances("test")) == 5
    with pytest.raises(VocoderError, match="no training clips; it was preprocessed to judge by"):
        Crops(corpus, 1024, 0)


@pytest.mark.parametrize(
    ("test", "validation", "message"),
    [
        (["en/nobody.wav"], None, r"test.txt line 1: 'en/nobody.wav' is no clip of .*source"),
        (["en/hello", "en-hello"], None, r"test.txt line 2: 'en-hello' is named a second time"),
        (["en/hello"], ["en/hello"], r"dev.txt line 1: 'en/hello' is named a second time"),
        ([], None, r"test.txt: names no clip; write one on each line"),
        (["en/hello"], [" "], r"dev.txt: names no clip; write one on each line"),
        (None, ["en/hello"], "validation list: give a test list too"),
    ],
)
def test_lists_that_cannot_be_meant_are_refused(
    tmp_path, source, test, validation, message
) -> None:
    lists = {
        name: None if lines is None else write(tmp_path / file, *lines)
        for name, file, lines in (
            ("test_list", "test.txt", test),
            ("validation_list", "dev.txt", validation),
        )
    }
    with pytest.raises(VocoderError, match=message):
        preprocess("wavs", source, tmp_path / "out", **lists)
    assert not (tmp_path / "out").exists()


@pytest.fixture
def ljspeech(tmp_path: Path) -> Path:
    folder = tmp_path / "lj"
    for i in range(3):
        write_tone(folder / "wavs" / f"c{i}.wav")
    write(folder / "metadata.csv", *(f"c{i}|one" for i in (0, 1, 2, 9)))
    return folder


@pytest.mark.parametrize("name", ["it/via", "it/via.wav", "it/via.flac"])
def test_a_line_that_fits_two_recordings_is_refused(tmp_path, source, name) -> None:
    """A name with its suffix fits one."""
    write_tone(source / "it" / "via.flac")
    test = write(tmp_path / "test.txt", "en/hello", name)
    if not Path(name).suffix:
        message = r"test.txt line 2: 'it/via' may be it/via.flac or it/via.wav; write which"
        with pytest.raises(VocoderError, match=message):
            preprocess("wavs", source, tmp_path / "out", test_list=test)
        return
    preprocess("wavs", source, tmp_path / "out", test_list=test)
    records = (tmp_path / "out" / "journal.jsonl").read_text().splitlines()[1:]
    files = {record["id"]: record["file"] for record in map(json.loads, records)}
    held_out = {files[identity] for identity in ids(Corpus.open(tmp_path / "out"), "test")}
    assert held_out == {"en/hello.wav", name}


@pytest.mark.parametrize("name", ["c9", "wavs/c9", "wavs/c9.wav"])
def test_a_missing_clip_is_the_same_by_each_of_its_names(tmp_path, ljspeech, name) -> None:
    test = write(tmp_path / "test.txt", name, "c1")
    report = preprocess("ljspeech", ljspeech, tmp_path / "out", test_list=test)
    assert [file for file, _ in report.failures] == ["wavs/c9.wav"]
    assert ids(Corpus.open(tmp_path / "out"), "test") == ["c1"]
    write(test, name)
    with pytest.raises(VocoderError, match=r"no usable test clip; .*wavs/c9\.wav: listed in"):
        preprocess("ljspeech", ljspeech, tmp_path / "other", test_list=test)
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("stated", [False, True])
def test_a_split_whose_clips_have_no_mels_is_refused(tmp_path, ljspeech, stated) -> None:
    write(ljspeech / "metadata.csv", "c0|one", "c1|one", "c2|one")
    test = write(tmp_path / "test.txt", "c0")
    mels = tmp_path / "mels"
    mels.mkdir()
    for name in ("c1", "c2"):
        np.save(mels / f"{name}.npy", np.zeros((80, 44), np.float32))
    arguments = {"test_list": test} if stated else {"test_clips": 1}
    with pytest.raises(VocoderError, match=r"no usable test clip; .*c0.*there is no mel"):
        preprocess("ljspeech", ljspeech, tmp_path / "out", mels=mels, **arguments)
    assert not (tmp_path / "out").exists()


def test_files_that_are_no_lists_are_named(tmp_path, source) -> None:
    with pytest.raises(VocoderError, match=r"none.txt: cannot be opened \(No such file"):
        preprocess("wavs", source, tmp_path / "out", test_list=tmp_path / "none.txt")
    wide = write(tmp_path / "wide.txt", "en/héllo", encoding="latin-1")
    with pytest.raises(VocoderError, match=r"wide.txt: .*; save it as UTF-8"):
        preprocess("wavs", source, tmp_path / "out", test_list=wide)
    test = write(tmp_path / "test.txt", "en/hello")
    with pytest.raises(VocoderError, match="test_clips: a test list says which they are"):
        preprocess("wavs", source, tmp_path / "out", test_list=test, test_clips=1)


def test_another_list_is_another_corpus(tmp_path, source) -> None:
    test = write(tmp_path / "test.txt", "en/hello")
    preprocess("wavs", source, tmp_path / "out", test_list=test)
    assert preprocess("wavs", source, tmp_path / "out", test_list=test).n_made == 0
    write(test, "it/hello")
    with pytest.raises(VocoderError, match=r"was made with lists .* give the same again"):
        preprocess("wavs", source, tmp_path / "out", test_list=test)


def test_a_clip_that_cannot_be_used_leaves_the_others_of_its_list(tmp_path, source) -> None:
    (source / "en" / "bad.wav").write_bytes(b"RIFF")
    test = write(tmp_path / "test.txt", "en/hello", "en/bad.wav")
    report = preprocess("wavs", source, tmp_path / "out", test_list=test)
    assert [file for file, _ in report.failures] == ["en/bad.wav"]
    assert ids(Corpus.open(tmp_path / "out"), "test") == ["en-hello"]


@pytest.mark.parametrize("name", ["gr\xfcn.txt", "\u97f3.txt", os.fsdecode(b"\xff\xfe.txt")])
def test_a_list_may_have_any_name(tmp_path, source, run, name) -> None:
    test = write(tmp_path / name, "en/hello")
    out = tmp_path / "out"
    arguments = ("preprocess", "wavs", "--source", source, "--out", out, "--test-list", test)
    result = run(*arguments)
    assert result.code == 0, result.err
    shown = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    assert f"the 1 clips of {shown};" in result.out.decode()
    (out / "manifest.json").read_text(encoding="utf-8")
    assert ids(Corpus.open(out), "test") == ["en-hello"]
    assert shard_corpus(out, tmp_path / "shards").manifest.split_rule.endswith(shown)
    assert read_mel(out / "mels" / "en-hello.npy").preset is not None
    assert run(*arguments).code == 0


def test_a_manifest_keeps_whatever_stands_in_it(tmp_path, source) -> None:
    """Such as what a reader of one's own says."""
    preprocess("wavs", source, tmp_path)
    rule = "by \udcff, \ud83d and \\ and \u97f3"
    manifest = replace(Corpus.open(tmp_path).manifest, split_rule=rule)
    assert Manifest.from_json(manifest.to_json().encode()) == manifest


def test_the_command_takes_lists(tmp_path, source, run) -> None:
    test = write(tmp_path / "test.txt", "en/hello")
    arguments = ("preprocess", "wavs", "--source", source, "--out", tmp_path / "out")
    assert run(*arguments, "--test-list", test).code == 0
    assert ids(Corpus.open(tmp_path / "out"), "test") == ["en-hello"]
    assert_one_error_line(
        run(*arguments, "--test-list", tmp_path / "none.txt"), "none.txt: cannot be opened"
    )
