"""Bad input through the command line: one line, exit code 2, and nothing half-written."""

from __future__ import annotations

import ctypes
import functools
import json
import os
import resource
import subprocess
import sys

import numpy as np
import pytest
import safetensors
import torch
from commands import assert_one_error_line, left_in, run_apart
from helpers import make_corpus, write_tone
from safetensors.torch import load_file, save_file
from voices import save_tiny_voice, some_mel

from vocoder.cli import commands
from vocoder.data.speech.sharding import shard_corpus
from vocoder.device import resolve_device
from vocoder.errors import VocoderError
from vocoder.mel.files import write_mel
from vocoder.mel.presets import get_preset


@pytest.fixture
def voice(tmp_path):
    (tmp_path / "voice").mkdir()
    return save_tiny_voice(tmp_path / "voice/tiny.safetensors")


@pytest.fixture
def out(tmp_path):
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


# ---- mels ----


def altered(mel, **changes):
    mel = mel.clone()
    mel[changes.get("band", 0), changes.get("frame", 0)] = changes["value"]
    return mel


BAD_ARRAYS = {
    "wrong band count": (torch.zeros(100, 7), ["100 bands", "80 (preset tacotron2-22k)"]),
    "NaN": (altered(some_mel(5), frame=3, value=torch.nan), ["NaN", "frame 3"]),
    "infinite": (altered(some_mel(5), value=torch.inf), ["infinite", "frame 0"]),
    "0 frames": (torch.zeros(80, 0), ["0 frames"]),
    "3-D": (torch.zeros(1, 80, 5), ["(1, 80, 5)", "one utterance per file", "mel[0]"]),
    "1-D": (torch.zeros(400), ["(400,)"]),
    "audio as integers": (torch.zeros(80, 5, dtype=torch.int16), ["int16"]),
    "dB": (torch.linspace(-100, 0, 400).reshape(80, 5), ["tacotron2-22k", "dB", "--preset"]),
    "normalised": (torch.linspace(0, 1, 400).reshape(80, 5), ["tacotron2-22k", "--preset"]),
}


@pytest.mark.parametrize("kind", BAD_ARRAYS)
def test_a_bad_mel(run, tmp_path, voice, out, kind):
    """Among good ones: they are not spoken either, since all are checked before the first."""
    mel, words = BAD_ARRAYS[kind]
    (tmp_path / "in").mkdir()
    np.save(tmp_path / "in/a.npy", some_mel(3).numpy())
    np.save(tmp_path / "in/bad.npy", mel.numpy())
    result = run("synthesize", tmp_path / "in", "-o", out, "--voice", voice)
    assert_one_error_line(result, tmp_path / "in/bad.npy", *words)
    assert left_in(out) == []


@pytest.mark.parametrize("kind", ["NaN", "0 frames", "wrong band count"])
def test_a_bad_mel_on_standard_input(run, tmp_path, voice, kind):
    mel, words = BAD_ARRAYS[kind]
    np.save(tmp_path / "bad.npy", mel.numpy())
    content = (tmp_path / "bad.npy").read_bytes()
    result = run("synthesize", "-", "-o", "-", "--voice", voice, stdin=content)
    assert_one_error_line(result, "standard input", *words)


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY", b"RIFF....WAVE", bytes(range(100, 200))])
def test_junk_on_standard_input(run, voice, content):
    result = run("synthesize", "-", "-o", "-", "--voice", voice, stdin=content)
    assert_one_error_line(result, "standard input", "numpy.save")


@pytest.mark.parametrize("name", ["bad.npy", "bad.npz"])
def test_a_pickled_array(run, tmp_path, voice, out, name):
    save = np.save if name.endswith("npy") else np.savez
    save(tmp_path / name, np.array([{"mel": 1}], dtype=object), allow_pickle=True)
    result = run("synthesize", tmp_path / name, "-o", out, "--voice", voice)
    assert_one_error_line(result, tmp_path / name, "Object arrays")
    assert left_in(out) == []


