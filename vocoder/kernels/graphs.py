"""CUDA graphs: a synthesis is a thousand small launches, which one graph replays as one.

A graph replays the same launches over the same memory, so there is one for each batch size and
width; widths are rounded up, and few graphs are kept.
"""

from __future__ import annotations

import gc
import logging
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

import torch

WIDTH_STEP = 1024  # columns; a clip of any length wastes at most so many

Program = TypeVar("Program", bound=Callable[[], None])

_logger = logging.getLogger("vocoder.kernels")


def bucket(width: int) -> int:
    """Return the width, in columns, of the graph that serves clips of this one."""
    return -(-width // WIDTH_STEP) * WIDTH_STEP


def capture(program: Callable[[], None], device: torch.device) -> Callable[[], None]:
    """Return what replays a program: a graph of it, or the program itself where there is none.

    Args:
        program: launches work on the current stream, always the same and over the same memory.
        device: where; anything but a CUDA device runs the program itself.
    """
    if device.type != "cuda":
        return program
    with torch.cuda.device(device):
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            program()  # kernels cannot be compiled or loaded while capturing
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        collecting = gc.isenabled()
        gc.disable()  # a tensor that is freed while capturing makes it fail
        try:
            with torch.cuda.graph(graph, stream=stream):
                program()
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[0]
            _logger.warning("launching kernels one by one, no CUDA graph: %s", reason)
            return program
        finally:
            if collecting:
                gc.enable()
    return graph.replay


class GraphCache(Generic[Program]):
    """Programs by batch size and width bucket, each captured when it is first wanted.

    Args:
        build: makes the program of (items, columns), with the memory that it works on.
        device: Device on which the programs run.
        capacity: programs kept; the least recently used goes first, and its memory with it.
    """

    def __init__(
        self, build: Callable[[int, int], Program], device: torch.device, capacity: int = 8
    ) -> None:
        self._build = build
        self._device = device
        self._capacity = capacity
        self._entries: OrderedDict[tuple[int, int], tuple[Program, Callable[[], None]]]
        self._entries = OrderedDict()

    def get(self, n_items: int, width: int) -> tuple[Program, Callable[[], None]]:
        """Return the program that serves a batch, to fill and to read, and what runs it."""
        key = n_items, bucket(width)
        if key not in self._entries:
            # Before the new one is built: both might not fit.
            while len(self._entries) >= self._capacity:
                self._entries.popitem(last=False)
            program = self._build(*key)
            self._entries[key] = program, capture(program, self._device)
        self._entries.move_to_end(key)
        return self._entries[key]
