"""Training a voice: crops of a preprocessed corpus, scored on whole test clips."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vocoder.data.speech.corpus import Corpus
from vocoder.data.speech.crops import Crops
from vocoder.data.speech.reader import Split
from vocoder.data.speech.silence import MUCH_SILENCE, silence_warning, silent_share
from vocoder.errors import VocoderError
from vocoder.judging.likelihood import log_likelihood
from vocoder.mel.presets import preset_difference
from vocoder.models.families.voice import VoiceModel
from vocoder.recipe import VoiceRecipe
from vocoder.training.logger import RunLogger
from vocoder.training.task import Score, Task

logger = logging.getLogger("vocoder")

PICTURED_CLIPS = 2
PICTURED_SECONDS = 2.0


class VoiceTask(Task[VoiceModel]):
    """Waveforms given their mels.

    Args:
        recipe: the model to train, and how to train it.
        data: a folder that `vocoder preprocess` made.

    Raises:
        VocoderError: no corpus is there, it does not fit the recipe, or all of it is silent.
    """

    unit = "samples"
    smaller = "train.segment_length"

    def __init__(self, recipe: VoiceRecipe, data: Path) -> None:
        self.corpus = Corpus.open(data)
        self.train = recipe.train
        self.data = self.corpus.preset
        differences = preset_difference(self.corpus.preset, recipe.preset)
        if differences:
            raise VocoderError(
                f"{data}: was made with the preset {self.corpus.preset.name}, the recipe wants "
                f"{recipe.preset.name} ({', '.join(differences)}); preprocess it anew"
            )
        config = recipe.config
        self.crops = Crops(
            self.corpus,
            self.train.segment_length,
            self.train.seed,
            config.mel_context,
            config.history,
            config.pitch_range,
        )
        share = silent_share(self.corpus, self.crops.utterances)
        if share == 1:
            raise VocoderError(
                f"{data}: all of its audio is digital silence, of which nothing can be learnt; "
                "preprocess other recordings"
            )
        if share > MUCH_SILENCE:
            logger.warning("%s: %s", data, silence_warning(share))
        self.examples = f"crops of {self.train.segment_length} samples"
        # What selects the best checkpoint is no test of it any more, where the corpus allows.
        self.split: Split = "validation" if self.corpus.utterances("validation") else "test"
        self.held_out = self.corpus.utterances(self.split)[: self.train.eval_clips]
        self.units_per_step = self.train.batch_size * self.train.segment_length
        self.facts = {
            "name": self.corpus.name,
            "fingerprint": self.corpus.fingerprint,
            "clips": len(self.crops.utterances),
            "samples": sum(u.n_samples for u in self.crops.utterances),
            **({"given_mels": True} if self.corpus.manifest.given_mels else {}),
        }

    def batch(self, step: int, rank: int, n_ranks: int) -> tuple[Any, ...]:
        """Return one process's share of the crops of a step, as the model's `forward` takes it."""
        return self.crops.batch(step, self.train.batch_size, rank, n_ranks).for_model()

    def loss(self, model: VoiceModel, batch: tuple[Any, ...]) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the negative log-likelihood of the crops in nats per sample, and what joins it.

        The figures are the log-likelihood and each other loss of the model.
        """
        losses = model.losses(*batch)
        others = {f"loss/{name}": x.detach() for name, x in losses.items() if name != "nll"}
        figures = {"nats_per_dim": -losses["nll"].detach(), **others}
        return torch.stack([*losses.values()]).sum(), figures

    def initialise(self, model: VoiceModel, device: torch.device) -> None:
        """Set the normalisations, where a model has any, by the first batch of all processes."""
        batch = self.batch(0, 0, 1)
        model.initialise(*(x.to(device) if isinstance(x, Tensor) else x for x in batch))

    @torch.no_grad()
    def step_metrics(self, model: VoiceModel, batch: tuple[Any, ...]) -> dict[str, Any]:
        """Return each flow's log-determinant per dimension on the first crop of the batch."""
        first: list[Any] = [part[:1] if isinstance(part, Tensor) else part for part in batch]
        return {"flow_logdet": model.flow_logdets(*first)}

    def evaluate(self, model: VoiceModel) -> Score | None:
        """Score whole held-out clips; the figures are named by the split that they are of."""
        if not self.held_out:
            return None
        score = log_likelihood(model.fold(), self.corpus, self.held_out)
        metrics = {
            f"{self.split}/nats_per_dim": score.mean_over_clips,
            f"{self.split}/nats_per_dim_by_length": score.per_sample,
            f"{self.split}/nats_per_dim_active": score.active,
        }
        return Score(metrics, score.mean_over_clips)

    @torch.inference_mode()
    def show(self, model: VoiceModel, logger: RunLogger, step: int) -> None:
        """Log the sound and the mel of the first test clips, and of the model's rendering."""
        from vocoder.mel.spectrogram import MelSpectrogram

        model = model.fold()
        device = next(model.parameters()).device
        preset = self.corpus.preset
        analyse = MelSpectrogram(preset)
        frames = int(PICTURED_SECONDS * preset.sample_rate / preset.hop_length)
        for i, clip in enumerate(self.held_out[:PICTURED_CLIPS]):
            mel = torch.tensor(self.corpus.mel(clip)[:, :frames])
            noise = torch.Generator().manual_seed(self.train.seed)
            z = torch.randn(1, mel.shape[1] * preset.hop_length, generator=noise)
            audio = model.inverse(z.to(device), model.condition(mel[None].to(device)))
            audio = audio[0].float().cpu().clamp(-1, 1)
            recording = torch.tensor(self.corpus.audio(clip)[: len(audio)]) / 32768
            logger.audio(step, f"clip {i}/voice", audio, preset.sample_rate)
            logger.audio(step, f"clip {i}/recording", recording, preset.sample_rate)
            voice = analyse(audio)[:, : mel.shape[1]]
            logger.mels(step, f"clip {i}", mel[:, : voice.shape[1]], voice)
