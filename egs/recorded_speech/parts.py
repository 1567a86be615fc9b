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
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, product
from pathlib import Path

import numpy as np
from scipy.stats import t

from vocoder import Trainer, compare, load_recipe
from vocoder.checkpoint import save
from vocoder.files.atomic import atomic_path
from vocoder.judging.comparison import FIGURES
from vocoder.registry import find_model
from vocoder.voice.catalogue import Catalogue

ARMS = {
    "NanoFlow": "recorded/parts-nanoflow",
    "linear prediction + NanoFlow": "recorded/parts-whitened",
    "linear prediction + pulses + NanoFlow": "recorded/voice-16k-cpu",
}
UNTRAINED = "linear prediction + noise, untrained"
SHOWN = ("nats_per_dim", "stoi", "pesq", "log_spectral_distance", "mel_cepstral_distortion")
SHOWN += ("f0_rmse", "voicing_f1", "dnsmos_overall", "dnsmos_p808")


@dataclass(frozen=True)
class Place:
    """Where voices are judged: so many clips of a list, from a corpus."""

    data: Path
    ids: Path
    clips: int


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


def judged(folder: Path, place: Place, steps: int, voice: str) -> Path:
    """Return the file of what a voice scored at a place with so many steps of mel consistency."""
    of = f"{place.data.name}-{place.clips}-clips-{steps}-steps"
    return folder / "judged" / of / f"{Path(voice).stem}.json"


def judge(voice: str, places: Sequence[Place], refine: Sequence[int], folder: Path) -> None:
    """Score a voice everywhere with each number of steps; what has been scored stays."""
    for place, steps in product(places, refine):
        path = judged(folder, place, steps, voice)
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            found = compare(voice, place.data, ids=place.ids, n_clips=place.clips, refine=steps)
            with atomic_path(path) as temporary:
                temporary.write_text(json.dumps(found.to_dict()))


def mean_over_seeds(values: list[float]) -> tuple[float, float]:
    """Return a mean and the half of its 95 % interval, NaN of one value."""
    n = len(values)
    if n < 2:
        return float(np.mean(values)), math.nan
    half = float(t.ppf(0.975, n - 1) * np.std(values, ddof=1) / math.sqrt(n))
    return float(np.mean(values)), half


def table(folder: Path, place: Place, refine: Sequence[int], rows: dict[str, list[str]]) -> str:
    """Return what was scored at a place, a row for each arm and number of steps."""
    heads = ["voice", "steps", *(FIGURES[name].label for name in SHOWN)]
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for steps, (row, voices) in product(refine, rows.items()):
        found = [json.loads(judged(folder, place, steps, voice).read_text()) for voice in voices]
        figures = [each["voices"][0]["figures"] for each in found]
        cells = [row, str(steps)]
        for name in SHOWN:
            values = [each[name]["mean"] for each in figures if name in each]
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
    parser.add_argument("--steps", type=int, default=1000, help="of training, 8192 samples each")
    parser.add_argument("--clips", type=int, default=20, help="judged, of each corpus")
    parser.add_argument(
        "--refine",
        type=int,
        nargs="+",
        default=[0, 4],
        help="steps of mel consistency, each judged",
    )
    options = parser.parse_args()
    places = [
        Place(options.data, options.lists / "prompts" / "judge.txt", options.clips),
        Place(options.unseen, options.lists / "unseen" / "judge.txt", options.clips),
    ]
    untrained = options.runs / "untrained.safetensors"
    make_untrained(untrained)
    rows = {"recording": ["recording"], "Griffin-Lim": ["griffin-lim"], UNTRAINED: [str(untrained)]}
    preset = load_recipe(ARMS["NanoFlow"]).preset
    shipped = Catalogue.read().presets[preset.name].voice
    rows |= {arm: [] for arm in ARMS} | {f"{shipped}, shipped": [shipped]}
    for seed, (arm, recipe) in product(options.seeds, ARMS.items()):
        folder = options.runs / f"{Path(recipe).name}-{options.steps}-{seed}"
        train(arm, seed, options.steps, options.data, folder)
        rows[arm].append(str(folder))
        judge(str(folder), places, options.refine, options.runs)
    for voice in chain.from_iterable(rows.values()):
        judge(voice, places, options.refine, options.runs)
    for place in places:
        print(f"\n{place.data.name}, {options.steps} steps of training\n")
        print(table(options.runs, place, options.refine, rows))


if __name__ == "__main__":
    main()
