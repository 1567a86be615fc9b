"""What a training run is never to lose: its settings, its last good state, its folder."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import assert_one_error_line
from helpers import make_corpus, tiny_recipe

from vocoder import checkpoint
from vocoder.data.speech.crops import Crops
from vocoder.errors import VocoderError
from vocoder.recipe import Recipe
from vocoder.training import run_lock
from vocoder.training.logger import RunLogger
from vocoder.training.resume import recipe_to_resume
from vocoder.training.run_lock import RunLock
from vocoder.training.trainer import Trainer


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_corpus(tmp_path_factory.mktemp("data") / "corpus")


def recipe_file(path: Path, recipe: Recipe) -> Path:
    path.write_text(json.dumps(recipe.to_dict()), encoding="utf-8")  # JSON is YAML
    return path


def state_of(path: Path) -> dict[str, bytes]:
    tensors = checkpoint.read_tensors(path, "", "cpu")
    return {name: tensor.numpy().tobytes() for name, tensor in tensors.items()}


def poison(path: Path) -> None:
    """Make one weight of a checkpoint NaN, as a diverged run of another program would leave it."""
    from safetensors import safe_open
    from safetensors.torch import save_file

    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
        tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    name = next(name for name in tensors if name.startswith("model."))
    tensors[name].view(-1)[0] = torch.nan
    save_file(tensors, path, metadata)


# ---- 1: the run's own settings ----


def test_a_resumed_run_keeps_its_own_settings(
    run: Callable[..., Any], data: Path, tmp_path: Path
) -> None:
    file, folder = recipe_file(tmp_path / "tiny.yaml", tiny_recipe(lr=2e-3)), tmp_path / "run"
    flags = ("--data", data, "--run-dir", folder, "--device", "cpu")
    first = run("train", file, *flags, "-o", "train.steps=2", "-o", "train.lr=1e-4")
    assert first.code == 0, first.err
    again = run("train", file, *flags, "--resume", "-o", "train.steps=4")
    assert again.code == 0, again.err
    assert "keeps its own settings: train.steps" not in again.err
    assert "train.lr 0.0001 (test has 0.002)" in again.err
    assert "train.steps 2 -> 4 from step 2 on" in again.err
    saved = checkpoint.load(checkpoint.training_path(folder, 4))
    assert saved.recipe is not None
    assert saved.recipe["train"]["lr"] == 1e-4
    assert saved.changes == [{"step": 2, "key": "train.steps", "old": 2, "new": 4}]
    text = (folder / "recipe.yaml").read_text()
    assert text.startswith("# step 2: train.steps 2 -> 4\n")
    assert "lr: 0.0001" in text
    logged = [json.loads(line) for line in (folder / "log.jsonl").open()]
    assert any("train.steps" in json.dumps(line) for line in logged)


@pytest.mark.parametrize("override", ["model.channels=6", "model.name=waveflow", "preset=jdit-16k"])
def test_what_a_run_cannot_change_is_refused(data: Path, tmp_path: Path, override: str) -> None:
    Trainer(tiny_recipe(steps=1), data, tmp_path / "run").fit()
    before = sorted((p.name, p.stat().st_mtime_ns) for p in (tmp_path / "run").iterdir())
    with pytest.raises(VocoderError):
        recipe_to_resume(tmp_path / "run", None, [override])
    assert before == sorted((p.name, p.stat().st_mtime_ns) for p in (tmp_path / "run").iterdir())


# ---- 2: divergence ----


def test_a_diverged_run_keeps_its_last_good_state(
    run: Callable[..., Any], data: Path, tmp_path: Path
) -> None:
    file, folder = recipe_file(tmp_path / "tiny.yaml", tiny_recipe(steps=4)), tmp_path / "run"
    flags = ("--data", data, "--run-dir", folder, "--device", "cpu")
    assert run("train", file, *flags).code == 0
    good = checkpoint.training_path(folder, 4)
    before = state_of(good)
    far = ("-o", "train.steps=400", "-o", "train.lr=1e30", "-o", "train.max_bad_steps=3")
    result = run("train", *flags, "--resume", *far)
    assert result.code == 2
    last = result.err.strip().splitlines()[-1]
    assert "diverged at step" in last
    assert "rolled back to the last good state, that of step" in last
    newest = checkpoint.newest_checkpoint(folder)
    assert newest is not None
    assert checkpoint.first_non_finite(checkpoint.read_tensors(newest, "", "cpu")) is None
    assert newest != good or state_of(good) == before
    at_ease = run("train", *flags, "--resume", "-o", "train.steps=6", "-o", "train.lr=1e-4")
    assert at_ease.code == 0, at_ease.err


def test_a_resume_from_nan_tells_by_its_exit_code(
    run: Callable[..., Any], data: Path, tmp_path: Path
) -> None:
    only = Trainer(tiny_recipe(steps=2), data, tmp_path / "run").fit()
    poison(only)
    flags = ("--data", data, "--run-dir", tmp_path / "run", "--resume", "--device", "cpu")
    result = run("train", *flags)
    assert result.code == 2
    assert "holds infinities or NaN" in result.err
    assert sorted(p.name for p in (tmp_path / "run").glob("checkpoint*")) == [only.name]


# ---- 3: damaged checkpoints ----


@pytest.mark.parametrize("damage", ["truncated", "empty", "NaN", "header"])
def test_a_damaged_newest_checkpoint_falls_back(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: str
) -> None:
    folder = tmp_path / "run"
    newest = Trainer(tiny_recipe(steps=6), data, folder).fit()
    whole = state_of(newest)
    content = newest.read_bytes()
    if damage == "NaN":
        poison(newest)
    else:
        cut = {"truncated": content[: len(content) // 2], "empty": b"", "header": b"\xff" * 64}
        newest.write_bytes(cut[damage])
    capsys.readouterr()
    again = Trainer(tiny_recipe(steps=6), data, folder, resume=True).fit()
    told = capsys.readouterr().err
    assert f"{newest}: " in told
    assert f"set aside as {newest.stem}.damaged" in told
    assert "going on from checkpoint-000000004.safetensors, the newest whole checkpoint" in told
    assert state_of(again) == whole, "the steps done again end in the same bits"


def rewritten(path: Path, change: Callable[[dict[str, Any], dict[str, torch.Tensor]], Any]) -> None:
    """Change the header and the tensors of a checkpoint."""
    from safetensors.torch import load_file, save_file

    tensors, header = load_file(path), checkpoint.read_header(path)
    change(header, tensors)
    save_file(tensors, path, {"vocoder": json.dumps(header)})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda header, tensors: header["recipe"]["train"].update(keer_last=1), "keer_last"),
        (lambda header, tensors: header.pop("recipe"), "holds no recipe"),
        (lambda header, tensors: header["training"].pop("bad_steps"), "bad_steps"),
        (lambda header, tensors: tensors.pop(weight_of(tensors)), "training state is damaged"),
        (lambda header, tensors: tensors.pop(moment_of(tensors)), "some moments are missing"),
        (lambda header, tensors: tensors.update(dict.fromkeys([moment_of(tensors)], torch.ones(2))),
         "exp_avg has shape (2,)"),
    ],
)  # fmt: skip
def test_damage_that_only_a_resume_meets_names_the_checkpoint(
    run: Callable[..., Any], data: Path, tmp_path: Path, change: Any, words: str
) -> None:
    newest = Trainer(tiny_recipe(steps=2), data, tmp_path / "run").fit()
    rewritten(newest, change)
    result = run("train", "--resume", "--data", data, "--run-dir", tmp_path / "run")
    assert_one_error_line(result, newest, words)


def weight_of(tensors: dict[str, torch.Tensor]) -> str:
    return next(name for name in tensors if name.startswith("training.weights."))


def moment_of(tensors: dict[str, torch.Tensor]) -> str:
    return next(name for name in tensors if name.endswith("exp_avg"))


@pytest.mark.parametrize("damage", [b"\xff\xfe", b"[1, 2]", b'{"step": "x"}', b"{}", b"[" * 9999])
def test_a_damaged_line_of_the_log_is_dropped(tmp_path: Path, damage: bytes) -> None:
    lines = [b'{"step": 1, "lr": 0.1}', damage, b'{"step": 2, "lr": 0.2}', b'{"step": 3}']
    (tmp_path / "log.jsonl").write_bytes(b"\n".join(lines))
    RunLogger(tmp_path, 2).close()
    assert (tmp_path / "log.jsonl").read_bytes().splitlines() == [lines[0], lines[2]]


# ---- 4: one training at a time ----


def test_a_second_training_is_told_of_the_first(
    run: Callable[..., Any], data: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    with Trainer(tiny_recipe(), data, folder):
        file = recipe_file(tmp_path / "tiny.yaml", tiny_recipe())
        result = run("train", file, "--data", data, "--run-dir", folder, "--device", "cpu")
    assert result.code == 2
    assert f"process {os.getpid()} on " in result.err
    assert not (folder / "run.lock").exists()


def test_the_lock_of_a_killed_training_is_taken(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from vocoder.training.run_lock import RunLock;"
        "lock = RunLock(Path(sys.argv[1])); print('held', flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(VocoderError, match=f"process {holder.pid} on "):
        RunLock(tmp_path)
    holder.kill()
    holder.wait()
    begin = time.monotonic()
    RunLock(tmp_path).release()
    assert time.monotonic() - begin < run_lock.HEARTBEAT, "a dead process here needs no watching"


@pytest.mark.parametrize("alive", [True, False])
def test_the_lock_of_another_machine_counts_while_it_beats(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, alive: bool
) -> None:
    monkeypatch.setattr(run_lock, "HEARTBEAT", 0.1)
    path = tmp_path / "run.lock"
    path.write_text(json.dumps({"host": "far", "pid": 7, "machine": "another boot"}))
    if alive:
        original = time.sleep

        def beat(seconds: float) -> None:
            os.utime(path)
            original(seconds)

        monkeypatch.setattr(run_lock.time, "sleep", beat)
        with pytest.raises(VocoderError, match="process 7 on far trains in this folder"):
            RunLock(tmp_path)
    else:
        RunLock(tmp_path).release()


@pytest.mark.parametrize("follower", [None, "nearer"])
def test_a_holder_that_ends_while_it_is_watched_leaves_the_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, follower: str | None
) -> None:
    """It is free then, or another's who came first, and who is watched in turn."""
    monkeypatch.setattr(run_lock, "HEARTBEAT", 0.1)
    path = tmp_path / "run.lock"
    path.write_text(json.dumps({"host": "far", "pid": 7, "machine": "another boot"}))
    original = time.sleep
    n_waits = itertools.count()

    def end(seconds: float) -> None:
        wait = next(n_waits)
        if wait == 0:
            path.unlink()
        if follower is not None:
            path.write_text(json.dumps({"host": follower, "pid": 8, "n": wait}))
        original(seconds)

    monkeypatch.setattr(run_lock.time, "sleep", end)
    if follower is None:
        RunLock(tmp_path).release()
        assert not path.exists()
    else:
        with pytest.raises(VocoderError, match="process 8 on nearer trains in this folder"):
            RunLock(tmp_path)


