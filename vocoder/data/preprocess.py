"""From a source of recordings to a preprocessed corpus, in several processes.

A run may be killed at any moment. Every file of a clip appears whole; then a line of journal.jsonl
says what it was made from. The next run keeps the clips whose line, source and files agree. The
manifest is written last and depends on the source and the settings alone.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import math
import multiprocessing
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing.connection import wait as wait_for
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vocoder.atomic import atomic_path
from vocoder.data.base import (
    SPLITS,
    Clip,
    Listing,
    Manifest,
    Utterance,
    audio_path,
    find_dataset,
    mel_path,
)
from vocoder.errors import VocoderError
from vocoder.presets import MelPreset, get_preset

logger = logging.getLogger("vocoder")

JOURNAL = "journal.jsonl"
MANIFEST = "manifest.json"
# Clips that a worker takes at once: few enough to stop soon, many enough to hide the talking.
CHUNK = 16
# A worker takes some seconds to import torch, in which another one works off this much audio.
BYTES_PER_WORKER = 64 << 20


@dataclass(frozen=True)
class PreprocessReport:
    """What a run did."""

    out: Path
    manifest: Manifest
    n_made: int  # clips made by this run
    n_kept: int  # clips that were there already
    n_clipped: int  # clips with samples beyond full scale, which were clipped
    seconds: float  # wall clock time of this run
    n_jobs: int
    failures: tuple[tuple[str, str], ...]  # (file, reason) of everything left out

    @property
    def hours(self) -> float:
        """Length of the whole corpus in hours."""
        samples = sum(utterance.n_samples for utterance in self.manifest.utterances)
        return samples / self.manifest.preset.sample_rate / 3600

    def __str__(self) -> str:
        """Say in one line what there is now and what was done for it."""
        utterances = self.manifest.utterances
        n_test = sum(utterance.split == "test" for utterance in utterances)
        done = f"made {self.n_made} clips in {self.seconds:.1f} s, {self.n_kept} were there"
        if not self.n_made:
            done = "nothing to do, all of it was there"
        return (
            f"{self.out}: {len(utterances) - n_test} training and {n_test} test clips, "
            f"{self.hours:.2f} h, preset {self.manifest.preset.name}; {self.manifest.split_rule}; "
            f"{done}"
        )


@dataclass(frozen=True)
class Record:
    """A line of the journal: what the files of a clip were made from."""

    id: str
    file: str  # within the source
    size: int  # its bytes
    mtime_ns: int  # its time of change
    n_samples: int  # of the stored audio
    n_clipped: int  # samples beyond full scale


@dataclass(frozen=True)
class Failure:
    """A file that cannot be used."""

    file: str  # within the source
    reason: str


def preprocess(
    corpus: str,
    source: str | Path,
    out: str | Path,
    *,
    preset: str | MelPreset = "tacotron2-22k",
    test_clips: int | None = None,
    seed: int = 0,
    n_jobs: int | None = None,
    strict: bool = False,
) -> PreprocessReport:
    """Turn a source of recordings into a corpus for training, or continue where a run stopped.

    Worker processes are spawned, so a script that calls this with more than one job needs the usual
    `if __name__ == "__main__":`.

    Args:
        corpus: name of the reader, "ljspeech" or "wavs".
        source: the folder it reads.
        out: the folder to make, or to continue.
        preset: recipe of the mels.
        test_clips: clips held out for the test; None: a tenth.
        seed: of the split, where it is random.
        n_jobs: processes; None: as many as there are cores and the work is worth.
        strict: stop at the first file that cannot be used, instead of leaving it out.

    Raises:
        VocoderError: the source cannot be used; `out` holds something else, or was made with other
            settings; nothing usable is left; or, with `strict`, any file cannot be used.
        OSError: `out` cannot be written.
        KeyboardInterrupt: on Ctrl-C or SIGTERM; the same call continues.
    """
    begin = time.monotonic()
    source, out = Path(source), Path(out)
    preset = get_preset(preset) if isinstance(preset, str) else preset
    if n_jobs is not None and n_jobs < 1:
        raise VocoderError(f"n_jobs: {n_jobs}; give 1 or more")
    listing = find_dataset(corpus)(source, test_clips, seed)
    if strict and listing.problems:
        raise VocoderError(f"{source}: " + ": ".join(listing.problems[0]))
    settings = {
        "corpus": corpus,
        "source": str(source.resolve()),
        "preset": preset.name,
        "fingerprint": preset.fingerprint,
        "test_clips": test_clips,
        "seed": seed,
    }
    with _only_run(out), _interrupted_by_sigterm():
        journal = Journal.open(out, settings)
        try:
            maker = Maker(source, out, preset)
            records = _kept(maker, listing.clips, journal)
            n_kept = len(records)
            todo = [clip for clip in listing.clips if clip.id not in records]
            n_jobs = n_jobs or _worthwhile_jobs(todo)
            failures = list(listing.problems)
            with journal.appending(records.values()) as append:
                for result in _results(maker, todo, n_jobs, n_kept):
                    if isinstance(result, Record):
                        append(result)
                        records[result.id] = result
                    elif strict:
                        raise VocoderError(f"{source / result.file}: {result.reason}")
                    else:
                        failures.append((result.file, result.reason))
            failures.sort()
            utterances = _utterances(listing, records, preset, source, failures)
            manifest = Manifest(corpus, preset, seed, listing.split_rule, utterances)
            _finish(out, manifest, journal, records)
        finally:
            _sweep(out)
    n_clipped = sum(record.n_clipped > 0 for record in records.values())
    if n_clipped:
        logger.warning("%d clips go beyond full scale and were clipped", n_clipped)
    return PreprocessReport(
        out=out,
        manifest=manifest,
        n_made=len(records) - n_kept,
        n_kept=n_kept,
        n_clipped=n_clipped,
        seconds=time.monotonic() - begin,
        n_jobs=n_jobs,
        failures=tuple(failures),
    )


# ---- the state of a folder ----


class Journal:
    """What the files in a corpus folder were made from: the settings, then a line for each clip."""

    def __init__(self, path: Path, settings: Mapping[str, Any]) -> None:
        self.path = path
        self.settings = settings
        self.records: dict[str, Record] = {}

    @classmethod
    def open(cls, out: Path, settings: Mapping[str, Any]) -> Journal:
        """Read the journal of the folder `out`, or begin one.

        Raises:
            VocoderError: the folder is not one of ours, or was made with other settings.
        """
        journal = cls(out / JOURNAL, settings)
        try:
            content = journal.path.read_bytes()
        except FileNotFoundError:
            if foreign := [name for name in ("audio", "mels", MANIFEST) if (out / name).exists()]:
                raise VocoderError(
                    f"{out}: holds {foreign[0]} but no {JOURNAL}, so it cannot be continued; "
                    "give another folder"
                ) from None
            journal._rewrite(())
        else:
            journal._read(content)
        for path in (audio_path(out, ""), mel_path(out, "")):
            path.parent.mkdir(exist_ok=True)
        _sweep(out)
        return journal

    def _read(self, content: bytes) -> None:
        # A kill may tear the last line, and a failing disk any: the clip of such a line is made
        # again. Without the first line nothing is known.
        head, *lines = content.split(b"\n")
        try:
            before = json.loads(head)
            before["source"]
        except (ValueError, KeyError, TypeError, RecursionError):
            raise VocoderError(f"{self.path}: damaged; give another folder, or remove it") from None
        differences = [
            f"{name} {before.get(name)!r}, now {value!r}"
            for name, value in self.settings.items()
            if before.get(name) != value
        ]
        if differences:
            raise VocoderError(
                f"{self.path.parent}: was made with {'; '.join(differences)}; give the same again, "
                "another folder, or remove this one"
            )
        for line in lines:
            with contextlib.suppress(ValueError, TypeError, RecursionError):
                record = Record(**json.loads(line))
                self.records[record.id] = record

    @contextlib.contextmanager
    def appending(self, records: Iterable[Record]) -> Iterator[Callable[[Record], Any]]:
        """Keep only `records`, and give a function that adds one to the file at once."""
        self._rewrite(records)
        with open(self.path, "ab", buffering=0) as file:
            yield lambda record: file.write(_line(vars(record)))

    def _rewrite(self, records: Iterable[Record]) -> None:
        lines = [_line(self.settings), *(_line(vars(record)) for record in records)]
        content = b"".join(lines)
        if not self.path.exists() or self.path.read_bytes() != content:
            with atomic_path(self.path) as temporary:
                temporary.write_bytes(content)

    def close(self, records: Iterable[Record]) -> None:
        """Write the finished journal, sorted by id."""
        self._rewrite(sorted(records, key=lambda record: record.id))


def _line(values: Mapping[str, Any]) -> bytes:
    # ASCII, since a file name may hold bytes that are no UTF-8.
    return json.dumps(values).encode() + b"\n"


def _kept(maker: Maker, clips: Iterable[Clip], journal: Journal) -> dict[str, Record]:
    """Return the records of the clips that need not be made again."""
    kept, n_changed, n_lost = {}, 0, 0
    for clip in clips:
        record = journal.records.get(clip.id)
        if record is None:
            continue
        with contextlib.suppress(OSError):
            if maker.source_state(clip) != (record.file, record.size, record.mtime_ns):
                n_changed += 1
            elif not maker.has_files(record):
                n_lost += 1
            else:
                kept[clip.id] = record
    if n_changed:
        logger.warning("%d clips changed in the source and are made again", n_changed)
    if n_lost:
        logger.warning("%d clips lost their files and are made again", n_lost)
    if n_changed or n_lost:
        # What the manifest says of them is about to become wrong.
        (maker.out / MANIFEST).unlink(missing_ok=True)
    return kept


def _utterances(
    listing: Listing,
    records: Mapping[str, Record],
    preset: MelPreset,
    source: Path,
    failures: Sequence[tuple[str, str]],
) -> tuple[Utterance, ...]:
    utterances = tuple(
        Utterance(clip.id, clip.split, n_samples, preset.n_frames(n_samples))
        for clip in sorted(listing.clips, key=lambda clip: clip.id)
        if clip.id in records
        for n_samples in (records[clip.id].n_samples,)
    )
    missing = [
        split for split in SPLITS if not any(utterance.split == split for utterance in utterances)
    ]
    if missing:
        which = f"{missing[0]} clip" if utterances else "clip"
        first = f"; the first of {len(failures)}: {': '.join(failures[0])}" if failures else ""
        raise VocoderError(f"{source}: no usable {which}; mend the files{first}")
    return utterances


def _finish(out: Path, manifest: Manifest, journal: Journal, records: Mapping[str, Record]) -> None:
    """Write the manifest, then remove the files that it does not list."""
    content = manifest.to_json().encode()
    path = out / MANIFEST
    if not path.exists() or path.read_bytes() != content:
        if hasattr(os, "sync"):
            os.sync()  # the arrays are to be on the disk before the file that vouches for them
        with atomic_path(path) as temporary:
            temporary.write_bytes(content)
    journal.close(records.values())
    for folder in (audio_path(out, "").parent, mel_path(out, "").parent):
        for file in folder.glob("*.npy"):
            if file.stem not in records:
                file.unlink()


def _sweep(out: Path) -> None:
    """Remove the temporary files of a run that was killed."""
    pattern = re.compile(r"\..*\.[a-z0-9_]{8}\.(npy|json|jsonl)")
    for folder in (out, audio_path(out, "").parent, mel_path(out, "").parent):
        with contextlib.suppress(FileNotFoundError):
            for entry in os.scandir(folder):
                if pattern.fullmatch(entry.name):
                    os.unlink(entry.path)


@contextlib.contextmanager
def _only_run(out: Path) -> Iterator[None]:
    """Make the folder `out` and hold it, so that no second run works in it."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise VocoderError(f"{out}: not a folder; give another one") from None
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    handle = os.open(out, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            # Some network file systems have no locks.
            if error.errno in (errno.EAGAIN, errno.EACCES):
                raise VocoderError(f"{out}: another run is at work here; wait for it") from None
        yield
    finally:
        os.close(handle)


# ---- the work ----


class Maker:
    """Makes the files of a clip; cheap to send to another process."""

    def __init__(self, source: Path, out: Path, preset: MelPreset) -> None:
        self.source = source
        self.out = out
        self.preset = preset

    def source_state(self, clip: Clip) -> tuple[str, int, int]:
        """Return the file of a clip within the source, its size and its time of change."""
        state = clip.path.stat()
        return str(clip.path.relative_to(self.source)), state.st_size, state.st_mtime_ns

    def has_files(self, record: Record) -> bool:
        """Tell whether the files of a clip are there in full length."""
        n_values = self.preset.n_mels * self.preset.n_frames(record.n_samples)
        return (
            audio_path(self.out, record.id).stat().st_size > 2 * record.n_samples
            and mel_path(self.out, record.id).stat().st_size > 4 * n_values
        )

    def make(self, clip: Clip) -> Record | Failure:
        """Write the audio and the mel of one clip.

        Raises:
            OSError: a file cannot be written; that is no failure of the clip.
        """
        import torch

        from vocoder.audio import read_int16
        from vocoder.mel import MelSpectrogram

        try:
            file, size, mtime_ns = self.source_state(clip)
            audio, n_clipped = read_int16(clip.path, sample_rate=self.preset.sample_rate)
        except VocoderError as error:
            reason = str(error).removeprefix(f"{clip.path}: ")
            return Failure(str(clip.path.relative_to(self.source)), reason)
        except OSError as error:
            reason = error.strerror or str(error)
            return Failure(str(clip.path.relative_to(self.source)), reason)
        n_samples = len(audio) // self.preset.hop_length * self.preset.hop_length
        if n_samples < self.preset.min_samples:
            return Failure(
                file,
                f"too short, {len(audio)} samples; preset {self.preset.name} needs "
                f"{self.preset.min_samples} in whole frames of {self.preset.hop_length}",
            )
        samples = audio[:n_samples]
        # The mel is that of the audio as stored, which is what training sees.
        stored = torch.from_numpy(samples.astype(np.float32)).mul_(1 / 32768)
        with torch.inference_mode():
            mel = MelSpectrogram(self.preset)(stored).numpy()
        _write_array(audio_path(self.out, clip.id), samples)
        _write_array(mel_path(self.out, clip.id), mel)
        return Record(clip.id, file, size, mtime_ns, n_samples, n_clipped)


def _write_array(path: Path, array: npt.NDArray[Any]) -> None:
    # Not np.save: on a full disk it loses the reason. Not synced: waiting for the disk would take
    # longer than the mel, and a file that a power cut shortens is found by its size.
    array = np.ascontiguousarray(array)
    try:
        with atomic_path(path, sync=False) as temporary, open(temporary, "wb") as file:
            header = np.lib.format.header_data_from_array_1_0(array)
            np.lib.format.write_array_header_1_0(file, header)
            file.write(array.data)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None


def _worthwhile_jobs(clips: Sequence[Clip]) -> int:
    n_bytes = 0
    for clip in clips:
        with contextlib.suppress(OSError):
            n_bytes += clip.path.stat().st_size
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, min(cores or 1, math.ceil(n_bytes / BYTES_PER_WORKER)))


