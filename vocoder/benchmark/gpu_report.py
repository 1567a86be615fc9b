"""What a check of the kernels on a GPU found, and how it is written down."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from vocoder.files.atomic import atomic_path


@dataclass(frozen=True)
class Measurement:
    """One line of the table.

    Args:
        what: What was measured, in a few words.
        value: Value that was measured.
        unit: Unit of the value.
        limit: The most that the value may be.
        predicted: what the model of the kernels says for an H100.
    """

    what: str
    value: float
    unit: str
    limit: float | None = None
    predicted: float | None = None

    @property
    def passed(self) -> bool:
        """Whether the value keeps its limit; NaN does not."""
        return self.limit is None or self.value <= self.limit


@dataclass
class Report:
    """What a check found.

    Args:
        device: name of the GPU.
        versions: Versions of torch and Triton.
        measurements: Measurements of each stage.
        notes: Why a stage has no more measurements, by its name.
    """

    device: str
    versions: dict[str, str]
    measurements: dict[str, list[Measurement]]
    notes: dict[str, str]

    @property
    def passed(self) -> bool:
        """Whether every limit was kept and no stage broke off."""
        return not self.notes and all(m.passed for ms in self.measurements.values() for m in ms)

    def table(self) -> str:
        """Return the measurements, one line each."""
        lines = [f"{self.device}, {', '.join(f'{k} {v}' for k, v in self.versions.items())}"]
        for stage, measurements in self.measurements.items():
            lines.append(stage)
            for m in measurements:
                line = f"  {m.what:<58} {m.value:>10.4g} {m.unit}"
                if m.limit is not None:
                    line += f"  ({'ok' if m.passed else 'FAILED'}: at most {m.limit:g})"
                if m.predicted is not None:
                    line += f"  (predicted {m.predicted:g})"
                lines.append(line)
            if stage in self.notes:
                lines.append(f"  {self.notes[stage]}")
        return "\n".join(lines)

    def write(self, path: Path) -> None:
        """Write everything as JSON, whole or not at all."""
        content = asdict(self) | {"passed": self.passed}
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
