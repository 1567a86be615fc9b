"""What a resume makes of a run whose settings change, or whose files are not all there."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from helpers import save_images, tiny_image_recipe

from vocoder import checkpoint
from vocoder.training import trainer
from vocoder.training.changes import settings
from vocoder.training.resume import recipe_to_resume
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
