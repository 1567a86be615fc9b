"""Laws of every registered corpus and image set, so that a new reader is judged unnamed."""

from __future__ import annotations

from pathlib import Path

import pytest
from commands import assert_one_error_line

from vocoder.config import ConfigError
from vocoder.data.images.reader import IMAGE_SETS
from vocoder.data.speech.reader import DATASETS, register_dataset
from vocoder.errors import VocoderError
from vocoder.registry import Registry

REGISTRIES = pytest.mark.parametrize("registry", [DATASETS, IMAGE_SETS])


@pytest.mark.parametrize("name", DATASETS.names())
def test_a_source_that_is_missing_or_empty_is_named(name: str, tmp_path: Path) -> None:
    reader = DATASETS.find(name)
    for source in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(VocoderError, match=str(source)) as caught:
            reader(source, None, 0)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", [name for name in IMAGE_SETS.names() if name != "digits"])
def test_images_that_are_missing_are_named(name: str, tmp_path: Path) -> None:
    with pytest.raises(VocoderError, match="nowhere") as caught:
        IMAGE_SETS.find(name)(tmp_path / "nowhere")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", DATASETS.names())
def test_the_command_names_a_missing_source(name: str, tmp_path: Path, run) -> None:  # type: ignore[no-untyped-def]
    source, out = tmp_path / "nowhere", tmp_path / "out"
    result = run("preprocess", name, "--source", source, "--out", out)
    assert_one_error_line(result, "nowhere")
    assert not out.exists()


@REGISTRIES
def test_every_file_of_the_folder_registers_something(registry: Registry[object]) -> None:
    modules = {registry.find(name).__module__ for name in registry.names()}  # type: ignore[attr-defined]
    assert {f"{registry.package}.{file}" for file in registry._files()} <= modules


@REGISTRIES
def test_an_unknown_name_is_refused_with_the_known_ones(registry: Registry[object]) -> None:
    with pytest.raises(ConfigError, match=f"unknown {registry.kind} 'spiral'"):
        registry.find("spiral")


def test_a_name_belongs_to_one_reader_alone() -> None:
    @register_dataset("a corpus of this test")
    def first(source: Path, test_clips: int | None, seed: int) -> object: ...

    assert DATASETS.find("a corpus of this test") is first
    with pytest.raises(ConfigError, match="registered already"):

        @register_dataset("ljspeech")
        def second(source: Path, test_clips: int | None, seed: int) -> object: ...

    DATASETS._entries.pop("a corpus of this test")
