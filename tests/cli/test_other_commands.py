"""Presets, recipes, info, and the way from recordings to a voice, by commands."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import torch
from commands import n_samples
from helpers import write_tone
from voices import TACOTRON2

import vocoder
from vocoder.files.audio import write_wav
from vocoder.mel.presets import PRESETS


def test_presets_are_all_listed(run):
    table = run("presets").out.decode()
    for preset in PRESETS.values():
        assert re.search(rf"^{preset.name} .*{preset.fingerprint}", table, re.MULTILINE)
    assert "waveglow-22k" in table


def test_recipes_are_listed_and_printed(run):
    names = vocoder.list_recipes()
    table = run("recipes").out.decode().splitlines()
    assert [line.split()[0] for line in table] == names
    assert all(len(line.split()) > 1 for line in table)  # each says what it is
    text = run("recipes", names[0]).out.decode()
    assert "model:" in text


def test_info_of_a_voice(run, voice):
    text = run("info", voice).out.decode()
    for row in ("model +nanoflow", "preset +tacotron2-22k", "step +7", "nll +1.5"):
        assert re.search(rf"^{row}$", text, re.MULTILINE), row
    model = vocoder.checkpoint.load(voice).model
    assert re.search(rf"parameters +{model.n_parameters():,}\n", text)
    assert TACOTRON2.fingerprint in text


def test_info_of_the_installation(run):
    text = run("info").out.decode()
    assert re.search(rf"^torch +{re.escape(torch.__version__)}$", text, re.MULTILINE)
    assert "griffin-lim" in text


def test_preprocess_train_evaluate_synthesize(run, tmp_path):
    """The main job in four commands, on half a minute of tones."""
    (tmp_path / "wavs").mkdir()
    for i in range(6):
        times = np.arange(22_050) / 22_050
        write_wav(
            tmp_path / f"wavs/{i}.wav", 0.3 * np.sin(2 * np.pi * 200 * (i + 1) * times), 22050
        )
    corpus, run_dir = tmp_path / "corpus", tmp_path / "run"
    result = run("preprocess", "wavs", "--source", tmp_path / "wavs", "--out", corpus, "--jobs=1")
    assert result.code == 0, result.err
    result = run(
        "train", "tiny/nanoflow", "--data", corpus, "--run-dir", run_dir, "--device=cpu",
        "-o", "train.steps=2", "-o", "train.batch_size=2",
    )  # fmt: skip
    assert result.code == 0, result.err
    assert Path(result.out.decode().strip()).is_file()
    for voice in (run_dir, "griffin-lim"):
        result = run("evaluate", voice, "--data", corpus, "--device=cpu")
        assert result.code == 0, result.err
        assert ": 1 test clip, " in result.out.decode()
    result = run("synthesize", corpus, "-o", tmp_path / "out", "--voice", run_dir, "--device=cpu")
    assert result.code == 0, result.err
    for path in (corpus / "mels").iterdir():
        n_frames = np.load(path).shape[1]
        assert n_samples(tmp_path / f"out/{path.stem}.wav") == n_frames * 256


def test_preprocess_names_what_it_left_out(run, tmp_path):
    source = tmp_path / "wavs"
    for i in range(3):
        write_tone(source / f"{i}.wav", seconds=1.0)
    (source / "bad.wav").write_bytes(b"RIFF")
    result = run("preprocess", "wavs", "--source", source, "--out", tmp_path / "out", "--jobs=1")
    assert result.code == 1
    assert re.search(r"^vocoder: left out \S*bad\.wav: ", result.err, re.MULTILINE)
