"""How preparing and loading a corpus grows with the number of its clips.

    python egs/corpus_scale.py --clips 100000

makes so many WAV files of two seconds, which share a few recordings of noise by hard links, and
preprocesses them. It prints the processor's time a clip and the memory of every tenth of the work,
what it takes to run the same command again, to begin a training and to draw its batches, and the
memory that each of these processes held at most. No figure of a clip should grow with the number.
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
import threading
import time
from pathlib import Path

import numpy as np

PRESET = "speecht5-16k"
RECIPE = "recorded/compare-nanoflow"
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
    """Preprocess the files in one process, and print its pace if it had anything to make."""
    from vocoder.data.speech.preprocess import preprocess

    samples: list[tuple[float, float, float]] = []
    ended = threading.Event()
    watch = threading.Thread(target=sample, args=(out / "journal.jsonl", samples, ended))
    watch.start()
    try:
        report = preprocess("wavs", source, out, preset=PRESET, n_jobs=1)
    finally:
        ended.set()
        watch.join()
    print(report)
    if report.n_made:
        tell_pace(samples, report.n_made)


def sample(
    journal: Path, samples: list[tuple[float, float, float]], ended: threading.Event
) -> None:
    """Note the bytes of the journal, the processor's seconds and the MiB held, ten times a second.

    The wall clock would tell of whatever else a machine is doing.
    """
    pages = os.sysconf("SC_PAGE_SIZE") / 2**20
    while not ended.wait(0.1):
        size = journal.stat().st_size if journal.exists() else 0
        memory = int(Path("/proc/self/statm").read_text().split()[1]) * pages
        samples.append((size, time.process_time(), memory))


def tell_pace(samples: list[tuple[float, float, float]], n_clips: int) -> None:
    """Print the processor's time a clip, and the memory, of every tenth of the journal."""
    size, seconds, memory = np.array(samples).T
    growing = np.flatnonzero(np.diff(size)) + 1  # from the first line of a clip to the last
    size, seconds, memory = size[growing], seconds[growing], memory[growing]
    bounds = np.linspace(size[0], size.max(), 11)
    each = np.diff(np.interp(bounds, size, seconds)) / (n_clips / 10) * 1000
    held = np.interp(bounds[1:], size, memory)
    print("ms of the processor a clip, by tenths: " + " ".join(f"{ms:.2f}" for ms in each))
    print("MiB at the end of each tenth: " + " ".join(f"{mib:.0f}" for mib in held))


def draw(out: Path) -> None:
    """Begin a training on the corpus, and one that goes on; print the seconds of each."""
    from vocoder.data.speech.corpus import Corpus
    from vocoder.recipe import load_recipe
    from vocoder.training.voice import VoiceTask

    start = time.process_time()
    Corpus.open(out)
    print(f"read the manifest: {time.process_time() - start:.2f} s")
    start = time.process_time()
    task = VoiceTask(load_recipe(RECIPE), out)
    task.batch(0, 0, 1)
    print(f"from the folder to the first batch: {time.process_time() - start:.2f} s")
    start = time.process_time()
    task.batch(1_000_000, 0, 1)
    print(f"the batch of step 1,000,000: {time.process_time() - start:.3f} s")
    start = time.process_time()
    for step in range(1, 201):
        task.batch(step, 0, 1)
    per_batch = (time.process_time() - start) / 200 * 1000
    print(f"a batch of {task.train.batch_size} crops, of 200: {per_batch:.1f} ms")


def run(*arguments: str) -> None:
    """Run a part of this program in a process of its own."""
    subprocess.run([sys.executable, __file__, *arguments], check=True)


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
        print(
            f"{name}: {peak:.0f} MiB at most, {time.process_time():.1f} s of the processor in all"
        )
        return
    work = arguments.work or Path(tempfile.mkdtemp())
    source, out = work / "source", work / "corpus"
    if not source.exists():
        make_source(source, arguments.clips)
    run("prepare", str(source), str(out))
    run("prepare", str(source), str(out))
    size = (out / "manifest.json").stat().st_size
    n_clips = len(json.loads((out / "manifest.json").read_text())["utterances"])
    print(f"{n_clips} clips, manifest of {size / 2**20:.1f} MiB")
    run("draw", str(out))
    if arguments.work is None:
        shutil.rmtree(work)


if __name__ == "__main__":
    main()
