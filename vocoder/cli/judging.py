"""Commands that measure: evaluate, compare, benchmark."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from vocoder.cli.options import device_option, print_table, refuse, seed_option

if TYPE_CHECKING:
    from vocoder.judging.comparison import Comparison


_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
_REPORT = click.option(
    "--report",
    type=click.Path(path_type=Path),
    help="Write an HTML page to look at and listen to, as report.html.",
)
_EXAMPLES = click.option(
    "--examples",
    type=click.IntRange(0),
    default=8,
    show_default=True,
    help="Clips with sound in the report, the worst ones.",
)


@click.command()
@click.argument("model")
@click.option("--data", type=click.Path(path_type=Path), help="From `preprocess`, or the images.")
@seed_option("Of the noise.")
@device_option
@click.option("--clips", type=click.IntRange(1), help="Score so many test clips; by default all.")
@click.option("--temperature", type=float, default=1.0, show_default=True, help="Of the noise.")
@_JSON
@_REPORT
@_EXAMPLES
@click.option("--images", type=click.IntRange(1), help="Score so many test images; or all.")
@click.option(
    "--draws", type=click.IntRange(1), default=1, show_default=True, help="Dequantisations of each."
)
@click.option("--samples", type=click.IntRange(2), help="Compare so many by Fréchet distance.")
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
    as_json: bool,
    report: Path | None,
    examples: int,
    images: int | None,
    draws: int,
    samples: int | None,
    extractor: Path | None,
    statistics: Path | None,
    save_statistics: Path | None,
) -> None:
    """Score a voice, griffin-lim or an image model on test clips or test images.

    For voices: --clips, --temperature, --report, --examples. For image models: --images, --draws,
    and a Fréchet distance by --samples, --extractor, --statistics or --save-statistics. Bits/dim of
    different data sets, variants or shapes do not compare.
    """
    import json

    from vocoder import checkpoint
    from vocoder.judging.comparison import RECORDING, finite_or_none
    from vocoder.voice import catalogue

    untrained = (catalogue.GRIFFIN_LIM, RECORDING)
    if model not in untrained and checkpoint.is_of_images(catalogue.find_voice(model)):
        from vocoder.judging.images import evaluate_images

        of_voices = ("clips", "temperature", "report", "examples")
        refuse(context, of_voices, f"is for voices; {model} is a model of images")
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
        if as_json:
            plain = {
                name: finite_or_none(value) if isinstance(value, float) else value
                for name, value in figures.items()
            }
            click.echo(json.dumps(plain, indent=1, allow_nan=False))
        else:
            print_table(figures.items())
    else:
        from vocoder.judging.voices import evaluate as run

        options = ("images", "draws", "samples", "extractor", "statistics", "save_statistics")
        refuse(context, options, f"is for models of images; {model} is a voice")
        if data is None:
            raise click.UsageError("--data: missing; give the corpus that `preprocess` made")
        result = run(
            model,
            data,
            n_clips=clips,
            temperature=temperature,
            seed=seed,
            device=device,
            report=report,
            n_examples=examples,
        )
        _print(result, as_json)


@click.command()
@click.argument("voice", nargs=-1, required=True, metavar="VOICE...")
@click.option(
    "--data", required=True, type=click.Path(path_type=Path), help="The corpus of `preprocess`."
)
@seed_option("Of the noise.")
@device_option
@click.option("--clips", type=click.IntRange(1), help="Score so many test clips; by default all.")
@click.option("--temperature", type=float, default=1.0, show_default=True, help="Of the noise.")
@_JSON
@_REPORT
@_EXAMPLES
def compare(
    voice: tuple[str, ...],
    data: Path,
    seed: int,
    device: str | None,
    clips: int | None,
    temperature: float,
    as_json: bool,
    report: Path | None,
    examples: int,
) -> None:
    """Score voices side by side on the same test clips.

    VOICE is a checkpoint, a run folder, a shipped voice, griffin-lim, or recording for the
    recordings themselves, which are ideal.
    """
    from vocoder.judging.voices import compare as run

    result = run(
        voice,
        data,
        n_clips=clips,
        temperature=temperature,
        seed=seed,
        device=device,
        report=report,
        n_examples=examples,
    )
    _print(result, as_json)


def _print(result: Comparison, as_json: bool) -> None:
    import json

    if as_json:
        click.echo(json.dumps(result.to_dict(), indent=1, allow_nan=False))
    else:
        click.echo(result.table())


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
@_JSON
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
        from vocoder.benchmark.gpu_check import check_gpu

        check = check_gpu(kernels)
        click.echo(check.table())
        context.exit(0 if check.passed else 1)

    from vocoder.benchmark.run import benchmark as measure
    from vocoder.benchmark.run import format_table

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
