"""Mel files: every format says the same, and hostile bytes raise nothing but VocoderError."""

from __future__ import annotations

import io
import json
import zipfile

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from vocoder.errors import VocoderError
from vocoder.mel.files import MEL_SUFFIXES, check_mel, read_mel, read_mel_pieces, write_mel
from vocoder.mel.presets import PRESETS, get_preset

MEL = np.linspace(-11, 1, 80 * 7, dtype=np.float32).reshape(80, 7)
VOCOS = get_preset("vocos-24k")


def save_as(path, array, **others):
    """Save as the path's suffix says, with `others` beside the mel where the format can."""
    if path.suffix == ".npy":
        np.save(path, array)
    elif path.suffix == ".npz":
        np.savez(path, mel=array, **others)
    elif path.suffix == ".pt":
        tensor = torch.from_numpy(array)
        torch.save({"mel": tensor, **others} if others else tensor, path)
    else:
        metadata = {key: str(value) for key, value in others.items()}
        save_file({"mel": torch.from_numpy(array.copy())}, path, metadata)


@pytest.mark.parametrize("suffix", MEL_SUFFIXES)
def test_every_format_gives_the_same_mel(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    save_as(path, MEL)
    read = read_mel(path, n_mels=80)
    np.testing.assert_array_equal(read.mel.numpy(), MEL)
    assert (read.preset, read.name) == (None, str(path))


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".safetensors"])
@pytest.mark.parametrize("preset", [VOCOS, get_preset("tacotron2-22k")], ids=lambda p: p.name)
def test_what_is_written_is_read(tmp_path, suffix, preset):
    mel = torch.randn(preset.n_mels, 5)
    write_mel(tmp_path / f"a{suffix}", mel, preset)
    read = read_mel(tmp_path / f"a{suffix}")
    assert torch.equal(read.mel, mel)
    assert read.preset == (None if suffix == ".npy" else preset)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize(
    ("more", "words"),
    [
        (lambda file: np.save(file, MEL), "holds a second array; give pieces of one mel to"),
        (lambda file: np.save(file, MEL[:0]), "vocoder synthesize --stream"),
        (lambda file: np.save(file, np.zeros(3, int)), "one utterance after the other to vocoder"),
        (lambda file: file.write(b"\x93"), "holds more than its array; save the mel again"),
        (lambda file: file.write(bytes(80)), "holds more than its array; save the mel again"),
    ],
)
def test_nothing_behind_an_array_is_dropped(tmp_path, more, words, order):
    path = tmp_path / "a.npy"
    with path.open("wb") as file:
        np.save(file, np.asarray(MEL, order=order))
        more(file)
    for source in (path, io.BytesIO(path.read_bytes())):
        name = path if source is path else "standard input"
        with pytest.raises(VocoderError, match=rf"\A{name}: .*{words}"):
            read_mel(source)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_float_types_become_float32(tmp_path, dtype):
    mel = torch.randn(80, 4).to(dtype)
    torch.save(mel, tmp_path / "a.pt")
    assert torch.equal(read_mel(tmp_path / "a.pt").mel, mel.float())


@pytest.mark.parametrize("order", [">f4", "<f8"])
def test_any_byte_order(tmp_path, order):
    np.save(tmp_path / "a.npy", MEL.astype(order))
    np.testing.assert_array_equal(read_mel(tmp_path / "a.npy").mel.numpy(), MEL)


# ---- which way round ----


@given(n_frames=st.integers(1, 200), transposed=st.booleans())
@settings(deadline=None)
def test_frames_first_is_turned_round_where_certain(n_frames, transposed):
    mel = np.arange(80 * n_frames, dtype=np.float32).reshape(80, n_frames)
    file = io.BytesIO()
    np.save(file, mel.T if transposed and n_frames != 80 else mel)
    file.seek(0)
    np.testing.assert_array_equal(read_mel(file, n_mels=80).mel.numpy(), mel)


def test_a_square_array_is_bands_by_frames(tmp_path):
    square = np.arange(6400, dtype=np.float32).reshape(80, 80)
    np.save(tmp_path / "a.npy", square)
    np.testing.assert_array_equal(read_mel(tmp_path / "a.npy", n_mels=80).mel.numpy(), square)


def test_the_stated_preset_decides_which_axis_is_bands(tmp_path):
    np.savez(tmp_path / "a.npz", mel=np.zeros((80, 100), np.float32), preset=np.array("vocos-24k"))
    assert read_mel(tmp_path / "a.npz", n_mels=80).mel.shape == (100, 80)


