"""``nas bench``: replays of made-up tables, against searches of the same functions and against brute force."""

from __future__ import annotations

import contextlib
import json
import math
import shutil
import sys
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

import nas.bench
import nas.bench_table as view
from analysis.replays import Figures
from analysis.store import Store
from analysis.yardstick import ResultTable, TableError
from nas.bench import NOTHING, Arena, Bench, Entrant
from nas.cli import main
from nas.config import restore_config
from nas.search import Search
from nas.strategies import Candidate, Objective, strategies
from nas.strategies.gradient import relaxation_of
from tests.made_tables import TINY, made_table, row_of, tiny_functions, tiny_table
from tests.nas.test_search import drive
from tests.records import make_result
from trainers.trial import Component, Recipe, Trial, TrialResult, TrialState

WEIGHTS = [[0.1, 0.2, 0.3, 0.4], [0.4, 0.3, 0.2, 0.1], [0.2, 0.5, 0.3]]
FUNCTIONS = list(tiny_functions())


def relaxation(seconds: float, weights=WEIGHTS, state: TrialState = TrialState.COMPLETE) -> dict[str, str]:
    """One as a table stores it."""
    space = restore_config(TINY).make_space()
    parts = (Component("resnet8"), Component("digits"), Recipe())
    trial = Trial(1, "relax", "b(u(x), u(x))", 0, *parts, budget_epochs=5, relaxation=relaxation_of(space))
    result = replace(make_result(0.5, state), seconds=seconds, weights=weights)
    return {"trial": trial.to_json(), "result": result.to_json()}


TABLE = tiny_table(relaxations=[relaxation(5.0)])
NAMES = strategies.names()


@pytest.fixture(scope="module")
def arena() -> Arena:
    return Arena(TABLE)


@pytest.mark.parametrize("name", NAMES)
def test_every_strategy_replays(arena, name):
    """Functions of the table, each once, and all of them in the end: nothing is left out and nothing made up."""
    first, again = (arena.replay(Entrant(name), Objective(), 3, 40).functions.tolist() for _ in range(2))
    assert first == again
    functions = [row for row in first if row != NOTHING]
    assert sorted(functions) == list(range(24))
    assert first.count(NOTHING) == (2 if name == "gradient" else 0)  # 5 seconds where a function takes 2
    short = arena.replay(Entrant(name), Objective(), 3, 7).functions.tolist()
    assert short == first[:7]
    if name not in ("exhaustive", "gradient"):
        assert arena.replay(Entrant(name), Objective(), 4, 40).functions.tolist() != first


class Spied:
    """Registered strategies that write down what they are told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.told: list[tuple] = []
        get = strategies.get

        def spied(name: str):
            def make(problem, **options):
                strategy = get(name)(problem, **options)
                tell = strategy.tell

                def spy(candidate, result):
                    shown = str(candidate.expression) if isinstance(candidate, Candidate) else "relaxed"
                    self.told.append((shown, result.state, result.metrics, result.reason, result.weights))
                    tell(candidate, result)

                strategy.tell = spy
                return strategy

            return make

        monkeypatch.setattr(strategies, "get", spied)

    def take(self) -> list[tuple]:
        told, self.told = self.told, []
        return told


@pytest.mark.parametrize("name", NAMES)
def test_a_replay_tells_what_a_search_would(tmp_path, monkeypatch, name):
    """The same functions, results, failures and duplicates, in the same order; replay 4 of 3 seeds sees the second."""
    monkeypatch.setattr("tests.nas.test_search.fake", of_table(TABLE, seed=1))
    spied = Spied(monkeypatch)
    functions = Arena(TABLE).replay(Entrant(name), Objective(), 4, 20).functions
    replayed = spied.take()
    trials = int((functions != NOTHING).sum())
    config = {**TINY, "strategy": {"name": name}, "seed": 4, "search": {"trials": trials}, "retrain": {"top": 0}}
    with Store.create(tmp_path, {}) as store:
        drive(Search(restore_config(config), store), workers=1)
        searched = [r.trial.expression for r in store.records() if r.trial.stage == "search"]
    assert spied.take() == replayed
    assert [row_of(text, FUNCTIONS) for text in searched] == functions[functions != NOTHING].tolist()


def of_table(table: ResultTable, seed: int):
    """What training would have given, looked up by the function's values."""

    def train(trial: Trial) -> TrialResult:
        if trial.relaxation is not None:
            return TrialResult.from_json(table.about["relaxations"][0]["result"])
        t = table.trainings
        row = t[(t["function"] == row_of(trial.expression, FUNCTIONS)) & (t["seed"] == seed)].iloc[0]
        metrics = {name: row[name] for name in ("val_accuracy", "val_loss", "train_loss", "train_loss_sum")}
        if row["state"] == "FAIL":
            metrics = {name: value for name, value in metrics.items() if not math.isnan(value)}
            return TrialResult(TrialState.FAIL, metrics, reason=row["reason"])
        return TrialResult(TrialState.COMPLETE, metrics)

    return train


