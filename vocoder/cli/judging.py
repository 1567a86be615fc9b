"""Commands that measure: evaluate, compare, evaluate-images, benchmark."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from vocoder.cli.help import argument, command, option
from vocoder.cli.options import (
    FILES,
    PATH,
    SOUND,
    device_option,
    print_table,
    refine_option,
    seed_option,
    temperature_option,
    test_images_option,
)

OUTPUT, PICTURES, DISTANCE, MEASURED = "Output", "Pictures", "Fréchet distance", "Measurements"
_JSON = option(
    "--json", "as_json", group=OUTPUT, is_flag=True, help="Print JSON instead of a table."
)


def _examples(default: int, meaning: str) -> Callable[..., Any]:
    """Return the decorator that adds --examples."""
    return option(
        "--examples",
        group=OUTPUT,
        type=click.IntRange(0),
        default=default,
        show_default=True,
        help=meaning,
    )


def _clip_options(judge: Callable[..., Any]) -> Callable[..., Any]:
    """Add what is common to the commands that judge voices by test clips."""
    for add in reversed(
        (
            option(
                "--data",
                group=FILES,
                required=True,
                type=PATH,
                help="Score the test clips of the corpus that `vocoder preprocess` made here.",
            ),
            option(
                "--clips",
                group=FILES,
                type=click.IntRange(1),
                help="Score only this many test clips, the first ones; by default all.",
            ),
            option(
                "--ids",
                group=FILES,
                type=PATH,
                help="Score the held-out clips whose ids this text file names, one a line.",
            ),
            temperature_option(SOUND),
            seed_option(SOUND, "Draw the noise by this number."),
            refine_option(
                SOUND,
                "Hold the sound of all voices to its mel with this many steps; by default each "
                "with as many as it takes by itself, most with none.",
            ),
            _JSON,
            option(
                "--report",
                group=OUTPUT,
                type=PATH,
                help="Write an HTML page to look at and listen to, such as report.html.",
            ),
            _examples(8, "Put the sound of this many clips into the report, the worst ones."),
            device_option,
        )
    ):
        judge = add(judge)
    return judge


@command(example="vocoder evaluate prompts-22k --data data/mine --report report.html")
@argument("voice", "A checkpoint file, a run folder, a shipped voice, griffin-lim or recording.")
@_clip_options
def evaluate(voice: str, **settings: Any) -> None:
    """Score a voice on the test clips of a corpus.

    The figures are the likelihood of the recordings, and how near copy synthesis comes to them.
    Image models are scored by `vocoder evaluate-images`.
    """
    _judge((voice,), **settings)


@command(example="vocoder compare runs/mine griffin-lim --data data/mine --clips 20")
@argument(
    "voices",
    "Checkpoint files, run folders, shipped voices, griffin-lim, or recording for the recordings "
    "themselves, which are ideal.",
    nargs=-1,
    required=True,
    metavar="VOICE...",
)
@_clip_options
def compare(voices: tuple[str, ...], **settings: Any) -> None:
    """Score voices side by side on the same test clips."""
    _judge(voices, **settings)


def _judge(
    voices: tuple[str, ...],
    data: Path,
    clips: int | None,
    ids: Path | None,
    temperature: float,
    seed: int,
    refine: int | None,
    as_json: bool,
    report: Path | None,
    examples: int,
    device: str | None,
) -> None:
    import json

    from vocoder.judging.voices import compare as run

    result = run(
        voices,
        data,
        n_clips=clips,
        ids=ids,
        temperature=temperature,
        seed=seed,
        refine=refine,
        device=device,
        report=report,
        n_examples=examples,
    )
    if as_json:
        click.echo(json.dumps(result.to_dict(), indent=1, allow_nan=False))
    else:
        click.echo(result.table())


@command("evaluate-images", example="vocoder evaluate-images runs/digits --draws 10")
@argument("model", "A checkpoint file or a run folder of an image model.")
@test_images_option
@option(
    "--images",
    group=PICTURES,
    type=click.IntRange(1),
    help="Score only this many test images, the first ones; by default all.",
)
@option(
    "--draws",
    group=PICTURES,
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Dequantise each test image this many times, and take the mean.",
)
@seed_option(PICTURES, "Draw the noise by this number.")
@option(
    "--samples",
    group=DISTANCE,
    type=click.IntRange(2),
    help="Compare this many samples with the test images; by default as many as there are images.",
)
@option(
    "--extractor",
    group=DISTANCE,
    type=PATH,
    help="Compare the features of this TorchScript file, whose code is run.",
)
@option(
    "--statistics",
    group=DISTANCE,
    type=PATH,
    help="Compare with the features in this .npz file, instead of those of the test images.",
)
@option(
    "--save-statistics",
    group=DISTANCE,
    type=PATH,
    help="Write the features of the test images to this .npz file.",
)
@_JSON
@option(
    "--report",
    group=OUTPUT,
    type=PATH,
    help="Write an HTML page to look at, such as report.html.",
)
@_examples(
    24, "Put this many images that cost most bits into the report, and as many that cost least."
)
@option(
    "--bits",
    group=OUTPUT,
    type=PATH,
    help="Write the bits/dim of each test image to this .npy file, to compare two models by.",
)
@device_option
def evaluate_images(
    model: str,
    data: Path | None,
    images: int | None,
    draws: int,
    seed: int,
    samples: int | None,
    extractor: Path | None,
    statistics: Path | None,
    save_statistics: Path | None,
    as_json: bool,
    report: Path | None,
    examples: int,
    bits: Path | None,
    device: str | None,
) -> None:
    """Score an image model on the test images of its data set.

    The figure is bits/dim, which does not compare between data sets, variants or shapes. Any option
    of the Fréchet distance adds that distance. Voices are scored by `vocoder evaluate`.
    """
    import json

    from vocoder.judging.comparison import finite_or_none
    from vocoder.judging.images import evaluate_images as run
    from vocoder.voice.catalogue import shipped_or_path

    figures = run(
        shipped_or_path(model),
        data,
        n_images=images,
        n_draws=draws,
        n_samples=samples,
        extractor=extractor,
        statistics=statistics,
        save_statistics=save_statistics,
        seed=seed,
        device=device,
        report=report,
        n_examples=examples,
        bits=bits,
    )
    if as_json:
        plain = {
            name: finite_or_none(value) if isinstance(value, float) else value
            for name, value in figures.items()
        }
        click.echo(json.dumps(plain, indent=1, allow_nan=False))
    else:
        print_table(figures.items())


@command(example="vocoder benchmark ljspeech/nanoflow-r64 --seconds 2 --batch-size 1")
@argument(
    "model",
    "A checkpoint file, a run folder, a shipped voice or a recipe; by default the recipe "
    "ljspeech/nanoflow-r64.",
    required=False,
)
@option(
    "--seconds",
    group=MEASURED,
    multiple=True,
    type=float,
    default=(1.0, 10.0),
    show_default=True,
    help="Speak utterances that are this many seconds long; may be given several times.",
)
@option(
    "--batch-size",
    group=MEASURED,
    multiple=True,
    type=int,
    default=(1, 16),
    show_default=True,
    help="Make this many utterances or images at once; may be given several times.",
)
@option(
    "--crops",
    group=MEASURED,
    type=(int, int),
    default=(4, 16_000),
    show_default=True,
    metavar="NUMBER SAMPLES",
    help="Train a voice on this many crops of this many samples in each step.",
)
@option(
    "--budget",
    group=MEASURED,
    type=float,
    default=60.0,
    show_default=True,
    help="Spend at most this many seconds on each line, and leave out what would take longer.",
)
@option(
    "--kernels",
    group=MEASURED,
    type=click.Path(path_type=Path, file_okay=False),
    help="Check and time the kernels of a GPU instead, in under ten minutes, and write the "
    "figures to this folder.",
)
@_JSON
@device_option
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
    """Measure how fast a model is on this machine.

    A voice is timed in its layer op, a training step and synthesis. They stand beside the plain
    reference path, the published inverse, Griffin-Lim, and the machine's own matrix product. An
    image model is timed in a training step, with and without checkpointing, and in sampling.
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
