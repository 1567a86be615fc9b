from __future__ import annotations

import os
import runpy
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import yaml
from helpers import tiny_recipe, write_tone

from vocoder.data.speech.corpus import Corpus
from vocoder.data.speech.preprocess import preprocess
from vocoder.mel.files import read_mel
from vocoder.mel.presets import get_preset
from vocoder.training.trainer import Trainer

EGS = Path(__file__).parents[2] / "egs"
CORPUS = EGS / "quickstart" / "corpus"
MELS = sorted((EGS / "quickstart" / "mels").iterdir())
MAKE = [sys.executable, str(EGS / "make_espeak_corpus.py")]


def metadata(folder: Path) -> list[list[str]]:
    lines = (folder / "metadata.csv").read_text(encoding="utf-8").splitlines()
    return [line.split("|") for line in lines]


def test_twenty_clips_ship_in_less_than_two_megabytes():
    assert sum(path.stat().st_size for path in CORPUS.rglob("*.*")) < 2e6
    rows = metadata(CORPUS)
    assert len({row[0] for row in rows}) == len(rows) == 20
    for identity, _, normalised in rows:
        assert not any(character.isdigit() for character in normalised)
        audio, rate = soundfile.read(CORPUS / "wavs" / f"{identity}.flac", dtype="int16")
        assert (rate, audio.ndim) == (22050, 1)
        # Dithered: nowhere a long run of the same sample, as in digital silence.
        changes = np.flatnonzero(np.diff(audio))
        assert np.diff(changes).max() < 30


@pytest.mark.parametrize("path", MELS, ids=lambda path: path.stem)
def test_a_shipped_mel_names_its_preset(path):
    mel = read_mel(path)
    assert mel.preset is not None
    assert mel.preset.name == "tacotron2-22k"
    assert mel.mel.shape[0] == 80
    assert path.stat().st_size < 150_000


def test_stories_are_short_and_parse():
    scripts = sorted(EGS.rglob("*.sh"))
    assert {"quickstart", "ljspeech", "own_wavs"} <= {script.parent.name for script in scripts}
    for script in scripts:
        assert len(script.read_text().splitlines()) <= 40
        subprocess.run(["sh", "-n", script], check=True)


@pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="needs espeak-ng")
def test_a_corpus_is_the_same_however_many_processes_make_it(tmp_path):
    for out, jobs in (("one", "1"), ("two", "2")):
        arguments = ["--clips", "6", "--seed", "7", "--jobs", jobs, "--format", "flac"]
        subprocess.run([*MAKE, tmp_path / out, *arguments], check=True, capture_output=True)
    rows = metadata(tmp_path / "one")
    assert rows == metadata(tmp_path / "two")
    assert all(len(row) == 3 for row in rows)
    for identity, _, _ in rows:
        name = f"wavs/{identity}.flac"
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
        assert 2 <= soundfile.info(tmp_path / "one" / name).duration <= 9


def test_without_espeak_the_remedy_is_named(tmp_path):
    run = subprocess.run(
        [*MAKE, tmp_path / "out"], env={"PATH": ""}, capture_output=True, text=True
    )
    assert run.returncode == 1
    assert run.stderr.splitlines() == [
        "make_espeak_corpus: espeak-ng is not installed; `apt install espeak-ng`"
    ]
    assert not (tmp_path / "out").exists()


# ---- tts ----

TTS = EGS / "tts"
STORY = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}


def run_script(monkeypatch, name, *arguments):
    monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
    runpy.run_path(str(TTS / name), run_name="__main__")


def is_sound(path, rate):
    audio, found = soundfile.read(path)
    return found == rate and len(audio) > 0 and len(audio) % 256 == 0


def test_a_script_for_each_pipeline_is_short_and_listed():
    scripts = sorted(TTS.glob("*.py"))
    adapters = {path.stem for path in (EGS.parent / "vocoder" / "adapters").glob("*.py")}
    assert {f"speak_{name}" for name in adapters - {"base", "__init__"}} == {
        s.stem for s in scripts
    }
    for script in scripts:
        text = script.read_text(encoding="utf-8")
        assert len(text.splitlines()) <= 40
        compile(text, script, "exec")
        assert script.name in (EGS / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["torchaudio", "waveglow"])
