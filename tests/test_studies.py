"""The published studies: their stores are whole, and what the documents show of them is what they hold."""

from __future__ import annotations

import json
import math
import re
import shlex
import sqlite3
from collections import defaultdict
from contextlib import closing

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests
from typer.testing import CliRunner

from analysis.store import Store
from nas import Study
from nas.cli import app
from tests.documents import PAGES, ROOT

STUDIES = sorted(path.parent for path in (ROOT / "docs" / "studies").glob("*/study.db"))
_SHOWN = re.compile(r"^<!-- nas (leaderboard docs/studies/.*) -->\n\n((?:\|.*\n)+)", re.MULTILINE)
SHOWN = [
    pytest.param(*found.groups(), id=f"{page.relative_to(ROOT)}: {found.group(1)}")
    for page in PAGES
    for found in _SHOWN.finditer(page.read_text())
]
"""Commands and the tables that they printed."""


def test_there_are_studies():
    assert {path.name for path in STUDIES} >= {"cifar10", "cifar10_two_units", "shakespeare", "shakespeare_gate"}
    assert len(SHOWN) >= 10


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.name)
def test_a_study_is_whole_and_of_no_ones_machine(path):
    with Store.open(path) as store:
        assert not store.damage()
        records = store.records()
    assert all(record.result is not None for record in records)
    assert {record.trial.data.options["root"] for record in records} == {"$DATASETS"}


@pytest.mark.filterwarnings("ignore")  # of functions that failed with all seeds, or with all but one
@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.name)
def test_what_was_confirmed_is_what_its_trainings_say(path):
    """Means, paired differences, intervals and Holm's p values, from the rows of SQLite."""
    with closing(sqlite3.connect(f"file:{path / 'study.db'}?immutable=1", uri=True)) as db:
        rows = db.execute("SELECT setting, function_key, known_name, seed, result FROM trials WHERE stage = 'confirm'")
        results = [(*row[:-1], json.loads(row[-1])) for row in rows]
    with Study(path) as study:
        for setting in (None, *study.settings):
            by_function, relu = defaultdict(dict), None
            for _, key, name, seed, result in (row for row in results if row[0] == setting):
                by_function[key][seed] = result["metrics"]
                relu = key if name == "ReLU" else relu
            table = study.leaderboard(setting=setting)
            table = table[table["stage"] == "confirm"].set_index("function_key")
            assert set(table.index) == set(by_function)
            metric = table["metric"].iloc[0]
            seeds = sorted(by_function[relu])
            assert len(seeds) >= 5
            values = {
                key: np.array([of[seed].get(metric, np.nan) for seed in seeds]) for key, of in by_function.items()
            }
            assert {key: np.isnan(of).sum() for key, of in values.items()} == dict(table["n_failed"])
            others = [key for key in values if key != relu]
            tests = [stats.ttest_rel(values[key], values[relu], nan_policy="omit") for key in others]
            holm = multipletests([np.nan_to_num(test.pvalue, nan=1.0) for test in tests], method="holm")[1]
            for key, test, p in zip(others, tests, holm, strict=True):
                row, interval = table.loc[key], test.confidence_interval(0.95)
                if np.isnan(values[key]).all():  # in the race all the same
                    assert math.isnan(row["value"])
                    continue
                assert row["value"] == pytest.approx(np.nanmean(values[key]), rel=1e-12)
                if np.isfinite(values[key]).sum() == 1:  # neither a spread nor a test
                    assert np.isnan([row["value_std"], row["vs_relu_ci95"], row["vs_relu_holm"]]).all()
                    continue
                assert row["value_std"] == pytest.approx(np.nanstd(values[key], ddof=1), rel=1e-9)
                assert row["vs_relu"] == pytest.approx(np.nanmean(values[key] - values[relu]), abs=1e-12)
                assert row["vs_relu_ci95"] == pytest.approx((interval.high - interval.low) / 2, rel=1e-9)
                assert row["vs_relu_holm"] == pytest.approx(p, rel=1e-9)
                assert math.isfinite(p)


@pytest.mark.parametrize(("command", "table"), SHOWN)
def test_a_leaderboard_in_the_documents_is_what_its_command_prints(command, table, monkeypatch):
    monkeypatch.chdir(ROOT)
    done = CliRunner().invoke(app, shlex.split(command))
    assert done.exit_code == 0, done.output
    assert done.output == table
