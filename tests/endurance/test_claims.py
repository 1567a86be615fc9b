"""What a file claims costs no more than the file: hostile checkpoints, recipes and graphs."""

from __future__ import annotations

import dataclasses
import json
import resource
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import onnx
import pytest
import safetensors.torch
import torch
from helpers import coupling_models, tiny_models
from image_models import CONFIGS, build
from onnx import TensorProto, helper
from voices import TACOTRON2

from vocoder import checkpoint
from vocoder.data.images.description import ImageDescription
from vocoder.errors import VocoderError
from vocoder.recipe import load_recipe
from vocoder.registry import MODELS, find_model

SECONDS, BYTES = 5, 1 << 30  # of computing and of memory that a file may take
HUGE = (33, 10**6, 2**63, 10**30)
JUNK: tuple[Any, ...] = (None, 5, -1, 0.5, "x", [], {}, [[]], {"x": {}}, True, float("nan"))


def refused_or_read(read: Callable[[], object], path: Path) -> None:
    """Read a file; an error must be one line of ours that names it, soon and in little memory."""
    start, memory = time.process_time(), peak_bytes()
    try:
        read()
    except VocoderError as error:
        assert str(path) in str(error)
        assert "\n" not in str(error)
        assert len(str(error)) < 1000
    assert time.process_time() - start < SECONDS
    assert peak_bytes() - memory < BYTES


def peak_bytes() -> int:
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def claim(path: Path, whole: bytes, header: dict[str, Any]) -> None:
    """Write the tensors of a checkpoint under another header."""
    text = json.dumps(header)
    safetensors.torch.save_file(safetensors.torch.load(whole), path, {"vocoder": text})


def models() -> Iterator[tuple[str, torch.nn.Module, Any]]:
    """Yield one model under each registered name, with what it was trained on."""
    small = {**tiny_models(), **coupling_models()}
    for name in MODELS.names():
        if name in CONFIGS:
            model: Any = build(name)
            yield name, model, ImageDescription(model.image_shape)
        elif name in small:
            yield name, small[name], TACOTRON2
        else:
            model_class, config_class = find_model(name)
            sizes = {"channels": 4, "n_layers": 2, "n_flows": 2}
            known = {field.name for field in dataclasses.fields(config_class)}
            own = {key: value for key, value in sizes.items() if key in known}
            yield name, model_class(config_class(**own)), TACOTRON2


@pytest.mark.slow
@pytest.mark.parametrize(("name", "model", "data"), [pytest.param(*m, id=m[0]) for m in models()])
def test_a_checkpoint_may_claim_any_size(tmp_path, name, model, data) -> None:
    path = tmp_path / "voice.safetensors"
    checkpoint.save(path, model, data)
    whole, header = path.read_bytes(), checkpoint.read_header(path)
    assert header["model"] == name
    sizes = {key: v for key, v in header["config"].items() if type(v) is int or type(v) is list}
    for huge in HUGE:
        large = {key: huge if type(v) is int else [huge] * len(v) for key, v in sizes.items()}
        long = {key: [v[0]] * 10**5 for key, v in sizes.items() if type(v) is list}
        one_each = [{key: value} for key, value in [*large.items(), *long.items()]]
        for claims in (*one_each, large):
            claim(path, whole, header | {"config": header["config"] | claims})
            refused_or_read(lambda: checkpoint.load(path), path)


@pytest.mark.slow
def test_a_header_may_hold_anything(tmp_path, voice) -> None:
    path = tmp_path / "voice.safetensors"
    whole, header = voice.read_bytes(), checkpoint.read_header(voice)
    for key in (*header, "images", "training"):
        for junk in JUNK:
            claim(path, whole, header | {key: junk})
            refused_or_read(lambda: checkpoint.load(path), path)
    for key in header["preset"]:
        for junk in (*JUNK, *HUGE):
            preset = header["preset"] | {key: junk}
            claim(path, whole, header | {"preset": preset, "fingerprint": "x"})
            refused_or_read(lambda: checkpoint.load(path), path)
    text = '{"format": 1, "recipe": ' + "[" * 10**5 + "]" * 10**5 + "}"
    safetensors.torch.save_file(safetensors.torch.load(whole), path, {"vocoder": text})
    with pytest.raises(VocoderError, match="header is damaged"):
        checkpoint.load(path)


def test_a_model_is_not_built_beyond_the_tensors_of_its_file(tmp_path, voice) -> None:
    """Sizes that are allowed, but would be minutes of building."""
    path = tmp_path / "voice.safetensors"
    header = checkpoint.read_header(voice)
    config = {"n_flows": 256, "n_layers": 32}
    claim(path, voice.read_bytes(), header | {"model": "waveflow", "config": config})
    start = time.process_time()
    with pytest.raises(VocoderError, match=r"voice.safetensors: .*asks for many more than the \d+"):
        checkpoint.load(path)
    assert time.process_time() - start < 1


