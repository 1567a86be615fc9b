"""Which preset a mel is of, and mels converted to that of the voice."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch
from commands import assert_one_error_line, error_command, left_in
from voices import TACOTRON2, save_mel, some_mel, voice_models

import vocoder
from vocoder import checkpoint
from vocoder.files.audio import read_wav, write_wav
from vocoder.mel.convert import convert_mel
from vocoder.mel.files import read_mel, write_mel
from vocoder.mel.presets import PRESETS, get_preset


def test_griffin_lim_takes_each_mel_by_its_own_preset(run, tmp_path):
    for name in ("vocos-24k", "tacotron2-22k", "pwg-24k"):
        preset = get_preset(name)
        mel = torch.full((preset.n_mels, 4), preset.silence_floor)
        write_mel(tmp_path / f"{name}.npz", mel, preset)
    inputs = sorted(tmp_path.glob("*.npz"))
    out = tmp_path / "out"
    result = run("synthesize", *inputs, "-o", out, "--voice", "griffin-lim", "--batch-size=3")
    assert result.code == 0, result.err
    for name, n_total, rate in (
        ("vocos-24k", 1024, 24000), ("tacotron2-22k", 1024, 22050), ("pwg-24k", 1200, 24000)
    ):  # fmt: skip
        audio, sample_rate = read_wav(out / f"{name}.wav")
        assert (len(audio), sample_rate) == (n_total, rate)


def test_griffin_lim_by_another_preset(run, tmp_path):
    write_wav(tmp_path / "a.wav", np.zeros(24_000), 24_000)
    flags = ("--voice", "griffin-lim", "--preset", "vocos-24k", "--dtype", "float64")
    result = run("synthesize", tmp_path / "a.wav", "-o", tmp_path / "out", *flags)
    assert result.code == 0, result.err
    audio, rate = read_wav(tmp_path / "out/a.wav")
    assert (len(audio), rate) == (get_preset("vocos-24k").n_frames(24_000) * 256, 24_000)


@pytest.mark.parametrize("preset", ["nanoflow-db-22k", "vocos-24k"])
def test_a_recording_is_analysed_by_the_voices_own_preset(run, tmp_path, voice, preset):
    """No command could convert it."""
    write_wav(tmp_path / "a.wav", np.zeros(22_050), 22_050)
    speak = ("synthesize", tmp_path / "a.wav", "-o", tmp_path / "out", "--voice", voice)
    result = run(*speak, "--preset", preset)
    assert_one_error_line(result, tmp_path / "a.wav", preset, "leave --preset out")
    assert run(*speak).code == 0


def test_the_refusal_of_a_preset_names_the_command_that_mends_it(run, tmp_path, voice):
    """What `convert-mel` makes is then spoken, and equals `vocoder.convert_mel`."""
    origin = next(
        preset for preset in PRESETS.values()
        if preset.log == "log10" and preset.fingerprint != TACOTRON2.fingerprint
        and _converts(preset)
    )  # fmt: skip
    mel = convert_mel(some_mel(6), TACOTRON2, origin)
    write_mel(tmp_path / "a.npz", mel, origin)
    speak = ("-o", tmp_path / "out", "--voice", voice, "--seed=1")
    refusal = run("synthesize", tmp_path / "a.npz", *speak)
    assert_one_error_line(refusal, tmp_path / "a.npz", origin.name, "log log10 ≠ ln")
    assert not (tmp_path / "out").exists()

    assert run(*error_command(refusal)).code == 0
    converted = tmp_path / "a.tacotron2-22k.npz"
    read = read_mel(converted)
    assert read.preset == TACOTRON2
    torch.testing.assert_close(read.mel, convert_mel(mel, origin, TACOTRON2))
    assert run("synthesize", converted, *speak).code == 0


@pytest.mark.parametrize("name", ["my/own", "my-own", "pwg-22k"])
def test_a_preset_that_no_command_knows_is_told_of_in_words(run, tmp_path, name):
    """By its values, whatever its name; the way that the words tell is then a way."""
    own = dataclasses.replace(TACOTRON2, name=name, scale=2.0)
    voice = tmp_path / "voice.safetensors"
    checkpoint.save(voice, voice_models()["nanoflow"], own)
    write_mel(tmp_path / "a.npz", some_mel(6), TACOTRON2)
    speak = ("-o", tmp_path / "out", "--voice", voice, "--seed=1")
    refusal = run("synthesize", tmp_path / "a.npz", *speak)
    assert_one_error_line(refusal, name, "scale 1 ≠ 2", "`vocoder presets`", '"preset" in a.json')
    assert "convert it: " not in refusal.err
    np.save(tmp_path / "b.npy", convert_mel(some_mel(6), TACOTRON2, own).numpy())
    stated = {"preset": vocoder.load(voice).preset.to_dict()}
    (tmp_path / "b.json").write_text(json.dumps(stated))
    assert run("synthesize", tmp_path / "b.npy", *speak).code == 0


def test_a_mel_of_a_preset_that_no_command_knows_is_converted_by_what_it_states(
    run, tmp_path, voice
):
    own = dataclasses.replace(TACOTRON2, name="my/own", scale=2.0)
    write_mel(tmp_path / "a.npz", convert_mel(some_mel(6), TACOTRON2, own), own)
    speak = ("-o", tmp_path / "out", "--voice", voice, "--seed=1")
    refusal = run("synthesize", tmp_path / "a.npz", *speak)
    assert_one_error_line(refusal, "my/own", "convert it: ")
    assert run(*error_command(refusal)).code == 0
    assert run("synthesize", tmp_path / "a.tacotron2-22k.npz", *speak).code == 0


def _converts(preset):
    try:
        convert_mel(torch.zeros(preset.n_mels, 1), preset, TACOTRON2)
    except vocoder.VocoderError:
        return False
    return True


def test_convert_mel_of_a_folder_fills_a_folder(run, tmp_path):
    save_mel(tmp_path / "in/deep/a.npy")
    save_mel(tmp_path / "in/b.npy")
    flags = ("--from", "speechbrain-22k", "--to", "tacotron2-22k")
    result = run("convert-mel", tmp_path / "in", "-o", tmp_path / "out", *flags)
    assert result.code == 0, result.err
    assert left_in(tmp_path / "out") == ["b.npz", "deep/a.npz"]
    result = run("convert-mel", tmp_path / "in/b.npy", "-o", tmp_path / "b.npy", *flags)
    np.testing.assert_array_equal(np.load(tmp_path / "b.npy"), np.load(tmp_path / "in/b.npy"))


def test_the_preset_option_outranks_file_and_range_check(run, tmp_path, voice):
    loud = tmp_path / "loud.npy"
    np.save(loud, np.linspace(-100, 0, 80 * 4, dtype=np.float32).reshape(80, 4))
    write_mel(tmp_path / "pwg.npz", some_mel(4), get_preset("pwg-22k"))
    flags = ("-o", tmp_path / "out", "--voice", voice)
    for path in (loud, tmp_path / "pwg.npz"):
        assert run("synthesize", path, *flags).code == 2
        assert run("synthesize", path, *flags, "--preset", "waveglow-22k").code == 0
