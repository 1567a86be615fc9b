"""A model that learns step by step: weights, their average and the optimiser, in memory alone."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from vocoder.checkpoint import TrainingState, first_non_finite
from vocoder.errors import VocoderError
from vocoder.models.families.flow import FlowModel
from vocoder.recipe import Recipe
from vocoder.registry import find_model
from vocoder.training.distributed import Processes
from vocoder.training.optim import (
    PRECISIONS,
    learning_rate,
    load_optimizer,
    make_optimizer,
    optimizer_tensors,
    precision,
    update_average,
)
from vocoder.training.task import Task


class Learner:
    """Does the optimiser's steps on a model, the same in every process of a run.

    Args:
        recipe: the model to train, and how to train it.
        task: The task that gives the loss.
        group: the processes that share each batch.
        initialise: let the layers that start from data do so; false if weights are loaded next.

    Raises:
        VocoderError: the batch or the precision does not fit the processes or their device.

    Attributes:
        model: the model with the weights that the optimiser moves.
        average: the model with their moving average; `model` itself, if the recipe wants none.
        precision: in what the convolutions are computed, by name.
        step: optimiser steps done.
        bad_steps: how many of them were left out since their gradient was not finite.
        bad_steps_in_a_row: how many of the latest steps were left out.
        loss: the loss of the latest step.
        figures: what the task tells of the latest step.
        grad_norm: norm of the gradient of the latest step, before it was clipped.
    """

    def __init__(
        self, recipe: Recipe, task: Task[Any], group: Processes, *, initialise: bool
    ) -> None:
        self.config, self.device = recipe.train, group.device
        if self.config.batch_size % group.n_ranks:
            raise VocoderError(
                f"train.batch_size: {self.config.batch_size} is not a multiple of the "
                f"{group.n_ranks} processes"
            )
        torch.manual_seed(self.config.seed)
        self.model: FlowModel = find_model(recipe.model)[0](recipe.config).to(self.device)
        self.model.checkpointing = self.config.checkpointing
        self.precision = precision(self.config.precision, self.device, self.model)
        self.dtype = PRECISIONS[self.precision]
        if initialise:
            task.initialise(self.model, self.device)
        self.average = copy.deepcopy(self.model) if self.config.ema_decay else self.model
        self.optimizer = make_optimizer(self.config, self.model)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.dtype == torch.float16)
        self.objective: nn.Module = _Objective(task, self.model)
        if group.n_ranks > 1:
            self.objective = nn.parallel.DistributedDataParallel(self.objective)
        self.step = self.bad_steps = self.bad_steps_in_a_row = 0
        self.loss = self.grad_norm = torch.tensor(math.nan)
        self.figures: dict[str, Tensor] = {}

    def train_step(self, batch: tuple[Any, ...]) -> None:
        """Do one optimiser step; a step whose gradient is not finite changes nothing.

        Args:
            batch: what `Task.batch` gave, on the device of the model.
        """
        torch.manual_seed(self.config.seed + self.step)  # no generator state to restore
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.config, self.step)
        with torch.autocast(self.device.type, self.dtype, self.dtype != torch.float32):
            self.loss, self.figures = self.objective(batch)
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(self.loss).backward()
        self.scaler.unscale_(self.optimizer)
        limit = self.config.grad_clip or math.inf
        self.grad_norm = nn.utils.clip_grad_norm_(self.model.parameters(), limit)
        # Gradients are those of the joint batch in every process, so all decide alike.
        finite = bool(self.grad_norm.isfinite())
        if finite:
            self.scaler.step(self.optimizer)
        self.scaler.update()
        self.step += 1
        self.bad_steps_in_a_row = 0 if finite else self.bad_steps_in_a_row + 1
        self.bad_steps += not finite
        if finite and self.average is not self.model:
            update_average(self.average, self.model, self.config.ema_decay, self.step)

    def state_dict(self) -> TrainingState:
        """Return all that going on needs beyond the averaged weights."""
        tensors = {
            f"optimizer.{name}": value for name, value in optimizer_tensors(self.optimizer).items()
        }
        if self.average is not self.model:
            tensors |= {f"weights.{name}": t for name, t in self.model.state_dict().items()}
        return TrainingState(
            tensors,
            {
                "bad_steps": self.bad_steps,
                "bad_steps_in_a_row": self.bad_steps_in_a_row,
                "scaler": self.scaler.state_dict(),
                "precision": self.precision,
            },
        )

    def load_state_dict(self, state: TrainingState, averaged: Mapping[str, Tensor]) -> None:
        """Restore what `state_dict` gave.

        Args:
            state: what `state_dict` gave; what else it holds is ignored.
            averaged: the weights that were stored beside it: the averaged ones, if they were
                averaged, and otherwise the only ones.
        """
        self.average.load_state_dict(averaged)
        self.model.load_state_dict(_section(state.tensors, "weights") or averaged)
        load_optimizer(self.optimizer, _section(state.tensors, "optimizer"))
        if state.values["scaler"] and self.scaler.is_enabled():
            self.scaler.load_state_dict(state.values["scaler"])
        self.bad_steps = state.values["bad_steps"]
        self.bad_steps_in_a_row = 0  # what the run was resumed for may well cure it

    def start_from(self, weights: Mapping[str, Tensor]) -> None:
        """Take the weights of another model of the same kind, before the first step."""
        self.model.load_state_dict(weights)
        self.average.load_state_dict(weights)

    def first_non_finite(self) -> str | None:
        """Return the name of a weight or moment that holds an infinity or NaN, if there is one."""
        moments = {f"optimizer {n}": t for n, t in optimizer_tensors(self.optimizer).items()}
        return first_non_finite(self.model.state_dict() | moments) or first_non_finite(
            self.average.state_dict()
        )


class _Objective(nn.Module):
    """A task's loss as a module, so that several processes exchange the gradients of all of it."""

    def __init__(self, task: Task[Any], model: FlowModel) -> None:
        super().__init__()
        self.task = task
        self.model = model

    def forward(self, batch: tuple[Any, ...]) -> tuple[Tensor, dict[str, Tensor]]:
        return self.task.loss(self.model, batch)


def _section(tensors: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """Return the tensors called `name`.…, by the rest of their names."""
    prefix = f"{name}."
    return {key.removeprefix(prefix): t for key, t in tensors.items() if key.startswith(prefix)}
