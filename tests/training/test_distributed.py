"""Several processes of one training, also where each is a machine with disks of its own."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch
from helpers import make_corpus, tiny_recipe

from vocoder.training.trainer import Trainer

MACHINE = Path(__file__).with_name("machine.py")


def variables(machine: int) -> dict[str, str]:
    """Return what torchrun gives the only process of one of two machines."""
    return os.environ | {
        "RANK": str(machine),
        "GROUP_RANK": str(machine),
        "LOCAL_RANK": "0",
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "1",
        "MASTER_ADDR": "localhost",
        "OMP_NUM_THREADS": "1",
    }


def free_ports(n: int) -> list[str]:
    with ExitStack() as stack:
        listeners = [stack.enter_context(socket.socket()) for _ in range(n)]
        for listener in listeners:
            listener.bind(("localhost", 0))
        return [str(listener.getsockname()[1]) for listener in listeners]


@pytest.mark.slow
def test_two_machines_train_as_one_process(tmp_path: Path) -> None:
    """Each has a copy of the corpus; the folder of the run is on the first machine alone."""
    recipe = tiny_recipe(steps=5, batch_size=4, ema_decay=0.0, grad_clip=1e9)
    corpora = make_corpus(tmp_path / "corpus"), tmp_path / "copy"
    shutil.copytree(*corpora)
    other = make_corpus(tmp_path / "other", n_clips=4)
    file = tmp_path / "tiny.yaml"
    file.write_text(json.dumps(recipe.to_dict()), encoding="utf-8")  # JSON is YAML
    ports = free_ports(4)
    machines = [
        subprocess.Popen(
            [sys.executable, str(MACHINE), str(file), str(corpus), str(other), name, *ports],
            cwd=tmp_path,
            env=variables(number),
            stdout=subprocess.PIPE,
            text=True,
        )
        for number, (name, corpus) in enumerate(zip(("first", "second"), corpora, strict=True))
    ]
    told = [machine.communicate(timeout=600)[0].splitlines() for machine in machines]
    assert [machine.returncode for machine in machines] == [0, 0]
    for lines in told:
        assert "process 1 has other data than process 0" in lines[0]
        assert "nowhere: no preprocessed corpus" in lines[1]
    assert told[0][1].startswith("process 1: nowhere")
    assert not (tmp_path / "second").exists()

    shorter = replace(recipe, train=replace(recipe.train, steps=3))
    Trainer(shorter, corpora[0], tmp_path / "one", device="cpu").fit()
    one = Trainer(recipe, corpora[0], tmp_path / "one", device="cpu", resume=True).fit()
    ours = safetensors.torch.load_file(tmp_path / "first" / one.name)
    theirs = safetensors.torch.load_file(one)
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        torch.testing.assert_close(ours[name], tensor, atol=2e-6, rtol=2e-4, msg=name)