def test_relaxations_take_the_time_of_their_training():
    """Failed ones too; each is met with each of the three seeds, and another attempt is the next one."""
    stored = [relaxation(7.1, None, TrialState.FAIL), relaxation(1e-3), relaxation(3.2)]
    arena = Arena(tiny_table(relaxations=stored))
    found = {r: arena.replay(Entrant("gradient"), Objective(), 3 * r, 12).functions.tolist() for r in range(3)}
    assert [functions.count(NOTHING) for functions in found.values()] == [4 + 1, 1, 2]
    assert all(
        functions[: functions.count(NOTHING)] == [NOTHING] * functions.count(NOTHING) for functions in found.values()
    )
    assert found[0][5:] == found[1][1:8]
    assert found[1][1] == row_of("max(x, 0) * x", FUNCTIONS)  # the largest weights of WEIGHTS: max(x, 0), x, mul
    assert arena.replay(Entrant("gradient"), Objective(), 0, 3).functions.tolist() == [NOTHING] * 3


def test_random_draws_without_replacement():
    """Where every function has one spelling, the best of 24 is found after 12.5 draws on average."""
    arena = Arena(tiny_table(failures=0.0))
    replays = [arena.replay(Entrant("random"), Objective(), number, 24).functions for number in range(150)]
    assert all(sorted(functions) == list(range(24)) for functions in replays)
    places = np.array([np.argsort(functions) for functions in replays])  # (replays, functions)
    assert abs(places.mean(0) - 11.5).max() < 4 * math.sqrt((24**2 - 1) / 12 / 150)
    assert abs(places[:, :5].min(1).mean() - (25 / 6 - 1)) < 4 * places[:, :5].min(1).std() / math.sqrt(150)


def test_a_table_of_another_version_of_the_space_is_refused():
    other = tuple("tanh(3 * x)" if row == 5 else text for row, text in enumerate(FUNCTIONS))
    table = made_table(np.random.default_rng(0).random((24, 2)), expressions=other, config=TINY)
    with pytest.raises(TableError, match=r"has no row for .*another version of that space; make it again"):
        Arena(table).replay(Entrant("exhaustive"), Objective(), 0, 24)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("bench") / "table"
    path.mkdir()
    TABLE.write(path)
    return path


def test_a_bench_knows_its_strategies(folder, tmp_path):
    bench = Bench.open(folder, [], None, 5, 1000)
    assert [entrant.label for entrant in bench.entrants] == NAMES
    assert (bench.evaluations, bench.objective.metric) == (24, "val_accuracy")
    replace(TABLE, about={**TABLE.about, "relaxations": []}).write(tmp_path)
    assert [e.label for e in Bench.open(tmp_path, [], None, 5, 10).entrants] == [n for n in NAMES if n != "gradient"]
    texts = ["random", "evolution population_size=9", "surrogate spectrum=true startup=2", "random"]
    named = Bench.open(folder, texts, "val_loss", 5, 10)
    assert [entrant.label for entrant in named.entrants] == texts[:3]
    assert named.entrants[1].options == {"population_size": 9}


