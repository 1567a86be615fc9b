"""The one exception for mistakes that a caller can mend, and what others say in one."""

from __future__ import annotations


class VocoderError(ValueError):
    """A wrong argument, file or setting.

    The message is one line that names the thing and the remedy. The command line prints it and
    exits with 2; every other exception is a bug of ours and keeps its traceback.
    """


def reason(error: BaseException) -> str:
    """Return what an exception of others says, in one line."""
    return " ".join(str(error).split())[:200] or type(error).__name__
