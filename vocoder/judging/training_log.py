"""What the folder of a run tells of its training: the lines of log.jsonl."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class TrainingLog:
    """The log of a run, as `vocoder train` writes it.

    Attributes:
        lines: What was logged, each with its optimiser step.
    """

    lines: tuple[dict[str, Any], ...]

    @classmethod
    def read(cls, run_dir: str | Path) -> TrainingLog:
        """Read the log of a run's folder; a checkpoint file, or a folder without one, has no lines.

        What cannot be read as a line, such as half of one that a killed run left, is passed over.
        """
        path = Path(run_dir) / "log.jsonl"
        if not path.is_file():
            return cls(())
        lines = []
        for text in path.read_bytes().splitlines():  # one that is no text spoils no other
            try:
                line = json.loads(text)
            except (ValueError, RecursionError):
                continue
            if isinstance(line, dict) and isinstance(line.get("step"), int):
                lines.append(line)
        return cls(tuple(lines))

    def series(self, name: str) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Return the steps (n,) at which a figure was logged as a number, and its values (n,)."""
        found = [
            (line["step"], line[name])
            for line in self.lines
            if isinstance(line.get(name), int | float)
        ]
        steps, values = np.array(found, np.float64).reshape(-1, 2).T
        return steps, values

    def processor_seconds(self) -> float:
        """Return the processor time of the steps that were kept, evaluations in between included.

        It is that of all threads of the process that leads. What a killed run had done beyond its
        last checkpoint, and did again, counts once.
        """
        _, seconds = self.series("train/processor_seconds")
        return float(seconds.sum())
