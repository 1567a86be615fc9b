"""Commands on recordings and mels: preprocess, convert-mel, presets."""

from __future__ import annotations

from pathlib import Path

import click

from vocoder.cli.help import argument, command, option
from vocoder.cli.options import FILES, PATH, Size, refuse, seed_option
from vocoder.registry import unknown_name

RECORDINGS, PICTURES = "Recordings", "Pictures"


@command(example="vocoder preprocess wavs --source recordings/ --out data/mine")
@argument(
    "dataset",
    "How the files are read: ljspeech or wavs for recordings, the name of an image set that is to "
    "be stored as arrays, such as image_folder, or a reader of your own (--plugin).",
)
@option("--source", group=FILES, required=True, type=PATH, help="Read the files in this folder.")
@option("--out", group=FILES, required=True, type=PATH, help="Write the corpus to this folder.")
@option(
    "--preset",
    group=RECORDINGS,
    default="tacotron2-22k",
    show_default=True,
    help="Compute mels by this recipe; `vocoder presets` lists them.",
)
@option(
    "--mels",
    group=RECORDINGS,
    type=PATH,
    help="Take the mels in this folder, which a text-to-mel model made of the same clips, to "
    "fine-tune a voice on.",
)
@option(
    "--test-clips",
    group=RECORDINGS,
    type=int,
    help="Hold out this many clips for the test; by default the reader decides.",
)
@option(
    "--test-list",
    group=RECORDINGS,
    type=PATH,
    help="Hold out the clips that this text file names for the test, one on each line by its path "
    "within --source, in place of the reader's own rule.",
)
@option(
    "--validation-list",
    group=RECORDINGS,
    type=PATH,
    help="Hold out the clips that this text file names, likewise, to choose settings and "
    "checkpoints by.",
)
@option(
    "--epochs",
    group=RECORDINGS,
    is_flag=True,
    help="Find and store the instants at which the vocal folds close; needs the extra `pitch`.",
)
@option(
    "--pitch-range",
    group=RECORDINGS,
    type=(float, float),
    metavar="LOW HIGH",
    help="Let --epochs look for a pitch between these frequencies in Hz; 55 and 420 by default, "
    "which suits adults who speak.",
)
@option(
    "--dither",
    group=RECORDINGS,
    is_flag=True,
    help="Add noise of half a step of 16 bits to the audio, so that none of it is digital silence.",
)
@seed_option(
    RECORDINGS,
    "Draw the test clips, where they are drawn at random, and the dither by this number.",
)
@option(
    "--jobs",
    group=RECORDINGS,
    type=int,
    help="Work in this many processes; by default in one for each core.",
)
@option(
    "--strict",
    group=RECORDINGS,
    is_flag=True,
    help="Stop at the first file that cannot be used, instead of leaving it out.",
)
@option(
    "--side",
    group=PICTURES,
    type=click.IntRange(1),
    help="Crop and scale the pictures of image_folder to squares of this many pixels a side.",
)
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
    """Turn recordings or pictures into data to train on.

    Recordings become a corpus of mels and audio: the reader ljspeech takes a folder with
    metadata.csv and wavs/, and wavs takes every recording below a folder. Pictures become arrays,
    which is needed only where they are too many to be read anew at every start.

    The same command continues a run that was stopped. The exit code is 1 if files were left out.
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
        raise unknown_name("data set", dataset, [*DATASETS.names(), *IMAGE_SETS.names()])
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


@command(example="vocoder shard data/mine --out data/mine-shards")
@argument("corpus", "The corpus, a folder that `vocoder preprocess` made.", type=PATH)
@option("--out", group=FILES, required=True, type=PATH, help="Write the new corpus to this folder.")
@option(
    "--size",
    group=FILES,
    type=Size(),
    default="1GB",
    show_default=True,
    help="Let a file be at most this large, such as 512MB; a longer clip has one to itself.",
)
def shard(corpus: Path, out: Path, size: int) -> None:
    """Copy a corpus of recordings into few large files.

    They take the place of two or three files for each clip, and training on them is the same to the
    bit. They are tar archives of .npy arrays, which WebDataset reads too, and may lie on several
    disks, with links to them in OUT/shards.
    """
    from vocoder.data.speech.sharding import shard_corpus

    manifest = shard_corpus(corpus, out, size).manifest
    click.echo(f"{out}: {len(manifest.utterances)} clips; shards: {len(manifest.shards or ())}")


@command("convert-mel", example="vocoder convert-mel mels/ -o converted/ --to nanoflow-db-22k")
@argument(
    "inputs",
    "Mel files (.npy, .npz, .pt, .safetensors), or folders of them.",
    nargs=-1,
    required=True,
    metavar="IN...",
)
@option(
    "-o",
    "--out",
    group=FILES,
    required=True,
    help="Write to this .npz, .safetensors or .npy file, or into this folder.",
)
@option(
    "--from",
    "origin",
    group=FILES,
    metavar="PRESET",
    help="The mels were made with this preset; by default with the one that their file names.",
)
@option(
    "--to",
    "target",
    group=FILES,
    required=True,
    metavar="PRESET",
    help="Convert to this preset; `vocoder presets` lists them.",
)
def convert_mel(inputs: tuple[str, ...], out: str, origin: str | None, target: str) -> None:
    """Convert mels to another preset, where that is exact.

    Files of .npz and .safetensors name the preset that they are of. A folder is filled with .npz.
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


@command(example="vocoder presets")
def presets() -> None:
    """List the presets, the recipes of mel-spectrograms."""
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
