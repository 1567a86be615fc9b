"""What the trainer does not know: the data of a model, its loss, and what makes the model good."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from vocoder.checkpoint import DataDescription
from vocoder.models.families.flow import FlowModel
from vocoder.training.logger import RunLogger

M = TypeVar("M", bound=FlowModel)


@dataclass(frozen=True)
class Score:
    """How good a model is on examples it was not trained on."""

    metrics: dict[str, float]
    value: float  # the model with the highest is the best


class Task(ABC, Generic[M]):
    """Examples to learn from, the loss, and figures, sounds and pictures of how well it goes.

    A model that is trained with more than its likelihood, or that hears more than a mel, has a task
    of its own: `batch` gives all that `loss` needs, and the trainer looks into neither.

    Attributes:
        unit: what the speed of training is counted in, "samples" or "images".
        examples: what a batch consists of, such as "images", for messages.
        smaller: what makes an example need less memory when it is lowered, for messages.
        units_per_step: how many of these units all processes together see in a step.
        data: what checkpoints say of the data.
        facts: what the sequence of batches depends on beside the recipe; a resumed run must find
            the same.
    """

    unit: str
    examples: str
    smaller: str
    units_per_step: int
    data: DataDescription
    facts: dict[str, Any]

    @abstractmethod
    def batch(self, step: int, rank: int, n_ranks: int) -> tuple[Any, ...]:
        """Return one process's share of the examples of a step.

        Args:
            step: the step, counted from 0. The same step always gives the same examples.
            rank: the process, counted from 0.
            n_ranks: how many processes share the examples.

        Returns:
            Tensors on the CPU, and numbers, as `loss` takes them.
        """

    @abstractmethod
    def loss(self, model: M, batch: tuple[Any, ...]) -> tuple[Tensor, dict[str, Tensor]]:
        """Return what a step makes smaller.

        Args:
            model: the model in training mode.
            batch: what `batch` gave, on the model's device.

        Returns:
            The loss, a scalar with its gradient; and figures to log and show by name, scalars
            without one, of which the mean over the processes is taken.
        """

    @abstractmethod
    def initialise(self, model: M, device: torch.device) -> None:
        """Set what a new model takes from data, alike in every process."""

    @abstractmethod
    def step_metrics(self, model: M, batch: tuple[Any, ...]) -> dict[str, Any]:
        """Return more figures of a step for the log, which are computed only when one is written.

        Args:
            model: the model in training mode.
            batch: the step's share of the process that writes, on the model's device.
        """

    @abstractmethod
    def evaluate(self, model: M) -> Score | None:
        """Score a model in eval mode on held-out examples, if there are any."""

    @abstractmethod
    def show(self, model: M, logger: RunLogger, step: int) -> None:
        """Log sounds or pictures that a model in eval mode makes."""
