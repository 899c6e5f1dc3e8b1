"""The search: deduplication, stages, and a resume that ends where an undisturbed run ends.

Trials are not trained here: their outcome is computed from the function and the seed.
"""

from __future__ import annotations

import zlib
from collections import Counter, deque
from dataclasses import replace

import numpy as np
import pytest

from analysis.leaderboard import leaderboard
from analysis.store import Store
from nas.config import ExperimentConfig, load_config, restore_config
from nas.proposer import Proposal, Proposer
from nas.search import RELAX, RETRAIN, SEARCH, Search, described
from nas.strategies import EXHAUSTED, Candidate, Problem, Strategy, strategies
from search_spaces.equivalence import examine
from search_spaces.known import known_expression
from search_spaces.parser import parse
from search_spaces.presets import spaces
from search_spaces.shape_space import ShapeSpace
from tests.made_tables import TINY
from tests.records import make_result
from trainers.trial import Trial, TrialResult, TrialState


def config(*overrides: str):
    evolution = "strategy={name: evolution, population_size: 10, tournament_size: 4}"
    return load_config("digits", ["search.trials=40", evolution, *overrides])


def fake(trial: Trial) -> TrialResult:
    """An outcome that depends on the function and the seed alone, or on a relaxation's shape and seed."""
    if trial.relaxation is not None:
        return fake_relaxation(trial)
    number = zlib.crc32(examine([parse(trial.expression)]).signatures.round(6).tobytes() + bytes([trial.seed]))
    if number % 9 == 0:
        return make_result(None, TrialState.FAIL)
    return make_result(0.5 + number % 1000 / 2000)


def fake_relaxation(trial: Trial) -> TrialResult:
    """Made-up weights; those of the first attempt of seed 1 are lost."""
    if trial.seed == 1:
        return make_result(None, TrialState.FAIL)
    r = trial.relaxation
    sizes = ShapeSpace([r.shape], r.unary, r.binary, r.nary).cardinalities[1:]
    rng = np.random.default_rng(trial.seed)
    return replace(make_result(0.99), weights=[rng.dirichlet(np.ones(n)).tolist() for n in sizes])


def drive(search: Search, steps: int | None = None, workers: int = 2) -> list[Trial]:
    """Run trials as an executor does, ``workers`` at a time, oldest first; returns those still running at the end."""
    running: list[Trial] = []
    done = 0
    while steps is None or done < steps:
        trial = search.next() if len(running) < workers else None
        if isinstance(trial, Trial):
            running.append(trial)
            continue
        if not running:
            assert trial is EXHAUSTED
            break
        first = running.pop(0)
        result = fake(first)
        if result.metrics and search.report(first, result):
            result = make_result(result.metrics["val_accuracy"], TrialState.PRUNED)
        search.finish(first, result)
        done += 1
    return running


def rows(store: Store):
    return [(r.trial.id, r.trial.stage, r.trial.expression, r.trial.seed, r.result) for r in store.records()]


def test_a_whole_search(tmp_path):
    with Store.create(tmp_path, config().model_dump(mode="json")) as store:
        search = Search(config(), store)
        assert drive(search) == []
        assert search.done
        counts = Counter(r.trial.stage for r in store.records())
        assert counts[SEARCH] == 40
        best = [r for r in leaderboard(store).to_dict("records") if r["n_seeds"] == 3]
        assert len(best) + sum(r.result.state == "FAIL" for r in store.records() if r.trial.stage == RETRAIN) >= 10
        seeds = {r.trial.seed for r in store.records() if r.trial.stage == RETRAIN}
        assert seeds == {1, 2, 3}
        assert {r.trial.seed for r in store.records() if r.trial.stage == SEARCH} == {0}


def test_a_study_is_known_to_be_finished_without_asking_for_a_trial(tmp_path):
    """At no moment before its end."""
    chosen = config("search.trials=8", "retrain={top: 2, seeds: 2}", "baselines=[ReLU, tanh]", "pruning=null")
    (tmp_path / "whole").mkdir()
    with Store.create(tmp_path / "whole", {}) as store:
        drive(Search(chosen, store), workers=1)
        trials = rows(store)
    with Store.create(tmp_path, {}) as store:
        for _ in trials:
            assert not Search(chosen, store).done
            drive(Search(chosen, store), 1, workers=1)
        assert Search(chosen, store).done
        assert Search(chosen, store).next() is EXHAUSTED
        assert rows(store) == trials


