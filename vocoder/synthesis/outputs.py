"""Where outputs go, and what became of them."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from vocoder.errors import VocoderError
from vocoder.synthesis.sources import STANDARD_STREAM, Source


@dataclass
class Report:
    """What a run did.

    Attributes:
        n_files: Number of utterances that were written.
        audio_seconds: Duration of the utterances in seconds.
        compute_seconds: time spent between a mel or audio in memory and its speech in memory;
            reading, checking and writing files is left out.
        clipped: samples clipped, of each output that has any.
        gains: Factor that each output was multiplied with which had to be played softer.
    """

    n_files: int = 0
    audio_seconds: float = 0.0
    compute_seconds: float = 0.0
    clipped: dict[str, int] = field(default_factory=dict)
    gains: dict[str, float] = field(default_factory=dict)

    @property
    def times_real_time(self) -> float:
        """Seconds of audio made in one second."""
        return self.audio_seconds / max(self.compute_seconds, 1e-9)


def plan_outputs(
    sources: Sequence[Source], out: str, suffixes: Sequence[str] = (".wav",)
) -> list[Path]:
    """Return the file that each source is written to.

    `out` is a folder, in which the relative names are kept, if it is there as one, ends in a slash
    or has no suffix. Otherwise it is a file, for one source only.

    Args:
        sources: What to speak, as `collect_sources` returns it.
        out: a file or a folder.
        suffixes: Suffixes of the files that can be written; the first is for those in a folder.

    Raises:
        VocoderError: `out` is neither such a file nor a folder, two sources would go to the same
            file, or one would replace an input.
    """
    target = Path(out)
    if not out or out == STANDARD_STREAM:
        raise VocoderError(f"-o {out!r}: name a file ({', '.join(suffixes)}) or a folder")
    if target.is_dir() or out.endswith("/") or not target.suffix:
        outputs = [target / f"{source.name}{suffixes[0]}" for source in sources]
    elif target.suffix.lower() not in suffixes:
        raise VocoderError(
            f"{out}: only {', '.join(suffixes)} files are written; give one, or a folder "
            f"({out}/ if that is one)"
        )
    elif len(sources) > 1:
        raise VocoderError(f"{out}: one file for {len(sources)} inputs; give a folder")
    else:
        outputs = [target]
    taken: dict[Path, Source] = {}
    for source, output in zip(sources, outputs, strict=True):
        if output in taken:
            raise VocoderError(
                f"{output}: wanted by both {taken[output]} and {source}; "
                "rename one, or give them in separate runs"
            )
        taken[output] = source
    inputs = {source.path.resolve() for source in sources if source.path is not None}
    for output in outputs:
        if output.resolve() in inputs:
            raise VocoderError(f"{output}: would replace an input; choose another output folder")
    return outputs


def prepare_folders(outputs: Sequence[Path]) -> None:
    """Make the folders of the outputs.

    Raises:
        OSError: one cannot be made or written to; better known before an hour of synthesis.
    """
    for folder in {output.parent for output in outputs}:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))


@contextmanager
def naming(name: str) -> Iterator[None]:
    """Name the output in errors: a failed write knows the reason, but not what it was for."""
    try:
        yield
    except VocoderError as error:
        raise VocoderError(f"{name}: {error}") from None
    except OSError as error:
        raise OSError(error.errno or errno.EIO, error.strerror or str(error), name) from None
