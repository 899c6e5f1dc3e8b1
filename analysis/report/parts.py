"""What a report is made of."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_NUMBER = re.compile(r"[-+]?\d[^;]*$|reference$")


class ReportError(ValueError):
    """A report that cannot be written. The message says why."""


@dataclass(frozen=True)
class Table:
    """Rows of plain text.

    Attributes:
        header: names of columns.
        rows: as many texts each.
        code: numbers of the columns that hold formulas.
        caption: a sentence.
    """

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    code: tuple[int, ...] = ()
    caption: str = ""

    @property
    def numbers(self) -> frozenset[int]:
        """Numbers of the columns that hold nothing but numbers, which stand at the right."""
        columns = ([row[n] for row in self.rows if row[n]] for n in range(len(self.header)))
        return frozenset(n for n, cells in enumerate(columns) if cells and all(map(_NUMBER.match, cells)))

    def without_empty_columns(self) -> Table:
        kept = [n for n in range(len(self.header)) if any(row[n] for row in self.rows)]
        return Table(
            tuple(self.header[n] for n in kept),
            tuple(tuple(row[n] for n in kept) for row in self.rows),
            tuple(new for new, n in enumerate(kept) if n in self.code),
            self.caption,
        )


@dataclass(frozen=True)
class Section:
    """A part with its heading.

    Attributes:
        title: the heading.
        seen: what one sees.
        unseen: what it does not say.
        figure: name of its figure; empty for none.
        tables: after the figure.
        files: names of files and what is in them, to show as it is.
        command: lines to type.
    """

    title: str
    seen: str
    unseen: str = ""
    figure: str = ""
    tables: tuple[Table, ...] = ()
    files: tuple[tuple[str, str], ...] = ()
    command: str = ""


def check_target(path: Path) -> None:
    """Before anything is drawn: make the folder of a file that is to be written.

    Raises:
        ReportError: it cannot be made, or the path is a folder itself.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(path, error) from error
    if path.is_dir():
        raise ReportError(f"{path} is a folder; name a file to write")


def write_file(path: Path, text: str) -> None:
    """All of it or nothing.

    Raises:
        ReportError: it cannot be written.
    """
    part = path.with_name(f"{path.name}.part")
    try:
        part.write_text(text, encoding="utf-8", errors="replace")
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise cannot_write(path, error) from error


def cannot_write(path: Path, error: OSError) -> ReportError:
    return ReportError(f"{path} cannot be written ({error.strerror or error})")
