"""The folder of a run: who trains in it, its checkpoints, and which of them to go on from."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import yaml

from vocoder import checkpoint
from vocoder.errors import VocoderError
from vocoder.files.atomic import atomic_path
from vocoder.recipe import Recipe
from vocoder.training.changes import Change
from vocoder.training.notices import notice
from vocoder.training.run_lock import RunLock

_UNFINISHED = re.compile(r"\.(checkpoint-\d+|best|recipe|log)\.[0-9a-f]{8}\.\w+")
_TRACES = ("best.safetensors", "log.jsonl")  # what a new run would take for its own, or empty


class RunFolder:
    """A folder that this process alone writes to between `claim` and `close`.

    Args:
        path: the folder; `claim` makes it if need be.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._made: list[Path] = []  # folders that `claim` made, the innermost first
        self._lock: RunLock | None = None

    def claim(self, resume: bool) -> Path | None:
        """Take the folder for this process, and return the checkpoint to go on from, if any.

        Args:
            resume: go on with the run that the folder holds, if there is one.

        Raises:
            VocoderError: another process trains there, a run is there and is not to be resumed, or
                none of its checkpoints can be used.
        """
        folders = [self.path, *self.path.parents]
        self._made = [folder for folder in folders if not folder.exists()]
        self.path.mkdir(parents=True, exist_ok=True)
        self._lock = RunLock(self.path)
        for entry in os.scandir(self.path):
            if _UNFINISHED.fullmatch(entry.name):  # what a killed process was writing
                os.unlink(entry)
        if not resume and self._holds_a_run():
            raise VocoderError(
                f"{self.path}: holds a run already; continue it with --resume or choose another "
                "folder"
            )
        usable, unusable = find_usable(self.path)
        for path, problem in unusable.items():
            aside = self._set_aside(path, f"{path.stem}.damaged")
            notice(f"{path}: {problem}; set aside as {aside.name}")
        if usable is not None and unusable:
            notice(f"{self.path}: going on from {usable.name}, the newest whole checkpoint")
        return usable

    def _holds_a_run(self) -> bool:
        """Tell whether there is anything of a run, also of one killed before its first save."""
        traces = [path for name in _TRACES if (path := self.path / name).is_file()]
        return bool(checkpoint.training_checkpoints(self.path)) or any(
            path.stat().st_size for path in traces
        )

    def check(self) -> None:
        """Refuse to write to a folder that another machine has taken over meanwhile.

        Raises:
            VocoderError: it has.
        """
        if self._lock is not None:
            self._lock.check()

    def rotate(self, n_kept: int) -> None:
        """Remove all training checkpoints but the newest `n_kept`."""
        for path in checkpoint.training_checkpoints(self.path)[:-n_kept]:
            path.unlink()

    def roll_back(self, unproven: int) -> Path | None:
        """Set aside checkpoints that no good step followed, and return the newest of the others.

        Args:
            unproven: the number of steps after which no good step was done. The last checkpoint
                stays even so: it may have been the data that was at fault.
        """
        paths = checkpoint.training_checkpoints(self.path)
        while len(paths) > 1 and checkpoint.step_of(paths[-1]) >= unproven:
            path = paths.pop()
            self._set_aside(path, f"{path.stem}.diverged")
        return paths[-1] if paths else None

    def keep_best(self, step: int, recipe: Recipe, changes: Sequence[Change]) -> bool:
        """Return whether the folder holds the run's best model so far, or one that comes again.

        A model of later steps comes again, to the bit, if the run goes on by the same settings.
        Other settings may lead to none that scores as high, and it would stay the best of a run
        that never came by it. So it is set aside, as is a damaged one.

        Args:
            step: the step that the run goes on from.
            recipe: the settings that it goes on by.
            changes: what was changed of them, and at which steps.
        """
        path = self.path / "best.safetensors"
        if not path.is_file():
            return False
        try:
            header = checkpoint.read_header(path)
        except VocoderError as error:
            aside = self._set_aside(path, "best.damaged")
            notice(f"{error}; set aside as {aside.name}")
            return False
        settings = recipe.to_dict(), [change.to_dict() for change in changes]
        found = header.get("step", 0)
        if found <= step or (header.get("recipe"), header.get("changes")) == settings:
            return True
        aside = self._set_aside(path, f"best-of-step-{found:09d}.safetensors")
        notice(
            f"{path}: is of step {found} and other settings, and the run goes on from step {step}; "
            f"set aside as {aside.name}"
        )
        return False

    def write_recipe(self, recipe: Recipe, changes: Sequence[Change]) -> None:
        """Write the settings of the run, and as comments what was changed of them and when."""
        comments = [f"# step {change.step}: {change}\n" for change in changes]
        text = yaml.safe_dump(recipe.to_dict(), sort_keys=False, allow_unicode=True)
        with atomic_path(self.path / "recipe.yaml") as temporary:
            temporary.write_text("".join([*comments, text]), encoding="utf-8")

    def close(self) -> None:
        """Let other processes train there; a folder that was made for nothing is removed."""
        if self._lock is not None:
            self._lock.release()
        with suppress(OSError):  # it is not empty
            for folder in self._made:
                folder.rmdir()

    def _set_aside(self, path: Path, name: str) -> Path:
        """Give a file another name, with a number where a file of that name is there already."""
        aside = path.with_name(name)
        numbers = itertools.count(2)
        while aside.exists():
            stem, dot, suffix = name.rpartition(".")
            aside = path.with_name(f"{stem}-{next(numbers)}{dot}{suffix}")
        return path.rename(aside)


def find_usable(run_dir: Path) -> tuple[Path | None, dict[Path, str]]:
    """Return the newest checkpoint that is whole and finite, and what is wrong with newer ones.

    Raises:
        VocoderError: there are checkpoints, and none of them is usable.
    """
    unusable: dict[Path, str] = {}
    for path in reversed(checkpoint.training_checkpoints(run_dir)):
        problem = _problem(path)
        if problem is None:
            return path, unusable
        unusable[path] = problem
    if unusable:
        told = "; ".join(f"{path.name} {problem}" for path, problem in list(unusable.items())[:3])
        raise VocoderError(
            f"{run_dir}: holds no checkpoint that training can go on from ({told}); "
            "train anew in another folder"
        )
    return None, {}


def _problem(path: Path) -> str | None:
    """Return why training cannot go on from a checkpoint, or None."""
    try:
        checkpoint.read_header(path)
    except checkpoint.DamagedFileError:
        return "is damaged"
    name = checkpoint.first_non_finite(checkpoint.read_tensors(path, "", "cpu"))
    return None if name is None else f"holds infinities or NaN ({name})"
