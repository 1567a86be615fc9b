"""The story of what bfloat16 does to a voice's sound runs, and prints figures that make sense."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import librosa
import pytest
import soundfile

from vocoder.data.speech.preprocess import preprocess

EGS = Path(__file__).parents[2] / "egs"


@pytest.mark.slow
def test_both_types_are_judged_on_the_same_clips(tmp_path: Path) -> None:
    wavs, corpus, ids = (tmp_path / name for name in ("wavs", "corpus", "judge.txt"))
    wavs.mkdir()
    # STOI is undefined for the second clip, which is too short; it does not stop the story.
    for name, seconds in (("ES000001", 1.2), ("ES000002", 0.35)):
        recording = EGS / "quickstart" / "corpus" / "wavs" / f"{name}.flac"
        # PESQ wants speech. DNSMOS repeats a clip until it has 9.01 s and hears each second beyond
        # them too, so that 1.2 s cost it a seventh of what 1.0 s do.
        sound, _ = librosa.load(recording, sr=16000, duration=seconds)
        soundfile.write(wavs / f"{name}.wav", sound, 16000)
    preprocess("wavs", wavs, corpus, preset="speecht5-16k", n_jobs=1)
    ids.write_text("ES000001\nES000002\n", encoding="utf-8")
    command = [sys.executable, EGS / "recorded_speech" / "bfloat16.py", "prompts-16k"]
    command += ["--data", corpus, "--ids", ids, "--refine", "1"]
    done = subprocess.run(list(map(str, command)), check=True, capture_output=True, text=True)
    (decibels,) = re.findall(r"^decibels of .*: mean ([\d.]+),", done.stdout, re.MULTILINE)
    assert 30 < float(decibels) < 70  # a difference that was computed, and a small one
    (row,) = re.findall(r"^\| DNSMOS overall \|.*", done.stdout, re.MULTILINE)
    narrow, wide = (float(cell) for cell in row.split("|")[2:4])
    assert narrow == pytest.approx(wide, abs=0.1)
    clips = dict(re.findall(r"^\| (DNSMOS P.808|STOI) \|.*\| (\d) \|$", done.stdout, re.MULTILINE))
    assert clips == {"DNSMOS P.808": "2", "STOI": "1"}
