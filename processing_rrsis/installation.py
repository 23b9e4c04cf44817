"""Where this package is installed: its version, and the command that adds an extra."""

from __future__ import annotations

import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

CHECKOUT = Path(__file__).parents[1]
"""Folder of both packages; that of a checkout holds pyproject.toml."""


def package_version() -> str:
    """The installed version; of a checkout that is not installed, that of its pyproject.toml."""
    try:
        return version("rrsis")
    except PackageNotFoundError:
        return tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]


def install_command(extra: str) -> str:
    """What installs an extra: from this checkout, or from the index that the package came from."""
    if (CHECKOUT / "pyproject.toml").is_file():
        return f'pip install -e "{CHECKOUT}[{extra}]"'
    return f'pip install "rrsis[{extra}]"'
