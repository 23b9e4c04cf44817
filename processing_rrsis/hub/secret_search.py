"""Secrets and paths of this machine in what would be sent, whatever the files are called and however it is written."""

from __future__ import annotations

import ast
import base64
import html
import io
import json
import mmap
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from .push import RepoFile

BINARY_SUFFIXES = (".safetensors", ".png", ".jpg", ".parquet")
"""Files of numbers or pixels: their texts are read as texts, and all bytes are looked through for a token."""
_TOKENS = re.compile(
    r"(?:hf_|api_org_)[A-Za-z0-9]{16,}|\b(?:hf_|api_org_)\w{8,}|gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,}"
    r"|glpat-[\w-]{16,}|\b(?:sk|rk)[-_][\w-]{20,}|(?:AKIA|ASIA)[0-9A-Z]{16}|xox[abeprs]-[\w-]{10,}|AIza[\w-]{35}"
    r"|ya29\.[\w-]{20,}|npm_\w{30,}|pypi-[\w-]{16,}|eyJ[\w-]{8,}\.eyJ[\w-]{8,}\.|-----BEGIN [A-Z ]*PRIVATE KEY"
)
_NAMED = re.compile(
    r"\b(?:Bearer|Basic)\s+[\w.~+/-]{16,}|(?i:[?&](?:x-amz-signature|sig|token)=)[\w%+/-]{8,}"
    r"|://[^\s/:@\"'<>{}()]+:[^\s/@\"'<>{}()]+@"
    r"|(?i:(?:api_?key|secret|password|passwd|token)[\"']?\s*[=:]\s*[\"'][\w.~+/-]{16,}[\"'])"
    r"|(?i:(?:key|secret|token|password|passwd)[\"']?\s*[=:]\s*)(?=[\w.~+/-]*\d)(?=[\w.~+/-]*[A-Za-z])"
    r"[\w.~+/-]{16,}(?![\w.~+/(\[-])|(?i:\bpass(?:word|wd)\s*[=:]\s*)(?!None|str\b|null\b)[^\s\"',;]{6,}"
)
_MACHINE_PATH = re.compile(
    r"(?<![\w:/.])/(?:home|Users|root|tmp|mnt|media|opt|scratch|var/folders|workspace|gpfs|lustre)/[\w.+@%-]+"
    r"|\bfile://|\b[A-Za-z]:\\+\w|(?<!\w)~/\w|(?<![\w\\])\\\\\w+\\\w"
)
# Absolute paths of two parts or more, GDAL's /vsimem/ not; code and vocabularies hold slashes of other kinds.
_ANY_PATH = re.compile(r"(?<![\w:/.<])/(?!vsi\w+/)(?:[\w.+@%-]+/)+[\w.+@%-]*")
_LOOSE = ("tokenizer.json", "vocab.txt", "added_tokens.json")
_ESCAPED = re.compile(r"\\u([0-9a-fA-F]{4})|\\x([0-9a-fA-F]{2})")
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]{24,}")


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
        if is_binary and _bytes_hold_a_token(file, token):
            found.append(f"{file.path}: a token among its bytes; take it out and revoke it")
    return list(dict.fromkeys(found))


def _has_secret(text: str, token: str | None) -> bool:
    """Whether a text holds a secret, as it stands or written in escapes or in base64."""
    plain = _ESCAPED.sub(lambda match: chr(int(match[1] or match[2], 16)), unquote(html.unescape(text)))
    if any(_TOKENS.search(form) or _NAMED.search(form) or (token and token in form) for form in {text, plain}):
        return True
    return any(_hidden(match[0], token) for match in _BASE64.finditer(plain))


def _hidden(word: str, token: str | None) -> bool:
    """Whether a word is a token in base64."""
    try:
        decoded = base64.b64decode(word.translate({45: "+", 95: "/"}) + "=" * (-len(word) % 4)).decode("ascii")
    except ValueError:
        return False
    return _TOKENS.search(decoded) is not None or bool(token and token in decoded)


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
    try:
        if file.path.endswith(".json"):
            strict = Path(file.path).name not in _LOOSE
            yield from ((1, value, strict) for value in _json_texts(json.loads(text)))
        if file.path.endswith(".py"):
            for node in ast.walk(ast.parse(text)):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    yield node.lineno, node.value, "\n" not in node.value
    except (ValueError, SyntaxError, RecursionError):  # said by the check of the folder
        return


def _json_texts(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from (key, *_json_texts(item))
            if isinstance(item, str):
                yield f'{key}: "{item}"'
    elif isinstance(value, list):
        for item in value:
            yield from _json_texts(item)
    elif isinstance(value, str):
        yield value


def _picture_texts(file: RepoFile) -> Iterator[str]:
    """The texts that a picture's file holds beside its pixels."""
    from PIL import Image

    with Image.open(io.BytesIO(file.read()), formats=("PNG", "JPEG")) as picture:
        picture.load()
        values = [*picture.info.values(), *picture.getexif().values()]
    yield from (
        value.decode("latin-1") if isinstance(value, bytes) else str(value)
        for value in values
        if isinstance(value, bytes | str)
    )


def _parquet_texts(file: RepoFile) -> Iterator[str]:
    """The texts of a table; images and masks in it stay as their owner has them."""
    import pyarrow
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(file.source) as table:
        names = [field.name for field in table.schema_arrow if pyarrow.types.is_string(field.type)]
        for batch in table.iter_batches(columns=names):
            for column in batch.columns:
                yield from set(filter(None, column.to_pylist()))


def _bytes_hold_a_token(file: RepoFile, token: str | None) -> bool:
    """Whether a token stands among the bytes of a large file, which is mapped and not read into memory."""
    beginnings = [b"hf_", b"PRIVATE KEY-----", *([token.encode()] if token else [])]
    if isinstance(file.source, bytes):
        return _find_token(file.source, beginnings)
    with file.source.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return _find_token(data, beginnings)


def _find_token(data: Any, beginnings: list[bytes]) -> bool:
    for beginning in beginnings:
        place = data.find(beginning)
        while place >= 0:
            if beginning != b"hf_" or re.match(rb"hf_[A-Za-z0-9]{16}", data[place : place + 19]):
                return True
            place = data.find(beginning, place + 1)
    return False


def _cut(line: str, match: re.Match[str]) -> str:
    """The path with what follows it, shortened."""
    return line[match.start() :].split('"')[0][:80]
