from __future__ import annotations

import json
import pickle
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vocoder.data.speech.corpus import Corpus, Manifest, Utterance, map_array
from vocoder.data.speech.reader import (
    DATASETS,
    first_ids,
    is_safe_id,
    n_test_clips,
    random_ids,
)
from vocoder.data.speech.readers.ljspeech import parse_metadata, read_ljspeech
from vocoder.data.speech.readers.wav_folder import clip_ids, read_wav_folder
from vocoder.errors import VocoderError
from vocoder.mel.presets import get_preset

PRESET = get_preset("tacotron2-22k")
MANIFEST = Manifest(
    name="wavs",
    preset=PRESET,
    seed=3,
    split_rule="test: 1 of 2 clips",
    utterances=(Utterance("a", "train", 512, 3), Utterance("b ü", "test", 25600, 101)),
)


def ljspeech_folder(folder: Path, lines: list[str], suffix: str = ".wav") -> Path:
    (folder / "wavs").mkdir(parents=True)
    (folder / "metadata.csv").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    for line in lines:
        (folder / "wavs" / f"{line.split('|')[0]}{suffix}").touch()
    return folder


def test_readers_are_found_by_name():
    assert DATASETS.names() == ["ljspeech", "wavs"]
    assert DATASETS.find("wavs") is read_wav_folder
    with pytest.raises(VocoderError, match="unknown corpus 'ljspech'; did you mean 'ljspeech'"):
        DATASETS.find("ljspech")


# ---- split ----


def test_the_published_split_is_1310_and_11790_without_a_clip_in_both(tmp_path):
    ids = [f"LJ{chapter:03d}-{clip:04d}" for chapter in range(1, 51) for clip in range(1, 263)]
    n_test = n_test_clips(len(ids), None, tmp_path)
    test = first_ids(reversed(ids), n_test)
    assert (len(ids), n_test) == (13100, 1310)
    assert len(set(ids) - test) == 11790
    assert max(test) == ids[1309]
    assert min(set(ids) - test) == ids[1310]


@pytest.mark.parametrize(("n_clips", "expected"), [(2, 1), (9, 1), (10, 1), (11, 2), (13099, 1310)])
def test_the_default_test_is_a_tenth_rounded_up(n_clips, expected):
    assert n_test_clips(n_clips, None, Path("x")) == expected


@pytest.mark.parametrize(
    ("n_clips", "wanted", "message"),
    [
        (20, 1310, r"test_clips: 1310 of the 20 clips in x; choose 1 to 19"),
        (20, 0, "choose 1 to 19"),
        (20, -1, "choose 1 to 19"),
        (1, None, "at least 2 are needed"),
        (0, None, "at least 2 are needed"),
    ],
)
def test_a_split_without_training_or_test_is_refused(n_clips, wanted, message):
    with pytest.raises(VocoderError, match=message):
        n_test_clips(n_clips, wanted, Path("x"))


@given(st.sets(st.text(min_size=1, max_size=5), min_size=3), st.integers(0, 9))
def test_a_random_split_depends_on_ids_and_seed_alone(ids, seed):
    drawn = random_ids(sorted(ids), 2, seed)
    assert len(drawn) == 2
    assert drawn <= ids
    assert drawn == random_ids(sorted(ids, reverse=True), 2, seed)
    # A clip less: whoever was drawn and is still there stays drawn.
    smaller = ids - {min(ids - drawn)}
    assert drawn == random_ids(smaller, 2, seed)


def test_seeds_draw_different_splits():
    ids = [f"clip{number}" for number in range(100)]
    assert random_ids(ids, 10, 0) != random_ids(ids, 10, 1)


# ---- LJSpeech ----


