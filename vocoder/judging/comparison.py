"""What a comparison of voices found: figures of every clip, their means, as a table or JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import PurePath
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from vocoder.errors import VocoderError
from vocoder.judging.paired import PairedDifference, paired_difference
from vocoder.mel.presets import MelPreset

RECORDING = "recording"  # the voice that is ideal


@dataclass(frozen=True)
class Figure:
    """One thing that is measured, and how to read it."""

    name: str  # in JSON
    label: str  # for people
    unit: str  # "" where it has none
    better: Literal["more", "less"]
    meaning: str  # one sentence
    n_decimals: int


FIGURES = {
    figure.name: figure
    for figure in (
        Figure(
            "nats_per_dim",
            "log-likelihood, mean over clips",
            "nats/dim",
            "more",
            "Of the recording under the flow; every clip weighs the same, as is published.",
            3,
        ),
        Figure(
            "nats_per_dim_by_length",
            "log-likelihood, by length",
            "nats/dim",
            "more",
            "Of the recording under the flow; every sample weighs the same.",
            3,
        ),
        Figure(
            "nats_per_dim_active",
            "log-likelihood, active frames",
            "nats/dim",
            "more",
            "Over the frames within 40 dB of a clip's loudest: silence is cheap to model.",
            3,
        ),
        Figure(
            "log_spectral_distance",
            "log-spectral distance",
            "dB",
            "less",
            "Root mean square difference of the log spectra, all bins alike.",
            2,
        ),
        Figure(
            "mel_distance",
            "mel distance",
            "of the mel",
            "less",
            "Mean absolute difference of the mel-spectrograms of the corpus's preset.",
            3,
        ),
        Figure(
            "mel_cepstral_distortion",
            "mel-cepstral distortion",
            "dB",
            "less",
            "Difference of the smooth spectra along the mel scale, without the level.",
            2,
        ),
        Figure(
            "f0_rmse",
            "pitch error",
            "cents",
            "less",
            "Root mean square over frames that are voiced in both; an octave is 1200 cents.",
            1,
        ),
        Figure(
            "voicing_f1",
            "voicing F1",
            "",
            "more",
            "How well voiced frames are met: 1 if all are, and no other.",
            3,
        ),
        Figure(
            "tone_bias",
            "tone bias",
            "dB",
            "less",
            "How much more the lines at multiples of rate/H stand out than in the recording's "
            "quiet frames.",
            2,
        ),
        Figure("stoi", "STOI", "", "more", "Intelligibility, up to 1.", 3),
        Figure("pesq", "PESQ", "", "more", "Quality as listeners would rate it, 1 to 4.64.", 2),
        Figure(
            "dnsmos_overall",
            "DNSMOS overall",
            "",
            "more",
            "Quality as listeners would rate it, 1 to 5, heard without the recording (P.835).",
            2,
        ),
        Figure(
            "dnsmos_signal",
            "DNSMOS signal",
            "",
            "more",
            "Quality of the speech itself, 1 to 5, heard without the recording (P.835).",
            2,
        ),
        Figure(
            "dnsmos_background",
            "DNSMOS background",
            "",
            "more",
            "How little noise disturbs, 1 to 5, heard without the recording (P.835).",
            2,
        ),
        Figure(
            "dnsmos_p808",
            "DNSMOS P.808",
            "",
            "more",
            "Quality as listeners would rate it, 1 to 5, by the earlier network (P.808).",
            2,
        ),
        Figure(
            "times_real_time",
            "speed",
            "× real time",
            "more",
            "Seconds of audio made per second of computing, one clip at a time.",
            2,
        ),
    )
}


@dataclass(frozen=True)
class VoiceScores:
    """The figures of one voice; one value a clip, NaN where a clip has none.

    An infinite value makes the mean so too, so that no divergence is hidden.
    """

    name: str
    values: Mapping[str, npt.NDArray[np.float64]]  # (n_clips,) by the figure's name
    # Of the clips in a mean (n_clips,); a figure that is not here weighs all clips alike.
    weights: Mapping[str, npt.NDArray[np.float64]] = field(default_factory=dict)

    def summary(self, figure: str) -> tuple[float, float, int]:
        """Return the mean over clips, its standard error (NaN of one clip), and how many have it.

        The error tells how much the mean may change with other clips of the same kind.
        """
        values = self.values[figure]
        weights = self.weights.get(figure, np.ones_like(values))
        known = ~np.isnan(values)
        values, weights, n = values[known], weights[known], int(known.sum())
        if not n:
            return math.nan, math.nan, 0
        mean = float((weights * values).sum() / weights.sum())
        if n == 1 or math.isinf(mean):
            return mean, math.nan, n
        spread = (weights**2 * (values - mean) ** 2).sum() * n / (n - 1)
        return mean, float(np.sqrt(spread) / weights.sum()), n


@dataclass(frozen=True)
class Comparison:
    """Voices scored on the same clips."""

    data: str  # the corpus
    preset: MelPreset
    clips: tuple[str, ...]  # ids
    seconds: tuple[float, ...]  # of each clip
    voices: tuple[VoiceScores, ...]
    temperature: float
    seed: int
    device: str
    refine: int | None = None  # mel-consistency steps of all voices; None is the default of each
    notes: tuple[str, ...] = ()  # what was left out, and why
    n_validation: int = 0  # of the clips; all others are of the test

    @property
    def figures(self) -> list[Figure]:
        """The figures that a voice has, in the order of `FIGURES`."""
        return [
            figure
            for figure in FIGURES.values()
            if any(figure.name in voice.values for voice in self.voices)
        ]

    @cached_property
    def labels(self) -> dict[str, str]:
        """What people read for each voice: the end of its path that tells it from the others."""
        return short_names([voice.name for voice in self.voices])

    @property
    def counted_clips(self) -> str:
        """How many clips of which split, such as "3 test and 2 validation clips"."""
        n = {"test": len(self.clips) - self.n_validation, "validation": self.n_validation}
        told = " and ".join(f"{count} {split}" for split, count in n.items() if count)
        return f"{told} {'clip' if len(self.clips) == 1 else 'clips'}"

    def ranking(self, figure: str) -> list[str]:
        """Return the names of the voices that have a figure, the best first."""
        means = {
            voice.name: voice.summary(figure)[0] for voice in self.voices if figure in voice.values
        }
        sign = -1 if FIGURES[figure].better == "more" else 1
        known = [name for name, mean in means.items() if not math.isnan(mean)]
        return sorted(known, key=lambda name: sign * means[name])

    def best(self, figure: str) -> str | None:
        """Return the name of the best voice of those that have a figure, if it beats another.

        The recordings are what voices are measured against, and compete with none.
        """
        ranking = [name for name in self.ranking(figure) if name != RECORDING]
        return ranking[0] if len(ranking) > 1 else None

    def difference(self, figure: str, name: str, baseline: str) -> PairedDifference:
        """Return by how much a voice exceeds another on the same clips, with 95 % confidence.

        Args:
            figure: one that both voices have, and whose mean weighs all clips alike.
            name: Name of the voice.
            baseline: the name of the other voice.

        Raises:
            VocoderError: The mean of the figure weighs clips by their length or by the time that
                they took, as no mean of pairs does; their difference could have the other sign.
        """
        voices = {voice.name: voice for voice in self.voices}
        if figure in {**voices[name].weights, **voices[baseline].weights}:
            raise VocoderError(
                f"{figure}: its mean weighs clips unequally, so that a mean of pairs would be "
                "another figure; compare the two means instead"
            )
        return paired_difference(voices[name].values[figure], voices[baseline].values[figure])

    def _differences(self) -> list[dict[str, Any]]:
        """Return those of all voices to the first, for JSON; weighted figures have none."""
        first, *others = self.voices
        keys = ("mean", "low", "high", "n_clips")
        return [
            {
                "voice": voice.name,
                "baseline": first.name,
                "figures": {
                    figure: dict(
                        zip(
                            keys,
                            map(finite_or_none, self.difference(figure, voice.name, first.name)),
                            strict=True,
                        )
                    )
                    for figure in voice.values
                    if figure in first.values and figure not in {**voice.weights, **first.weights}
                },
            }
            for voice in others
        ]

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as what JSON can hold; a figure that is undefined is None."""
        return {
            "data": self.data,
            "preset": self.preset.name,
            "temperature": self.temperature,
            "seed": self.seed,
            "refine": self.refine,
            "device": self.device,
            "figures": {
                figure.name: {
                    "label": figure.label,
                    "unit": self.unit(figure),
                    "better": figure.better,
                    "ranking": self.ranking(figure.name),
                }
                for figure in self.figures
            },
            "clips": [
                {"id": identity, "seconds": round(seconds, 3)}
                for identity, seconds in zip(self.clips, self.seconds, strict=True)
            ],
            "voices": [
                {
                    "name": voice.name,
                    "figures": {
                        name: dict(
                            zip(
                                ("mean", "standard_error", "n_clips"),
                                map(finite_or_none, voice.summary(name)),
                                strict=True,
                            ),
                            by_clip=[finite_or_none(value) for value in values.tolist()],
                        )
                        for name, values in voice.values.items()
                    },
                }
                for voice in self.voices
            ],
            "differences": self._differences(),
            "notes": list(self.notes),
        }

    def unit(self, figure: Figure) -> str:
        """Return the unit of a figure here; a mel distance is in that of the preset's logarithm."""
        if figure.name != "mel_distance":
            return figure.unit
        return {"ln": "nats", "log10": "log10", "none": ""}[self.preset.log]

    def table(self) -> str:
        """Return the means and their standard errors, a column for each voice."""
        heads = ["", "better", *self.labels.values()]
        rows = [heads]
        for figure in self.figures:
            unit = self.unit(figure)
            row = [f"{figure.label}, {unit}" if unit else figure.label, figure.better]
            for voice in self.voices:
                mark = "*" if voice.name == self.best(figure.name) else ""
                row.append(format_summary(voice, figure) + mark)
            rows.append(row)
        text = [self.headline(), "", *_columns(rows), "", "± is the standard error over clips."]
        if any(self.best(figure.name) for figure in self.figures):
            text[-1] += " * is the best voice."
        return "\n".join([*text, *self.notes])

    def headline(self) -> str:
        """Say in one line what was scored, and how."""
        refine = "" if self.refine is None else f"refine {self.refine}, "
        return (
            f"{self.data}: {self.counted_clips}, {sum(self.seconds):.1f} s, "
            f"preset {self.preset.name}; temperature {self.temperature:g}, seed {self.seed}, "
            f"{refine}{self.device}"
        )


def short_names(names: Sequence[str]) -> dict[str, str]:
    """Return the shortest ends of paths that tell them apart, by the paths.

    Of a checkpoint the folder stays, since all runs call theirs alike.
    """
    paths = {name: PurePath(name) for name in names}
    for n in range(1, max(len(path.parts) for path in paths.values())):
        ends = {
            name: "/".join(path.parts[-n - (path.suffix == ".safetensors") :])
            for name, path in paths.items()
        }
        if len(set(ends.values())) == len(names):
            return ends
    return {name: name for name in names}


def format_summary(voice: VoiceScores, figure: Figure) -> str:
    """Return "mean ± standard error" of a voice, or "" if it has no such figure."""
    if figure.name not in voice.values:
        return ""
    mean, error, n = voice.summary(figure.name)
    if not n:
        return "undefined"
    text = f"{mean:.{figure.n_decimals}f}"
    return text if math.isnan(error) else f"{text} ± {error:.{figure.n_decimals}f}"


def _columns(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def finite_or_none(value: float) -> float | None:
    """Return the value as JSON can hold it, which has no NaN and no infinity."""
    return value if math.isfinite(value) else None
