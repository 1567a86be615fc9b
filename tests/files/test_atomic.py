from __future__ import annotations

import os
import resource
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from vocoder.errors import VocoderError
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


# ---- what lies there already ----


def write(path: Path, content: bytes = b"new") -> None:
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def make_device(path: Path) -> None:
    try:
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 3))  # what /dev/null is
    except (OSError, AttributeError):
        pytest.skip("needs the right to make a device")


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))


@pytest.mark.parametrize("linked", [False, True])
@pytest.mark.parametrize("make", [os.mkfifo, make_device, make_socket])
def test_what_is_no_file_is_refused_and_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make, linked: bool
) -> None:
    monkeypatch.chdir(tmp_path)  # the name of a socket must be short
    there = Path("there.html")
    make(there)
    kind = stat.S_IFMT(there.stat().st_mode)
    target = Path("link.html") if linked else there
    if linked:
        target.symlink_to(there)
    names = {path.name for path in tmp_path.iterdir()}
    with pytest.raises(VocoderError, match=rf"\A{target}: is a device, .*; give the name of a"):
        write(target)
    assert stat.S_IFMT(there.stat().st_mode) == kind
    assert {path.name for path in tmp_path.iterdir()} == names


@pytest.mark.parametrize("name", ["", ".", "..", "/", "folder", "link", "folder/."])
def test_a_folder_is_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder")
    with pytest.raises(IsADirectoryError) as caught, atomic_path(name):
        pytest.fail("the block must not run")
    assert caught.value.filename == str(Path(name))


@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize("there", [False, True])
def test_the_target_of_a_link_is_written(tmp_path: Path, steps: int, there: bool) -> None:
    """A target that is not there yet is made, as by a shell."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    if there:
        (folder / "a.wav").write_bytes(b"old")
    link = tmp_path / "1.wav"
    link.symlink_to("elsewhere/a.wav")
    for step in range(1, steps):
        link = tmp_path / f"{step + 1}.wav"
        link.symlink_to(f"{step}.wav")
    write(link)
    assert link.is_symlink()
    assert [path.name for path in folder.iterdir()] == ["a.wav"]
    assert (folder / "a.wav").read_bytes() == b"new"


def test_a_link_to_itself_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("a")
    with pytest.raises(OSError, match="Too many levels of symbolic links") as caught:
        write(tmp_path / "a")
    assert caught.value.filename == str(tmp_path / "a")


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664, 0o444, 0o755])
def test_a_file_that_is_replaced_hands_on_its_permissions(tmp_path: Path, mode: int) -> None:
    target = tmp_path / "a.npz"
    target.touch()
    target.chmod(mode)
    with atomic_path(target) as temporary:
        assert not temporary.stat().st_mode & 0o077  # nobody else reads it meanwhile
        temporary.write_bytes(b"new")
    assert target.read_bytes() == b"new"
    assert stat.S_IMODE(target.stat().st_mode) == mode


@pytest.mark.parametrize(
    "name",
    ["a" * 251 + ".wav", "a" * 255, "ä" * 125 + ".wav", "音" * 83 + ".wav", "a." + "b" * 253],
)
def test_a_name_may_be_as_long_as_names_can_be(tmp_path: Path, name: str) -> None:
    with atomic_path(tmp_path / name) as temporary:
        temporary.write_bytes(b"new")
        assert temporary.name.endswith(Path(name).suffix[:100])
    assert [path.name for path in tmp_path.iterdir()] == [name]
