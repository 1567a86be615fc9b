"""The command line begins with its memory in huge pages, where the kernel gives them on request."""

import os
import sys

import pytest
from commands import run_apart

from vocoder import __main__ as start

ON_REQUEST, UNASKED, NEVER = "always [madvise] never", "[always] madvise never", "[never]"


@pytest.mark.parametrize(
    ("kernel", "before", "after"),
    [
        (ON_REQUEST, None, "glibc.malloc.hugetlb=1"),
        (ON_REQUEST, "glibc.malloc.check=1", "glibc.malloc.check=1:glibc.malloc.hugetlb=1"),
        (ON_REQUEST, "glibc.malloc.hugetlb=0", None),
        (UNASKED, None, None),
        (NEVER, None, None),
        (None, None, None),
    ],
)
def test_it_starts_anew_only_to_ask_for_them(kernel, before, after, monkeypatch, tmp_path):
    if kernel:
        (tmp_path / "enabled").write_text(kernel)
    monkeypatch.setattr(start, "KERNEL", tmp_path / "enabled")
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    if before:
        monkeypatch.setenv("GLIBC_TUNABLES", before)
    monkeypatch.setattr(sys, "orig_argv", ["python", "-X", "utf8", "-m", "vocoder", "train"])
    started = []
    monkeypatch.setattr(os, "execve", lambda *call: started.append(call))
    start.ask_for_huge_pages()
    if after is None:
        assert not started
    else:
        [(program, command, environment)] = started
        assert program == sys.executable
        assert command == [sys.executable, "-X", "utf8", "-m", "vocoder", "train"]
        assert environment == os.environ | {"GLIBC_TUNABLES": after}


@pytest.mark.skipif(not start.KERNEL.is_file(), reason="a kernel without huge pages")
def test_a_real_command_has_them_its_arguments_and_its_number(tmp_path, monkeypatch):
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    plugin = tmp_path / "tell_ä.py"
    plugin.write_text(
        "import os, sys\nprint(os.getppid(), os.environ.get('GLIBC_TUNABLES'), file=sys.stderr)\n"
    )
    told = run_apart("recipes", "--plugin", plugin)
    asked = "[madvise]" in start.KERNEL.read_text()
    assert told.code == 0
    assert told.err.split() == [str(os.getpid()), "glibc.malloc.hugetlb=1" if asked else "None"]
