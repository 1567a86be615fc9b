"""Docstring entries and the README read well alone; `cli/test_help.py` sees to the help."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import vocoder
import vocoder.adapters

PACKAGE = Path(vocoder.__file__).parent
REPOSITORY = PACKAGE.parent

SECTION = re.compile(r"(Args|Attributes|Returns|Yields|Raises):")
NAMED = re.compile(r"(\*{0,2}[\w.]+(?: \(.*?\))?): (.*)")
# The second half of a sentence whose first half the reader does not have.
DANGLING = re.compile(
    r"(of|for|from|by|with|to|as|its|their|that|likewise|see|where|per|beside|by default) ", re.I
)
RIDDLES = ("At once.", "Of audio.", "Its JSON.", "was measured.", "of it.", "see there.")
FIGURES_OF_SPEECH = ("in a busier hour", "was at hand", "out of reach by a little")


@dataclass(frozen=True)
class Entry:
    """One line of a docstring's list: what it stands under, what it explains, and how."""

    place: str
    section: str
    name: str
    text: str


def entries(docstring: str, place: str) -> Iterator[Entry]:
    section, found = "", ""
    for line in [*inspect.cleandoc(docstring).splitlines(), "end"]:
        depth = len(line) - len(line.lstrip())
        starts = depth == 4 and not (found and section in ("Returns", "Yields"))
        if found and line and (starts or depth == 0):
            named = None if section in ("Returns", "Yields") else NAMED.fullmatch(found)
            name, text = named.groups() if named else ("", found)
            yield Entry(place, section, name, text)
            found = ""
        if line and depth == 0:
            match = SECTION.fullmatch(line)
            section = match[1] if match else ""
        elif section and line:
            found = f"{found} {line.strip()}".strip()


def written(path: Path) -> Iterator[Entry]:
    """Return the entries of what a file has, but for what is its own affair."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            place = f"{path.relative_to(PACKAGE).as_posix()} {node.name}"
            yield from entries(ast.get_docstring(node) or "", place)


def public_objects() -> Iterator[object]:
    """Return what a user is offered, with the public members of the classes."""
    for module in (vocoder, vocoder.adapters, vocoder.kernels):
        for name in module.__all__:
            offered = getattr(module, name)
            if not inspect.isclass(offered):
                yield offered
                continue
            for base in offered.__mro__:
                if base.__module__.startswith("vocoder."):
                    yield base
                    yield from (m for n, m in vars(base).items() if not n.startswith("_"))


def public_entries() -> list[Entry]:
    found = {}
    for offered in public_objects():
        if inspect.isfunction(offered) or inspect.isclass(offered):
            name = f"{offered.__module__}.{offered.__qualname__}"
            found[name] = list(entries(offered.__doc__ or "", name))
    return [entry for own in found.values() for entry in own]


WRITTEN = [entry for path in sorted(PACKAGE.rglob("*.py")) for entry in written(path)]


def test_entries_are_found() -> None:
    docstring = """Do it.

    Args:
        a: The first
            of two.
        **more: All others.

    Returns:
        Nothing (N,)
        at all.

    Raises:
        ValueError: it cannot be done.
    """
    assert [(e.section, e.name, e.text) for e in entries(docstring, "")] == [
        ("Args", "a", "The first of two."),
        ("Args", "**more", "All others."),
        ("Returns", "", "Nothing (N,) at all."),
        ("Raises", "ValueError", "it cannot be done."),
    ]


def test_every_entry_says_what_it_is_in_a_phrase_of_its_own() -> None:
    wrong = [
        entry
        for entry in WRITTEN
        if not entry.text.endswith(".")
        or (entry.section in ("Args", "Attributes") and len(entry.text.split()) < 3)
        or (entry.section != "Raises" and DANGLING.match(entry.text))
        or any(entry.text == riddle for riddle in RIDDLES)
    ]
    assert not wrong, "\n".join(map(str, wrong))


def test_what_is_public_is_explained_as_a_sentence_begins() -> None:
    """With a capital, or with the name of a value, such as z."""
    wrong = [
        entry for entry in public_entries() if not re.match(r"[^a-z]|(z|x|eps|h_next) ", entry.text)
    ]
    assert not wrong, "\n".join(map(str, wrong))


@pytest.mark.parametrize(
    "page",
    [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))],
    ids=lambda path: path.name,
)
def test_pages_are_plain(page: Path) -> None:
    text = re.sub(r"\s+", " ", page.read_text(encoding="utf-8"))
    assert not [figure for figure in FIGURES_OF_SPEECH if figure in text]


def test_every_paragraph_of_the_readme_is_whole() -> None:
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    text = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    for paragraph in re.split(r"\n\s*\n", text):
        words = re.sub(r"<!--.*?-->", "", paragraph, flags=re.DOTALL).strip()
        if words and not words.startswith(("#", "|", "![", "[![", "<")):
            assert re.match(r"[^a-z]|`", words), words
            assert words[-1] in ".:", words
