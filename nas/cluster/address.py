"""Where a cluster is. Ray would wait for minutes for one that is not there."""

from __future__ import annotations

import socket
from urllib.parse import urlsplit

_SECONDS = 5.0


class AddressError(ValueError):
    """Nothing answers at an address."""


def check_reachable(address: str) -> None:
    """Whether something listens at an address; ``auto`` is for Ray to find.

    Args:
        address: ``HOST:PORT``, ``ray://HOST:PORT`` or, of a job server, ``http://HOST:PORT``.

    Raises:
        AddressError: nothing does, or it is no address.
    """
    if address == "auto":
        return
    try:
        with socket.create_connection(_place(address), timeout=_SECONDS):
            pass
    except OSError as error:
        raise AddressError(
            f"nothing answers at {address} ({error.strerror or error}); start the cluster, or give the address that "
            "'ray start' shows"
        ) from error


def _place(address: str) -> tuple[str, int]:
    parts = urlsplit(address if "://" in address else f"//{address}")
    try:
        port = parts.port  # raises if it is not a number, or too large a one
    except ValueError:
        port = None
    if not parts.hostname or port is None or parts.path not in ("", "/"):
        raise AddressError(
            f"an address is HOST:PORT, ray://HOST:PORT or, of a job server, http://HOST:PORT: {address!r}"
        )
    return parts.hostname, port
