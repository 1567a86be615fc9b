"""Files of safetensors, whatever their names."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def open_tensors(path: Path, device: str = "cpu") -> Iterator[Any]:
    """Give what `safetensors.safe_open` gives for torch.

    The library takes no path that is not UTF-8, as one of an older system may be. Such a file is
    opened here, and the library opens it again by its number.

    Raises:
        safetensors.SafetensorError: It is not a whole safetensors file.
        OSError: It cannot be opened.
    """
    from safetensors import safe_open

    with ExitStack() as opened:
        name = str(path)
        try:
            name.encode()
        except UnicodeEncodeError:
            name = f"/dev/fd/{opened.enter_context(open(path, 'rb')).fileno()}"
        yield opened.enter_context(safe_open(name, framework="pt", device=device))
