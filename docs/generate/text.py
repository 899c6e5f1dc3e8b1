"""Docstrings and Markdown: what both references need."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Sequence
from typing import Any


def code(text: object) -> str:
    """A value as code in a cell of a table."""
    return f"`{text!s}`".replace("|", "\\|")


def plain(text: str) -> str:
    """A docstring's text as Markdown: its double backticks and roles are single backticks there."""
    return re.sub(r"(:\w+:)?`+~?([^`]+)`+", r"`\2`", text)


def cell(text: str) -> str:
    """Any text as one cell of a table, with what would be Markdown or HTML as text."""
    parts = re.split(r"(`[^`]*`)", " ".join(text.split()))
    shown = [part if part.startswith("`") else _literal(part) for part in parts]
    return "".join(shown).replace("|", "\\|")


def _literal(text: str) -> str:
    return re.sub(r"([*_\[\]])", r"\\\1", text.replace("<", "&lt;").replace(">", "&gt;"))


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Rows of cells as a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def summary(thing: Any) -> str:
    """A docstring without its sections: what stands before ``Attributes:``, ``Raises:`` and the like."""
    text = inspect.getdoc(thing) or ""
    return plain(re.split(r"^(?:Args|Attributes|Raises|Returns):$", text, flags=re.MULTILINE)[0].strip())


def attributes(thing: Any) -> dict[str, str]:
    """Names and descriptions under ``Attributes:`` in a docstring."""
    text = inspect.getdoc(thing) or ""
    found = re.search(r"^Attributes:\n((?:    .*\n?|\n)*)", text, flags=re.MULTILINE)
    entries = re.split(r"^    (?=\S)", found.group(1), flags=re.MULTILINE) if found else []
    described: dict[str, str] = {}
    for entry in entries:
        names, _, words = entry.partition(":")
        described.update({name.strip(): plain(" ".join(words.split())) for name in names.split(",") if words})
    return described
