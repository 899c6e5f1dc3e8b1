"""Text, byte by byte: a file of your own, tiny Shakespeare, or the documentation inside every Python."""

from __future__ import annotations

import hashlib
from http.client import HTTPException
from pathlib import Path

from pydantic import PositiveInt

from trainers.data import DataError, Fraction, PartOrNone, Text, datasets, not_there, split_text

_MAX_BYTES = 2 * 2**30
_SHAKESPEARE_URL = "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt"
_SHAKESPEARE_SIZE = 1_115_394
_SHAKESPEARE_SHA256 = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"


@datasets.register("text")
def text(
    *, root: str, context: PositiveInt = 256, val_fraction: Fraction = 0.1, test_fraction: PartOrNone = 0.05
) -> Text:
    """The bytes of any file.

    Options: ``root`` (the file), ``context`` (bytes of input), ``test_fraction`` (of the text, its end),
    ``val_fraction`` (of the text, before that).
    """
    path = _path(root)
    return split_text(_read(path), val_fraction, context, str(path), test_fraction)


@datasets.register("tiny_shakespeare")
def tiny_shakespeare(
    *,
    root: str = "data",
    download: bool = False,
    context: PositiveInt = 256,
    val_fraction: Fraction = 0.1,
    test_fraction: PartOrNone = 0.05,
) -> Text:
    """40,000 lines of Shakespeare's plays, 1.1 MB (Karpathy 2015, github.com/karpathy/char-rnn).

    Options: ``root`` (a folder that holds tinyshakespeare.txt or input.txt, or the file itself), ``download`` (fetch it
    to ``root``/tinyshakespeare.txt if it is not there), ``context`` (bytes of input), ``test_fraction`` (of the text,
    its end), ``val_fraction`` (of the text, before that).
    """
    root_path = _path(root)
    candidates = (root_path, root_path / "tinyshakespeare.txt", root_path / "input.txt")
    try:
        path = next((path for path in candidates if path.is_file()), None)
    except OSError as error:
        raise DataError(f"data.root={root[:80]!r} is no folder that can be read ({error})") from error
    if path is None and download:
        path = _download_shakespeare(root_path)
    if path is None:
        lacks = "has no tinyshakespeare.txt or input.txt, and is none"
        raise not_there(root_path, lacks, "it, or data.download=true to fetch it there")
    content = _read(path)
    if hashlib.sha256(content).hexdigest() != _SHAKESPEARE_SHA256:
        raise DataError(
            f"{path} is not tiny Shakespeare, which has {_SHAKESPEARE_SIZE:,} bytes and sha256 "
            f"{_SHAKESPEARE_SHA256[:8]}...; it has {len(content):,} bytes; remove it and set data.download=true, "
            "or read another text with data.name=text"
        )
    return split_text(content, val_fraction, context, str(path), test_fraction)


@datasets.register("pydoc")
def pydoc(*, context: PositiveInt = 256, val_fraction: Fraction = 0.1, test_fraction: PartOrNone = 0.05) -> Text:
    """The language reference that is Python's ``help()``, about half a megabyte of English; nothing to fetch.

    It differs from one Python version to the next: compare results of one version only.

    Options: ``context`` (bytes of input), ``test_fraction`` (of the text, its end), ``val_fraction`` (of the text,
    before that).
    """
    try:
        from pydoc_data.topics import topics
    except ImportError as error:
        raise DataError("this Python comes without pydoc_data.topics; use another, or data.name=text") from error
    joined = "\n\n".join(topics[name] for name in sorted(topics))
    return split_text(joined.encode(), val_fraction, context, "pydoc_data.topics", test_fraction)


def _path(root: str) -> Path:
    try:
        return Path(root).expanduser()
    except RuntimeError as error:  # ~nobody
        raise DataError(f"data.root={root[:80]!r} is no path ({error})") from error


def _read(path: Path) -> bytes:
    """A file's bytes. Raises DataError if it is missing, no file, too large or may not be read."""
    try:
        if not path.is_file():
            fault = "is a folder" if path.is_dir() else "is no file" if path.exists() else "does not exist"
            raise DataError(f"{str(path)[:200]!r} {fault}; set data.root to a text file")
        size = path.stat().st_size
        if size > _MAX_BYTES:
            raise DataError(
                f"{path} has {size / 1e9:.1f} GB; a text is held in memory, up to {_MAX_BYTES / 1e9:.1f} GB; "
                "cut it, for example with head -c"
            )
        return path.read_bytes()
    except OSError as error:
        raise DataError(
            f"{str(path)[:200]!r} cannot be read ({error.strerror}); set data.root to a text file"
        ) from error


def _download_shakespeare(folder: Path) -> Path:
    from torchvision.datasets.utils import download_url  # takes a second to import, and only this branch needs it

    try:
        download_url(_SHAKESPEARE_URL, folder, "tinyshakespeare.txt")
    except (RuntimeError, OSError, ValueError, HTTPException) as error:
        raise DataError(f"tiny Shakespeare could not be fetched to {folder}: {error}") from error
    return folder / "tinyshakespeare.txt"
