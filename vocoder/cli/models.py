"""Commands on recipes and checkpoints: train, import, recipes, info."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

import vocoder
from vocoder.cli.options import device_option, print_table

if TYPE_CHECKING:
    from vocoder.checkpoint import Checkpoint


@click.command()
@click.argument("recipe", required=False)
@click.option("--data", type=click.Path(path_type=Path), help="From `preprocess`, or the images.")
@click.option("--run-dir", required=True, type=click.Path(path_type=Path), help="Results go here.")
@click.option(
    "-o", "--override", "overrides", multiple=True, metavar="KEY=VALUE", help="As train.lr=1e-4."
)
@click.option("--resume", is_flag=True, help="Continue the run in RUN_DIR, bit for bit.")
@click.option("--init-from", type=click.Path(path_type=Path), help="Start from these weights.")
@device_option
def train(
    recipe: str | None,
    data: Path | None,
    run_dir: Path,
    overrides: tuple[str, ...],
    resume: bool,
    init_from: Path | None,
    device: str | None,
) -> None:
    """Train a voice or an image model by a recipe, shipped (see `vocoder recipes`) or a YAML file.

    Ctrl-C saves and stops; --resume goes on by the run's own settings, so that RECIPE may be left
    out, and -o changes one from there on. Several GPUs: torchrun … -m vocoder train …
    """
    from vocoder.recipe import load_recipe
    from vocoder.training.resume import recipe_to_resume
    from vocoder.training.trainer import Trainer

    if recipe is None and not resume:
        raise click.UsageError("name a recipe, see `vocoder recipes`; only --resume needs none")
    trainer = Trainer(
        recipe_to_resume(run_dir, recipe, overrides)
        if resume or recipe is None
        else load_recipe(recipe, overrides),
        data,
        run_dir,
        resume=resume,
        device=device,
        init_from=init_from,
    )
    click.echo(trainer.fit())


@click.command("import")
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option("--config", required=True, type=click.Path(path_type=Path), help="Its JSON.")
@click.option(
    "-o", "--out", required=True, type=click.Path(path_type=Path), help="The checkpoint to make."
)
def import_(checkpoint: Path, config: Path, out: Path) -> None:
    """Make a checkpoint of one of the published NanoFlow, WaveFlow or mAR-SCF code."""
    from vocoder.official.importing import import_official_file

    model = import_official_file(checkpoint, config, out)
    click.echo(f"{out}: {type(model).__name__}, {model.n_parameters():,} parameters")


@click.command()
@click.argument("name", required=False)
def recipes(name: str | None) -> None:
    """List the shipped recipes, or print the one called NAME."""
    from vocoder.recipe import list_recipes, load_recipe, recipe_path

    if name is not None:
        click.echo(recipe_path(name).read_text(encoding="utf-8"), nl=False)
    else:
        print_table((recipe, load_recipe(recipe).description) for recipe in list_recipes())


@click.command()
@click.argument("voice", required=False)
def info(voice: str | None) -> None:
    """Describe a voice or image model, or without one this installation."""
    from vocoder.voice import catalogue

    if voice is None:
        import platform

        import torch

        from vocoder.device import resolve_device

        default, reason = catalogue.default_voice()
        gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
        table: dict[str, Any] = {
            "vocoder": vocoder.__version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "devices": ", ".join(["cpu", *gpus]),
            "default device": resolve_device(None),
            "voices": ", ".join(catalogue.voice_names()),
            "default voice": f"{default} ({reason})",
        }
    elif voice == catalogue.GRIFFIN_LIM:
        table = {
            "voice": voice,
            "model": "Griffin-Lim iterations, untrained",
            "preset": "any",
            "stream": "none: it needs the whole utterance",
        }
    else:
        from vocoder.checkpoint import load

        stored = load(catalogue.find_voice(voice))
        shipped = catalogue.Catalogue.read().voices.get(voice)
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
    print_table(table.items())


def _describe(stored: Checkpoint) -> dict[str, Any]:
    from vocoder.data.images.description import ImageDescription
    from vocoder.models.families.voice import VoiceModel
    from vocoder.voice.streaming import describe_stream

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
        **describe_stream(cast(VoiceModel, stored.model), stored.preset),
    }
