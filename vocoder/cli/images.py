"""Commands that draw: sample."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from vocoder.cli.help import argument, command, option
from vocoder.cli.options import (
    FILES,
    PATH,
    device_option,
    refuse,
    seed_option,
    temperature_option,
    test_images_option,
)

PICTURE = "Picture"


@command(example="vocoder sample runs/digits -o samples.png -n 16")
@argument("model", "A checkpoint file or a run folder of an image model.")
@option("-o", "--out", group=FILES, required=True, type=PATH, help="Write this .png file.")
@test_images_option
@option(
    "-n",
    "--count",
    group=PICTURE,
    type=click.IntRange(1),
    default=64,
    show_default=True,
    help="Show this many images, or this many rows of interpolations.",
)
@option(
    "--reconstruct",
    group=PICTURE,
    is_flag=True,
    help="Show test images, each beside what comes back from its noise.",
)
@option(
    "--interpolate",
    group=PICTURE,
    type=click.Choice(["linear", "spherical"]),
    help="Show rows that lead from one test image to another through their noise.",
)
@temperature_option(PICTURE)
@seed_option(PICTURE, "Draw the noise, and choose the test images, by this number.")
@device_option
@click.pass_context
def sample(
    context: click.Context,
    model: str,
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

    The range of brightness is fixed, and a value that is not finite shows in magenta.
    """
    from vocoder.images.sampling import sample_grid
    from vocoder.voice.catalogue import shipped_or_path

    if reconstruct and interpolate is not None:
        raise click.UsageError("--reconstruct, --interpolate: choose one")
    if reconstruct or interpolate is not None:
        refuse(context, ("temperature",), "changes samples, and test images are not sampled")
    else:
        refuse(context, ("data",), "is for --reconstruct and --interpolate; samples need none")
    report = sample_grid(
        shipped_or_path(model),
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
