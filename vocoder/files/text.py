"""Text files of any origin: what they say of their encoding is believed, and nothing is guessed."""

from __future__ import annotations

import codecs
import os
from pathlib import Path

from vocoder.errors import VocoderError

# The longer ones first: the mark of UTF-32 begins with that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def read_text(path: str | os.PathLike[str]) -> str:
    """Return the text of a file: by its byte order mark, if it begins with one, or else UTF-8.

    Raises:
        VocoderError: It is neither; the message names the first line that is not.
        OSError: It cannot be opened.
    """
    return decode_text(Path(path).read_bytes(), str(path))


def decode_text(content: bytes, name: str) -> str:
    """Return the text of a file's content, as `read_text` does.

    Args:
        content: The bytes of the whole file.
        name: The name of the file, for messages.

    Raises:
        VocoderError: It is neither in UTF-8 nor begins with a byte order mark.
    """
    encoding = next((name for mark, name in _MARKS if content.startswith(mark)), "utf-8")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise VocoderError(
            f"{name}: line {line} is not {encoding.removesuffix('-sig').upper()}; save it as UTF-8"
        ) from None
    if "\0" in text:
        raise VocoderError(
            f"{name}: holds zero bytes, as UTF-16 without a byte order mark does; save it as UTF-8"
        )
    return text


def path_text(name: str) -> str:
    """Return a name that a text file holds as the operating system would give it.

    The two differ where the locale cannot write the name.
    """
    return os.fsdecode(name.encode("utf-8", "surrogateescape"))


def printable(name: str) -> str:
    """Return a name from the operating system as UTF-8 can show it, other bytes as escapes."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")
