"""What a run records: a JSON line and TensorBoard scalars per log step, sounds and pictures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vocoder.files.atomic import atomic_path
from vocoder.files.writing import append
from vocoder.training.board import Board
from vocoder.training.changes import Change

_CHANGED = "changed"  # the key of a line that tells of settings


class RunLogger:
    """Writes `log.jsonl` and `tensorboard/` in the folder of a run.

    Args:
        run_dir: the run's folder.
        step: the step at which the run starts or goes on; what was logged of later steps is
            dropped, since they are done again.

    Raises:
        OSError: The log cannot be written; every method may raise it.
    """

    def __init__(self, run_dir: Path, step: int) -> None:
        self.path = run_dir / "log.jsonl"
        _drop_lines_after(self.path, step)
        self.lines = self.path.open("ab", buffering=0)
        self.board = Board(run_dir / "tensorboard", step + 1)

    def scalars(self, step: int, values: dict[str, Any]) -> None:
        """Log numbers, or lists of numbers, of a step."""
        self._line({"step": step, **values})
        for name, value in values.items():
            items = enumerate(value) if isinstance(value, list) else [("", value)]
            for index, item in items:
                self.board.scalar(step, f"{name}/{index}" if index != "" else name, item)

    def changes(self, step: int, changes: Sequence[Change]) -> None:
        """Log the settings that change from a step on."""
        if not changes:
            return
        changed = {change.key: [change.old, change.new] for change in changes}
        self._line({"step": step, _CHANGED: changed})
        self.board.text(step, _CHANGED, "; ".join(map(str, changes)))

    def audio(self, step: int, name: str, audio: Tensor, sample_rate: int) -> None:
        """Log a sound (N,)."""
        self.board.audio(step, name, audio, sample_rate)

    def picture(self, step: int, name: str, pixels: npt.NDArray[np.uint8]) -> None:
        """Log a picture (H, W, 3)."""
        self.board.picture(step, name, pixels)

    def mels(self, step: int, name: str, recording: Tensor, voice: Tensor) -> None:
        """Log two mel-spectrograms (M, F) as one grey picture, the recording above the voice.

        The grey values of both are scaled to the range of the recording; low frequencies lie below.
        """
        low, high = recording.aminmax()
        gap = high.expand_as(recording[:2])
        picture = torch.cat([recording.flip(0), gap, voice.flip(0)])
        picture = ((picture - low) / (high - low).clamp(min=1e-6)).clamp(0, 1)
        enlarged = picture.repeat_interleave(3, dim=0).repeat_interleave(3, dim=1)
        self.board.picture(step, name, enlarged.float())

    def close(self) -> None:
        """Close the files; nothing is left to be written."""
        self.lines.close()
        self.board.close()

    def _line(self, values: dict[str, Any]) -> None:
        append(self.lines, self.path, json.dumps(values).encode() + b"\n")


def _drop_lines_after(path: Path, step: int) -> None:
    """Keep the whole lines up to `step`; a killed run may have left half of one.

    What was changed at `step` is dropped too: it is logged again if it still changes.
    """
    if path.is_file():
        kept = [line + b"\n" for line in path.read_bytes().splitlines() if _is_before(line, step)]
        with atomic_path(path) as temporary:
            temporary.write_bytes(b"".join(kept))


def _is_before(line: bytes, step: int) -> bool:
    """Tell whether a line is one of ours and of a step that is not done again."""
    try:
        values = json.loads(line)
        return bool(values["step"] < step + (_CHANGED not in values))
    except (ValueError, TypeError, KeyError, RecursionError):
        return False
