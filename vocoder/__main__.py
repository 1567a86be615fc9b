"""The command `vocoder`, and `python -m vocoder`, which is what torchrun launches."""

import contextlib
import os
import sys
from pathlib import Path
from typing import NoReturn

# The setting of glibc that asks the kernel for huge pages, read once as a process starts.
HUGE_PAGES = "glibc.malloc.hugetlb"
KERNEL = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def main() -> NoReturn:
    """Run the command line, its memory in huge pages where there are any."""
    ask_for_huge_pages()
    from vocoder.cli import main as run

    run()


def ask_for_huge_pages() -> None:
    """Start this command anew with its memory in huge pages, if the kernel gives them on request.

    A flow on a CPU passes over buffers of megabytes again and again, of which each page of 4 KiB is
    looked up, and zeroed after each time that it was given back; pages of 2 MiB save a fifth of the
    time. A kernel that gives them unasked, or never, is left alone, and so is a choice of the
    user's in GLIBC_TUNABLES. The process stays the same one, with its number and its files.
    """
    tunables = os.environ.get("GLIBC_TUNABLES", "")
    if HUGE_PAGES in tunables or not sys.executable:
        return
    with contextlib.suppress(OSError):  # on a system without such a file, or such a call
        if "[madvise]" in KERNEL.read_text(encoding="ascii"):
            asked = f"{tunables}:{HUGE_PAGES}=1".removeprefix(":")
            command = [sys.executable, *sys.orig_argv[1:]]
            os.execve(sys.executable, command, os.environ | {"GLIBC_TUNABLES": asked})


if __name__ == "__main__":
    main()
