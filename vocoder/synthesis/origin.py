"""What is stated of the mels that are to be spoken, and the one check of all ways in."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vocoder.errors import VocoderError
from vocoder.mel.appearance import misfit, warn_of_misfit
from vocoder.mel.convert import convert_mel
from vocoder.mel.normalisation import MelStats, Scale, rescale_mel
from vocoder.mel.presets import MelPreset


@dataclass(frozen=True)
class MelOrigin:
    """What the caller states of all mels.

    Attributes:
        preset: What they were made with, whatever they say; None believes them.
        stats: Means and scales by which they were normalised; None where they were not.
        scale: The logarithm that stands in them, if it is not that of the preset.
    """

    preset: MelPreset | None = None
    stats: MelStats | None = None
    scale: Scale | None = None

    def restored(
        self, mel: Tensor, own: MelPreset | None, expected: MelPreset, name: str
    ) -> tuple[Tensor, MelPreset]:
        """Return a mel as its preset describes it, and that preset.

        Args:
            mel: The mel (M, F) as it came.
            own: The preset that it says it is of.
            expected: What it is taken for where nobody says.
            name: The source of the mel, for messages.

        Raises:
            VocoderError: Nobody says what made it, and it does not look like `expected`. Where
                somebody does, that is a warning.
        """
        stated = self.preset or own
        preset = stated or expected
        try:
            mel = mel if self.stats is None else self.stats.undo(mel)
            mel = mel if self.scale is None else rescale_mel(mel, preset, self.scale)
        except VocoderError as error:
            raise VocoderError(f"{name}: {error}") from None
        if mel.shape[0] != preset.n_mels or not mel.isfinite().all():
            return mel, preset  # which is told of by those who know the voice
        if stated is not None:
            warn_of_misfit(mel, preset, name)
        elif (problem := misfit(mel, preset)) is not None:
            raise VocoderError(
                f"{name}: no preset stated, and {problem}, or state what made it with --preset NAME"
            )
        return mel, preset

    def fitted(self, mel: Tensor, expected: MelPreset, name: str) -> Tensor:
        """Return a mel (M, F) as a voice of the preset `expected` takes it.

        Args:
            mel: The mel as it came, of the preset that is stated or else of the voice's.
            expected: The preset of the voice.
            name: The source of the mel, for messages.

        Raises:
            VocoderError: It does not look like its preset, or cannot be converted exactly.
        """
        mel, preset = self.restored(mel, None, expected, name)
        if preset.fingerprint == expected.fingerprint or mel.shape[0] != preset.n_mels:
            return mel
        # What is not finite stays so, for the voice to name its frame.
        bad = ~mel.isfinite()
        return convert_mel(mel, preset, expected).masked_fill(bad, torch.nan)


UNSTATED = MelOrigin()
