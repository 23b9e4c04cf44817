"""Secrets and paths of this machine in what would be sent, whatever the files are called and however it is written."""

from __future__ import annotations

import ast
import base64
import contextlib
import html
import io
import json
import re
import unicodedata
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from .push import RepoFile
from .secret_bytes import MAX_UNPACKED_BYTES, TOKEN_FORMS, bytes_hold_a_token, parquet_columns

BINARY_SUFFIXES = (".safetensors", ".png", ".jpg", ".parquet")
"""Files of numbers or pixels: their texts are read as texts, and all bytes are looked through for a token."""
_TOKENS = re.compile(rf"{TOKEN_FORMS}|\b(?:hf_|api_org_)\w{{8,}}|\b(?:sk|rk|gsk)[-_][\w-]{{20,}}")
_SECRET_NAME = r"(?:api_?key|secret|passw(?:or)?d|passphrase|pwd|credentials?|token)"
_NAMED = re.compile(
    r"\b(?:Bearer|Basic)\s+[\w.~+/-]{16,}|(?i:[?&](?:x-amz-signature|sig|token)=)[\w%+/-]{8,}"
    r"|://[^\s/:@\"'<>{}()]+:[^\s/@\"'<>{}()]+@|://[A-Za-z0-9_-]{16,}@"
    rf"|(?i:{_SECRET_NAME}[\"']?\s*[=:]>?\s*[\"'][\w.~+/-]{{16,}}[\"'])"
    rf"|(?i:{_SECRET_NAME}[\"']?\s*[=:]>?\s*[\"'])(?=[^\s\"']*\d)(?=[^\s\"']*[A-Za-z])[^\s\"'<>{{}}()\[\]]{{8,}}[\"']"
    r"|(?i:(?:key|secret|token|password|passwd|credentials?|passphrase)[\"']?\s*[=:]>?\s*[\"']?)"
    r"(?=[\w.~+/-]*\d)(?=[\w.~+/-]*[A-Za-z])[\w.~+/-]{16,}(?![\w.~+/(\[-])"
    r"|(?i:(?<![A-Za-z])(?:passw(?:or)?d|passphrase|pwd)[\"']?\s*[=:]>?\s*[\"']?)"
    r"(?!None|str\b|null\b)[^\s\"',;<>{}()\[\]]{6,}"
    r"|(?i:--(?:token|password|api-key|secret)[ =]|\bpassword\s+)(?=[\w.~+/-]*\d)(?=[\w.~+/-]*[A-Za-z])[\w.~+/-]{8,}"
)
_MACHINE_PATH = re.compile(
    r"(?<![\w:/.])/(?:home|Users|root|tmp|mnt|media|opt|scratch|var/folders|workspace|gpfs|lustre)/[\w.+@%-]+"
    r"|\bfile://|\b[A-Za-z]:\\+\w|(?<!\w)~/\w|(?<![\w\\])\\\\\w+\\\w"
)
# Absolute paths of two parts or more, GDAL's /vsimem/ not; code and vocabularies hold slashes of other kinds.
_ANY_PATH = re.compile(r"(?<![\w:/.<])/(?!vsi\w+/)(?:[\w.+@%-]+/)+[\w.+@%-]*")
_LOOSE = ("tokenizer.json", "vocab.txt", "added_tokens.json")
_ESCAPED = re.compile(r"\\u([0-9a-fA-F]{4})|\\x([0-9a-fA-F]{2})")
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]{16,}")
_BASE64_LINES = re.compile(r"(?<![A-Za-z0-9+/_-])(?:[A-Za-z0-9+/_-]{16,}\r?\n[ \t]*)+[A-Za-z0-9+/_-]+")
_HEX = re.compile(r"(?:[0-9a-fA-F]{2}){8,}")
# What stands between two parts of a text in code, and what Markdown or a careful author puts into a word.
_BETWEEN = re.compile(r"[\"']\s*[+,.]?\s*[\"']|[\\*`\u00ad\u200b-\u200f\u2060\ufeff]")
_PRINTABLE = re.compile(r"[ -~]{6,}")
_SMALLEST_HIDDEN = 12
_MAX_DEPTH = 3


def find_secrets(files: Iterable[RepoFile], token: str | None = None) -> list[str]:
    """Look for secrets and for paths of this machine in all that would go up, the files' names included.

    Args:
        files: What would go up.
        token: The token in use, found in whatever form it has.

    Returns:
        One line per finding, "file:line: what"; a secret is never repeated.
    """
    found = []
    for file in files:
        is_binary = file.path.endswith(BINARY_SUFFIXES)
        if _has_secret(file.path, token):
            found.append("a file's name looks like a token or a password; choose another and revoke it")
            continue
        is_strict = not is_binary and not file.path.endswith(".py") and Path(file.path).name not in _LOOSE
        for number, line, is_value in _texts(file):
            if _has_secret(line, token):
                found.append(f"{file.path}:{number}: looks like a token or a password; take it out and revoke it")
            path = _MACHINE_PATH.search(line) or (_ANY_PATH.search(line) if is_strict or is_value else None)
            if path is not None:
                found.append(f"{file.path}:{number}: a path of this machine, {_cut(line, path)!r}; take it out")
        if is_binary and bytes_hold_a_token(file, token):
            found.append(f"{file.path}: a token among its bytes; take it out and revoke it")
    return list(dict.fromkeys(found))


