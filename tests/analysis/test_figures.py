"""What the figures show, against numbers worked out from the trials; and what they do with hostile text."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import stats

from analysis import figures
from analysis.figures.paper import write_figures
from analysis.leaders import leaders
from search_spaces.parser import parse
from tests.made_reports import made_study, repeated, searched

FORMULAS = ["tanh(x)", "x * sigmoid(x)", "sin(x)", "max(x, 0)", "x * tanh(x)", "x / cosh(x)"]
HOSTILE = "</script><script>alert(1)</script><a href='http://bad.example'>$x_{$ %{y}"


@pytest.fixture
def study(tmp_path):
    rows = searched(dict(zip(FORMULAS, [0.5, 0.7, 0.6, 0.8, 0.75, None], strict=True)))
    rows.insert(2, ("cos(x)", "search", 0, 0.3, "PRUNED"))
    for formula, values in (
        ("max(x, 0)", [0.8, 0.82, 0.81]),
        ("x * tanh(x)", [0.85, 0.83, 0.87]),
        ("tanh(x)", [0.5, 0.6]),
    ):
        rows += repeated(formula, "retrain", values)
    with made_study(tmp_path, rows) as study:
        yield study


def trace(figure, name):
    (found,) = [trace for trace in figure.data if trace.name == name]
    return found


def all_of(study, dark=False):
    chosen = leaders(study)
    return {
        "progress": figures.progress(study, dark=dark),
        "intervals": figures.intervals(chosen.listed, dark=dark),
        "curves": figures.curves(chosen.expressions, dark=dark),
        "learning": figures.learning(study, chosen.drawn, dark=dark),
        "space_map": figures.space_map(study, dark=dark),
        "operators": figures.operators(study, dark=dark),
        "complexity": figures.complexity(study, dark=dark),
        "failures": figures.failures(study, dark=dark),
    }


def test_progress_shows_every_finished_trial(study):
    figure = figures.progress(study)
    assert list(trace(figure, "completed").y) == pytest.approx([50, 70, 60, 80, 75])
    assert list(trace(figure, "completed").x) == [1, 2, 4, 5, 6]
    assert list(trace(figure, "pruned").y) == pytest.approx([30])
    assert list(trace(figure, "failed").x) == [7]
    assert len(trace(figure, "retrained").x) == 8
    assert list(trace(figure, "best so far").y) == pytest.approx([50, 70, 80, 80])


@pytest.mark.parametrize(("objective", "far", "edge"), [("val_accuracy", 0.05, min), ("val_loss", 40.0, max)])
def test_what_hardly_trained_is_counted_and_drawn_at_the_edge(tmp_path, objective, far, edge):
    values = [0.9, 0.91, 0.92, 0.93, 0.94, 0.95, far]
    rows = searched({f"tanh({n} * x)": value for n, value in enumerate(values, 2)})
    with made_study(tmp_path, rows, search={"objective": objective}) as study:
        study.trials[objective] = values
        figure = figures.progress(study)
    shown = 100 * np.array(values) if objective == "val_accuracy" else np.array(values)
    beyond = trace(figure, "1 beyond the axis")
    assert list(beyond.customdata) == pytest.approx([edge(shown)])
    low, high = figure.layout.yaxis.range
    assert low < beyond.y[0] < high
    assert list(trace(figure, "completed").y) == pytest.approx(list(shown[:-1]))
    quarter, three = np.percentile(shown, [25, 75])
    margin = 0.05 * (high - low) / 1.1
    far_out = quarter - 3 * (three - quarter) if edge is min else three + 3 * (three - quarter)
    assert edge(low, high) == pytest.approx(far_out - margin if edge is min else far_out + margin)


def test_intervals_are_of_the_bootstrap_and_for_two_seeds_of_t(study):
    board = study.leaderboard()
    figure = figures.intervals(board)
    points = {
        x: (low, high)
        for t in figure.data
        for x, low, high in zip(t.x, t.error_x.arrayminus, t.error_x.array, strict=True)
    }
    row = board[board["formula"] == "x * tanh(x)"].iloc[0]
    low, high = points[100 * row["value"]]
    assert (low, high) == pytest.approx(
        (100 * (row["value"] - row["value_low"]), 100 * (row["value_high"] - row["value"]))
    )
    interval = stats.t.interval(0.95, 1, np.mean([50, 60]), stats.sem([50, 60]))
    (two,) = [ends for x, ends in points.items() if x == pytest.approx(55)]
    assert two == pytest.approx((55 - interval[0], interval[1] - 55))


def test_rows_of_another_metric_are_not_drawn_beside(tmp_path):
    rows = searched({"tanh(x)": 0.99, "sin(x)": 0.5}) + repeated("sin(x)", "confirm", [0.6, 0.61, 0.62])
    with made_study(tmp_path, rows) as study:
        figure = figures.intervals(study.leaderboard())
    assert [x for t in figure.data for x in t.x] == pytest.approx([61])


def test_curves_are_the_functions_and_their_slopes_with_parameters_at_1():
    figure = figures.curves({"f": parse("tanh(beta * x)"), "g": parse("max(x, 0)")})
    f, slope = figure.data[0], figure.data[1]
    x = np.asarray(f.x, float)
    np.testing.assert_allclose(np.asarray(f.y, float), np.tanh(x), atol=1e-5)
    np.testing.assert_allclose(np.asarray(slope.y, float), 1 - np.tanh(x) ** 2, atol=1e-5)
    step = np.asarray(figure.data[3].y, float)
    assert np.isnan(step).sum() == 1  # broken at the jump of ReLU's slope


def test_learning_curves_have_every_seed_and_their_mean(study):
    chosen = leaders(study)
    figure = figures.learning(study, chosen.drawn)
    best = trace(figure, "x * tanh(x)")
    epochs = study.epochs.merge(study.trials[["id", "stage", "formula"]], on="id")
    mine = epochs[(epochs["formula"] == "x * tanh(x)") & (epochs["stage"] == "retrain")]
    expected = 100 * mine.groupby("epoch")["val_accuracy"].mean()
    np.testing.assert_allclose(np.asarray(best.y, float), expected)


def test_operators_and_complexity_count_functions(study):
    figure = figures.operators(study)
    names = list(figure.layout.yaxis.ticktext)
    share = dict(zip(names, trace(figure, "of all functions").x, strict=True))
    assert share["tanh"] == pytest.approx(100 * 2 / 7)
    assert share["div (/)"] == pytest.approx(100 / 7)
    bars = figures.complexity(study)
    failed = trace(bars, "failed")
    assert sum(failed.customdata) == 1
    total = sum(np.asarray(bar.y, float) for bar in bars.data if bar.type == "bar")
    np.testing.assert_allclose(total, 100)


def test_many_points_are_drawn_by_webgl(study, monkeypatch):
    assert trace(figures.progress(study), "completed").type == "scatter"
    monkeypatch.setattr("analysis.figures.style._MANY", 10)
    assert trace(figures.progress(study), "completed").type == "scattergl"


@pytest.mark.parametrize("dark", [False, True])
def test_backgrounds_are_transparent_and_templates_follow(study, dark):
    paper = {figure.layout.paper_bgcolor for figure in all_of(study, dark).values()}
    assert paper == {"rgba(0,0,0,0)"}
    font = figures.progress(study, dark=dark).layout.template.layout.font.color
    assert (font == "#f2f5fa") is dark


@pytest.mark.parametrize("state", ["nothing", "failed", "running"])
def test_a_study_without_results_gives_sentences(tmp_path, state):
    rows = {"nothing": [], "failed": searched({"tanh(x)": None, "sin(x)": None})}
    rows["running"] = [("tanh(x)", "search", 0, None, "RUNNING")]
    with made_study(tmp_path, rows[state]) as study:
        for figure in all_of(study).values():
            assert len(figure.data) or figure.layout.annotations[0].text
        write_figures(study, leaders(study), tmp_path / "figures")


def test_text_of_a_study_is_no_markup_for_plotly(tmp_path):
    rows = searched({"tanh(x)": 0.5, "sin(x)": 0.6, "cos(x)": None})
    with made_study(tmp_path, rows, named={"tanh(x)": HOSTILE}) as study:
        trials = study.trials
        trials["formula"] = HOSTILE
        trials.loc[2, "reason"] = HOSTILE
        for figure in all_of(study).values():
            text = json.dumps(json.loads(figure.to_json()))
            assert "<script" not in text
            assert "<a href" not in text
        assert "&lt;script&gt;" in figures.intervals(study.leaderboard()).to_json().replace("\\u003c", "<")
        assert set(write_figures(study, leaders(study), tmp_path / "figures")) >= {"intervals", "progress"}


@pytest.mark.parametrize("format", ["png", "svg", "pdf"])
def test_figures_for_paper_are_files_of_their_format(study, tmp_path, format):
    written = write_figures(study, leaders(study), tmp_path / "figures", format)
    begins = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}
    assert len(written) == 8
    assert all(path.read_bytes().startswith(begins[format]) for path in written.values())
