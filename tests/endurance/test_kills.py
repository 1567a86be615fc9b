"""Kills at random moments, over every command that writes.

The short form kills each command three times; docs/reliability.md has the figures of a longer one:

    VOCODER_KILLS=25 pytest -s -m slow tests/endurance/test_kills.py
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator

import pytest
from forks import Forks
from writing_commands import NAMES, writing_commands

KILLS = int(os.environ.get("VOCODER_KILLS", 3))  # of each command
# A comparison takes seconds to begin, and writes its report as others write their files.
KILLED = [name for name in NAMES if name != "compare"]


@pytest.fixture(scope="module")
def forks() -> Iterator[Forks]:
    with Forks() as forks:
        yield forks


@pytest.mark.slow
@pytest.mark.parametrize("name", KILLED)
def test_a_killed_command_ends_in_the_same_files(forks, tmp_path, voice, name) -> None:
    if name == "export":
        pytest.importorskip("onnxruntime")
    place = tmp_path / "place"
    place.mkdir()
    command = writing_commands(tmp_path, place, voice)[name]
    whole = forks.run(*command.arguments)
    assert whole["code"] == 0, whole["err"]
    expected = command.contents()
    assert expected
    command.begin()
    chance = random.Random(name)
    n_kills = n_finished = 0
    while n_kills < KILLS:
        moment = chance.uniform(0, 1.1 * whole["seconds"])
        run = forks.run(*command.started(), kill_after=moment)
        killed = run["code"] == -9
        n_kills += killed
        if killed and command.contents() != expected:  # otherwise it had written its last file
            if chance.random() < 0.7:
                continue
            run, killed = forks.run(*command.started()), False
        assert killed or run["code"] == 0, run["err"]
        assert command.contents() == expected
        n_finished += 1
        command.begin()
    last = forks.run(*command.started())
    assert last["code"] == 0, last["err"]
    assert command.contents() == expected
    seconds = f"{whole['seconds']:.1f} s each"
    print(f"\n{name}: {n_kills} kills, {n_finished + 1} finished runs, {seconds}")
