"""The command line: a command parses, calls one public function, prints.

What a command needs is imported inside it, so that `vocoder --help` answers without torch.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import click

import vocoder
from vocoder.config import suggest
from vocoder.errors import VocoderError

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
    """From recordings to mels, to a trained flow vocoder, to sound."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


def _device_option(command: Callable[..., Any]) -> Callable[..., Any]:
    text = "cpu, cuda, cuda:1, …; by default a GPU where there is one."
    return click.option("--device", help=text)(command)


@commands.command()
@click.argument("corpus", metavar="{ljspeech|wavs}")
@click.option("--source", required=True, type=click.Path(path_type=Path), help="The recordings.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The corpus to make.")
@click.option("--preset", default="tacotron2-22k", show_default=True, help="See `vocoder presets`.")
@click.option("--test-clips", type=int, help="Clips held out; by default the corpus's own rule.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of a random split.")
@click.option("--jobs", type=int, help="Processes; by default one for each core.")
@click.option("--strict", is_flag=True, help="Stop at the first bad file.")
def preprocess(
    corpus: str,
    source: Path,
    out: Path,
    preset: str,
    test_clips: int | None,
    seed: int,
    jobs: int | None,
    strict: bool,
) -> int:
    """Turn recordings into a corpus of mels and audio to train on.

    ljspeech reads metadata.csv and wavs/; wavs takes every recording below a folder. A run that was
    stopped is continued by the same command. Exits with 1 if files were left out.
    """
    from vocoder.data.preprocess import preprocess as run

    report = run(
        corpus,
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
@click.option("--data", required=True, type=click.Path(path_type=Path), help="From `preprocess`.")
@click.option("--run-dir", required=True, type=click.Path(path_type=Path), help="Results go here.")
@click.option(
    "-o", "--override", "overrides", multiple=True, metavar="KEY=VALUE", help="As train.lr=1e-4."
)
@click.option("--resume", is_flag=True, help="Continue the run in RUN_DIR, bit for bit.")
@click.option("--init-from", type=click.Path(path_type=Path), help="Start from this voice.")
@_device_option
def train(
    recipe: str,
    data: Path,
    run_dir: Path,
    overrides: tuple[str, ...],
    resume: bool,
    init_from: Path | None,
    device: str | None,
) -> None:
    """Train a voice by a recipe, shipped (see `vocoder recipes`) or a YAML file.

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
@click.argument("voice")
@click.option("--data", required=True, type=click.Path(path_type=Path), help="From `preprocess`.")
@click.option("--clips", type=click.IntRange(1), help="Score so many test clips; by default all.")
@click.option("--temperature", type=float, default=1.0, show_default=True, help="Of the noise.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the noise.")
@_device_option
def evaluate(
    voice: str, data: Path, clips: int | None, temperature: float, seed: int, device: str | None
) -> None:
    """Score a voice, or griffin-lim, on the test clips of a corpus."""
    from vocoder.evaluation import evaluate as run

    figures = run(voice, data, n_clips=clips, temperature=temperature, seed=seed, device=device)
    _print_table(figures.items())


@commands.command()
@click.argument("inputs", nargs=-1, required=True, metavar="IN...")
@click.option("-o", "--out", required=True, help="A .wav file, a folder, or - for stdout.")
@click.option("--voice", help="A checkpoint, a run folder, a shipped voice or griffin-lim.")
@click.option("--preset", help="What the mels are made with, whatever they say.")
@click.option("--temperature", type=float, default=1.0, show_default=True, help="Of the noise.")
@click.option("--seed", type=int, help="For the same audio again; by default fresh noise.")
@click.option("--dtype", default="float32", show_default=True, help="To compute in; or bfloat16, …")
@click.option("--batch-size", type=int, default=1, show_default=True, help="Utterances at once.")
@_device_option
def synthesize(
    inputs: tuple[str, ...],
    out: str,
    voice: str | None,
    preset: str | None,
    temperature: float,
    seed: int | None,
    dtype: str,
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
        speaker = load(name, device=device, dtype=dtype)
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
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="The voice.")
def import_(checkpoint: Path, config: Path, out: Path) -> None:
    """Make a voice of a checkpoint of the published NanoFlow or WaveFlow code."""
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
def info(voice: str | None) -> None:
    """Describe VOICE, or without it this installation."""
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
            "voice": stored.path,
            **({"card": shipped.card_path, **shipped.figures} if shipped else {}),
            "model": stored.model_name,
            "parameters": f"{stored.model.n_parameters():,}",
            "at inference": f"{stored.model.fold().n_parameters():,}",
            "preset": stored.preset.name,
            "fingerprint": stored.preset.fingerprint,
            "sample rate": f"{stored.preset.sample_rate} Hz",
            "hop length": f"{stored.preset.hop_length} samples",
            "recipe": (stored.recipe or {}).get("name", "none"),
            "step": stored.step,
            **stored.metrics,
            **{f"made with {name}": version for name, version in stored.versions.items()},
        }
    _print_table(table.items())


def _print_table(rows: Any) -> None:
    rows = [(str(name), value) for name, value in rows]
    width = max((len(name) for name, _ in rows), default=0)
    for name, value in rows:
        text = f"{value:.6g}" if isinstance(value, float) else str(value)
        click.echo(f"{name:<{width}}  {text}")
