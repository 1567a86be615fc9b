"""What the trainer does for images; the loop itself is tested in test_training.py."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from helpers import make_corpus, save_images, tiny_image_recipe, tiny_recipe

from vocoder import checkpoint
from vocoder.data.images.batches import ImageBatches
from vocoder.errors import VocoderError
from vocoder.models.families import flow
from vocoder.models.glow import Glow
from vocoder.recipe import ImageTraining, Recipe, load_recipe
from vocoder.registry import find_model
from vocoder.training import optim
from vocoder.training.images import ImageTask
from vocoder.training.optim import learning_rate
from vocoder.training.trainer import Trainer


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_images(tmp_path_factory.mktemp("data") / "images.npz")


def bits(path: Path) -> dict[str, bytes]:
    return {n: t.numpy().tobytes() for n, t in safetensors.torch.load_file(path).items()}


def log(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def test_a_run_leaves_what_it_promises(data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    last = Trainer(tiny_image_recipe(steps=8), data, run).fit()
    assert last.name == "checkpoint-000000008.safetensors"
    train = [line for line in log(run) if "train/bits_per_dim" in line]
    validation = [line for line in log(run) if "validation/bits_per_dim" in line]
    assert [line["step"] for line in train] == [2, 4, 6, 8]
    assert [line["step"] for line in validation] == [4, 8]
    assert train[0]["train/images_per_second"] > 0
    assert all(line["train/processor_seconds"] > 0 for line in train)
    assert validation[0]["validation/inversion_error"] < 1e-4
    model = checkpoint.load(run)
    assert model.path.name == "best.safetensors"
    assert model.metrics["validation/bits_per_dim"] == min(
        line["validation/bits_per_dim"] for line in validation
    )
    assert (model.images.dataset, model.images.shape, model.images.n_values) == (
        "arrays",
        (1, 4, 8),
        8,
    )
    assert model.images.n_validation == 6


def test_samples_are_pictured(data: Path, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    Trainer(tiny_image_recipe(steps=4), data, tmp_path / "run").fit()
    events = EventAccumulator(str(tmp_path / "run/tensorboard")).Reload()
    (picture,) = events.Images("samples")
    assert (picture.width, picture.height) == (8 * (8 + 2) - 2, 8 * (4 + 2) - 2)


def test_bits_fall(data: Path, tmp_path: Path) -> None:
    recipe = tiny_image_recipe(steps=100, lr=1e-2, log_every=5, eval_every=100, save_every=100)
    Trainer(recipe, data, tmp_path / "run").fit()
    values = [line["train/bits_per_dim"] for line in log(tmp_path / "run") if "train/lr" in line]
    assert values[-1] < values[0] - 0.3
    assert values[-1] > 1  # the bit of noise that each pixel of `save_images` holds


@pytest.mark.parametrize("ema_decay", [0.0, 0.9])
def test_resumed_run_ends_in_the_same_bits(data: Path, tmp_path: Path, ema_decay: float) -> None:
    def recipe(steps: int) -> Recipe:
        return tiny_image_recipe(steps=steps, ema_decay=ema_decay, weight_decay=1e-3)

    whole = Trainer(recipe(6), data, tmp_path / "whole").fit()
    Trainer(recipe(2), data, tmp_path / "run").fit()
    run = Trainer(recipe(6), data, tmp_path / "run", resume=True).fit()
    assert bits(run) == bits(whole)
    best = "best.safetensors"
    assert bits(tmp_path / "run" / best) == bits(tmp_path / "whole" / best)


def test_checkpointing_changes_no_bit(data: Path, tmp_path: Path) -> None:
    runs = [
        Trainer(tiny_image_recipe(checkpointing=on), data, tmp_path / str(on))
        for on in (False, True)
    ]
    plain, saving = (bits(run.fit()) for run in runs)
    assert runs[1].learner.model.checkpointing
    assert plain == saving


def test_norms_start_from_the_whole_first_batch_once(data: Path, tmp_path: Path) -> None:
    """In the averaged weights too, which are copied only then; training goes on from there."""
    recipe = tiny_image_recipe(steps=1, lr=1e-12)
    trainer = Trainer(recipe, data, tmp_path / "run")
    trainer.fit()
    torch.manual_seed(recipe.train.seed)
    expected = Glow(recipe.config)
    batches = ImageBatches(
        trainer.task.batches.images, 8, recipe.train.seed, trainer.task.batches.augmentation
    )
    expected.initialise(batches.batch(0, 8))
    for model in (trainer.learner.model, trainer.learner.average):
        for name, tensor in expected.state_dict().items():
            torch.testing.assert_close(model.state_dict()[name], tensor, msg=name)
    before = trainer.learner.model.state_dict()
    again = Trainer(tiny_image_recipe(steps=2, lr=1e-12), data, tmp_path / "run", resume=True)
    again.fit()
    for name, tensor in before.items():
        torch.testing.assert_close(again.learner.model.state_dict()[name], tensor, msg=name)


def test_the_test_images_decide_nothing(tmp_path: Path) -> None:
    for name, value in (("a", 0), ("b", 7)):
        arrays = dict(np.load(save_images(tmp_path / f"{name}.npz")))
        arrays["test"][:] = value
        np.savez(tmp_path / f"{name}.npz", **arrays)
        Trainer(tiny_image_recipe(), tmp_path / f"{name}.npz", tmp_path / name).fit()
    for file in ("best.safetensors", "checkpoint-000000006.safetensors"):
        assert bits(tmp_path / "a" / file) == bits(tmp_path / "b" / file)


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_precision_on_a_cpu(data: Path, tmp_path: Path, precision: str) -> None:
    trainer = Trainer(tiny_image_recipe(steps=2, precision=precision), data, tmp_path / "run")
    trainer.fit()
    assert trainer.learner.loss.dtype == torch.float32
    assert trainer.learner.bad_steps == 0


@pytest.mark.parametrize(
    ("recipe", "amx", "resolved"),
    [
        ("fashion/glow", True, "bf16"),
        ("fashion/nanoglow-mar", True, "bf16"),
        ("fashion/marscf-affine", True, "bf16"),
        ("fashion/marscf-affine", False, "float32"),
        ("fashion/marscf-mixlogcdf", True, "float32"),
        ("digits/glow", True, "float32"),  # pictures too small
        ("digits/marscf", True, "float32"),
    ],
)
def test_automatic_precision_on_a_cpu(
    recipe: str, amx: bool, resolved: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flow, "multiplies_bf16", lambda: amx)
    wanted = load_recipe(recipe)
    assert wanted.train.precision == "auto"
    with torch.device("meta"):
        model = find_model(wanted.model)[0](wanted.config)
    assert optim.precision("auto", torch.device("cpu"), model) == resolved


def test_refusals(data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    with pytest.raises(VocoderError, match=r"images\.npz: images are 1x4x8, .* for 3x4x8; set"):
        Trainer(tiny_image_recipe({"image_channels": 3}), data, run)
    with pytest.raises(VocoderError, match="needs the file or folder"):
        Trainer(tiny_image_recipe(), None, run)
    values = tiny_image_recipe().to_dict()
    values["images"]["variant"] = "another"
    with pytest.raises(
        VocoderError, match=r"the recipe wants another, and bits/dim .* do not compare"
    ):
        Trainer(Recipe.from_dict(values), data, run)
    with pytest.raises(VocoderError, match="a voice needs a corpus"):
        Trainer(tiny_recipe(), None, run)
    assert not run.exists()
    Trainer(tiny_image_recipe(steps=2), data, run).fit()
    other = save_images(tmp_path / "other.npz", seed=1)
    with pytest.raises(VocoderError, match="was trained on other data"):
        Trainer(tiny_image_recipe(), other, run, resume=True).fit()
    corpus = make_corpus(tmp_path / "corpus", n_clips=3)
    with pytest.raises(VocoderError, match="tensors do not fit the model"):
        first = run / "checkpoint-000000002.safetensors"
        Trainer(tiny_recipe(), corpus, tmp_path / "voice", init_from=first).fit()


def test_learning_rate_warms_up() -> None:
    config = ImageTraining(lr=1.0, warmup_steps=4)
    rates = [learning_rate(config, step) for step in range(6)]
    assert rates == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]


def test_ranks_share_the_images_of_a_step(data: Path) -> None:
    task = ImageTask(tiny_image_recipe(), data)
    halves = [task.batch(3, rank, 2)[0] for rank in range(2)]
    assert torch.equal(torch.cat(halves), task.batch(3, 0, 1)[0])


def train_command(data: Path, run: Path, recipe: Recipe) -> list[str]:
    file = run.with_suffix(".yaml")
    file.write_text(json.dumps(recipe.to_dict()), encoding="utf-8")  # JSON is YAML
    arguments = [str(file), "--data", str(data), "--run-dir", str(run), "--resume"]
    return [sys.executable, "-m", "vocoder", "train", *arguments, "--device", "cpu"]


@pytest.mark.slow
def test_killed_then_resumed(data: Path, tmp_path: Path) -> None:
    recipe = tiny_image_recipe(steps=200, save_every=5, eval_every=50)
    whole = Trainer(recipe, data, tmp_path / "whole", device="cpu").fit()
    command = train_command(data, tmp_path / "run", recipe)
    chance = random.Random(0)
    for _ in range(3):
        seen = set((tmp_path / "run").glob("checkpoint-*"))
        process = subprocess.Popen(command)
        while process.poll() is None and set((tmp_path / "run").glob("checkpoint-*")) == seen:
            time.sleep(0.01)
        time.sleep(chance.uniform(0, 0.2))
        assert process.poll() is None, "the run ended before it was killed three times"
        process.kill()
        process.wait()
    subprocess.run(command, check=True, timeout=300)
    assert bits(tmp_path / "run" / whole.name) == bits(whole)
    assert [line["step"] for line in log(tmp_path / "run")] == [
        line["step"] for line in log(tmp_path / "whole")
    ]


# Parity has parameters that nothing depends on, which must not hold up the exchange of gradients.
@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [{}, {"parity": True}, {"name": "marscf", "parity": True}, {"name": "nanoglow"}],
    ids=["glow", "glow-parity", "marscf-parity", "nanoglow"],
)
def test_two_processes_train_as_one(data: Path, tmp_path: Path, settings: dict[str, Any]) -> None:
    """They start alike from the whole first batch, and have the gradient of the joint batch.

    Weights say less: Adamax begins with lr · sign(g), where a gradient of rounding noise may have
    either sign.
    """
    recipe = tiny_image_recipe(settings, steps=1, ema_decay=0.0, checkpointing=True)
    one = Trainer(recipe, data, tmp_path / "one", device="cpu").fit()
    python, *module = train_command(data, tmp_path / "two", recipe)
    rendezvous = ["--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0"]
    launcher = [python, "-m", "torch.distributed.run", "--nproc-per-node", "2", *rendezvous]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run([*launcher, *module], check=True, env=environment, timeout=300)
    ours = safetensors.torch.load_file(tmp_path / "two" / one.name)
    theirs = safetensors.torch.load_file(one)
    assert ours.keys() == theirs.keys()
    moments = [name for name in theirs if name.endswith("exp_avg")]
    model = find_model(recipe.model)[0](recipe.config)
    assert len(moments) == len(list(model.parameters()))
    for name in moments:
        torch.testing.assert_close(ours[name], theirs[name], atol=1e-7, rtol=2e-4, msg=name)
