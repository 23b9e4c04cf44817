"""Errors that a user can mend, which commands tell in words; any other is a bug and shows its traceback."""

from __future__ import annotations

import os
import sys

from huggingface_hub.errors import StrictDataclassError


class RRSISError(RuntimeError):
    """Something that the options, the files or the machine are the reason for, and its message says what to do."""


PLAIN_ERRORS = (RRSISError, ValueError, OSError, ImportError, MemoryError, StrictDataclassError)


def is_plain(error: BaseException) -> bool:
    """Whether an error is told in words: never with the environment's `RRSIS_DEBUG=1`."""
    if os.environ.get("RRSIS_DEBUG", "0") not in ("", "0"):
        return False
    torch = sys.modules.get("torch")  # a command that has not imported it can't have run out of a GPU's memory
    return isinstance(error, PLAIN_ERRORS) or (torch is not None and isinstance(error, torch.OutOfMemoryError))


def error_text(error: BaseException) -> str:
    """The message for a terminal; that of a configuration, which huggingface_hub spreads over two lines, in one."""
    text = " ".join(str(error).split()) if isinstance(error, StrictDataclassError) else str(error)
    return "\n".join(map(printable, text.splitlines()))


def printable(text: str) -> str:
    """One line of text without control characters, which names of files may hold and which could steer a terminal."""
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)