def test_no_function_is_searched_twice_and_none_that_cannot_work(tmp_path):
    with Store.create(tmp_path, {}) as store:
        search = Search(config("search.trials=150"), store)
        drive(search)
        searched = [r for r in store.records() if r.trial.stage == SEARCH]
        assert len({r.function_key for r in searched}) == len(searched) == 150
        assert search.proposals["duplicates"] > 0
        assert search.proposals["filtered"] > 0
        assert search.proposals["asked"] == 150 + search.proposals["duplicates"] + search.proposals["filtered"]


def test_retraining_takes_the_best_complete_ones_and_every_baseline_once(tmp_path):
    with Store.create(tmp_path, {}) as store:
        search = Search(config("retrain.top=4", "retrain.seeds=2", "baselines=[ReLU, SiLU]"), store)
        drive(search)
        records = store.records()
        complete = [r for r in records if r.trial.stage == SEARCH and r.result.state == "COMPLETE"]
        complete.sort(key=lambda r: (-r.result.metrics["val_accuracy"], r.result.metrics["val_loss"]))
        expected = {r.function_key for r in complete[:4]} | {
            search.proposer.adopt(parse(e)) for e in ("max(x, 0)", "x*sigmoid(x)")
        }
        pairs = Counter((r.function_key, r.trial.seed) for r in records if r.trial.stage == RETRAIN)
        assert set(pairs) == {(key, seed) for key in expected for seed in (1, 2)}
        assert set(pairs.values()) == {1}


def test_a_swish_without_a_name_is_described_as_one():
    assert described(parse("x * erfc(x)"))[1:] == (None, "Swish family")
    assert described(parse("x * sigmoid(x)"))[1:] == ("SiLU", "= SiLU")
    assert described(parse("sin(x) * erfc(x)"))[1:] == (None, None)


SMALL = {
    "reinforce": {"batch_size": 4},
    "surrogate": {"startup": 4},
    "tpe": {"startup_trials": 5},
    "nsga2": {"population_size": 4},
}
"""Options with which twelve results are enough for a strategy to learn from."""


def small(name: str) -> ExperimentConfig:
    """A search of a space with 24 functions; with seed 1 the first relaxation of ``gradient`` fails."""
    strategy = {"name": name, **SMALL.get(name, {})}
    search, retrain = {"trials": 12}, {"top": 3, "seeds": 2}
    return restore_config({**TINY, "strategy": strategy, "seed": 1, "search": search, "retrain": retrain})


RESUMED = [(config(), n) for n in (1, 7, 23, 40, 44, 60)] + [
    (small(name), n) for name in strategies.names() for n in (3, 13)
]


@pytest.mark.parametrize(
    ("settings", "stop_after"), RESUMED, ids=lambda v: getattr(v, "name", None) and v.strategy.name
)
def test_resume_ends_where_an_undisturbed_run_ends(tmp_path, settings, stop_after):
    """Same trials, same order, same outcomes, same counters, although two trials were running when it was killed."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    with Store.create(tmp_path / "a", {}) as store:
        undisturbed = Search(settings, store)
        drive(undisturbed)
        expected = rows(store)
    with Store.create(tmp_path / "b", {}) as store:
        interrupted = drive(Search(settings, store), stop_after)
        before = [row for row in rows(store) if row[-1] is not None]
        resumed = Search(settings, store)
        drive(resumed)
        after = rows(store)
        attempts = [store.attempts(r.trial.id) for r in store.records()]
    assert after == expected
    assert [row for row in after if row in before] == before  # nothing finished was trained again
    assert attempts.count(2) == len(interrupted)
    assert (resumed.counts, resumed.proposals, resumed.best) == (
        undisturbed.counts,
        undisturbed.proposals,
        undisturbed.best,
    )


def test_a_finished_search_has_nothing_left_to_do_when_it_is_opened_again(tmp_path):
    with Store.create(tmp_path, {}) as store:
        drive(Search(config(), store))
        assert Search(config(), store).next() is EXHAUSTED


def test_resume_with_a_strategy_that_answers_otherwise_keeps_the_results(tmp_path):
    """A changed program: the stored trials are told as a stranger's, and the search goes on to its number."""
    with Store.create(tmp_path, {}) as store:
        drive(Search(config("seed=1"), store), 20)
        before = [row for row in rows(store) if row[-1] is not None]
        search = Search(config("seed=1", "strategy.population_size=5"), store)
        drive(search)
        after = rows(store)
        assert [row for row in after if row in before] == before
        assert sum(row[1] == SEARCH for row in after) == 40
        keys = [r.function_key for r in store.records() if r.trial.stage == SEARCH]
        assert len(set(keys)) == len(keys)


