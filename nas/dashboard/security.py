"""Who may talk to a dashboard: a browser on this machine that was sent here by its user, and nobody else.

It listens on the loopback interface; what remains are pages of strangers in the same browser. Such a page can have its
own name lead to 127.0.0.1 (DNS rebinding), which the Host header shows, or send requests across origins, which the
Origin header shows.
"""

from __future__ import annotations

import re
from typing import Any

_HERE = re.compile(r"(localhost|127\.0\.0\.1|\[::1\])(:\d{1,5})?", re.IGNORECASE)
_HEADERS = {
    # Plotly makes functions from text for WebGL, hence unsafe-eval; nothing is loaded from elsewhere.
    "Content-Security-Policy": "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; "
    "worker-src 'self' blob:; object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def is_here(host: str, origin: str | None) -> bool:
    """Whether a request with these headers comes from a page of ours."""
    return _HERE.fullmatch(host) is not None and origin in (None, f"http://{host}")


def guard(server: Any) -> None:
    """Have a Flask server answer 403 to everybody else."""
    import flask

    def check() -> Any:
        if is_here(flask.request.headers.get("Host", ""), flask.request.headers.get("Origin")):
            return None
        return flask.Response("This dashboard answers to localhost only.\n", 403, content_type="text/plain")

    def harden(response: Any) -> Any:
        response.headers.update(_HEADERS)
        return response

    server.before_request_funcs.setdefault(None, []).insert(0, check)
    server.after_request(harden)
