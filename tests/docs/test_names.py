"""All that the documents name exists, also in the commands and the Python that no test can run.

Each command knows its options, and recipes, presets, voices, scripts, extras and public names are
such.
"""

from __future__ import annotations

import ast
import inspect
import os
import re
import shlex
from pathlib import Path

import click
import pytest
from pages import PAGES, REPOSITORY, Block, blocks_of, inline_commands, name_of

import vocoder
from vocoder.cli import commands
from vocoder.mel.presets import get_preset
from vocoder.recipe import list_recipes, load_recipe
from vocoder.voice.catalogue import voice_names

BLOCKS = [block for page in PAGES for block in blocks_of(page)]
SHELL = [block for block in BLOCKS if block.language == "bash"]
# Programs of others that the documents may call; a misspelt one of ours is in no list.
OTHERS = re.compile(
    "aplay|apt-get|cat|cp|git|mkdir|mkdocs|my_tts|pip|pre-commit|printf|pytest|python|tensorboard|"
    "time|true|twine|xz"
)
INSTALLERS = ("apt-get", "pip", "pre-commit")


# ---- the text ----


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_recipe_and_file_named_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    folders = "|".join({name.split("/")[0] for name in list_recipes()})
    for name in re.findall(rf"\b(?:{folders})/[a-z][\w-]*(?![\w./-])", text):
        assert name in list_recipes() or (REPOSITORY / "egs" / name).exists(), name
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", text):
        assert (page.parent / target).exists(), target
    for target in re.findall(r"\b(?:egs|tests|vocoder)/[\w./-]+\.(?:py|sh|md)\b", text):
        assert (REPOSITORY / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_public_name_is_one(page: Path) -> None:
    for name in re.findall(r"(?<![\w/])vocoder\.([A-Za-z]\w*)", page.read_text(encoding="utf-8")):
        assert name in vocoder.__all__ or (REPOSITORY / "vocoder" / name).is_dir(), name


# ---- commands ----


@pytest.mark.parametrize("block", SHELL, ids=str)
def test_a_command_names_what_exists(block: Block) -> None:
    for words in command_lines(block.text):
        check_command(words)


@pytest.mark.parametrize("block", [block for block in SHELL if block.is_run], ids=str)
def test_what_a_test_runs_installs_nothing(block: Block) -> None:
    for words in command_lines(block.shortened()):
        assert words[0] not in INSTALLERS, f"{block}: mark it as not run"


def command_lines(text: str) -> list[list[str]]:
    """Return the words of every command in a piece of shell, its variables filled in."""
    text = text.replace("\\\n", " ")
    for name, value in re.findall(r'^(\w+)="([^"]*)"$', text, re.MULTILINE):
        text = re.sub(rf"\${name}\b", lambda _, value=value: value, text)
    found = []
    for line in text.splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;")
        lexer.commenters = "#"
        lexer.whitespace_split = True
        words: list[str] = []
        for word in [*lexer, ";"]:
            if word and set(word) <= set("|&;"):
                found += [words] if words else []
                words = []
            elif words or not re.fullmatch(r"\w+=.*", word, re.DOTALL):
                words.append(word)
    return [words for words in found if words[0] != "export"]


def check_command(words: list[str]) -> None:
    """Check that a command is one, and all that it names."""
    words = [word for word in words if not word.startswith((">", "<", "2>"))]
    if words[0] in ("vocoder", "torchrun", "time") and "vocoder" in words:
        check_vocoder(words[words.index("vocoder") + 1 :])
        return
    if words[0] in ("sh", "python") and words[1].startswith("egs/"):
        check_script(words[1:])
    elif words[0].startswith("."):
        assert os.access(REPOSITORY / words[0], os.X_OK), words
    else:
        assert OTHERS.fullmatch(words[0]), words
    if words[:2] == ["pip", "install"]:
        for extra in re.findall(r"\[(\w+)\]", " ".join(words)):
            assert f'"{extra}": ' in (REPOSITORY / "setup.py").read_text(encoding="utf-8")


def check_script(words: list[str]) -> None:
    """Check that one of our scripts exists and knows the options that are given to it."""
    source = (REPOSITORY / words[0]).read_text(encoding="utf-8")
    for word in words[1:]:
        assert not word.startswith("--") or f'"{word}"' in source, words


def check_vocoder(words: list[str]) -> None:
    """Check a complete command of ours, without running it."""
    if words[0].startswith("-"):
        assert words in (["--help"], ["-h"], ["--version"])
        return
    command, given = parse(words)
    for parameter in command.params:
        value = given.get(parameter.name)
        assert not parameter.required or value, (words, parameter.name)
        if value is not None and isinstance(parameter.type, click.Choice | click.IntRange):
            parameter.type.convert(value, parameter, None)
    recipe = given.get("recipe") or given.get("name")
    if words[0] in ("train", "recipes") and isinstance(recipe, str):  # click has a mark for none
        overrides = tuple(given.get("overrides") or ())
        exists = recipe in list_recipes() or (REPOSITORY / recipe).is_file()
        assert exists, f"{words}: no recipe {recipe}"
        if recipe in list_recipes():
            load_recipe(recipe, overrides)
    for option in ("preset", "target"):
        if isinstance(given.get(option), str):
            get_preset(given[option])
    if isinstance(voice := given.get("voice"), str) and "/" not in voice and "." not in voice:
        assert voice in voice_names(), words


def parse(words: list[str]) -> tuple[click.Command, dict[str, object]]:
    """Return the command that is meant and what is given to it, unconverted."""
    context = click.Context(commands, info_name="vocoder")
    command = commands.get_command(context, words[0])
    assert command is not None, words
    given, rest, _ = command.make_parser(click.Context(command, parent=context)).parse_args(
        list(words[1:])
    )
    assert not rest, words
    return command, given


INLINE = {(name_of(page), line): None for page in PAGES for line in inline_commands(page)}


@pytest.mark.parametrize(("page", "line"), INLINE, ids=" ".join)
def test_a_command_in_the_text_knows_its_options(page: str, line: str) -> None:
    """It may lack arguments or have `…` and words like NAME in their place."""
    for words in command_lines(line.replace("…", "")):
        if words[0] in ("vocoder", "torchrun") and words[1] != "NAME":
            words = words[words.index("vocoder") + 1 :]
            check_inline_vocoder(words)
        elif words[0] in ("sh", "python") and words[1].startswith("egs/"):
            check_script(words[1:])
        elif words[0] == "pytest":
            check_pytest(words[1:])


def check_inline_vocoder(words: list[str]) -> None:
    if words[0] in ("COMMAND", "--help", "--version", "-h"):
        return
    command = commands.get_command(click.Context(commands), words[0])
    assert command is not None, words
    known = {"-h", "--help"}.union(*(parameter.opts for parameter in command.params))
    for word in words[1:]:
        option = word.split("=")[0]
        assert not re.match(r"--?[a-z]", option) or option in known, words


def check_pytest(words: list[str]) -> None:
    """Check that the tests exist, and that `-k` selects by a word that some of them have."""
    paths = [REPOSITORY / word for word in words if word.startswith("tests")]
    assert all(path.exists() for path in paths), words
    if "-k" in words:
        selected = words[words.index("-k") + 1]
        files = [
            file
            for path in paths
            for file in (path.rglob("test_*.py") if path.is_dir() else [path])
        ]
        assert any(selected in file.read_text(encoding="utf-8") for file in files), words


@pytest.mark.parametrize(
    "wrong",
    [
        "vocodr info",
        "vocoder inof",
        "vocoder synthesize mel.npz",
        "vocoder synthesize mel.npz -o a.wav --vioce griffin-lim",
        "vocoder synthesize mel.npz -o a.wav --voice griffin",
        "vocoder synthesize mel.npz -o a.wav --stream mp3",
        "vocoder convert-mel mels -o out --to tacotron",
        "cat mel.npy | vocoder train ljspeech/nanoflow --data data --run-dir",
        "time vocoder train ljspeech/nanoflo --data data --run-dir runs",
        "torchrun -m vocoder train tiny/nanoflow --data data -o train.stesp=1",
        "true && sh egs/quickstart/go.sh",
        "python egs/make_espeak_corpus.py data --clip 3",
        "pip install '.[oxnn]'",
    ],
)
def test_a_slip_of_the_pen_is_seen(wrong: str) -> None:
    with pytest.raises((AssertionError, OSError, click.ClickException, vocoder.VocoderError)):
        for words in command_lines(wrong):
            check_command(words)


# ---- Python that is not run ----


@pytest.mark.parametrize(
    "block", [b for b in BLOCKS if b.language == "python" and b.marked("not run")], ids=str
)
def test_python_that_is_not_run_names_what_exists(block: Block) -> None:
    for node in ast.walk(ast.parse(block.text)):
        if isinstance(node, ast.Attribute) and (name := public_name(node)):
            assert resolve(name) is not None
        if isinstance(node, ast.Call) and (name := public_name(node.func)):
            keywords = {keyword.arg: None for keyword in node.keywords if keyword.arg}
            inspect.signature(resolve(name)).bind(*node.args, **keywords)


def public_name(node: ast.AST) -> str | None:
    """Return the dotted name of ours that a node spells, if it does."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    is_ours = isinstance(node, ast.Name) and node.id == "vocoder" and parts
    return ".".join(reversed(parts)) if is_ours else None


def resolve(name: str) -> object:
    """Return what `vocoder.NAME` is."""
    thing: object = vocoder
    for part in name.split("."):
        thing = getattr(thing, part)
    return thing