def brute(functions: list[int], number: int, evaluations: int) -> tuple[list[float], float]:
    """Regret after every evaluation in val_loss, and evaluations until one of the best 10, for a table of 3 seeds."""
    t = TABLE.trainings
    loss = [[t[(t["function"] == f) & (t["seed"] == s)]["val_loss"].iloc[0] for s in range(3)] for f in range(24)]
    seen = [row[number % 3] for row in loss]
    true = [np.mean(row[: number % 3] + row[number % 3 + 1 :]) for row in loss]
    known = [value for value in true if not math.isnan(value)]
    regrets, current, least = [], np.median(known) - min(known), math.inf
    for n in range(evaluations):
        f = functions[n] if n < len(functions) else NOTHING
        if f != NOTHING and seen[f] < least:
            least = seen[f]
            current = (
                min(true[f], np.median(known)) - min(known) if true[f] == true[f] else np.median(known) - min(known)
            )
        regrets.append(float(current))
    best = sorted(range(24), key=lambda f: (math.isnan(true[f]), true[f]))[:10]
    return regrets, min((n + 1 for n, f in enumerate(functions) if f in best), default=math.inf)


def test_json_agrees_with_brute_force(folder, arena, tmp_path, monkeypatch, capsys):
    """As a user runs it, with a picture."""
    names = ["gradient", "random", "evolution population_size=5 tournament_size=2"]
    arguments = [str(folder), "--objective", "val_loss", "--replays", "5", "--evaluations", "15", "--workers", "1"]
    picture = tmp_path / "replays.svg"
    arguments += ["--json", "--plot", str(picture), *(part for name in names for part in ("-s", name))]
    monkeypatch.setattr(sys, "argv", ["nas", "bench", *arguments])
    with contextlib.suppress(SystemExit):
        main()
    printed = capsys.readouterr()
    assert printed.err == ""
    found = json.loads(printed.out)
    assert (found["functions"], found["seeds"], found["metric"]) == (24, [0, 1, 2], "val_loss")
    assert (found["replays"], found["evaluations"], found["table"]) == (5, 15, "tiny")
    options = [{}, {}, {"population_size": 5, "tournament_size": 2}]
    assert [entry["options"] for entry in found["strategies"]] == options
    for entry in found["strategies"]:
        entrant = Entrant(entry["strategy"], tuple(entry["options"].items()))
        for number in range(5):
            functions = arena.replay(entrant, Objective("val_loss"), number, 15).functions.tolist()
            regrets, hit = brute(functions, number, 15)
            assert entry["regret"]["10"][number] == pytest.approx(regrets[9])
            assert entry["regret"]["15"][number] == pytest.approx(regrets[-1])
            assert entry["mean_regret"][number] == pytest.approx(np.mean(regrets))
            assert (entry["evaluations_until"]["top 10"][number] or math.inf) == hit
        assert entry["seconds_per_proposal"] > 0
    text = picture.read_text()
    assert all(name in text for name in names)
    assert found["best_simple"] == "random"


