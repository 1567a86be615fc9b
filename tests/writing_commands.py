"""Every command that writes files, on data so small that it can be broken off again and again."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import torch
from helpers import (
    GOLDEN,
    make_corpus,
    perturb,
    save_images,
    tiny_image_recipe,
    tiny_recipe,
    write_tone,
)
from voices import TACOTRON2, some_mel

from vocoder import checkpoint
from vocoder.data.images.description import ImageDescription
from vocoder.data.images.sets import open_images
from vocoder.mel.files import write_mel
from vocoder.models.glow import Glow

NAMES = (
    *("preprocess", "preprocess-images", "train", "export", "import", "convert-mel"),
    *("synthesize", "sample", "compare", "evaluate-images"),
)
RESULTS = (".npy", ".npz", ".json", ".safetensors", ".onnx", ".wav", ".png", ".html")


@dataclass(frozen=True)
class Command:
    """A command that writes into `out`, a file or a folder.

    Attributes:
        arguments: The command line.
        out: What it writes.
        replaced: Files that are there before, and that it replaces.
    """

    arguments: tuple[object, ...]
    out: Path
    replaced: tuple[Path, ...] = ()

    def begin(self) -> None:
        """Remove what it wrote, and put what it replaces in its place."""
        if self.out.is_dir():
            shutil.rmtree(self.out)
        self.out.unlink(missing_ok=True)
        for path in self.replaced:
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(b"old")

    def started(self) -> tuple[object, ...]:
        """Return the arguments that go on with what an earlier run has left."""
        resumable = any(self.out.glob("checkpoint-*")) or (self.out / "log.jsonl").is_file()
        return (*self.arguments, "--resume") if resumable else self.arguments

    def contents(self) -> dict[Path, str]:
        """Return a digest of every result; logs have times, and hidden files are leftovers."""
        paths = [self.out] if self.out.is_file() else sorted(self.out.rglob("*"))
        return {
            path: digest(path)
            for path in paths
            if path.is_file() and not path.name.startswith(".") and path.suffix in RESULTS
        }


def digest(path: Path) -> str:
    """Return what tells a result from another, and from a part of itself."""
    content = path.read_bytes()
    # A report shows the speed of the voice, which is never the same.
    if content.startswith(b"<!") and content.rstrip().endswith(b"</html>"):
        return "a whole report"
    return hashlib.sha256(content).hexdigest()


def writing_commands(folder: Path, place: Path, voice: Path) -> dict[str, Command]:
    """Return the commands by their names.

    Args:
        folder: A folder for what they read.
        place: The folder that they write to.
        voice: The checkpoint of a voice for the preset tacotron2-22k.
    """
    mels = folder / "mels"
    mels.mkdir()
    for i in range(12):
        write_tone(folder / "recordings" / f"{i}.wav")
        write_mel(mels / f"{i}.npz", some_mel(40 + i, seed=i), TACOTRON2)
    recipe = folder / "tiny.yaml"
    training = tiny_recipe(steps=40, save_every=5, eval_every=20, keep_last=100)
    recipe.write_text(json.dumps(training.to_dict()))
    data = make_corpus(folder / "corpus")
    images = save_images(folder / "images.npz", train=400, test=20)
    glow = save_image_model(folder / "glow.safetensors", images)
    published = GOLDEN / "checkpoints/waveglow-pickle-fused.pt"
    device = ("--device", "cpu")
    commands: dict[str, tuple[tuple[object, ...], str, tuple[str, ...]]] = {
        "preprocess": (
            ("preprocess", "wavs", "--source", folder / "recordings", "--jobs", 2, "--out"),
            *("corpus", ()),
        ),
        "preprocess-images": (
            ("preprocess", "arrays", "--source", images, "--out"),
            *("arrays", ()),
        ),
        "train": (("train", recipe, "--data", data, *device, "--run-dir"), "run", ()),
        "export": (("export", voice, "-o"), "voice.onnx", ("",)),
        "import": (("import", published, "-o"), "voice.safetensors", ("",)),
        "convert-mel": (
            ("convert-mel", mels, "--to", "nanoflow-db-22k", "-o"),
            *("mels", ("0.npz", "7.npz")),
        ),
        "synthesize": (
            ("synthesize", mels, "--voice", voice, "--seed", 1, *device, "-o"),
            *("sounds", ("0.wav", "7.wav")),
        ),
        "sample": (("sample", glow, *device, "-o"), "images.png", ("",)),
        "compare": (("compare", voice, "--data", data, *device, "--report"), "page.html", ("",)),
        "evaluate-images": (
            ("evaluate-images", glow, "--data", images, *device, "--save-statistics"),
            *("statistics.npz", ("",)),
        ),
    }
    assert tuple(commands) == NAMES
    return {
        name: Command((*line, place / out), place / out, tuple(place / out / r for r in replaced))
        for name, (line, out, replaced) in commands.items()
    }


def save_image_model(path: Path, data: Path) -> Path:
    images = open_images("arrays", data, n_validation=6, seed=0)
    torch.manual_seed(0)
    model = perturb(Glow(tiny_image_recipe().config), size=0.1)
    checkpoint.save(path, model, ImageDescription.of(images, side=0, seed=0))
    return path
