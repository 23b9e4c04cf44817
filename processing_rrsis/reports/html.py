"""A report as one HTML file: pictures inside it, no script, nothing fetched."""

from __future__ import annotations

import base64
import functools
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from .sheet import contact_sheet, predict_samples
from .tables import ResultTable

SAMPLES_PER_GROUP = 6
_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 1100px; margin: 2em auto; padding: 0 1em; color: #191c21; }}
table {{ border-collapse: collapse; margin: 1em 0; display: block; overflow-x: auto; }}
caption {{ text-align: left; font-weight: 600; padding: .3em 0; }}
td, th {{ padding: .25em .8em; border-bottom: 1px solid #d8dbe0; text-align: right; vertical-align: top; }}
td:first-child, th:first-child {{ text-align: left; }}
img {{ max-width: 100%; height: auto; }}
</style>
</head>
<body>
<h1>{title}</h1>
{body}
</body>
</html>
"""


@dataclass(frozen=True)
class Section:
    """A part of a report.

    Attributes:
        heading: Its heading.
        text: A paragraph.
        tables: Tables; those without rows are left out.
        pictures: What each shows, and its PNG.
    """

    heading: str
    text: str = ""
    tables: Sequence[ResultTable] = ()
    pictures: Sequence[tuple[str, bytes]] = ()

    def to_html(self) -> str:
        """The section as HTML, every text escaped."""
        parts = [f"<h2>{escape(self.heading)}</h2>"]
        parts += [f"<p>{escape(self.text)}</p>"] if self.text else []
        parts += [_table(table) for table in self.tables if table.rows]
        parts += [
            f'<p><img alt="{escape(shows)}" src="data:image/png;base64,{base64.b64encode(png).decode()}"></p>'
            for shows, png in self.pictures
        ]
        return "\n".join(parts)


def html_page(title: str, sections: Sequence[Section]) -> str:
    """The whole file."""
    return _PAGE.format(title=escape(title), body="\n".join(section.to_html() for section in sections))


def png_of(draw: Callable[[Path], Any]) -> bytes:
    """What a function draws into the file that it is given."""
    with tempfile.TemporaryDirectory(prefix="rrsis-report-") as folder:
        path = Path(folder) / "picture.png"
        draw(path)
        return path.read_bytes()


def sample_section(
    model: Callable[..., Any], rows: Any, collator: Any, ious: Sequence[float], *, device: Any = "cpu", seed: int = 0
) -> Section:
    """Pictures of the best, the worst and of random samples of an evaluated split.

    Args:
        model: In evaluation mode, as for `predict_samples`.
        rows: The split.
        collator: As in `evaluate_model`.
        ious: IoU of every sample, in [0, 1].
        device: Where the model is.
        seed: Seed of the random choice.
    """
    order = np.argsort(ious, kind="stable").tolist()
    drawn = np.random.default_rng(seed).permutation(len(order)).tolist()
    groups = {"best": order[::-1], "worst": order, "random": drawn}
    if len(order) <= SAMPLES_PER_GROUP:  # the three would be the same pictures
        groups = {"all": order}
    pictures = []
    for name, ranked in groups.items():
        samples = predict_samples(model, rows, ranked[:SAMPLES_PER_GROUP], collator, device=device)
        title = f"{name} {len(samples)} of {len(order):,} samples" if len(groups) > 1 else f"all {len(order)} samples"
        pictures.append((title, png_of(functools.partial(contact_sheet, samples, title=title))))
    return Section("Samples", "Image, prediction, truth of each. Failures, IoU below 0.5, are red.", (), pictures)


def _table(table: ResultTable) -> str:
    """A table with its title."""
    head = "".join(f"<th>{escape(column)}</th>" for column in table.columns)
    rows = "\n".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in table.rows)
    return f"<table>\n<caption>{escape(table.title)}</caption>\n<tr>{head}</tr>\n{rows}\n</table>"