class Scripted(Strategy):
    """Asks what it is given, remembers what it is told."""

    def __init__(self, *texts: str) -> None:
        super().__init__(Problem(spaces.get("swish2017")()))
        self.script = [Candidate(parse(text)) for text in texts]
        self.told: list[tuple[str, TrialResult]] = []

    def ask(self):
        return self.script.pop(0) if self.script else EXHAUSTED

    def tell(self, candidate, result):
        self.told.append((str(candidate.expression), result))


def test_an_equivalent_candidate_is_told_the_result_of_the_first():
    strategy = Scripted("x * sigmoid(x)", "sigmoid(x) * x", "tanh(x)", "x / (1 + exp(-x))", "sqrt(x)", "x + 1")
    proposer = Proposer(strategy)
    first, second = proposer.propose(), proposer.propose()
    assert isinstance(first, Proposal)
    assert isinstance(second, Proposal)
    assert str(second.candidate.expression) == "tanh(x)"  # the other spelling waits for the first
    assert strategy.told == []
    proposer.settle(first.key, make_result(0.9))
    assert [text for text, _ in strategy.told] == ["x * sigmoid(x)", "sigmoid(x) * x"]
    assert proposer.propose() is EXHAUSTED
    assert strategy.told[2] == ("x / (1 + exp(-x))", make_result(0.9))
    assert [(text, r.state, r.reason) for text, r in strategy.told[3:]] == [
        ("sqrt(x)", "FAIL", "not finite on [-5, 5]"),
        ("x + 1", "FAIL", "affine or constant"),
    ]
    assert (proposer.asked, proposer.duplicates, proposer.filtered) == (6, 2, 2)


def test_a_search_ends_when_its_space_is_used_up(tmp_path):
    with Store.create(tmp_path, {}) as store:
        search = Search(config("search.trials=100"), store)
        search.proposer.strategy = Scripted("tanh(x)", "sin(x)", "tanh(x)")
        drive(search)
        assert search.done
        assert search.launched(SEARCH) == 2


def test_minutes_end_the_search_stage(tmp_path, monkeypatch):
    import nas.search

    clock = [0.0]
    monkeypatch.setattr(nas.search.time, "monotonic", lambda: clock[0])
    with Store.create(tmp_path, {}) as store:
        search = Search(config("search.trials=1000", "search.minutes=1"), store)
        for _ in range(10):
            drive(search, 1, workers=1)
            clock[0] += 10
        drive(search)
        assert search.done
        assert 5 <= search.launched(SEARCH) <= 8
        assert search.launched(RETRAIN) > 0


@pytest.mark.parametrize("anneal", [True, False])
def test_search_trials_are_screened_and_annealed_in_their_rungs_and_retrainings_are_not(tmp_path, anneal):
    chosen = config(f"pruning.anneal={str(anneal).lower()}", "trial.precision=bf16")
    with Store.create(tmp_path, chosen.model_dump(mode="json")) as store:
        drive(Search(chosen, store))
        trials = [record.trial for record in store.records()]
    by_stage = {stage: [t for t in trials if t.stage == stage] for stage in (SEARCH, RETRAIN)}
    assert {t.anneal_epochs for t in by_stage[SEARCH]} == {(2, 5) if anneal else ()}
    assert {t.anneal_epochs for t in by_stage[RETRAIN]} == {()}
    assert {t.screen for t in by_stage[SEARCH]} == {True}
    assert {t.screen for t in by_stage[RETRAIN]} == {False}
    assert {t.precision for t in trials} == {"bf16"}


