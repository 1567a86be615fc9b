"""The processes of a training run; torchrun's variables are read here and nowhere else."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist

from vocoder.device import resolve_device


@dataclass(frozen=True)
class Processes:
    """This process among those of the run; one process runs the same code with n_ranks 1."""

    rank: int
    n_ranks: int
    device: torch.device

    @property
    def leads(self) -> bool:
        """Whether this is the one process that writes."""
        return self.rank == 0

    def any(self, flag: bool) -> bool:
        """Return whether `flag` holds in any process; all must call it together."""
        if self.n_ranks == 1:
            return flag
        tensor = torch.tensor(float(flag), device=self.device)
        dist.all_reduce(tensor, op=dist.ReduceOp.MAX)
        return bool(tensor.item())

    def mean(self, value: torch.Tensor) -> float:
        """Return the mean of a scalar over the processes; all must call it together."""
        value = value.detach().clone()
        if self.n_ranks > 1:
            dist.all_reduce(value)
        return value.item() / self.n_ranks

    def wait(self) -> None:
        """Return when every process has come here."""
        if self.n_ranks > 1:
            dist.barrier()


@contextmanager
def processes(device: str | None) -> Iterator[Processes]:
    """Join the process group that torchrun announces, if it does."""
    n_ranks = int(os.environ.get("WORLD_SIZE", "1"))
    if n_ranks == 1:
        yield Processes(0, 1, resolve_device(device))
        return
    here = resolve_device(device)
    if here.type == "cuda":
        here = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(here)
    dist.init_process_group("nccl" if here.type == "cuda" else "gloo")
    try:
        yield Processes(int(os.environ["RANK"]), n_ranks, here)
    finally:
        dist.destroy_process_group()
