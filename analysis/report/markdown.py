"""A report as a folder: ``report.md`` in GitHub's Markdown, and figures for paper beside it."""

from __future__ import annotations

import html
import re
from pathlib import Path

from analysis.figures.paper import write_figures
from analysis.leaders import leaders
from analysis.report import Report, make_report
from analysis.report.parts import Section, Table, check_target, write_file
from analysis.study import Study

FILE_NAME = "report.md"
_SPECIAL = re.compile(r"([\\`*_\[\]#|~$!])")


def write_markdown(study: Study, folder: Path, figure_format: str = "png") -> Path:
    """Write the report of a study; the path of its text.

    Raises:
        ReportError: the folder cannot be written.
    """
    path = folder / FILE_NAME
    check_target(path)
    chosen = leaders(study)
    report = make_report(study, chosen)
    figures = write_figures(study, chosen, folder, figure_format)
    write_file(path, markdown(report, {name: file.name for name, file in figures.items()}))
    return path


def markdown(report: Report, figures: dict[str, str]) -> str:
    """The text.

    Args:
        report: the document.
        figures: file names by the name of the figure.
    """
    lines = [f"# {escaped(report.title)}", f"A search for activation functions. Report of {report.written}."]
    lines += [f"**{escaped(report.verdict.answer)}**", escaped(report.verdict.advice)]
    lines += ["\n".join(f"- {escaped(reason)}" for reason in report.verdict.reasons)]
    lines += ["\n".join(["| | |", "|---|---|", *(f"| {word} | {escaped(text)} |" for word, text in report.searched)])]
    for number, section in enumerate(report.sections, 1):
        lines += _section(number, section, figures)
    return "\n\n".join(line for line in lines if line) + "\n"


def _section(number: int, section: Section, figures: dict[str, str]) -> list[str]:
    lines = [f"## {number}. {escaped(section.title)}", escaped(section.seen)]
    if section.unseen:
        lines.append(f"*What it does not say.* {escaped(section.unseen)}")
    if section.figure in figures:
        lines.append(f"![{escaped(section.title)}]({figures[section.figure]})")
    for table in section.tables:
        lines += table_lines(table)
    for name, text in section.files:
        lines += [code(name), fenced(text)]
    return [*lines, fenced(section.command)] if section.command else lines


def table_lines(table: Table) -> list[str]:
    """The table, and its caption."""
    under = tuple("---:" if number in table.numbers else "---" for number in range(len(table.header)))
    rows = [table.header, under, *table.rows]
    cells = [
        [code(cell) if number in table.code and line > 1 else escaped(cell) if line != 1 else cell
         for number, cell in enumerate(row)]
        for line, row in enumerate(rows)
    ]  # fmt: skip
    return ["\n".join(f"| {' | '.join(row)} |" for row in cells), escaped(table.caption)]


def escaped(text: str) -> str:
    """Text that Markdown and HTML in it leave alone."""
    return _SPECIAL.sub(r"\\\1", html.escape(" ".join(text.split()), quote=False))


def code(text: str) -> str:
    """In a table, as it is."""
    if not text:
        return ""
    line = " ".join(text.split()).replace("|", r"\|")
    ticks = "`" * (1 + max((len(run) for run in re.findall("`+", line)), default=0))
    pad = " " if line.startswith("`") or line.endswith("`") else ""
    return f"{ticks}{pad}{line}{pad}{ticks}"


def fenced(text: str) -> str:
    """A block, as it is."""
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
    return f"{fence}\n{text.rstrip()}\n{fence}"
