"""The command line: a command parses, calls one public function, prints.

What a command needs is imported inside it, so that `vocoder --help` answers without torch.
"""

from __future__ import annotations

import errno
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn

import click

import vocoder
from vocoder.config import suggest
from vocoder.errors import VocoderError

if TYPE_CHECKING:
    from vocoder.checkpoint import Checkpoint

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
}


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit: 0 well, 2 after an error of the caller's, 130 after Ctrl-C."""
    try:
        code = commands.main(arguments, prog_name="vocoder", standalone_mode=False) or 0
        sys.stdout.flush()
    except click.exceptions.Abort:
        code = 130
    except click.ClickException as error:
        code = _fail(error.format_message())
    except OSError as error:
        code = _fail(_explain(error))
    except VocoderError as error:
        code = _fail(str(error))
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
    name = f"{os.fspath(error.filename)!s}: " if error.filename is not None else ""
    remedy = _REMEDIES.get(error.errno or 0)
    return f"{name}{error.strerror or error}{f'; {remedy}' if remedy else ''}"


class _Group(click.Group):
    """A group that lists its commands in the order of work, and suggests for a misspelt one."""

    def list_commands(self, context: click.Context) -> list[str]:
        return list(self.commands)

    def get_command(self, context: click.Context, name: str) -> click.Command:
        if name not in self.commands:
            hint = suggest(name, self.commands) or "; `vocoder --help` lists them"
            raise click.UsageError(f"no command {name!r}{hint}")
        return self.commands[name]


