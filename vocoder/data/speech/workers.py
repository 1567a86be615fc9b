"""Clips made by several processes that stop, and end, with this one."""

from __future__ import annotations

import contextlib
import logging
import math
import multiprocessing
import os
import signal
import threading
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait as wait_for
from multiprocessing.synchronize import Event

from vocoder.data.speech.journal import Record
from vocoder.data.speech.maker import Failure, Maker
from vocoder.data.speech.reader import Clip
from vocoder.errors import VocoderError

logger = logging.getLogger("vocoder")

# Clips that a worker takes at once: few enough to stop soon, many enough to hide the talking.
CHUNK = 16
# A worker takes some seconds to import torch, in which another one works off this much audio.
BYTES_PER_WORKER = 64 << 20


def worthwhile_jobs(clips: Sequence[Clip]) -> int:
    """Return how many processes the clips are worth: at most one for each core."""
    n_bytes = 0
    for clip in clips:
        with contextlib.suppress(OSError):
            n_bytes += clip.path.stat().st_size
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, min(cores or 1, math.ceil(n_bytes / BYTES_PER_WORKER)))


def results_of(
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
