"""Commands on recipes and checkpoints: train, import, recipes, info."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

import vocoder
from vocoder.cli.help import argument, command, option
from vocoder.cli.options import FILES, PATH, device_option, print_table

if TYPE_CHECKING:
    from vocoder.checkpoint import Checkpoint
    from vocoder.voice.catalogue import Default, ShippedVoice

TRAINING = "Training"


@command(example="vocoder train tiny/nanoflow --data data/mine --run-dir runs/mine")
@argument(
    "recipe",
    "The name of a shipped recipe (`vocoder recipes` lists them), or a YAML file; may be left out "
    "with --resume.",
    required=False,
)
@option(
    "--data",
    group=FILES,
    type=PATH,
    help="Train on the corpus that `vocoder preprocess` made here, or on the images that lie here.",
)
@option(
    "--run-dir",
    group=FILES,
    required=True,
    type=PATH,
    help="Write checkpoints and logs to this folder.",
)
@option(
    "--init-from",
    group=FILES,
    help="Start from the weights of this checkpoint, run folder or shipped voice, as step 0 of a "
    "new run.",
)
@option(
    "--resume",
    group=TRAINING,
    is_flag=True,
    help="Continue the run in the run folder by its own settings, bit for bit as if it had never "
    "stopped; -o changes a setting from there on.",
)
@option(
    "-o",
    "--override",
    "overrides",
    group=TRAINING,
    multiple=True,
    metavar="KEY=VALUE",
    help="Set a value of the recipe, such as train.lr=1e-4; may be given several times.",
)
@device_option
def train(
    recipe: str | None,
    data: Path | None,
    run_dir: Path,
    overrides: tuple[str, ...],
    resume: bool,
    init_from: str | None,
    device: str | None,
) -> None:
    """Train a voice or an image model by a recipe.

    Ctrl-C saves a checkpoint and stops; the same command with --resume goes on. To use several
    GPUs, put `torchrun --nproc-per-node N -m` before the command.
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
    click.echo(os.fsencode(trainer.fit()))  # the name as it is, in whatever encoding


@command("import", example="vocoder import waveglow_256channels.pt -o voice.safetensors")
@argument("checkpoint", "The file that the published code wrote.", type=PATH)
@option(
    "--config",
    group=FILES,
    type=PATH,
    help="Read the model's configuration from this JSON file, which came with the checkpoint. "
    "WaveGlow and FloWaveNet need none.",
)
@option("-o", "--out", group=FILES, required=True, type=PATH, help="Write this checkpoint file.")
def import_(checkpoint: Path, config: Path | None, out: Path) -> None:
    """Convert a checkpoint of a model's published code.

    Those of the published WaveGlow, FloWaveNet, NanoFlow, WaveFlow, Glow and mAR-SCF are told apart
    by their tensors. A WaveGlow may be a pickled model or a state dict, of any age; nothing that
    the file names is imported or run.
    """
    from vocoder.official.importing import import_official_file

    model = import_official_file(checkpoint, config, out)
    click.echo(f"{out}: {type(model).__name__}, {model.n_parameters():,} parameters")


@command(example="vocoder recipes ljspeech/nanoflow")
@argument("name", "The recipe to print; by default all are listed.", required=False)
def recipes(name: str | None) -> None:
    """List the shipped recipes, or print one of them."""
    from vocoder.files.text import read_text
    from vocoder.recipe import list_recipes, load_recipe, recipe_path

    if name is not None:
        click.echo(read_text(recipe_path(name)), nl=False)
    else:
        print_table((recipe, load_recipe(recipe).description) for recipe in list_recipes())


@command(example="vocoder info prompts-22k")
@argument(
    "voice",
    "A checkpoint file, a run folder or a shipped voice; by default this installation.",
    required=False,
)
def info(voice: str | None) -> None:
    """Describe a voice, an image model or this installation."""
    from vocoder.voice import catalogue

    if voice is None:
        import platform

        import torch

        from vocoder.data.images.reader import IMAGE_SETS
        from vocoder.data.speech.reader import DATASETS
        from vocoder.device import resolve_device
        from vocoder.registry import MODELS

        known = catalogue.Catalogue.read()
        gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
        table: dict[str, Any] = {
            "vocoder": vocoder.__version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "devices": ", ".join(["cpu", *gpus]),
            "default device": resolve_device(None),
            "voices": ", ".join(catalogue.voice_names()),
            **{f"default voice of {name}": _default(own) for name, own in known.presets.items()},
            "default voice of others": f"{catalogue.GRIFFIN_LIM} ({known.no_voice})",
            "models": ", ".join(MODELS.names()),
            "corpora": ", ".join(DATASETS.names()),
            "image sets": ", ".join(IMAGE_SETS.names()),
        }
    elif voice == catalogue.GRIFFIN_LIM:
        table = {
            "voice": voice,
            "model": "Griffin-Lim iterations, untrained",
            "preset": "any",
            "mel consistency": f"{catalogue.Catalogue.read().griffin_lim_refine} steps, where "
            "--refine is not given",
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
            **_describe(stored, shipped),
            "recipe": (stored.recipe or {}).get("name", "none"),
            "step": stored.step,
            **stored.metrics,
            **{f"made with {name}": version for name, version in stored.versions.items()},
        }
    print_table(table.items())


def _default(default: Default) -> str:
    return f"{default.voice} ({default.reason})"


def _describe(stored: Checkpoint, shipped: ShippedVoice | None) -> dict[str, Any]:
    from vocoder.data.images.description import ImageDescription
    from vocoder.models.families.voice import VoiceModel
    from vocoder.models.whitened import Whitened
    from vocoder.voice.pitch import describe_pitch
    from vocoder.voice.streaming import describe_stream

    if isinstance(stored.data, ImageDescription):
        return {
            "without dead ones": f"{stored.model.n_parameters(effective=True):,}",
            "images": stored.images,
            "fingerprint": stored.images.fingerprint[:12] or "none",
            "selected by": f"{stored.images.n_validation} validation images",
        }
    steps, in_stream = (shipped.refine, shipped.stream_refine) if shipped else (0, 0)
    inner = {}
    if isinstance(stored.model, Whitened):
        config = stored.model.config
        inner = {"inner model": f"{config.inner['name']}, behind a filter of order {config.order}"}
    return {
        **inner,
        "at inference": f"{stored.model.fold().n_parameters():,}",
        "preset": stored.preset.name,
        "fingerprint": stored.preset.fingerprint,
        "sample rate": f"{stored.preset.sample_rate} Hz",
        "hop length": f"{stored.preset.hop_length} samples",
        "pitch": describe_pitch(cast(VoiceModel, stored.model)),
        "mel consistency": f"{steps} steps, {in_stream} in a stream, where --refine is not given",
        **describe_stream(cast(VoiceModel, stored.model), stored.preset, in_stream),
    }
