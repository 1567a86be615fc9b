"""Commands that hand a voice to other programs: export."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click


@click.command()
@click.argument("voice")
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="A .onnx file.")
@click.option("--temperature", type=float, default=1.0, show_default=True, help="Of the noise.")
@click.option(
    "--precision",
    type=click.Choice(["fp32", "fp16"]),
    default="fp32",
    show_default=True,
    help="fp16: half the file; float16 layers, float32 sums and audio.",
)
@click.option("--explicit-noise", is_flag=True, help="Noise is an input, not drawn in the graph.")
def export(
    voice: str,
    out: Path,
    temperature: float,
    precision: Literal["fp32", "fp16"],
    explicit_noise: bool,
) -> None:
    """Write VOICE, a checkpoint, run folder or shipped voice, as ONNX: mel to audio.

    onnxruntime and sherpa-onnx (as a vocoder of the type hifigan) run the file. Before it appears,
    its audio is compared with the voice's own.
    """
    from vocoder.export.voice_file import export_onnx
    from vocoder.voice.load import load

    report = export_onnx(
        load(voice, device="cpu"),
        out,
        temperature=temperature,
        precision=precision,
        explicit_noise=explicit_noise,
    )
    click.echo(
        f"{report.path}: {report.n_bytes / 1e6:.1f} MB, {precision}; onnxruntime's audio is within "
        f"{report.difference:.1g} of the voice's, whose peak is {report.peak:.2g}"
    )
