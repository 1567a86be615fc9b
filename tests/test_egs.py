from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from vocoder.mel_files import read_mel

EGS = Path(__file__).parents[1] / "egs"
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
