"""Where a cluster is. Ray would wait for minutes for one that is not there."""

from __future__ import annotations

import socket

_SECONDS = 5.0


class AddressError(ValueError):
    """Nothing answers at an address."""


def check_reachable(address: str) -> None:
    """Whether something listens at ``HOST:PORT`` or ``ray://HOST:PORT``; ``auto`` is for Ray to find.

    Raises:
        AddressError: nothing does.
    """
    if address == "auto":
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=_SECONDS):
            pass
    except (OSError, OverflowError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise AddressError(
            f"nothing answers at ray.address={address} ({why}); start the cluster, or give the address that "
            "'ray start' shows"
        ) from error
