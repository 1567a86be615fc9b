"""One graph for each batch and width bucket, and few of them."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch

from vocoder.kernels.graphs import WIDTH_STEP, GraphCache, bucket, capture

CPU = torch.device("cpu")


class Program:
    def __init__(self, n_items: int, width: int) -> None:
        self.shape = n_items, width
        self.n_runs = 0

    def __call__(self) -> None:
        self.n_runs += 1


@pytest.mark.parametrize(
    ("width", "expected"),
    [(1, WIDTH_STEP), (WIDTH_STEP, WIDTH_STEP), (WIDTH_STEP + 1, 2 * WIDTH_STEP)],
)
def test_bucket_is_the_next_multiple(width: int, expected: int) -> None:
    assert bucket(width) == expected


def test_widths_of_one_bucket_share_a_program() -> None:
    cache = GraphCache(Program, CPU)
    program, run = cache.get(2, 5)
    run()
    assert cache.get(2, 6)[0] is program
    assert program.shape == (2, WIDTH_STEP)
    assert program.n_runs == 1
    assert cache.get(1, 5)[0] is not program
    assert cache.get(2, WIDTH_STEP + 1)[0].shape == (2, 2 * WIDTH_STEP)


def test_the_least_recently_used_goes_first_with_its_memory() -> None:
    cache = GraphCache(Program, CPU, capacity=2)
    first = weakref.ref(cache.get(1, 1)[0])
    second = weakref.ref(cache.get(2, 1)[0])
    cache.get(1, 1)
    cache.get(3, 1)
    gc.collect()
    assert second() is None
    assert first() is cache.get(1, 1)[0]


def test_without_a_gpu_the_program_itself_runs() -> None:
    program = Program(1, 1)
    assert capture(program, CPU) is program


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_graph_replays_over_the_same_memory() -> None:
    device = torch.device("cuda")
    x = torch.ones(3, device=device)

    def double() -> None:
        x.mul_(2)

    replay = capture(double, device)
    x.fill_(1)  # the warm-up has doubled it
    replay()
    replay()
    assert x.tolist() == [4, 4, 4]
    assert gc.isenabled()
