"""Pickles from strangers: plain values come back, everything else is refused by name and nothing runs."""

import builtins
import collections
import io
import os
import pickle
import struct
import time

import numpy as np
import pytest

from processing_rrsis.data.files import safe_pickle
from processing_rrsis.data.files.safe_pickle import UnsafePickleError, load_plain_pickle

PLAIN = {
    "refs": [{"ref_id": 1, "sentences": [{"raw": "Größe ×", "tokens": ["a", "b"]}], "box": [1, 2.5, None, True]}],
    "numbers": [0, -1, 255, 256, 65536, 2**40, -(2**63), float("inf")],
    5: {},
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


def test_bytes_of_newer_protocols():
    assert load_plain_pickle(pickle.dumps([b"ab"], 3), "x.p") == [b"ab"]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_references_of_the_length_published_come_back(protocol):
    sentence = {"tokens": ["a", "ship"], "raw": "A ship", "sent_id": 7, "sent": "a ship"}
    entries = [{"ref_id": number, "sentences": [dict(sentence)], "split": "val"} for number in range(3000)]
    assert load_plain_pickle(pickle.dumps(entries, protocol), "x.p") == entries


def test_text_of_python_2_is_utf8_or_else_latin1():
    def python2(text):
        return b"\x80\x02]U" + struct.pack("B", len(text)) + text + b"a."

    assert load_plain_pickle(python2("é".encode()), "x.p") == ["é"]
    assert load_plain_pickle(python2(b"caf\xe9"), "x.p") == ["café"]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_shared_values_stay_shared_and_none_holds_itself(protocol):
    shared = ["a"]
    values = [shared, shared]
    loaded = load_plain_pickle(pickle.dumps(values, protocol), "x.p")
    assert loaded == values
    assert loaded[0] is loaded[1]
    values.append(values)
    with pytest.raises(UnsafePickleError, match="holds itself"):
        load_plain_pickle(pickle.dumps(values, protocol), "x.p")
    first, second = {}, []
    first["second"] = second
    second.append(first)
    with pytest.raises(UnsafePickleError, match="holds itself"):
        load_plain_pickle(pickle.dumps([first], protocol), "x.p")


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
    yield "REDUCE", b"N]R."
    yield "EMPTY_SET", pickle.dumps([{1, 2}], protocol=4)
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


@pytest.mark.parametrize("data", [b"Pid\n.", b"\x80\x02X\x01\x00\x00\x00aQ."])
def test_the_second_wall_refuses_persistent_objects_alone(data):
    with pytest.raises(UnsafePickleError, match="a persistent object"):
        safe_pickle._PlainUnpickler(io.BytesIO(data)).load()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no pickle",
        b"\x80\x02]",
        pickle.dumps(PLAIN)[:-20],
        b"\x80\x63.",
        b".",
        b"a.",
        b"\x80\x02h\x05.",
        b"(a.",
        b"]e.",
        b"NNa.",
        b"](q\x00.",
    ],
)
def test_damaged_pickles(data):
    with pytest.raises(ValueError, match=r"refs\.p: expected .*damaged"):
        load_plain_pickle(data, "refs.p")


def test_bombs():
    huge_slot = b"\x80\x02]r" + struct.pack("<I", 2**31) + b"."
    with pytest.raises(UnsafePickleError, match="memory for 2147483648 stored values"):
        load_plain_pickle(huge_slot, "x.p")
    with pytest.raises(ValueError, match="damaged"):
        load_plain_pickle(b"\x80\x04\x8e" + struct.pack("<Q", 2**60) + b"abc.", "x.p")


def test_limits(monkeypatch):
    monkeypatch.setattr(safe_pickle, "MAX_OPCODES", 100)
    with pytest.raises(UnsafePickleError, match="more values"):
        load_plain_pickle(pickle.dumps(list(range(1000))), "x.p")
    monkeypatch.setattr(safe_pickle, "MAX_PICKLE_BYTES", 100)
    with pytest.raises(UnsafePickleError, match="at most"):
        load_plain_pickle(pickle.dumps(list(range(1000))), "x.p")


def doubled_tuple(levels):
    """{t: None}, t a pair of the same pair, `levels` times."""
    data = b"\x80\x02}K\x01\x85q\x00"
    for level in range(levels):
        data += b"0h" + bytes([level]) + b"h" + bytes([level]) + b"\x86q" + bytes([level + 1])
    return data + b"Ns."


HANGING = {
    "nested 400,000 deep": b"\x80\x02})" + b"\x85" * 400_000 + b"Ns.",
    "doubled 40 times, stored late": b"\x80\x02}K\x01\x85q\x00"
    + b"".join(b"h" + bytes([n]) + b"h" + bytes([n]) + b"\x86N0q" + bytes([n + 1]) for n in range(40))
    + b"Ns.",
    "doubled 30 times": doubled_tuple(30),
    "doubled 60 times": doubled_tuple(60),
    "protocol 0": b"(dp0\n(((ttI1\ntI1\ns.",
    "frozen set": b"\x80\x04}(K\x01\x91Ns.",
}


@pytest.mark.parametrize("data", HANGING.values(), ids=HANGING)
def test_keys_that_take_for_ever_are_refused_at_once(data):
    start = time.monotonic()
    with pytest.raises(UnsafePickleError, match=r"TUPLE|FROZENSET"):
        load_plain_pickle(data, "x.p")
    assert time.monotonic() - start < 1


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_numbers_that_share_a_hash_are_refused(protocol):
    keys = {number * (2**61 - 1): None for number in range(6)}  # all of hash 0
    data = pickle.dumps(keys | {2**63: None}, protocol)
    assert load_plain_pickle(pickle.dumps({2**63 - 1: -(2**63)}, protocol), "x.p") == {2**63 - 1: -(2**63)}
    with pytest.raises(UnsafePickleError, match="beyond 64 bits"):
        load_plain_pickle(data, "x.p")


def nested(depth):
    value = []
    for _ in range(depth - 1):
        value = [value]
    return value


def test_depth_is_bounded():
    deepest = nested(safe_pickle.MAX_DEPTH)
    assert load_plain_pickle(pickle.dumps(deepest), "x.p") == deepest
    dictionaries = {"a": {"a": nested(safe_pickle.MAX_DEPTH - 1)}}
    for hostile_value in ([deepest], {"a": deepest}, dictionaries):
        with pytest.raises(UnsafePickleError, match="nested more than 32 deep"):
            load_plain_pickle(pickle.dumps(hostile_value), "x.p")
    with pytest.raises(UnsafePickleError, match="nested more than 32 deep"):
        load_plain_pickle(b"\x80\x02" + b"]" * 50_000 + b"a" * 49_999 + b".", "x.p")


def test_depth_that_grows_after_a_value_was_used_is_refused():
    late = b"\x80\x02]]q\x00ah\x00]a."  # [[]] and then a list into the inner one
    with pytest.raises(UnsafePickleError, match="after it was used"):
        load_plain_pickle(late, "x.p")


def test_shared_values_are_counted_every_time():
    value = []
    for _ in range(30):
        value = [value, value]
    with pytest.raises(UnsafePickleError, match="more values"):
        load_plain_pickle(pickle.dumps(value), "x.p")
