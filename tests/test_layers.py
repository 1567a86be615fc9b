"""Who may know whom: a file imports only lower layers and its own folder."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import vocoder

PACKAGE = Path(vocoder.__file__).parent
# Rooms from the lowest layer to the highest. A file imports its own room and lower layers; two
# rooms of one layer never know each other.
LAYERS = [
    ["foundation"],
    ["mel", "flows", "kernels"],
    ["nets"],
    ["models", "data"],
    ["recipe", "checkpoint"],
    ["voice", "official", "images"],
    ["judging"],
    ["training", "synthesis", "adapters", "export", "benchmark"],
    ["cli"],
]
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}
FOUNDATION = ("errors", "config", "device", "seeds", "registry", "files")
LOOSE = {"__init__", "__main__", "recipe", "checkpoint", *FOUNDATION} - {"files"}


def room(module: str) -> str:
    """Return the room of a module such as "vocoder.mel.files"."""
    name = module.split(".")[1]
    if name in FOUNDATION:
        return "foundation"
    return "cli" if name == "__main__" else name


def imports(path: Path) -> set[str]:
    modules = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            files = {n for n in names if (PACKAGE.parent / n.replace(".", "/")).exists()}
            files |= {n for n in names if (PACKAGE.parent / f"{n.replace('.', '/')}.py").exists()}
            modules |= files or {node.module}
    return {module for module in modules if module.startswith("vocoder.")}


def graph() -> dict[str, set[str]]:
    """Return what each module of the package imports of it, anywhere in its code."""
    modules = {
        ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts): imports(path)
        for path in PACKAGE.rglob("*.py")
        if path.stem != "__init__"
    }
    return {module: imported & modules.keys() for module, imported in modules.items()}


def test_imports_point_downwards() -> None:
    wrong = [
        f"{module} imports {imported}"
        for module, all_imported in graph().items()
        for imported in all_imported
        if room(module) != room(imported) and RANK[room(module)] <= RANK[room(imported)]
    ]
    assert not wrong


def test_no_module_imports_itself_through_others() -> None:
    TopologicalSorter(graph()).prepare()  # raises CycleError, which names the circle


def test_nothing_else_lies_loose() -> None:
    assert {path.stem for path in PACKAGE.glob("*.py")} == LOOSE


def modules_after(code: str) -> set[str]:
    script = f"{code}; import sys; print(*sys.modules)"
    output = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True
    )
    return set(output.stdout.split())


def test_importing_the_package_is_light() -> None:
    assert not modules_after("import vocoder, vocoder.cli") & {"torch", "librosa", "soundfile"}


def test_models_and_training_do_not_need_the_audio_libraries() -> None:
    code = "import vocoder.training.trainer, vocoder.models.nanoflow, vocoder.voice.load"
    assert not modules_after(code) & {"librosa", "soundfile", "torchaudio", "tensorboard"}


def test_public_names_resolve() -> None:
    for module in (vocoder, vocoder.adapters):
        for name in module.__all__:
            assert getattr(module, name) is not None
        assert set(module.__all__) == set(dir(module))
        with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
            _ = module.nonsense


def test_the_ops_are_at_hand_and_load_late() -> None:
    assert "torch" in modules_after("import vocoder; vocoder.kernels.use('reference')")
    assert "torch" not in modules_after("import vocoder, vocoder.adapters")


def test_contributing_tells_the_layers() -> None:
    page = (PACKAGE.parent / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| \d \| (.*) \|$", page, re.MULTILINE)
    told = [{name.strip("` ") for name in row.split(",")} for row in rows]
    assert told == [set(FOUNDATION), *map(set, LAYERS[1:])]


def test_the_drawing_shows_the_layers() -> None:
    drawing = (PACKAGE.parent / "docs/pictures/how-it-works.svg").read_text(encoding="utf-8")
    rows = re.findall(r'<text class="room left".*?>(.*)</text>', drawing)
    assert [set(row.split()) for row in rows] == [*map(set, LAYERS[:0:-1]), set(FOUNDATION)]
