"""How help is written: arguments with their meaning, options in groups, and an example."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import click

GENERAL = "General options"
_Function = Callable[..., Any]


class Argument(click.Argument):
    """An argument whose meaning the help tells.

    Args:
        names: The name of the parameter, as a list of one.
        meaning: A sentence for the help.
        settings: Whatever else `click.Argument` takes.
    """

    def __init__(self, names: Sequence[str], *, meaning: str, **settings: Any) -> None:
        super().__init__(names, **settings)
        self.meaning = meaning


class Option(click.Option):
    """An option that stands under a heading of the help.

    Args:
        names: The spellings of the option, such as ["-o", "--out"].
        group: The heading that it stands under.
        settings: Whatever else `click.Option` takes.
    """

    def __init__(self, names: Sequence[str], *, group: str, **settings: Any) -> None:
        super().__init__(names, **settings)
        self.group = group


class ShortHelp(click.Command):
    """A command that knows -h for --help.

    click would take the names from the context, and remembers those of the first context that it
    meets for as long as the process lives: of one that was made by hand, without them.
    """

    def get_help_option_names(self, context: click.Context) -> list[str]:
        """Return the two names, whatever the context says."""
        return ["-h", "--help"]


class Command(ShortHelp):
    """A command whose help ends with an example.

    Args:
        name: What it is called on the command line.
        example: One command line, such as "vocoder info griffin-lim".
        settings: Whatever else `click.Command` takes.
    """

    def __init__(self, name: str | None, *, example: str, **settings: Any) -> None:
        super().__init__(name, **settings)
        self.example = example

    def format_arguments(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """Write nothing; releases of click before 8.4 never ask, so `format_options` does it."""

    def format_options(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the arguments, the options under their headings, and the example."""
        parameters = self.get_params(context)
        meanings = [(p.human_readable_name, p.meaning) for p in parameters if hasattr(p, "meaning")]
        if meanings:
            with formatter.section("Arguments"):
                formatter.write_dl(meanings)
        write_options(parameters, context, formatter)
        with formatter.section("Example"):
            formatter.write(f"{'':{formatter.current_indent}}{self.example}\n")


def write_options(
    parameters: Sequence[click.Parameter], context: click.Context, formatter: click.HelpFormatter
) -> None:
    """Write options under the headings of their groups, the general ones last."""
    groups: dict[str, list[tuple[str, str]]] = {}
    for parameter in parameters:
        record = parameter.get_help_record(context)
        if record is not None and not isinstance(parameter, click.Argument):
            groups.setdefault(getattr(parameter, "group", GENERAL), []).append(record)
    for heading in sorted(groups, key=lambda name: name == GENERAL):
        with formatter.section(heading):
            formatter.write_dl(groups[heading])


def command(name: str | None = None, *, example: str) -> Callable[[_Function], Command]:
    """Return the decorator that makes a command of a function; its docstring is the help."""
    return click.command(name, cls=Command, example=example)


def argument(name: str, meaning: str, **settings: Any) -> Callable[[_Function], _Function]:
    """Return the decorator that adds an argument to a command."""
    return click.argument(name, cls=Argument, meaning=meaning, **settings)


def option(*names: str, group: str, help: str, **settings: Any) -> Callable[[_Function], _Function]:
    """Return the decorator that adds an option to a command, under a heading of its help."""
    return click.option(*names, cls=Option, group=group, help=help, **settings)
