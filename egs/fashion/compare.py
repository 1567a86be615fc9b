"""Fashion-MNIST: train every model for equal time, score it, draw with it, and print the table.

python egs/fashion/compare.py --jobs 2

Each model and seed has a folder under --runs, with its checkpoints, a report, pictures and
figures.json; a stopped comparison goes on where it was. `--share 0.25` does a quarter of each
recipe's steps, which were counted so that all take the same time; the table tells the time that was
taken. The table is of every folder that is finished, also of earlier calls.
"""

import argparse
import json
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import torch
from outside import write_outside

from vocoder import Trainer, evaluate_images, list_recipes, load_recipe
from vocoder.images.sampling import ImageModel, sample_grid
from vocoder.judging.training_log import TrainingLog

SIZE = "1x28x28"
OUTSIDE = "outside: "  # before the name of a kind of images that are no clothes
PICTURES: dict[str, dict[str, Any]] = {
    "samples": {"count": 64},
    "samples-0.8": {"count": 64, "temperature": 0.8},
    "reconstructions": {"count": 32, "show": "reconstructions"},
    "interpolations": {"count": 8, "show": "spherical"},
}


@dataclass(frozen=True)
class Settings:
    """What all runs have in common."""

    data: Path | None
    outside: Path
    share: float
    overrides: tuple[str, ...]
    n_images: int | None
    n_draws: int


def run(recipe: str, seed: int, folder: Path, settings: Settings) -> None:
    """Train a model, or go on with it, then score it and draw with it; all of it only once."""
    torch.set_num_threads(1)
    if (folder / "figures.json").is_file():
        return
    wanted = load_recipe(recipe, (f"train.seed={seed}", *settings.overrides))
    steps = max(1, round(wanted.train.steps * settings.share))
    decay = max(1, round(wanted.train.lr_decay_steps * settings.share))
    scaled = (f"train.steps={steps}", f"train.lr_decay_steps={decay}")
    wanted = load_recipe(recipe, (f"train.seed={seed}", *settings.overrides, *scaled))
    Trainer(wanted, settings.data, folder, resume=True).fit()
    score = partial(evaluate_images, folder, n_images=settings.n_images)
    figures = score(settings.data, n_draws=settings.n_draws, report=folder / "report.html")
    for outside in sorted(settings.outside.iterdir()):
        figures[OUTSIDE + outside.name] = score(outside)[f"bits/dim at {SIZE}"]
    for name, picture in PICTURES.items():
        data = settings.data if "show" in picture else None
        drawn = sample_grid(folder, folder / f"{name}.png", data=data, seed=1, **picture)
        if name == "samples":
            figures["samples/s"] = drawn.n_images / drawn.seconds
    log = TrainingLog.read(folder)
    images = wanted.train.batch_size * wanted.train.log_every  # from one line to the next
    figures["minutes"] = log.seconds(images) / 60
    figures["images/s"] = wanted.train.batch_size * steps / log.seconds(images)
    figures |= {"recipe": recipe, "seed": seed, "steps": steps}
    figures["parameters"] = ImageModel(folder).flow.n_parameters()
    (folder / "figures.json").write_text(json.dumps(figures, indent=1))


def table(runs: Path) -> str:
    """Return what the finished runs found, best first."""
    found = [json.loads(path.read_text()) for path in sorted(runs.glob("*/figures.json"))]
    bits = f"bits/dim at {SIZE}"
    outside = sorted({name for row in found for name in row if name.startswith(OUTSIDE)})
    heads = ["recipe", "seed", "parameters", "steps", "minutes", "images/s", "bits/dim"]
    heads += ["importance-weighted", "inversion error", "samples/s"]
    heads += [name.removeprefix(OUTSIDE) for name in outside]
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for row in sorted(found, key=lambda row: row[bits]):
        cells = [
            f"`{row['recipe']}`",
            str(row["seed"]),
            f"{row['parameters']:,}",
            f"{row['steps']:,}",
            f"{row['minutes']:.1f}",
            f"{row['images/s']:.0f}",
            f"{row[bits]:.3f} ± {row['standard error']:.3f}",
            f"{row[f'{bits}, importance-weighted']:.3f}",
            f"{row['inversion error']:.1e}",
            f"{row['samples/s']:.1f}",
            *(f"{row[name]:.2f}" for name in outside),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Read the options, do the runs, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder of the idx files; by default Debian's")
    parser.add_argument("--runs", type=Path, default=Path("runs/fashion"))
    parser.add_argument("--recipes", nargs="+", help="by default all small ones of fashion/")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--share", type=float, default=1.0, help="part of each recipe's steps")
    parser.add_argument("--jobs", type=int, default=1, help="models trained at once, a core each")
    parser.add_argument("--images", type=int, help="score only so many images of each kind")
    parser.add_argument("--draws", type=int, default=4, help="of the noise, for each test image")
    parser.add_argument("-o", dest="overrides", action="append", default=[], metavar="KEY=VALUE")
    options = parser.parse_args()
    small = [
        name for name in list_recipes() if name.startswith("fashion/") and not name.endswith("-gpu")
    ]
    work = list(product(options.recipes or small, options.seeds))
    folders = [options.runs / f"{Path(name).name}-{seed}" for name, seed in work]
    outside = options.runs / "outside"
    write_outside(outside, options.data)
    settings = Settings(
        options.data,
        outside,
        options.share,
        tuple(options.overrides),
        options.images,
        options.draws,
    )
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(options.jobs, context) as pool:
        names, seeds = zip(*work, strict=True)
        list(pool.map(partial(run, settings=settings), names, seeds, folders))
    print(table(options.runs))


if __name__ == "__main__":
    main()
