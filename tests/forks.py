"""Runs of the command line that are killed, cheaply: forks of one warm process.

As a program it reads a line of JSON for each run on standard input, and answers with one. The
modules are imported before, so that a kill hits the work and not Python's start.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import resource
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path
from types import TracebackType
from typing import Any

# What commands import while they work, and what takes longest of it.
MODULES = (
    *("librosa.filters", "onnxruntime", "soundfile", "torch.utils.tensorboard"),
    *("vocoder.cli.corpora", "vocoder.data.speech.preprocess", "vocoder.export.voice_graph"),
    *("vocoder.judging.images", "vocoder.judging.voices", "vocoder.synthesis.convert"),
    *("vocoder.training.trainer",),
)
REPOSITORY = Path(__file__).parents[1]


class Forks:
    """A warm process that runs commands in forks of itself."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"},
        )

    def __enter__(self) -> Forks:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()

    def run(
        self,
        *arguments: object,
        kill_after: float | None = None,
        largest_file: int | None = None,
    ) -> dict[str, Any]:
        """Run `vocoder ARGUMENTS…`.

        Args:
            arguments: The command line.
            kill_after: Seconds after which the run and its children get SIGKILL.
            largest_file: Bytes that no file may grow beyond.

        Returns:
            `code`, negative for a signal, `seconds` and `err`, what it wrote on standard error.
        """
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        call = {
            "arguments": [*map(str, arguments)],
            "kill_after": kill_after,
            "largest_file": largest_file,
        }
        self.process.stdin.write(json.dumps(call) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())


def serve() -> None:
    """Answer calls until there are no more."""
    for name in MODULES:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    from vocoder import checkpoint
    from vocoder.voice.catalogue import find_voice

    checkpoint.load(find_voice("prompts-22k"))  # what torch imports when it makes a model
    for line in sys.stdin:
        print(json.dumps(fork(json.loads(line))), flush=True)


def fork(call: dict[str, Any]) -> dict[str, Any]:
    """Run one command in a fork, in a group of its own that a kill ends as a whole."""
    from vocoder.cli import main

    reader, writer = os.pipe()
    start = time.monotonic()
    child = os.fork()
    if not child:
        os.setpgid(0, 0)
        os.close(reader)
        os.dup2(writer, 2)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
        code = 1
        if call["largest_file"] is not None:
            limits = resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.setrlimit(resource.RLIMIT_FSIZE, (call["largest_file"], limits[1]))
        try:
            main(call["arguments"])
        except SystemExit as error:
            code = int(error.code or 0)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    os.close(writer)
    os.setpgid(child, child)
    if call["kill_after"] is not None:
        time.sleep(call["kill_after"])
        os.killpg(child, signal.SIGKILL)
    with open(reader, encoding="utf-8", errors="replace") as stream:
        err = stream.read()
    _, status = os.waitpid(child, 0)
    seconds = time.monotonic() - start
    return {"code": os.waitstatus_to_exitcode(status), "seconds": seconds, "err": err}


if __name__ == "__main__":
    serve()
