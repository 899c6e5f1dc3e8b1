"""Reading the documents: their fenced blocks, and the commands in them."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md")),
    *sorted(path for path in (ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "tables").glob("*/README.md")),
]
PROGRAMS = (
    "nas",
    "make",
    "python",
    "pip",
    "ray",
    "ssh",
    "source",
    "export",
    "mlflow",
    "wandb",
    "tensorboard",
    "optuna-dashboard",
    "kubectl",
    "git",
)
_BLOCK = re.compile(r"^```(\w*)(?: title=\"([^\"]*)\")?\n(.*?)^```$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, the file it stands for, its text."""

    language: str
    title: str
    text: str


def blocks(page: Path) -> list[Block]:
    return [Block(*match.groups(default="")) for match in _BLOCK.finditer(page.read_text(encoding="utf-8"))]


def files(page: Path) -> dict[str, str]:
    """The files that a page gives in full, by name."""
    return {block.title: block.text for block in blocks(page) if "." in block.title and " " not in block.title}


def commands(page: Path) -> list[str]:
    """Every command in a page's blocks, without comments, as it is typed."""
    found = []
    for block in blocks(page):
        if block.language in ("", "sh"):
            lines = block.text.replace("\\\n", " ").splitlines()
            texts = [line.removeprefix("$ ").strip() for line in lines]
            found += [text for text in texts if text.split(" ")[0] in PROGRAMS or (text and block.language == "sh")]
    return [shlex.join(words) for text in found if (words := shlex.split(text, comments=True))]


def spans(page: Path) -> list[str]:
    """Code within lines."""
    text = _BLOCK.sub("", page.read_text(encoding="utf-8"))
    return [span.replace("\\|", "|").replace("\n", " ") for span in re.findall(r"(?<!`)`([^`]+)`(?!`)", text)]
