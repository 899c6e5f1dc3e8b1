"""Confirmations: who is confirmed, with what, and that it goes on where it was interrupted. Nothing is trained."""

from __future__ import annotations

import zlib

import pytest

from analysis.store import Store
from analysis.study import Study
from nas.check import check_run
from nas.config import restore_config
from nas.confirm import Confirmation, ConfirmError, find_entrants, find_settings
from nas.search import Search
from nas.strategies import EXHAUSTED
from nas.yaml_config import ConfigError
from tests.made_studies import settings, study
from tests.nas.test_search import drive
from trainers.trial import TrialResult, TrialState

SEEDS = 3


@pytest.fixture
def run(tmp_path):
    study(tmp_path, "search.trials=12", "retrain={top: 4, seeds: 2}", "baselines=[ReLU, SiLU]")
    return tmp_path


def outcome(trial) -> TrialResult:
    number = zlib.crc32(f"{trial.expression} {trial.seed} {trial.setting}".encode())
    if number % 11 == 0:
        return TrialResult(TrialState.FAIL, reason="diverged")
    accuracy = 0.5 + number % 1000 / 2000
    return TrialResult(TrialState.COMPLETE, {"epoch": 1, "test_accuracy": accuracy, "test_loss": 1 - accuracy})


def begin(store: Store, also=(), top: int = 3, seeds: int = SEEDS) -> Confirmation:
    config = restore_config(store.get("config"))
    return Confirmation(store, find_settings(config, also), find_entrants(store, config, top), seeds, "fp32")


def work(job: Confirmation, steps: int | None = None) -> list:
    """Run so many of its trials; those that were started."""
    started = []
    while (steps is None or len(started) < steps) and (trial := job.next()) is not EXHAUSTED:
        started.append(trial)
        job.finish(trial, outcome(trial))
    return started


def test_leaders_and_baselines_with_fresh_seeds_on_the_test_set(run):
    with Study(run) as before:
        rows = before.leaderboard()
        leaders = rows[rows["found"] & (rows["state"] == "COMPLETE")].head(3)["function_key"].tolist()
        baselines = rows[rows["name"].isin(["ReLU", "SiLU"])]["function_key"].tolist()
        used = set(before.trials["seed"])
    with Store.open(run, write=True) as store:
        job = begin(store)
        trials = work(job)
        assert job.done
        assert job.left == 0
        assert {r.function_key for r in store.records() if r.trial.stage == "confirm"} == set(leaders) | set(baselines)
    assert {trial.stage for trial in trials} == {"confirm"}
    assert {trial.score_on for trial in trials} == {"test"}
    assert len(trials) == SEEDS * len(set(leaders) | set(baselines))
    assert not {trial.seed for trial in trials} & used
    config = settings("search.trials=12", "retrain={top: 4, seeds: 2}")
    assert all(trial.budget_epochs == config.trial.epochs for trial in trials)
    assert not any(trial.report_epochs or trial.anneal_epochs or trial.screen for trial in trials)


@pytest.mark.parametrize("stop_after", [1, 7])
def test_it_goes_on_where_it_was_interrupted(run, stop_after):
    with Store.open(run, write=True) as store:
        job = begin(store)
        first = work(job, stop_after)
        interrupted = job.next()
    with Store.open(run, write=True) as store:
        job = begin(store)
        rest = work(job)
        assert rest[0] == interrupted
        assert len({t.id for t in first} & {t.id for t in rest}) == 0
        assert len(first) + len(rest) == job.total
        assert sum(job.counts.values()) == job.total
        assert store.attempts(interrupted.id) == 2
    assert check_run(run)[0] == []


def test_more_seeds_and_settings_add_to_what_is_there(run):
    with Store.open(run, write=True) as store:
        work(begin(store))
        assert work(begin(store)) == []
        more = work(begin(store, seeds=SEEDS + 1))
        assert len(more) == 5
        also = work(begin(store, ["digits name=other model.width=4"], seeds=SEEDS + 1))
        assert {trial.setting for trial in also} == {"other"}
        assert {trial.model.options["width"] for trial in also} == {4}
        assert len(also) == 5 * (SEEDS + 1)
    with Study(run) as read:
        assert read.settings == ("other",)
        assert len(read.leaderboard(setting="other")) == 5
    assert check_run(run)[0] == []


def test_leaders_are_those_from_before_any_confirmation(run):
    with Store.open(run, write=True) as store:
        config = restore_config(store.get("config"))
        before = find_entrants(store, config, 3)
        work(begin(store))
        assert find_entrants(store, config, 3) == before


def test_a_search_goes_on_beside_a_confirmation(run):
    """Its state is what it would be without, and trials keep their numbers."""
    with Store.open(run, write=True) as store:
        work(begin(store))
        confirmed = len(store.records())
        config = restore_config(store.get("config"))
        longer = config.model_copy(update={"search": config.search.model_copy(update={"trials": 15})})
        search = Search(longer, store)
        assert not search.strangers
        drive(search, workers=1)
        assert search.done
        numbers = [record.trial.id for record in store.records()]
        assert numbers == list(range(1, len(numbers) + 1))
        assert len(numbers) >= confirmed + 3


def test_a_baseline_that_the_study_never_trained(run):
    with Store.open(run, write=True) as store:
        config = restore_config(store.get("config")).model_copy(update={"baselines": ("ReLU", "Mish")})
        entrants = {entrant.known_name: entrant for entrant in find_entrants(store, config, 2)}
    assert entrants["Mish"].function_key == "baseline Mish"
    assert "baseline" not in entrants["ReLU"].function_key


def test_a_study_of_failures_has_nothing_to_confirm(tmp_path):
    words = "has no function that completed its training"
    with Store.create(tmp_path, {}) as store, pytest.raises(ConfirmError, match=words):
        find_entrants(store, settings(), 3)


@pytest.mark.parametrize(
    ("also", "error", "words"),
    [
        (["digits"], ConfirmError, "two settings have the name digits"),
        (["digitz"], ConfigError, "did you mean 'digits'"),
        (["digits name=a model.width=x"], ConfigError, "width"),
        (["digits 'name=a"], ConfirmError, "No closing quotation"),
        (["digits name=a", "digits name=a"], ConfirmError, "two settings have the name a"),
    ],
)
def test_settings_that_are_none(also, error, words):
    home = settings().model_copy(update={"name": "digits"})
    with pytest.raises(error, match=words):
        find_settings(home, also)


def test_several_settings_at_once_and_one_with_a_comma_in_it():
    names = [
        s.name
        for s in find_settings(settings(), ["digits,pydoc_gpt", "digits name=c model='{name: resnet8, width: 4}'"])
    ]
    assert names == [None, "digits", "pydoc_gpt", "c"]


def test_pruning_of_another_configuration_is_no_hindrance():
    (_, other) = find_settings(settings(), ["digits name=short trial.epochs=1"])
    assert other.config.trial.epochs == 1
