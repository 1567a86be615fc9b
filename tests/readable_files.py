"""A file of every kind that is read, small, and how it is read."""

from __future__ import annotations

import gzip
import json
import pickle
import struct
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from cifar10_files import cifar_files, write_files
from helpers import GOLDEN, save_images, tiny_recipe
from image_sets import TEST, TRAIN
from PIL import Image
from safetensors.torch import save_file
from voices import save_tiny_voice, some_mel

from vocoder import checkpoint
from vocoder.data.images.prepared import prepare_images
from vocoder.data.images.readers import image_folder
from vocoder.data.images.sets import open_images
from vocoder.data.speech.corpus import Corpus
from vocoder.data.speech.given_splits import read_list
from vocoder.data.speech.journal import Journal
from vocoder.data.speech.readers.ljspeech import read_ljspeech
from vocoder.files.audio import read_wav
from vocoder.files.pickles import load_arrays
from vocoder.judging.frechet import Gaussian, read_statistics, write_statistics
from vocoder.judging.training_log import TrainingLog
from vocoder.mel.files import read_mel
from vocoder.mel.normalisation import read_mel_stats
from vocoder.official.importing import import_official_file
from vocoder.recipe import load_recipe
from vocoder.synthesis.sources import collect_sources
from vocoder.training.logger import RunLogger
from vocoder.training.resume import recipe_to_resume
from vocoder.training.trainer import Trainer
from vocoder.voice.pitch import read_f0


def sound(path: Path, **form: str) -> None:
    time_axis = np.arange(4000) / 22050
    soundfile.write(path, 0.3 * np.sin(2 * np.pi * 300 * time_axis), 22050, **form)


def pictures(path: Path) -> None:
    list(image_folder.decode([path], "RGB"))


def metadata(path: Path) -> None:
    path.write_text("a|Grüße|x\nb|y|z\n")
    sound(path.parent / "wavs/a.wav")


def read_metadata(path: Path) -> None:
    read_ljspeech(path.parent, None, 0)


def imported(path: Path) -> None:
    import_official_file(path, None, path.parent / "imported.safetensors")


def manifest(path: Path) -> None:
    corpus = Corpus.open(path.parent)
    for utterance in corpus.manifest.utterances:
        corpus.audio(utterance)


def imported_by(path: Path) -> None:
    import_official_file(GLOW, path, path.with_name("imported.safetensors"))


def trained(path: Path) -> None:
    """Train two steps on the corpus that `path` lies in."""
    last = Trainer(tiny_recipe(steps=2), path.parent, path.parent).fit()
    assert last == path


def resumed(path: Path) -> None:
    run = path.parent
    Trainer(recipe_to_resume(run, None, ()), run, run, resume=True).close()


