"""What a pickle asks for, found out without doing any of it: names, storages, and keys of dictionaries.

`torch.load(weights_only=True)` runs no foreign code, but calls what makes memory of any size from a number, and hashes
keys nested so deep that the interpreter ends. Checkpoints need neither.
"""

from __future__ import annotations

import pickletools
import re
from dataclasses import dataclass, field
from typing import Any, BinaryIO

STORAGE_BYTES = {
    **dict.fromkeys(("torch.DoubleStorage", "torch.LongStorage"), 8),
    **dict.fromkeys(("torch.FloatStorage", "torch.IntStorage"), 4),
    **dict.fromkeys(("torch.HalfStorage", "torch.BFloat16Storage", "torch.ShortStorage"), 2),
    **dict.fromkeys(("torch.CharStorage", "torch.ByteStorage", "torch.BoolStorage"), 1),
}
"""Bytes of a number in a tensor's memory, by the name that it is pickled with."""
NEEDED_NAMES = re.compile(
    "|".join(map(re.escape, STORAGE_BYTES))
    + r"|torch\.(Size|device|b?float\w*|u?int\w*|bool)|torch\._utils\._rebuild_tensor(_v2)?"
    r"|torch\._utils\._rebuild_parameter|torch\.nn\.parameter\.Parameter|collections\.OrderedDict|argparse\.Namespace"
)
"""What state dictionaries, optimizer states and a script's arguments are pickled with."""
_TEXTS = ("SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "UNICODE", "STRING", "BINSTRING", "SHORT_BINSTRING")
_MOST_TUPLE = 8  # longest tuple whose content is of interest: a storage's has 5 or 6 parts


class PickleError(ValueError):
    """The pickle is damaged, or asks for what no checkpoint needs."""


@dataclass(frozen=True)
class _Name:
    """A class or function on the stack."""

    name: str


@dataclass
class Survey:
    """What pickles ask for.

    Args:
        names: Dotted names of classes and functions.
        storages: Bytes of every storage by its key.
    """

    names: set[str] = field(default_factory=set)
    storages: dict[str, int] = field(default_factory=dict)

    def add(self, file: BinaryIO) -> None:
        """Look through one pickle, to its end.

        Raises:
            PickleError: It is damaged, or has keys, calls or storages of a kind that no checkpoint has.
        """
        try:
            self._follow(file)
        except (ValueError, LookupError, OverflowError, EOFError) as error:
            raise error if isinstance(error, PickleError) else PickleError(str(error)) from error

    def _follow(self, file: BinaryIO) -> None:
        """Do to stack, marks and memory what the opcodes say, with texts, numbers and names for values."""
        stack: list[Any] = []
        marks: list[int] = []
        memory: dict[int, Any] = {}
        for opcode, argument, _ in pickletools.genops(file):
            if opcode.name == "MARK":
                marks.append(len(stack))
            elif "PUT" in opcode.name or opcode.name == "MEMOIZE":
                memory[len(memory) if argument is None else int(argument)] = stack[-1]
            elif argument is not None and opcode.name.endswith("GET"):
                stack.append(memory[int(argument)])
            else:
                taken = _take(opcode, stack, marks)
                made = self._value(opcode.name, argument, taken)
                stack.extend([made] * len(opcode.stack_after))

    def _value(self, name: str, argument: Any, taken: list[Any]) -> Any:
        """What stands for an opcode's result."""
        if name in ("GLOBAL", "INST", "STACK_GLOBAL"):
            dotted = ".".join(map(str, taken)) if name == "STACK_GLOBAL" else str(argument).replace(" ", ".")
            self.names.add(dotted)
            return _Name(dotted)
        if name.startswith("SETITEM"):
            if not all(isinstance(key, str | int) and len(str(key)) < 1000 for key in taken[1::2]):
                raise PickleError("a dictionary whose keys are no texts or numbers")
            return taken[0]
        if name == "REDUCE" and taken[0] == _Name("collections.OrderedDict") and taken[1] != ():
            raise PickleError("a dictionary that is not empty at first")
        if name == "BINPERSID":
            self._add_storage(taken[0])
        if name.startswith(("TUPLE", "EMPTY_TUPLE")):
            return tuple(taken) if len(taken) <= _MOST_TUPLE else None
        return argument if name in _TEXTS or "INT" in name or name.startswith("LONG") else None

    def _add_storage(self, identity: Any) -> None:
        if not isinstance(identity, tuple) or len(identity) < 5 or not isinstance(identity[1], _Name):
            raise PickleError("tensors whose memory is described in another way")
        size, key, count = STORAGE_BYTES.get(identity[1].name), identity[2], identity[4]
        if size is None or not isinstance(key, str) or not isinstance(count, int) or count < 0:
            raise PickleError("tensors whose memory is described in another way")
        size *= count
        if self.storages.setdefault(key, size) != size:
            raise PickleError(f"two sizes of the tensors' memory {key!r}")


def _take(opcode: Any, stack: list[Any], marks: list[int]) -> list[Any]:
    """Remove from the stack what an opcode takes, and return it."""
    before = opcode.stack_before
    if pickletools.markobject in before:
        start = marks.pop() - before.index(pickletools.markobject)
    else:
        start = len(stack) - len(before)
    if start < (marks[-1] if marks else 0):
        raise PickleError("an operation without its values")
    taken = stack[start:]
    del stack[start:]
    return taken
