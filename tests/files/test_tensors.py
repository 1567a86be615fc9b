"""Files of safetensors are read under every name that the file system takes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from vocoder.files.tensors import open_tensors

NAMES = (b"plain", "na\u00efve".encode(), b"caf\xe9", b"\xff\xfe", b"two words\n")


@pytest.mark.parametrize("name", NAMES)
def test_any_name(tmp_path: Path, name: bytes) -> None:
    path = tmp_path / os.fsdecode(name + b".safetensors")
    mel = torch.rand(80, 7)
    try:
        path.touch()
    except OSError:
        pytest.skip("the names of this file system are UTF-8")
    with pytest.raises(SafetensorError, match="header"), open_tensors(path):
        pass
    save_file({"mel": mel}, path, {"preset": "tacotron2-22k"})
    with open_tensors(path) as file:
        read = file.get_tensor("mel")
        assert file.metadata() == {"preset": "tacotron2-22k"}
    assert torch.equal(read, mel), "also when the file is closed"


@pytest.mark.parametrize("name", [b"plain", b"caf\xe9"])
def test_a_missing_file(tmp_path: Path, name: bytes) -> None:
    with pytest.raises(OSError, match="No such file"), open_tensors(tmp_path / os.fsdecode(name)):
        pass