def test_tacotron2_of_torchaudio_speaks(tmp_path, monkeypatch, name):
    """With random weights: the real ones are a download."""
    pipelines = pytest.importorskip("torchaudio.pipelines")
    from torchaudio.models import Tacotron2

    torch.manual_seed(0)
    bundle = pipelines.TACOTRON2_GRIFFINLIM_CHAR_LJSPEECH
    small = {"decoder_rnn_dim": 16, "attention_rnn_dim": 16, "prenet_dim": 8}
    model = Tacotron2(n_symbol=38, decoder_max_step=12, **small).eval()
    monkeypatch.setattr(type(bundle), "get_tacotron2", lambda self: model)
    out = tmp_path / "out.wav"
    run_script(monkeypatch, f"speak_{name}.py", "Hello.", "--voice", "prompts-22k", "-o", out)
    assert is_sound(out, 22050)


def test_speecht5_of_transformers_speaks(tmp_path, monkeypatch):
    """With random weights, and without the tokeniser: the real ones are a download."""
    transformers = pytest.importorskip("transformers")
    small = {"hidden_size": 16, "encoder_attention_heads": 2, "decoder_attention_heads": 2}
    small |= {"encoder_layers": 1, "decoder_layers": 1, "vocab_size": 9}
    model = transformers.SpeechT5ForTextToSpeech(transformers.SpeechT5Config(**small)).eval()
    for kind, made in (
        ("SpeechT5Processor", lambda text, return_tensors: {"input_ids": torch.tensor([[4]])}),
        ("SpeechT5ForTextToSpeech", model),
    ):
        monkeypatch.setattr(getattr(transformers, kind), "from_pretrained", lambda _, m=made: m)
    out = tmp_path / "out.wav"
    run_script(monkeypatch, "speak_huggingface.py", "Hello.", "-o", out)
    assert is_sound(out, 16000)


@pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="needs espeak-ng")
@pytest.mark.slow
def test_text_becomes_sound_offline(tmp_path):
    script = ["sh", TTS / "speak.sh", "Good morning.", "prompts-22k"]
    subprocess.run(script, check=True, cwd=tmp_path, env=STORY)
    said = soundfile.info(tmp_path / "out" / "tts" / "espeak.wav").duration
    assert is_sound(tmp_path / "out" / "tts" / "voice.wav", 22050)
    assert abs(soundfile.info(tmp_path / "out" / "tts" / "voice.wav").duration - said) < 0.02


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["tacotron2-22k", "nanoflow-db-22k"])
def test_a_voice_is_tuned_to_given_mels(tmp_path, preset):
    """Although one of them does not fit its recording."""
    recipe = replace(tiny_recipe(steps=1, eval_every=1, save_every=1), preset=get_preset(preset))
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe.to_dict()))
    source = tmp_path / "recordings"
    for name in ("a.wav", "bad.wav", "c.wav", "d.wav"):
        write_tone(source / name, seconds=0.3)
    preprocess("wavs", source, tmp_path / "plain", preset=preset, n_jobs=1)
    voice = Trainer(recipe, tmp_path / "plain", tmp_path / "voice", device="cpu").fit()
    write_tone(source / "bad.wav", seconds=0.6)
    script = ["sh", TTS / "finetune.sh", source, tmp_path / "plain" / "mels", voice]
    script += [tmp_path / "recipe.yaml", "train.steps=2", "train.log_every=1"]
    default = {} if preset == "tacotron2-22k" else {"PRESET": preset}
    done = subprocess.run(
        script, check=True, cwd=tmp_path, env={**STORY, **default}, stderr=subprocess.PIPE
    )
    assert b"left out bad.wav: the mel has" in done.stderr
    assert Corpus.open(tmp_path / "data" / "finetune").manifest.given_mels
    spoken = sorted(path.stem for path in (tmp_path / "out" / "finetune").iterdir())
    assert spoken == ["a", "c", "d"]
