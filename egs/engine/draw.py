"""Draw the pictures of docs/engine.md from what measure.py wrote; needs matplotlib.

python egs/engine/draw.py
"""

from __future__ import annotations

import json
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

HERE = Path(__file__).parent
PICTURES = HERE.parents[1] / "docs" / "pictures"


def draw_profile(measured: dict) -> None:
    """Draw one bar of seconds for each inverse, part by part."""
    names = ("published", "ours")
    figure, axes = plt.subplots(figsize=(8, 2.4), layout="constrained")
    left = [0.0, 0.0]
    for part in measured["ours"]:
        seconds = [measured[name][part] for name in names]
        axes.barh(names, seconds, left=left, label=part)
        left = [a + b for a, b in zip(left, seconds, strict=True)]
    axes.invert_yaxis()
    axes.set_xlabel(f"seconds for 2 s of speech ({measured['device']})")
    figure.legend(ncols=5, loc="outside upper center", frameon=False)
    figure.savefig(PICTURES / "profile-cpu.png", dpi=120)


def draw_memory(measured: dict) -> None:
    """Draw the peak memory over the duration, with and without the audio itself."""
    seconds = [line["seconds"] for line in measured["lines"]]
    peak = [line["peak"] for line in measured["lines"]]
    beside = [line["peak"] - line["audio"] for line in measured["lines"]]
    figure, axes = plt.subplots(figsize=(8, 3), layout="constrained")
    axes.plot(seconds, peak, "o-", label="with the audio")
    axes.plot(seconds, beside, "o-", label="beside the audio")
    axes.axhline(measured["budget"], color="gray", linestyle="--", label="the budget")
    axes.set(xlabel="seconds of speech", ylabel="peak MiB", ylim=(0, None), xscale="log")
    axes.set_xticks(seconds, map(str, seconds))
    axes.minorticks_off()
    axes.legend(frameon=False)
    figure.savefig(PICTURES / "memory.png", dpi=120)


if __name__ == "__main__":
    for name, draw in (("profile", draw_profile), ("memory", draw_memory)):
        draw(json.loads((HERE / f"{name}.json").read_text()))
