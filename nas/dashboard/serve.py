"""The dashboard's server: on the loopback interface only, without debugging."""

from __future__ import annotations

import contextlib
import logging
import signal
import socket
import webbrowser
from collections.abc import Callable, Sequence
from pathlib import Path

from analysis.store import FILE_NAME
from nas.dashboard.app import make_app

HOST = "127.0.0.1"


class DashboardError(ValueError):
    """A dashboard that cannot start. The message says what to do."""


def check_runs(runs: Sequence[Path]) -> None:
    """Whether there is something to be shown, now or later.

    Raises:
        DashboardError: a directory is missing, or none.
    """
    for run in runs:
        if not run.is_dir():
            raise DashboardError(f"{run} is no directory; give a study's, or one that holds studies")
        if not (run / FILE_NAME).exists() and any(run.iterdir()) and not any(run.glob(f"*/{FILE_NAME}")):
            raise DashboardError(f"{run} holds no study: there is no {FILE_NAME} in it, nor in a directory below it")


def serve(runs: Sequence[Path], port: int, open_browser: bool, say: Callable[[str], None]) -> None:
    """Serve until Ctrl-C or SIGTERM.

    Args:
        runs: studies' directories, and directories of such.
        port: 0 for any free one.
        open_browser: whether to show it in a browser.
        say: is told the address.

    Raises:
        DashboardError: there is nothing to show, or the port is taken.
    """
    from werkzeug.serving import make_server

    check_runs(runs)
    app = make_app(runs)
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    with _listening(port) as listener:
        server = make_server(HOST, listener.getsockname()[1], app.server, threaded=True, fd=listener.fileno())
        url = f"http://{HOST}:{listener.getsockname()[1]}/"
        with contextlib.suppress(KeyboardInterrupt):
            signal.signal(signal.SIGTERM, _interrupted)  # no question to sympy outlives us
            say(f"Dashboard at {url} (end it with Ctrl-C)")
            if open_browser:
                webbrowser.open(url)
            server.serve_forever()


def _interrupted(*_: object) -> None:
    """As Ctrl-C, which a shell lets be ignored by what it starts in the background."""
    raise KeyboardInterrupt


def _listening(port: int) -> socket.socket:
    """Asked for here, as the server would end the process without a word of ours."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((HOST, port))
        listener.listen(128)
    except OSError as error:
        listener.close()
        raise DashboardError(
            f"port {port} cannot be used ({error.strerror}); choose another one, or any free one with --port 0"
        ) from error
    return listener
