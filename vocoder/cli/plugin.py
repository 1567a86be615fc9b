"""Code of the user's own: models and data sets that a command is told of by `--plugin`."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import sys
from pathlib import Path

import click

from vocoder.cli.help import GENERAL, Option
from vocoder.errors import VocoderError


def load_plugin(name: str) -> None:
    """Import a module, so that what it registers is known.

    The folder of a file becomes the last that Python searches, there and in the processes that it
    spawns: a file can import its neighbours and hides no installed module.

    Args:
        name: A dotted module that Python can import, or the path of a .py file.

    Raises:
        VocoderError: There is no such module, another one has its name, or it raises an error.
    """
    if not name.endswith(".py") and ("/" in name or os.sep in name or name.startswith(".")):
        raise VocoderError(
            f"--plugin {name}: is the path of no .py file; name one, such as ./my_model.py, or a "
            "module with dots, such as my_package.my_model"
        )
    module = _prepare_file(Path(name)) if name.endswith(".py") else name
    try:
        importlib.import_module(module)
    except (Exception, SystemExit) as error:
        if isinstance(error, ModuleNotFoundError) and error.name == module.split(".")[0]:
            raise VocoderError(
                f"--plugin {name}: Python finds no module {module!r}; "
                "name a file of your own by its path, such as ./my_model.py"
            ) from None
        kind = "" if isinstance(error, VocoderError) else f"{type(error).__name__}: "
        raise VocoderError(f"--plugin {name}: cannot be imported: {kind}{error}") from error


def _prepare_file(path: Path) -> str:
    """Return the name under which Python will find the file at `path`, and no other."""
    path = path.resolve()
    if not path.is_file():
        raise VocoderError(f"--plugin {path}: there is no such file")
    if not path.stem.isidentifier():
        raise VocoderError(
            f"--plugin {path}: {path.stem!r} cannot be the name of a module; "
            "rename the file to letters, digits and underscores"
        )
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    importlib.invalidate_caches()
    found = None
    with contextlib.suppress(ValueError):  # of a module that has no origin, as __main__
        found = importlib.util.find_spec(path.stem)
    if found is None or found.origin is None or Path(found.origin).resolve() != path:
        raise VocoderError(
            f"--plugin {path}: Python knows another module {path.stem!r}; rename the file"
        )
    return path.stem


def _load_all(context: click.Context, option: click.Parameter, names: tuple[str, ...]) -> None:
    for name in names:
        load_plugin(name)


PLUGIN_OPTION = Option(
    ["--plugin"],
    group=GENERAL,
    metavar="MODULE",
    multiple=True,
    expose_value=False,
    callback=_load_all,
    help="Import this .py file or module first, for the models and data sets that it registers. "
    "Its code is run.",
)
