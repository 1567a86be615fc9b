"""One of two machines that train together: a process with a corpus and a folder of its own.

    python tests/training/machine.py RECIPE DATA OTHER_DATA RUN_DIR

torchrun's variables say which machine it is. It tells, one line each, how the training went with
the other data and with none, and then trains three steps and goes on to five.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from vocoder.errors import VocoderError
from vocoder.recipe import load_recipe
from vocoder.training.trainer import Trainer


def main() -> None:
    """Train."""
    file, data, other, run = map(Path, sys.argv[1:])
    recipe = load_recipe(file)
    for folder in (other, Path("nowhere")):
        # The first machine has the right corpus each time.
        try:
            Trainer(recipe, data if run.name == "first" else folder, run, device="cpu").close()
        except VocoderError as error:
            print(error)
    Trainer(replace(recipe, train=replace(recipe.train, steps=3)), data, run, device="cpu").fit()
    Trainer(recipe, data, run, device="cpu", resume=True).fit()


if __name__ == "__main__":
    main()
