"""Pickles from strangers: plain values are read, anything that could run code is refused by name.

A pickle is a program: it may import any callable and call it. RRSIS-D's references come as a pickle from a file
share. Here two walls stand one behind the other: every opcode is looked at before anything is built, and the
unpickler that builds admits no import at all, hence no class, no callable and no call.
"""

from __future__ import annotations

import io
import pickle
import pickletools
from typing import NoReturn

MAX_PICKLE_BYTES = 256 << 20
MAX_OPCODES = 20_000_000
"""RRSIS-D's references take 0.8 to 1.1 million."""
MAX_SHARED_TUPLES = 32
"""Times that a tuple may be used again: tuples of shared tuples grow without bound when hashed as a key."""

_PLAIN_OPCODES = """
PROTO FRAME STOP MARK POP POP_MARK NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT
STRING BINSTRING SHORT_BINSTRING BINBYTES SHORT_BINBYTES BINBYTES8 UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8
EMPTY_LIST APPEND APPENDS LIST EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_DICT DICT SETITEM SETITEMS
EMPTY_SET ADDITEMS GET BINGET LONG_BINGET PUT BINPUT LONG_BINPUT MEMOIZE
"""
_PLAIN = frozenset(_PLAIN_OPCODES.split())
_IMPORTS = frozenset({"GLOBAL", "STACK_GLOBAL", "INST"})
_TUPLES = frozenset({"TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"})
_STORES = frozenset({"PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"})
_FETCHES = frozenset({"GET", "BINGET", "LONG_BINGET"})


class UnsafePickleError(ValueError):
    """The pickle asks for more than plain values; nothing of it was run."""


class _PlainUnpickler(pickle.Unpickler):
    """Builds plain values; whatever asks for a class, a function or an outside object is refused."""

    source = ""

    def find_class(self, module_name: str, global_name: str) -> NoReturn:
        raise _refusal(self.source, f"{module_name}.{global_name}")

    def persistent_load(self, pid: object) -> NoReturn:
        raise _refusal(self.source, "a persistent object")


def _refusal(source: str, wanted: str) -> UnsafePickleError:
    return UnsafePickleError(
        f"{source}: expected a pickle of plain values (None, bool, int, float, str, bytes, list, tuple, dict, set), "
        f"but it asks for {wanted}; nothing of it was run. Don't open it with pickle.load; fetch the file again from "
        "where it was published"
    )


def load_plain_pickle(data: bytes, source: str) -> object:
    """Read a pickle that holds nothing but plain values.

    Text of Python 2 is read as UTF-8, and as Latin-1 where it is none. Sets need protocol 4, bytes protocol 3 or
    higher: older protocols write both as calls, which are refused. What comes back may refer to itself; walk it
    with care.

    Args:
        data: The content of the file.
        source: Name of the file, for messages.

    Returns:
        None, bool, int, float, str, bytes, list, tuple, dict or set, and nothing else inside.

    Raises:
        UnsafePickleError: If it asks for a class or function (named, e.g. ``os.system``), a persistent object or an
            extension, or if it is built to exhaust memory. Nothing of it has run.
        ValueError: If it is no pickle, or a damaged one.
    """
    if len(data) > MAX_PICKLE_BYTES:
        raise UnsafePickleError(
            f"{source}: expected a pickle of at most {MAX_PICKLE_BYTES >> 20} MiB, got {len(data) >> 20} MiB"
        )
    _look_at_opcodes(data, source)
    try:
        return _build(data, source, encoding="utf-8")
    except UnicodeDecodeError:
        return _build(data, source, encoding="latin-1")


def _build(data: bytes, source: str, encoding: str) -> object:
    unpickler = _PlainUnpickler(io.BytesIO(data), encoding=encoding)
    unpickler.source = source
    try:
        return unpickler.load()
    except (UnsafePickleError, UnicodeDecodeError):
        raise
    except Exception as error:  # the unpickler raises whatever the values it meets raise
        raise ValueError(
            f"{source}: expected a complete pickle, got a damaged one ({error}); fetch it again"
        ) from error


def _look_at_opcodes(data: bytes, source: str) -> None:
    """Refuse everything but plain values; at an import the unpickler is left to say its name."""
    tuples: set[int] = set()
    slots = shared = count = 0
    previous = ""
    try:
        for opcode, argument, _ in pickletools.genops(data):
            name = opcode.name
            count += 1
            if name in _IMPORTS:
                return
            if name not in _PLAIN:
                raise _refusal(source, f"the pickle operation {name}")
            if name in _STORES:
                slot = slots if name == "MEMOIZE" else int(argument or 0)
                slots += 1
                if slot > len(data):
                    raise _refusal(source, f"memory for {slot} stored values")
                if previous in _TUPLES:
                    tuples.add(slot)
                else:
                    tuples.discard(slot)
            elif name in _FETCHES and int(argument or 0) in tuples:
                shared += 1
            if count > MAX_OPCODES or shared > MAX_SHARED_TUPLES:
                raise _refusal(source, "more values than any published file holds")
            previous = name
    except UnsafePickleError:
        raise
    except Exception as error:  # pickletools raises several kinds on damaged input
        raise ValueError(f"{source}: expected a pickle, got something else or a damaged one ({error})") from error
