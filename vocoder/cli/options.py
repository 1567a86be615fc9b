"""What the commands share: options, types of options, tables."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import click

from vocoder.cli.help import option
from vocoder.seeds import check_seed

PATH = click.Path(path_type=Path)
# Headings of the help that several commands have.
FILES, SOUND, COMPUTING = "Files", "Sound", "Computing"


class Size(click.ParamType):  # type: ignore[type-arg]
    """A number of bytes with a unit: 512MB, 2GB, 1.5GiB."""

    name = "size"

    def convert(
        self, value: str | int, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        """Return the bytes."""
        match = re.fullmatch(r"\s*(\d+(?:\.\d*)?)\s*([KMGT])i?B?\s*", str(value), re.IGNORECASE)
        if match is None:
            self.fail(f"{value!r} is not a size; write 512MB or 2GB", param, ctx)
        number, unit = match.groups()
        return int(float(number) * 2 ** (10 * (1 + "KMGT".index(unit.upper()))))


def device_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add --device."""
    return option(
        "--device",
        group=COMPUTING,
        help="Compute on this device: cpu, cuda, cuda:1 and so on; "
        "by default on a GPU where there is one.",
    )(command)


def test_images_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add --data, which says where test images are."""
    return option(
        "--data",
        group=FILES,
        type=PATH,
        help="Read the test images from here; sets that come with a library or a package need no "
        "path.",
    )(command)


def temperature_option(group: str) -> Callable[..., Any]:
    """Return the decorator that adds --temperature."""
    return option(
        "--temperature",
        group=group,
        type=float,
        default=1.0,
        show_default=True,
        help="Multiply the noise that the model draws from by this number.",
    )


def seed_option(group: str, text: str, default: int | None = 0) -> Callable[..., Any]:
    """Return the decorator that adds --seed."""

    def checked(context: click.Context, option: click.Parameter, seed: int | None) -> int | None:
        if seed is not None:
            check_seed(seed)
        return seed

    return option(
        "--seed",
        group=group,
        type=int,
        default=default,
        show_default=True,
        callback=checked,
        help=text,
    )


def refine_option(group: str, text: str, default: int | None = None) -> Callable[..., Any]:
    """Return the decorator that adds --refine."""
    return option(
        "--refine",
        group=group,
        type=click.IntRange(0),
        default=default,
        metavar="STEPS",
        help=text,
    )


def refuse(context: click.Context, names: Sequence[str], reason: str) -> None:
    """Refuse options that were given where they mean nothing."""
    for name in names:
        if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE:
            raise click.UsageError(f"--{name.replace('_', '-')}: {reason}")


def print_table(rows: Iterable[tuple[Any, Any]]) -> None:
    """Print names and values in two columns."""
    rows = [(str(name), value) for name, value in rows]
    width = max((len(name) for name, _ in rows), default=0)
    for name, value in rows:
        text = f"{value:.6g}" if isinstance(value, float) else str(value)
        click.echo(f"{name:<{width}}  {text}")
