from __future__ import annotations

from pathlib import Path

from vocoder.files.folders import walk_files


def fill(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def names(root: Path) -> list[str]:
    return [path.as_posix() for path in walk_files(root).files]


def test_hidden_files_and_folders_are_left_out(tmp_path: Path) -> None:
    fill(tmp_path, "b/2", "a", ".hidden", ".trash/c", "b/c/.d")
    assert names(tmp_path) == ["a", "b/2"]
    assert walk_files(tmp_path).left_out == ()


def test_a_link_to_a_folder_elsewhere_is_followed(tmp_path: Path) -> None:
    fill(tmp_path / "elsewhere", "1", "deep/2")
    root = fill(tmp_path / "root", "0")
    (root / "link").symlink_to(tmp_path / "elsewhere")
    assert names(root) == ["0", "link/1", "link/deep/2"]


def test_no_folder_is_entered_twice(tmp_path: Path) -> None:
    """The path without a link counts, whatever the order of the names."""
    root = fill(tmp_path, "z/1")
    (root / "a").symlink_to(root / "z")
    found = walk_files(root)
    assert [path.as_posix() for path in found.files] == ["z/1"]
    assert found.left_out == (("a", "the same folder as z, which is read"),)


def test_a_loop_is_refused(tmp_path: Path) -> None:
    root = fill(tmp_path / "root", "sub/1")
    (root / "sub/self").symlink_to(root / "sub")
    (root / "sub/up").symlink_to(root)
    (root / "sub/out").symlink_to(tmp_path)  # which holds the root
    (root / "around").symlink_to(root / "around")
    found = walk_files(root)
    assert [path.as_posix() for path in found.files] == ["around", "sub/1"]
    assert [place for place, _ in found.left_out] == ["sub/out", "sub/self", "sub/up"]


def test_a_link_to_nothing_is_named(tmp_path: Path) -> None:
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    assert names(tmp_path) == ["gone"]
