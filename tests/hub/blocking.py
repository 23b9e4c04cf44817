"""Imported first by the scripts of strangers: nothing of this project can be imported after it.

The folders to import from are the first argument, separated like PATH.
"""

import os
import sys

PROJECT = ("modeling_rrsis", "processing_rrsis", "hub_cards")


class Blocked:
    """Stops our packages where they are installed."""

    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in PROJECT:
            raise ModuleNotFoundError(f"No module named {name!r} (blocked)", name=name)


def check():
    for package in PROJECT:
        try:
            __import__(package)
        except ModuleNotFoundError:
            continue
        raise SystemExit(f"{package} is importable")


sys.path[:0] = sys.argv.pop(1).split(os.pathsep)
sys.meta_path.insert(0, Blocked())
check()
