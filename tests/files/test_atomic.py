from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from vocoder.files.atomic import atomic_path


def test_a_file_appears_whole_with_its_suffix_and_usual_permissions(tmp_path: Path) -> None:
    target = tmp_path / "a.wav"
    with atomic_path(target) as temporary:
        temporary.write_bytes(b"new")
        assert temporary.parent == tmp_path
        assert temporary.suffix == ".wav"
        assert not target.exists()
    assert target.read_bytes() == b"new"
    (tmp_path / "plain").touch()
    assert target.stat().st_mode == (tmp_path / "plain").stat().st_mode
    assert {path.name for path in tmp_path.iterdir()} == {"a.wav", "plain"}


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, error: type[BaseException]
) -> None:
    target = tmp_path / "a.npy"
    target.write_bytes(b"old")

    def write() -> None:
        with atomic_path(target) as temporary:
            temporary.write_bytes(b"half")
            raise error

    with pytest.raises(error):
        write()
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_missing_folder_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="absent"), atomic_path(tmp_path / "absent" / "a"):
        pytest.fail("the block must not run")


def test_errors_name_the_file_and_not_its_hidden_twin(tmp_path: Path) -> None:
    target = tmp_path / "a.bin"

    def write(content: bytes) -> None:
        with atomic_path(target) as temporary:
            temporary.write_bytes(content)
            temporary.unlink()  # so that what follows fails on the hidden name

    with pytest.raises(FileNotFoundError) as caught:
        write(b"x")
    assert caught.value.filename == str(target)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large") as full:
            write(bytes(100))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert full.value.filename == str(target)
    with pytest.raises(FileNotFoundError) as absent, atomic_path(tmp_path / "absent" / "a"):
        pytest.fail("the block must not run")
    assert absent.value.filename == str(tmp_path / "absent" / "a")
    assert list(tmp_path.iterdir()) == []


def test_a_killed_process_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "a.bin"
    target.write_bytes(b"old")
    code = (
        "import sys, time\nfrom vocoder.files.atomic import atomic_path\n"
        "with atomic_path(sys.argv[1]) as path:\n"
        "    path.write_bytes(b'half'); print('ready', flush=True); time.sleep(60)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(target)], stdout=subprocess.PIPE, cwd=os.getcwd()
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    process.kill()
    process.wait()
    process.stdout.close()
    assert target.read_bytes() == b"old"
    hidden = [path.name for path in tmp_path.iterdir() if path != target]
    assert len(hidden) == 1
    assert hidden[0].startswith(".a.")
