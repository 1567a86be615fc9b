from __future__ import annotations

import json
from pathlib import Path

import pytest
from commands import assert_one_error_line
from hypothesis import given
from hypothesis import strategies as st

from vocoder.data.speech.given_splits import read_list
from vocoder.errors import VocoderError
from vocoder.files.text import decode_text, read_text
from vocoder.mel.files import _stated_preset
from vocoder.recipe import load_recipe
from vocoder.synthesis.sources import collect_sources

# "utf-16" and "utf-32" begin with their mark.
MARKED = ["utf-8", "utf-8-sig", "utf-16", "utf-32"]


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\ufeff")))
@pytest.mark.parametrize("encoding", MARKED)
def test_what_states_its_encoding_is_read(encoding: str, text: str) -> None:
    assert decode_text(text.encode(encoding), "a.txt") == text


@given(st.binary())
def test_any_bytes_give_text_or_an_error_with_the_name(content: bytes) -> None:
    try:
        text = decode_text(content, "a.txt")
    except VocoderError as error:
        assert str(error).startswith("a.txt: ")
        assert str(error).endswith("; save it as UTF-8")
    else:
        assert "\0" not in text


def test_the_line_is_named() -> None:
    with pytest.raises(VocoderError, match=r"a\.txt: line 3 is not UTF-8; save it as UTF-8"):
        decode_text("one\ntwo\ngrün\n".encode("latin-1"), "a.txt")


@pytest.mark.parametrize("encoding", MARKED)
def test_every_text_that_is_read_may_have_a_mark(tmp_path: Path, encoding: str) -> None:
    """Lists of clips, lists of files, presets beside mels, and recipes."""
    (tmp_path / "ü.npy").touch()
    (tmp_path / "list.txt").write_bytes("ü.npy\r\n".encode(encoding))
    assert read_list(tmp_path / "list.txt") == [(1, "ü.npy")]
    assert [source.name.name for source in collect_sources([str(tmp_path / "list.txt")])] == ["ü"]
    (tmp_path / "ü.json").write_bytes(json.dumps({"preset": "pwg-22k"}).encode(encoding))
    stated = _stated_preset(tmp_path / "ü.json", 0)
    assert stated is not None
    assert stated.name == "pwg-22k"
    recipe = read_text("recipes/tiny/nanoflow.yaml")
    (tmp_path / "mine.yaml").write_bytes(recipe.encode(encoding))
    assert load_recipe(str(tmp_path / "mine.yaml")).model == load_recipe("tiny/nanoflow").model


def test_a_recipe_is_printed_whatever_its_encoding(tmp_path: Path, run) -> None:  # type: ignore[no-untyped-def]
    text = "# grün\nmodel: {name: nanoflow}\n"
    path = tmp_path / "mine.yaml"
    for encoding in MARKED:
        path.write_bytes(text.encode(encoding))
        result = run("recipes", path)
        assert (result.code, result.out.decode()) == (0, text)
    path.write_bytes(text.encode("latin-1"))
    assert_one_error_line(run("recipes", path), "mine.yaml: line 1 is not UTF-8; save it as UTF-8")
