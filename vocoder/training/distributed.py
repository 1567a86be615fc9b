"""The processes of a training run; torchrun's variables are read here and nowhere else."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from vocoder.device import resolve_device
from vocoder.errors import VocoderError

T = TypeVar("T")
Told = TypeVar("Told")


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

    def from_leader(self, action: Callable[[], T]) -> T:
        """Run `action` in the process that writes, and return in all what it returned there.

        All must call it together. An error of the caller's or of the operating system is raised in
        all, so that none waits for a process that has given up.
        """
        if self.n_ranks == 1:
            return action()
        outcome: list[Any] = [None]
        if self.leads:
            try:
                outcome = [(action(), None)]
            except (VocoderError, OSError) as error:
                outcome = [(None, error)]
        dist.broadcast_object_list(outcome)
        result, problem = outcome[0]
        if problem is not None:
            raise problem
        return result

    def together(
        self, action: Callable[[], T], tell: Callable[[T], Told]
    ) -> tuple[T, Sequence[Told]]:
        """Run `action` in every process; return its result, and what each tells of its own.

        All must call it together. An error of the caller's or of the operating system in one is
        raised in all, so that none waits for a process that has given up.
        """
        if self.n_ranks == 1:
            result = action()
            return result, [tell(result)]
        outcomes: list[Any] = [None] * self.n_ranks
        try:
            result = action()
        except (VocoderError, OSError) as error:
            dist.all_gather_object(outcomes, (None, str(error)))
            raise
        dist.all_gather_object(outcomes, (tell(result), None))
        for rank, (_, problem) in enumerate(outcomes):
            if problem is not None:
                raise VocoderError(f"process {rank}: {problem}")
        return result, [told for told, _ in outcomes]

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


@contextmanager
def processes(device: str | None) -> Iterator[Processes]:
    """Join the process group that torchrun announces, if it does, and leave it at the end.

    Args:
        device: such as "cuda"; None: a GPU where there is one, of several processes one each.

    Raises:
        VocoderError: the device cannot be used here.
    """
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
