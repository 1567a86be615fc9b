"""How to measure: medians of interleaved runs, peak memory, and what the machine can do at all."""

from __future__ import annotations

import ctypes
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch

OURS, REFERENCE = "ours", "reference"  # paths that many works have

_ROUNDS = 5


@dataclass(frozen=True)
class Measurement:
    """What a piece of work took.

    Args:
        seconds: Median time in seconds.
        n_runs: it is the median of.
        peak_bytes: memory above what was in use before; None where the system does not tell.
    """

    seconds: float
    n_runs: int
    peak_bytes: int | None


@dataclass(frozen=True)
class Work:
    """What the paths are compared on.

    Args:
        name: Name of the work in the table.
        paths: What to run, by the name of the path.
        amount: seconds of audio, or images, that it makes or learns from; None for the op.
        size: what its time grows with, to predict it from smaller works.
        flop: Operations of the network as written; None where they are not counted.
    """

    name: str
    paths: Mapping[str, Callable[[], object]]
    amount: float | None
    size: float
    flop: float | None


def compare(
    contestants: Mapping[str, Callable[[], object]], device: torch.device, budget: float
) -> dict[str, Measurement]:
    """Measure what is to be compared, turn by turn, so that all meet the same machine.

    Args:
        contestants: What to run, by name; each is run once for its memory and to warm up, and then
            up to five times.
        device: Device on which they compute.
        budget: seconds for the rounds after the first; none is begun that would exceed them if it
            took as long as the one before. The first run counts if there is no other.
    """
    first = {name: _first_run(run, device) for name, run in contestants.items()}
    last_round = sum(seconds for seconds, _ in first.values())
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(_ROUNDS):
        if last_round > budget:
            break
        start = time.perf_counter()
        for name, run in contestants.items():
            times[name].append(_timed(run, device))
        last_round = time.perf_counter() - start
        budget -= last_round
    return {
        name: Measurement(median(times[name] or [seconds]), len(times[name]) or 1, peak)
        for name, (seconds, peak) in first.items()
    }


def _timed(run: Callable[[], object], device: torch.device) -> float:
    _synchronize(device)
    start = time.perf_counter()
    run()
    _synchronize(device)
    return time.perf_counter() - start


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _first_run(run: Callable[[], object], device: torch.device) -> tuple[float, int | None]:
    """Return the seconds and the peak memory of a run."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        seconds = _timed(run, device)
        return seconds, torch.cuda.max_memory_allocated(device) - before
    resident = _reset_peak()
    seconds = _timed(run, device)
    if resident is None:
        return seconds, None
    return seconds, max(0, _status("VmHWM") - resident)


def _reset_peak() -> int | None:
    """Forget the process's highest memory use on Linux; return the present one in bytes."""
    try:
        # What was freed may still belong to the process and would not count when used again.
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
        return _status("VmRSS")
    except (OSError, AttributeError, TypeError):
        return None


def _status(name: str) -> int:
    """Return an entry of /proc/self/status in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"/proc/self/status has no {name}")


def matmul_rate(device: torch.device, dtype: torch.dtype, size: int = 2048) -> float:
    """Return the FLOP/s of a matrix product of that size; one multiply-add is two."""
    a, b = torch.randn(2, size, size, device=device).to(dtype)
    product = torch.empty_like(a)
    return 2 * size**3 / _median_seconds(lambda: torch.mm(a, b, out=product), device)


def copy_rate(device: torch.device, n_bytes: int = 1 << 28) -> float:
    """Return the bytes per second, read and written, of a copy too large for the caches."""
    source = torch.zeros(n_bytes // 4, device=device)
    target = torch.empty_like(source)
    return 2 * n_bytes / _median_seconds(lambda: target.copy_(source), device)


def _median_seconds(run: Callable[[], object], device: torch.device) -> float:
    return compare({"": run}, device, budget=2.0)[""].seconds


def device_name(device: torch.device) -> str:
    """Return what the device calls itself, for a CPU with the threads in use."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.split(":", 1)[1] for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass  # not Linux, or a CPU without a name there
    n = torch.get_num_threads()
    return f"{name.strip()}, {n} thread{'s' if n > 1 else ''}"