# ---- which preset ----


@pytest.mark.parametrize("suffix", [".npz", ".pt", ".safetensors"])
@pytest.mark.parametrize("stated", ["vocos-24k", json.dumps(VOCOS.to_dict())], ids=["name", "json"])
def test_the_file_states_its_preset(tmp_path, suffix, stated):
    save_as(tmp_path / f"a{suffix}", np.zeros((100, 3), np.float32), preset=stated)
    assert read_mel(tmp_path / f"a{suffix}").preset == VOCOS


def test_the_nearest_statement_counts(tmp_path):
    """Argument over file over sidecar over manifest of the folder over that of the one above."""
    folder = tmp_path / "mels"
    folder.mkdir()
    path, plain = folder / "a.npz", folder / "b.npy"
    np.save(plain, MEL)
    assert read_mel(plain).preset is None
    (tmp_path / "manifest.json").write_text(
        json.dumps({"preset": get_preset("hifigan-22k").to_dict(), "more": 1})
    )
    assert read_mel(plain).preset.name == "hifigan-22k"
    (folder / "manifest.json").write_text(json.dumps({"preset": "coqui-22k"}))
    assert read_mel(plain).preset.name == "coqui-22k"
    (folder / "b.json").write_text(json.dumps({"preset": "pwg-22k"}))
    assert read_mel(plain).preset.name == "pwg-22k"
    (folder / "a.json").write_text(json.dumps({"preset": "pwg-22k"}))
    np.savez(path, mel=MEL, preset=np.array("speechbrain-22k"))
    assert read_mel(path).preset.name == "speechbrain-22k"
    assert read_mel(path, preset=PRESETS["tacotron2-22k"]).preset.name == "tacotron2-22k"


def test_json_without_a_preset_says_nothing(tmp_path):
    np.save(tmp_path / "a.npy", MEL)
    (tmp_path / "a.json").write_text('{"text": "hello"}')
    (tmp_path / "manifest.json").write_text("[1, 2]")
    assert read_mel(tmp_path / "a.npy").preset is None


# ---- what is refused ----


def refuse(path, *words):
    with pytest.raises(VocoderError) as caught:
        read_mel(path, n_mels=80)
    message = str(caught.value)
    assert "\n" not in message
    for word in (str(path), *words):
        assert word in message


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((1, 80, 5), np.float32), ["(1, 80, 5)", "mel[0]"]),
        (np.zeros(80, np.float32), ["(80,)", "(bands, frames)"]),
        (np.zeros((80, 0), np.float32), ["0 frames"]),
        (np.zeros((80, 5), np.int16), ["int16", "floating-point"]),
        (np.zeros((80, 5), np.complex64), ["complex64"]),
        (np.full((80, 5), np.inf, np.float32), ["NaN or infinite in 400 of 400"]),
        (np.full((80, 5), 1e300), ["NaN or infinite"]),
        (np.array([["a"] * 5] * 80), ["<U1"]),
    ],
    ids=["3-D", "1-D", "no frames", "integers", "complex", "infinite", "overflow", "text"],
)
def test_arrays_that_are_no_mel(tmp_path, array, words):
    np.save(tmp_path / "a.npy", array)
    refuse(tmp_path / "a.npy", *words)


def test_the_first_bad_frame_is_named():
    mel = torch.zeros(80, 9)
    mel[3, 5] = mel[7, 8] = float("nan")
    with pytest.raises(VocoderError, match=r"2 of 720 values, first in frame 5"):
        check_mel(mel)


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_pickled_objects_are_never_loaded(tmp_path, suffix):
    class Bomb:
        def __reduce__(self):
            return (exit, (7,))

    array = np.array([Bomb()], dtype=object)
    path = tmp_path / f"a{suffix}"
    (np.save if suffix == ".npy" else np.savez)(path, array, allow_pickle=True)
    refuse(path, "Object arrays cannot be loaded")


