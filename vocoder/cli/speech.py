"""Commands that speak: synthesize."""

from __future__ import annotations

import sys
from typing import Literal

import click

from vocoder.cli.options import Size, device_option, refuse, seed_option


@click.command()
@click.argument("inputs", nargs=-1, required=True, metavar="IN...")
@click.option("-o", "--out", required=True, help="A .wav file, a folder, or - for stdout.")
@click.option("--voice", help="A checkpoint, a run folder, a shipped voice or griffin-lim.")
@click.option("--preset", help="What the mels are made with, whatever they say.")
@click.option("--temperature", type=float, default=1.0, show_default=True, help="Of the noise.")
@seed_option("For the same audio again; by default fresh noise.", default=None)
@click.option("--dtype", help="To compute in, such as float64; by default the backend's own.")
@click.option("--backend", help="reference, cpu or triton; by default the fastest that can run.")
@click.option("--memory", type=Size(), help="For an utterance on the CPU, such as 512MB.")
@click.option(
    "--denoise",
    type=click.FloatRange(0),
    default=0.0,
    metavar="STRENGTH",
    help="Subtract the voice's own hum; 0.1 is mild.",
)
@click.option("--batch-size", type=int, default=1, show_default=True, help="Utterances at once.")
@click.option("--stream", type=click.Choice(["pcm", "wav"]), help="Speak while the mel arrives.")
@device_option
@click.pass_context
def synthesize(
    context: click.Context,
    inputs: tuple[str, ...],
    out: str,
    voice: str | None,
    preset: str | None,
    temperature: float,
    seed: int | None,
    dtype: str | None,
    backend: str | None,
    memory: int | None,
    denoise: float,
    batch_size: int,
    stream: Literal["pcm", "wav"] | None,
    device: str | None,
) -> None:
    """Turn mels, or recordings (copy synthesis), into WAV files.

    IN is a mel (.npy, .npz, .pt, .safetensors), a recording (.wav, .flac, .ogg), a folder of
    either, a corpus from `preprocess`, a .txt list of files, or - for .npy on standard input.
    "× real time" is seconds of audio made per second of computing, reading and writing left out.

    With --stream, pieces of one mel come as .npy arrays one after the other on standard input, and
    go as raw 16-bit PCM, or as a WAV of unknown length, to standard output: IN and OUT are -.
    """
    from vocoder.mel.presets import get_preset
    from vocoder.synthesis.files import synthesize_files
    from vocoder.synthesis.outputs import plan_outputs
    from vocoder.synthesis.sources import STANDARD_STREAM, collect_sources, standard_input
    from vocoder.synthesis.stream import synthesize_stream
    from vocoder.voice.catalogue import default_voice
    from vocoder.voice.load import load

    to_stdout = out == STANDARD_STREAM
    if stream is None:
        sources = collect_sources(inputs)
        if to_stdout and len(sources) > 1:
            raise click.UsageError(f"-o -: standard output takes one input, not {len(sources)}")
        outputs = [sys.stdout.buffer] if to_stdout else plan_outputs(sources, out)
    else:
        refuse(context, ("batch_size",), "a stream is one utterance")
        refuse(context, ("denoise",), "is for whole utterances, not for streams")
        if inputs != (STANDARD_STREAM,) or not to_stdout:
            raise click.UsageError("--stream: from standard input to standard output; give - -o -")
    stated = None if preset is None else get_preset(preset)
    name, reason = (voice, None) if voice is not None else default_voice()
    speaker = load(name, device=device, dtype=dtype, backend=backend, memory=memory)
    if stream is None:
        report = synthesize_files(
            speaker,
            sources,
            outputs,
            preset=stated,
            temperature=temperature,
            seed=seed,
            batch_size=batch_size,
            denoise=denoise,
        )
    else:
        report = synthesize_stream(
            speaker,
            standard_input(),
            sys.stdout.buffer,
            stream,
            preset=stated,
            temperature=temperature,
            seed=seed,
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
