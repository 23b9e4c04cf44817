"""The files that a finished run leaves, read back: one that is another's is told in a sentence with its name."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..bounds_rrsis import parse_json, read_text
from ..reports.tables import SCORES

METRICS_FILE = "metrics.json"
GROUPS = ("by_kind", "by_category")


def read_object(path: Path) -> dict[str, Any]:
    """The object that a JSON file of a run holds.

    Raises:
        ValueError: If it is no JSON, or holds something else.
        OSError: If it can't be read.
    """
    values = parse_json(read_text(path), source=str(path))
    if not isinstance(values, dict):
        raise ValueError(f"{path}: expected a JSON object, as a run writes it, got a {type(values).__name__}")
    return values


def read_record(path: Path, groups: Sequence[str] = GROUPS) -> dict[str, Any]:
    """The metrics.json of a finished run.

    Args:
        path: The file.
        groups: Which of `GROUPS` every result must have.

    Returns:
        What it holds; `results`, and `validation` where it is there, are split or text → … → scores in percent.

    Raises:
        ValueError: If it is no such file.
        OSError: If it can't be read.
    """
    record = read_object(path)
    try:
        if not isinstance(record["settings"], dict):
            raise TypeError("settings that are no object")
        for texts in (*record["results"].values(), record.get("validation") or {}):
            for result in texts.values():
                scores = [result["overall"], *(one for group in groups for one in result[group].values())]
                for number, values in enumerate(scores):
                    _check_scores(values, needs_count=number > 0)
        for ceiling in record.get("ceilings", {}).values():
            _check_scores({SCORES[0]: ceiling}, needs_count=False)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(
            f"{path}: expected the record of a finished run, got {type(error).__name__} {error}; train it again"
        ) from error
    return record


def _check_scores(values: dict[str, Any], needs_count: bool) -> None:
    """Refuse what is no score: none is below 0 or above 100 %, undefined ones are null."""
    for name in SCORES:
        score = values.get(name)
        if score is not None and (isinstance(score, bool | str) or not 0 <= score <= 100.01):
            raise ValueError(f"{name} of {score!r}")
    count = values["n"] if needs_count else values.get("n", 0)
    if isinstance(count, bool) or not isinstance(count, int | float) or not (math.isfinite(count) and count >= 0):
        raise ValueError(f"n of {count!r}")