def _has_secret(text: str, token: str | None, depth: int = 0) -> bool:
    """Whether a text holds a secret, as it stands, in parts, or written in escapes, base64 or hexadecimal digits."""
    forms = {text}
    plain = text if text.isascii() else unicodedata.normalize("NFKC", text)
    for _ in range(_MAX_DEPTH):
        plain = _ESCAPED.sub(lambda match: chr(int(match[1] or match[2], 16)), unquote(html.unescape(plain)))
        forms.add(plain)
    forms.add(_BETWEEN.sub("", plain))
    if any(_TOKENS.search(form) or _NAMED.search(form) or (token and token in form) for form in forms):
        return True
    if depth == _MAX_DEPTH:
        return False
    words = [match[0] for form in forms for match in _BASE64.finditer(form)]
    return any(_has_secret(inner, token, depth + 1) for word in dict.fromkeys(words) for inner in _hidden(word))


def _hidden(word: str) -> Iterator[str]:
    """What a word says where it is base64 or hexadecimal digits, compressed or not."""
    standard = word.translate({45: "+", 95: "/"})
    parts = [standard[start:] for start in range(4)]  # it may begin within the word; a missing end becomes zeros
    decoded = [base64.b64decode(part + "A" * (-len(part) % 4)) for part in parts]
    decoded += [bytes.fromhex(match[0]) for match in _HEX.finditer(word)]
    for data in decoded:
        with contextlib.suppress(zlib.error):
            data = zlib.decompressobj(wbits=47).decompress(data, MAX_UNPACKED_BYTES)  # of zlib or gzip
        text = data.replace(b"\0", b"").decode("latin-1")  # zeros: two bytes a letter
        if any(len(part) >= _SMALLEST_HIDDEN for part in _PRINTABLE.findall(text)):
            yield text


def _texts(file: RepoFile) -> Iterator[tuple[int, str, bool]]:
    """Line number and text of all that can be read of a file, and whether it is a value that a program takes."""
    if file.path.endswith(".safetensors"):
        return
    if file.path.endswith(".parquet"):
        yield from ((1, text, False) for text in _parquet_texts(file))
        return
    if file.path.endswith((".png", ".jpg")):
        yield from ((1, text, True) for text in _picture_texts(file))
        return
    text = file.read().replace(b"\0", b"").decode("utf-8-sig", errors="replace")  # zeros: two bytes a letter
    yield from ((number, line, False) for number, line in enumerate(text.splitlines(), start=1))
    for match in _BASE64_LINES.finditer(text):
        yield text.count("\n", 0, match.start()) + 1, re.sub(r"\s", "", match[0]), False
    try:
        if file.path.endswith(".json"):
            strict = Path(file.path).name not in _LOOSE
            yield from ((1, value, strict) for value in _json_texts(json.loads(text)))
        if file.path.endswith(".py"):
            for node in ast.walk(ast.parse(text)):
                if isinstance(node, ast.Constant) and isinstance(node.value, str | bytes):
                    value = node.value if isinstance(node.value, str) else node.value.decode("latin-1")
                    yield node.lineno, value, "\n" not in value
                elif isinstance(node, ast.BinOp | ast.JoinedStr | ast.List | ast.Tuple | ast.Call):
                    yield node.lineno, _joined(node), False
    except (ValueError, SyntaxError, RecursionError, MemoryError):  # said by the check of the folder
        return


def _joined(node: ast.AST) -> str:
    """The texts within a piece of code as one: what is written in parts."""
    parts = (part.value for part in _in_order(node) if isinstance(part, ast.Constant) and isinstance(part.value, str))
    return "".join(parts)[:MAX_UNPACKED_BYTES]


def _in_order(node: ast.AST) -> Iterator[ast.AST]:
    yield node
    for child in ast.iter_child_nodes(node):
        yield from _in_order(child)


def _json_texts(content: Any) -> Iterator[str]:
    """Keys and texts of JSON, each value once more behind its key."""
    waiting: list[tuple[str, Any]] = [("", content)]
    while waiting:
        key, value = waiting.pop()
        if isinstance(value, dict):
            yield from value
            waiting += value.items()
        elif isinstance(value, list):
            waiting += ((key, item) for item in value)
        elif isinstance(value, str):
            yield value
            yield f'{key}: "{value}"'


def _picture_texts(file: RepoFile) -> Iterator[str]:
    """The texts that a picture's file holds beside its pixels."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(file.read()), formats=("PNG", "JPEG")) as picture:
            picture.load()
            values = [*picture.info.values(), *picture.getexif().values()]
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"{file.path}: expected a PNG or JPEG picture, got {' '.join(str(error).split())}") from error
    yield from (
        value.decode("latin-1") if isinstance(value, bytes) else str(value)
        for value in values
        if isinstance(value, bytes | str)
    )


def _parquet_texts(file: RepoFile) -> Iterator[str]:
    """The texts of a table, those within its lists and structures too."""
    for array in parquet_columns(file, ("string", "large_string")):
        yield from set(filter(None, array.to_pylist()))


def _cut(line: str, match: re.Match[str]) -> str:
    """The path with what follows it, shortened."""
    return line[match.start() :].split('"')[0][:80]
