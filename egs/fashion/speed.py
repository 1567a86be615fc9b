"""How many steps of each recipe an hour of one core's processor time holds.

python egs/fashion/speed.py

The models take turns, a step each, so that whatever else the machine does slows all of them alike:
their ratios hold on a busy machine, from which the recipes have their steps.
"""

import argparse
import statistics
import time

import torch
from compared import SMALL

from vocoder import load_recipe
from vocoder.recipe import ImageRecipe
from vocoder.training.distributed import processes
from vocoder.training.images import ImageTask
from vocoder.training.learner import Learner


def main() -> None:
    """Time all models and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipes", nargs="+", default=SMALL, help="by default all small ones")
    parser.add_argument("--rounds", type=int, default=12, help="steps that each model is timed for")
    options = parser.parse_args()
    torch.set_num_threads(1)
    learners = []
    with processes("cpu") as group:
        for name in options.recipes:
            recipe = load_recipe(name)
            assert isinstance(recipe, ImageRecipe)
            task = ImageTask(recipe, None)
            learners.append((task, Learner(recipe, task, group, initialise=True)))
        taken: list[list[float]] = [[] for _ in learners]
        for step in range(1 + options.rounds):
            for (task, learner), seconds in zip(learners, taken, strict=True):
                batch = task.batch(step, 0, 1)
                started = time.process_time()
                learner.train_step(batch)
                seconds.append(time.process_time() - started)
    print("| recipe | precision | seconds a step | images a second | steps an hour |")
    print("|---|---|---|---|---|")
    for name, (task, learner), seconds in zip(options.recipes, learners, taken, strict=True):
        middle = statistics.median(seconds[1:])  # the first makes what the others find made
        cells = [f"`{name}`", learner.precision, f"{middle:.3f}"]
        cells += [f"{task.units_per_step / middle:.0f}", f"{3600 / middle:,.0f}"]
        print("| " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
