"""Commands that measure: evaluate, benchmark."""

from __future__ import annotations

from pathlib import Path

import click

from vocoder.cli.options import device_option, print_table, refuse


@click.command()
@click.argument("model")
@click.option("--data", type=click.Path(path_type=Path), help="From `preprocess`, or the images.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the noise.")
@device_option
@click.option("--clips", type=click.IntRange(1), help="Score so many test clips; by default all.")
@click.option("--temperature", type=float, default=1.0, show_default=True, help="Of the noise.")
@click.option("--images", type=click.IntRange(1), help="Score so many test images; or all.")
@click.option(
    "--draws", type=click.IntRange(1), default=1, show_default=True, help="Dequantisations of each."
)
@click.option("--samples", type=click.IntRange(1), help="Compare so many by Fréchet distance.")
@click.option(
    "--extractor",
    type=click.Path(path_type=Path),
    help="TorchScript file of its features; the code in it is run.",
)
@click.option("--statistics", type=click.Path(path_type=Path), help="Compare with this .npz.")
@click.option("--save-statistics", type=click.Path(path_type=Path), help="Write the images' .npz.")
@click.pass_context
def evaluate(
    context: click.Context,
    model: str,
    data: Path | None,
    seed: int,
    device: str | None,
    clips: int | None,
    temperature: float,
    images: int | None,
    draws: int,
    samples: int | None,
    extractor: Path | None,
    statistics: Path | None,
    save_statistics: Path | None,
) -> None:
    """Score a voice, griffin-lim or an image model on test clips or test images.

    For voices: --clips, --temperature. For image models: --images, --draws, and a Fréchet distance
    by --samples, --extractor, --statistics or --save-statistics. Bits/dim of different data sets,
    variants or shapes do not compare.
    """
    from vocoder import checkpoint, voices

    if model != voices.GRIFFIN_LIM and checkpoint.is_of_images(voices.find_voice(model)):
        from vocoder.image_evaluation import evaluate_images

        refuse(context, ("clips", "temperature"), f"is for voices; {model} is a model of images")
        figures = evaluate_images(
            model,
            data,
            n_images=images,
            n_draws=draws,
            n_samples=samples,
            extractor=extractor,
            statistics=statistics,
            save_statistics=save_statistics,
            seed=seed,
            device=device,
        )
    else:
        from vocoder.evaluation import evaluate as run

        options = ("images", "draws", "samples", "extractor", "statistics", "save_statistics")
        refuse(context, options, f"is for models of images; {model} is a voice")
        if data is None:
            raise click.UsageError("--data: missing; give the corpus that `preprocess` made")
        figures = run(model, data, n_clips=clips, temperature=temperature, seed=seed, device=device)
    print_table(figures.items())


@click.command()
@click.argument("model", required=False)
@device_option
@click.option(
    "--seconds", multiple=True, type=float, default=(1.0, 10.0), show_default=True, help="Of audio."
)
@click.option(
    "--batch-size", multiple=True, type=int, default=(1, 16), show_default=True, help="At once."
)
@click.option(
    "--crops", type=(int, int), default=(4, 16_000), show_default=True, help="Of a voice."
)
@click.option("--budget", type=float, default=60.0, show_default=True, help="Seconds a line.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
@click.option(
    "--kernels",
    type=click.Path(path_type=Path, file_okay=False),
    help="Check and time the GPU's kernels instead, into this folder; under ten minutes.",
)
@click.pass_context
def benchmark(
    context: click.Context,
    model: str | None,
    device: str | None,
    seconds: tuple[float, ...],
    batch_size: tuple[int, ...],
    crops: tuple[int, int],
    budget: float,
    as_json: bool,
    kernels: Path | None,
) -> None:
    """Measure a checkpoint or a recipe's model on this machine; by default ljspeech/nanoflow-r64.

    Of voices, the layer op, a training step (of --crops, a number and their length) and synthesis,
    beside the plain reference path, the published inverse, Griffin-Lim, and what the machine's own
    matrix product reaches. Of image models, a training step, with checkpointing too, and sampling,
    both of --batch-size images.
    """
    import json

    if kernels is not None:
        from vocoder.kernels.gpu_check import check_gpu

        check = check_gpu(kernels)
        click.echo(check.table())
        context.exit(0 if check.passed else 1)

    from vocoder.benchmark import benchmark as measure
    from vocoder.benchmark import format_table

    result = measure(
        model,
        device=device,
        seconds=seconds,
        batch_sizes=batch_size,
        crops=crops,
        budget=budget,
        report=lambda work: click.echo(f"measuring {work}", err=True),
    )
    click.echo(json.dumps(result, indent=2) if as_json else format_table(result))