def test_ljspeech_takes_wav_or_flac_and_splits_by_sorted_id(tmp_path):
    lines = [f"LJ{number:03d}|Text {number}|text" for number in (3, 1, 2)]
    for suffix in (".wav", ".flac"):
        listing = read_ljspeech(ljspeech_folder(tmp_path / suffix[1:], lines, suffix), 1, 0)
        assert [(clip.id, clip.split) for clip in listing.clips] == [
            ("LJ001", "test"),
            ("LJ002", "train"),
            ("LJ003", "train"),
        ]
        assert all(clip.path.suffix == suffix for clip in listing.clips)
        assert listing.split_rule == "test: the first 1 of 3 ids in sorted order"
        assert listing.problems == ()


def test_ljspeech_reports_lines_and_files_it_cannot_use(tmp_path):
    source = ljspeech_folder(tmp_path / "lj", ["a|x|x", "b|x|x", "c|x|x"])
    with open(source / "metadata.csv", "ab") as file:
        file.write(
            b"no bar\n../../etc/passwd|x|x\na|again|again\n\n\xe2\x80\xa8|x\nd|missing|missing\n"
        )
    listing = read_ljspeech(source, None, 0)
    assert [clip.id for clip in listing.clips] == ["a", "b", "c"]
    problems = dict(listing.problems)
    assert list(problems) == [
        "metadata.csv line 4",
        "metadata.csv line 5",
        "metadata.csv line 6",
        "metadata.csv line 8",
        "wavs/d.wav",
    ]
    assert "no `|`" in problems["metadata.csv line 4"]
    assert "not fit for a file name" in problems["metadata.csv line 5"]
    assert "already on line 1" in problems["metadata.csv line 6"]
    assert "not there" in problems["wavs/d.wav"]


def test_ljspeech_says_what_the_folder_should_hold(tmp_path):
    with pytest.raises(VocoderError, match=r"metadata.csv: not found; give the folder that holds"):
        read_ljspeech(tmp_path, None, 0)
    (tmp_path / "metadata.csv").write_text("a|x|x\nb|x|x\n")
    with pytest.raises(VocoderError, match=r"none of the 2 clips in metadata.csv, such as 'a',"):
        read_ljspeech(tmp_path, None, 0)


@given(st.text() | st.lists(st.text()).map("|".join) | st.lists(st.text()).map("\t".join))
def test_no_metadata_leaves_the_folder_or_raises(text):
    ids, problems = parse_metadata(text)
    wavs = Path("/corpus/wavs")
    assert all((wavs / f"{identity}.wav").parent == wavs for identity in ids)
    assert len(ids) == len(set(ids))
    lines = [line for line in text.split("\n") if line.strip()]
    assert len(ids) + len(problems) == len(lines)


IDS = ["a", "b ü", "c"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("{}|text, it is; and\tmore|text", ""),
        ("{}\ttext, it is", "columns between tabs"),
        ("{};text, it is", "columns between semicolons"),
        ('"{}","text"', "columns between commas"),
        ("{}", "list of ids alone"),
    ],
    ids=["bars", "tabs", "semicolons", "commas", "ids alone"],
)
def test_metadata_of_any_editor(tmp_path, caplog, encoding, line_end, row, said):
    """Every encoding that says what it is, and every separator, which is named."""
    (tmp_path / "wavs").mkdir()
    for name in IDS:
        (tmp_path / "wavs" / f"{name}.wav").touch()
    text = "".join(row.format(name) + line_end for name in IDS)
    (tmp_path / "metadata.csv").write_bytes(text.encode(encoding))
    listing = read_ljspeech(tmp_path, None, 0)
    assert [clip.id for clip in listing.clips] == IDS
    assert not listing.problems
    assert said in caplog.text
    assert bool(said) == bool(caplog.text)


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16-le", "cp1252"])
def test_metadata_of_an_encoding_that_is_not_stated(tmp_path, encoding):
    text = "a|first\nb|Grüße\n"
    (tmp_path / "metadata.csv").write_bytes(text.encode(encoding))
    with pytest.raises(VocoderError, match=r"metadata\.csv: .*; save it as UTF-8"):
        read_ljspeech(tmp_path, None, 0)


