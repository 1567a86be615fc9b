"""What a recipe is trained on, opened by every process of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vocoder.errors import VocoderError
from vocoder.recipe import ImageRecipe, VoiceRecipe
from vocoder.training.distributed import Processes
from vocoder.training.images import ImageTask
from vocoder.training.task import Task
from vocoder.training.voice import VoiceTask


def open_task(
    recipe: VoiceRecipe | ImageRecipe, data: str | Path | None, group: Processes
) -> Task[Any]:
    """Return what a recipe is trained on; all processes must call it together.

    Args:
        recipe: The model to train, and how to train it.
        data: The path of a corpus or of images, which on each machine may be a copy of its own;
            None for images that come with a library.
        group: The processes of the run.

    Raises:
        VocoderError: The data is missing in one of them, does not fit the recipe, or is not the
            same in all.
    """
    task, facts = group.together(lambda: _open(recipe, data), lambda task: task.facts)
    for rank, others in enumerate(facts):
        if others != facts[0]:
            raise VocoderError(
                f"process {rank} has other data than process 0 ({others}, not {facts[0]}); copy "
                "the preprocessed corpus of one machine to the others"
            )
    return task


def _open(recipe: VoiceRecipe | ImageRecipe, data: str | Path | None) -> Task[Any]:
    if isinstance(recipe, ImageRecipe):
        return ImageTask(recipe, None if data is None else Path(data))
    if data is None:
        raise VocoderError(f"{recipe.name}: a voice needs a corpus; give the folder with --data")
    return VoiceTask(recipe, Path(data))
