"""Who may know whom: a file imports only lower layers and its own folder."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import vocoder

PACKAGE = Path(vocoder.__file__).parent
# From the lowest to the highest; those of one line never import each other.
LAYERS = [
    ["errors", "seeds", "device", "config", "registry"],
    ["files"],
    ["mel", "flows", "kernels"],
    ["nets"],
    ["models", "data"],
    ["recipe", "checkpoint"],
    ["training", "voice", "official", "images"],
    ["judging", "synthesis", "adapters", "export", "benchmark"],
    ["cli", "__main__"],
]
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}


def unit(module: str) -> str:
    """Return the layer's entry that a module belongs to: itself, or its folder."""
    relative = module.removeprefix("vocoder.")
    return relative if relative in RANK else relative.split(".")[0]


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


def test_imports_point_downwards() -> None:
    wrong = []
    for path in PACKAGE.rglob("*.py"):
        module = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
        if path.stem == "__init__":
            continue
        for imported in imports(path):
            mine, theirs = unit(module), unit(imported)
            if mine != theirs and RANK[mine] <= RANK[theirs]:
                wrong.append(f"{module} imports {imported}")
    assert not wrong


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
    for name in vocoder.__all__:
        assert getattr(vocoder, name) is not None
    assert set(vocoder.__all__) == set(dir(vocoder))
