"""The command line: a command parses, calls one public function, prints.

What a command needs is imported inside it, so that `vocoder --help` answers without torch.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

import click

import vocoder
from vocoder.cli import corpora, export, images, judging, models, speech
from vocoder.cli.help import ShortHelp, write_options
from vocoder.cli.plugin import PLUGIN_OPTION
from vocoder.config import suggest
from vocoder.errors import VocoderError

# What to do about the errors of the operating system that people meet.
_REMEDIES = {
    errno.ENOSPC: "free some space, or write elsewhere",
    errno.EDQUOT: "free some space, or write elsewhere",
    errno.EFBIG: "raise the limit (ulimit -f), or write elsewhere",
    errno.EACCES: "change its permissions, or choose another place",
    errno.EPERM: "change its permissions, or choose another place",
    errno.EROFS: "choose a place that can be written to",
    errno.ENOENT: "check the path",
    errno.ENOTDIR: "check the path",
    errno.EISDIR: "name a file",
    errno.EEXIST: "that is no folder: choose another name",
}

# Errors that only writing has.
_OF_WRITING = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EPIPE}


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit: 0 well, 2 after an error of the caller's, 130 after Ctrl-C."""
    if sys.stderr is None:
        # Nobody hears the progress bars and warnings, but those who write them need a stream.
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
        os.set_inheritable(sys.stderr.fileno(), True)  # by processes that work for this one
    if sys.stdout is None:
        sys.exit(_fail("standard output: is closed; open it, if only as >/dev/null"))
    try:
        code = commands.main(arguments, prog_name="vocoder", standalone_mode=False) or 0
        sys.stdout.flush()
    except click.exceptions.Abort:
        code = 130
    except click.MissingParameter as error:
        code = _fail(_explain_missing(error))
    except click.ClickException as error:
        code = _fail(error.format_message())
    except OSError as error:
        code = _fail(_explain(error))
    except VocoderError as error:
        code = _fail(str(error))
    except UnicodeEncodeError as error:
        code = _fail(
            f"{error.object!a}: a name that the encoding of this locale ({error.encoding}) cannot "
            "write; set PYTHONUTF8=1"
        )
    try:
        sys.stdout.flush()
    except OSError:
        # The reader has gone or the disk is full, and has been reported: let the interpreter's own
        # last flush go nowhere instead of complaining again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)


def _fail(message: str) -> int:
    click.echo(f"vocoder: error: {' '.join(message.split())}", err=True)
    return 2


def _explain(error: OSError) -> str:
    name = "" if error.filename is None else f"{os.fspath(error.filename)!s}: "
    if not name and error.errno in _OF_WRITING:  # whoever writes a file names it
        name = "standard output: "
    remedy = _REMEDIES.get(error.errno or 0)
    return f"{name}{error.strerror or error}{f'; {remedy}' if remedy else ''}"


def _explain_missing(error: click.MissingParameter) -> str:
    assert error.ctx is not None
    assert error.param is not None
    hint = error.param.get_error_hint(error.ctx)
    example = getattr(error.ctx.command, "example", "")
    return f"{error.ctx.info_name}: {hint} is missing; for example: {example}"


class _Group(ShortHelp, click.Group):
    """A group that lists its commands in the order of work, and suggests for a misspelt one.

    It takes --plugin itself and gives it to each of its commands, so that none can lack it.
    """

    def add_command(self, command: click.Command, name: str | None = None) -> None:
        command.params.append(PLUGIN_OPTION)
        super().add_command(command, name)

    def list_commands(self, context: click.Context) -> list[str]:
        return list(self.commands)

    def get_command(self, context: click.Context, name: str) -> click.Command:
        if name not in self.commands:
            hint = suggest(name, self.commands) or "; `vocoder --help` lists them"
            raise click.UsageError(f"no command {name!r}{hint}")
        return self.commands[name]

    def format_options(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        self.format_commands(context, formatter)
        write_options(self.get_params(context), context, formatter)


@click.group(cls=_Group, invoke_without_command=True, params=[PLUGIN_OPTION])
@click.version_option(vocoder.__version__, prog_name="vocoder")
@click.pass_context
def commands(context: click.Context) -> None:
    """Train flow vocoders on recordings, and speak with them; train flows over pictures, too.

    `vocoder COMMAND -h` describes a command and gives an example.
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


for command in (  # in the order of work, in which `vocoder --help` lists them
    corpora.preprocess,
    corpora.shard,
    models.train,
    judging.evaluate,
    judging.compare,
    judging.evaluate_images,
    images.sample,
    speech.synthesize,
    speech.serve,
    corpora.convert_mel,
    models.import_,
    export.export,
    models.recipes,
    corpora.presets,
    judging.benchmark,
    models.info,
):
    commands.add_command(command)
