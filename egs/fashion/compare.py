"""Fashion-MNIST: train every model for equal time, score it, draw with it, and print the tables.

python egs/fashion/compare.py --jobs 2

Each model and seed has a folder under --runs, with its checkpoints, a report, pictures, the bits of
each test image and figures.json. A stopped or killed comparison goes on by the same command, and
what is finished stays; a call with other settings is refused it, and wants another --runs. When
every small recipe has been trained once, the two that need the fewest bits for the validation
images are trained with more seeds. The tables are of every folder that is finished, also of earlier
calls; `python egs/fashion/tables.py` prints them alone.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from concurrent.futures import as_completed
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import torch
from compared import SMALL
from outside import write_outside
from tables import BITS, OUTSIDE, VALIDATION, Row, finished, tables

from vocoder import Trainer, evaluate_images, load_recipe
from vocoder.checkpoint import read_header
from vocoder.errors import VocoderError
from vocoder.files.atomic import atomic_path
from vocoder.images.sampling import ImageModel, sample_grid
from vocoder.judging.training_log import TrainingLog
from vocoder.recipe import Recipe
from vocoder.training.changes import settings as settings_of
from vocoder.training.resume import recipe_of

sys.path.insert(0, str(Path(__file__).parents[1]))
from workers import StoppedError, workers

PICTURES: dict[str, dict[str, Any]] = {
    "samples": {"count": 64},
    "samples-0.8": {"count": 64, "temperature": 0.8},
    "reconstructions": {"count": 32, "show": "reconstructions"},
    "interpolations": {"count": 8, "show": "spherical"},
}
N_BEST = 2
MADE_WITH = "made with"  # the settings that the figures of a run follow from
Run = tuple[str, int]  # a recipe and a seed


@dataclass(frozen=True)
class Settings:
    """What all runs have in common."""

    data: Path | None
    runs: Path
    share: float
    overrides: tuple[str, ...]
    n_images: int | None
    n_draws: int


def do(run: Run, settings: Settings) -> None:
    """Train a model, or go on with it, then score it and draw with it; all of it only once.

    Raises:
        VocoderError: The training has diverged, or goes on in another process; or the folder holds
            the figures of other settings.
        StoppedError: The training was told to stop.
    """
    torch.set_num_threads(1)
    name, seed = run
    folder = settings.runs / f"{Path(name).name}-{seed}"
    recipe = load_recipe(name, (f"train.seed={seed}", *settings.overrides))
    steps = max(1, round(recipe.train.steps * settings.share))
    decay = max(1, round(recipe.train.lr_decay_steps * settings.share))
    scaled = (f"train.steps={steps}", f"train.lr_decay_steps={decay}")
    recipe = load_recipe(name, (f"train.seed={seed}", *settings.overrides, *scaled))
    file = folder / "figures.json"
    if not file.is_file():
        figures = {"recipe": name, "seed": seed, **train(recipe, folder, settings)}
        with atomic_path(file) as temporary:
            temporary.write_text(json.dumps(figures, indent=1))
    check(folder, json.loads(file.read_text()), choices(recipe, settings))


def train(recipe: Recipe, folder: Path, settings: Settings) -> dict[str, Any]:
    """Return the figures of a training, and of the model that it leaves.

    What the training was like is told by its last checkpoint: one that had ended before may have
    had other settings than these.
    """
    trainer = Trainer(recipe, settings.data, folder, resume=True, device="cpu")
    path = trainer.fit()
    if trainer.step < recipe.train.steps:
        raise StoppedError(f"{folder}: stopped at step {trainer.step} of {recipe.train.steps}")
    saved = read_header(path)
    trained, steps = recipe_of(saved["recipe"], path), saved["step"]
    figures = {"steps": steps, "precision": saved["training"]["precision"]}
    figures |= judge(folder, settings)
    seconds = TrainingLog.read(folder).processor_seconds()
    timed = steps - steps % trained.train.log_every  # those that a line of the log counts
    figures["minutes"] = seconds / 60
    figures["images/s"] = trained.train.batch_size * timed / seconds if timed else None
    return figures | {MADE_WITH: choices(trained, settings)}


def choices(recipe: Recipe, settings: Settings) -> dict[str, Any]:
    """Return all that the figures of a run follow from, by the names of the options.

    Without the precision, a column of its own in the table: what `auto` is depends on the machine.
    """
    training = settings_of(recipe)
    del training["train.precision"]
    return training | {"--images": settings.n_images, "--draws": settings.n_draws}


def check(folder: Path, figures: Row, wanted: dict[str, Any]) -> None:
    """Refuse figures of other settings than those wanted.

    Figures that do not tell are of a version that kept the steps and the draws alone. All else is
    taken for the recipe's own.

    Raises:
        VocoderError: They are of other settings.
    """
    made = figures.get(MADE_WITH)
    if made is None:
        recipe = load_recipe(figures["recipe"], (f"train.seed={figures['seed']}",))
        made = settings_of(recipe) | {"--images": None, "--draws": figures["dequantisations"]}
        made["train.steps"] = figures["steps"]
    differing = [key for key, value in wanted.items() if made.get(key, value) != value]
    if differing:
        told = ", ".join(f"{key} {made[key]}, not {wanted[key]}" for key in differing[:3])
        more = f" and {len(differing) - 3} more" if len(differing) > 3 else ""
        raise VocoderError(
            f"{folder}: its figures are of {told}{more}; take another --runs for these settings"
        )


def judge(folder: Path, settings: Settings) -> dict[str, Any]:
    """Score a trained model, also on images that are no clothes, and draw with it."""
    score = partial(evaluate_images, folder, n_images=settings.n_images, device="cpu")
    figures = score(
        settings.data,
        n_draws=settings.n_draws,
        report=folder / "report.html",
        bits=folder / "bits.npy",
    )
    for kind in write_outside(settings.runs / "outside", settings.data):
        figures[OUTSIDE + kind.name] = score(kind)[BITS]
    for name, picture in PICTURES.items():
        data = settings.data if "show" in picture else None
        out = folder / f"{name}.png"
        drawn = sample_grid(folder, out, data=data, seed=1, device="cpu", **picture)
        if name == "samples":
            figures["samples/s"] = drawn.n_images / drawn.seconds
    model = ImageModel(folder, "cpu")
    figures["parameters"] = model.flow.n_parameters()
    return figures | {VALIDATION: model.checkpoint.metrics[VALIDATION]}


def do_all(runs: Sequence[Run], settings: Settings, n_jobs: int) -> bool:
    """Do all runs, some at once; tell whether none failed. The others go on when one fails."""

    def failed(run: Run, error: BaseException) -> None:
        print(f"{run[0]} with seed {run[1]} failed: {error}", file=sys.stderr, flush=True)

    whole = True
    if n_jobs == 1:  # no process but this one, so that nothing goes on when it is killed
        for run in runs:
            try:
                do(run, settings)
            except (VocoderError, OSError) as error:
                failed(run, error)
                whole = False
        return whole
    with workers(n_jobs) as submit:
        work = {submit(do, run, settings): run for run in runs}
        for future in as_completed(work):
            if error := future.exception():
                failed(work[future], error)
                whole = False
    return whole


def best(runs: Path, seed: int) -> list[str]:
    """Return the recipes that need the fewest bits for the validation images, best first.

    The test images choose nothing.
    """
    rows = [row for row in finished(runs) if row["seed"] == seed and row["recipe"] in SMALL]
    return [row["recipe"] for row in sorted(rows, key=lambda row: row[VALIDATION])[:N_BEST]]


def main() -> None:
    """Read the options, do the runs, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder of the idx files; by default Debian's")
    parser.add_argument("--runs", type=Path, default=Path("runs/fashion"))
    parser.add_argument("--recipes", nargs="+", help="these alone; by default all small ones")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1], help="of every recipe")
    parser.add_argument(
        "--best-seeds",
        type=int,
        nargs="*",
        default=[2, 3],
        help="of the two best, unless --recipes are named; none leaves them out",
    )
    parser.add_argument("--share", type=float, default=1.0, help="part of each recipe's steps")
    parser.add_argument("--jobs", type=int, default=1, help="models trained at once, a core each")
    parser.add_argument("--images", type=int, help="score only so many images of each kind")
    parser.add_argument("--draws", type=int, default=4, help="of the noise, for each test image")
    parser.add_argument("-o", dest="overrides", action="append", default=[], metavar="KEY=VALUE")
    options = parser.parse_args()
    settings = Settings(
        options.data,
        options.runs,
        options.share,
        tuple(options.overrides),
        options.images,
        options.draws,
    )
    runs = list(product(options.recipes or SMALL, options.seeds))
    whole = do_all(runs, settings, options.jobs)
    if whole and not options.recipes:
        more = list(product(best(options.runs, options.seeds[0]), options.best_seeds))
        whole = do_all(more, settings, options.jobs)
    print(tables(options.runs))
    if not whole:
        sys.exit("some runs are missing, as told above; the same command goes on with them")


if __name__ == "__main__":
    try:
        main()
    except StoppedError as stopped:
        sys.exit(f"{stopped}; the same command goes on")
    except VocoderError as error:
        sys.exit(str(error))
