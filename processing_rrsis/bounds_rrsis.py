"""How much is read of a file, a URL or a text that others made. Travels to the Hub.

Each bound lies far beyond what any published file has, and keeps a command below 2 GiB of
memory and a minute of waiting.
"""

import http.client
import json
import re
import threading
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

MAX_FILE_BYTES = 1 << 30
"""An image, or another file that is read whole."""
MAX_TEXT_BYTES = 1 << 27
"""A table, a list of expressions, JSON; RRSIS-D's annotations are the largest published."""
MAX_LINES = 1_000_000
"""Of a text; RISBench's lists have 52,472 together."""
MAX_JSON_VALUES = 20_000_000
"""Values in one JSON text, lists and dictionaries among them."""
MAX_JSON_CONTAINERS = 5_000_000
MAX_EXPRESSION_CHARACTERS = 2_000
"""Of one expression; the longest published one has fewer than 400, and networks read 20 to 77 tokens."""
MAX_SHOWN_CHARACTERS = 200
"""Of a name or an address in a message."""
MAX_URL_BYTES = 1 << 29
URL_SECONDS = 40
"""From the request to the last byte."""
URL_PAUSE_SECONDS = 20
"""Without any byte."""
_USER = re.compile(r"(?<=://)[^/@\s]*@")
_QUERY = re.compile(r"(://[^\s?#]*)[?#]\S*")


class TextEncodingError(ValueError):
    """A text is no UTF-8."""


def shown(name: Any) -> str:
    """Return a path or an address for a message: cut, without the user, password and signature of an address."""
    text = _QUERY.sub(r"\1", _USER.sub("", str(name)))
    return text if len(text) <= MAX_SHOWN_CHARACTERS else f"{text[: MAX_SHOWN_CHARACTERS // 2]}…"


def read_file(path: Path, limit: int = MAX_FILE_BYTES) -> bytes:
    """Read a file whole; a pipe or a device, which may have no end, is none.

    Raises:
        OSError: it is no file, or can't be read.
        ValueError: it has more bytes than the limit.
    """
    if path.exists() and not path.is_file():
        raise OSError(f"{shown(path)}: expected a file, got a folder, a pipe or a device")
    if (size := path.stat().st_size) > limit:
        raise ValueError(f"{shown(path)}: expected at most {limit >> 20} MiB, got {size >> 20} MiB; cut it into parts")
    return path.read_bytes()


def read_text(path: Path) -> str:
    """Read a text in UTF-8, a byte-order mark left out.

    Raises:
        OSError: as `read_file`.
        ValueError: as `read_file` and `decode_text`.
    """
    return decode_text(read_file(path, MAX_TEXT_BYTES), source=shown(path))


def decode_text(data: bytes, source: str) -> str:
    """Decode a text's bytes as [`read_text`] does.

    Raises:
        ValueError: it is no UTF-8, or has more bytes or lines than any published text.
    """
    if len(data) > MAX_TEXT_BYTES or data.count(b"\n") > MAX_LINES:
        raise ValueError(
            f"{source}: expected a text of at most {MAX_TEXT_BYTES >> 20} MiB and {MAX_LINES:,} lines, got more; cut "
            "it into parts"
        )
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise TextEncodingError(f"{source}: expected UTF-8 text, got {error}; save it as UTF-8") from error


def parse_json(text: str | bytes, source: str, expected: str = "complete JSON") -> Any:
    """Parse JSON of at most so many values; whole numbers beyond 64 bits, which no file needs, are refused.

    Raises:
        ValueError: it is no JSON, or more than that.
    """
    try:
        content = text.decode("utf-8-sig") if isinstance(text, bytes) else text
        containers = content.count("[") + content.count("{")
        if len(content) > MAX_TEXT_BYTES or containers > MAX_JSON_CONTAINERS or content.count(",") > MAX_JSON_VALUES:
            raise ValueError(f"more than {MAX_JSON_VALUES:,} values or {MAX_TEXT_BYTES >> 20} MiB")
        return json.loads(content, parse_int=_whole_number)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{source}: expected {expected}, got {error}; fetch or save it again") from error


def read_json(path: Path, expected: str = "complete JSON") -> Any:
    """Read a file of JSON, within the bounds of [`read_text`] and [`parse_json`].

    Raises:
        OSError: as `read_file`.
        ValueError: as `read_text` and `parse_json`.
    """
    return parse_json(read_text(path), source=shown(path), expected=expected)


def _whole_number(digits: str) -> int:
    if len(digits) > 20 or not -(1 << 63) <= (number := int(digits)) < 1 << 63:
        raise ValueError(f"a whole number beyond 64 bits, {digits[:20]}…")
    return number


def read_url(url: str, limit: int = MAX_URL_BYTES) -> bytes:
    """Fetch what an http(s) address gives, within a time for all of it.

    Raises:
        ConnectionError: it could not be read in time, or gives more than the limit; neither user nor password of the
            address are told.
    """
    if "@" in urlsplit(url).netloc:
        raise ConnectionError(f"{shown(url)}: expected an address without user and password; fetch the file yourself")
    box: list[Any] = []
    # A thread of its own: an answer that drips, from its first header on, resets every limit that a socket has.
    worker = threading.Thread(target=lambda: box.append(_fetched(url, limit)), daemon=True)
    worker.start()
    worker.join(URL_SECONDS)
    result = box[0] if box else f"no end after {URL_SECONDS} s"
    if isinstance(result, bytes):
        return result
    raise ConnectionError(f"URL {shown(url)!r} could not be read ({result}); download it and pass the file")


def _fetched(url: str, limit: int) -> bytes | str:
    """The bytes, or what went wrong."""
    end = time.monotonic() + URL_SECONDS
    try:
        with urlopen(Request(url, headers={"User-Agent": "rrsis"}), timeout=URL_PAUSE_SECONDS) as response:
            parts, size = [], 0
            while time.monotonic() < end and (part := response.read1(1 << 20)):
                parts.append(part)
                size += len(part)
                if size > limit:
                    return f"more than {limit >> 20} MiB"
            if time.monotonic() >= end:
                return f"no end after {URL_SECONDS} s"
            expected = response.headers.get("Content-Length", "")
            if expected.isascii() and expected.isdecimal() and size < int(expected[:20]):
                return f"{size} bytes of {expected[:20]}"
            return b"".join(parts)
    except (OSError, http.client.HTTPException, ValueError) as error:
        return shown(" ".join(str(error).split()) or type(error).__name__)
