"""Models without memory: of the shapes of real ones, and built without torch's compiler."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from vocoder.files.audio import write_wav
from vocoder.models.families.empty import without_memory
from vocoder.recipe import list_recipes, load_recipe
from vocoder.registry import find_model

TINY = [name for name in list_recipes() if name.startswith("tiny/")]

# What a first sound on a CPU does without, and what would keep a user waiting for it.
SLOW = {"librosa", "matplotlib", "onnx", "sympy", "tensorboard", "torch._dynamo", "torchaudio"}
SLOW |= {"transformers", "triton", "vocoder.benchmark", "vocoder.judging", "vocoder.training"}

COLD = """
import sys
from vocoder.cli import commands
arguments = ["synthesize", sys.argv[1], "-o", sys.argv[2], "--voice", "prompts-16k"]
commands.main(arguments, standalone_mode=False)
print(*sys.modules)
"""


@pytest.mark.parametrize("name", TINY)
def test_an_empty_model_has_the_shapes_of_a_real_one(name: str) -> None:
    recipe = load_recipe(name)
    model_class, _ = find_model(recipe.model)
    with without_memory():
        empty = model_class(recipe.config).state_dict()
    real = model_class(recipe.config).state_dict()
    assert all(tensor.is_meta for tensor in empty.values())
    assert {n: t.shape for n, t in empty.items()} == {n: t.shape for n, t in real.items()}


def test_a_first_sound_imports_nothing_that_it_does_not_need(tmp_path: Path) -> None:
    times = np.arange(8000) / 16000
    write_wav(tmp_path / "in.wav", (0.3 * np.sin(2 * np.pi * 150 * times)).astype("f4"), 16000)
    command = [sys.executable, "-c", COLD, str(tmp_path / "in.wav"), str(tmp_path / "out.wav")]
    result = subprocess.run(command, check=True, capture_output=True, text=True)
    assert SLOW.isdisjoint(result.stdout.split())
    assert (tmp_path / "out.wav").is_file()
