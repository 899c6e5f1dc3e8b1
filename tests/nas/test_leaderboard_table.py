"""The leaderboard on a terminal: nothing is cut off at any width, and what is said of a difference was tested."""

from __future__ import annotations

import pandas as pd
import pytest
from rich.console import Console

from analysis.filters import Wanted
from analysis.study import Study, together
from nas.tables import leaderboard_md, leaderboard_note, leaderboard_table, print_leaderboard
from tests.made_reports import made_study, repeated, searched

BASE = [0.90, 0.91, 0.905, 0.895, 0.9]
UP = [value + step for value, step in zip(BASE, (0.02, 0.021, 0.019, 0.02, 0.0205), strict=True)]
DOWN = [value - step for value, step in zip(BASE, (0.02, 0.021, 0.019, 0.02, 0.0205), strict=True)]
LONG = "0.5 * x * (erf(0.7071067811865476 * x) + 1)"


@pytest.fixture
def study(tmp_path):
    rows = searched({"tanh(x)": 0.9, "sin(x)": 0.8, LONG: 0.7, "x * tanh(x)": None})
    rows += [("cos(x)", "search", 0, 0.3, "PRUNED")]
    for formula, values in (("max(x, 0)", BASE), ("tanh(x)", UP), ("sin(x)", DOWN)):
        rows += repeated(formula, "confirm", values)
    rows += repeated("max(x, 0)", "retrain", BASE[:3]) + repeated(LONG, "retrain", BASE[:3])
    with made_study(tmp_path / "one", rows) as made:
        yield made


def printed(rows: pd.DataFrame, width: int, **options) -> list[str]:
    console = Console(width=width, file=None, record=True, no_color=True, quiet=False)
    with console.capture() as capture:
        print_leaderboard(console, rows, **options)
    return [line.rstrip() for line in capture.get().splitlines()]


@pytest.mark.parametrize("width", [70, 80, 100, 124, 160])
def test_nothing_is_cut_off(study, width):
    lines = printed(study.leaderboard(), width, extra={"complexity"})
    assert lines[0].split()[-1] == "stage"
    assert "nodes" in lines[0]
    text = "\n".join(lines)
    assert text.count("confirmed\n") >= 3
    assert "…" not in text
    found = study.leaderboard().query("state == 'COMPLETE'")
    assert all(f"{100 * value:.2f}" in text for value in found["val_accuracy"].fillna(found["test_accuracy"]))
    assert all(word in text for word in ("better", "worse", "reference"))


def test_what_differs_is_called_better_or_worse(study):
    lines = printed(study.leaderboard(), 160)
    (up,), (down,) = (
        [line for line in lines if name in line and "confirmed" in line] for name in ("tanh(x)", "sin(x)")
    )
    assert "better" in up
    assert "worse" in down
    assert not [line for line in lines if ("better" in line or "worse" in line) and "ReLU" in line and "max" in line]


def test_functions_without_a_whole_training_have_no_number_of_seeds(study):
    (pruned,) = [line for line in printed(study.leaderboard(), 160) if "pruned" in line]
    assert " 0 " not in pruned.partition("cos(x)")[2]


def test_the_note_says_for_how_many_functions_each_stage_is_corrected(study):
    rows = study.leaderboard()
    confirmed, retrained = (set(rows.loc[rows["stage"] == stage, "race"]) for stage in ("confirm", "retrain"))
    assert (confirmed, retrained) == ({2}, {5})  # without ReLU; searched ones too where they were retrained
    assert "correction for 2 confirmed and 5 retrained functions" in leaderboard_note(rows)


@pytest.mark.parametrize(
    ("stages", "data"),
    [
        (["confirm"], "on the test set"),
        (["retrain"], "on data held out from training"),
        (["confirm", "retrain"], "on data held out from training, of confirmed functions on the test set"),
    ],
)
def test_the_note_says_what_the_metrics_were_measured_on(study, stages, data):
    rows = study.leaderboard()
    assert f" over n seeds, {data}." in leaderboard_note(rows[rows["stage"].isin(stages)])


def test_differences_without_spread_have_no_interval(study):
    (line,) = [line for line in printed(study.leaderboard(), 160) if "erf" in line and "retrained" in line]
    assert "+0.00" in line
    assert "± 0.00 " not in line.partition("+0.00")[2]


