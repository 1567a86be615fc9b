"""What the README says is so."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from vocoder.files.audio import read_wav
from vocoder.recipe import list_recipes, load_recipe
from vocoder.registry import find_model

REPOSITORY = Path(__file__).parents[1]
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")


def test_the_python_lines_run(tmp_path: Path) -> None:
    (tmp_path / "egs").symlink_to(REPOSITORY / "egs")
    (lines,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    subprocess.run([sys.executable, "-c", lines], check=True, cwd=tmp_path, timeout=300)
    recording, _ = read_wav(REPOSITORY / "egs/quickstart/corpus/wavs/ES000001.flac")
    copy, rate = read_wav(tmp_path / "copy.wav")
    assert (len(copy), rate) == ((len(recording) // 256 + 1) * 256, 22050)


def rows(text: str) -> set[tuple[str, str, str]]:
    """Return the published models of speech in a page: their recipes and both their counts."""
    return set(re.findall(r"^\| (`ljspeech/[^|]*) \| ([\d,]+) \| ([\d,]+) \|", text, re.MULTILINE))


GUIDE = (REPOSITORY / "docs/recipes.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(("names", "training", "inference"), sorted(rows(README) | rows(GUIDE)))
def test_parameter_counts_of_the_table(names: str, training: str, inference: str) -> None:
    first, *others = re.findall(r"`([^`]*)`", names)
    recipes = [first, *(first.rsplit("-", 1)[0] + other for other in others)]
    for name in recipes:
        recipe = load_recipe(name)
        model = find_model(recipe.model)[0](recipe.config)
        assert f"{model.n_parameters():,}" == training
        assert f"{model.fold().n_parameters():,}" == inference


def test_there_is_a_row_for_every_published_model() -> None:
    assert len(rows(README)) == len(rows(GUIDE)) == 8


PAGES = [
    REPOSITORY / "README.md",
    *sorted((REPOSITORY / "docs").glob("*.md")),
    *(REPOSITORY / folder / "README.md" for folder in ("egs", "egs/quickstart", "recipes")),
]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_every_recipe_and_file_named_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    folders = "|".join({name.split("/")[0] for name in list_recipes()})
    for name in re.findall(rf"\b(?:{folders})/[a-z][\w-]*(?![\w./-])", text):
        assert name in list_recipes() or (REPOSITORY / "egs" / name).exists(), name
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", text):
        assert (page.parent / target).exists(), target
    for target in re.findall(r"\b(?:egs|tests)/[\w./-]+\.(?:py|sh)\b", text):
        assert (REPOSITORY / target).exists(), target
