"""By which recipe a run goes on: its own, with the changes that the caller asks for."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from vocoder import checkpoint
from vocoder.checkpoint import TrainingState
from vocoder.config import ConfigError
from vocoder.errors import VocoderError
from vocoder.recipe import ImageRecipe, Recipe, VoiceRecipe, load_recipe, override_recipe
from vocoder.training.changes import Change, cannot_change, changes_between, settings
from vocoder.training.notices import notice
from vocoder.training.run_folder import find_usable


def recipe_to_resume(
    run_dir: Path, name_or_path: str | Path | None, overrides: Sequence[str] = ()
) -> VoiceRecipe | ImageRecipe:
    """Return the recipe by which to go on in a run's folder: the run's own, with changes.

    Args:
        run_dir: the run's folder. Where it holds no run yet, one starts by the recipe named.
        name_or_path: the recipe that the run was started with; None: whichever it was. What the
            run's own settings differ in from it is told on standard error and stays.
        overrides: "key.path=value" for each setting to change.

    Raises:
        ConfigError: no such recipe or setting, or no recipe named and no run there.
        VocoderError: what is to change cannot, or no checkpoint of the run is usable.
    """
    newest, _ = find_usable(run_dir)
    if newest is None:
        if name_or_path is None:
            raise ConfigError(f"{run_dir}: holds no run to go on with; name a recipe to start one")
        return load_recipe(name_or_path, overrides)
    header = checkpoint.read_header(newest)
    own = recipe_of(header.get("recipe"), newest)
    asked = {key: value for key, _, value in (text.partition("=") for text in overrides)}
    if name_or_path is not None:
        _compare(own, load_recipe(name_or_path), run_dir, asked)
    if asked.get("model.name", own.model) != own.model:  # its other settings would not be known
        change = Change(header["step"], "model.name", own.model, asked["model.name"])
        raise cannot_change([change], run_dir)
    wanted = override_recipe(own, overrides)
    changes_between(own, wanted, header["step"], run_dir)
    return wanted


@dataclass(frozen=True)
class Saved:
    """What training goes on from, without a module, so that a process can send it to others.

    Args:
        path: Path of the checkpoint.
        step: Optimiser steps done.
        recipe: The settings that it was trained by.
        changes: What was changed of them, each with its step.
        weights: The weights of the model, averaged if the recipe wants an average.
    """

    path: Path
    step: int
    recipe: Mapping[str, Any] | None
    changes: Sequence[Mapping[str, Any]]
    weights: Mapping[str, Tensor]


def load_saved(path: str | Path) -> Saved:
    """Read a checkpoint to start or go on from; see `checkpoint.load`."""
    found = checkpoint.load(path)
    weights = found.model.state_dict()
    return Saved(found.path, found.step, found.recipe, found.changes, weights)


def load_run(path: Path) -> tuple[Saved, TrainingState]:
    """Read a checkpoint of a run with its training state; see `checkpoint.load_training`."""
    return load_saved(path), checkpoint.load_training(path, "cpu")


def recipe_of(stored: Mapping[str, Any] | None, path: Path) -> Recipe:
    """Return the recipe that a checkpoint holds.

    Args:
        stored: What stands in its header.
        path: Path of the checkpoint, which errors name.

    Raises:
        VocoderError: It is none that this version knows.
    """
    try:
        return Recipe.from_dict(stored or {})
    except ConfigError as error:
        raise VocoderError(f"{path}: holds no recipe to go on by ({error})") from None


def _compare(own: Recipe, named: Recipe, run_dir: Path, asked: Container[str]) -> None:
    """Tell what a run keeps of its own that the recipe named on the command line has otherwise."""
    if own.model != named.model:
        raise VocoderError(
            f"{run_dir}: was started with the recipe {own.name} for a {own.model}, and "
            f"{named.name} is for a {named.model}; leave out the recipe to go on with the run"
        )
    ours, theirs = settings(own), settings(named)
    kept = [
        f"{key} {value} ({named.name} has {theirs.get(key)})"
        for key, value in ours.items()
        if value != theirs.get(key) and key not in asked
    ]
    if kept:
        notice(f"{run_dir}: the run keeps its own settings: {', '.join(kept)}; -o changes one")
