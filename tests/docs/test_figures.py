"""The figures that the README and the documentation state are so."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from vocoder import checkpoint
from vocoder.files.audio import read_wav
from vocoder.mel.presets import PRESETS
from vocoder.recipe import list_recipes, load_recipe
from vocoder.registry import find_model
from vocoder.voice.catalogue import Catalogue, find_voice

REPOSITORY = Path(__file__).parents[2]


def text_of(name: str) -> str:
    return (REPOSITORY / name).read_text(encoding="utf-8")


README = text_of("README.md")
GUIDE = text_of("docs/recipes.md")


def test_the_python_lines_run(tmp_path: Path) -> None:
    (tmp_path / "egs").symlink_to(REPOSITORY / "egs")
    (lines,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    subprocess.run([sys.executable, "-c", lines], check=True, cwd=tmp_path, timeout=300)
    recording, _ = read_wav(REPOSITORY / "egs/quickstart/corpus/wavs/ES000001.flac")
    copy, rate = read_wav(tmp_path / "copy.wav")
    assert (len(copy), rate) == ((len(recording) // 256 + 1) * 256, 22050)


# ---- parameters ----


def rows(text: str) -> set[tuple[str, str, str]]:
    """Return the published models of speech in a page: their recipes and both their counts."""
    return set(re.findall(r"^\| (`ljspeech/[^|]*) \| ([\d,]+) \| ([\d,]+) \|", text, re.MULTILINE))


@pytest.mark.parametrize(("names", "training", "inference"), sorted(rows(README) | rows(GUIDE)))
def test_parameter_counts_of_the_table(names: str, training: str, inference: str) -> None:
    first, *others = re.findall(r"`([^`]*)`", names)
    recipes = [first, *(first.rsplit("-", 1)[0] + other for other in others)]
    for name in recipes:
        recipe = load_recipe(name)
        with torch.device("meta"):
            model = find_model(recipe.model)[0](recipe.config)
        assert f"{model.n_parameters():,}" == training
        assert f"{model.fold().n_parameters():,}" == inference


def test_there_is_a_row_for_every_published_model() -> None:
    assert len(rows(GUIDE)) == 10


def test_parameter_counts_of_the_image_models() -> None:
    """Those of the table beside the recipes, which a test of its own counts again."""
    row = r"^\| `cifar10/.* \| [\d,]+ \| [\d,]+ \|$"
    found = re.findall(row, GUIDE, re.MULTILINE)
    assert found == re.findall(row, text_of("recipes/README.md"), re.MULTILINE)
    assert len(found) == len([name for name in list_recipes() if name.startswith("cifar10/")])


@pytest.mark.parametrize(
    ("name", "count"),
    re.findall(
        r"^\| `((?:digits|fashion)/[^`]*)`[^|]* \|(?: \d \|)? (\d+,[\d,]+) \|",  # or after a seed
        text_of("docs/images.md"),
        re.MULTILINE,
    ),
)
def test_parameter_counts_of_the_small_image_models(name: str, count: str) -> None:
    recipe = load_recipe(name)
    with torch.device("meta"):
        model = find_model(recipe.model)[0](recipe.config)
    assert f"{model.n_parameters():,}" == count


# ---- figures that stand in several places ----


def test_twenty_presets() -> None:
    assert len(PRESETS) == 20
    assert "twenty" in README
    assert "twenty presets" in text_of("docs/mels.md")


def figures(text: str, of: str) -> dict[str, tuple[str, str]]:
    """Return the figures of Griffin-Lim and a shipped voice, by what they measure, in a table."""
    table = text[text.index(of) :].split("\n\n")[0]
    found = re.findall(r"^\| ([^|]*?) \| ?([\d.]*) \| ?([\d.]*) \|", table, re.MULTILINE)
    return {re.sub(r", (more|less) is better$", "", what): (a, b) for what, a, b in found}


def card_of(voice: str) -> dict[str, tuple[str, str]]:
    """Return the figures of Griffin-Lim and of a voice in the first table of its card.

    Those that come after it are of other speech.
    """
    card = text_of(f"vocoder/pretrained/{voice}.md")
    table = card[card.index("| | Griffin-Lim |") :].split("\n\n")[0]
    rows = re.findall(
        r"^\| ([^|]*?) \| ([\d.]+) \| ([\d.]+) \| [^|]* \| [\d.]+ \|$", table, re.MULTILINE
    )
    return {what: (griffin_lim, own) for what, griffin_lim, own in rows}


@pytest.mark.parametrize("voice", Catalogue.read().voices)
def test_figures_of_a_shipped_voice_are_those_of_its_card(voice: str) -> None:
    card, benchmarks = card_of(voice), text_of("docs/benchmarks.md")
    figures_of_catalogue = Catalogue.read().voices[voice].figures
    assert len(figures_of_catalogue) == 4
    for what, value in figures_of_catalogue.items():
        assert float(card[what][1]) == value
    for figure in (*card["DNSMOS overall"], *card["DNSMOS P.808"]):
        assert figure in benchmarks


def test_figures_of_the_readme_are_those_of_the_card() -> None:
    of_readme = figures(README, "| | Griffin-Lim | `prompts-16k`")
    assert len(of_readme) == 5
    assert of_readme.items() <= card_of("prompts-16k").items()


@pytest.mark.parametrize("voice", Catalogue.read().voices)
def test_a_card_states_the_parameters(voice: str) -> None:
    model = checkpoint.load(find_voice(voice)).model
    counts = [m.n_parameters() for m in (model, model.fold())]
    stated = f"{counts[0]:,} parameters ({counts[1]:,} at inference"
    assert stated in text_of(f"vocoder/pretrained/{voice}.md")
