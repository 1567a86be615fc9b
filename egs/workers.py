"""Work in processes of their own, at most so many at once, which end when this one does.

Each piece of work has a fresh process, so that one that is killed, or told to stop, never goes on
with another piece.
"""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

INTERVAL = 1.0  # seconds between two looks at the parent, and between two signals


class StoppedError(Exception):
    """A training that was told to stop, by Ctrl-C or SIGTERM, and has saved itself."""


@contextmanager
def workers(n_jobs: int) -> Iterator[Callable[..., Future[Any]]]:
    """Give a function that has work done, by a function and its arguments; return when all is done.

    On Ctrl-C, SIGTERM, or when this process is killed, no further work begins, and the processes
    get SIGTERM, on which a training saves itself.

    Args:
        n_jobs: Number of processes at once.

    Raises:
        StoppedError: Ctrl-C or SIGTERM has come, and the processes have ended.
    """
    futures: list[Future[Any]] = []

    def submit(function: Callable[..., Any], *arguments: Any) -> Future[Any]:
        futures.append(threads.submit(_alone, function, arguments))
        return futures[-1]

    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C does
    try:
        with ThreadPoolExecutor(n_jobs) as threads:
            try:
                yield submit
            except KeyboardInterrupt:
                threads.shutdown(wait=False, cancel_futures=True)
                while not all(future.done() for future in futures):
                    for process in multiprocessing.active_children():
                        process.terminate()
                    time.sleep(INTERVAL)
                raise StoppedError("stopped") from None
    finally:
        signal.signal(signal.SIGTERM, before)


def _alone(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    """Return what a function returns in a process of its own, or raise what it raises there."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, spawn, initializer=_end_with, initargs=(os.getpid(),)) as pool:
        return pool.submit(function, *arguments).result()


def _end_with(parent: int) -> None:
    """Let this process end when its parent has."""
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(INTERVAL)
    while True:  # A training heeds the first and saves itself; what comes after it does not.
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(INTERVAL)
