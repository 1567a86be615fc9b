"""What the loop of `trainer` does not know: the data of a model, and what makes the model good."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch

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
    """Examples to learn from, and figures, sounds and pictures of how well they are learnt.

    Attributes:
        unit: what the speed of training is counted in, "samples" or "images".
        units_per_step: how many of them all processes together see in a step.
        data: what checkpoints say of the data.
        facts: what the sequence of batches depends on beside the recipe; a resumed run must find
            the same.
    """

    unit: str
    units_per_step: int
    data: DataDescription
    facts: dict[str, Any]

    @abstractmethod
    def batch(self, step: int, rank: int, n_ranks: int) -> tuple[Any, ...]:
        """Return what a process calls the model with at a step, a function of these alone."""

    @abstractmethod
    def initialise(self, model: M, device: torch.device) -> None:
        """Set what a new model takes from data, alike in every process."""

    @abstractmethod
    def likelihood(self, loss: float) -> tuple[str, float]:
        """Return the customary figure, name and value, for a loss in nats per dimension."""

    @abstractmethod
    def step_metrics(self, model: M, batch: tuple[Any, ...]) -> dict[str, Any]:
        """Return more figures of a step, for the log."""

    @abstractmethod
    def evaluate(self, model: M) -> Score | None:
        """Score a model in eval mode on held-out examples, if there are any."""

    @abstractmethod
    def show(self, model: M, logger: RunLogger, step: int) -> None:
        """Log sounds or pictures that a model in eval mode makes."""
