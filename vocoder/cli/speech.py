"""Commands that speak: synthesize, serve."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from vocoder.cli.help import argument, command, option
from vocoder.cli.options import (
    COMPUTING,
    FILES,
    PATH,
    SOUND,
    Size,
    device_option,
    refine_option,
    refuse,
    seed_option,
    temperature_option,
)

if TYPE_CHECKING:
    from vocoder.mel.normalisation import Scale
    from vocoder.synthesis.origin import MelOrigin
    from vocoder.synthesis.outputs import Report
    from vocoder.synthesis.speakers import Speakers


def _mel_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add what is stated of the mels: --preset, --mel-stats, --mel-scale."""
    for add in reversed(
        (
            option(
                "--preset",
                group=FILES,
                help="The mels were made with this preset, whatever their files say.",
            ),
            option(
                "--mel-stats",
                group=FILES,
                type=PATH,
                metavar="FILE",
                help="The mels are z-scores by the means and scales in this .npz, .npy, .h5 or "
                ".json file, which their model was trained with.",
            ),
            option(
                "--mel-scale",
                group=FILES,
                type=click.Choice(["db", "log10", "ln"]),
                help="The mels hold this logarithm, and are otherwise of their preset.",
            ),
        )
    ):
        command = add(command)
    return command


_voice_option = option(
    "--voice",
    group=SOUND,
    help="Speak with this checkpoint, run folder, shipped voice or griffin-lim.",
)

_refine_option = refine_option(
    SOUND,
    "Take the difference between the mel of the sound and the one given out of the sound, this "
    "many times; by default as often as the voice wants, most of them not at all.",
)

_pitch_option = option(
    "--pitch",
    group=SOUND,
    type=float,
    default=1.0,
    show_default=True,
    metavar="FACTOR",
    help="Speak at this multiple of the pitch, such as 1.2, with the timbre kept; `vocoder info` "
    "tells whether a voice can.",
)
_peak_option = option(
    "--peak-limit",
    group=SOUND,
    type=float,
    metavar="PEAK",
    help="Play an utterance softer whose samples would go beyond this, such as 0.95, and say by "
    "how much; by default what goes beyond full scale is clipped, and counted.",
)

_dtype_option = option(
    "--dtype",
    group=COMPUTING,
    help="Compute in this type, such as float64, or in the fastest, which is auto; by default in "
    "the backend's own.",
)


def _origin(preset: str | None, mel_stats: Path | None, mel_scale: Scale | None) -> MelOrigin:
    """Return what the options state of the mels."""
    from vocoder.mel.normalisation import read_mel_stats
    from vocoder.mel.presets import get_preset
    from vocoder.synthesis.origin import MelOrigin

    return MelOrigin(
        None if preset is None else get_preset(preset),
        None if mel_stats is None else read_mel_stats(mel_stats),
        mel_scale,
    )