def test_a_preset_that_cannot_be_converted(run, tmp_path, voice, out):
    write_mel(tmp_path / "a.npz", torch.zeros(100, 5), get_preset("vocos-24k"))
    result = run("synthesize", tmp_path / "a.npz", "-o", out, "--voice", voice)
    assert_one_error_line(
        result, tmp_path / "a.npz", "vocos-24k", "n_mels 100 ≠ 80", "sample_rate 24000 ≠ 22050",
        "cannot be converted exactly",
    )  # fmt: skip
    flags = ("--to", "tacotron2-22k")
    result = run("convert-mel", tmp_path / "a.npz", "-o", out, *flags)
    assert_one_error_line(result, tmp_path / "a.npz", "n_mels 100 ≠ 80")
    np.save(tmp_path / "b.npy", some_mel(3).numpy())
    result = run("convert-mel", tmp_path / "b.npy", "-o", out, *flags)
    assert_one_error_line(result, tmp_path / "b.npy", "--from")
    assert left_in(out) == []


def test_mels_are_converted_all_or_none(run, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    np.save(folder / "1.npy", some_mel(3).numpy())
    np.save(folder / "2.npy", altered(some_mel(3), value=torch.nan).numpy())
    flags = ("--from", "tacotron2-22k", "--to", "nanoflow-db-22k")
    result = run("convert-mel", folder, "-o", tmp_path / "new", *flags)
    assert_one_error_line(result, folder / "2.npy", "NaN")
    assert not (tmp_path / "new").exists()


def test_names_that_are_not_there(run, tmp_path, voice, out):
    np.save(tmp_path / "a.npy", some_mel(3).numpy())
    good = ("synthesize", tmp_path / "a.npy", "-o", out)
    assert_one_error_line(run(*good, "--voice", "griffin"), "did you mean 'griffin-lim'?")
    assert_one_error_line(run(*good, "--preset", "tacotron2"), "'tacotron2'", "did you mean")
    assert_one_error_line(run(*good, "--device", "tpu9"), "'tpu9'")
    assert_one_error_line(run(*good, "--device", "meta"), "'meta': not usable here")
    for flags in ("--backend=cpu", "--backend=zzz", "--memory=1GB"):
        for preset in ((), ("--preset", "tacotron2-22k")):
            refused = run(*good, "--voice=griffin-lim", flags, *preset)
            assert_one_error_line(refused, "griffin-lim: has no backend to choose and no memory")
    assert_one_error_line(run(*good, "--dtype", "bf16"), "bfloat16")
    assert_one_error_line(run(*good, "--temperature=-1", "--voice", voice), "temperature")
    new = ("synthesize", tmp_path / "a.npy", "-o", tmp_path / "new", "--voice", voice)
    for flag in ("--temperature=nan", "--seed=-1", "--denoise=nan", "--denoise=inf"):
        assert_one_error_line(run(*new, flag), flag.strip("-").replace("=", " ").split()[1])
    assert not (tmp_path / "new").exists()
    measured = run("benchmark", "griffin-lim")
    assert_one_error_line(measured, "an algorithm without a checkpoint; name a trained voice")
    assert_one_error_line(run("benchmark", "--seconds=nan"), "positive and finite")
    assert_one_error_line(run(*good, "--batch-size=0"), "batch size 0")
    assert_one_error_line(run("synthesize", "absent.npy", "-o", out), "absent.npy: no such file")
    assert_one_error_line(run("synthesize", voice.parent, "-o", out), voice)
    (tmp_path / "list.txt").write_text("a.npy\nb.npy\n")
    listing = run("synthesize", tmp_path / "list.txt", "-o", out)
    assert_one_error_line(listing, "list.txt: line 2", tmp_path / "b.npy")
    (tmp_path / "empty").mkdir()
    assert_one_error_line(run("synthesize", tmp_path / "empty", "-o", out), "holds no mel or audio")
    sharded = shard_corpus(make_corpus(tmp_path / "corpus"), tmp_path / "sharded").folder
    assert_one_error_line(run("synthesize", sharded, "-o", out), "sharded: its mels are in shards")
    assert left_in(out) == []


SEEDED = [
    name
    for name, command in commands.commands.items()
    if any(option.name == "seed" for option in command.params)
]


@pytest.mark.parametrize("name", SEEDED)
@pytest.mark.parametrize("seed", [-1, 2**63])
def test_a_seed_out_of_range(run, name, seed):
    """Refused before anything else that a command wants."""
    assert_one_error_line(run(name, f"--seed={seed}"), f"seed {seed}: must lie between 0 and")


def test_bad_recordings(run, tmp_path, voice, out):
    (tmp_path / "junk.wav").write_bytes(b"RIFF")
    result = run("synthesize", tmp_path / "junk.wav", "-o", out, "--voice", voice)
    assert_one_error_line(result, tmp_path / "junk.wav")
    assert left_in(out) == []


@pytest.mark.parametrize("device", ["tpu9", "meta", "mps", "cuda:99", "xpu", ""])
def test_a_device_that_is_not_here_is_refused_in_a_short_line(device):
    """Torch itself lists all that it could compute with, in more than a kilobyte."""
    with pytest.raises(VocoderError, match=f"device '{device}': not usable here") as caught:
        resolve_device(device)
    assert len(str(caught.value)) < 200


# ---- voices ----


def rewritten(voice, target, change):
    """Copy a voice with a changed header."""
    with safetensors.safe_open(voice, "pt") as file:
        header = json.loads(file.metadata()["vocoder"])
    change(header)
    save_file(load_file(voice), target, {"vocoder": json.dumps(header)})
    return target


@pytest.mark.parametrize("fraction", [0.0, 0.1, 0.9, 0.999])
def test_a_truncated_voice(run, tmp_path, voice, out, fraction):
    content = voice.read_bytes()
    bad = tmp_path / "bad.safetensors"
    bad.write_bytes(content[: int(fraction * len(content))])
    np.save(tmp_path / "a.npy", some_mel(3).numpy())
    result = run("synthesize", tmp_path / "a.npy", "-o", out, "--voice", bad)
    assert_one_error_line(result, bad, "copy it again")
    assert_one_error_line(run("info", bad), bad, "copy it again")
    assert left_in(out) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda header: header.update(model="nanoflaw"), ["'nanoflaw'", "did you mean 'nanoflow'"]),
        (lambda header: header.update(model="os.system"), ["unknown model 'os.system'"]),
        (lambda header: header["config"].update(chanels=3), ["chanels", "did you mean 'channels'"]),
        (lambda header: header["config"].update(n_height=7), ["n_height 7"]),
        (lambda header: header.update(fingerprint="0" * 12), ["fingerprint"]),
    ],
    ids=["misspelt model", "hostile model", "misspelt key", "rows", "fingerprint"],
)
def test_a_voice_with_a_strange_header(run, tmp_path, voice, out, change, words):
    bad = rewritten(voice, tmp_path / "bad.safetensors", change)
    np.save(tmp_path / "a.npy", some_mel(3).numpy())
    result = run("synthesize", tmp_path / "a.npy", "-o", out, "--voice", bad)
    assert_one_error_line(result, bad, *words)
    assert left_in(out) == []


