"""Work in other processes, which neither outlives nor hides that the command has ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

EGS = Path(__file__).parents[2] / "egs"
# A piece of work is as a training is: it heeds a request to stop, saves, and then goes on to be
# scored. A third one waits for a process.
PROGRAM = """
import os, sys, time
from pathlib import Path
sys.path.insert(0, {egs!r})
from workers import StoppedError, workers
from vocoder.training.stopping import stop_requests

def work(folder, name):
    with stop_requests() as stop:
        (folder / f"{{name}}.begun").write_text(str(os.getpid()))
        stop.wait(60)
        time.sleep(0.1)
        (folder / f"{{name}}.saved").touch()
    time.sleep(60)

if __name__ == "__main__":
    try:
        with workers(2) as submit:
            futures = [submit(work, Path({folder!r}), name) for name in "abc"]
            [future.result() for future in futures]
    except StoppedError:
        sys.exit("stopped")
"""


def until(true: object) -> None:
    deadline = time.monotonic() + 60
    while not true():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.05)


def is_running(pid: int) -> bool:
    """Tell whether a process is there and has not ended, unlike one that nobody has waited for."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs Linux's list of processes")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_they_save_and_end_with_the_command_and_begin_nothing_more(
    tmp_path: Path, number: signal.Signals
) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM.format(egs=str(EGS), folder=str(tmp_path)))
    with subprocess.Popen([sys.executable, program], stderr=subprocess.DEVNULL) as process:
        until(lambda: len(list(tmp_path.glob("?.begun"))) == 2)
        until(lambda: all(path.read_text() for path in tmp_path.glob("?.begun")))
        process.send_signal(number)  # to it alone, as `kill` does
    pids = [int(path.read_text()) for path in tmp_path.glob("?.begun")]
    if number == signal.SIGKILL:
        assert process.returncode == -number
        until(lambda: not any(map(is_running, pids)))
    else:  # it has waited for them
        assert process.returncode == 1
        assert not any(map(is_running, pids))
    saved = sorted(path.name for path in tmp_path.glob("?.saved"))
    assert saved == sorted(f"{path.stem}.saved" for path in tmp_path.glob("?.begun"))
    assert len(saved) == 2
    assert os.getpid() not in pids


def test_one_that_is_killed_takes_no_other_with_it(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        f"import os, sys\nsys.path.insert(0, {str(EGS)!r})\nfrom workers import workers\n"
        "def work(code):\n    return code if code else os._exit(1)\n"
        "if __name__ == '__main__':\n    with workers(2) as submit:\n"
        "        futures = [submit(work, code) for code in (1, 0, 2)]\n"
        "    print([future.exception() is None for future in futures])\n"
    )
    done = subprocess.run([sys.executable, program], check=True, capture_output=True, text=True)
    assert done.stdout == "[True, False, True]\n"