def test_a_likeness_that_is_the_formula_again_is_not_printed(study):
    rows = study.leaderboard()
    rows["likeness"] = rows["likeness"].astype(object)
    rows.loc[rows["formula"] == "tanh(x)", "likeness"] = "= tanh(x)"
    assert "= tanh(x)" not in "\n".join(printed(rows, 160))


def test_several_studies_are_numbered_through(study, tmp_path):
    with made_study(tmp_path / "two", searched({"tanh(x)": 0.95, "sin(x)": 0.1})) as other:
        table = leaderboard_table(together([study, other], Wanted()), 160)
    numbers = list(table.columns[0].cells)
    assert numbers == [str(n + 1) for n in range(len(numbers))]


def test_sorted_by_something_else_the_best_of_several_studies_come_first(study, tmp_path):
    with made_study(tmp_path / "two", searched({"tanh(x)": 0.95, "sin(x)": 0.1})) as other:
        for column, best in (("val_accuracy", max), ("val_loss", min)):
            rows = together([study, other], Wanted(), column)
            values = rows.loc[rows["state"] == "COMPLETE", column].dropna()
            assert values.iloc[0] == best(values)
            assert list(values) == sorted(values, reverse=best is max)


def test_studies_with_different_objectives_are_not_ordered_by_their_differences(tmp_path):
    """A twentieth of a bit a byte is neither more nor less than two points of accuracy."""
    rows = searched({"tanh(x)": 0.9})
    for formula, values in (("max(x, 0)", BASE), ("tanh(x)", UP)):
        rows += repeated(formula, "retrain", values)
    with (
        made_study(tmp_path / "accuracy", rows) as one,
        made_study(tmp_path / "loss", rows, search={"objective": "val_loss"}) as two,
    ):
        found = together([one, two], Wanted())
    assert isinstance(one, Study)
    assert "measured different things, so rows are ordered by their place" in leaderboard_note(found)
    assert found["rank"].is_monotonic_increasing
    assert set(found["run"].head(2)) == {"accuracy", "loss"}


@pytest.mark.parametrize("changed", [{}, {"trial": {"epochs": 99}}])
def test_the_order_of_studies_that_trained_differently_is_said(tmp_path, changed):
    rows = [*searched({"tanh(x)": 0.9}), *repeated("max(x, 0)", "retrain", BASE), *repeated("tanh(x)", "retrain", UP)]
    with made_study(tmp_path / "a", rows) as one, made_study(tmp_path / "b", rows, **changed) as two:
        note = leaderboard_note(together([one, two], Wanted()))
    assert ("trained in different ways, so rows are ordered by the difference to ReLU" in note) == bool(changed)
    assert "Holm's correction for all functions of the study of its own that were in the race" in note


def test_no_difference_is_minus_nothing(study):
    rows = study.leaderboard()
    rows["vs_relu"] = rows["vs_relu"].where(rows["vs_relu"].isna(), -1e-9)
    text = "\n".join(printed(rows, 160))
    assert "+0.00" in text
    assert "-0.00" not in text


def test_a_narrow_terminal_spares_columns_before_a_formula(tmp_path):
    long = "max(x, 0) + (beta - 0.75) * min(x, 0)"
    rows = [row for formula in ("max(x, 0)", long) for row in repeated(formula, "retrain", BASE)]
    with made_study(tmp_path, rows) as study:
        lines = printed(study.leaderboard(), 80)
        shown = study.leaderboard().set_index("rank")["formula"].max()
    assert "params" not in lines[0]
    assert any(shown[:20] in line for line in lines)
    assert all(len(line) <= 80 for line in lines)


def test_markdown_has_the_figures_of_the_leaderboard(tmp_path):
    both = ("max(x, 0)", "abs(x)")
    with made_study(tmp_path, [row for formula in both for row in repeated(formula, "retrain", [0.5, 0.6])]) as study:
        rows = study.leaderboard()
    lines = [line.strip("| ").split(" | ") for line in leaderboard_md(rows).splitlines()]
    assert [len(line) for line in lines] == [len(lines[0])] * len(lines)
    assert lines[0][:5] == [r"\#", "function", "is", "validation accuracy, %", "seeds"]
    assert all("55.00 ± 7.07" in line for line in lines[2:])
    assert {line[1] for line in lines[2:]} == {"`max(x, 0)`", "`abs(x)`"}