def test_a_file_that_is_no_voice(run, tmp_path, out):
    np.save(tmp_path / "a.npy", some_mel(3).numpy())
    save_file({"mel": torch.zeros(2)}, tmp_path / "other.safetensors")
    for bad in (tmp_path / "other.safetensors", tmp_path / "a.npy", out):
        assert_one_error_line(run("synthesize", tmp_path / "a.npy", "-o", out, "--voice", bad), bad)


FOREIGN = {
    "x.pt": (lambda path: torch.save({"a": torch.zeros(2)}, path), ["vocoder import"]),
    "old.pth": (
        lambda path: torch.save({"a": 1}, path, _use_new_zipfile_serialization=False),
        ["a pickle", "vocoder import"],
    ),
    "v.onnx": (lambda path: path.write_bytes(b"\x08\x08\x12\x07vocoder"), ["onnxruntime"]),
    "renamed": (lambda path: path.write_bytes(b"\x08\x08\x12\x07vocoder"), ["onnxruntime"]),
    "mel.npy": (lambda path: np.save(path, np.zeros(3)), ["an array of numpy"]),
    "mel.npz": (lambda path: np.savez(path, np.zeros(3)), ["a zip archive"]),
    "x.h5": (lambda path: path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(9)), ["HDF5"]),
    "speech.wav": (lambda path: path.write_bytes(b"RIFF" + bytes(40)), ["a recording"]),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_a_voice_of_another_program(run, tmp_path, name):
    """It says what the file is and what to do with it, not to copy it again."""
    write, words = FOREIGN[name]
    write(tmp_path / name)
    np.save(tmp_path / "a.npy", some_mel(3).numpy())
    for command in (
        ("synthesize", tmp_path / "a.npy", "-o", tmp_path / "out", "--voice", tmp_path / name),
        ("info", tmp_path / name),
        ("export", tmp_path / name, "-o", tmp_path / "new.onnx"),
        ("sample", tmp_path / name, "-o", tmp_path / "a.png"),
    ):
        result = run(*command)
        assert_one_error_line(result, tmp_path / name, *words)
        assert "copy it again" not in result.err


