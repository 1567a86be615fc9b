"""What changes of a recipe while its model is trained, and what of it cannot."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vocoder.errors import VocoderError
from vocoder.recipe import Recipe

_NAMES = ("name", "description")  # of a recipe; no settings
_FIXED = ("train.optimizer",)  # its state is of no use to another


@dataclass(frozen=True)
class Change:
    """A setting that was changed while a model was trained."""

    step: int  # the first that it holds for, counted from 0
    key: str  # such as "train.lr"
    old: Any
    new: Any

    def __str__(self) -> str:
        return f"{self.key} {self.old} -> {self.new}"

    def to_dict(self) -> dict[str, Any]:
        """Return what a checkpoint stores."""
        return asdict(self)


def changes_between(old: Recipe, new: Recipe, step: int, where: Path) -> list[Change]:
    """Return how the settings of a run change when it goes on by another recipe.

    Args:
        old: the recipe that the run had so far.
        new: the recipe that it is to have from now on.
        step: steps done so far.
        where: the run's folder, for messages.

    Raises:
        VocoderError: the model, the data or the optimiser would change.
    """
    before, after = settings(old), settings(new)
    keys = [*before, *(key for key in after if key not in before)]
    changes = [
        Change(step, key, before.get(key), after.get(key))
        for key in keys
        if before.get(key) != after.get(key)
    ]
    fixed = [c for c in changes if not c.key.startswith("train.") or c.key in _FIXED]
    if fixed:
        raise cannot_change(fixed, where)
    return changes


def cannot_change(changes: Sequence[Change], where: Path) -> VocoderError:
    """Return the error that says which settings of the run in `where` cannot change."""
    more = f" and {len(changes) - 3} more" if len(changes) > 3 else ""
    return VocoderError(
        f"{where}: model, data and optimiser of a run cannot change "
        f"({', '.join(map(str, changes[:3]))}{more}); leave this out, or train in another folder"
    )


def settings(recipe: Recipe) -> dict[str, Any]:
    """Return all settings of a recipe by their dotted keys."""
    values = {key: value for key, value in recipe.to_dict().items() if key not in _NAMES}
    return dict(_flat(values, ""))


def _flat(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
