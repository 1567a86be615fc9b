"""One of two machines that train together: a process with a corpus and a folder of its own.

    python tests/training/machine.py RECIPE DATA OTHER_DATA RUN_DIR PORT PORT PORT PORT

torchrun's variables say which machine it is. Each training has a port of its own, since a process
that is ahead could else meet the other one at the group that it is about to leave.

It tells, one line each, how the training went with the other data and with none, and then trains
three steps and goes on to five.
"""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from vocoder.errors import VocoderError
from vocoder.recipe import load_recipe
from vocoder.training.trainer import Trainer


def main() -> None:
    """Train."""
    file, data, other, run = map(Path, sys.argv[1:5])
    ports = iter(sys.argv[5:])
    recipe = load_recipe(file)

    def trainer(*arguments: Any, **options: Any) -> Trainer:
        os.environ["MASTER_PORT"] = next(ports)
        return Trainer(*arguments, **options, device="cpu")

    for folder in (other, Path("nowhere")):
        # The first machine has the right corpus each time.
        try:
            trainer(recipe, data if run.name == "first" else folder, run).close()
        except VocoderError as error:
            print(error)
    trainer(replace(recipe, train=replace(recipe.train, steps=3)), data, run).fit()
    trainer(recipe, data, run, resume=True).fit()


if __name__ == "__main__":
    main()
