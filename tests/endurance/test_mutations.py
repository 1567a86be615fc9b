"""Mutated files of every kind that is read: the project's own error, soon and in little memory.

The short form changes `SHORT` files of each kind. The long one, which docs/reliability.md reports,
is `VOCODER_MUTATIONS=700 pytest -m slow tests/endurance/test_mutations.py`.
"""

from __future__ import annotations

import os
import pickle
import random
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from helpers import GOLDEN, make_corpus
from PIL import Image
from safetensors.torch import save_file
from voices import some_mel

from vocoder import checkpoint
from vocoder.data.images.readers import image_folder
from vocoder.data.speech.corpus import Corpus
from vocoder.data.speech.given_splits import read_list
from vocoder.data.speech.readers.ljspeech import read_ljspeech
from vocoder.errors import VocoderError
from vocoder.files.audio import read_wav
from vocoder.files.pickles import load_arrays
from vocoder.mel.files import read_mel
from vocoder.mel.normalisation import read_mel_stats
from vocoder.official.importing import import_official_file
from vocoder.recipe import load_recipe

SHORT = 20
SECONDS, BYTES = 5, 1 << 30  # of computing and of memory that a file may take

# Numbers that sizes, counts and offsets become.
EDGES = (
    *(b"\xff" * 4, b"\x00" * 4, b"\xff\xff\xff\x7f", b"\x00\x00\x00\x80"),
    *(b"\xff" * 8, b"9999999"),
)


def mutated(content: bytes, chance: random.Random) -> bytes:
    """Change a file as disks, transfers and attackers do, mostly near its head."""
    data = bytearray(content)
    for _ in range(chance.choice((1, 1, 2, 8))):
        reach = len(data) if chance.random() < 0.3 else min(len(data), 600)
        place = chance.randrange(max(1, reach))
        what = chance.randrange(6)
        if what == 0 and data:
            data[place % len(data)] ^= 1 << chance.randrange(8)
        elif what == 1:
            data[place : place + 1] = chance.randbytes(chance.randrange(1, 9))
        elif what == 2:
            edge = chance.choice(EDGES)
            data[place : place + len(edge)] = edge
        elif what == 3:
            del data[place : place + chance.randrange(1, 40)]
        elif what == 4:
            data[place:place] = data[place : place + chance.randrange(1, 200)]
        else:
            del data[chance.randrange(max(1, len(data))) :]
    return bytes(data)


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


MEL = some_mel(9)
ENTRY = {b"data": np.zeros((2, 3), np.uint8), b"labels": [1, 2]}
GLOW = GOLDEN / "checkpoints/waveglow-pickle-fused.pt"
OLD_GLOW = GOLDEN / "checkpoints/waveglow-pickle-fused-legacy.pt"
KINDS: dict[str, tuple[Callable[[Path], Any], Callable[[Path], Any]]] = {
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
    "voice.safetensors": (None, checkpoint.load),  # type: ignore[dict-item]
    "recipe.yaml": (lambda path: path.write_bytes(Path("recipes/tiny/waveglow.yaml").read_bytes()),
                    lambda path: load_recipe(str(path))),
    "manifest.json": (lambda path: None, manifest),
    "metadata.csv": (metadata, read_metadata),
    "list.txt": (lambda path: path.write_text("a.wav\nb/c.wav\n"), read_list),
    "stats.json": (lambda path: path.write_text('{"mean": [1, 2], "scale": [1, 2]}'),
                   read_mel_stats),
    "a.png": (lambda path: Image.new("RGB", (9, 9)).save(path), pictures),
    "a.jpg": (lambda path: Image.new("RGB", (9, 9)).save(path), pictures),
    "a.gif": (lambda path: Image.new("RGB", (9, 9)).save(path), pictures),
}  # fmt: skip


def peak_bytes() -> int:
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_mutated_files_end_in_our_own_error(tmp_path, voice, name) -> None:
    make, read = KINDS[name]
    folder = tmp_path / "corpus"
    path = folder / name
    make_corpus(folder, n_clips=2)
    (folder / "wavs").mkdir()
    if make is None:
        path.write_bytes(voice.read_bytes())
    else:
        make(path)
    whole = path.read_bytes()
    read(path)  # what is imported on first use is no fault of a file
    for seed in range(int(os.environ.get("VOCODER_MUTATIONS", SHORT))):
        path.write_bytes(mutated(whole, random.Random(f"{name} {seed}")))
        start, memory = time.process_time(), peak_bytes()
        try:
            read(path)
        except VocoderError as error:
            assert "\n" not in str(error), seed
            assert str(folder) in str(error) or name in str(error), (seed, str(error))
        except Exception as error:
            raise AssertionError(f"{name}, mutation {seed}: {type(error).__name__}") from error
        assert time.process_time() - start < SECONDS, seed
        assert peak_bytes() - memory < BYTES, seed
