"""Commands on recordings and mels: preprocess, convert-mel, presets."""

from __future__ import annotations

from pathlib import Path

import click

from vocoder.cli.options import refuse, seed_option
from vocoder.config import suggest


@click.command()
@click.argument("dataset", metavar="{ljspeech|wavs|IMAGES}")
@click.option("--source", required=True, type=click.Path(path_type=Path), help="Files to read.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The folder to make.")
@click.option("--preset", default="tacotron2-22k", show_default=True, help="See `vocoder presets`.")
@click.option("--mels", type=click.Path(path_type=Path), help="A TTS model's, to fine-tune on.")
@click.option("--test-clips", type=int, help="Clips held out; by default the corpus's own rule.")
@click.option(
    "--test-list",
    type=click.Path(path_type=Path),
    help="A text file that names the test clips, the path of a recording within --source on each "
    "line, in place of the corpus's own rule.",
)
@click.option(
    "--validation-list",
    type=click.Path(path_type=Path),
    help="A text file that names the clips to choose settings and checkpoints by.",
)
@click.option(
    "--epochs",
    is_flag=True,
    help="Find and store the instants at which the vocal folds close (extra `pitch`).",
)
@click.option(
    "--pitch-range",
    type=(float, float),
    metavar="LOW HIGH",
    help="Hz between which --epochs looks for a pitch; 55 to 420 by default, which suits adults "
    "who speak.",
)
@click.option(
    "--dither",
    is_flag=True,
    help="Add noise of half a step of 16 bits to the audio, so that none of it is digital silence.",
)
@seed_option("Seed of a random split, and of --dither.")
@click.option("--jobs", type=int, help="Processes; by default one for each core.")
@click.option("--strict", is_flag=True, help="Stop at the first bad file.")
@click.option("--side", type=click.IntRange(1), help="Of image_folder: crop and scale to this.")
@click.pass_context
def preprocess(
    context: click.Context,
    dataset: str,
    source: Path,
    out: Path,
    preset: str,
    mels: Path | None,
    test_clips: int | None,
    test_list: Path | None,
    validation_list: Path | None,
    epochs: bool,
    pitch_range: tuple[float, float] | None,
    dither: bool,
    seed: int,
    jobs: int | None,
    strict: bool,
    side: int | None,
) -> int:
    """Turn recordings into a corpus of mels and audio, or images into arrays, to train on.

    ljspeech reads metadata.csv and wavs/; wavs takes every recording below a folder. A run that was
    stopped is continued by the same command. Exits with 1 if files were left out. IMAGES is a set
    too large to be read anew at every start, as imagenet32 is, or image_folder.
    """
    from vocoder.data.images.reader import IMAGE_SETS
    from vocoder.data.speech.reader import DATASETS

    if dataset in IMAGE_SETS.names():
        from vocoder.data.images.prepared import prepare_images

        refuse(
            context,
            (
                "preset",
                "mels",
                "test_clips",
                "test_list",
                "validation_list",
                "epochs",
                "pitch_range",
                "dither",
                "seed",
                "jobs",
                "strict",
            ),
            f"is for recordings; {dataset} holds images",
        )
        click.echo(prepare_images(dataset, source, out, side=side))
        return 0
    if dataset not in DATASETS.names():
        known = [*DATASETS.names(), *IMAGE_SETS.names()]
        hint = suggest(dataset, known) or f"; known: {', '.join(known)}"
        raise click.UsageError(f"no data set {dataset!r}{hint}")
    if pitch_range is not None and not epochs:
        raise click.UsageError("--pitch-range: says where --epochs looks; give --epochs too")
    from vocoder.data.speech.epochs import PitchRange
    from vocoder.data.speech.preprocess import preprocess as run

    refuse(context, ("side",), f"is for images; {dataset} holds recordings")
    report = run(
        dataset,
        source,
        out,
        preset=preset,
        mels=mels,
        test_clips=test_clips,
        test_list=test_list,
        validation_list=validation_list,
        epochs=PitchRange(*(pitch_range or ())) if epochs else None,
        dither=dither,
        seed=seed,
        n_jobs=jobs,
        strict=strict,
    )
    click.echo(report)
    for file, reason in report.failures:
        click.echo(f"vocoder: left out {file}: {reason}", err=True)
    return 1 if report.failures else 0


@click.command("convert-mel")
@click.argument("inputs", nargs=-1, required=True, metavar="IN...")
@click.option("-o", "--out", required=True, help="A .npz, .safetensors or .npy file, or a folder.")
@click.option("--from", "origin", metavar="PRESET", help="By default what each mel says.")
@click.option("--to", "target", required=True, metavar="PRESET", help="The preset wanted.")
def convert_mel(inputs: tuple[str, ...], out: str, origin: str | None, target: str) -> None:
    """Convert mels from one preset to another, where that is exact.

    .npz and .safetensors files say which preset they are of, and a folder is filled with .npz.
    """
    from vocoder.mel.files import WRITTEN_SUFFIXES
    from vocoder.mel.presets import get_preset
    from vocoder.synthesis.convert import convert_files
    from vocoder.synthesis.outputs import plan_outputs
    from vocoder.synthesis.sources import collect_sources

    sources = collect_sources(inputs)
    convert_files(
        sources,
        plan_outputs(sources, out, WRITTEN_SUFFIXES),
        None if origin is None else get_preset(origin),
        get_preset(target),
    )


@click.command()
def presets() -> None:
    """List the mel-spectrogram presets."""
    from vocoder.mel.presets import ALIASES, PRESETS

    columns = "{:<25} {:>6} {:>5} {:>5} {:>6}  {:<13} {:<6} {:<10} {:<12}  {}"
    heads = ("name", "Hz", "n_fft", "hop", "bands", "range (Hz)", "log", "padding", "fingerprint")
    click.echo(columns.format(*heads, "description"))
    for preset in PRESETS.values():
        also = [alias for alias, name in ALIASES.items() if name == preset.name]
        row = columns.format(
            preset.name,
            preset.sample_rate,
            preset.n_fft,
            preset.hop_length,
            preset.n_mels,
            f"{preset.f_min:g}-{preset.f_max:g}",
            preset.log,
            preset.padding,
            preset.fingerprint,
            preset.description,
        )
        click.echo(f"{row}; also {', '.join(also)}" if also else row)
