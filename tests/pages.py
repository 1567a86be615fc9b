"""The blocks of commands and Python in the project's documents, and the marks above them.

A block is run in a folder that looks like the repository, after the blocks above it on its page.
Marks are comments right above a block, which no reader sees:

- `<!-- given: COMMAND -->`: run this first; it makes what the text takes for granted, such as a
  folder of the reader's recordings.
- `<!-- short: COMMAND ADDITION -->`: wherever the block runs this command, such as `vocoder train`,
  write the addition behind it, so that minutes become seconds.
- `<!-- not run: REASON -->`: it needs a GPU, hours, or somebody else's data or model. What it names
  (options, recipes, presets, scripts, public names) is checked all the same.
- `<!-- ci: NAME -->`: `.ci/run` runs it word for word, in a new virtual environment.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
PAGES = [
    REPOSITORY / "README.md",
    REPOSITORY / "CONTRIBUTING.md",
    *sorted((REPOSITORY / "docs").rglob("*.md")),
    *sorted((REPOSITORY / "egs").rglob("*.md")),
    *sorted((REPOSITORY / "recipes").rglob("*.md")),
    *sorted((REPOSITORY / "vocoder").rglob("*.md")),
]
LANGUAGES = {"bash", "python", "text", "yaml"}
_MARK = re.compile(r"<!-- (given|short|not run|ci): (.+) -->")


@dataclass(frozen=True)
class Block:
    """One fenced block of a page.

    Attributes:
        page: the file that it stands in.
        line: the number of its first line.
        language: one of `LANGUAGES`.
        text: what stands between the fences.
        marks: the kinds and contents of the marks above it.
    """

    page: Path
    line: int
    language: str
    text: str
    marks: tuple[tuple[str, str], ...]

    def marked(self, kind: str) -> list[str]:
        """Return the contents of its marks of one kind."""
        return [content for found, content in self.marks if found == kind]

    @property
    def is_run(self) -> bool:
        """Whether the test of its page runs it."""
        marked = self.marked("not run") or self.marked("ci")
        included = self.text.startswith("--8<--")  # a file of ours, which tests of its own run
        return self.language in ("bash", "python") and not (marked or included)

    def shortened(self) -> str:
        """Return its text with the additions of its `short` marks."""
        text = self.text
        for mark in self.marked("short"):
            command, name, addition = mark.split(" ", 2)
            line = re.compile(rf"^({re.escape(f'{command} {name}')} .*)$", re.MULTILINE)
            text, n_changed = line.subn(rf"\1 {addition}", text)
            assert n_changed, f"{self}: no line begins with {command} {name}"
        return text

    def __str__(self) -> str:
        return f"{name_of(self.page)}:{self.line}"


def blocks_of(page: Path) -> list[Block]:
    """Return the blocks of a page from top to bottom."""
    lines = enumerate(page.read_text(encoding="utf-8").splitlines(), start=1)
    return list(_blocks(page, lines))


def _blocks(page: Path, lines: Iterator[tuple[int, str]]) -> Iterator[Block]:
    marks: list[tuple[str, str]] = []
    for _, line in lines:
        if mark := _MARK.fullmatch(line):
            marks.append((mark[1], mark[2]))
        elif line.lstrip().startswith("```"):
            language = line.strip().removeprefix("```").strip("{.} ")
            body = [(number, text) for number, text in _until_fence(lines)]
            first = body[0][0] if body else 0
            text = "".join(f"{text}\n" for _, text in body)
            assert language in LANGUAGES, f"{page}:{first}: a block of {language or 'no language'}"
            yield Block(page, first, language, text, tuple(marks))
            marks = []
        else:
            assert not marks, f"{page}: {marks[0]} stands above no block"


def _until_fence(lines: Iterator[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    for number, line in lines:
        if line.strip() == "```":
            return
        yield number, line
    raise AssertionError("a block without an end")


def name_of(page: Path) -> str:
    """Return the path of a page within the repository."""
    return str(page.relative_to(REPOSITORY))


def inline_commands(page: Path) -> list[str]:
    """Return the commands in the running text and tables of a page, such as `vocoder info NAME`."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    spans = re.findall(r"`([^`]+)`", text)
    return [" ".join(span.split()) for span in spans if re.match(r"[\w=./]+ ", span)]
