"""Maximum-likelihood training of a recipe's model, whatever it models."""

from __future__ import annotations

import copy
import dataclasses
import math
import signal
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import torch
import yaml
from torch import Tensor, nn
from tqdm import tqdm

from vocoder import checkpoint
from vocoder.checkpoint import TrainingState
from vocoder.errors import VocoderError
from vocoder.files.atomic import atomic_path
from vocoder.models.families.flow import FlowModel, standard_normal_log_prob
from vocoder.recipe import ImageRecipe, VoiceRecipe
from vocoder.registry import find_model
from vocoder.training.distributed import Processes, processes
from vocoder.training.images import ImageTask
from vocoder.training.logger import RunLogger
from vocoder.training.optim import learning_rate, make_optimizer, update_average
from vocoder.training.task import Task
from vocoder.training.voice import VoiceTask


class Trainer:
    """Trains a recipe and leaves its checkpoints, log and TensorBoard files in a folder.

    A run that was stopped or killed and then resumed ends in the same bits as one that was not.

    Args:
        recipe: what to train and how.
        data: of a voice, a folder that `vocoder preprocess` made; of images, their folder or file,
            None for those that need none.
        run_dir: the run's folder; made if need be.
        resume: continue from the newest checkpoint in `run_dir`, if there is one.
        device: such as "cuda"; by default the GPU if there is one.
        init_from: a checkpoint whose weights the run starts from.
    """

    # What `state_dict` saves beside the weights and the optimiser.
    step: int
    bad_steps: int
    bad_steps_in_a_row: int
    best: float | None  # highest score so far, see `Score.value`
    metrics: dict[str, float]  # of the latest evaluation

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
        self.recipe = recipe
        self.config = recipe.train
        self.task = open_task(recipe, data)
        self.run_dir = Path(run_dir)
        self.resume = resume
        self.device_name = device
        self.init_from = init_from

    def fit(self) -> Path:
        """Train until the recipe's last step, or until SIGTERM or Ctrl-C; return the checkpoint."""
        with processes(self.device_name) as group, _stop_requests() as stop:
            self._start(group)
            with (
                closing(self.logger),
                ThreadPoolExecutor(1) as reader,
                tqdm(
                    total=self.config.steps,
                    initial=self.step,
                    unit="step",
                    disable=not (group.leads and sys.stderr.isatty()),
                ) as bar,
            ):
                upcoming = reader.submit(self._batch, self.step)
                while self.step < self.config.steps and not group.any(stop.is_set()):
                    batch = upcoming.result()
                    upcoming = reader.submit(self._batch, self.step + 1)
                    self.train_step(batch)
                    bar.update()
                    if self.step % self.config.log_every == 0:
                        self._tell(bar, self._log(batch))
                    if self.step % self.config.eval_every == 0 or self.step == self.config.steps:
                        self._evaluate()
                    if self.step % self.config.save_every == 0:
                        self._save()
            return self._save()

    def train_step(self, batch: tuple[Any, ...]) -> None:
        """Do one optimiser step; a step whose gradient is not finite changes nothing."""
        torch.manual_seed(self.config.seed + self.step)  # no generator state to restore
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.config, self.step)
        with torch.autocast(self.group.device.type, self.dtype, self.dtype != torch.float32):
            z, logdet = self.parallel(*batch)
        self.loss = -(standard_normal_log_prob(z).sum() + logdet.sum()) / z.numel()
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
        if self.bad_steps_in_a_row >= self.config.max_bad_steps:
            self._save()
            raise VocoderError(
                f"{self.run_dir}: {self.bad_steps_in_a_row} non-finite steps in a row up to step "
                f"{self.step}; resume with a lower rate, such as --resume -o "
                f"train.lr={learning_rate(self.config, self.step) / 4:g}"
            )

    def state_dict(self) -> TrainingState:
        """Return all that resuming needs beyond the averaged weights."""
        state = self.optimizer.state_dict()["state"]
        tensors = {
            f"optimizer.{i}.{key}": value for i, s in state.items() for key, value in s.items()
        }
        if self.average is not self.model:
            tensors |= {f"weights.{name}": t for name, t in self.model.state_dict().items()}
        return TrainingState(
            tensors,
            {
                "bad_steps": self.bad_steps,
                "bad_steps_in_a_row": self.bad_steps_in_a_row,
                "best": self.best,
                "metrics": self.metrics,
                "scaler": self.scaler.state_dict(),
                "data": self.task.facts,
            },
        )

    def load_state_dict(self, state: TrainingState) -> None:
        """Restore what `state_dict` gave."""
        weights = {
            name.removeprefix("weights."): tensor
            for name, tensor in state.tensors.items()
            if name.startswith("weights.")
        }
        if self.average is not self.model:
            self.model.load_state_dict(weights)
        moments: dict[int, dict[str, Tensor]] = {}
        for name, tensor in state.tensors.items():
            if name.startswith("optimizer."):
                _, index, key = name.split(".")
                moments.setdefault(int(index), {})[key] = tensor
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": moments, "param_groups": groups})
        self.scaler.load_state_dict(state.values["scaler"])
        self.bad_steps = state.values["bad_steps"]
        self.bad_steps_in_a_row = 0  # what the run was resumed for may well cure it
        self.best = state.values["best"]
        self.metrics = state.values["metrics"]

    def _start(self, group: Processes) -> None:
        """Build the model and all that goes with it, new or from the newest checkpoint."""
        self.group = group
        self.dtype = _precision(self.config.precision, group.device)
        if self.config.batch_size % group.n_ranks:
            raise VocoderError(
                f"train.batch_size: {self.config.batch_size} is not a multiple of the "
                f"{group.n_ranks} processes"
            )
        newest = checkpoint.newest_checkpoint(self.run_dir)
        if newest is not None and not self.resume:
            raise VocoderError(
                f"{self.run_dir}: holds a run already; continue it with --resume or choose "
                "another folder"
            )
        torch.manual_seed(self.config.seed)
        model_class, _ = find_model(self.recipe.model)
        self.model: FlowModel = model_class(self.recipe.config).to(group.device)
        self.model.checkpointing = self.config.checkpointing
        if newest is None and self.init_from is None:
            self.task.initialise(self.model, group.device)
        self.average = copy.deepcopy(self.model) if self.config.ema_decay else self.model
        self.optimizer = make_optimizer(self.config, self.model)
        self.scaler = torch.amp.GradScaler(group.device.type, enabled=self.dtype == torch.float16)
        self.step = self.bad_steps = self.bad_steps_in_a_row = 0
        self.best, self.metrics = None, {}
        if newest is not None:
            self._restore(newest)
        elif self.init_from is not None:
            self._start_from(Path(self.init_from))
        if group.leads:
            self.run_dir.mkdir(parents=True, exist_ok=True)
            with atomic_path(self.run_dir / "recipe.yaml") as temporary:
                temporary.write_text(
                    yaml.safe_dump(self.recipe.to_dict(), sort_keys=False, allow_unicode=True),
                    encoding="utf-8",
                )
        group.wait()
        self.parallel: nn.Module = self.model
        if group.n_ranks > 1:
            self.parallel = nn.parallel.DistributedDataParallel(self.model)
        self.logger = RunLogger(self.run_dir, self.step, enabled=group.leads)
        self.started = time.perf_counter(), self.step

    def _restore(self, path: Path) -> None:
        saved = checkpoint.load(path, self.group.device)
        if saved.config != self.recipe.config or saved.model_name != self.recipe.model:
            ours, theirs = dataclasses.asdict(self.recipe.config), dataclasses.asdict(saved.config)
            changed = [key for key in ours if ours[key] != theirs.get(key)] or ["name"]
            raise VocoderError(
                f"{path}: the recipe's model differs ({', '.join(f'model.{k}' for k in changed)}); "
                "resume with the recipe that it was started with"
            )
        state = checkpoint.load_training(path, self.group.device)
        if state.values.get("data") != self.task.facts:
            raise VocoderError(
                f"{path}: was trained on other data ({state.values.get('data')}, now "
                f"{self.task.facts}); use --init-from in a new folder"
            )
        self.average.load_state_dict(saved.model.state_dict())
        self.load_state_dict(state)
        self.step = saved.step

    def _start_from(self, path: Path) -> None:
        saved = checkpoint.load(path, self.group.device)
        try:
            checkpoint.check_tensors(self.model.state_dict(), saved.model.state_dict())
        except ValueError as error:
            raise VocoderError(f"{saved.path}: {error}") from None
        self.model.load_state_dict(saved.model.state_dict())
        self.average.load_state_dict(saved.model.state_dict())

    def _batch(self, step: int) -> tuple[Any, ...]:
        batch = self.task.batch(step, self.group.rank, self.group.n_ranks)
        device = self.group.device
        return tuple(x.to(device, non_blocking=True) if isinstance(x, Tensor) else x for x in batch)

    def _log(self, batch: tuple[Any, ...]) -> dict[str, str]:
        """Log the step; return what the progress bar shows."""
        now = time.perf_counter()
        seconds, steps = now - self.started[0], self.step - self.started[1]
        self.started = now, self.step
        speed = steps * self.task.units_per_step / seconds
        figure, likelihood = self.task.likelihood(self.group.mean(self.loss))
        values: dict[str, Any] = {
            f"train/{figure}": likelihood,
            "train/grad_norm": self.grad_norm.item(),
            "train/lr": learning_rate(self.config, self.step - 1),
            f"train/{self.task.unit}_per_second": speed,
            "train/bad_steps": self.bad_steps,
        }
        if self.group.leads:
            more = self.task.step_metrics(self.model, batch)
            self.logger.scalars(
                self.step, values | {f"train/{name}": value for name, value in more.items()}
            )
        figure = figure.replace("_per_", "/")
        return {figure: f"{likelihood:.3f}", f"{self.task.unit}/s": f"{speed:.0f}"}

    def _tell(self, bar: tqdm[Any], figures: dict[str, str]) -> None:
        """Show figures on the progress bar, or as a line where there is no terminal."""
        bar.set_postfix(figures)
        if bar.disable and self.group.leads:
            shown = ", ".join(f"{value} {name}" for name, value in figures.items())
            print(f"step {self.step}/{self.config.steps}: {shown}", file=sys.stderr, flush=True)

    def _evaluate(self) -> None:
        """Score the averaged weights on held-out examples; keep the best model."""
        if self.group.leads:
            model = self.average.eval()
            score = self.task.evaluate(model)
            if score is not None:
                self.metrics = score.metrics
                self.logger.scalars(self.step, dict(self.metrics))
                if math.isfinite(score.value) and (self.best is None or score.value > self.best):
                    self.best = score.value
                    self._write(self.run_dir / "best.safetensors", None)
            self.task.show(model, self.logger, self.step)
        self.average.train()
        self.group.wait()

    def _save(self) -> Path:
        path = self.run_dir / f"checkpoint-{self.step:09d}.safetensors"
        if self.group.leads:
            self._write(path, self.state_dict())
            kept = sorted(self.run_dir.glob("checkpoint-*.safetensors"))[-self.config.keep_last :]
            for old in set(self.run_dir.glob("checkpoint-*.safetensors")) - set(kept):
                old.unlink()
        self.group.wait()
        return path

    def _write(self, path: Path, training: TrainingState | None) -> None:
        checkpoint.save(
            path,
            self.average,
            self.task.data,
            recipe=self.recipe.to_dict(),
            step=self.step,
            metrics=self.metrics,
            training=training,
        )


def open_task(recipe: VoiceRecipe | ImageRecipe, data: str | Path | None) -> Task[Any]:
    """Return what a recipe is trained on.

    Raises:
        VocoderError: the data is missing or does not fit the recipe.
    """
    if isinstance(recipe, ImageRecipe):
        return ImageTask(recipe, None if data is None else Path(data))
    if data is None:
        raise VocoderError(f"{recipe.name}: a voice needs a corpus; give the folder with --data")
    return VoiceTask(recipe, Path(data))


def _precision(name: str, device: torch.device) -> torch.dtype:
    """Return the dtype of the convolutions; likelihood and log-determinants are always float32."""
    if name == "auto":
        bf16 = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if bf16 else torch.float32
    if name == "fp16" and device.type == "cpu":
        raise VocoderError("train.precision: fp16 needs a GPU; use float32 or bf16")
    return {"float32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[name]


@contextmanager
def _stop_requests() -> Iterator[threading.Event]:
    """Turn SIGTERM and Ctrl-C into an event that the loop looks at between steps."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def request(signum: int, frame: FrameType | None) -> None:
        stop.set()

    previous = {s: signal.signal(s, request) for s in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
