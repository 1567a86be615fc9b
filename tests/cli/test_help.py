"""The help of every command makes sense read alone, and its example is a command line."""

from __future__ import annotations

import copy
import re
import shlex

import click
import pytest

from vocoder.cli import commands as group
from vocoder.cli.help import Argument, Command, Option
from vocoder.cli.plugin import PLUGIN_OPTION

COMMANDS = pytest.mark.parametrize("name", list(group.commands))


def command_of(name: str) -> Command:
    command = group.commands[name]
    assert isinstance(command, Command)
    return command


def is_sentence(text: str, n_words: int) -> bool:
    """Tell whether a text begins as a sentence does, ends as one, and is long enough to say it."""
    return len(text.split()) >= n_words and text[0].isupper() and text.endswith(".")


@COMMANDS
def test_every_option_and_argument_is_explained_in_a_sentence(name):
    for parameter in command_of(name).params:
        text = parameter.meaning if isinstance(parameter, Argument) else parameter.help
        assert is_sentence(text, n_words=4), (name, parameter.name, text)
        # "Of the noise." leaves open what; "By default all." is the second half of a sentence.
        assert not re.match("(Of|For|To|By|With|From|As|Its|Their) ", text), (name, text)
        assert isinstance(parameter, Argument | Option)


@COMMANDS
def test_every_command_says_in_its_first_line_what_it_does(name):
    help_ = command_of(name).help or ""
    assert is_sentence(help_.split("\n\n")[0], n_words=4)
    # Whole in the list of commands, too.
    assert not command_of(name).get_short_help_str(limit=80 - 20).endswith("...")


@COMMANDS
def test_every_command_has_an_example_that_it_would_take(name):
    """Parsing checks names, types, choices and what is required."""
    program, used, *words = shlex.split(command_of(name).example)
    assert (program, used) == ("vocoder", name)
    parent = click.Context(group, info_name="vocoder")
    command_of(name).make_context(name, words, parent)
    assert len(command_of(name).example) <= 76  # one line of a terminal, indented


@COMMANDS
def test_every_command_takes_plugins(name):
    assert PLUGIN_OPTION in command_of(name).params


@COMMANDS
def test_h_is_help(run, name):
    short, long = run(name, "-h"), run(name, "--help")
    assert short.code == long.code == 0
    assert short.out == long.out
    text = short.out.decode()
    assert f"Example:\n  {command_of(name).example}\n" in text
    for parameter in command_of(name).params:
        if isinstance(parameter, click.Option):
            assert parameter.opts[0] in text


@COMMANDS
def test_h_is_help_in_a_context_made_by_hand(name):
    """The site is made so, and click remembers the first help option that it made."""
    made = copy.copy(command_of(name))
    made._help_option = None
    context = click.Context(made, parent=click.Context(group))
    assert "-h, --help " in made.get_help(context)


def test_h_of_the_group_lists_all_commands(run):
    text = run("-h").out.decode()
    assert text == run("--help").out.decode() == run().out.decode()
    listed = re.search(r"^Commands:\n((?:  .*\n)+)", text, re.MULTILINE)[1]
    assert [line.split()[0] for line in listed.splitlines()] == list(group.commands)
