"""The dashboard talks to its own pages only, and shows nothing but the studies that it was given."""

from __future__ import annotations

import pytest

from nas.dashboard.app import make_app
from nas.dashboard.graphs import _CONFIG
from tests.nas.dashboard.studies import made


@pytest.fixture
def client(tmp_path):
    return make_app([made(tmp_path)]).server.test_client()


@pytest.mark.parametrize("host", ["localhost", "localhost:8050", "127.0.0.1:1", "[::1]:8050", "LOCALHOST:8050"])
def test_names_of_this_machine_are_answered(client, host):
    assert client.get("/", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example:8050", "evil@localhost", "192.168.0.7:8050", "",
     "localhost:8050:1", "localhost:8050, evil.example", "0.0.0.0:8050"],
)  # fmt: skip
@pytest.mark.parametrize("path", ["/", "/_dash-layout", "/assets/style.css", "/study/tiny"])
def test_other_names_are_refused(client, host, path):
    assert client.get(path, headers={"Host": host}).status_code == 403


def test_a_page_of_another_origin_is_refused(client):
    for origin in ("http://evil.example", "null", "http://localhost:3000", "https://localhost:8050"):
        headers = {"Host": "localhost:8050", "Origin": origin}
        assert client.post("/_dash-update-component", json={}, headers=headers).status_code == 403
    ours = {"Host": "localhost:8050", "Origin": "http://localhost:8050"}
    assert client.get("/_dash-layout", headers=ours).status_code == 200


def test_the_browser_is_told_to_load_nothing_from_elsewhere(client):
    answer = client.get("/")
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "http" not in policy
    page = answer.get_data(as_text=True)
    assert 'src="http' not in page
    assert 'href="http' not in page


def test_figures_offer_no_button_that_sends_them_away():
    """Plotly has one by default."""
    (buttons,) = _CONFIG["modeBarButtons"]
    assert set(buttons) <= {"zoom2d", "pan2d", "zoomIn2d", "zoomOut2d", "resetScale2d"}
    assert _CONFIG["plotlyServerURL"] == ""


def test_it_does_not_debug(tmp_path):
    app = make_app([made(tmp_path)])
    assert not app.server.debug
    assert not app._dev_tools.ui
    assert not app._dev_tools.hot_reload
