"""`rrsis parse`: what is read in an expression."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from .common import _plain_errors
from .segment import check_expression

if TYPE_CHECKING:
    from rich.text import Text

    from processing_rrsis.expression_rrsis import ParsedExpression


def parse(
    expression: Annotated[str, typer.Argument(help="An expression, in quotes.")],
    categories: Annotated[
        str, typer.Option(help='rrsisd, refsegrs, synthetic, or your own names: "pier, golf course, silo".')
    ] = "rrsisd",
    alignment: Annotated[
        str, typer.Option(help="wordpiece (as trained here) or word (as in released weights).")
    ] = "wordpiece",
) -> None:
    """Show what is read in an expression: object words and position words.

    Example:
        rrsis parse "the ship on the left of the red vehicle" --categories rrsisd
    """
    with _plain_errors():
        check_expression(expression)
        from processing_rrsis.expression_rrsis import CATEGORY_SETS, ExpressionParser

        names = categories if categories in CATEGORY_SETS else [name.strip() for name in categories.split(",")]
        if isinstance(names, list) and len(names) == 1 and not _occurs_in(names[0], expression):
            raise ValueError(
                f"--categories: expected one of {sorted(CATEGORY_SETS)} or names separated by commas, got "
                f"{categories!r}, which the expression does not contain"
            )
        parsed = ExpressionParser(names, alignment).parse(expression)
    _print_parse(parsed)


def _occurs_in(name: str, expression: str) -> bool:
    """Whether a single own category name occurs in the expression (else it is probably a misspelt set name)."""
    return bool(name) and name.lower() in expression.lower()


def _print_parse(parsed: ParsedExpression) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False, soft_wrap=True)
    console.print(_marked(parsed))
    fallback = (
        "none, the model reads no object" if parsed.alignment == "word" else "none, the whole expression is used"
    )
    objects = ", ".join(parsed.words_of("ground_object")) or fallback
    positions = ", ".join(parsed.words_of("spatial_position")) or "none, the whole expression is used"
    console.print(Text.assemble(("object", "bold green"), f"    {objects}"))
    console.print(Text.assemble(("position", "bold cyan"), f"  {positions}"))


def _marked(parsed: ParsedExpression) -> Text:
    """The expression with its object words in green and its position words in cyan."""
    from rich.text import Text

    text = Text(parsed.text)
    for start, end in parsed.spatial_position:
        text.stylize("cyan underline", start, end)
    for start, end in parsed.ground_object:
        text.stylize("bold green", start, end)
    return text
