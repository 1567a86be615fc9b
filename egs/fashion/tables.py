"""What the finished runs of the comparison found: python egs/fashion/tables.py runs/fashion"""

import argparse
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from compared import ORDERS

from vocoder.errors import VocoderError
from vocoder.judging.paired import PairedDifference, paired_difference

BITS = "bits/dim at 1x28x28"
VALIDATION = "validation/bits_per_dim"
OUTSIDE = "outside: "  # before the name of a kind of images that are no clothes
Row = dict[str, Any]


def finished(runs: Path) -> list[Row]:
    """Return the figures of each finished run, with its folder."""
    found = sorted(runs.glob("*/figures.json"))
    return [json.loads(path.read_text()) | {"folder": path.parent} for path in found]


def tables(runs: Path) -> str:
    """Return all tables of the runs in a folder that have a row, as Markdown."""
    rows = sorted(finished(runs), key=lambda row: row[BITS])
    return "\n\n".join(filter(None, [_results(rows), _costs(rows), _seeds(rows), _orders(rows)]))


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows] if rows else []
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _results(rows: Sequence[Row]) -> str:
    """Return a table of what each run's model scores, best first."""
    outside = sorted({name for row in rows for name in row if name.startswith(OUTSIDE)})
    heads = ["recipe", "seed", "bits/dim", "importance-weighted", "inversion error"]
    heads += [name.removeprefix(OUTSIDE) for name in outside]
    return _table(
        heads,
        [
            [
                f"`{row['recipe']}`",
                str(row["seed"]),
                f"{row[BITS]:.3f} ± {row['standard error']:.3f}",
                f"{row[f'{BITS}, importance-weighted']:.3f}",
                f"{row['inversion error']:.1e}",
                *(f"{row[name]:.2f}" for name in outside),
            ]
            for row in rows
        ],
    )


def _costs(rows: Sequence[Row]) -> str:
    """Return a table of what each run took, and how fast its model draws, in the same order."""
    heads = ["recipe", "seed", "parameters", "steps", "precision", "minutes", "images/s"]
    return _table(
        [*heads, "samples/s"],
        [
            [
                f"`{row['recipe']}`",
                str(row["seed"]),
                f"{row['parameters']:,}",
                f"{row['steps']:,}",
                row["precision"],
                f"{row['minutes']:.1f}",
                "" if row["images/s"] is None else f"{row['images/s']:.0f}",
                f"{row['samples/s']:.1f}",
            ]
            for row in rows
        ],
    )


def _seeds(rows: Sequence[Row]) -> str:
    """Return a table of the recipes that were trained with several seeds: how far these differ."""
    by_recipe: dict[str, list[float]] = {}
    for row in rows:
        by_recipe.setdefault(row["recipe"], []).append(row[BITS])
    return _table(
        ["recipe", "seeds", "bits/dim, mean (least to most)"],
        [
            [f"`{name}`", str(len(b)), f"{np.mean(b):.3f} ({min(b):.3f} to {max(b):.3f})"]
            for name, b in by_recipe.items()
            if len(b) > 1
        ],
    )


def _orders(rows: Sequence[Row]) -> str:
    """Return a table that tests the order of the papers on the same test images.

    The interval is over images, of the mean over the seeds that both recipes have.
    """
    folders: dict[str, dict[int, Path]] = {}
    for row in rows:
        folders.setdefault(row["recipe"], {})[row["seed"]] = row["folder"]
    lines = []
    for more, less in ORDERS:
        seeds = sorted(set(folders.get(more, {})) & set(folders.get(less, {})))
        if not seeds:
            continue
        bits = _bits([folders[name][seed] for name in (more, less) for seed in seeds])
        # An image that a model cannot score has infinite bits, and of two such the mean is NaN.
        difference = paired_difference(*(np.mean(half, axis=0) for half in np.split(bits, 2)))
        named = ", ".join(map(str, seeds))
        lines.append([f"`{more}` > `{less}`", _interval(difference), named, _verdict(difference)])
    return _table(["order of the papers", "bits/dim more, 95 % interval", "seeds", "found"], lines)


def _bits(folders: Sequence[Path]) -> npt.NDArray[np.float64]:
    """Return the bits of the test images of some runs, (n_runs, n_images).

    Raises:
        VocoderError: Two of the runs were scored on different numbers of images.
    """
    found = [np.load(folder / "bits.npy") for folder in folders]
    for folder, bits in zip(folders, found, strict=True):
        if bits.shape != found[0].shape:
            raise VocoderError(
                f"{folder}: has the bits of {bits.size} images, {folders[0]} those of "
                f"{found[0].size}, which cannot be paired; remove figures.json of the run to score "
                "anew, and run compare.py with the same --images for both"
            )
    table = np.stack(found)
    table[np.isnan(table)] = np.inf  # as of a model that failed, in a file of an earlier version
    return table


def _interval(difference: PairedDifference) -> str:
    mean, low, high, _ = difference
    if math.isnan(mean):
        return "not known"
    return f"{mean:+.4f}" + ("" if math.isnan(low) else f" ({low:+.4f} to {high:+.4f})")


def _verdict(difference: PairedDifference) -> str:
    if math.isnan(difference.mean):
        return "not known"
    return "holds" if difference.low > 0 else "does not hold" if difference.high < 0 else "open"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path, nargs="?", default=Path("runs/fashion"))
    try:
        print(tables(parser.parse_args().runs))
    except VocoderError as error:
        sys.exit(str(error))