@pytest.mark.parametrize("kind", [torch.int64, torch.bool, torch.float8_e4m3fn, torch.complex64])
def test_tensors_of_another_type_are_named(tmp_path, voice, kind) -> None:
    path = tmp_path / "voice.safetensors"
    tensors = safetensors.torch.load_file(voice)
    tensors["model.nets.0.front.bias"] = tensors["model.nets.0.front.bias"].to(kind)
    text = json.dumps(checkpoint.read_header(voice))
    safetensors.torch.save_file(tensors, path, {"vocoder": text})
    with pytest.raises(VocoderError, match=r"mistyped nets\.0\.front\.bias .* instead of float32"):
        checkpoint.load(path)


LAUGHS = "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join(['*' + chr(97 + i)] * 10)}]\n" for i in range(20)
)
MERGES = "".join(
    f"{chr(98 + i)}: &{chr(98 + i)}\n  <<: [*{chr(97 + i)}, *{chr(97 + i)}]\n" for i in range(20)
)
RECIPES = {
    "laughs": f"a: &a x\n{LAUGHS}model: *u\n",
    "merges": f"a: &a {{x: 1}}\n{MERGES}model: *u\n",
    "itself": "model: &a [*a]\n",
    "nested": "model: " + "[" * 30_000,
    "nested mappings": "model: " + "{a: " * 15_000,
    "nested lists": "model:\n" + "- " * 30_000,
    "digits": "train: {steps: " + "9" * 60_000 + "}\nmodel: {name: nanoflow}\n",
    "base sixty": "train: {steps: 1" + ":59" * 20_000 + "}\nmodel: {name: nanoflow}\n",
    "float": "train: {steps: 1.0e+400}\nmodel: {name: nanoflow}\n",
    "date": "train: {steps: 2001-99-99}\nmodel: {name: nanoflow}\n",
    "object": "model: !!python/object/apply:os.system ['touch executed']\n",
    "binary": "model: !!binary x\n",
    "large": "# " + "x" * 10**7,
}


@pytest.mark.parametrize("kind", RECIPES)
def test_hostile_recipes(tmp_path, monkeypatch, kind) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "my.yaml"
    path.write_text(RECIPES[kind])
    start, memory = time.process_time(), peak_bytes()
    with pytest.raises(VocoderError, match=r"my\.yaml") as caught:
        load_recipe(path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000
    assert time.process_time() - start < SECONDS
    assert peak_bytes() - memory < BYTES
    assert not (tmp_path / "executed").exists()


def test_an_alias_is_named_with_its_line(tmp_path) -> None:
    path = tmp_path / "my.yaml"
    path.write_text("train: &a {steps: 1}\nmodel: *a\n")
    with pytest.raises(VocoderError, match=r"line 2: .*\*a is an alias.*write out"):
        load_recipe(path)


def hostile_graphs() -> dict[str, bytes]:
    """Return graphs that claim much, or are cut."""
    size = helper.make_tensor("size", TensorProto.INT64, [1], [2**62])
    node = helper.make_node("ConstantOfShape", ["size"], ["audio"])
    audio = helper.make_tensor_value_info("audio", TensorProto.FLOAT, ["N"])
    graph = helper.make_graph([node], "bomb", [], [audio], [size])
    bomb = helper.make_model(graph).SerializeToString()
    outside = onnx.TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[2**40])
    outside.data_location = onnx.TensorProto.EXTERNAL
    outside.external_data.add(key="location", value="../../../etc/passwd")
    linked = helper.make_model(helper.make_graph([], "linked", [], [], [outside]))
    return {
        "bomb": bomb,
        "linked": linked.SerializeToString(),
        "cut": bomb[: len(bomb) // 2],
        "one byte": b"\x08",
        "empty": b"",
        "length": b"\x08\x0a\x12" + b"\xff" * 9,
        "zeros": bytes(100),
    }


@pytest.mark.parametrize("name", ["voice.onnx", "voice.safetensors", "voice"])
@pytest.mark.parametrize("kind", hostile_graphs())
def test_hostile_graphs_given_as_a_voice(tmp_path, kind, name) -> None:
    path = tmp_path / name
    path.write_bytes(hostile_graphs()[kind])
    with pytest.raises(VocoderError, match="voice"):
        refused_or_read(lambda: checkpoint.load(path), path)
        checkpoint.load(path)


def test_a_file_of_holes_is_not_read(tmp_path) -> None:
    for name in ("voice.onnx", "voice.safetensors"):
        path = tmp_path / name
        with open(path, "wb") as file:
            file.truncate(1 << 40)
        refused_or_read(lambda path=path: checkpoint.load(path), path)
