"""The trainer: resumption to the bit, several processes, non-finite steps, stopping."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch
from helpers import make_corpus, tiny_recipe

from vocoder import checkpoint
from vocoder.config import to_dict
from vocoder.data.speech.corpus import Corpus
from vocoder.data.speech.crops import Crops
from vocoder.errors import VocoderError
from vocoder.judging.likelihood import clip_log_prob, log_likelihood
from vocoder.models.families import flow
from vocoder.models.nanoflow import NanoFlow, NanoFlowConfig
from vocoder.recipe import Recipe, TrainConfig, load_recipe
from vocoder.registry import find_model
from vocoder.training import optim
from vocoder.training.optim import learning_rate
from vocoder.training.trainer import Trainer


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_corpus(tmp_path_factory.mktemp("data") / "corpus")


def bits(path: Path) -> dict[str, bytes]:
    tensors = safetensors.torch.load_file(path)
    return {name: t.numpy().tobytes() for name, t in tensors.items()}


def test_a_run_leaves_what_it_promises(data: Path, tmp_path: Path) -> None:
    last = Trainer(tiny_recipe(steps=8, keep_last=2), data, tmp_path / "run").fit()
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert names == {
        "recipe.yaml",
        "log.jsonl",
        "tensorboard",
        "best.safetensors",
        "checkpoint-000000006.safetensors",
        "checkpoint-000000008.safetensors",
    }
    assert last.name == "checkpoint-000000008.safetensors"
    lines = [json.loads(line) for line in (tmp_path / "run/log.jsonl").read_text().splitlines()]
    train = [line for line in lines if "train/nats_per_dim" in line]
    test = [line for line in lines if "test/nats_per_dim" in line]
    assert [line["step"] for line in train] == [2, 4, 6, 8]
    assert [line["step"] for line in test] == [4, 8]
    assert len(train[0]["train/flow_logdet"]) == 2
    assert train[0]["train/samples_per_second"] > 0
    voice = checkpoint.load(tmp_path / "run")
    assert voice.path.name == "best.safetensors"
    assert voice.metrics.keys() == test[0].keys() - {"step"}
    assert not any(name.startswith("training.") for name in bits(voice.path))


def test_figures_are_named_by_the_split_that_they_are_of(tmp_path: Path) -> None:
    data = make_corpus(tmp_path / "corpus")
    manifest = Corpus.open(data).manifest
    held_out, chosen_by, *others = manifest.utterances
    clips = (held_out, replace(chosen_by, split="validation"), *others)
    (data / "manifest.json").write_text(replace(manifest, utterances=clips).to_json())
    Trainer(tiny_recipe(steps=4), data, tmp_path / "run").fit()
    best = checkpoint.load(tmp_path / "run").metrics
    score = log_likelihood(checkpoint.load(tmp_path / "run").model, Corpus.open(data), [clips[1]])
    assert best["validation/nats_per_dim"] == pytest.approx(score.mean_over_clips, rel=1e-5)
    assert not any(name.startswith("test/") for name in best)


def test_likelihood_rises(data: Path, tmp_path: Path) -> None:
    recipe = tiny_recipe(steps=60, log_every=5, lr=5e-3, eval_every=60, save_every=60)
    Trainer(recipe, data, tmp_path / "run").fit()
    lines = [json.loads(line) for line in (tmp_path / "run/log.jsonl").read_text().splitlines()]
    values = [line["train/nats_per_dim"] for line in lines if "train/nats_per_dim" in line]
    assert values[-1] > values[0] + 0.5


@pytest.mark.parametrize("ema_decay", [0.0, 0.9])
def test_resumed_run_ends_in_the_same_bits(data: Path, tmp_path: Path, ema_decay: float) -> None:
    whole = Trainer(tiny_recipe(ema_decay=ema_decay), data, tmp_path / "whole").fit()
    Trainer(tiny_recipe(ema_decay=ema_decay, steps=2), data, tmp_path / "run").fit()
    run = Trainer(tiny_recipe(ema_decay=ema_decay), data, tmp_path / "run", resume=True).fit()
    assert bits(run) == bits(whole)
    best = "best.safetensors"
    assert bits(tmp_path / "run" / best) == bits(tmp_path / "whole" / best)


def train_command(data: Path, run: Path, recipe: Path) -> list[str]:
    arguments = [str(recipe), "--data", str(data), "--run-dir", str(run), "--resume"]
    return [sys.executable, "-m", "vocoder", "train", *arguments]


def write_recipe(path: Path, recipe: Recipe) -> Path:
    path.write_text(json.dumps(recipe.to_dict()), encoding="utf-8")  # JSON is YAML
    return path


@pytest.mark.slow
def test_killed_four_times_then_resumed(data: Path, tmp_path: Path) -> None:
    """SIGKILL at random moments leaves nothing half-written and costs nothing but time."""
    recipe = tiny_recipe(steps=160, save_every=5, eval_every=50, eval_clips=1, log_every=10)
    file = write_recipe(tmp_path / "tiny.yaml", recipe)
    subprocess.run(train_command(data, tmp_path / "whole", file), check=True, timeout=300)
    chance = random.Random(0)
    kills = 0
    while True:
        process = subprocess.Popen(train_command(data, tmp_path / "run", file))
        if kills == 4:
            assert process.wait(timeout=300) == 0
            break
        # Wait for the loop to begin, so that the kill does not only ever hit the imports.
        seen = set((tmp_path / "run").glob("checkpoint-*"))
        while process.poll() is None and set((tmp_path / "run").glob("checkpoint-*")) == seen:
            time.sleep(0.01)
        time.sleep(chance.uniform(0, 0.3))
        assert process.poll() is None, "the run ended before it was killed four times"
        process.kill()
        process.wait()
        kills += 1
    last = "checkpoint-000000160.safetensors"
    assert bits(tmp_path / "run" / last) == bits(tmp_path / "whole" / last)
    best = "best.safetensors"
    assert bits(tmp_path / "run" / best) == bits(tmp_path / "whole" / best)
    steps = [
        [json.loads(line)["step"] for line in (tmp_path / run / "log.jsonl").open()]
        for run in ("run", "whole")
    ]
    assert steps[0] == steps[1]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_saves_and_exits_0(data: Path, tmp_path: Path, number: signal.Signals) -> None:
    file = write_recipe(tmp_path / "tiny.yaml", tiny_recipe(steps=100_000, save_every=100_000))
    log = tmp_path / "run" / "log.jsonl"
    process = subprocess.Popen(train_command(data, tmp_path / "run", file))
    while not log.is_file() or not log.read_text():
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(number)
    assert process.wait(timeout=60) == 0
    newest = checkpoint.newest_checkpoint(tmp_path / "run")
    assert newest is not None
    assert checkpoint.load(newest).step > 0


def test_non_finite_steps_are_skipped_and_counted(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = Crops.batch

    def poisoned(self: Crops, step: int, *arguments: int) -> object:
        batch = honest(self, step, *arguments)
        if step in (1, 2):
            batch.audio[0, 0] = float("nan")
        return batch

    monkeypatch.setattr(Crops, "batch", poisoned)
    trainer = Trainer(tiny_recipe(steps=4), data, tmp_path / "run")
    trainer.fit()
    assert (trainer.learner.bad_steps, trainer.learner.bad_steps_in_a_row) == (2, 0)
    assert all(p.isfinite().all() for p in trainer.learner.model.parameters())

    with pytest.raises(VocoderError, match=r"diverged at step 3: 2 non-finite steps in a row; no"):
        Trainer(tiny_recipe(steps=4, max_bad_steps=2), data, tmp_path / "run2").fit()


def test_refusals(data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    last = Trainer(tiny_recipe(steps=2), data, run).fit()
    with pytest.raises(VocoderError, match="holds a run already; continue it with --resume"):
        Trainer(tiny_recipe(), data, run).fit()
    other = tiny_recipe().to_dict()
    other["model"]["channels"] = 6
    with pytest.raises(VocoderError, match=r"cannot change \(model\.channels 4 -> 6\)"):
        Trainer(Recipe.from_dict(other), data, run, resume=True).fit()
    corpus = make_corpus(tmp_path / "other", n_clips=4)
    with pytest.raises(VocoderError, match="was trained on other data"):
        Trainer(tiny_recipe(), corpus, run, resume=True).fit()
    with pytest.raises(VocoderError, match=r"lower train\.segment_length"):
        Trainer(tiny_recipe(segment_length=160_000), data, run)
    with pytest.raises(VocoderError, match="made with the preset tacotron2-22k, the recipe wants"):
        hifigan = tiny_recipe().to_dict() | {"preset": "hifigan-22k"}
        Trainer(Recipe.from_dict(hifigan), data, run)
    with pytest.raises(VocoderError, match="device 'tpu9': not usable here"):
        Trainer(tiny_recipe(), data, tmp_path / "run2", device="tpu9").fit()
    with pytest.raises(VocoderError, match="use --init-from"):
        voice = run / "checkpoint-000000009.safetensors"
        (run / "best.safetensors").rename(voice)
        Trainer(tiny_recipe(), data, run, resume=True).fit()
    assert last.is_file()


def test_init_from_starts_a_new_run_from_the_weights(data: Path, tmp_path: Path) -> None:
    first = Trainer(tiny_recipe(steps=2), data, tmp_path / "first").fit()
    trainer = Trainer(tiny_recipe(steps=1, lr=1e-12), data, tmp_path / "next", init_from=first)
    last = trainer.fit()
    before, after = checkpoint.load(first), checkpoint.load(last)
    assert after.step == 1
    for name, tensor in before.model.state_dict().items():
        torch.testing.assert_close(after.model.state_dict()[name], tensor)


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_precision_on_a_cpu(data: Path, tmp_path: Path, precision: str) -> None:
    trainer = Trainer(tiny_recipe(steps=2, precision=precision), data, tmp_path / "run")
    trainer.fit()
    assert trainer.learner.loss.dtype == torch.float32
    assert trainer.learner.bad_steps == 0


@pytest.mark.parametrize(
    ("channels", "amx", "resolved"),
    [(32, True, "bf16"), (32, False, "float32"), (16, True, "float32")],
)
def test_automatic_precision_on_a_cpu(
    channels: int, amx: bool, resolved: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flow, "multiplies_bf16", lambda: amx)
    model = NanoFlow(NanoFlowConfig(channels=channels, n_layers=1, n_flows=1, flow_embedding=2))
    assert optim.precision("auto", torch.device("cpu"), model) == resolved
    assert optim.precision("float32", torch.device("cpu"), model) == "float32"


@pytest.mark.parametrize("recipe", ["recorded/voice-22k-cpu", "recorded/compare-nanoflow-lp"])
def test_automatic_precision_is_that_of_the_flow_behind_a_filter(
    recipe: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flow, "multiplies_bf16", lambda: True)
    wanted = load_recipe(recipe)
    model = find_model(wanted.model)[0](wanted.config)
    assert optim.precision("auto", torch.device("cpu"), model) == "bf16"


def test_a_run_that_goes_on_in_another_precision_says_so(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for amx, steps in ((False, 2), (True, 4), (True, 6)):
        monkeypatch.setattr(flow, "multiplies_bf16", lambda amx=amx: amx)
        settings = tiny_recipe(steps=steps).to_dict()
        settings["model"] |= {"channels": 32}
        Trainer(Recipe.from_dict(settings, "test"), data, tmp_path / "run", resume=True).fit()
        told = (
            "was trained in float32, and goes on in bf16 from step 2 on" in capsys.readouterr().err
        )
        assert told == (steps == 4)


def test_learning_rate_halves() -> None:
    config = TrainConfig(lr=1.0, lr_decay_steps=10)
    assert [learning_rate(config, step) for step in (0, 9, 10, 20)] == [1.0, 1.0, 0.5, 0.25]


def test_crops_are_aligned_and_a_function_of_the_step(data: Path) -> None:
    corpus = Corpus.open(data)
    crops = Crops(corpus, 1000, seed=0)
    batch = crops.batch(3, 4)
    assert batch.audio.shape == (4, 1000)
    assert batch.cond.shape == (4, 80, 4 + 2)
    assert batch.offset == 256
    again = Crops(corpus, 1000, seed=0).batch(3, 4)
    assert torch.equal(batch.audio, again.audio)
    halves = [crops.batch(3, 4, rank, 2) for rank in range(2)]
    assert torch.equal(torch.cat([half.audio for half in halves]), batch.audio)
    assert torch.equal(torch.cat([half.cond for half in halves]), batch.cond)
    for audio, mel in zip(batch.audio, batch.cond, strict=True):
        assert any(
            _holds(corpus, utterance, audio.numpy(), mel.numpy())
            for utterance in corpus.utterances("train")
        )


def _holds(corpus, utterance, audio, mel):  # type: ignore[no-untyped-def]
    """Whether `audio` and `mel` lie at one place of the utterance, a frame of context before."""
    whole, frames = corpus.audio(utterance) / 32768, corpus.mel(utterance)
    for start in range(1, utterance.n_frames - mel.shape[1] + 2):
        if (frames[:, start - 1 : start - 1 + mel.shape[1]] == mel).all():
            return (whole[start * 256 : start * 256 + len(audio)] == audio).all()
    return False


def test_an_epoch_has_every_clip_once(data: Path) -> None:
    corpus = Corpus.open(data)
    crops = Crops(corpus, 1024, seed=0)
    mels = crops.batch(0, len(crops.utterances)).cond[:, :, 1]
    owners = [
        u.id
        for frame in mels
        for u in crops.utterances
        if (corpus.mel(u) == frame.numpy()[:, None]).all(axis=0).any()
    ]
    assert sorted(owners) == sorted(u.id for u in crops.utterances)


def test_log_likelihood_weighs_clips_and_samples(data: Path) -> None:
    corpus = Corpus.open(data)
    recipe = tiny_recipe()
    torch.manual_seed(0)
    from vocoder.registry import find_model

    model = find_model(recipe.model)[0](recipe.config)
    clips = corpus.utterances("train")[:2]
    terms = [clip_log_prob(model, corpus, clip) for clip in clips]
    score = log_likelihood(model, corpus, clips)
    assert score.mean_over_clips == pytest.approx((terms[0].mean() + terms[1].mean()) / 2)
    assert score.n_samples == sum(clip.n_samples for clip in clips)
    assert score.per_sample == pytest.approx(sum(t.sum() for t in terms) / score.n_samples)
    assert to_dict(recipe.config)["channels"] == 4
