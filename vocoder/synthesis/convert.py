"""Files of mels from one preset to another."""

from __future__ import annotations

import io
import logging
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from vocoder.errors import VocoderError
from vocoder.mel.convert import convert_mel
from vocoder.mel.files import read_mel, write_mel
from vocoder.mel.presets import MelPreset
from vocoder.synthesis.outputs import naming, prepare_folders
from vocoder.synthesis.sources import Source

logger = logging.getLogger("vocoder")

_CLIPPED = 1e-3  # change of a value that rounding does not make


def convert_files(
    sources: Sequence[Source], outputs: Sequence[Path], origin: MelPreset | None, target: MelPreset
) -> None:
    """Convert every mel to the preset `target`, exactly, and write it with that preset.

    All are read and converted before the first is written, so that a bad one leaves nothing behind.

    Args:
        sources: The mel files to convert.
        outputs: The files to write, one for each source; see `write_mel`.
        origin: what the mels were made with; None is what each says of itself.
        target: the preset wanted.

    Raises:
        VocoderError: a mel is unreadable, names no preset, or cannot be converted exactly.
        OSError: an output cannot be written.
    """
    for source in sources:
        _convert(source, origin, target, tell=True)
    prepare_folders(outputs)
    for source, output in zip(sources, outputs, strict=True):
        mel = _convert(source, origin, target)  # anew, since all at once may not fit into memory
        with naming(str(output)):
            write_mel(output, mel, target)


def _convert(
    source: Source, origin: MelPreset | None, target: MelPreset, tell: bool = False
) -> Tensor:
    """Return the mel (M, F) of a source by the preset `target`."""
    file = io.BytesIO(source.data) if source.path is None else source.path
    read = read_mel(file, n_mels=target.n_mels, preset=origin)
    if read.preset is None:
        raise VocoderError(f"{source}: states no preset; say with --from what it was made with")
    try:
        converted = convert_mel(read.mel, read.preset, target)
    except VocoderError as error:
        raise VocoderError(f"{source}: {error}") from None
    if tell:
        _warn_of_clipping(source, read.mel, converted, read.preset, target)
    return converted


def _warn_of_clipping(
    source: Source, mel: Tensor, converted: Tensor, origin: MelPreset, target: MelPreset
) -> None:
    """Tell how much of a mel the target cannot hold, which a conversion back would show."""
    change = (convert_mel(converted, target, origin) - mel).abs()
    n_clipped = int((change > _CLIPPED).sum())
    if n_clipped:
        logger.warning(
            "%s: %d of %d values (%.1f %%) lie beyond what %s can hold and were clipped, by up to "
            "%.3g in the units of %s",
            source,
            n_clipped,
            mel.numel(),
            100 * n_clipped / mel.numel(),
            target.name,
            change.max(),
            origin.name,
        )
