"""Events for TensorBoard."""

from __future__ import annotations

import resource
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vocoder.training.board import Board


def read(folder: Path) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return EventAccumulator(str(folder)).Reload()


def test_everything_is_in_the_file_as_soon_as_it_is_logged(tmp_path: Path) -> None:
    board = Board(tmp_path / "board", 1)
    board.scalar(1, "loss", 0.5)
    board.audio(2, "clip", torch.tensor([0.1, -3.0, 0.2]), 22050)
    board.picture(3, "grey", torch.rand(5, 7))
    board.picture(3, "coloured", np.zeros((4, 6, 3), np.uint8))
    board.text(4, "changed", "train.lr")
    events = read(tmp_path / "board")  # the board is still open
    assert [(e.step, e.value) for e in events.Scalars("loss")] == [(1, 0.5)]
    (sound,) = events.Audio("clip")
    assert (sound.step, sound.sample_rate, sound.length_frames) == (2, 22050, 3)
    sizes = [(p.width, p.height) for n in ("grey", "coloured") for p in events.Images(n)]
    assert sizes == [(7, 5), (6, 4)]
    (text,) = events.Tensors("changed/text_summary")
    assert text.tensor_proto.string_val == [b"train.lr"]
    board.close()


def test_a_later_board_replaces_the_steps_that_are_done_again(tmp_path: Path) -> None:
    for start, value in ((1, 0.0), (3, 1.0)):
        board = Board(tmp_path, start)
        for step in range(start, 6):
            board.scalar(step, "loss", value)
        board.close()
    events = [(event.step, event.value) for event in read(tmp_path).Scalars("loss")]
    assert events == [(1, 0), (2, 0), (3, 1), (4, 1), (5, 1)]


def test_a_full_disk_is_an_error_of_the_thread_that_logs(tmp_path: Path) -> None:
    n_threads = threading.active_count()
    board = Board(tmp_path, 1)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (board.path.stat().st_size + 10, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large") as caught:
            board.scalar(1, "loss", 0.5)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert caught.value.filename == str(board.path)
    assert threading.active_count() == n_threads
    board.close()
