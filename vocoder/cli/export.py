"""Commands that hand a voice to other programs: export."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from vocoder.cli.help import argument, command, option
from vocoder.cli.options import FILES, PATH, refine_option, seed_option, temperature_option

GRAPH = "Graph"


@command(example="vocoder export prompts-22k -o prompts-22k.onnx")
@argument("voice", "A checkpoint file, a run folder, or the name of a shipped voice.")
@option("-o", "--out", group=FILES, required=True, type=PATH, help="Write this .onnx file.")
@temperature_option(GRAPH)
@option(
    "--precision",
    group=GRAPH,
    type=click.Choice(["fp32", "fp16"]),
    default="fp32",
    show_default=True,
    help="Store the layers in 32 or in 16 bits, which halves the file; sums and audio stay in 32.",
)
@option(
    "--explicit-noise",
    group=GRAPH,
    is_flag=True,
    help="Make the noise a second input of the graph, instead of drawing it within.",
)
@seed_option(
    GRAPH,
    "Fix the seed of the noise that the graph draws, so that every session that loads the file "
    "speaks the same series; by default onnxruntime chooses one.",
    default=None,
)
@refine_option(
    GRAPH, "Refused unless it is 0, for ONNX has no inverse short-time transform.", default=0
)
def export(
    voice: str,
    out: Path,
    temperature: float,
    precision: Literal["fp32", "fp16"],
    explicit_noise: bool,
    seed: int | None,
    refine: int,
) -> None:
    """Write a voice as an ONNX graph, from mel to audio.

    The programs onnxruntime and sherpa-onnx (as a vocoder of the type hifigan) run the file. Before
    it appears, its audio is compared with the voice's own.
    """
    from vocoder.export.voice_file import export_onnx
    from vocoder.voice.load import load

    report = export_onnx(
        load(voice, device="cpu"),
        out,
        temperature=temperature,
        precision=precision,
        explicit_noise=explicit_noise,
        seed=seed,
        refine=refine,
    )
    click.echo(
        f"{report.path}: {report.n_bytes / 1e6:.1f} MB, {precision}; onnxruntime's audio is within "
        f"{report.difference:.1g} of the voice's, whose peak is {report.peak:.2g}"
    )
