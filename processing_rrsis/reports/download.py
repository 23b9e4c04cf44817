"""The report of `rrsis prepare`: tables for people, JSON for programs."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..data.checks.findings import CHECKS, CheckReport, Finding, FindingItem
from ..data.facts import FACTS
from ..errors import printable
from ..terminal import new_table

FIRST_NAMES = 3
"""Names of a finding that the table shows; the JSON report has all."""
LEFT_OUT_NAMES = 10
"""References that the verdict names; the JSON report has all."""
_STYLES = {"error": "bold red", "warning": "yellow", "note": "dim"}
_COUNTS_FROM = {"published": "as published", "demo": "as demo.json says", "none": "not known"}


def print_report(report: CheckReport, console: Console, report_file: Path | None = None) -> None:
    """Print counts, findings and the verdict.

    Args:
        report: What was found.
        console: Where to.
        report_file: The JSON report, to point to.
    """
    console.print(counts_table(report))
    if report.findings:
        console.print(findings_table(report.findings))
    for line in verdict_lines(report, report_file=report_file):
        console.print(line)


def counts_table(report: CheckReport) -> Table:
    """References per split: listed, expected, left out."""
    title = f"{FACTS[report.dataset].name} in {printable(report.source)}: {counted(report.images, 'image')}"
    expected_heading = f"expected ({_COUNTS_FROM[report.expected_from]})"
    table = new_table(("split",), ("references", expected_heading, "files missing"), title=title)
    for split, count in report.counts.items():
        expected = report.expected.get(split)
        style = "bold red" if expected not in (None, count) else ""
        cells = (str(count), "–" if expected is None else str(expected), str(report.left_out_per_split.get(split, 0)))
        table.add_row(split, *(Text(cell, style=style if number == 0 else "") for number, cell in enumerate(cells)))
    return table


def findings_table(findings: tuple[Finding, ...]) -> Table:
    """One row per finding: severity, check, number, first names, what it means and what to do."""
    table = new_table(("severity", "check"), ("n",))
    table.add_column("first names, what it means, what to do", overflow="fold")
    for finding in findings:
        check = CHECKS[finding.check]
        text = Text("\n").join(Text(item_text(item), style="cyan") for item in finding.items[:FIRST_NAMES])
        if len(finding.items) > FIRST_NAMES:
            text.append(f"\n… and {len(finding.items) - FIRST_NAMES} more", style="cyan")
        text.append(f"\n{check.meaning} {check.action}")
        severity = Text(finding.severity, style=_STYLES[finding.severity])
        table.add_row(severity, finding.check, str(len(finding.items)), text)
    return table


def verdict_lines(report: CheckReport, report_file: Path | None = None) -> list[Text]:
    """Say whether the data can be built, what is left out by name, and where all names are."""
    lines: list[Text] = []
    if report.left_out and report.allow_missing:
        shown = ", ".join(item_text(item) for item in report.left_out[:LEFT_OUT_NAMES])
        rest = len(report.left_out) - LEFT_OUT_NAMES
        more = f" and {rest} more" if rest > 0 else ""
        lines.append(Text(f"left out: {counted(len(report.left_out), 'reference')}: {shown}{more}", style="yellow"))
    where = f"all names are in {report_file}" if report_file else "--json FILE writes all names"
    if report.blocking:
        checks = ", ".join(f"{finding.check} ({len(finding.items)})" for finding in report.blocking)
        lines.append(Text(f"damaged, stopped: {checks}; {where}", style="bold red"))
        if not report.allow_missing and all(CHECKS[finding.check].leaves_out for finding in report.blocking):
            without = f"these {len(report.left_out)} references" if len(report.left_out) != 1 else "this reference"
            lines.append(Text(f"--allow-missing goes on without {without}"))
        return lines
    kept = sum(report.counts.values()) - len(report.left_out)
    oddities = sum(len(finding.items) for finding in report.findings if finding.severity == "warning")
    odd = f", {counted(oddities, 'oddity', 'oddities')} counted above" if oddities else ""
    lines.append(Text(f"ready: {counted(kept, 'reference')} can be built{odd}; {where}", style="bold green"))
    return lines


def counted(number: int, noun: str, plural: str = "") -> str:
    """Return a number with its noun in singular or plural."""
    return f"{number} {noun if number == 1 else plural or f'{noun}s'}"


def item_text(item: FindingItem) -> str:
    """Return name and detail of an item on one line."""
    return printable(f"{item.name} ({item.detail})" if item.detail else item.name)