# ---- folders ----


def test_a_folder_is_searched_to_its_depth(tmp_path):
    for name in ("a.wav", "deep/er/b.FLAC", "deep/c.Ogg", "notes.txt", ".hidden/d.wav", ".e.wav"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    listing = read_wav_folder(tmp_path, None, 0)
    assert [clip.id for clip in listing.clips] == ["a", "deep-c", "deep-er-b"]
    assert sorted(clip.split for clip in listing.clips) == ["test", "train", "train"]


def test_an_empty_or_missing_folder_is_refused(tmp_path):
    with pytest.raises(VocoderError, match=r"holds no recording, such as"):
        read_wav_folder(tmp_path, None, 0)
    with pytest.raises(VocoderError, match="not a folder"):
        read_wav_folder(tmp_path / "nowhere", None, 0)


PATH_PARTS = st.text(st.characters(exclude_characters="/\0"), min_size=1, max_size=150).filter(
    lambda part: part not in (".", "..")
)


@given(st.lists(st.lists(PATH_PARTS, min_size=1, max_size=3), unique_by=tuple))
def test_ids_are_safe_and_different_even_without_case(parts):
    paths = {PurePosixPath(*part[:-1], f"{part[-1]}.wav") for part in parts}
    ids = clip_ids(paths)
    assert set(ids.values()) == paths
    assert all(map(is_safe_id, ids))
    assert len({identity.casefold() for identity in ids}) == len(paths)


def test_ids_stay_readable_where_they_can():
    paths = [PurePosixPath(name) for name in ("x/1.wav", "x-1.wav", "A.wav", "a.flac", "b c.ogg")]
    ids = {path.as_posix(): identity for identity, path in clip_ids(paths).items()}
    assert ids["b c.ogg"] == "b c"
    assert ids["x/1.wav"].startswith("x-1~")
    assert ids["x-1.wav"].startswith("x-1~")
    assert ids["A.wav"].startswith("A~")
    assert ids["a.flac"].startswith("a~")


@pytest.mark.parametrize(
    "identity", ["", ".", "..", "../a", "a/b", "a\\b", ".a", "a\n", "a\0", "é" * 150]
)
def test_unsafe_ids(identity):
    assert not is_safe_id(identity)


# ---- the manifest ----


def test_a_manifest_survives_its_file():
    text = MANIFEST.to_json()
    assert Manifest.from_json(text) == MANIFEST
    assert json.loads(text)["seconds"] == {"train": 0.023, "test": 1.161}


def changed(**fields: object) -> str:
    return json.dumps({**json.loads(MANIFEST.to_json()), **fields})


def with_utterance(**fields: object) -> str:
    first, second = json.loads(MANIFEST.to_json())["utterances"]
    return changed(utterances=[{**first, **fields}, second])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[]", "not the manifest"),
        (changed(format="other"), "not the manifest"),
        (changed(version=2), "version 2, this vocoder reads 1"),
        (changed(preset=None), "preset must be dict"),
        (changed(fingerprint="0" * 12), "fingerprint '000000000000' is not that of its preset"),
        (changed(name=3), "name must be str"),
        (changed(seed=True), "seed must be int"),
        (changed(utterances=[]), "utterances must be some"),
        (changed(utterances={}), "utterances must be list"),
        (changed(utterances=[3]), r"utterances\[0\]: must be dict"),
        (changed(utterances=json.loads(MANIFEST.to_json())["utterances"][::-1]), "sorted by id"),
        (changed(utterances=json.loads(MANIFEST.to_json())["utterances"][:1] * 2), "different"),
        (with_utterance(id="../a"), r"utterances\[0\]: id '../a' is not fit"),
        (with_utterance(split="dev"), "is none of train, validation, test"),
        (with_utterance(n_samples=511), "not a multiple of the hop 256"),
        (with_utterance(n_samples=0), "not a multiple of the hop 256"),
        (with_utterance(n_samples=512.0), "n_samples must be int"),
        (with_utterance(n_frames=2), "512 samples make 3 with preset tacotron2-22k"),
    ],
)
def test_a_damaged_manifest_is_refused_by_field(text, message):
    with pytest.raises(VocoderError, match=message) as caught:
        Manifest.from_json(text, "m.json")
    assert str(caught.value).startswith("m.json: ")
    assert "\n" not in str(caught.value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(st.sampled_from(sorted(json.loads(MANIFEST.to_json()))), JSON)
def test_any_field_may_hold_anything(key, value):
    try:
        manifest = Manifest.from_json(changed(**{key: value}))
    except VocoderError:
        return
    assert manifest.preset == PRESET
    assert manifest.utterances == MANIFEST.utterances


@given(st.sampled_from(["id", "split", "n_samples", "n_frames"]), JSON)
def test_any_field_of_an_utterance_may_hold_anything(key, value):
    try:
        manifest = Manifest.from_json(with_utterance(**{key: value}))
    except VocoderError:
        return
    assert all(is_safe_id(utterance.id) for utterance in manifest.utterances)


@given(st.binary())
def test_no_bytes_are_more_than_refused(content):
    with pytest.raises(VocoderError):
        Manifest.from_json(content)


@given(st.data())
def test_no_cut_of_a_manifest_passes(data):
    content = MANIFEST.to_json().strip().encode()
    with pytest.raises(VocoderError):
        Manifest.from_json(content[: data.draw(st.integers(0, len(content) - 1))])


# ---- the arrays ----


def test_a_folder_without_a_manifest_is_refused(tmp_path):
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(VocoderError, match=r"there is no manifest.json"):
            Corpus.open(folder)


def test_arrays_are_mapped_and_checked(tmp_path):
    path = tmp_path / "a.npy"
    np.save(path, np.arange(6, dtype=np.int16))
    mapped = map_array(path, np.int16, (6,))
    assert isinstance(mapped, np.memmap)
    assert mapped.tolist() == [0, 1, 2, 3, 4, 5]
    with pytest.raises(VocoderError, match=r"int16 \(6,\), not int16 \(7,\)"):
        map_array(path, np.int16, (7,))
    with pytest.raises(VocoderError, match=r"not float32 \(6,\)"):
        map_array(path, np.float32, (6,))
    with pytest.raises(VocoderError, match=r"b.npy: no such file; preprocess the corpus again"):
        map_array(tmp_path / "b.npy", np.int16, (6,))


class Bomb:
    def __reduce__(self):
        return pytest.fail, ("unpickled",)


def test_pickles_are_refused_unread(tmp_path):
    np.save(tmp_path / "object.npy", np.array([Bomb()], dtype=object), allow_pickle=True)
    (tmp_path / "bare.npy").write_bytes(pickle.dumps(Bomb()))
    np.savez(tmp_path / "archive.npz", a=np.zeros(3))
    (tmp_path / "archive.npz").rename(tmp_path / "archive.npy")
    for name in ("object", "bare", "archive"):
        with pytest.raises(VocoderError, match=f"{name}.npy"):
            map_array(tmp_path / f"{name}.npy", np.int16, (3,))


@given(content=st.binary(max_size=60), cut=st.integers(0, 140))
def test_damaged_arrays_are_refused(tmp_path_factory, content, cut):
    path = tmp_path_factory.mktemp("npy") / "a.npy"
    np.save(path, np.arange(6, dtype=np.int16))
    path.write_bytes(path.read_bytes()[: min(cut, 139)])
    with pytest.raises(VocoderError, match=r"a.npy"):
        map_array(path, np.int16, (6,))
    path.write_bytes(b"\x93NUMPY\x01\x00" + content)
    with pytest.raises(VocoderError, match=r"a.npy"):
        map_array(path, np.int16, (6,))