def test_a_pickle_under_pt_is_never_run(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (exit, (7,))

    torch.save({"mel": Bomb()}, tmp_path / "a.pt")
    refuse(tmp_path / "a.pt", "not a file of tensors alone", "it names _sitebuiltins.Quitter")


def test_several_arrays_need_one_called_mel(tmp_path):
    np.savez(tmp_path / "a.npz", left=MEL, right=MEL)
    refuse(tmp_path / "a.npz", "2 arrays (left, right)", "'mel'")
    np.savez(tmp_path / "b.npz", text=np.array("hello"), mel=MEL)
    assert read_mel(tmp_path / "b.npz").mel.shape == (80, 7)


def test_an_archive_that_unpacks_to_too_much(tmp_path):
    path = tmp_path / "a.npz"
    np.savez_compressed(path, mel=MEL)
    content = bytearray(path.read_bytes())
    # Claim 4 GB in the central directory, at the field "uncompressed size".
    entry = content.rfind(b"PK\x01\x02")
    content[entry + 24 : entry + 28] = (0xF0000000).to_bytes(4, "little")
    path.write_bytes(content)
    assert zipfile.ZipFile(path).infolist()[0].file_size == 0xF0000000
    refuse(path, "claims 4026531840 bytes")


def test_a_header_that_claims_a_huge_array(tmp_path):
    file = io.BytesIO()
    np.save(file, MEL)
    path = tmp_path / "a.npy"
    path.write_bytes(file.getvalue().replace(b"(80, 7), }" + b" " * 12, b"(80, 7000000000000), }"))
    refuse(path, "not a readable .npy file")


def test_a_tensor_that_claims_a_huge_shape(tmp_path):
    torch.save(torch.zeros(1, 1).expand(80, 10**9), tmp_path / "a.pt")
    refuse(tmp_path / "a.pt", "(80, 1000000000)")


def test_an_unknown_preset_names_file_and_suggestion(tmp_path):
    np.savez(tmp_path / "a.npz", mel=MEL, preset=np.array("tacotron-22k"))
    refuse(tmp_path / "a.npz", "'tacotron-22k'", "did you mean 'tacotron2-22k'?")


@pytest.mark.parametrize(
    ("stated", "reason"),
    [
        (torch.zeros(4), "preset: is a Tensor; state its name or its fields"),
        ([], "preset: is a list; state its name or its fields"),
        ("", "preset '': unknown; `vocoder presets` lists them"),
        ('{"name": "mine"}', "preset: lacks sample_rate, n_fft, hop_length and 17 more"),
        (
            '{"name": ',
            "preset: not JSON (Expecting value: line 1 column 10 (char 9)); state its name",
        ),
        (
            {**VOCOS.to_dict(), "n_fft": 9},
            "preset vocos-24k: wants 1 ≤ hop_length ≤ win_length ≤ n_fft",
        ),
        ({**VOCOS.to_dict(), "n_ftt": 9}, "preset.n_ftt: unknown key; did you mean 'n_fft'?"),
    ],
)
def test_a_stated_preset_that_is_none(tmp_path, stated, reason):
    path = tmp_path / "a.pt"
    torch.save({"mel": torch.zeros(80, 4), "preset": stated}, path)
    with pytest.raises(VocoderError) as caught:
        read_mel(path)
    assert str(caught.value) == f"{path}: {reason}"


def test_a_broken_sidecar_is_named(tmp_path):
    np.save(tmp_path / "a.npy", MEL)
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(VocoderError, match=r"a\.json: not JSON"):
        read_mel(tmp_path / "a.npy")


def test_other_files(tmp_path):
    refuse(tmp_path / "a.mp4", "not a mel file", ".safetensors")
    with pytest.raises(FileNotFoundError):
        read_mel(tmp_path / "absent.npy")
    with pytest.raises(VocoderError, match=r"written as \.npz"):
        write_mel(tmp_path / "a.pt", torch.zeros(80, 2), VOCOS)


# ---- hostile bytes ----


def valid_bytes(suffix, folder):
    save_as(folder / f"valid{suffix}", MEL)
    return (folder / f"valid{suffix}").read_bytes()


def only_vocoder_errors(path, content):
    path.write_bytes(content)
    message, read = None, None
    try:
        read = read_mel(path, n_mels=80)
    except VocoderError as error:
        message = str(error)
    if read is not None:
        assert read.mel.ndim == 2
        assert torch.isfinite(read.mel).all()
    else:
        assert str(path) in message
        assert "\n" not in message


hostile = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
MAGIC = {
    ".npy": [b"", b"\x93NUMPY\x01\x00", b"\x93NUMPY\x01\x00\x10\x00{'descr': '<f4',"],
    ".npz": [b"", b"PK\x03\x04", b"PK\x05\x06"],
    ".pt": [b"", b"PK\x03\x04", b"\x80\x02", b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."],
    ".safetensors": [b"", b'\x10\0\0\0\0\0\0\0{"a":', b"\x02\0\0\0\0\0\0\0{}"],
}


@pytest.mark.parametrize("suffix", MEL_SUFFIXES)
@given(data=st.data())
@hostile
def test_random_bytes(tmp_path, suffix, data):
    content = data.draw(st.sampled_from(MAGIC[suffix])) + data.draw(st.binary(max_size=300))
    only_vocoder_errors(tmp_path / f"a{suffix}", content)


@pytest.mark.parametrize("suffix", MEL_SUFFIXES)
@given(data=st.data())
@hostile
def test_damaged_files(tmp_path, suffix, data):
    content = bytearray(valid_bytes(suffix, tmp_path))
    if data.draw(st.booleans(), label="truncate"):
        content = content[: data.draw(st.integers(0, len(content) - 1))]
    for _ in range(data.draw(st.integers(0, 4), label="flips")):
        if content:
            # Headers and directories are where damage does most.
            near = st.integers(0, min(len(content) - 1, 200))
            far = st.integers(max(0, len(content) - 200), len(content) - 1)
            content[data.draw(near | far)] = data.draw(st.integers(0, 255))
    only_vocoder_errors(tmp_path / f"a{suffix}", bytes(content))


# ---- a stream of arrays ----


def npy(array, **options):
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array, **options)
    return buffer.getvalue()


class Pipe(io.RawIOBase):
    """Bytes that can neither be sought in nor looked ahead at."""

    def __init__(self, content):
        self.content = io.BytesIO(content)

    def readable(self):
        return True

    def readinto(self, buffer):
        return self.content.readinto(buffer[:7])


def pieces(content):
    return list(read_mel_pieces(io.BufferedReader(Pipe(content)), 80))


@given(
    sizes=st.lists(st.integers(0, 5), max_size=6),
    dtype=st.sampled_from(["<f4", ">f4", "<f8", "<f2"]),
    turned=st.booleans(),
    version=st.sampled_from([(1, 0), (2, 0)]),
)
def test_arrays_one_after_the_other(sizes, dtype, turned, version):
    arrays = [np.random.default_rng(n).normal(size=(80, n)).astype(dtype) for n in sizes]
    sent = [np.asfortranarray(a) if i % 2 else a.copy() for i, a in enumerate(arrays)]
    content = b"".join(npy(a.T if turned else a, version=version) for a in sent)
    got = pieces(content)
    assert len(got) == len(arrays)
    for ours, theirs in zip(got, arrays, strict=True):
        assert ours.dtype == torch.float32
        np.testing.assert_array_equal(ours.numpy(), theirs.astype(np.float32))


def test_a_square_array_lies_as_those_before_it():
    mel = np.random.default_rng(0).normal(size=(80, 100)).astype(np.float32)
    content = npy(mel[:, :20].T) + npy(mel[:, 20:].T)
    np.testing.assert_array_equal(torch.cat(pieces(content), dim=1).numpy(), mel)


WHOLE = npy(np.zeros((80, 3), np.float32))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (WHOLE[:5], "array 2: not an .npy array of numbers"),
        (WHOLE[:40], "array 2: not an .npy array of numbers"),
        (WHOLE[:-100], "array 2: .*truncated, 100 of 960 bytes are missing"),
        (b"RIFF....WAVEfmt ", "array 2: not an .npy array of numbers"),
        (npy(np.zeros((80, 3), np.int16)), "array 2: .*holds int16"),
        (npy(np.zeros((1, 80, 3), np.float32)), r"array 2: .*has shape \(1, 80, 3\)"),
        (npy(np.array([{}]), allow_pickle=True), "array 2: .*Object arrays"),
        (WHOLE.replace(b"(80, 3), ", b"(80, 9**9)"), "array 2: not an .npy array of numbers"),
    ],
)
def test_a_bad_array_in_a_stream(content, words):
    got = []
    with pytest.raises(VocoderError, match=f"standard input: {words}") as caught:
        got.extend(read_mel_pieces(io.BytesIO(WHOLE + content), 80))
    assert len(got) == 1
    assert "\n" not in str(caught.value)


def test_a_hostile_shape_takes_no_memory():
    header = np.lib.format.header_data_from_array_1_0(np.zeros((80, 3), np.float32))
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {**header, "shape": (80, 10**12)})
    with pytest.raises(VocoderError, match=r"array 1: .*float32 of shape"):
        pieces(buffer.getvalue())
