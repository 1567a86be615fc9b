"""From the folder of a preprocessed corpus to one whose arrays lie in shards."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from itertools import accumulate, pairwise
from pathlib import Path

from vocoder.data.speech.corpus import MANIFEST, Corpus
from vocoder.data.speech.journal import only_run
from vocoder.data.speech.shards import begins_as_shard, divide, shard_path, write_shard
from vocoder.errors import VocoderError
from vocoder.files.atomic import atomic_path, sweep

SHARD_BYTES = 1 << 30


def shard_corpus(folder: str | Path, out: str | Path, most_bytes: int = SHARD_BYTES) -> Corpus:
    """Copy a preprocessed corpus into another folder, its arrays into shards.

    A shard may then lie on any disk that the folder has a link to. Training on either is the same
    to the bit.

    Args:
        folder: The corpus, which stays as it is.
        out: The folder to make. What a run that was killed has left in it is written anew.
        most_bytes: Bytes of a shard; a clip that is longer has one to itself.

    Raises:
        VocoderError: there is no such corpus, a file of it is damaged, or `out` holds something.
        OSError: `out` cannot be written.
    """
    corpus, out = Corpus.open(folder), Path(out)
    if most_bytes < 1:
        raise VocoderError(f"size {most_bytes}: give at least one byte")
    with only_run(out):
        _clean(out)
        utterances = corpus.manifest.utterances
        arrays = [corpus.manifest.arrays(utterance) for utterance in utterances]
        n_bytes = (sum(array.n_bytes_in_tar for array in own) for own in arrays)
        sizes = tuple(divide(n_bytes, most_bytes))
        shard_path(out, 0).parent.mkdir(exist_ok=True)
        for shard, (first, last) in enumerate(pairwise(accumulate(sizes, initial=0))):
            with atomic_path(shard_path(out, shard)) as temporary:
                write_shard(
                    temporary,
                    ((number, arrays[number]) for number in range(first, last)),
                    lambda number, kind: corpus.array(utterances[number], kind),
                )
        # A run of another size, which was killed, may have made more; a clip is to be there once.
        for path in _shards_in(out):
            if path not in {shard_path(out, shard) for shard in range(len(sizes))}:
                path.unlink()
        if hasattr(os, "sync"):
            os.sync()  # the arrays are to be on the disk before the file that vouches for them
        manifest = replace(corpus.manifest, shards=sizes)
        with atomic_path(out / MANIFEST) as temporary:
            temporary.write_bytes(manifest.to_json().encode())
    return Corpus(out, manifest)


def _clean(out: Path) -> None:
    """Remove what a killed run has left half-written.

    Raises:
        VocoderError: There is something else, which is not to be mixed with a corpus or replaced.
    """
    sweep(out, (".json",))
    sweep(shard_path(out, 0).parent, (".tar",))
    foreign = sorted({entry.name for entry in os.scandir(out)} - {"shards"})
    foreign += [f"shards/{path.name}" for path in _shards_in(out) if not begins_as_shard(path)]
    if foreign:
        raise VocoderError(f"{out}: holds {foreign[0]} already; give another folder")


def _shards_in(out: Path) -> list[Path]:
    """Return what has the name of a shard."""
    names = shard_path(out, 0).parent.glob("*.tar")
    return sorted(path for path in names if re.fullmatch(r"\d{5,}", path.stem, re.ASCII))