def test_relaxations_come_first_and_count_as_nothing_else(tmp_path):
    """The first of seed 1 fails and is tried again with seed 2; neither is one of the trials, pruned or retrained."""
    chosen = config("strategy={name: gradient, epochs: 7}", "seed=1", "trial.precision=bf16", "trial.max_seconds=9")
    with Store.create(tmp_path, chosen.model_dump(mode="json")) as store:
        search = Search(chosen, store)
        drive(search)
        assert search.done
        trials = [(r.trial, r.result) for r in store.records()]
        rows = leaderboard(store)
    relaxed = [(t, r) for t, r in trials if t.relaxation is not None]
    assert [t.stage for t, _ in relaxed] == [RELAX, RELAX]
    assert [(t.seed, t.budget_epochs, t.precision, t.max_seconds) for t, _ in relaxed] == [
        (1, 7, "fp32", None),
        (2, 7, "fp32", None),
    ]
    assert [(t.screen, t.report_epochs, t.measure_cost) for t, _ in relaxed] == 2 * [(False, (), False)]
    searched = [t for t, _ in trials if t.stage == SEARCH]
    assert len(searched) == search.launched(SEARCH) == 40
    assert search.launched(RELAX) == 2
    first = min(t.id for t in searched)
    assert first > max(t.id for t, _ in relaxed)
    waited = {t.expression for t, _ in trials if t.stage == RETRAIN and t.id < first}
    assert len(waited) == 2  # workers do not idle meanwhile: here one for each of the relaxations
    assert waited <= {str(known_expression(name)) for name in chosen.baselines}
    weights = relaxed[1][1].weights
    choices = [search.proposer.strategy.space.encode(parse(t.expression)) for t in searched]
    score = [np.prod([row[i] for row, i in zip(weights, c[1:], strict=True)]) for c in choices]
    assert score[0] == pytest.approx(np.prod([max(row) for row in weights]), rel=0.5)
    assert not any(rows["formula"].str.contains("relax"))
    assert not any(rows["expression"].str.contains("u(", regex=False))
    assert len(rows) == len({r.function_key for r in _records(tmp_path) if r.trial.stage != RELAX})
    assert set(rows["stage"]) == {SEARCH, RETRAIN}
    assert search.best is not None
    assert search.best.record.trial.stage == SEARCH  # though the relaxation had 0.99


def _records(path):
    with Store.open(path) as store:
        return store.records()


def test_a_search_in_which_every_relaxation_fails_takes_all_operators_for_equal(tmp_path, monkeypatch):
    monkeypatch.setattr("tests.nas.test_search.fake_relaxation", lambda trial: make_result(None, TrialState.FAIL))
    with Store.create(tmp_path, {}) as store:
        search = Search(config("strategy={name: gradient, attempts: 3}"), store)
        drive(search)
        stages = Counter(r.trial.stage for r in store.records())
        seeds = [r.trial.seed for r in store.records() if r.trial.stage == RELAX]
    assert (stages[RELAX], stages[SEARCH]) == (3, 40)
    assert seeds == [0, 1, 2]


def test_functions_to_start_with_are_proposed_before_the_strategy_is_asked():
    strategy = Scripted("sin(x)", "x * sigmoid(x)")
    first = ["x * sigmoid(x)", "sqrt(x)", "sigmoid(x) * x", "tanh(x)"]
    proposer = Proposer(strategy, first=deque(map(parse, first)))
    proposed = [proposer.propose() for _ in range(3)]
    assert [str(p.candidate.expression) for p in proposed] == ["x * sigmoid(x)", "tanh(x)", "sin(x)"]
    assert [(text, r.state) for text, r in strategy.told] == [("sqrt(x)", "FAIL")]
    proposer.settle(proposed[0].key, make_result(0.7))
    assert [text for text, r in strategy.told if r == make_result(0.7)] == ["x * sigmoid(x)", "sigmoid(x) * x"]
    assert proposer.propose() is EXHAUSTED
    assert strategy.told[-1] == ("x * sigmoid(x)", make_result(0.7))
    assert (proposer.asked, proposer.duplicates, proposer.filtered) == (2, 2, 1)
