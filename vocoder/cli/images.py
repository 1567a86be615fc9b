"""Commands that draw: sample."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from vocoder.cli.options import device_option, refuse, seed_option


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="A .png file.")
@click.option(
    "-n", "--count", type=click.IntRange(1), default=64, show_default=True, help="Images."
)
@click.option("--temperature", type=float, default=1.0, show_default=True, help="Of the noise.")
@seed_option("Of the noise and the choice.")
@click.option("--reconstruct", is_flag=True, help="Test images, each beside what comes back.")
@click.option(
    "--interpolate",
    type=click.Choice(["linear", "spherical"]),
    help="Rows from one test image to another, through the noise.",
)
@click.option("--data", type=click.Path(path_type=Path), help="Where the test images are.")
@device_option
@click.pass_context
def sample(
    context: click.Context,
    model: Path,
    out: Path,
    count: int,
    temperature: float,
    seed: int,
    reconstruct: bool,
    interpolate: Literal["linear", "spherical"] | None,
    data: Path | None,
    device: str | None,
) -> None:
    """Draw pictures from an image model into one PNG file.

    Brightness has one fixed range, and a value that is not finite shows in magenta.
    """
    from vocoder.images.sampling import sample_grid

    if reconstruct and interpolate is not None:
        raise click.UsageError("--reconstruct, --interpolate: choose one")
    if reconstruct or interpolate is not None:
        refuse(context, ("temperature",), "is of samples, not of test images")
    else:
        refuse(context, ("data",), "is for --reconstruct and --interpolate; samples need none")
    report = sample_grid(
        model,
        out,
        count,
        temperature=temperature,
        seed=seed,
        show="reconstructions" if reconstruct else interpolate or "samples",
        data=data,
        device=device,
    )
    if report.n_non_finite:
        click.echo(
            f"vocoder: {report.n_non_finite} of {report.n_images} images hold NaN or infinite "
            "values, shown in magenta",
            err=True,
        )
    click.echo(
        f"vocoder: {report.n_images} images of {report.size} in {report.seconds:.2f} s: "
        f"{report.n_images / report.seconds:.2f} images/s",
        err=True,
    )