@click.group(cls=_Group, invoke_without_command=True)
@click.version_option(vocoder.__version__, prog_name="vocoder")
@click.pass_context
def commands(context: click.Context) -> None:
    """From recordings to a trained flow vocoder to sound; and from images to flows over images."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


class _Size(click.ParamType):  # type: ignore[type-arg]
    """A number of bytes with a unit: 512MB, 2GB, 1.5GiB."""

    name = "size"

    def convert(
        self, value: str | int, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        match = re.fullmatch(r"\s*(\d+(?:\.\d*)?)\s*([KMGT])i?B?\s*", str(value), re.IGNORECASE)
        if match is None:
            self.fail(f"{value!r} is not a size; write 512MB or 2GB", param, ctx)
        number, unit = match.groups()
        return int(float(number) * 2 ** (10 * (1 + "KMGT".index(unit.upper()))))


def _device_option(command: Callable[..., Any]) -> Callable[..., Any]:
    text = "cpu, cuda, cuda:1, …; by default a GPU where there is one."
    return click.option("--device", help=text)(command)


def _refuse(context: click.Context, names: Sequence[str], reason: str) -> None:
    """Refuse options that were given where they mean nothing."""
    for name in names:
        if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE:
            raise click.UsageError(f"--{name.replace('_', '-')}: {reason}")


@commands.command()
@click.argument("dataset", metavar="{ljspeech|wavs|IMAGES}")
@click.option("--source", required=True, type=click.Path(path_type=Path), help="Files to read.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The folder to make.")
@click.option("--preset", default="tacotron2-22k", show_default=True, help="See `vocoder presets`.")
@click.option("--test-clips", type=int, help="Clips held out; by default the corpus's own rule.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of a random split.")
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
    test_clips: int | None,
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
    from vocoder.data.base import dataset_names
    from vocoder.data.image_sources import image_set_names

    if dataset in image_set_names():
        from vocoder.data.prepared_images import prepare_images

        _refuse(
            context,
            ("preset", "test_clips", "seed", "jobs", "strict"),
            f"is for recordings; {dataset} holds images",
        )
        click.echo(prepare_images(dataset, source, out, side=side))
        return 0
    if dataset not in dataset_names():
        known = [*dataset_names(), *image_set_names()]
        hint = suggest(dataset, known) or f"; known: {', '.join(known)}"
        raise click.UsageError(f"no data set {dataset!r}{hint}")
    from vocoder.data.preprocess import preprocess as run

    _refuse(context, ("side",), f"is for images; {dataset} holds recordings")
    report = run(
        dataset,
        source,
        out,
        preset=preset,
        test_clips=test_clips,
        seed=seed,
        n_jobs=jobs,
        strict=strict,
    )
    click.echo(report)
    for file, reason in report.failures:
        click.echo(f"vocoder: left out {file}: {reason}", err=True)
    return 1 if report.failures else 0


@commands.command()
@click.argument("recipe")
@click.option("--data", type=click.Path(path_type=Path), help="From `preprocess`, or the images.")
@click.option("--run-dir", required=True, type=click.Path(path_type=Path), help="Results go here.")
@click.option(
    "-o", "--override", "overrides", multiple=True, metavar="KEY=VALUE", help="As train.lr=1e-4."
)
@click.option("--resume", is_flag=True, help="Continue the run in RUN_DIR, bit for bit.")
@click.option("--init-from", type=click.Path(path_type=Path), help="Start from these weights.")
@_device_option
def train(
    recipe: str,
    data: Path | None,
    run_dir: Path,
    overrides: tuple[str, ...],
    resume: bool,
    init_from: Path | None,
    device: str | None,
) -> None:
    """Train a voice or an image model by a recipe, shipped (see `vocoder recipes`) or a YAML file.

    Ctrl-C saves and stops; --resume goes on. Several GPUs: torchrun … -m vocoder train …
    """
    from vocoder.recipe import load_recipe
    from vocoder.training.trainer import Trainer

    trainer = Trainer(
        load_recipe(recipe, overrides),
        data,
        run_dir,
        resume=resume,
        device=device,
        init_from=init_from,
    )
    click.echo(trainer.fit())


@commands.command()
@click.argument("model")
@click.option("--data", type=click.Path(path_type=Path), help="From `preprocess`, or the images.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the noise.")
@_device_option
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

        _refuse(context, ("clips", "temperature"), f"is for voices; {model} is a model of images")
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
        _refuse(context, options, f"is for models of images; {model} is a voice")
        if data is None:
            raise click.UsageError("--data: missing; give the corpus that `preprocess` made")
        figures = run(model, data, n_clips=clips, temperature=temperature, seed=seed, device=device)
    _print_table(figures.items())


@commands.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="A .png file.")
@click.option(
    "-n", "--count", type=click.IntRange(1), default=64, show_default=True, help="Images."
)
@click.option("--temperature", type=float, default=1.0, show_default=True, help="Of the noise.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the noise and the choice.")
@click.option("--reconstruct", is_flag=True, help="Test images, each beside what comes back.")
@click.option(
    "--interpolate",
    type=click.Choice(["linear", "spherical"]),
    help="Rows from one test image to another, through the noise.",
)
@click.option("--data", type=click.Path(path_type=Path), help="Where the test images are.")
@_device_option
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
    from vocoder.sampling import sample_grid

    if reconstruct and interpolate is not None:
        raise click.UsageError("--reconstruct, --interpolate: choose one")
    if reconstruct or interpolate is not None:
        _refuse(context, ("temperature",), "is of samples, not of test images")
    else:
        _refuse(context, ("data",), "is for --reconstruct and --interpolate; samples need none")
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


@commands.command()
@click.argument("inputs", nargs=-1, required=True, metavar="IN...")
@click.option("-o", "--out", required=True, help="A .wav file, a folder, or - for stdout.")
@click.option("--voice", help="A checkpoint, a run folder, a shipped voice or griffin-lim.")
@click.option("--preset", help="What the mels are made with, whatever they say.")
@click.option("--temperature", type=float, default=1.0, show_default=True, help="Of the noise.")
@click.option("--seed", type=int, help="For the same audio again; by default fresh noise.")
@click.option("--dtype", help="To compute in, such as float64; by default the backend's own.")
@click.option("--backend", help="reference, cpu or triton; by default the fastest that can run.")
@click.option("--memory", type=_Size(), help="For an utterance on the CPU, such as 512MB.")
@click.option("--batch-size", type=int, default=1, show_default=True, help="Utterances at once.")
@_device_option
def synthesize(
    inputs: tuple[str, ...],
    out: str,
    voice: str | None,
    preset: str | None,
    temperature: float,
    seed: int | None,
    dtype: str | None,
    backend: str | None,
    memory: int | None,
    batch_size: int,
    device: str | None,
) -> None:
    """Turn mels, or recordings (copy synthesis), into WAV files.

    IN is a mel (.npy, .npz, .pt, .safetensors), a recording (.wav, .flac, .ogg), a folder of
    either, a corpus from `preprocess`, a .txt list of files, or - for .npy on standard input.
    "× real time" is seconds of audio made per second of computing, reading and writing left out.
    """
    from vocoder import synthesis, voices
    from vocoder.engine import GriffinLimVocoder, Vocoder, load
    from vocoder.presets import get_preset

    sources = synthesis.collect_sources(inputs, sys.stdin.buffer)
    to_stdout = out == synthesis.STANDARD_STREAM
    if to_stdout and len(sources) > 1:
        raise click.UsageError(f"-o -: standard output takes one input, not {len(sources)}")
    outputs = [sys.stdout.buffer] if to_stdout else synthesis.plan_outputs(sources, out)
    stated = None if preset is None else get_preset(preset)
    name, reason = (voice, None) if voice is not None else voices.default_voice()
    speaker: Vocoder
    if name == voices.GRIFFIN_LIM and stated is not None:
        speaker = GriffinLimVocoder(stated, device=device, dtype=dtype)
    else:
        speaker = load(name, device=device, dtype=dtype, backend=backend, memory=memory)
    report = synthesis.synthesize_files(
        speaker,
        sources,
        outputs,
        preset=stated,
        temperature=temperature,
        seed=seed,
        batch_size=batch_size,
    )
    for file, n_clipped in report.clipped.items():
        click.echo(f"vocoder: {file}: {n_clipped} samples were clipped", err=True)
    if reason is not None:
        click.echo(f"vocoder: voice {name}, the default: {reason}", err=True)
    files = "file" if report.n_files == 1 else "files"
    click.echo(
        f"vocoder: {report.n_files} {files}, {report.audio_seconds:.2f} s of audio in "
        f"{report.compute_seconds:.2f} s: {report.times_real_time:.2f} × real time "
        f"({speaker.name}, {speaker.device})",
        err=True,
    )


@commands.command("convert-mel")
@click.argument("inputs", nargs=-1, required=True, metavar="IN...")
@click.option("-o", "--out", required=True, help="A .npz, .safetensors or .npy file, or a folder.")
@click.option("--from", "origin", metavar="PRESET", help="By default what each mel says.")
@click.option("--to", "target", required=True, metavar="PRESET", help="The preset wanted.")
def convert_mel(inputs: tuple[str, ...], out: str, origin: str | None, target: str) -> None:
    """Convert mels from one preset to another, where that is exact.

    .npz and .safetensors files say which preset they are of, and a folder is filled with .npz.
    """
    from vocoder import synthesis
    from vocoder.presets import get_preset

    sources = synthesis.collect_sources(inputs, sys.stdin.buffer)
    suffix = Path(out).suffix if Path(out).suffix in (".npy", ".safetensors") else ".npz"
    synthesis.convert_files(
        sources,
        synthesis.plan_outputs(sources, out, suffix),
        None if origin is None else get_preset(origin),
        get_preset(target),
    )


@commands.command("import")
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option("--config", required=True, type=click.Path(path_type=Path), help="Its JSON.")
@click.option(
    "-o", "--out", required=True, type=click.Path(path_type=Path), help="The checkpoint to make."
)
def import_(checkpoint: Path, config: Path, out: Path) -> None:
    """Make a checkpoint of one of the published NanoFlow, WaveFlow or mAR-SCF code."""
    from vocoder.official import import_official_file

    model = import_official_file(checkpoint, config, out)
    click.echo(f"{out}: {type(model).__name__}, {model.n_parameters():,} parameters")


@commands.command()
@click.argument("name", required=False)
def recipes(name: str | None) -> None:
    """List the shipped recipes, or print the one called NAME."""
    from vocoder.recipe import list_recipes, load_recipe, recipe_path

    if name is not None:
        click.echo(recipe_path(name).read_text(encoding="utf-8"), nl=False)
    else:
        _print_table((recipe, load_recipe(recipe).description) for recipe in list_recipes())


@commands.command()
def presets() -> None:
    """List the mel-spectrogram presets."""
    from vocoder.presets import ALIASES, PRESETS

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


@commands.command()
@click.argument("voice", required=False)
@_device_option
@click.option(
    "--seconds", multiple=True, type=float, default=(1.0, 10.0), show_default=True, help="Of audio."
)
@click.option(
    "--batch-size", multiple=True, type=int, default=(1, 16), show_default=True, help="Utterances."
)
@click.option(
    "--crops", type=(int, int), default=(4, 16_000), show_default=True, help="And their samples."
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
    voice: str | None,
    device: str | None,
    seconds: tuple[float, ...],
    batch_size: tuple[int, ...],
    crops: tuple[int, int],
    budget: float,
    as_json: bool,
    kernels: Path | None,
) -> None:
    """Measure a voice on this machine; without one the published NanoFlow of 64 channels.

    The layer op, a training step and synthesis, beside the plain reference path, the published
    inverse, Griffin-Lim, and what the machine's own matrix product reaches.
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
        voice,
        device=device,
        seconds=seconds,
        batch_sizes=batch_size,
        crops=crops,
        budget=budget,
        report=lambda work: click.echo(f"measuring {work}", err=True),
    )
    click.echo(json.dumps(result, indent=2) if as_json else format_table(result))


