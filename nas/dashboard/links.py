"""Addresses of the dashboard's pages."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote, unquote

OVERVIEW = "/"


def study(slug: str, section: str | None = None) -> str:
    return _path("study", slug, *([] if section is None else [section]))


def function(slug: str, key: str) -> str:
    return _path("function", slug, key)


def comparison(slugs: Sequence[str]) -> str:
    return _path("compare", *slugs)


def parts_of(pathname: str | None) -> list[str]:
    """What stands between the slashes of an address."""
    return [unquote(part) for part in (pathname or "").split("/") if part]


def _path(*parts: str) -> str:
    return "/" + "/".join(quote(part, safe="") for part in parts)
