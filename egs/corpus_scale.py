"""How preparing and loading a corpus grows with the number of its clips.

    python egs/corpus_scale.py --clips 100000

makes so many WAV files of two seconds, which share a few recordings of noise by hard links, and
preprocesses them. It prints the seconds a clip of every tenth of the work, what it takes to run the
same command again, to open the corpus and to draw the first batches of a training, and the memory
that each of these processes held at most. The figures of a clip should not grow with the number.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

PRESET = "speecht5-16k"
SECONDS = 2.0
RECORDINGS = 50  # that differ; file systems allow some thousands of links to each


def make_source(folder: Path, n_clips: int) -> None:
    """Write WAV files that are named apart and share their bytes."""
    from vocoder.files.audio import write_wav

    folder.mkdir(parents=True)
    generator = np.random.default_rng(0)
    for number in range(n_clips):
        path = folder / f"{number // 1000:03}" / f"{number:06}.wav"
        path.parent.mkdir(exist_ok=True)
        if number < RECORDINGS:
            noise = 0.1 * generator.standard_normal(int(SECONDS * 16000))
            write_wav(path, noise.astype(np.float32), 16000)
        else:
            os.link(folder / "000" / f"{number % RECORDINGS:06}.wav", path)


def prepare(source: Path, out: Path) -> None:
    """Preprocess the files in one process."""
    from vocoder.data.speech.preprocess import preprocess

    preprocess("wavs", source, out, preset=PRESET, n_jobs=1)


def draw(out: Path) -> None:
    """Open the corpus and draw batches as a training does; print the seconds of each."""
    from vocoder.data.speech.corpus import Corpus
    from vocoder.data.speech.crops import Crops

    start = time.perf_counter()
    corpus = Corpus.open(out)
    print(f"open the corpus: {time.perf_counter() - start:.2f} s")
    start = time.perf_counter()
    crops = Crops(corpus, 16384, seed=0)
    crops.batch(0, 8, 0, 1)
    print(f"first batch: {time.perf_counter() - start:.2f} s")
    start = time.perf_counter()
    for step in range(1, 201):
        crops.batch(step, 8, 0, 1)
    print(f"a batch of 8 crops, of 200: {(time.perf_counter() - start) / 200 * 1000:.1f} ms")


def run(*arguments: str) -> None:
    """Run a part of this program in a process of its own, and print its time and its memory."""
    start = time.perf_counter()
    subprocess.run([sys.executable, __file__, *arguments], check=True)
    print(f"{arguments[0]}: {time.perf_counter() - start:.1f} s in all")


def tell_pace(out: Path) -> None:
    """Print how long the clips of each tenth of the journal took."""
    times = [path.stat().st_mtime for path in sorted((out / "mels").iterdir())]
    times.sort()
    bounds = np.linspace(0, len(times) - 1, 11).astype(int)
    each = np.diff(np.array(times)[bounds]) / np.diff(bounds) * 1000
    print("ms a clip, by tenths of the work: " + " ".join(f"{ms:.2f}" for ms in each))


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("part", nargs="*", help=argparse.SUPPRESS)
    parser.add_argument("--clips", type=int, default=100_000, help="make so many clips")
    parser.add_argument("--work", type=Path, help="keep the files in this folder")
    arguments = parser.parse_args()
    if arguments.part:
        name, *places = arguments.part
        {"prepare": prepare, "draw": draw}[name](*map(Path, places))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"{name}: {peak:.0f} MiB at most")
        return
    work = arguments.work or Path(tempfile.mkdtemp())
    source, out = work / "source", work / "corpus"
    if not source.exists():
        make_source(source, arguments.clips)
    run("prepare", str(source), str(out))
    tell_pace(out)
    run("prepare", str(source), str(out))
    size = (out / "manifest.json").stat().st_size
    n_clips = len(json.loads((out / "manifest.json").read_text())["utterances"])
    print(f"{n_clips} clips, manifest of {size / 2**20:.1f} MiB")
    run("draw", str(out))
    if arguments.work is None:
        shutil.rmtree(work)


if __name__ == "__main__":
    main()