def test_the_name_of_a_shipped_voice_works_wherever_a_voice_is_taken(run, tmp_path):
    make_corpus(tmp_path / "corpus", n_clips=2)
    new = ("--data", tmp_path / "corpus", "--run-dir", tmp_path / "run", "-o", "train.steps=1")
    tuning = ("train", "tiny/nanoflow", *new, "--init-from")
    # It is found, and only does not fit; what is not found is named with the voices there are.
    assert_one_error_line(run(*tuning, "prompts-22k"), "prompts-22k.safetensors")
    assert_one_error_line(run(*tuning, "prompts-22"), "did you mean 'prompts-22k'?")
    assert_one_error_line(run(*tuning, "griffin-lim"), "an algorithm without a checkpoint")
    sampled = run("sample", "prompts-22k", "-o", tmp_path / "a.png")
    assert_one_error_line(sampled, "is a voice and knows no images")
    assert_one_error_line(run("evaluate-images", "prompts-22k"), "is a voice, not an image model")


def test_an_import_of_junk(run, tmp_path, out):
    (tmp_path / "c.json").write_text("{}")
    (tmp_path / "c.pt").write_bytes(b"junk")
    voice = out / "v.safetensors"
    result = run("import", tmp_path / "c.pt", "--config", tmp_path / "c.json", "-o", voice)
    assert_one_error_line(result, tmp_path / "c.pt")
    result = run("import", tmp_path / "c.pt", "--config", tmp_path / "absent.json", "-o", voice)
    assert_one_error_line(result, tmp_path / "absent.json")
    assert left_in(out) == []


# ---- recipes and corpora ----


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("train.stepz=3", ["train.stepz", "did you mean 'steps'"]),
        ("model.n_height=7", ["n_height 7", "hop length"]),
        ("train.lr=fast", ["train.lr", "float", "'fast'"]),
        ("nothing", ["'nothing'", "key=value"]),
    ],
)
def test_a_recipe_that_does_not_fit(run, tmp_path, override, words):
    make_corpus(tmp_path / "corpus", n_clips=2)
    flags = ("--data", tmp_path / "corpus", "--run-dir", tmp_path / "run")
    result = run("train", "ljspeech/nanoflow", *flags, "-o", override)
    assert_one_error_line(result, *words)
    assert not (tmp_path / "run").exists()


def test_a_corpus_that_is_none(run, tmp_path):
    flags = ("--data", tmp_path, "--run-dir", tmp_path / "run")
    assert_one_error_line(run("train", "ljspeech/nanoflow", *flags), tmp_path, "manifest.json")
    assert_one_error_line(run("train", "ljspeech/nanflow", *flags), "did you mean")


def test_a_source_with_no_usable_clip(run, tmp_path, out):
    (tmp_path / "wavs").mkdir()
    for flags in (["wavs"], ["ljspeech"], ["wavz"]):
        where = ("--source", tmp_path / "wavs", "--out", out, "--jobs=1")
        assert_one_error_line(run("preprocess", *flags, *where))
    assert left_in(out) == []


# ---- the machine ----


def drop_root_powers():
    """Let permissions count for root too: drop CAP_DAC_OVERRIDE from what the next exec gets."""
    pr_capbset_drop, cap_dac_override, cap_dac_read_search = 24, 1, 2
    if os.geteuid() == 0:
        libc = ctypes.CDLL(None)
        libc.prctl(pr_capbset_drop, cap_dac_override, 0, 0, 0)
        libc.prctl(pr_capbset_drop, cap_dac_read_search, 0, 0, 0)


posix = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs Linux")
QUICK = ("--voice", "griffin-lim", "--device", "cpu")


