"""What a resume makes of a run whose settings change, or whose files are not all there."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers import save_images, tiny_image_recipe

from vocoder import checkpoint
from vocoder.errors import VocoderError
from vocoder.training import trainer
from vocoder.training.changes import settings
from vocoder.training.resume import recipe_to_resume
from vocoder.training.run_folder import RunFolder
from vocoder.training.trainer import Trainer


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_images(tmp_path_factory.mktemp("data") / "images.npz")


def newest(run: Path) -> Path:
    path = checkpoint.newest_checkpoint(run)
    assert path is not None
    return path


@contextmanager
def stop_requested() -> Iterator[threading.Event]:
    stop = threading.Event()
    stop.set()
    yield stop


# ---- a resume that is stopped before its first step ----


@pytest.mark.parametrize("overrides", [[], ["train.lr=1e-4"], ["train.steps=9", "train.lr=1e-4"]])
def test_the_next_resume_goes_on_by_what_the_run_says(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overrides: list[str]
) -> None:
    """The checkpoint and recipe.yaml name the same settings, also if no step has been done."""
    run = tmp_path / "run"
    Trainer(tiny_image_recipe(steps=2), data, run).fit()
    recipe = recipe_to_resume(run, None, ["train.steps=8", *overrides])
    with monkeypatch.context() as patch:
        patch.setattr(trainer, "stop_requests", stop_requested)
        for _ in range(2):  # the second time nothing changes any more
            saved = Trainer(recipe, data, run, resume=True).fit()
            assert saved == newest(run)
            assert checkpoint.read_header(saved)["step"] == 2
            assert settings(recipe_to_resume(run, None)) == settings(recipe)
            stated = yaml.safe_load((run / "recipe.yaml").read_text())
            assert stated == checkpoint.read_header(saved)["recipe"]
    changed = [change["key"] for change in checkpoint.read_header(saved)["changes"]]
    assert sorted(changed) == sorted({"train.steps", *(o.partition("=")[0] for o in overrides)})


# ---- a folder without the checkpoints of its run ----


@pytest.mark.parametrize("left", [["best.safetensors"], ["log.jsonl"],
                                  ["best.safetensors", "log.jsonl"]])  # fmt: skip
def test_what_a_run_left_is_not_trained_over_unasked(tmp_path: Path, left: list[str]) -> None:
    for name in left:
        (tmp_path / name).write_text("a figure\n")
    folder = RunFolder(tmp_path)
    with pytest.raises(VocoderError, match="holds a run already; continue it with --resume"):
        folder.claim(resume=False)
    folder.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == left
    assert all(path.read_text() == "a figure\n" for path in tmp_path.iterdir())


@pytest.mark.parametrize("rate", [5e-4, 1e-4])
def test_a_run_killed_before_its_first_checkpoint_begins_again(
    data: Path, tmp_path: Path, rate: float
) -> None:
    """With --resume, and in the same files; a best model by other settings is set aside."""
    run, best = tmp_path / "run", tmp_path / "run/best.safetensors"
    Trainer(tiny_image_recipe(steps=4, lr=5e-4), data, run).fit()
    whole = best.read_bytes()
    for path in checkpoint.training_checkpoints(run):
        path.unlink()
    Trainer(tiny_image_recipe(steps=4, lr=rate), data, run, resume=True).fit()
    aside = [path.read_bytes() for path in run.glob("best-of-step-000000004.safetensors")]
    assert aside == ([] if rate == 5e-4 else [whole])
    assert (best.read_bytes() == whole) == (rate == 5e-4)
    log = [json.loads(line)["step"] for line in (run / "log.jsonl").read_text().splitlines()]
    assert log == sorted(log)


def test_a_run_that_left_nothing_is_begun_again(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").touch()
    (tmp_path / "recipe.yaml").write_text("name: of a run that was killed at once")
    assert RunFolder(tmp_path).claim(resume=False) is None


# ---- a resume from before the best step ----


@pytest.mark.parametrize("rate", [5e-4, 1e-4])
def test_the_best_model_is_one_of_this_run(data: Path, tmp_path: Path, rate: float) -> None:
    """One of steps that are done again by other settings is kept under another name."""
    run, best = tmp_path / "run", tmp_path / "run/best.safetensors"
    Trainer(tiny_image_recipe(steps=4, lr=5e-4), data, run).fit().unlink()
    abandoned = best.read_bytes()
    (run / "best-of-step-000000004.safetensors").write_text("not to be lost")
    with Trainer(tiny_image_recipe(steps=4, lr=rate), data, run, resume=True) as again:
        assert again.step == 2
        assert best.is_file() == (rate == 5e-4)
        assert checkpoint.find_checkpoint(run) == (best if best.is_file() else newest(run))
    Trainer(tiny_image_recipe(steps=4, lr=rate), data, run, resume=True).fit()
    header = checkpoint.read_header(best)
    assert (header["step"], header["recipe"]["train"]["lr"]) == (4, rate)
    aside = sorted(run.glob("best-of-*"))
    assert (run / "best-of-step-000000004.safetensors").read_text() == "not to be lost"
    if rate == 5e-4:
        assert best.read_bytes() == abandoned
        assert len(aside) == 1
    else:
        assert (run / "best-of-step-000000004-2.safetensors").read_bytes() == abandoned
        assert len(aside) == 2


def test_a_run_without_its_best_model_finds_another(data: Path, tmp_path: Path) -> None:
    """Although none scores as high as the one that was moved away."""
    run, best = tmp_path / "run", tmp_path / "run/best.safetensors"
    Trainer(tiny_image_recipe(steps=4), data, run).fit()
    before = checkpoint.load(best.rename(tmp_path / "mine.safetensors")).metrics
    Trainer(tiny_image_recipe(steps=8, lr=0.1), data, run, resume=True).fit()
    bits = "validation/bits_per_dim"
    assert checkpoint.load(best).metrics[bits] > before[bits]


def test_a_damaged_best_model_does_not_outlast_a_resume(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    Trainer(tiny_image_recipe(steps=4), data, run).fit()
    (run / "best.safetensors").write_bytes(b"half")
    Trainer(tiny_image_recipe(steps=5), data, run, resume=True).fit()
    assert "set aside as best.damaged" in capsys.readouterr().err
    assert checkpoint.load(run).path.name == "best.safetensors"


# ---- files of the user beside the checkpoints ----

STEPS = (2, 10, 999_999_999, 1_000_000_000, 20_000_000_000)
FOREIGN = (
    "checkpoint-keep.safetensors",
    "checkpoint-000000010 (copy).safetensors",
    "checkpoint-000000010.old.safetensors",
    "checkpoint-12.safetensors",
    "checkpoint--00000012.safetensors",
    "checkpoint-٠٠٠٠٠٠٠١٢.safetensors",
    "checkpoint-.safetensors",
    "best-of-step-000000040.safetensors",
)


def test_only_what_a_training_names_is_its_checkpoint(tmp_path: Path) -> None:
    """Those are in the order of their steps; all else is neither gone on from nor removed."""
    paths = [checkpoint.training_path(tmp_path, step) for step in STEPS]
    for name in (*FOREIGN, *(path.name for path in paths)):
        (tmp_path / name).write_text(name)
    assert checkpoint.training_checkpoints(tmp_path) == paths
    assert checkpoint.newest_checkpoint(tmp_path) == paths[-1]
    folder = RunFolder(tmp_path)
    assert folder.roll_back(1_000_000_000) == paths[2]
    folder.rotate(2)
    assert checkpoint.training_checkpoints(tmp_path) == paths[1:3]
    assert all((tmp_path / name).read_text() == name for name in FOREIGN)
    for path in paths[1:3]:
        path.unlink()
    with pytest.raises(VocoderError, match="holds no checkpoint"):
        checkpoint.find_checkpoint(tmp_path)


# ---- folders of any name ----


def test_a_run_may_lie_in_a_folder_of_any_name(
    run: Callable[..., Any], data: Path, tmp_path: Path
) -> None:
    """One that is not UTF-8 too, as an older system or another encoding leaves it."""
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    try:
        folder.mkdir()
    except OSError:
        pytest.skip("the names of this file system are UTF-8")
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(json.dumps(tiny_image_recipe(steps=2).to_dict()))
    flags = ("--data", data, "--run-dir", folder, "--device", "cpu")
    for steps, resume in ((2, ()), (4, ("--resume",))):
        result = run("train", recipe, *flags, *resume, "-o", f"train.steps={steps}")
        assert result.code == 0, result.err
        last = checkpoint.training_path(folder, steps)
        assert result.out == os.fsencode(last) + b"\n"
        assert checkpoint.load(last).step == steps
    assert checkpoint.load(folder).path == folder / "best.safetensors"
    assert not list(folder.glob("*.damaged"))
    page = tmp_path / "page.html"
    result = run("evaluate-images", folder, "--data", data, "--device", "cpu", "--report", page)
    assert result.code == 0, result.err
    assert "caf\\udce9" in page.read_text(encoding="utf-8")
