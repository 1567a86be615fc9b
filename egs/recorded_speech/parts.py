"""What each part of a SourceFlow adds: voices with and without it, trained on equally many samples.

    python egs/recorded_speech/parts.py --seeds 0 1 2

The same NanoFlow is trained plain, behind linear prediction, and as a SourceFlow, which is told the
pulses of the voice too; beside them stand linear prediction over nothing but noise, Griffin-Lim,
the shipped voices of the corpus and the recordings. Each is judged with and without mel
consistency, on speakers it was trained on and on others. A stopped run goes on where it was. The
tables have the mean over seeds and, of several, the half of its 95 % interval.
"""

import argparse
import json
import math
from pathlib import Path

import numpy as np
from scipy.stats import t

from vocoder import Trainer, compare, load_recipe
from vocoder.checkpoint import save
from vocoder.judging.comparison import FIGURES
from vocoder.registry import find_model
from vocoder.voice.catalogue import Catalogue

ARMS = {
    "NanoFlow": "recorded/parts-nanoflow",
    "linear prediction + NanoFlow": "recorded/parts-whitened",
    "linear prediction + pulses + NanoFlow": "recorded/voice-16k-cpu",
}
UNTRAINED = "linear prediction + noise, untrained"
STEPS = (0, 4)  # of mel consistency
SHOWN = ("nats_per_dim", "stoi", "pesq", "log_spectral_distance", "mel_cepstral_distortion")
SHOWN += ("f0_rmse", "voicing_f1", "dnsmos_overall", "dnsmos_p808")


def train(arm: str, seed: int, steps: int, data: Path, folder: Path) -> None:
    """Train the voice of an arm, or go on with it."""
    # A third of the decay of the long training, so that the rate falls as far.
    decay = max(1, steps // 3)
    settings = (f"train.seed={seed}", f"train.steps={steps}", f"train.lr_decay_steps={decay}")
    Trainer(load_recipe(ARMS[arm], settings), data, folder, resume=True).fit()


def make_untrained(path: Path) -> None:
    """Write a voice whose NanoFlow, as a new one, does next to nothing."""
    recipe = load_recipe(ARMS["linear prediction + NanoFlow"])
    path.parent.mkdir(parents=True, exist_ok=True)
    save(path, find_model(recipe.model)[0](recipe.config), recipe.preset)


def judge(names: list[str], data: Path, ids: Path, clips: int, folder: Path) -> None:
    """Score voices with each number of steps; what has been scored is not scored again."""
    for steps in STEPS:
        path = folder / f"{data.name}-{steps}.json"
        if not path.is_file():
            found = compare(names, data, ids=ids, n_clips=clips, refine=steps)
            path.write_text(json.dumps(found.to_dict()))


def mean_over_seeds(values: list[float]) -> tuple[float, float]:
    """Return a mean and the half of its 95 % interval, NaN of one value."""
    n = len(values)
    if n < 2:
        return float(np.mean(values)), math.nan
    half = float(t.ppf(0.975, n - 1) * np.std(values, ddof=1) / math.sqrt(n))
    return float(np.mean(values)), half


def table(folder: Path, data: Path, rows: dict[str, list[str]]) -> str:
    """Return what was scored on a corpus, a row for each arm and number of steps."""
    heads = ["voice", "steps", *(FIGURES[name].label for name in SHOWN)]
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for steps in STEPS:
        found = json.loads((folder / f"{data.name}-{steps}.json").read_text())
        figures = {voice["name"]: voice["figures"] for voice in found["voices"]}
        for row, names in rows.items():
            cells = [row, str(steps)]
            for name in SHOWN:
                values = [figures[voice][name]["mean"] for voice in names if name in figures[voice]]
                if not values or None in values:
                    cells.append("")
                    continue
                mean, half = mean_over_seeds(values)
                text = f"{mean:.{FIGURES[name].n_decimals}f}"
                more = "" if math.isnan(half) else f" ± {half:.{FIGURES[name].n_decimals}f}"
                cells.append(text + more)
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Train, judge and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("data/prompts-16k"))
    parser.add_argument("--unseen", type=Path, default=Path("data/unseen-16k"))
    parser.add_argument("--lists", type=Path, default=Path("data/recorded"))
    parser.add_argument("--runs", type=Path, default=Path("runs/parts"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--steps", type=int, default=3700, help="of training, 8192 samples each")
    parser.add_argument("--clips", type=int, default=40, help="judged, of each corpus")
    options = parser.parse_args()
    untrained = options.runs / "untrained.safetensors"
    make_untrained(untrained)
    rows = {"recording": ["recording"], "Griffin-Lim": ["griffin-lim"], UNTRAINED: [str(untrained)]}
    for arm, recipe in ARMS.items():
        folders = [options.runs / f"{Path(recipe).name}-{seed}" for seed in options.seeds]
        for seed, folder in zip(options.seeds, folders, strict=True):
            train(arm, seed, options.steps, options.data, folder)
        rows[arm] = [str(folder) for folder in folders]
    preset = load_recipe(ARMS["NanoFlow"]).preset
    if (shipped := Catalogue.read().presets.get(preset.name)) is not None:
        rows[f"{shipped.voice}, shipped"] = [shipped.voice]
    names = [name for voices in rows.values() for name in voices]
    places = ((options.data, options.lists / "prompts"), (options.unseen, options.lists / "unseen"))
    for data, lists in places:
        judge(names, data, lists / "judge.txt", options.clips, options.runs)
        print(f"\n{data.name}, {options.steps} steps of training\n")
        print(table(options.runs, data, rows))


if __name__ == "__main__":
    main()