def logged(path: Path) -> None:
    lines = [{"step": step, "train/nats_per_dim": 0.5} for step in range(5)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def read_log(path: Path) -> None:
    TrainingLog.read(path.parent).series("train/nats_per_dim")
    RunLogger(path.parent, 3).close()


def journalled(path: Path) -> None:
    for folder in ("audio", "mels"):
        (path.parent / folder).mkdir(exist_ok=True)
    clip = {"id": "a", "file": "a.wav", "size": 1, "mtime_ns": 2, "n_samples": 3, "n_clipped": 0}
    path.write_text(f"{json.dumps(SETTINGS)}\n{json.dumps(clip)}\n")


def h5_statistics(path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as file:
        file["mean"], file["scale"] = np.ones(3), np.ones(3)


def beside(path: Path) -> None:
    path.write_text('{"preset": "tacotron2-22k", "speaker": "Grüße"}')
    np.save(path.with_suffix(".npy"), MEL.numpy())


def listed(path: Path) -> None:
    for name in ("a", "b"):
        np.save(path.with_name(f"{name}.npy"), MEL.numpy())
    path.write_text("a.npy\nb.npy\n")


def opened(dataset: str, path: Path) -> None:
    images = open_images(dataset, path, n_validation=2, seed=0)
    assert len(images.train[:2]) == 2


def prepared(path: Path) -> None:
    source = save_images(path.with_name("source.npz"))
    prepare_images("arrays", source, path.parent)


def mnist(path: Path) -> None:
    for name in ("train-images-idx3-ubyte.gz", path.name):
        head = bytes([0, 0, 8, 3]) + struct.pack(">3I", 8, 4, 4)
        path.with_name(name).write_bytes(gzip.compress(head + bytes(range(128))))


def svhn(path: Path) -> None:
    savemat = pytest.importorskip("scipy.io").savemat
    for name, images in (("train_32x32.mat", TRAIN), (path.name, TEST)):
        savemat(path.with_name(name), {"X": images.transpose(2, 3, 1, 0)}, do_compression=True)


def cifar(path: Path) -> None:
    folder = write_files(path.parent / "cifar", cifar_files("binary"))
    with tarfile.open(path, "w:gz") as archive:
        archive.add(folder, "")


MEL = some_mel(9)
SETTINGS = {"source": "recordings", "preset": "tacotron2-22k"}
GAUSSIAN = Gaussian(np.zeros(3), np.eye(3), 9)
GLOW_CONFIG = {
    "data_config": {"sampling_rate": 16000, "mel_fmax": 7600.0, "hop_length": 256},
    "waveglow_config": {"WN_config": {}},
}
ENTRY = {b"data": np.zeros((2, 3), np.uint8), b"labels": [1, 2]}
GLOW = GOLDEN / "checkpoints/waveglow-pickle-fused.pt"
OLD_GLOW = GOLDEN / "checkpoints/waveglow-pickle-fused-legacy.pt"
Function = Callable[[Path], Any]
KINDS: dict[str, tuple[Function, Function]] = {
    "a.wav": (sound, lambda path: read_wav(path, sample_rate=16000)),
    "float.wav": (lambda path: sound(path, subtype="FLOAT"), read_wav),
    "gsm.wav": (lambda path: sound(path, subtype="GSM610"), read_wav),
    "a.flac": (sound, read_wav),
    "a.ogg": (sound, read_wav),
    "a.opus": (lambda path: soundfile.write(path, np.zeros(4800), 48000, "OPUS", format="OGG"),
               read_wav),
    "a.mp3": (sound, read_wav),
    "a.aiff": (sound, read_wav),
    "a.npy": (lambda path: np.save(path, MEL.numpy()), read_mel),
    "a.npz": (lambda path: np.savez_compressed(path, mel=MEL.numpy()), read_mel),
    "a.pt": (lambda path: torch.save({"mel": MEL}, path), read_mel),
    "a.safetensors": (lambda path: save_file({"mel": MEL}, path), read_mel),
    "glow.pt": (lambda path: path.write_bytes(GLOW.read_bytes()), imported),
    "old.pt": (lambda path: path.write_bytes(OLD_GLOW.read_bytes()), imported),
    "cifar.pickle": (lambda path: path.write_bytes(pickle.dumps(ENTRY, 2)),
                     lambda path: load_arrays(path.read_bytes(), path)),
    "config.json": (lambda path: path.write_text(json.dumps(GLOW_CONFIG)), imported_by),
    "voice.safetensors": (save_tiny_voice, checkpoint.load),
    "checkpoint-000000002.safetensors": (trained, resumed),
    "log.jsonl": (logged, read_log),
    "journal.jsonl": (journalled, lambda path: Journal.open(path.parent, SETTINGS)),
    "recipe.yaml": (lambda path: path.write_bytes(Path("recipes/tiny/waveglow.yaml").read_bytes()),
                    lambda path: load_recipe(str(path))),
    "manifest.json": (lambda path: None, manifest),
    "metadata.csv": (metadata, read_metadata),
    "list.txt": (lambda path: path.write_text("a.wav\nb/c.wav\n"), read_list),
    "stats.json": (lambda path: path.write_text('{"mean": [1, 2], "scale": [1, 2]}'),
                   read_mel_stats),
    "stats.npz": (lambda path: np.savez(path, mean=np.ones(3), scale=np.ones(3)), read_mel_stats),
    "stats.h5": (h5_statistics, read_mel_stats),
    "fid.npz": (lambda path: write_statistics(path, GAUSSIAN), read_statistics),
    "f0.npy": (lambda path: np.save(path, np.ones(9)), read_f0),
    "side.json": (beside, lambda path: read_mel(path.with_suffix(".npy"))),
    "inputs.txt": (listed, lambda path: collect_sources([str(path)])),
    "images.json": (prepared, lambda path: opened("arrays", path.parent)),
    "arrays.npz": (save_images, lambda path: opened("arrays", path)),
    "t10k-images-idx3-ubyte.gz": (mnist, lambda path: opened("mnist", path.parent)),
    "test_32x32.mat": (svhn, lambda path: opened("svhn", path.parent)),
    "cifar-10-binary.tar.gz": (cifar, lambda path: opened("cifar10", path)),
    "a.png": (lambda path: Image.new("RGB", (9, 9)).save(path), pictures),
    "a.jpg": (lambda path: Image.new("RGB", (9, 9)).save(path), pictures),
    "a.gif": (lambda path: Image.new("RGB", (9, 9)).save(path), pictures),
}  # fmt: skip
