"""Shards: the same corpus and the same training to the bit, and nothing in them is believed."""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
from helpers import make_corpus, run_killed, tiny_recipe

from vocoder.data.speech.corpus import Corpus, Manifest
from vocoder.data.speech.journal import only_run
from vocoder.data.speech.maker import dithered
from vocoder.data.speech.sharding import shard_corpus
from vocoder.data.speech.shards import divide, shard_path
from vocoder.errors import VocoderError
from vocoder.training.trainer import Trainer

SMALL = 150_000  # bytes: some clips of `make_corpus` a shard


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_corpus(tmp_path_factory.mktemp("data") / "corpus", epochs=True)


@pytest.fixture
def shards(folder: Path, tmp_path: Path) -> Path:
    return shard_corpus(folder, tmp_path / "shards", SMALL).folder


def dithered_corpus(folder: Path) -> Path:
    make_corpus(folder)
    for path in (folder / "audio").iterdir():
        np.save(path, dithered(np.load(path), 0, path.stem))
    manifest = Manifest.from_json((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(replace(manifest, dither=True).to_json())
    return folder


@pytest.mark.parametrize("size", [1, SMALL, 1 << 30])
@pytest.mark.parametrize("kind", ["plain", "epochs", "dither"])
def test_every_array_is_the_same(kind: str, size: int, tmp_path: Path) -> None:
    make = dithered_corpus if kind == "dither" else make_corpus
    options = {"epochs": True} if kind == "epochs" else {}
    corpus = Corpus.open(make(tmp_path / "corpus", **options))
    copied = shard_corpus(corpus.folder, tmp_path / "shards", size)
    again = Corpus.open(tmp_path / "shards")
    assert again.manifest == copied.manifest
    assert replace(again.manifest, shards=None) == corpus.manifest
    n_shards = len(again.manifest.shards or ())
    assert n_shards == len(os.listdir(tmp_path / "shards" / "shards"))
    assert n_shards == {1: 5, 1 << 30: 1}.get(size, n_shards)
    for utterance in corpus.manifest.utterances:
        for array in corpus.manifest.arrays(utterance):
            ours, theirs = again.array(utterance, array.kind), corpus.array(utterance, array.kind)
            assert ours.dtype == theirs.dtype
            assert np.array_equal(ours, theirs)
            assert not ours.flags.writeable


def test_shards_are_tar_files_of_npy_files(shards: Path) -> None:
    corpus = Corpus.open(shards)
    found = {}
    for path in sorted((shards / "shards").iterdir()):
        with tarfile.open(path) as archive:
            for member in archive:
                content = archive.extractfile(member)
                assert content is not None
                found[member.name] = np.load(io.BytesIO(content.read()), allow_pickle=False)
    expected = {
        f"{number:08}.{array.kind}.npy": corpus.array(utterance, array.kind)
        for number, utterance in enumerate(corpus.manifest.utterances)
        for array in corpus.manifest.arrays(utterance)
    }
    assert list(found) == list(expected)
    for name, array in expected.items():
        assert np.array_equal(found[name], array)


def test_training_and_resuming_are_the_same_to_the_bit(
    folder: Path, shards: Path, tmp_path: Path
) -> None:
    def train(data: Path, run: str, steps: int, resume: bool = False) -> dict[str, bytes]:
        path = Trainer(tiny_recipe(steps=steps), data, tmp_path / run, resume=resume).fit()
        tensors = safetensors.torch.load_file(path)
        return {name: tensor.numpy().tobytes() for name, tensor in tensors.items()}

    whole = train(folder, "folder", 4)
    assert train(shards, "shards", 4) == whole
    train(folder, "both", 2)
    assert train(shards, "both", 4, resume=True) == whole


def test_a_shard_may_lie_on_another_disk(shards: Path, tmp_path: Path) -> None:
    path = shard_path(shards, 1)
    path.symlink_to(shutil.move(path, tmp_path / "elsewhere.tar"))
    corpus = Corpus.open(shards)
    for utterance in corpus.manifest.utterances:
        assert len(corpus.audio(utterance)) == utterance.n_samples


def test_what_was_killed_is_written_anew_and_nothing_else_is_overwritten(
    folder: Path, shards: Path
) -> None:
    content = shard_path(shards, 0).read_bytes()
    with pytest.raises(VocoderError, match=r"holds manifest\.json already; give another folder"):
        shard_corpus(folder, shards)
    (shards / "manifest.json").unlink()
    os.truncate(shard_path(shards, 0), 1000)
    shard_corpus(folder, shards, SMALL)
    assert shard_path(shards, 0).read_bytes() == content
    with pytest.raises(VocoderError, match="not a folder; give another one"):
        shard_corpus(folder, shards / "manifest.json")
    with pytest.raises(VocoderError, match="no preprocessed corpus"):
        shard_corpus(shards / "nowhere", shards)


@pytest.mark.parametrize("n_finished", range(6))
def test_a_killed_run_leaves_no_clip_twice_for_the_next(
    folder: Path, tmp_path: Path, n_finished: int
) -> None:
    """The next takes another size, which makes fewer shards; the last file is the manifest."""
    whole = shard_corpus(folder, tmp_path / "whole", 1 << 30)
    out = tmp_path / "out"
    run_killed(lambda: shard_corpus(folder, out, 1), n_finished)
    assert shard_corpus(folder, out, 1 << 30).manifest == whole.manifest
    names = sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file())
    assert names == ["manifest.json", "shards/00000.tar"]


@pytest.mark.parametrize(
    "name", ["shards/00007.tar", "shards/00000.tar", "notes.txt", ".mine.json"]
)
def test_files_of_another_origin_are_not_removed(folder: Path, tmp_path: Path, name: str) -> None:
    path = tmp_path / "out" / name
    path.parent.mkdir(parents=True)
    path.write_bytes(b"mine")
    with pytest.raises(VocoderError, match=f"holds {name} already; give another folder"):
        shard_corpus(folder, tmp_path / "out")
    assert path.read_bytes() == b"mine"


def test_two_runs_do_not_work_in_one_folder(folder: Path, tmp_path: Path) -> None:
    with only_run(tmp_path / "out"), pytest.raises(VocoderError, match="another run is at work"):
        shard_corpus(folder, tmp_path / "out")


class Bomb:
    """What runs a command when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.mark}",)


def bomb(path: Path) -> None:
    content = io.BytesIO()
    np.save(content, np.array([Bomb(path.with_name("boom"))], object), allow_pickle=True)
    with tarfile.open(path, "w") as archive:
        member = tarfile.TarInfo("00000000.audio.npy")
        member.size = len(content.getvalue())
        archive.addfile(member, io.BytesIO(content.getvalue()))


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (bomb, "clip 0 is not what the manifest says; copy the shard again"),
        (lambda path: path.write_bytes(pickle.dumps(Bomb(path.with_name("boom")))), "clip 0"),
        (lambda path: os.truncate(path, 1000), "clip 0 is not what the manifest says"),
        (lambda path: os.truncate(path, 0), "cannot be read"),
        (lambda path: shutil.copy(path.with_name("00001.tar"), path), "clip 0"),
        (Path.unlink, "no such file; copy the shard there"),
        (pipe, "no such file"),
    ],
)
def test_a_shard_that_differs_is_named_in_one_line(
    damage: Callable[[Path], object], message: str, shards: Path
) -> None:
    path = shard_path(shards, 0)
    damage(path)
    corpus = Corpus.open(shards)
    with pytest.raises(VocoderError, match=message) as caught:
        corpus.audio(corpus.manifest.utterances[0])
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not path.with_name("boom").exists()


@pytest.mark.parametrize("value", [[], [5, 0], [2, 2], [-1, 6], "5", [5.0], {"5": 5}, [True] * 5])
def test_a_manifest_that_counts_wrongly_is_refused(value: object, shards: Path) -> None:
    path = shards / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"shards": value}))
    with pytest.raises(VocoderError, match="shards must be how many of the 5 clips each holds"):
        Corpus.open(shards)


@pytest.mark.parametrize("n_samples", [10**30 * 256, 10**9 * 256])
def test_a_length_beyond_all_shards_asks_for_no_memory(n_samples: int, shards: Path) -> None:
    corpus = Corpus.open(shards)
    first, *others = corpus.manifest.utterances
    frames = corpus.preset.n_frames(n_samples)
    long = replace(first, n_samples=n_samples, n_frames=frames)
    manifest = replace(corpus.manifest, utterances=(long, *others))
    (shards / "manifest.json").write_text(manifest.to_json())
    corpus = Corpus.open(shards)
    for utterance in (long, others[0]):
        with pytest.raises(VocoderError, match="is not what the manifest says"):
            corpus.audio(utterance)


def test_clips_are_divided_in_their_order() -> None:
    assert list(divide([3, 3, 3, 9, 1], 6)) == [2, 1, 1, 1]
    assert list(divide([1], 6)) == [1]


def test_the_command_says_what_it_made(folder: Path, tmp_path: Path, run) -> None:  # type: ignore[no-untyped-def]
    result = run("shard", folder, "--out", tmp_path / "out", "--size", "1GB")
    assert result.code == 0
    assert result.out.decode() == f"{tmp_path / 'out'}: 5 clips; shards: 1\n"
