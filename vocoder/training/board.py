"""Scalars, sounds and pictures for TensorBoard, written at once by the thread that logs them.

The writers of torch and of TensorBoard hand them to a thread of their own. It prints a traceback
when the disk is full, beside the error of the training, and what it has not written is lost with a
process that is killed.
"""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from vocoder.files.writing import append


class Board:
    """Writes an event file, which TensorBoard shows.

    Args:
        folder: The folder of the event files of a run, which is made if need be.
        step: The first step that is to be logged; TensorBoard forgets what earlier files hold of
            this step and later ones.

    Raises:
        OSError: The file cannot be written; every method may raise it.
    """

    def __init__(self, folder: Path, step: int) -> None:
        from tensorboard.compat.proto.event_pb2 import SessionLog
        from tensorboard.summary.writer.record_writer import RecordWriter

        folder.mkdir(parents=True, exist_ok=True)
        # TensorBoard reads files in the order of their names.
        name = f"{int(time.time()):010d}.{socket.gethostname()}.{os.getpid()}.{time.time_ns()}"
        self.path = folder / f"events.out.tfevents.{name}"
        self.file = open(self.path, "xb", buffering=0)  # noqa: SIM115 (closed by `close`)
        self._records = RecordWriter(self)
        self._event(step, file_version="brain.Event:2")
        self._event(step, session_log=SessionLog(status=SessionLog.START))

    def scalar(self, step: int, name: str, value: float) -> None:
        """Log a number."""
        from torch.utils.tensorboard import summary

        self._event(step, summary=summary.scalar(name, value))

    def text(self, step: int, name: str, text: str) -> None:
        """Log words."""
        from torch.utils.tensorboard import summary

        self._event(step, summary=summary.text(name, text))

    def audio(self, step: int, name: str, audio: Tensor, sample_rate: int) -> None:
        """Log a sound (N,), clipped to full scale."""
        from torch.utils.tensorboard import summary

        self._event(step, summary=summary.audio(name, audio.clamp(-1, 1), sample_rate))

    def picture(self, step: int, name: str, pixels: Tensor | npt.NDArray[np.uint8]) -> None:
        """Log a picture, (H, W, 3) as bytes or (H, W) as numbers from 0 to 1."""
        from torch.utils.tensorboard import summary

        axes = "HWC" if pixels.ndim == 3 else "HW"
        self._event(step, summary=summary.image(name, pixels, dataformats=axes))

    def close(self) -> None:
        """Close the file; nothing is left to be written."""
        self.file.close()

    def write(self, content: bytes) -> None:
        """Add a record, as TensorBoard's `RecordWriter` frames it."""
        append(self.file, self.path, content)

    def _event(self, step: int, **content: Any) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        event = Event(step=step, wall_time=time.time(), **content)
        self._records.write(event.SerializeToString())
