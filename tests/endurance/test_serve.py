"""A service that speaks for a while: no utterance lost or swapped, and memory that does not grow.

The short form takes half a minute. docs/reliability.md has the figures of a longer one:

    VOCODER_SERVE_SECONDS=1200 VOCODER_SERVE_VOICE=prompts-22k pytest -s -m slow THIS_FILE
"""

from __future__ import annotations

import io
import json
import os
import random
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pytest
from commands import REPOSITORY
from voices import some_mel

import vocoder
from vocoder.files.audio import float_to_int16

SECONDS = float(os.environ.get("VOCODER_SERVE_SECONDS", 30))
LENGTHS = (1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 120)  # frames
BURST = 6  # utterances that are sent before the first is answered
GROWTH = 16 << 20  # bytes


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def answer(stream: BinaryIO) -> tuple[dict[str, Any], bytes]:
    line = json.loads(stream.readline())
    return line, stream.read(line["n_bytes"])


def computing(pid: int) -> float:
    """Return the seconds that a process has computed, which other work does not lengthen."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
def test_a_service_keeps_its_memory_and_its_order(voice, tmp_path) -> None:
    name = os.environ.get("VOCODER_SERVE_VOICE", str(voice))
    speaker = vocoder.load(name, device="cpu")
    mels = [some_mel(n, seed=n).numpy() for n in LENGTHS]
    spoken = [speaker.synthesize(mel, seed=5) for mel in mels]
    expected = [float_to_int16(audio)[0].astype("<i2").tobytes() for audio in spoken]
    command = [sys.executable, "-m", "vocoder", "serve", "--stdio", "--voice", name]
    with (
        open(tmp_path / "errors", "wb") as errors,
        subprocess.Popen(
            [*command, "--seed=5", "--device=cpu"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        ) as child,
    ):
        assert child.stdin is not None
        assert child.stdout is not None
        json.loads(child.stdout.readline())
        latencies, costs, memory = talk(child, child.stdin, child.stdout, mels, expected)
        child.stdin.close()
        assert child.wait(60) == 0
    quarter = len(memory) // 4
    early, late = max(memory[quarter : 2 * quarter]), max(memory[-quarter:])
    print(
        f"\n{len(memory)} answers, {len(latencies)} timed; latency {quantiles(latencies)}, "
        f"computing {quantiles(costs)}; resident {early / 1e6:.1f} MB at most in the second "
        f"quarter, {late / 1e6:.1f} MB in the last"
    )
    assert late <= early + GROWTH


def quantiles(seconds: list[float]) -> str:
    seconds = sorted(seconds)
    p50, p99 = statistics.median(seconds), seconds[int(0.99 * len(seconds))]
    return f"p50 {p50:.3f} s, p99 {p99:.3f} s"


def talk(
    child: subprocess.Popen[bytes],
    source: BinaryIO,
    output: BinaryIO,
    mels: list[np.ndarray],
    expected: list[bytes],
) -> tuple[list[float], list[float], list[int]]:
    """Speak for `SECONDS`, alone and in bursts.

    Returns:
        The latency and the seconds of computing of each utterance that was sent alone, and the
        memory after every answer.
    """
    chance = random.Random(0)
    latencies, costs, memory = [], [], []
    number = 0
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        burst = BURST if chance.random() < 0.05 else 1
        picks = [chance.randrange(-1, len(mels)) for _ in range(burst)]  # -1: not to be spoken
        content = b"".join(npy(mels[i] if i >= 0 else np.full((80, 4), np.nan)) for i in picks)
        start, before = time.monotonic(), computing(child.pid)
        # The pipes hold less than a burst: who only writes and who only reads wait for each other.
        writer = threading.Thread(target=lambda content=content: send(source, content))
        writer.start()
        for i in picks:
            line, samples = answer(output)
            assert line["utterance"] == number
            assert ("error" in line) == (i < 0)
            assert samples == (expected[i] if i >= 0 else b"")
            number += 1
            memory.append(resident(child.pid))
        writer.join()
        if burst == 1 and picks[0] >= 0:
            latencies.append(time.monotonic() - start)
            costs.append(computing(child.pid) - before)
    return latencies, costs, memory


def send(source: BinaryIO, content: bytes) -> None:
    source.write(content)
    source.flush()
