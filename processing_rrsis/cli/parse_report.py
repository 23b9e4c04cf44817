"""`rrsis parse-report`: how well a file of expressions is read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from ..result_files import check_untouched
from .common import RESULTS, JsonFile, _plain_errors, check_result_files, write_json


def parse_report(
    file: Annotated[
        Path, typer.Argument(help="Expressions: .tsv, .csv, .jsonl with a column of them, or .txt, one a line.")
    ],
    categories: Annotated[
        str, typer.Option(help='rrsisd, refsegrs, synthetic, or your own names: "pier, golf course, silo".')
    ] = "rrsisd",
    column: Annotated[str, typer.Option(help="Column of the expressions; a column category is compared.")] = (
        "expression"
    ),
    json_file: JsonFile = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an earlier result.", rich_help_panel=RESULTS)
    ] = False,
) -> None:
    """Count what is read in a file of expressions, and show what is not.

    Before training on own phrases: is the target found, is a position found, and
    which words are left over?

    Example:
        rrsis parse-report my_expressions.csv --categories "pier, silo"
    """
    with _plain_errors():
        from rich.console import Console

        from ..expression_rrsis import CATEGORY_SETS
        from ..reports.expressions import read_expressions, report_expressions, report_table
        from ..reports.tables import print_tables
        from ..terminal import working

        json_file = check_result_files({"--json": json_file})["--json"]
        check_untouched([json_file], reads=[file], overwrite=overwrite)
        texts, labels = read_expressions(file, column=column)
        names = categories if categories in CATEGORY_SETS else [name.strip() for name in categories.split(",")]
        with working(f"reading {len(texts):,} expressions"):
            report = report_expressions(texts, names, labels=labels)
        if json_file is not None:
            write_json(report.to_dict(), json_file)
        console = Console(highlight=False, markup=False)
        table = report_table(report, title=f"{file.name}, categories {categories}")
        if not report.labelled:
            table = replace(table, rows=tuple(row for row in table.rows if not row[0].startswith("target is")))
        print_tables([table], console)
        if not report.labelled:
            console.print("no labels: without a column category, targets can't be compared.")
        if report.taggers_agree is None:
            console.print("NLTK's tagger data is not installed; the built-in tagger stands in for it.")
        console.print("unread words: " + _counted(report.unread_words))
        console.print("without a position: " + _counted(report.without_position))
        for heading, examples in (
            ("place words unread in:", report.unread_places),
            ("taggers differ on:", report.taggers_differ),
            ("target is not the category:", [" | ".join(example) for example in report.wrong_targets]),
        ):
            if examples:
                console.print("\n  ".join([heading, *examples]))


def _counted(words: dict[str, int]) -> str:
    return ", ".join(f"{word} {count}" for word, count in words.items()) or "none"
