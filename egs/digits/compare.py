"""Every digits recipe, three seeds each, on the test images: python egs/digits/compare.py --jobs 2

Recipes differ in parameters too, so the table tells their number. The validation images select each
run's checkpoint; the test images are scored once, at the end. A stopped comparison goes on.
"""

import argparse
import sys
from itertools import product
from pathlib import Path

import numpy as np
import torch

from vocoder import ImageModel, Trainer, evaluate_images, list_recipes, load_recipe
from vocoder.data.images.sets import open_images
from vocoder.judging.training_log import TrainingLog

sys.path.insert(0, str(Path(__file__).parents[1]))
from workers import StoppedError, workers


def run(recipe: str, seed: int, folder: Path) -> tuple[float, float]:
    """Train one model; return its bits/dim on the test images and its processor time."""
    torch.set_num_threads(1)
    trained = load_recipe(recipe, (f"train.seed={seed}",))
    trainer = Trainer(trained, None, folder, resume=True, device="cpu")
    trainer.fit()
    if trainer.step < trained.train.steps:
        raise StoppedError(f"{folder}: stopped at step {trainer.step} of {trained.train.steps}")
    bits = evaluate_images(folder, n_draws=10, device="cpu")["bits/dim at 1x8x8"]
    return bits, TrainingLog.read(folder).processor_seconds()


def histogram_bits(per_pixel: bool) -> float:
    """Return the bits/dim of a histogram of the training images, one count added to each value."""
    images = open_images("digits", n_validation=0, seed=0)
    train, test = (np.eye(17)[split[:].reshape(-1, 64)] for split in (images.train, images.test))
    counts = 1 + train.sum(axis=0 if per_pixel else (0, 1))
    return float(-(test * np.log2(counts / counts.sum(axis=-1, keepdims=True))).sum(-1).mean())


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=Path, default=Path("runs/digits"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--jobs", type=int, default=1, help="models trained at once")
    options = parser.parse_args()
    names = [name for name in list_recipes() if name.startswith("digits/")]
    work = list(product(names, options.seeds))
    folders = [options.runs / f"{Path(name).name}-{seed}" for name, seed in work]
    try:
        with workers(options.jobs) as submit:
            futures = [
                submit(run, *named, folder) for named, folder in zip(work, folders, strict=True)
            ]
            results = [future.result() for future in futures]
    except StoppedError as stopped:
        sys.exit(f"{stopped}; the same command goes on")
    print("| recipe | parameters | bits/dim, mean (least to most) | minutes |\n|---|---|---|---|")
    print(f"| uniform | 0 | {np.log2(17):.3f} | |")
    print(f"| one histogram | 16 | {histogram_bits(False):.3f} | |")
    print(f"| a histogram per pixel | 1024 | {histogram_bits(True):.3f} | |")
    for name in names:
        rows = [i for i, (recipe, _) in enumerate(work) if recipe == name]
        bits, seconds = np.array([results[i] for i in rows]).T
        count = ImageModel(folders[rows[0]]).flow.n_parameters()
        spread = f"{bits.mean():.3f} ({bits.min():.3f} to {bits.max():.3f})"
        print(f"| `{name}` | {count:,} | {spread} | {seconds.mean() / 60:.1f} |")
