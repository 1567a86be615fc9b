"""Kills at random moments, over every command that writes.

The short form kills each command three times; docs/reliability.md has the figures of a longer one:

    VOCODER_KILLS=25 pytest -s -m slow tests/endurance/test_kills.py
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from forks import Forks
from helpers import make_corpus, tiny_recipe, write_tone
from voices import TACOTRON2, some_mel

from vocoder.mel.files import write_mel

KILLS = int(os.environ.get("VOCODER_KILLS", 3))  # of each command


@dataclass(frozen=True)
class Command:
    """A command that writes into `out`, a file or a folder that does not exist before."""

    name: str
    arguments: tuple[object, ...]
    out: Path

    def started(self) -> tuple[object, ...]:
        """Return the arguments that go on with what an earlier run has left."""
        resumable = self.name == "train" and any(self.out.glob("checkpoint-*"))
        return (*self.arguments, "--resume") if resumable else self.arguments

    def contents(self) -> dict[str, str]:
        """Return a digest of every result; logs have times, and hidden files are leftovers."""
        paths = [self.out] if self.out.is_file() else sorted(self.out.rglob("*"))
        return {
            str(path.relative_to(self.out.parent)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in paths
            if path.is_file()
            and not path.name.startswith(".")
            and path.suffix in (".npy", ".npz", ".json", ".safetensors", ".onnx", ".wav")
        }

    def forget(self) -> None:
        """Remove what it wrote."""
        if self.out.is_dir():
            shutil.rmtree(self.out)
        self.out.unlink(missing_ok=True)


@pytest.fixture(scope="module")
def forks() -> Iterator[Forks]:
    with Forks() as forks:
        yield forks


@pytest.fixture
def commands(tmp_path: Path, voice: Path) -> dict[str, Command]:
    (tmp_path / "mels").mkdir()
    for i in range(12):
        write_tone(tmp_path / "recordings" / f"{i}.wav")
        write_mel(tmp_path / "mels" / f"{i}.npz", some_mel(40 + i, seed=i), TACOTRON2)
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(json.dumps(tiny_recipe(steps=40, save_every=5, eval_every=20).to_dict()))
    data = make_corpus(tmp_path / "corpus")
    lines = {
        "preprocess": ("wavs", "--source", tmp_path / "recordings", "--jobs", 1, "--out"),
        "train": (recipe, "--data", data, "--device", "cpu", "--run-dir"),
        "export": (voice, "-o"),
        "convert-mel": (tmp_path / "mels", "--to", "nanoflow-db-22k", "-o"),
        "synthesize": (tmp_path / "mels", "--voice", voice, "--seed", 1, "--device", "cpu", "-o"),
    }
    outs = {name: tmp_path / ("out.onnx" if name == "export" else f"out-{name}") for name in lines}
    return {
        name: Command(name, (name, *line, outs[name]), outs[name]) for name, line in lines.items()
    }


NAMES = ("preprocess", "train", "export", "convert-mel", "synthesize")


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_killed_command_ends_in_the_same_files(forks, commands, name) -> None:
    if name == "export":
        pytest.importorskip("onnxruntime")
    command = commands[name]
    whole = forks.run(*command.arguments)
    assert whole["code"] == 0, whole["err"]
    expected = command.contents()
    assert expected
    command.forget()
    chance = random.Random(name)
    n_kills = n_finished = 0
    while n_kills < KILLS:
        moment = chance.uniform(0, 1.1 * whole["seconds"])
        run = forks.run(*command.started(), kill_after=moment)
        if run["code"] == -9:
            n_kills += 1
        else:
            assert run["code"] == 0, run["err"]
        if run["code"] == 0 or chance.random() < 0.3:
            last = forks.run(*command.started())
            assert last["code"] == 0, last["err"]
            assert command.contents() == expected
            n_finished += 1
            command.forget()
    last = forks.run(*command.started())
    assert last["code"] == 0, last["err"]
    assert command.contents() == expected
    seconds = f"{whole['seconds']:.1f} s each"
    print(f"\n{name}: {n_kills} kills, {n_finished + 1} finished runs, {seconds}")
