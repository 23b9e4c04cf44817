"""Tries inputs, each in a process of its own with bounds of memory and time, and says what became of them.

`try_all(cases)` takes pairs of a name and a function. A function that returns has a right result, which it has looked
at itself; one that raises a plain error refuses in a line; all else is wrong: another error, several lines, a result
that it calls wrong (`WrongResultError`), more memory than `MOST_BYTES`, more time than `MOST_SECONDS`, an end by a
signal.
"""

import os
import pickle
import random
import resource
import signal
import sys
import time
import traceback
from collections import Counter
from pathlib import Path

from processing_rrsis.errors import PLAIN_ERRORS, error_text

MOST_BYTES = 2 << 30
MOST_SECONDS = 60
SECRET = "hf_s3cretS3CRETs3cretS3CRET"


class WrongResultError(Exception):
    """A result that is not that of the input."""


def try_all(title, cases, capfd, lines=1):
    """Try every case, print how many were right, refused and wrong, and fail where there are wrong ones."""
    counts, wrong, memory, longest = Counter(), [], 0, 0.0
    for name, function in cases:
        start = time.monotonic()
        outcome, text, peak = try_one(function, lines)
        counts[outcome] += 1
        memory, longest = max(memory, peak), max(longest, time.monotonic() - start)
        if outcome == "wrong":
            wrong.append(f"{name}: {text}")
    with capfd.disabled():
        sys.stdout.write(
            f"\n{title}: {sum(counts.values())} tried, {counts['refused']} refused in one line, {counts['right']} "
            f"right, {counts['wrong']} wrong, at most {memory >> 20} MiB and {longest:.1f} s\n"
        )
    assert not wrong, "\n\n".join(wrong[:20])


def try_one(function, lines=1):
    """Outcome, text and most bytes of one case."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        with os.fdopen(writing, "wb") as stream:
            pickle.dump(_outcome(function, lines), stream)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as stream:
        told = stream.read()
    _, status, usage = os.wait4(child, 0)
    peak = usage.ru_maxrss << 10
    if status or not told:
        return "wrong", f"ended by {signal.Signals(os.WTERMSIG(status)).name if status else 'itself'}", peak
    outcome, text = pickle.loads(told)
    return ("wrong", f"took {peak >> 20} MiB", peak) if peak > MOST_BYTES else (outcome, text, peak)


def _outcome(function, lines):
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MOST_BYTES, used + MOST_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.alarm(MOST_SECONDS)
    try:
        function()
    except MemoryError:
        return "wrong", f"asks for more than {MOST_BYTES >> 20} MiB: {traceback.format_exc()[-600:]}"
    except PLAIN_ERRORS as error:
        text = error_text(error)
        if SECRET in text:
            return "wrong", f"tells a secret: {text}"
        if not text.strip() or len(text.strip().splitlines()) > lines or len(text) > 5000 * lines:
            return "wrong", f"more than one line: {text[:600]!r}"
        return "refused", text
    except BaseException:
        return "wrong", traceback.format_exc()[-1500:]
    return "right", ""


def mutated(data, generator: random.Random):
    """Bytes with bits flipped, parts cut out, doubled, overwritten with extremes or exchanged, or cut short."""
    data = bytearray(data)
    for _ in range(generator.choice((1, 1, 1, 2, 5, 20))):
        if not data:
            break
        place, length = generator.randrange(len(data)), generator.choice((1, 2, 4, 8, 100))
        kind = generator.randrange(7)
        if kind <= 1:
            data[place] ^= 1 << generator.randrange(8)
        elif kind == 2:
            data[place : place + length] = bytes(generator.choice((0, 0xFF, 0x7F, 0x80)) for _ in range(length))
        elif kind == 3:
            del data[place : place + length]
        elif kind == 4:
            data[place:place] = data[place : place + length]
        elif kind == 5:
            data[place : place + length] = generator.randbytes(length)
        elif generator.random() < 0.3:
            del data[place:]
    return bytes(data)


def mutated_json(value, generator: random.Random, odds=0.05):
    """JSON values with some exchanged for others of another kind or size."""
    if generator.random() < odds:
        return generator.choice(ODD_VALUES)
    if isinstance(value, dict):
        items = {
            key: mutated_json(item, generator, odds) for key, item in value.items() if generator.random() > odds / 4
        }
        return items | ({"odd": generator.choice(ODD_VALUES)} if generator.random() < odds else {})
    if isinstance(value, list):
        return [mutated_json(item, generator, odds) for item in value]
    return value


ODD_VALUES = [
    *(None, True, -1, 0, 1, 2, 10**8, 2**31, 2**63, -(2**63), 10**4000, 1e308, -1.5, 1e-300),
    *(float("nan"), float("inf"), "", "x", "9" * 400, "../../etc/passwd", "\0", "\ud800", "ship " * 1000),
    *([], [1], [None], [[]], {}, {"a": 1}, [1e308, float("nan")], [[1, 2], [3]], list(range(100))),
]