def test_the_best_simple_strategy_and_the_tests_against_it():
    """Against scipy, with Holm's correction written out for two comparisons."""
    from scipy import stats

    rng = np.random.default_rng(5)
    regret = {name: rng.random((30, 8)) * scale for name, scale in (("random", 1), ("exhaustive", 0.8), ("tpe", 0.5))}
    hits = {"top 10": np.arange(30.0)}
    results = {Entrant(name): Figures(values, hits) for name, values in regret.items()}
    assert view.best_simple(results) == Entrant("exhaustive")
    found = view.tests_against(results, Entrant("random"))
    means = {name: values.mean(axis=1) for name, values in regret.items()}
    p = {name: stats.wilcoxon(means[name], means["random"]).pvalue for name in ("exhaustive", "tpe")}
    smaller, larger = sorted(p, key=p.__getitem__)
    expected = {smaller: min(1, 2 * p[smaller]), larger: max(min(1, 2 * p[smaller]), p[larger])}
    for name in ("exhaustive", "tpe"):
        difference, corrected = found[Entrant(name)]
        assert difference == pytest.approx((means[name] - means["random"]).mean())
        assert corrected == pytest.approx(expected[name])
    console = Console(width=200, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(view.comparison_tables(results, dict.fromkeys(results, 0.01)))
    text = console.export_text()
    assert f"{regret['tpe'][:, -1].mean():.4f}" in text
    assert "against random" in text
    assert "against exhaustive" in text
    assert "100 %" in text


@pytest.mark.parametrize(
    ("arguments", "messages"),
    [
        (["{folder}", "-s", "randon"], ["unknown strategy 'randon'; did you mean 'random'?"]),
        (["{folder}", "-s", ""], ["unknown strategy ''"]),
        (["{folder}", "-s", "evolution poulation_size=3"], ["did you mean 'population_size'?"]),
        (["{folder}", "-s", "evolution population_size=0"], ["population_size: Input should be greater than"]),
        (["{folder}", "-s", "evolution tournament_size=90"], ["tournament_size is 1 to population_size = 32, got 90"]),
        (["{folder}", "-s", "evolution 9"], ["an override has the form key=value, got '9'"]),
        (["{folder}", "--objective", "val_los"], ["unknown metric 'val_los'; did you mean 'val_loss'?"]),
        (["{folder}", "--objective", "val_bpb"], ["has no values of val_bpb; choose another metric"]),
        (["{folder}", "--plot", "{folder}/x.gif"], ["a plot ends in .png, .svg, .pdf, got 'x.gif'"]),
        (["{folder}", "--plot", "{folder}/no/x.png"], ["cannot be written: there is no folder"]),
        (["{folder}", "-s", "gradient epochs=9"], ["that gradient cannot be replayed", "--relaxations N"]),
        (["{bare}", "-s", "gradient"], ["that gradient cannot be replayed", "--relaxations N"]),
        (["{tree}", "-s", "gradient"], ["gradient relaxes spaces of one fixed shape"]),
        (["nowhere"], ["nowhere is not a table: there is no functions.parquet"]),
        (["{folder}", "--replays", "0"], ["--replays"]),
        (["{untold}"], ["does not say by which configuration it was made"]),
        (["{listed}"], ["does not say by which configuration it was made"]),
        (["{partial}"], ["space: Field required"]),
        (["{garbled}"], ["relaxations cannot be read"]),
        (["{mistyped}"], ["relaxations cannot be read"]),
    ],
)
def test_bad_input_is_a_sentence_and_exit_code_2(folder, tmp_path, monkeypatch, capsys, arguments, messages):
    """Before any replay: no process is started for it."""
    changed = {
        "bare": {**TABLE.about, "relaxations": []},
        "tree": {**TABLE.about, "config": {**TINY, "space": {"name": "tree", "max_nodes": 2}}},
        "untold": {},
        "listed": {**TABLE.about, "config": []},
        "partial": {**TABLE.about, "config": {}},
        "garbled": {**TABLE.about, "relaxations": [{"trial": "{", "result": "{}"}]},
        "mistyped": {**TABLE.about, "relaxations": ["one"]},
    }
    for name, about in changed.items():
        (tmp_path / name).mkdir()
        replace(TABLE, about=about).write(tmp_path / name)
    monkeypatch.setattr(nas.bench, "ProcessPoolExecutor", None)
    places = {"folder": folder, **{name: tmp_path / name for name in changed}}
    monkeypatch.setattr(sys, "argv", ["nas", "bench", *(a.format(**places) for a in arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    said = " ".join(printed.err.replace("│", " ").split())
    assert all(message in said for message in messages), said
    assert not (folder / "x.gif").exists()


def test_a_row_that_is_no_formula_is_said_before_any_replay(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "table")
    expressions = ["sin(x" if row == 3 else text for row, text in enumerate(FUNCTIONS)]
    replace(TABLE, functions=TABLE.functions.assign(expression=expressions)).write(tmp_path / "table")
    with pytest.raises(TableError):
        Bench.open(tmp_path / "table", ["random"], None, 2, 5)
