"""What mkdocs runs while it builds the site: the help of every command, as it is printed."""

from __future__ import annotations

import re
from typing import Any

import click

from vocoder.cli import commands

_MARK = re.compile(r"^<!-- help of every command -->$", re.MULTILINE)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put the help of every command where a page asks for it."""
    return _MARK.sub(lambda _: _all_help(), markdown)


def _all_help() -> str:
    with click.Context(commands, info_name="vocoder", terminal_width=88) as group:
        sections = []
        for name in commands.list_commands(group):
            command = commands.get_command(group, name)
            assert command is not None
            with click.Context(command, info_name=name, parent=group) as context:
                sections.append(f"## {name}\n\n```text\n{command.get_help(context)}\n```\n")
    return "\n".join(sections)
