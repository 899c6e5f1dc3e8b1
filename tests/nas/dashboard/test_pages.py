"""What stands on the pages. Their parts are functions; the browser's part of the work is tested in a browser."""

from __future__ import annotations

import json
from urllib.parse import unquote

import pytest
from dash.exceptions import PreventUpdate
from plotly.utils import PlotlyJSONEncoder

from analysis.trials import to_records
from nas.dashboard import comparison, function_page, graphs, links, overview, study_page
from nas.dashboard.app import make_app, page, trail
from nas.dashboard.board import Query, columns_of
from nas.dashboard.leaderboard_page import fill
from nas.dashboard.studies import Studies
from tests.nas.dashboard.studies import HOSTILE, hostile, made, touch


@pytest.fixture(scope="module")
def studies(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    return Studies([made(folder), hostile(folder)])


def text(part) -> str:
    return json.dumps(part, cls=PlotlyJSONEncoder)


def nodes(part):
    """Every component below one, as plain values."""
    values = [json.loads(text(part))]
    while values:
        value = values.pop()
        if isinstance(value, dict) and "props" in value:
            yield value
        values += value.values() if isinstance(value, dict) else value if isinstance(value, list) else []


def key_of(studies, slug, place=0):
    return to_records(studies.get(slug).leaderboard())[place]["function_key"]


def test_the_overview(studies):
    assert "tiny" in text(overview.overview(studies))
    body = text(overview.card_body(studies.get("tiny")))
    assert "8 of 8 searched" in body
    assert "random over custom, resnet8 on digits" in body
    assert "seed" in body
    assert "nas search digits" in text(overview.cards([]))


@pytest.mark.parametrize("section", study_page.SECTIONS)
def test_every_section(studies, section):
    shown = page(studies, links.study("tiny", section))
    assert "tiny" in text(shown)
    assert any(node["props"].get("className") == "open" for node in nodes(shown))


def test_the_page_of_a_function(studies):
    study, key = studies.get("tiny"), key_of(studies, "tiny")
    row = to_records(study.leaderboard())[0]
    shown = text(page(studies, links.function("tiny", key)))
    assert "class " in shown
    assert "import torch" in shown
    assert str(row["n_seeds"]) in shown
    assert "sympy" in shown
    forms = text(function_page.forms(study, key))
    assert "f(x) = " in forms
    assert row["formula"] in forms
    assert "Lipschitz" in text(function_page.properties(study, key))


def test_the_module_that_is_copied_works(studies):
    study = studies.get("tiny")
    for row in to_records(study.leaderboard()):
        names: dict = {}
        exec(function_page.functions.module_of(study, row), names)  # noqa: S102
        assert any(name.startswith(("Act", row["name"] or "Act")) for name in names)


def test_addresses_lead_to_these_studies_and_nowhere_else(studies, tmp_path):
    paths = [
        "/study/..%2F..%2Fetc", f"/study/{tmp_path}", "/study/tiny/../../etc/passwd", "/study/tiny/unknown", "/x",
        "/function/tiny", "/function/nothing/key", "/compare/tiny/nothing", "/study/%00", "/compare",
        "/study/tiny%2Fstudy.db",
    ]  # fmt: skip
    for path in paths:
        assert "Not here" in text(page(studies, path)), path
    assert "no such function" in text(page(studies, "/function/tiny/..%2F.."))
    assert trail(studies, "/study/nothing") == []


@pytest.mark.parametrize("slug", ["plain", "with space", "a/b", "100%", "?#", "ä", "..", '"><script>'])
def test_names_survive_in_addresses(slug):
    assert links.parts_of(links.function(slug, slug)) == ["function", slug, slug]


def test_two_studies_side_by_side(studies):
    shown = [studies.get("tiny"), studies.get("hostile")]
    facts = text(comparison.side_by_side(shown))
    assert "tiny" in facts
    assert "hostile" in facts
    board = list(nodes(comparison.joint_board(shown)))
    assert sum(node["type"] == "Tr" for node in board) > 10
    assert links.comparison(["a", "b"]) in text(overview.comparison_link(["a", "b"]))
    assert "Link" not in text(overview.comparison_link(["a"]))


def test_a_hostile_study_is_text(studies):
    study = studies.get("hostile")
    shown = [overview.card_body(study), *(page(studies, links.study("hostile", name)) for name in study_page.SECTIONS)]
    shown += [page(studies, links.function("hostile", row["function_key"])) for row in to_records(study.leaderboard())]
    shown += [fill(study, Query(), 0, columns_of(study.leaderboard()))[0], comparison.side_by_side([study])]
    shown += [comparison.joint_board([study])]
    seen = 0
    for part in shown:
        for node in nodes(part):
            assert "dangerously_allow_html" not in node["props"]
            assert node["type"] not in ("Iframe", "Script", "Download", "ObjectEl", "Embed")
            children = node["props"].get("children")
            seen += any(
                HOSTILE in c for c in (children if isinstance(children, list) else [children]) if isinstance(c, str)
            )
            if node["type"] == "Markdown":
                pytest.fail("no text of a study is Markdown unless sympy wrote it")
            href = node["props"].get("href")
            assert href is None or (href.startswith("/") and not href.startswith("//") and "<" not in href)
    assert seen > 10


def test_a_formula_that_cannot_be_read_is_a_sentence(studies):
    key = key_of(studies, "hostile")
    shown = text(page(studies, links.function("hostile", key)))
    assert "This cannot be shown (ParseError" in shown
    with pytest.raises(ValueError, match="unexpected"):
        function_page.forms(studies.get("hostile"), key)


@pytest.mark.parametrize("dark", [False, True])
def test_figures(studies, dark):
    drawings = graphs.Drawings()
    for slug in ("tiny", "hostile"):
        for name in graphs.FIGURES:
            where = {"run": slug, "name": name, "key": key_of(studies, slug)}
            figure, stamp = graphs.draw(studies, drawings, where, dark, None)
            raw = figure.to_json()
            assert "<img" not in raw, name  # plotly reads tags in its texts
            with pytest.raises(PreventUpdate):
                graphs.draw(studies, drawings, where, dark, stamp)
            assert graphs.draw(studies, drawings, where, dark, None)[0] is figure


def test_a_figure_is_made_again_when_the_study_changed(tmp_path, monkeypatch):
    monkeypatch.setattr("nas.dashboard.studies._PATIENCE", 0.0)
    run = made(tmp_path)
    studies, drawings = Studies([run]), graphs.Drawings()
    where = {"run": "tiny", "name": "progress", "key": ""}
    figure, stamp = graphs.draw(studies, drawings, where, False, None)
    touch(run)
    again, later = graphs.draw(studies, drawings, where, False, stamp)
    assert again is not figure
    assert later != stamp


def test_unknown_figures_and_studies_are_passed_over(studies):
    for where in ({"run": "tiny", "name": "passwd"}, {"run": "nothing", "name": "progress"}):
        with pytest.raises(PreventUpdate):
            graphs.draw(studies, graphs.Drawings(), {**where, "key": ""}, False, None)
    with pytest.raises(PreventUpdate):  # the browser has not yet said whether it is dark
        graphs.draw(studies, graphs.Drawings(), {"run": "tiny", "name": "progress", "key": ""}, None, None)


def test_a_figure_that_cannot_be_drawn_says_so(studies, monkeypatch):
    monkeypatch.setitem(graphs.FIGURES, "progress", lambda study, key, dark: 1 / 0)
    where = {"run": "tiny", "name": "progress", "key": ""}
    figure, _ = graphs.draw(studies, graphs.Drawings(), where, False, None)
    assert "ZeroDivisionError" in figure.to_json()


def test_a_page_of_a_damaged_study_is_a_sentence(tmp_path):
    run = made(tmp_path)
    (run / "study.db").write_bytes(b"no study")
    studies = Studies([run])
    for path in (links.study("tiny"), links.function("tiny", "key")):
        assert "cannot be read as a study" in text(page(studies, path))
    assert "cannot be read as a study" in text(overview.card_body(studies.get("tiny")))
    assert "unreadable" in text(comparison.side_by_side([studies.get("tiny")]))


def test_the_application_answers_a_browser(tmp_path):
    client = make_app([made(tmp_path)]).server.test_client()
    asked = {
        "output": "..page.children...trail.children..",
        "outputs": [{"id": "page", "property": "children"}, {"id": "trail", "property": "children"}],
        "inputs": [{"id": "url", "property": "pathname", "value": "/study/tiny/configuration"}],
        "changedPropIds": ["url.pathname"],
    }
    answer = client.post("/_dash-update-component", json=asked)
    assert answer.status_code == 200
    assert "resnet8" in unquote(answer.get_data(as_text=True))