@command(example="vocoder synthesize mel.npz -o speech.wav")
@argument(
    "inputs",
    "Mels (.npy, .npz, .pt, .safetensors), recordings (.wav, .flac, .mp3 and others), folders of "
    "either, a corpus of `vocoder preprocess`, a .txt list of files, or - for .npy on standard "
    "input.",
    nargs=-1,
    required=True,
    metavar="IN...",
)
@option(
    "-o",
    "--out",
    group=FILES,
    required=True,
    help="Write to this .wav file, into this folder, or to standard output if it is -.",
)
@_mel_options
@option(
    "--stream",
    group=FILES,
    type=click.Choice(["pcm", "wav"]),
    help="Speak from standard input to standard output in this form, while the mel arrives.",
)
@_voice_option
@temperature_option(SOUND)
@seed_option(
    SOUND,
    "Draw the noise by this number, for the same audio again; by default it is fresh.",
    default=None,
)
@_refine_option
@_pitch_option
@option(
    "--f0",
    group=SOUND,
    type=PATH,
    metavar="FILE",
    help="Speak at the pitch in this .npy file, one value in Hz for each frame of the mel, 0 where "
    "there is no voice.",
)
@option(
    "--denoise",
    group=SOUND,
    type=click.FloatRange(0),
    default=0.0,
    metavar="STRENGTH",
    help="Subtract the voice's own hum with this strength; 0.1 is mild.",
)
@_peak_option
@option(
    "--batch-size",
    group=COMPUTING,
    type=int,
    default=1,
    show_default=True,
    help="Speak this many utterances at once.",
)
@device_option
@option(
    "--backend",
    group=COMPUTING,
    help="Compute by reference, cpu or triton; by default by the fastest that can run.",
)
@_dtype_option
@option(
    "--memory",
    group=COMPUTING,
    type=Size(),
    help="Plan with this much memory for an utterance on the CPU, such as 512MB.",
)
@click.pass_context
def synthesize(
    context: click.Context,
    inputs: tuple[str, ...],
    out: str,
    voice: str | None,
    preset: str | None,
    mel_stats: Path | None,
    mel_scale: Scale | None,
    temperature: float,
    seed: int | None,
    dtype: str | None,
    backend: str | None,
    memory: int | None,
    refine: int | None,
    pitch: float,
    f0: Path | None,
    denoise: float,
    peak_limit: float | None,
    batch_size: int,
    stream: Literal["pcm", "wav"] | None,
    device: str | None,
) -> None:
    """Turn mels into speech, or recordings by copy synthesis.

    Copy synthesis computes the mel of a recording and speaks it again.

    The figure "× real time" is seconds of audio made in each second of computing; reading and
    writing are left out.

    With --stream, pieces of one mel come as .npy arrays one after the other on standard input, and
    go as raw 16-bit PCM, or as a WAV of unknown length, to standard output. Give - -o - for that.
    """
    from vocoder.synthesis.files import synthesize_files
    from vocoder.synthesis.outputs import plan_outputs
    from vocoder.synthesis.sources import STANDARD_STREAM, collect_sources, standard_input
    from vocoder.synthesis.speakers import Speakers
    from vocoder.synthesis.stream import synthesize_stream
    from vocoder.voice.pitch import read_f0

    to_stdout = out == STANDARD_STREAM
    if stream is None:
        sources = collect_sources(inputs)
        if to_stdout and len(sources) > 1:
            raise click.UsageError(f"-o -: standard output takes one input, not {len(sources)}")
        outputs = [sys.stdout.buffer] if to_stdout else plan_outputs(sources, out)
    else:
        refuse(context, ("batch_size",), "has no meaning with --stream, which speaks one utterance")
        refuse(
            context,
            ("denoise", "peak_limit", "f0"),
            "is for whole utterances, and cannot be used with --stream",
        )
        if inputs != (STANDARD_STREAM,) or not to_stdout:
            raise click.UsageError(
                "--stream: works from standard input to standard output; give - -o -"
            )
    origin = _origin(preset, mel_stats, mel_scale)
    speakers = Speakers(voice, device=device, dtype=dtype, backend=backend, memory=memory)
    if stream is None:
        report = synthesize_files(
            speakers,
            sources,
            outputs,
            origin=origin,
            temperature=temperature,
            seed=seed,
            batch_size=batch_size,
            refine=refine,
            pitch=pitch,
            f0=None if f0 is None else read_f0(f0),
            denoise=denoise,
            peak_limit=peak_limit,
        )
    else:
        report = synthesize_stream(
            speakers.first(origin.preset),
            standard_input(),
            sys.stdout.buffer,
            stream,
            origin=origin,
            temperature=temperature,
            seed=seed,
            refine=refine,
            pitch=pitch,
        )
    _tell(report, speakers)


def _tell(report: Report, speakers: Speakers) -> None:
    """Print what was done, and why these voices spoke where nobody named one."""
    for file, n_clipped in report.clipped.items():
        remedy = "; --peak-limit 1 plays all of it softer instead"
        click.echo(f"vocoder: {file}: {n_clipped} samples were clipped{remedy}", err=True)
    for file, gain in report.gains.items():
        softer = -20 * math.log10(gain)
        click.echo(f"vocoder: {file}: played {softer:.1f} dB softer, for the peak limit", err=True)
    for preset, default in speakers.defaults.items():
        click.echo(
            f"vocoder: voice {default.voice}, the default for {preset}: {default.reason}", err=True
        )
    files = "file" if report.n_files == 1 else "files"
    click.echo(
        f"vocoder: {report.n_files} {files}, {report.audio_seconds:.2f} s of audio in "
        f"{report.compute_seconds:.2f} s: {report.times_real_time:.2f} × real time "
        f"({speakers}, {speakers.voices[0].device})",
        err=True,
    )


@command(example="vocoder serve --stdio --voice prompts-22k")
@option(
    "--stdio",
    group=FILES,
    is_flag=True,
    required=True,
    help="Take mels from standard input, and give audio to standard output.",
)
@_mel_options
@_voice_option
@temperature_option(SOUND)
@seed_option(
    SOUND,
    "Draw the noise of every utterance by this number; by default it is fresh.",
    default=None,
)
@_refine_option
@_pitch_option
@_peak_option
@device_option
@_dtype_option
def serve(
    stdio: bool,
    preset: str | None,
    mel_stats: Path | None,
    mel_scale: Scale | None,
    voice: str | None,
    temperature: float,
    seed: int | None,
    refine: int | None,
    pitch: float,
    peak_limit: float | None,
    device: str | None,
    dtype: str | None,
) -> None:
    """Speak one utterance after the other for another program.

    Each .npy array (bands, frames) on standard input is the mel of one utterance. It is answered on
    standard output by a line of JSON and, behind it, so many bytes of 16-bit PCM as the line says;
    a bad one by a line with an error, after which the next may come. The first line tells of the
    voice. See docs/serving.md.
    """
    from vocoder.synthesis.service import Service
    from vocoder.synthesis.sources import standard_input
    from vocoder.synthesis.speakers import Speakers

    origin = _origin(preset, mel_stats, mel_scale)
    speaker = Speakers(voice, device=device, dtype=dtype).first(origin.preset)
    service = Service(
        speaker,
        origin,
        temperature=temperature,
        seed=seed,
        refine=refine,
        pitch=pitch,
        peak_limit=peak_limit,
    )
    n = service.run(standard_input(), sys.stdout.buffer)
    click.echo(f"vocoder: answered {n} arrays ({speaker.name}, {speaker.device})", err=True)
