"""The family side by side: equal sizes, equal training, and a story that runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from vocoder.config import to_dict
from vocoder.models.whitened import Whitened
from vocoder.recipe import VoiceRecipe, load_recipe
from vocoder.registry import find_model

STORY = Path(__file__).parents[2] / "egs" / "family" / "README.md"
MODELS = ("waveglow", "flowavenet", "waveflow", "nanoflow")
PLAIN = [f"recorded/compare-{model}" for model in MODELS]
NAMES = PLAIN + [f"{name}-lp" for name in PLAIN]


def sizes(name: str) -> tuple[int, int]:
    """Return the parameters at inference, and how many of them do not upsample the mel."""
    recipe = load_recipe(name)
    with torch.device("meta"):
        model = find_model(recipe.model)[0](recipe.config).fold()
    flow = model.excitation if isinstance(model, Whitened) else model
    upsampling = sum(parameter.numel() for parameter in flow.upsample.parameters())
    return model.n_parameters(), model.n_parameters() - upsampling


def test_they_are_of_equal_size() -> None:
    beside = [sizes(name)[1] for name in NAMES]
    middle = (min(beside) + max(beside)) / 2
    assert max(beside) < 1.05 * middle
    assert min(beside) > 0.95 * middle


@pytest.mark.parametrize("name", PLAIN)
def test_the_table_states_their_sizes(name: str) -> None:
    row = rf"^\| `{name}` \| ([\d,]+) \| ([\d,]+) \|$"
    (found,) = re.findall(row, STORY.read_text(encoding="utf-8"), re.MULTILINE)
    assert found == tuple(f"{size:,}" for size in sizes(name))


@pytest.mark.parametrize("name", PLAIN)
def test_linear_prediction_stands_before_the_same_model(name: str) -> None:
    plain, behind = load_recipe(name), load_recipe(f"{name}-lp")
    assert behind.config.inner == {"name": plain.model, **to_dict(plain.config)}


def test_they_are_trained_alike() -> None:
    recipes = [load_recipe(name) for name in NAMES]
    assert all(isinstance(recipe, VoiceRecipe) for recipe in recipes)
    assert len({(recipe.train, recipe.preset) for recipe in recipes}) == 1  # type: ignore[attr-defined]