@commands.command()
@click.argument("voice", required=False)
def info(voice: str | None) -> None:
    """Describe a voice or image model, or without one this installation."""
    from vocoder import voices

    if voice is None:
        import platform

        import torch

        from vocoder.device import resolve_device

        default, reason = voices.default_voice()
        gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
        table: dict[str, Any] = {
            "vocoder": vocoder.__version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "devices": ", ".join(["cpu", *gpus]),
            "default device": resolve_device(None),
            "voices": ", ".join(voices.voice_names()),
            "default voice": f"{default} ({reason})",
        }
    elif voice == voices.GRIFFIN_LIM:
        table = {"voice": voice, "model": "Griffin-Lim iterations, untrained", "preset": "any"}
    else:
        from vocoder.checkpoint import load

        stored = load(voices.find_voice(voice))
        shipped = voices.Catalogue.read().voices.get(voice)
        table = {
            "checkpoint": stored.path,
            **({"card": shipped.card_path, **shipped.figures} if shipped else {}),
            "model": stored.model_name,
            "parameters": f"{stored.model.n_parameters():,}",
            **_describe(stored),
            "recipe": (stored.recipe or {}).get("name", "none"),
            "step": stored.step,
            **stored.metrics,
            **{f"made with {name}": version for name, version in stored.versions.items()},
        }
    _print_table(table.items())


def _describe(stored: Checkpoint) -> dict[str, Any]:
    from vocoder.data.image_description import ImageDescription

    if isinstance(stored.data, ImageDescription):
        return {
            "without dead ones": f"{stored.model.n_parameters(effective=True):,}",
            "images": stored.images,
            "fingerprint": stored.images.fingerprint[:12] or "none",
            "selected by": f"{stored.images.n_validation} validation images",
        }
    return {
        "at inference": f"{stored.model.fold().n_parameters():,}",
        "preset": stored.preset.name,
        "fingerprint": stored.preset.fingerprint,
        "sample rate": f"{stored.preset.sample_rate} Hz",
        "hop length": f"{stored.preset.hop_length} samples",
    }


def _print_table(rows: Any) -> None:
    rows = [(str(name), value) for name, value in rows]
    width = max((len(name) for name, _ in rows), default=0)
    for name, value in rows:
        text = f"{value:.6g}" if isinstance(value, float) else str(value)
        click.echo(f"{name:<{width}}  {text}")
