"""Pickles from strangers: plain values come back, everything else is refused by name and nothing runs."""

import builtins
import collections
import io
import os
import pickle
import struct

import numpy as np
import pytest

from processing_rrsis.data import safe_pickle
from processing_rrsis.data.safe_pickle import UnsafePickleError, load_plain_pickle

PLAIN = {
    "refs": [{"ref_id": 1, "sentences": [{"raw": "Größe ×", "tokens": ["a", "b"]}], "box": (1, 2.5, None, True)}],
    "numbers": [0, -1, 255, 256, 65536, 2**40, -(2**70), float("inf")],
    5: (),
    None: [[]],
}


class Call:
    """Pickles to a call."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


class Stateful:
    def __setstate__(self, state):
        os.environ["RRSIS_PICKLE_RAN"] = "yes"


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_values_come_back(protocol):
    assert load_plain_pickle(pickle.dumps(PLAIN, protocol), "x.p") == PLAIN


def test_bytes_and_sets_of_newer_protocols():
    assert load_plain_pickle(pickle.dumps([b"ab"], 3), "x.p") == [b"ab"]
    assert load_plain_pickle(pickle.dumps([{1, 2}], 4), "x.p") == [{1, 2}]


def test_text_of_python_2_is_utf8_or_else_latin1():
    def python2(text):
        return b"\x80\x02]U" + struct.pack("B", len(text)) + text + b"a."

    assert load_plain_pickle(python2("é".encode()), "x.p") == ["é"]
    assert load_plain_pickle(python2(b"caf\xe9"), "x.p") == ["café"]


def test_shared_and_recursive_values():
    shared = ["a"]
    values = [shared, shared]
    values.append(values)
    loaded = load_plain_pickle(pickle.dumps(values), "x.p")
    assert loaded[0] is loaded[1]
    assert loaded[2] is loaded


def hostile():
    marker = "touch ran"
    array = np.arange(3)
    yield "os.system", b"cos\nsystem\n(S'" + marker.encode() + b"'\ntR."
    yield "posix.system", pickle.dumps(Call(os.system, marker))
    yield "os.system", b"(S'" + marker.encode() + b"'\nios\nsystem\n."  # INST
    yield "builtins.eval", pickle.dumps([{"refs": [1, (2, Call(eval, marker))]}])
    yield "__builtin__.eval", pickle.dumps(Call(builtins.eval, marker), protocol=2)
    yield "builtins.getattr", pickle.dumps(Call(getattr, "", "join"))
    yield "numpy", pickle.dumps(array)
    yield "numpy", pickle.dumps(array[0])
    yield "collections.OrderedDict", pickle.dumps(collections.OrderedDict(a=1))
    yield "Stateful", pickle.dumps({"a": Stateful()})
    yield "_codecs.encode", pickle.dumps(b"\xff", protocol=2)
    yield "builtins.eval", pickle.dumps(eval)  # named and never called
    yield "a persistent object|PERSID", b"Pid\n."
    yield "a persistent object|PERSID", b"\x80\x02X\x01\x00\x00\x00aQ."
    yield "EXT1", b"\x80\x02\x82\x01."
    yield "REDUCE", b"N)R."
    yield "BUILD", b"}}b."
    yield "NEXT_BUFFER", b"\x80\x05\x97."


@pytest.mark.parametrize(("name", "data"), hostile(), ids=lambda value: value if isinstance(value, str) else "")
def test_hostile_pickles_are_refused_by_name_and_do_not_run(name, data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UnsafePickleError, match=name) as caught:
        load_plain_pickle(data, "refs(unc).p")
    assert "refs(unc).p" in str(caught.value)
    assert "nothing of it was run" in str(caught.value)
    assert list(tmp_path.iterdir()) == []
    assert "RRSIS_PICKLE_RAN" not in os.environ


def test_the_hostile_examples_would_run_elsewhere(tmp_path, monkeypatch):
    """What is refused above really is dangerous."""
    monkeypatch.chdir(tmp_path)
    pickle.loads(pickle.dumps(Call(os.system, "touch ran")))
    assert (tmp_path / "ran").exists()


def test_the_second_wall_stands_alone():
    unpickler = safe_pickle._PlainUnpickler(io.BytesIO(pickle.dumps(Call(os.system, "true"))))
    with pytest.raises(UnsafePickleError, match=r"posix\.system|nt\.system"):
        unpickler.load()


@pytest.mark.parametrize(
    "data",
    [b"", b"no pickle", b"\x80\x02]", pickle.dumps(PLAIN)[:-20], b"\x80\x63.", b".", b"a.", b"\x80\x02h\x05."],
)
def test_damaged_pickles(data):
    with pytest.raises(ValueError, match=r"refs\.p: expected .*damaged"):
        load_plain_pickle(data, "refs.p")


def test_bombs():
    huge_slot = b"\x80\x02]r" + struct.pack("<I", 2**31) + b"."
    with pytest.raises(UnsafePickleError, match="memory for 2147483648 stored values"):
        load_plain_pickle(huge_slot, "x.p")
    doubling = b"\x80\x02K\x01\x85q\x00"  # (1,), then 60 times t = (t, t), then {t: 1}
    for level in range(60):
        slot = struct.pack("B", level)
        doubling += b"0h" + slot + b"h" + slot + b"\x86q" + struct.pack("B", level + 1)
    with pytest.raises(UnsafePickleError, match="more values"):
        load_plain_pickle(b"\x80\x02}" + doubling[2:] + b"K\x01s.", "x.p")
    with pytest.raises(ValueError, match="damaged"):
        load_plain_pickle(b"\x80\x04\x8e" + struct.pack("<Q", 2**60) + b"abc.", "x.p")


def test_limits(monkeypatch):
    monkeypatch.setattr(safe_pickle, "MAX_OPCODES", 100)
    with pytest.raises(UnsafePickleError, match="more values"):
        load_plain_pickle(pickle.dumps(list(range(1000))), "x.p")
    monkeypatch.setattr(safe_pickle, "MAX_PICKLE_BYTES", 100)
    with pytest.raises(UnsafePickleError, match="at most"):
        load_plain_pickle(pickle.dumps(list(range(1000))), "x.p")


def test_deep_nesting_is_no_harm():
    depth = 50_000
    loaded = load_plain_pickle(b"\x80\x02" + b"]" * depth + b"a" * (depth - 1) + b".", "x.p")
    assert len(loaded) == 1