@posix
def test_an_output_folder_that_cannot_be_written_to(tmp_path, out):
    np.save(tmp_path / "a.npy", some_mel(3).numpy())
    out.chmod(0o555)
    for target, named in ((out / "a.wav", out), (out / "deep", out / "deep")):
        result = run_apart(
            "synthesize", tmp_path / "a.npy", "-o", target, *QUICK, preexec_fn=drop_root_powers
        )
        assert_one_error_line(result, named, "Permission denied", "choose another place")
    out.chmod(0o755)
    assert left_in(out) == []


def test_an_output_folder_that_is_a_file(run, tmp_path):
    np.save(tmp_path / "a.npy", some_mel(3).numpy())
    result = run("synthesize", tmp_path / "a.npy", "-o", tmp_path / "a.npy/out", *QUICK)
    assert_one_error_line(result, tmp_path / "a.npy/out")
    (tmp_path / "plain").touch()
    for target in ("plain", "plain/a.wav"):
        result = run("synthesize", tmp_path / "a.npy", "-o", tmp_path / target, *QUICK)
        assert_one_error_line(result, tmp_path / "plain", "no folder: choose another name")


@posix
def test_closed_standard_streams(tmp_path):
    np.save(tmp_path / "a.npy", some_mel(3).numpy())
    no_input = {"preexec_fn": functools.partial(os.close, 0)}
    speak = ("-o", tmp_path / "a.wav", *QUICK)
    assert run_apart("synthesize", tmp_path / "a.npy", *speak, **no_input).code == 0
    for command in (
        ("synthesize", "-", *speak),
        ("synthesize", "-", "-o", "-", "--stream=pcm"),
        ("convert-mel", "-", "-o", tmp_path / "b.npz", "--to", "tacotron2-22k"),
    ):
        result = run_apart(*command, **no_input)
        assert_one_error_line(result, "standard input: is closed", "name a file")
    result = run_apart("presets", preexec_fn=functools.partial(os.close, 1))
    assert_one_error_line(result, "standard output: is closed", ">/dev/null")


@posix
def test_nobody_needs_to_hear_standard_error(tmp_path):
    np.save(tmp_path / "a.npy", some_mel(3).numpy())
    for i in range(2):
        write_tone(tmp_path / "wavs" / f"{i}.wav")
    unheard = {"preexec_fn": functools.partial(os.close, 2)}
    preprocess = ("preprocess", "wavs", "--source", tmp_path / "wavs", "--out", tmp_path / "out")
    for command in (
        ("synthesize", tmp_path / "a.npy", "-o", tmp_path / "a.wav", *QUICK),
        preprocess,
    ):
        result = run_apart(*command, **unheard)
        assert (result.code, result.err) == (0, "")
    assert (tmp_path / "a.wav").exists()
    assert (tmp_path / "out" / "manifest.json").exists()
    assert run_apart("info", tmp_path / "none", **unheard).code == 2


def long_and_short(tmp_path):
    """Two mels of which the first fits into 10 KB of audio and the second does not."""
    folder = tmp_path / "in"
    folder.mkdir()
    np.save(folder / "1.npy", some_mel(3).numpy())
    np.save(folder / "2.npy", some_mel(200).numpy())
    return folder


@posix
def test_a_full_quota(tmp_path, out):
    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))

    inputs = long_and_short(tmp_path)
    result = run_apart("synthesize", inputs, "-o", out, *QUICK, preexec_fn=limit)
    assert_one_error_line(result, out / "2.wav", "File too large", "write elsewhere")
    assert left_in(out) == ["1.wav"]  # whole, and no trace of the other
    assert (out / "1.wav").stat().st_size == 44 + 2 * 3 * 256


@posix
def test_a_full_disk(tmp_path, out):
    mount = ["mount", "-t", "tmpfs", "-o", "size=32k", "tmpfs", str(out)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("may not mount a tmpfs; the full quota stands in for it")
    try:
        result = run_apart("synthesize", long_and_short(tmp_path), "-o", out, *QUICK)
        assert_one_error_line(result, out / "2.wav", "No space left on device", "free some space")
        assert left_in(out) == ["1.wav"]
    finally:
        subprocess.run(["umount", str(out)], check=True)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_standard_output(tmp_path):
    np.save(tmp_path / "a.npy", some_mel(3).numpy())
    for command in (("synthesize", tmp_path / "a.npy", "-o", "-", *QUICK), ("presets",)):
        with open("/dev/full", "wb") as full:
            result = run_apart(*command, stdout=full)
        result.out = b""
        assert_one_error_line(result, "No space left on device")
