"""Names that the locale cannot write: the commands work, or say in one line why not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from commands import REPOSITORY
from helpers import write_tone
from voices import some_mel

# One process, since each of them would load torch.
SCRIPT = """
import sys
from vocoder.cli import main
assert sys.getfilesystemencoding() == "ascii"
for line in sys.stdin.buffer.read().split(b"\\n"):
    words = [word.decode("ascii", "surrogateescape") for word in line.split(b"\\t")]
    try:
        main(words)
    except SystemExit as end:
        print(words[0], end.code, flush=True)
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs a C locale")
def test_names_that_an_ascii_locale_cannot_write(tmp_path: Path) -> None:
    source = tmp_path / "grün"
    for name in ("clïp.wav", "zwölf.flac", "плюс.wav"):
        write_tone(source / name)
    np.save(tmp_path / "mäl.npy", some_mel(5).numpy())
    (tmp_path / "lïste.txt").write_text("clïp.wav\n", encoding="utf-8")
    commands = [
        ("preprocess", "wavs", "--source", source, "--out", tmp_path / "eins", "--jobs=1"),
        ("preprocess", "wavs", "--source", source, "--out", tmp_path / "zwö", "--jobs=1",
         "--test-list", tmp_path / "lïste.txt"),
        ("synthesize", tmp_path / "mäl.npy", "-o", tmp_path / "spräch", "--voice=griffin-lim"),
        ("synthesize", tmp_path / "fëhlt.npy", "-o", tmp_path / "spräch"),
        ("convert-mel", tmp_path / "mäl.npy", "-o", tmp_path / "ö.npz", "--from=tacotron2-22k",
         "--to=nanoflow-db-22k"),
        ("presets",),
        ("recipes", "tïny"),
    ]  # fmt: skip
    lines = "\n".join("\t".join(map(str, command)) for command in commands)
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        input=lines.encode(),
        capture_output=True,
        check=False,
        timeout=300,
        env={
            **os.environ,
            "PYTHONPATH": str(REPOSITORY),
            "PYTHONUTF8": "0",
            "PYTHONCOERCECLOCALE": "0",
            "LC_ALL": "C",
        },
    )
    errors = result.stderr.decode("utf-8", "replace")
    assert "Traceback" not in errors, errors
    ends = [line for line in result.stdout.decode().splitlines() if line[-2:] in (" 0", " 2")]
    assert [int(line.split()[-1]) for line in ends] == [0, 0, 0, 2, 0, 0, 2], errors
    assert (tmp_path / "spräch/mäl.wav").is_file()
    assert (tmp_path / "ö.npz").is_file()