def _results(
    maker: Maker, clips: Sequence[Clip], n_jobs: int, n_kept: int
) -> Iterator[Record | Failure]:
    """Yield what became of each clip, in any order, behind a progress bar."""
    from tqdm import tqdm

    total = n_kept + len(clips)
    n_jobs = min(n_jobs, math.ceil(len(clips) / CHUNK))
    work = _in_this_process if n_jobs <= 1 else _in_processes
    with (
        tqdm(total=total, initial=n_kept, unit="clip", disable=None) as bar,
        contextlib.closing(work(maker, clips, n_jobs)) as results,
    ):
        for result in results:
            bar.update()
            yield result


Results = Generator["Record | Failure", None, None]


def _in_this_process(maker: Maker, clips: Sequence[Clip], n_jobs: int) -> Results:
    for clip in clips:
        with _one_thread():
            result = maker.make(clip)
        yield result


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Compute as a worker does: more threads may round differently."""
    import torch

    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(n_threads)


def _in_processes(maker: Maker, clips: Sequence[Clip], n_jobs: int) -> Results:
    # Forking would copy locks that threads of torch may hold.
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    said: set[str] = set()
    chunks = [clips[start : start + CHUNK] for start in range(0, len(clips), CHUNK)]
    pool = ProcessPoolExecutor(n_jobs, context, initializer=_start_worker, initargs=(maker, stop))
    try:
        with _sigint_blocked():
            futures = [pool.submit(_make_chunk, chunk) for chunk in chunks]
        for future in as_completed(futures):
            results, messages = future.result()
            for message in messages:
                if message not in said:
                    logger.warning(message)
                    said.add(message)
            yield from results
    except BrokenProcessPool:
        raise VocoderError(
            "preprocess: a worker process died, perhaps for want of memory; run it again with "
            'fewer jobs to continue (a script that calls it needs `if __name__ == "__main__":`)'
        ) from None
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)


_maker: Maker
_stop: Event
_messages: list[str]


def _start_worker(maker: Maker, stop: Event) -> None:
    global _maker, _stop, _messages
    import torch

    torch.set_num_threads(1)
    _maker, _stop, _messages = maker, stop, []
    # Every worker would say the same; the parent says it once.
    handler = logging.Handler()
    handler.emit = lambda record: _messages.append(record.getMessage())  # type: ignore[method-assign]
    logger.addHandler(handler)
    logger.propagate = False
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait_for([parent.sentinel])
    os._exit(1)


def _make_chunk(clips: Sequence[Clip]) -> tuple[list[Record | Failure], list[str]]:
    results = []
    for clip in clips:
        if _stop.is_set():
            break
        results.append(_maker.make(clip))
    messages = _messages.copy()
    _messages.clear()
    return results, messages


@contextlib.contextmanager
def _sigint_blocked() -> Iterator[None]:
    """Make the processes that start here deaf to Ctrl-C, which the parent answers for all."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def _interrupted_by_sigterm() -> Iterator[None]:
    """Take SIGTERM for Ctrl-C, where this thread may."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL if before is None else before)
