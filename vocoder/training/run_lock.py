"""One training at a time in a run's folder, on this machine or on another that shares the folder.

A lock of the operating system is freed by the kernel when its process ends, however it ends: a
killed training never blocks the next, and a reused process id never looks like a living one. Such a
lock tells nothing of its holder, and on some shared file systems another machine does not see it.
The locked file therefore names its holder, and its time of change is a heartbeat. (The library
filelock has the first half; its lock files are never taken from a machine that has died.)
"""

from __future__ import annotations

import errno
import json
import os
import socket
import threading
import time
import weakref
from contextlib import suppress
from pathlib import Path
from typing import Any

from vocoder.errors import VocoderError
from vocoder.files.writing import naming
from vocoder.training.notices import notice

HEARTBEAT = 5.0  # seconds between two changes of the file's time
PATIENCE = 3.5  # heartbeats to watch for before another machine's training counts as dead
_HELD_BY_ANOTHER = (errno.EAGAIN, errno.EACCES)


class RunLock:
    """Holds the file `run.lock` of a folder until `release`, which also runs when Python exits.

    Args:
        folder: the run's folder, which must exist.

    Raises:
        VocoderError: another process trains there; the message has its host and process id.
        OSError: the file cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        path = folder / "run.lock"
        handle = _take(path, folder)
        stop = threading.Event()
        # A daemon, and without a reference to this object: it must not keep the lock alive.
        threading.Thread(target=_beat, args=(path, stop), daemon=True).start()
        self.folder = folder
        self.release = weakref.finalize(self, _release, path, handle, stop)

    def check(self) -> None:
        """Refuse to go on if another machine took the folder over while this one was asleep.

        Raises:
            VocoderError: the lock names another process.
        """
        with suppress(FileNotFoundError):
            holder = _parse((self.folder / "run.lock").read_bytes())
            if holder != _ourselves():
                raise _busy(self.folder, holder)


def _take(path: Path, folder: Path) -> int:
    """Return the file at `path`, made if need be, open, locked and with this process's name."""
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            seen_by_kernel = _lock(handle, folder)
            holder = _read_holder(handle)
            dead = seen_by_kernel and holder.get("machine") == _machine()
            beats = holder and not dead and _is_beating(path, holder)
            if _is_current(handle, path):
                if beats:
                    raise _busy(folder, holder)
                _write_holder(handle, path)
                return handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)  # its holder has ended and removed it meanwhile


def _is_current(handle: int, path: Path) -> bool:
    """Tell whether an open file is still the one at `path`."""
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except FileNotFoundError:
        return False


def _lock(handle: int, folder: Path) -> bool:
    """Lock an open file; return whether this file system and machine have such locks."""
    try:
        import fcntl
    except ImportError:  # Windows
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _HELD_BY_ANOTHER:
            raise _busy(folder, _read_holder(handle)) from None
        return False
    return True


def _is_beating(path: Path, holder: dict[str, Any]) -> bool:
    """Watch whether the holder's heartbeat goes on; clocks of two machines are never compared."""
    seconds = PATIENCE * HEARTBEAT
    notice(
        f"{path.parent}: process {holder.get('pid')} on {holder.get('host')} trained here last; "
        f"watching for {seconds:.0f} s whether it still does"
    )
    with suppress(FileNotFoundError):  # the holder has ended, and nothing beats any more
        before = os.stat(path).st_mtime_ns
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            time.sleep(min(0.2, seconds / 10))
            if os.stat(path).st_mtime_ns != before:
                return True
    return False


def _busy(folder: Path, holder: dict[str, Any]) -> VocoderError:
    return VocoderError(
        f"{folder}: process {holder.get('pid', 'unknown')} on {holder.get('host', 'unknown host')} "
        "trains in this folder; wait for it or stop it, or choose another folder"
    )


def _read_holder(handle: int) -> dict[str, Any]:
    return _parse(os.pread(handle, 4096, 0))


def _write_holder(handle: int, path: Path) -> None:
    """Name this process in the file that it has locked."""
    os.ftruncate(handle, 0)
    try:
        with naming(path):
            os.pwrite(handle, json.dumps(_ourselves()).encode(), 0)
    except OSError:  # a full disk: nobody trains here, so no lock is to stay
        path.unlink()
        raise


def _parse(content: bytes) -> dict[str, Any]:
    """Return what a lock file says of its holder; nothing where it is new or half-written."""
    try:
        holder = json.loads(content)
    except ValueError:
        return {}
    return holder if isinstance(holder, dict) else {}


def _is_ours(path: Path) -> bool:
    """Tell whether the file names this process; one that another took over is not to be touched."""
    return _parse(path.read_bytes()) == _ourselves()


def _ourselves() -> dict[str, Any]:
    return {"host": socket.gethostname(), "pid": os.getpid(), "machine": _machine()}


def _machine() -> str:
    """Return what tells this machine, since it was started, from every other."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:  # not Linux
        return socket.gethostname()


def _beat(path: Path, stop: threading.Event) -> None:
    while not stop.wait(HEARTBEAT):
        with suppress(OSError):  # a full disk or a pause of the network must not end a training
            if _is_ours(path):
                os.utime(path)


def _release(path: Path, handle: int, stop: threading.Event) -> None:
    stop.set()
    with suppress(OSError):
        if _is_ours(path):
            path.unlink()
    os.close(handle)
