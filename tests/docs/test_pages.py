"""What the documents show runs, in the order in which a reader follows a page.

`tests/pages.py` explains the marks that shorten a command or leave it out.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from shutil import which

import pytest
from pages import PAGES, REPOSITORY, Block, blocks_of, name_of


@pytest.mark.slow
@pytest.mark.parametrize(
    "page", [page for page in PAGES if any(b.is_run for b in blocks_of(page))], ids=name_of
)
def test_a_page_runs_from_top_to_bottom(page: Path, tmp_path: Path) -> None:
    run = Reader(tmp_path)
    blocks = blocks_of(page)
    if any("make_espeak_corpus" in b.text for b in blocks if b.is_run) and not which("espeak-ng"):
        pytest.skip("needs espeak-ng")
    for block in blocks:
        if block.language in ("bash", "python"):
            for command in block.marked("given"):
                run.shell(command, block)
        if block.is_run:
            (run.shell if block.language == "bash" else run.python)(block.shortened(), block)


class Reader:
    """Follows a page in a folder that looks like the repository, and writes nothing elsewhere."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "egs").symlink_to(REPOSITORY / "egs")
        (folder / "bin").mkdir()
        (folder / "bin" / "vocoder").write_text(
            f'#!/bin/sh\nexec {sys.executable} -m vocoder "$@"\n'
        )
        (folder / "bin" / "vocoder").chmod(0o755)
        path = f"{folder / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}"
        self.environment = {**os.environ, "PATH": path, "PYTHONPATH": str(REPOSITORY)}
        self.python_before = ""

    def shell(self, text: str, block: Block) -> None:
        self._run(["bash", "-euo", "pipefail", "-c", text], block)

    def python(self, text: str, block: Block) -> None:
        """Run Python, after that of the blocks before, whose names it may use."""
        self.python_before += text
        self._run([sys.executable, "-c", self.python_before], block)

    def _run(self, command: list[str], block: Block) -> None:
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=600,
        )
        assert done.returncode == 0, f"{block}\n{block.text}\n{done.stdout[-3000:]}"


def test_continuous_integration_follows_each_of_its_marks() -> None:
    script = (REPOSITORY / ".ci/run").read_text(encoding="utf-8")
    readme = {
        name: block for block in blocks_of(REPOSITORY / "README.md") for name in block.marked("ci")
    }
    for name in readme:
        assert f"follow {name}" in script
    for block in [block for page in PAGES for block in blocks_of(page)]:
        for name in block.marked("ci"):
            assert block.text == readme[name].text, f"{block}: differs from the README's"
