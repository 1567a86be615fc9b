"""Mutated files of every kind that is read: the project's own error, soon and in little memory.

The short form changes `SHORT` files of each kind. The long one, which docs/reliability.md reports,
is `VOCODER_MUTATIONS=5000 pytest -s -m slow tests/endurance/test_mutations.py`.
"""

from __future__ import annotations

import os
import random
import resource
import time

import pytest
from helpers import make_corpus
from readable_files import KINDS

from vocoder.errors import VocoderError

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


def peak_bytes() -> int:
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_mutated_files_end_in_our_own_error(tmp_path, name) -> None:
    make, read = KINDS[name]
    folder = tmp_path / "corpus"
    path = folder / name
    make_corpus(folder, n_clips=2)
    (folder / "wavs").mkdir()
    make(path)
    whole = path.read_bytes()
    read(path)  # what is imported on first use is no fault of a file
    n_files, n_refused, slowest = int(os.environ.get("VOCODER_MUTATIONS", SHORT)), 0, 0.0
    for seed in range(n_files):
        path.write_bytes(mutated(whole, random.Random(f"{name} {seed}")))
        start, memory = time.process_time(), peak_bytes()
        try:
            read(path)
        except VocoderError as error:
            n_refused += 1
            assert "\n" not in str(error), seed
            assert str(folder) in str(error) or name in str(error), (seed, str(error))
        except Exception as error:
            raise AssertionError(f"{name}, mutation {seed}: {type(error).__name__}") from error
        seconds = time.process_time() - start
        slowest = max(slowest, seconds)
        assert seconds < SECONDS, seed
        assert peak_bytes() - memory < BYTES, seed
    print(f"\n{name}: {n_files} files, {n_refused} refused, at most {1000 * slowest:.0f} ms")
