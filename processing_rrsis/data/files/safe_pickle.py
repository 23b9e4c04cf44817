"""Pickles from strangers: plain values are read, anything that could run code is refused by name.

A pickle is a program: it may import any callable and call it. RRSIS-D's references come as a pickle from a file
share. Here two walls stand one behind the other: every opcode is looked at before anything is built, and the
unpickler that builds admits no import at all, hence no class, no callable and no call.

Nor may a pickle keep the machine busy for ever. Hashing nested tuples takes time without bound, or overflows the stack
of C: there are no tuples. Whole numbers that share a hash make a dictionary slow: none is beyond 64 bits. How deep
values are nested, and how many there are when every shared one is counted again, is known before anything is built.
"""

from __future__ import annotations

import io
import pickle
import pickletools
from typing import Any, NoReturn

MAX_PICKLE_BYTES = 256 << 20
MAX_OPCODES = 5_000_000
"""RRSIS-D's references take 0.8 to 1.1 million; also the most values, shared ones counted every time."""
MAX_DEPTH = 32
"""Lists and dictionaries inside each other; RRSIS-D's references have five."""

_SCALAR_OPCODES = """
NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT STRING BINSTRING SHORT_BINSTRING
BINBYTES SHORT_BINBYTES BINBYTES8 UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8
"""
_SCALARS = frozenset(_SCALAR_OPCODES.split())
_FRAMING = frozenset({"PROTO", "FRAME", "STOP"})
_ADDED = {"APPEND": 1, "SETITEM": 2}
"""Values that are added to the container below them."""
_ADDED_TO_MARK = frozenset({"APPENDS", "SETITEMS"})
_FROM_MARK = frozenset({"LIST", "DICT"})
_STACK = frozenset({"MARK", "POP", "POP_MARK", "EMPTY_LIST", "EMPTY_DICT", *_ADDED, *_ADDED_TO_MARK, *_FROM_MARK})
_STORES = frozenset({"PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"})
_FETCHES = frozenset({"GET", "BINGET", "LONG_BINGET"})
_PLAIN = _SCALARS | _FRAMING | _STACK | _STORES | _FETCHES
_IMPORTS = frozenset({"GLOBAL", "STACK_GLOBAL", "INST"})


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
        f"{source}: expected a pickle of plain values (None, bool, int, float, str, bytes, list, dict), but it "
        f"asks for {wanted}; nothing of it was run. Don't open it with pickle.load; fetch the file again from "
        "where it was published"
    )


def load_plain_pickle(data: bytes, source: str) -> object:
    """Read a pickle that holds nothing but plain values.

    Text of Python 2 is read as UTF-8, and as Latin-1 where it is none. Bytes need protocol 3 or higher: older
    protocols write them as calls, which are refused. What comes back does not hold itself, is nested at most
    `MAX_DEPTH` deep, and can be walked in at most `MAX_OPCODES` steps.

    Args:
        data: The content of the file.
        source: Name of the file, for messages.

    Returns:
        None, bool, int below 2**63, float, str, bytes, list or dict, and nothing else inside.

    Raises:
        UnsafePickleError: If it asks for a class or function (named, e.g. ``os.system``), a persistent object or an
            extension, for a tuple or set, or if it is built to exhaust time or memory. Nothing of it has run.
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
    shape = _Shape(source, max_slot=min(len(data), MAX_OPCODES))
    try:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(data), start=1):
            if opcode.name in _IMPORTS:
                return
            if opcode.name not in _PLAIN:
                raise _refusal(source, f"the pickle operation {opcode.name}")
            if count > MAX_OPCODES:
                raise _refusal(source, "more values than any published file holds")
            shape.follow(opcode.name, argument)
    except UnsafePickleError:
        raise
    except Exception as error:  # pickletools raises several kinds on damaged input
        raise ValueError(f"{source}: expected a pickle, got something else or a damaged one ({error})") from error


class _Container:
    """Depth and number of values of a list or dictionary; once inside another one it can't grow any more."""

    __slots__ = ("closed", "depth", "size")

    def __init__(self) -> None:
        self.depth, self.size, self.closed = 1, 1, False


class _Shape:
    """Follows the unpickler's stack, marks and memory with the shape of the values alone.

    Args:
        source: Name of the file, for messages.
        max_slot: Highest number under which a value may be stored: the unpickler reserves memory up to it.
    """

    def __init__(self, source: str, max_slot: int) -> None:
        self.source = source
        self.max_slot = max_slot
        self._stack: list[_Container | None] = []  # None is a scalar
        self._marks: list[int] = []
        self._memory: dict[int, _Container | None] = {}

    def follow(self, name: str, argument: Any) -> None:
        """Do to the shapes what an opcode does to the values.

        Raises:
            UnsafePickleError: If the values grow too deep or too many, or one holds itself.
            ValueError: If the opcodes do not fit together.
        """
        if name in _SCALARS:
            if isinstance(argument, int) and not -(1 << 63) <= argument < 1 << 63:
                raise _refusal(self.source, "a whole number beyond 64 bits")
            self._stack.append(None)
        elif name in _STORES:
            self._store(len(self._memory) if name == "MEMOIZE" else argument)
        elif name in _FETCHES:
            if argument not in self._memory:
                raise ValueError(f"nothing is stored under {argument}")
            self._stack.append(self._memory[argument])
        elif name in _ADDED:
            self._add(self._take(len(self._stack) - _ADDED[name]))
        elif name in _ADDED_TO_MARK:
            self._add(self._take_to_mark())
        elif name in _FROM_MARK:
            values = self._take_to_mark()
            self._stack.append(_Container())
            self._add(values)
        elif name in ("EMPTY_LIST", "EMPTY_DICT"):
            self._stack.append(_Container())
        elif name == "MARK":
            self._marks.append(len(self._stack))
        elif name == "POP_MARK" or (name == "POP" and self._marks and self._marks[-1] == len(self._stack)):
            self._take_to_mark()
        elif name == "POP":
            self._take(len(self._stack) - 1)

    def _store(self, slot: int) -> None:
        if slot > self.max_slot:
            raise _refusal(self.source, f"memory for {slot} stored values")
        self._memory[slot] = self._top()

    def _top(self) -> _Container | None:
        if len(self._stack) <= (self._marks[-1] if self._marks else 0):
            raise ValueError("an operation without its value")
        return self._stack[-1]

    def _take(self, start: int) -> list[_Container | None]:
        """Remove and return what lies on the stack from an index on, no mark below it."""
        if start < (self._marks[-1] if self._marks else 0):
            raise ValueError("an operation without its value")
        values = self._stack[start:]
        del self._stack[start:]
        return values

    def _take_to_mark(self) -> list[_Container | None]:
        if not self._marks:
            raise ValueError("an operation without its mark")
        return self._take(self._marks.pop())

    def _add(self, values: list[_Container | None]) -> None:
        """Put values into the container on top of the stack."""
        target = self._top()
        if target is None:
            raise ValueError("values added to something that holds none")
        if values and target.closed:
            raise _refusal(self.source, "a value that changes, or holds itself, after it was used")
        for value in values:
            target.size += 1 if value is None else value.size
            if value is None:
                continue
            if value is target:
                raise _refusal(self.source, "a value that holds itself")
            value.closed = True
            target.depth = max(target.depth, value.depth + 1)
        if target.depth > MAX_DEPTH:
            raise _refusal(self.source, f"values nested more than {MAX_DEPTH} deep")
        if target.size > MAX_OPCODES:
            raise _refusal(self.source, "more values than any published file holds")
