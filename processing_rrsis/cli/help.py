"""How `--help` looks: options and commands in named groups, nothing cut at any width, examples as they were written.

Click's own layout, in which names are never cut; typer's panels cut them at 80 columns.
"""

from __future__ import annotations

import inspect
from typing import Any

from typer.core import TyperCommand, TyperGroup

SETTINGS: dict[str, Any] = {
    "max_content_width": 120,
    "token_normalize_func": lambda name: name.replace("_", "-"),  # --data_dir too, as training spells it
}


def write_sections(formatter: Any, rows: list[tuple[str | None, tuple[str, str]]], default: str) -> None:
    """Write rows below the heading of their group, groups in the order of their first row."""
    groups: dict[str, list[tuple[str, str]]] = {}
    for group, row in rows:
        groups.setdefault(group or default, []).append(row)
    for heading, lines in groups.items():
        with formatter.section(heading):
            formatter.write_dl(lines)


def shown_name(argument: Any) -> str:
    """An argument's name in capitals, in brackets where it may be left out."""
    name = argument.metavar or argument.name.upper()
    return name if argument.required else f"[{name}]"


class HelpfulCommand(TyperCommand):
    """A command whose options stand in their groups and whose examples keep their lines."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Options, then the arguments by the names that they are listed with."""
        arguments = [param for param in self.get_params(ctx) if param.param_type_name == "argument"]
        return ["[OPTIONS]", *map(shown_name, arguments)]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Arguments first, then the options, in groups of `rich_help_panel`."""
        rows: list[tuple[str | None, tuple[str, str]]] = []
        for param in sorted(self.get_params(ctx), key=lambda param: param.param_type_name):
            is_argument = param.param_type_name == "argument"
            record = param.get_help_record(ctx)
            if record is not None:
                group = "Arguments" if is_argument else getattr(param, "rich_help_panel", None)
                rows.append((group, (shown_name(param), record[1]) if is_argument else record))
        write_sections(formatter, rows, default="Options")

    def format_help_text(self, ctx: Any, formatter: Any) -> None:
        """Paragraphs are filled, indented blocks stay as they are."""
        write_help(self.help, formatter)


class HelpfulGroup(TyperGroup):
    """Commands in groups of `rich_help_panel`, in the order in which they were added."""

    def list_commands(self, ctx: Any) -> list[str]:
        """As they were added, not by the alphabet."""
        return list(self.commands)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Options, then commands with their whole first sentence."""
        HelpfulCommand.format_options(self, ctx, formatter)  # type: ignore[arg-type]
        rows: list[tuple[str | None, tuple[str, str]]] = []
        for name in self.list_commands(ctx):
            command = self.commands[name]
            summary = inspect.cleandoc(command.help or "").split("\n\n")[0].replace("\n", " ")
            rows.append((getattr(command, "rich_help_panel", None), (name, summary)))
        write_sections(formatter, rows, default="Commands")

    def format_help_text(self, ctx: Any, formatter: Any) -> None:
        """As a command's."""
        write_help(self.help, formatter)


def write_help(text: str | None, formatter: Any) -> None:
    """Write a docstring's paragraphs: filled, but for the indented ones, whose lines are commands."""
    for paragraph in inspect.cleandoc(text or "").split("\n\n"):
        formatter.write_paragraph()
        with formatter.indentation():
            prose: list[str] = []
            for line in paragraph.splitlines():
                if line.startswith(" "):
                    _fill(formatter, prose)
                    formatter.write(f"{'':>{formatter.current_indent}}{line}\n")
                else:
                    prose.append(line)
            _fill(formatter, prose)


def _fill(formatter: Any, lines: list[str]) -> None:
    if lines:
        formatter.write_text(" ".join(lines))
        lines.clear()
