"""`nas compare`: its configurations, its runs in processes of their own, its table."""

from __future__ import annotations

import json

import pytest
import yaml
from typer.testing import CliRunner

from nas.cli import app
from nas.comparison import load_comparison
from nas.comparison_table import comparison_note, comparison_table
from nas.config import load_config
from nas.yaml_config import ConfigError, read_yaml, shipped_configs
from trainers.comparison import Outcome

COMPARISONS = [name for name, path in shipped_configs().items() if "variants" in read_yaml(path, "")]
SMALL = {
    "name": "small",
    "task": {"name": "passkey", "length": 12, "gap": 1, "digits": 1, "noise": 1},
    "model": {"dim": 16, "depth": 1, "heads": 2},
    "variants": {"rope": {"scalings": ["linear"]}, "learned": {"positions": "learned"}},
    "recipe": {"batch_size": 8, "learning_rate": 0.001},
    "steps": 3,
    "lengths": [12, 24],
    "tests": 8,
    "seeds": 2,
}


@pytest.fixture
def small(tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(SMALL, sort_keys=False))
    return str(path)


def faults(path, *overrides):
    with pytest.raises(ConfigError) as caught:
        load_comparison(path, list(overrides))
    return caught.value.faults


@pytest.mark.parametrize("name", COMPARISONS)
def test_shipped_comparisons_are_valid_and_named_like_their_file(name):
    assert load_comparison(name).name == name


def test_every_variant_is_trained_with_every_seed(small):
    config = load_comparison(small, ["act=GELU"])
    trainings = list(config.trainings())
    assert [(name, variant.seed) for name, variant in trainings] == [
        ("rope", 0),
        ("learned", 0),
        ("rope", 1),
        ("learned", 1),
    ]
    assert trainings[0][1].scalings == ("linear",)
    assert trainings[1][1].model.options == {"dim": 16, "depth": 1, "heads": 2, "positions": "learned"}
    assert "erf" in trainings[0][1].expression


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("step=3", "unknown key 'step'; did you mean 'steps'?"),
        ("learning_rate=3", "unknown key 'learning_rate'; did you mean 'recipe.learning_rate'?"),
        ("task.gap=30", "got length 12"),
        ("task.gaps=3", "did you mean 'gap'?"),
        ("lengths=[12, 3]", "got length 3"),
        ("lengths=[]", "lengths: "),
        ("act=x +", "act: act is the name or the formula"),
        (
            "variants={a: {position: rope}}",
            "variants.a: model 'gpt' has no option 'position'; did you mean 'positions'?",
        ),
        (
            "variants={a: {scalings: [linaer]}}",
            "variants.a.scalings: a list of linear, ntk, yarn, got ['linaer']",
        ),
        ("variants={a: {attention: infini, positions: alibi}}", "variants.a: model.positions=alibi needs scores"),
        ("variants={}", "variants: "),
        ('variants={"": {}}', "a variant's name is a line of 1 to 60 characters, got ''"),
        ("act=Swishh", "act: unknown activation 'Swishh'; did you mean 'Swish'?"),
        ("act=x1*x2", "variants.rope: "),
        ("model.ffn=binary", "variants.rope: "),
        ("variants={a: {positions: none, scalings: [linear]}}", "variants.a: scalings are of rotary positions"),
        ("variants={a: {heads: 8, scalings: [ntk]}}", "variants.a: NTK scaling needs 4 rotated channels, got 2"),
        ("variants={a: {attention: linear}}", "variants.a: model.positions=rope needs scores of softmax"),
        ("recipe.optimizer=sgd", "unknown key 'recipe.optimizer'"),
        ("lengths=[12, 1000000000]", "test texts have up to 1,048,576 tokens"),
        ("variants.rope=3", "variants.rope: "),
        ("model.dim=15", "variants.rope: heads are of one size, and rotary positions turn pairs"),
    ],
)
def test_faults_are_reported_with_a_hint(small, override, message):
    assert any(message in fault for fault in faults(small, override)), faults(small, override)


def test_faults_are_reported_together(small):
    assert len(faults(small, "steps=0", "seeds=x", "tests=-1")) == 3


def test_a_search_is_no_comparison_and_a_comparison_no_search():
    assert "run nas search digits" in faults("digits")[0]
    assert faults("nope") == [f"no such file, nor a shipped configuration; known: {', '.join(sorted(COMPARISONS))}"]
    with pytest.raises(ConfigError, match="run nas compare passkey"):
        load_config("passkey")


def test_compare_prints_what_it_trained(small):
    result = CliRunner().invoke(app, ["compare", small])
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["model", "12", "24", "n", "params", "s"]
    assert [line.split()[0] for line in lines[1:4]] == ["rope", "read", "learned"]
    assert "–" in lines[3]  # learned positions end at 12
    assert result.stderr.startswith("4 trainings, 2 at a time")
    of_trainings = result.stderr.splitlines()[1:]
    assert [line.partition("]")[0] for line in of_trainings] == [f"[{n}/4 trained" for n in range(1, 5)]
    trained = {line.partition("] ")[2].partition(": ")[0] for line in of_trainings}
    assert trained == {f"{name}, seed {seed}" for name in ("rope", "learned") for seed in (0, 1)}
    document = json.loads(CliRunner().invoke(app, ["compare", small, "--json", "seeds=1"]).stdout)
    assert document["metric"] == "exact"
    assert set(document["results"]) == {"rope", "learned"}
    assert 0 <= document["results"]["rope"][0]["scores"][""]["12"] <= 1


@pytest.mark.parametrize("act", ["sqrt(2)*x", "x*tanh(exp(x)+exp(1))", "x*sigmoid(beta*x)"])
def test_formulas_with_constants_and_parameters_are_taken(small, act):
    assert load_comparison(small, [f"act={act}"]).act


def test_means_and_deviations_are_over_seeds(small):
    config = load_comparison(small)
    outcomes = [Outcome({"": {12: value, 24: None}}, parameters=7, seconds=2.0) for value in (0.5, 0.7)]
    table = comparison_table(config, {"rope": outcomes, "learned": [*outcomes[:1], Outcome(reason="lost")]})
    cells = [list(column.cells) for column in table.columns]
    assert cells[1] == ["60.0 ± 14.1", "50.0"]  # standard deviation of 50 and 70
    assert cells[2] == ["–", "–"]
    assert cells[3] == ["2", "1 of 2"]
    assert "2 seeds" not in comparison_note(config, {})
    assert "standard deviation over n seeds" in comparison_note(config, {})
