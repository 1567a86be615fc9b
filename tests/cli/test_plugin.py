"""`--plugin`: models and data sets of the user's own, by every command."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import yaml
from commands import assert_one_error_line, run_apart
from helpers import make_corpus, write_tone

MODEL = """
from dataclasses import dataclass

from vocoder import NanoFlow, NanoFlowConfig, register_model

@dataclass(frozen=True)
class OwnConfig(NanoFlowConfig):
    pass

@register_model("{name}", OwnConfig)
class Own(NanoFlow):
    pass
"""
READER = """
from dataclasses import dataclass
from pathlib import Path

from vocoder import register_dataset
from vocoder.data.speech.reader import Clip, Listing

@dataclass(frozen=True)
class OwnClip(Clip):
    speaker: str = "anna"

@register_dataset("{name}")
def read(source, test_clips, seed):
    paths = sorted(source.glob("*.wav"))
    clips = [OwnClip(p.stem, p, "train" if i else "test") for i, p in enumerate(paths)]
    return Listing(tuple(clips), "the first is the test")
"""
_numbers = itertools.count()


@pytest.fixture
def own_module(tmp_path, forget_plugins):
    """Give a function that writes a module; its name serves one test, as a process knows it."""

    def write(text: str) -> tuple[Path, str]:
        name = f"own_module_{next(_numbers)}"
        path = tmp_path / "own_code" / f"{name}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text.format(name=name))
        return path, name

    return write


def own_recipe(path: Path, model: str) -> Path:
    sizes = {"channels": 4, "n_layers": 2, "n_flows": 2, "flow_embedding": 4}
    train = {"steps": 1, "batch_size": 2, "segment_length": 1024, "eval_clips": 1}
    path.write_text(yaml.safe_dump({"model": {"name": model, **sizes}, "train": train}))
    return path


@pytest.mark.parametrize("is_of_the_group", [False, True], ids=["after", "before"])
def test_it_may_stand_before_the_command_or_after(run, own_module, is_of_the_group):
    path, name = own_module(MODEL)
    words = ["--plugin", path, "info"] if is_of_the_group else ["info", "--plugin", path]
    table = run(*words).out.decode()
    assert name in next(line for line in table.splitlines() if line.startswith("models"))


def test_a_model_of_ones_own_is_trained_described_and_spoken_with(run, own_module, tmp_path):
    path, name = own_module(MODEL)
    corpus, out = make_corpus(tmp_path / "corpus"), tmp_path / "run"
    recipe = own_recipe(tmp_path / "own.yaml", name)
    train = ("train", recipe, "--data", corpus, "--run-dir", out, "--device=cpu")
    describe = ("info", out)
    speak = ("synthesize", corpus / "mels", "-o", tmp_path / "said", "--voice", out)
    assert_one_error_line(run(*train), f"unknown model {name!r}", "add --plugin")
    # In a process of its own, as a person has it: this one is not to know the model yet.
    result = run_apart(*train, "--plugin", path)
    assert result.code == 0, result.err
    for words in (describe, speak):
        assert_one_error_line(run(*words), f"unknown model {name!r}", "add --plugin")
    for words in (describe, speak):
        result = run(*words, "--plugin", path)
        assert result.code == 0, result.err
    assert len(list((tmp_path / "said").glob("*.wav"))) == 5


def test_a_checkpoint_cannot_name_a_plugin(own_module, run, tmp_path):
    """Whatever its header says, only the command line has modules imported."""
    path, name = own_module(f"{MODEL}\nopen(__file__ + '.imported', 'w').close()\n")
    header = {"format": 1, "model": f"{path}", "config": {}, "plugin": str(path), "preset": {}}
    safetensors.numpy.save_file(
        {"model.x": np.zeros(1)}, tmp_path / "v.safetensors", {"vocoder": json.dumps(header)}
    )
    assert_one_error_line(run("info", tmp_path / "v.safetensors"), "unknown model")
    recipe = own_recipe(tmp_path / "own.yaml", name)
    recipe.write_text(recipe.read_text() + f"plugin: {path}\n")
    result = run("train", recipe, "--data", tmp_path, "--run-dir", tmp_path / "run")
    assert_one_error_line(result, "plugin: unknown key")
    mark = path.with_name(f"{path.name}.imported")
    assert not mark.exists()
    run("presets", "--plugin", path)
    assert mark.exists()


def test_processes_that_preprocess_know_a_reader_of_ones_own(own_module, tmp_path):
    """The clips that it lists are of a class that only the plugin has."""
    path, name = own_module(READER)
    for i in range(40):  # more than the chunk of one worker
        write_tone(tmp_path / "wavs" / f"{i}.wav", seconds=0.2)
    flags = ("--source", tmp_path / "wavs", "--out", tmp_path / "out", "--jobs=2")
    refused = run_apart("preprocess", name, *flags)
    assert_one_error_line(refused, f"unknown data set {name!r}", "--plugin", "ljspeech")
    result = run_apart("preprocess", name, *flags, "--plugin", path)
    assert result.code == 0, result.err
    assert b"39 training and 1 test clips" in result.out


def test_a_module_that_python_finds_is_named_with_dots(run, own_module, monkeypatch):
    path, name = own_module(MODEL)
    monkeypatch.syspath_prepend(path.parents[1])
    assert name in run("info", "--plugin", f"own_code.{name}").out.decode()


# ---- what is refused ----


def test_errors_of_a_plugin_are_one_line(run, own_module, tmp_path):
    def refused(name, *words):
        assert_one_error_line(run("presets", "--plugin", name), name, *words)

    refused("no_such_module", "Python finds no module 'no_such_module'", "./my_model.py")
    for name in ("./my_model", "../my_model", "my_model/", "code/my_model", ".my_model", "a.pt/b"):
        refused(name, "./my_model.py", "my_package.my_model")
    refused("vocoder.nonsense", "No module named 'vocoder.nonsense'")
    refused(tmp_path / "none.py", "there is no such file")
    refused(own_module("import no_such_library")[0], "No module named 'no_such_library'")
    refused(own_module("1 / 0")[0], "ZeroDivisionError: division by zero")
    refused(own_module("def broken(:")[0], "SyntaxError")
    refused(own_module("raise SystemExit(0)")[0], "SystemExit: 0")
    taken = MODEL.replace("{name}", "nanoflow")
    refused(own_module(taken)[0], "'nanoflow' is registered already", "choose another name")
    for name, words in (("json.py", "another module 'json'"), ("a-b.py", "cannot be the name")):
        (tmp_path / name).write_text("")
        refused(tmp_path / name, words, "rename the file")