def test_an_overtaken_training_leaves_the_lock_of_its_successor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_lock, "HEARTBEAT", 0.02)
    path, lock = tmp_path / "run.lock", RunLock(tmp_path)
    successor = json.dumps({"host": "far", "pid": 7, "machine": "another boot"})
    path.write_text(successor)
    os.utime(path, ns=(1, 1))
    time.sleep(0.2)
    assert path.stat().st_mtime_ns == 1, "the heartbeat is the successor's alone"
    with pytest.raises(VocoderError, match="process 7 on far"):
        lock.check()
    lock.release()
    assert path.read_text() == successor


# ---- 5: what is left behind, and what is said ----


def test_a_refused_training_leaves_no_folder(data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "run"
    for bad in (
        {"recipe": tiny_recipe(segment_length=160_000)},
        {"recipe": tiny_recipe(), "device": "tpu9"},
        {"recipe": tiny_recipe(), "init_from": tmp_path / "none.safetensors"},
    ):
        with pytest.raises(VocoderError):
            Trainer(bad.pop("recipe"), data, folder, **bad)  # type: ignore[arg-type]
        assert not folder.parent.exists()


def test_a_finished_run_says_so_and_how_to_go_on(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Trainer(tiny_recipe(steps=2), data, tmp_path / "run").fit()
    capsys.readouterr()
    Trainer(tiny_recipe(steps=2), data, tmp_path / "run", resume=True).fit()
    told = capsys.readouterr().err
    assert "finished: step 2 is done" in told
    assert f"vocoder train --resume --run-dir {tmp_path / 'run'} --data {data}" in told
    assert "-o train.steps=4" in told


def test_ctrl_c_says_how_to_go_on(
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    honest = Crops.batch

    def interrupted(self: Crops, step: int, *arguments: int) -> object:
        if step == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return honest(self, step, *arguments)

    monkeypatch.setattr(Crops, "batch", interrupted)
    last = Trainer(tiny_recipe(steps=400), data, tmp_path / "run").fit()
    told = capsys.readouterr().err
    assert f"stopped at step {checkpoint.load(last).step} of 400 and saved; go on with " in told
    assert f"vocoder train --resume --run-dir {tmp_path / 'run'} --data {data}" in told


def test_a_model_too_wide_for_the_crop_says_which(
    run: Callable[..., Any], data: Path, tmp_path: Path
) -> None:
    file = recipe_file(tmp_path / "tiny.yaml", tiny_recipe())
    flags = ("--data", data, "--run-dir", tmp_path / "run")
    result = run("train", file, *flags, "-o", "model.n_layers=20")
    assert result.code == 2
    assert "segment_length" in result.err
    assert result.err.count("\n") == 1
    huge = run("train", file, *flags, "-o", "model.channels=60000")
    assert huge.code == 2
    assert "memory" in huge.err
    assert not (tmp_path / "run").exists()
