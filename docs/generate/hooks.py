"""What MkDocs does not do by itself (mkdocs.yml names this file): pages made from the code, files from outside docs/.

Documents link to each other as they lie in the repository, so that they can be read there. The site has some files
from outside docs/ as well, and their links, and links to them, are changed to where they lie in the site.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from commands import command_reference
from configuration import configuration_reference
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parent.parent.parent
GENERATED = {"reference/commands.md": command_reference, "reference/configuration.md": configuration_reference}
OUTSIDE = ("CONTRIBUTING.md", "CHANGELOG.md", "benchmarks/results/*.txt", "tables/*/README.md", "configs/*.yaml")
_LINK = re.compile(r"\]\(([^)#\s]+)(#[^)\s]*)?\)")
_ROLE = re.compile(r":(?:class|func|meth|mod|data|attr):(?=<code>)")


def on_files(files: Files, config: Any) -> Files:
    for uri, make in GENERATED.items():
        files.append(File.generated(config, uri, content=make()))
    for pattern in OUTSIDE:
        for path in sorted(ROOT.glob(pattern)):
            files.append(File.generated(config, str(path.relative_to(ROOT)), abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Links between files of the repository as links between those of the site."""
    if page.file.src_uri in GENERATED:
        return markdown
    source, here = Path(page.file.abs_src_path), posixpath.dirname(page.file.src_uri) or "."

    def relinked(match: re.Match[str]) -> str:
        target, anchor = match.group(1), match.group(2) or ""
        if "://" in target or target.startswith("mailto:"):
            return match.group()
        uri = site_uri(source, target)
        return f"]({posixpath.relpath(uri, here)}{anchor})" if uri else match.group()

    return _LINK.sub(relinked, markdown)


def site_uri(source: Path, target: str) -> str | None:
    """Where a link of a file of the repository leads in the site; None for what lies outside the repository."""
    path = (source.parent / target).resolve()
    if path == ROOT / "README.md":
        return "index.md"
    for base in (ROOT / "docs", ROOT):
        if path.is_relative_to(base):
            return path.relative_to(base).as_posix()
    return None


def on_page_content(html: str, page: Any, config: Any, files: Files) -> str:
    """Docstrings are written for Sphinx's roles as well, of which nothing is to be seen."""
    return _ROLE.sub("", html) if page.file.src_uri == "reference/api.md" else html
