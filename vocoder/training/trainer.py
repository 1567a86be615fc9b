"""Training of a recipe's model, whatever it models."""

from __future__ import annotations

import math
import shlex
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from threading import Event
from types import TracebackType
from typing import Any

from torch import Tensor
from tqdm import tqdm

from vocoder import checkpoint
from vocoder.checkpoint import TrainingState
from vocoder.device import lacks_memory
from vocoder.errors import VocoderError, reason
from vocoder.models.families.filling import check_tensors
from vocoder.recipe import ImageRecipe, VoiceRecipe
from vocoder.training.changes import Change, changes_between
from vocoder.training.distributed import processes
from vocoder.training.learner import Learner
from vocoder.training.logger import RunLogger
from vocoder.training.memory import enough_memory
from vocoder.training.notices import notice
from vocoder.training.opening import open_task
from vocoder.training.optim import learning_rate
from vocoder.training.resume import load_run, load_saved, recipe_of
from vocoder.training.run_folder import RunFolder
from vocoder.training.stopping import stop_requests
from vocoder.voice.catalogue import find_voice


class Trainer:
    """Trains a recipe and leaves its checkpoints, log and TensorBoard files in a folder.

    A run that was stopped or killed and then resumed ends in the same bits as one that was not.
    A trainer is complete when it is built, and holds its folder until `fit` or `close`.

    Args:
        recipe: The model to train, and how to train it. Where it differs from that of a run which
            is resumed, the settings change from there on; see `recipe_to_resume`.
        data: The data to train on: for a voice, a folder that `vocoder preprocess` made; for
            images, their folder or file, or None for those that need none.
        run_dir: Folder of the run, which is made if need be.
        resume: Whether to continue from the newest usable checkpoint in `run_dir`, if there is one.
        device: The device to train on, such as "cuda"; None is the GPU if there is one.
        init_from: A checkpoint, run folder or shipped voice whose weights a new run starts from.

    Raises:
        VocoderError: The data, the device or the folder does not fit the recipe. The folder is then
            as it was.

    Attributes:
        learner: The model with its averaged weights and optimiser.
        logger: The log of the run, in the process that leads alone.
        best: The highest score so far; see `Score.value`.
        metrics: Figures of the latest evaluation.
        changes: What was changed of the recipe, and at which steps.
    """

    def __init__(
        self,
        recipe: VoiceRecipe | ImageRecipe,
        data: str | Path | None,
        run_dir: str | Path,
        *,
        resume: bool = False,
        device: str | None = None,
        init_from: str | Path | None = None,
    ) -> None:
        self.data, self.run_dir = data, Path(run_dir)
        self.best: float | None = None
        self.metrics: dict[str, float] = {}
        self.changes: list[Change] = []
        with ExitStack() as resources:
            self.group = resources.enter_context(processes(device))
            # The run's own recipe stands in its folder, which only the leading process may have.
            self.recipe = recipe = self.group.from_leader(lambda: recipe)
            self.config = recipe.train
            self.task = open_task(recipe, data, self.group)
            self.folder = RunFolder(self.run_dir)
            if self.group.leads:
                resources.callback(self.folder.close)
            newest = self.group.from_leader(partial(self.folder.claim, resume))
            is_new = newest is None and init_from is None
            with enough_memory("the model", "choose a smaller one (the settings model.*)"):
                self.learner = Learner(recipe, self.task, self.group, initialise=is_new)
            if newest is not None:
                self._restore(newest)
            elif init_from is not None:
                self._start_from(init_from)
            self._saved_step = -1  # the step whose checkpoint needs no writing
            self.group.from_leader(partial(self._open_log, resources))
            self._last_log = time.perf_counter(), time.process_time(), self.step
            self._resources = resources.pop_all()

    @property
    def step(self) -> int:
        """Optimiser steps done."""
        return self.learner.step

    def fit(self) -> Path:
        """Train until the recipe's last step, or until SIGTERM or Ctrl-C; return the checkpoint.

        Raises:
            VocoderError: The training diverged, or memory does not suffice.
        """
        with self, stop_requests() as stop:
            if self.step >= self.config.steps:
                self._notice(
                    f"finished: step {self.step} is done, and train.steps is {self.config.steps}; "
                    f"go on with {self._command()} -o train.steps={2 * self.step}"
                )
                return checkpoint.training_path(self.run_dir, self.step)
            self._train(stop)
            path = self._save()
            if self.step < self.config.steps:
                self._notice(
                    f"stopped at step {self.step} of {self.config.steps} and saved; go on with "
                    f"{self._command()}"
                )
            return path

    def train_step(self, batch: tuple[Any, ...]) -> None:
        """Do one optimiser step.

        Args:
            batch: What `Task.batch` gave, on the device of the model.

        Raises:
            VocoderError: The training has diverged, or memory does not suffice.
        """
        with enough_memory(
            f"a step of {self.config.batch_size} {self.task.examples}",
            f"lower train.batch_size or {self.task.smaller}, or set train.checkpointing=true",
        ):
            self.learner.train_step(batch)
        if self.learner.bad_steps_in_a_row:
            self._check_finite()
        if self.learner.bad_steps_in_a_row >= self.config.max_bad_steps:
            raise self._roll_back(f"{self.learner.bad_steps_in_a_row} non-finite steps in a row")

    def state_dict(self) -> TrainingState:
        """Return all that resuming needs beyond the averaged weights."""
        state = self.learner.state_dict()
        more = {"best": self.best, "metrics": self.metrics, "data": self.task.facts}
        return TrainingState(state.tensors, state.values | more)

    def load_state_dict(self, state: TrainingState, averaged: Mapping[str, Tensor]) -> None:
        """Restore what `state_dict` gave.

        Args:
            state: What `state_dict` gave.
            averaged: The weights that were stored beside it, see `Learner.load_state_dict`.
        """
        self.learner.load_state_dict(state, averaged)
        self.best = state.values["best"]
        self.metrics = state.values["metrics"]

    def close(self) -> None:
        """Close the log, leave the process group and let other processes use the folder."""
        self._resources.close()

    def __enter__(self) -> Trainer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _restore(self, path: Path) -> None:
        """Go on from a checkpoint of this run."""
        saved, state = self.group.from_leader(partial(load_run, path))
        if state.values.get("data") != self.task.facts:
            raise VocoderError(
                f"{path}: was trained on other data ({state.values.get('data')}, now "
                f"{self.task.facts}); use --init-from in a new folder"
            )
        before = recipe_of(saved.recipe, path)
        new = changes_between(before, self.recipe, saved.step, self.run_dir)
        try:
            self.load_state_dict(state, saved.weights)
        except (LookupError, TypeError, AttributeError, ValueError, RuntimeError) as error:
            if lacks_memory(error):
                raise
            raise VocoderError(
                f"{path}: its training state is damaged ({reason(error)}); remove the file to go "
                "on from an older one"
            ) from None
        self.learner.step = saved.step
        if {change.key for change in new} & {"train.eval_clips", "train.eval_images"}:
            self.best = None  # scores on other examples do not compare
        was, now = state.values.get("precision"), self.learner.precision
        if was not in (None, now) and self.config.precision == "auto":
            self._notice(
                f"was trained in {was}, and goes on in {now} from step {self.step} on, which is "
                f"faster on this machine; -o train.precision={was} keeps it"
            )
        for change in new:
            self._notice(f"{change} from step {self.step} on")
        self.changes = [Change(**change) for change in saved.changes] + new
        if not new:  # otherwise the checkpoint would have the next resume go on as before
            self._saved_step = self.step

    def _start_from(self, voice: str | Path) -> None:
        """Start a new run from the weights of a checkpoint."""
        saved = self.group.from_leader(lambda: load_saved(find_voice(str(voice))))
        weights = saved.weights
        try:
            check_tensors(self.learner.model.state_dict(), weights)
        except ValueError as error:
            raise VocoderError(f"{saved.path}: {error}") from None
        name = checkpoint.first_non_finite(weights)
        if name is not None:
            raise VocoderError(
                f"{saved.path}: holds infinities or NaN ({name}); start from another checkpoint"
            )
        self.learner.start_from(weights)

    def _open_log(self, resources: ExitStack) -> None:
        """Open the log and write the settings, the first things that a new run leaves."""
        self.logger = resources.enter_context(closing(RunLogger(self.run_dir, self.step)))
        if self.step < self.config.steps:  # otherwise the run is over, and nothing changes any more
            self.logger.changes(self.step, [c for c in self.changes if c.step == self.step])
            self.folder.write_recipe(self.recipe, self.changes)
            if not self.folder.keep_best(self.step, self.recipe, self.changes):
                self.best = None  # no score keeps the next model from being the best

    def _train(self, stop: Event) -> None:
        shows_bar = self.group.leads and sys.stderr.isatty()
        with (
            ThreadPoolExecutor(1) as reader,
            tqdm(
                total=self.config.steps, initial=self.step, unit="step", disable=not shows_bar
            ) as bar,
        ):
            upcoming = reader.submit(self._batch, self.step)
            while self.step < self.config.steps and not self.group.any(stop.is_set()):
                batch = upcoming.result()
                upcoming = reader.submit(self._batch, self.step + 1)
                self.train_step(batch)
                bar.update()
                if self.step % self.config.log_every == 0:
                    self._tell(bar, self._log(batch))
                if self.step % self.config.eval_every == 0 or self.step == self.config.steps:
                    self._evaluate()
                # Amid bad steps it is open whether the weights are good for anything.
                if self.step % self.config.save_every == 0 and not self.learner.bad_steps_in_a_row:
                    self._save()

    def _batch(self, step: int) -> tuple[Any, ...]:
        batch = self.task.batch(step, self.group.rank, self.group.n_ranks)
        device = self.group.device
        return tuple(x.to(device, non_blocking=True) if isinstance(x, Tensor) else x for x in batch)

    def _log(self, batch: tuple[Any, ...]) -> dict[str, str]:
        """Log the step; return what the progress bar shows."""
        now = time.perf_counter(), time.process_time(), self.step
        seconds, processor_seconds, steps = (
            b - a for a, b in zip(self._last_log, now, strict=True)
        )
        self._last_log = now
        speed = steps * self.task.units_per_step / seconds
        figures = {name: self.group.mean(value) for name, value in self.learner.figures.items()}
        values: dict[str, Any] = {
            **figures,
            "grad_norm": self.learner.grad_norm.item(),
            "lr": learning_rate(self.config, self.step - 1),
            f"{self.task.unit}_per_second": speed,
            "processor_seconds": processor_seconds,
            "bad_steps": self.learner.bad_steps,
        }
        self.group.from_leader(partial(self._log_here, values, batch))
        shown = {name.replace("_per_", "/"): f"{value:.3f}" for name, value in figures.items()}
        return shown | {f"{self.task.unit}/s": f"{speed:.0f}"}

    def _log_here(self, values: dict[str, Any], batch: tuple[Any, ...]) -> None:
        values = values | self.task.step_metrics(self.learner.model, batch)
        self.logger.scalars(self.step, {f"train/{name}": v for name, v in values.items()})

    def _tell(self, bar: tqdm[Any], figures: dict[str, str]) -> None:
        """Show figures on the progress bar, or as a line where there is no terminal."""
        bar.set_postfix(figures)
        if bar.disable and self.group.leads:
            shown = ", ".join(f"{value} {name}" for name, value in figures.items())
            print(f"step {self.step}/{self.config.steps}: {shown}", file=sys.stderr, flush=True)

    def _evaluate(self) -> None:
        """Score the averaged weights on held-out examples; keep the best model."""
        self._check_finite()
        with enough_memory("the evaluation", "use a smaller model or shorter held-out examples"):
            self.group.from_leader(self._evaluate_here)
        self.learner.average.train()

    def _evaluate_here(self) -> None:
        model = self.learner.average.eval()
        score = self.task.evaluate(model)
        if score is not None:
            self.metrics = score.metrics
            self.logger.scalars(self.step, dict(self.metrics))
            if math.isfinite(score.value) and (self.best is None or score.value > self.best):
                self.best = score.value
                self._write(self.run_dir / "best.safetensors", None)
        self.task.show(model, self.logger, self.step)

    def _save(self) -> Path:
        """Save the run, unless its checkpoint is there, and remove its oldest checkpoints."""
        path = checkpoint.training_path(self.run_dir, self.step)
        if self.step != self._saved_step:
            self._check_finite()
            self.group.from_leader(partial(self._save_here, path))
            self._saved_step = self.step
        return path

    def _save_here(self, path: Path) -> None:
        self._write(path, self.state_dict())
        self.folder.rotate(self.config.keep_last)

    def _write(self, path: Path, training: TrainingState | None) -> None:
        self.folder.check()
        checkpoint.save(
            path,
            self.learner.average,
            self.task.data,
            recipe=self.recipe.to_dict(),
            changes=[change.to_dict() for change in self.changes],
            step=self.step,
            metrics=self.metrics,
            training=training,
        )

    def _check_finite(self) -> None:
        """Raise an error if the weights or the state of the optimiser are not finite."""
        name = self.learner.first_non_finite()
        if name is not None:
            raise self._roll_back(f"{name} is not finite")

    def _roll_back(self, problem: str) -> VocoderError:
        """Make the last good state the newest of the run; return the error that tells of it."""
        header = self.group.from_leader(self._roll_back_here)
        rate = self.config.lr
        message = f"{self.run_dir}: diverged at step {self.step}: {problem}; "
        if header is None:
            return VocoderError(
                f"{message}no good state was saved before; start again in another folder with a "
                f"lower rate, such as -o train.lr={rate / 4:g}"
            )
        message += f"rolled back to the last good state, that of step {header['step']}; "
        before = header["recipe"]["train"]["lr"]
        if before < rate:
            return VocoderError(f"{message}go on with --resume at its lower rate, {before:g}")
        return VocoderError(
            f"{message}go on with a lower rate, such as --resume -o train.lr={rate / 4:g}"
        )

    def _roll_back_here(self) -> dict[str, Any] | None:
        good = self.folder.roll_back(self.step - self.learner.bad_steps_in_a_row)
        return None if good is None else checkpoint.read_header(good)

    def _notice(self, message: str) -> None:
        if self.group.leads:
            notice(f"{self.run_dir}: {message}")

    def _command(self) -> str:
        """Return the command that goes on with this run."""
        words = ["vocoder", "train", "--resume", "--run-dir", str(self.run_dir)]
        words += [] if self.data is None else ["--data", str(self.data)]
        return shlex.join(words)
