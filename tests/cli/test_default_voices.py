"""Voices that ship, by name, and which speaks where none is named."""

from __future__ import annotations

import json
import re

import pytest
from commands import assert_one_error_line, n_samples
from voices import TACOTRON2, save_mel, save_tiny_voice, some_mel

from vocoder.mel.files import write_mel
from vocoder.mel.presets import get_preset
from vocoder.voice.catalogue import default_voice
from vocoder.voice.load import load


def test_the_default_voice_is_named_with_its_reason(run, tmp_path):
    save_mel(tmp_path / "a.npy")
    result = run("synthesize", tmp_path / "a.npy", "-o", tmp_path / "a.wav")
    default = default_voice(TACOTRON2)
    told = f"vocoder: voice {default.voice}, the default for tacotron2-22k: {default.reason}\n"
    assert told in result.err
    assert n_samples(tmp_path / "a.wav") == 4 * 256


@pytest.fixture
def shipped(tmp_path, monkeypatch):
    """A package that ships a voice called "tiny", which is the default."""
    folder = tmp_path / "pretrained"
    folder.mkdir()
    save_tiny_voice(folder / "tiny.safetensors")
    (folder / "tiny.md").write_text("# A tiny voice")
    voice = {"file": "tiny.safetensors", "card": "tiny.md", "figures": {"stoi": 0.25}}
    default = {"voice": "tiny", "reason": "STOI 0.25 against 0.2"}
    catalogue = {
        "presets": {"tacotron2-22k": default},
        "no_voice": "nothing else",
        "griffin_lim_refine": 1,
        "voices": {"tiny": voice},
    }
    (folder / "voices.json").write_text(json.dumps(catalogue))
    monkeypatch.setattr("vocoder.voice.catalogue._FOLDER", folder)
    return folder


def test_a_shipped_voice_is_known_by_its_name(run, tmp_path, shipped):
    mel = save_mel(tmp_path / "a.npy")
    run("synthesize", mel, "-o", tmp_path / "named.wav", "--voice", "tiny", "--seed=1")
    result = run("synthesize", mel, "-o", tmp_path / "default.wav", "--seed=1")
    told = "vocoder: voice tiny, the default for tacotron2-22k: STOI 0.25 against 0.2\n"
    assert told in result.err
    assert (tmp_path / "named.wav").read_bytes() == (tmp_path / "default.wav").read_bytes()
    assert load().name == "tiny"
    text = run("info", "tiny").out.decode()
    assert str(shipped / "tiny.md") in text
    assert re.search(r"^stoi +0\.25$", text, re.MULTILINE)
    assert_one_error_line(run("info", "tony"), "griffin-lim, tiny", "did you mean 'tiny'?")


def test_each_mel_of_a_folder_is_spoken_by_the_default_voice_of_its_preset(run, tmp_path, shipped):
    other = get_preset("hifigan-22k")
    (tmp_path / "mels").mkdir()
    write_mel(tmp_path / "mels" / "a.npz", some_mel(4), TACOTRON2)
    write_mel(tmp_path / "mels" / "b.npz", some_mel(4), other)
    result = run("synthesize", tmp_path / "mels", "-o", tmp_path / "out", "--seed=1")
    assert "vocoder: voice tiny, the default for tacotron2-22k: STOI 0.25 against" in result.err
    assert "vocoder: voice griffin-lim, the default for hifigan-22k: nothing else" in result.err
    assert "(tiny, griffin-lim, cpu)" in result.err
    for name, voice in (("a", "tiny"), ("b", "griffin-lim")):
        alone = tmp_path / f"{name}.wav"
        mel = tmp_path / "mels" / f"{name}.npz"
        run("synthesize", mel, "-o", alone, "--seed=1", "--voice", voice)
        assert (tmp_path / "out" / f"{name}.wav").read_bytes() == alone.read_bytes()


def test_a_preset_has_a_default_voice_of_its_own_and_a_voice_its_own_refinement(
    run, tmp_path, shipped, caplog
):
    content = json.loads((shipped / "voices.json").read_text())
    content["voices"]["tiny"] |= {"refine": 2, "stream_refine": 1}
    (shipped / "voices.json").write_text(json.dumps(content))
    mel = save_mel(tmp_path / "a.npy")
    command = ("synthesize", mel, "--seed=1", "-o", tmp_path / "default.wav")
    assert "voice tiny, the default for tacotron2-22k" in run(*command).err
    named = ("synthesize", mel, "--seed=1", "--voice=tiny", "-o")
    run(*named, tmp_path / "refined.wav", "--refine=2")
    run(*named, tmp_path / "plain.wav", "--refine=0")
    default = (tmp_path / "default.wav").read_bytes()
    assert default == (tmp_path / "refined.wav").read_bytes()
    assert default != (tmp_path / "plain.wav").read_bytes()
    assert re.search(r"^default voice of tacotron2-22k +tiny ", run("info").out.decode(), re.M)
    told = run("info", "tiny").out.decode()
    assert re.search(r"^mel consistency +2 steps, 1 in a stream, where", told, re.M)
    plain = run("info", shipped / "tiny.safetensors").out.decode()
    latencies = [int(re.search(r"^stream latency +(\d+)", text, re.M)[1]) for text in (told, plain)]
    assert latencies[0] - latencies[1] == 3  # what a step reaches ahead
    pytest.importorskip("onnxruntime")
    run("export", "tiny", "-o", tmp_path / "tiny.onnx")
    assert "tiny: takes 2 steps of mel consistency by itself, which a graph cannot" in caplog.text


def test_a_path_of_a_shipped_name_is_a_path(run, tmp_path, shipped, monkeypatch):
    monkeypatch.chdir(tmp_path)
    mel = save_mel(tmp_path / "a.npy")
    (tmp_path / "tiny").mkdir()
    for command in (("synthesize", mel, "-o", "a.wav", "--voice"), ("benchmark",)):
        assert_one_error_line(run(*command, "./tiny"), "tiny: holds no checkpoint")
        # Not the current folder, which an empty path is.
        assert_one_error_line(run(*command, ""), "voice '': no such file")
