"""``nas.load``, from everywhere, and nothing that is run on the way."""

from __future__ import annotations

import json
import pickle

import pytest
import torch
from safetensors.torch import save_file

import nas
from analysis.store import Store
from nas.export import sha256
from nas.loading import LoadError
from nas.zoo import FOLDER, copy_to, find
from search_spaces.parser import ParseError
from tests.made_studies import settings, study

X = torch.linspace(-3, 3, 24).view(2, 3, 4)


@pytest.fixture
def swish(tmp_path):
    return copy_to(find("Swish"), tmp_path)


def test_by_name_by_formula_and_by_file(swish):
    expected = X * torch.sigmoid(X)
    for source in ("SiLU", "silu", "x * sigmoid(x)", FOLDER / "silu.py", FOLDER / "silu.json", str(swish)):
        torch.testing.assert_close(nas.load(source)(X), expected)


def test_by_place_in_a_run(tmp_path):
    run = tmp_path / "run"
    study(run)
    best = nas.Study(run).leaderboard()["expression"].iloc[0]
    torch.testing.assert_close(nas.load(f"{run}:1")(X), nas.Activation(best)(X))
    with pytest.raises(LoadError, match="ranks 1 to"):
        nas.load(f"{run}:99999")
    with pytest.raises(LoadError, match=":best"):
        nas.load(run)


def test_the_best_find_is_no_baseline(tmp_path):
    """Of a study whose leaderboard begins with one."""
    run = tmp_path / "run"
    study(run, "search.trials=2", "baselines=[ReLU, SiLU, GELU, tanh]")
    rows = nas.Study(run).leaderboard()
    best = rows[rows["found"]].iloc[0]
    assert best["rank"] > 1
    torch.testing.assert_close(nas.load(f"{run}:best")(X), nas.Activation(best["expression"])(X))


def test_a_study_without_a_find_says_so(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    Store.create(run, settings().model_dump(mode="json")).close()
    with pytest.raises(LoadError, match="has found no function yet"):
        nas.load(f"{run}:best")


def test_a_formula_may_be_longer_than_a_path():
    text = " + ".join(["x * sigmoid(x)"] * 40)
    torch.testing.assert_close(nas.load(text)(X), 40 * X * torch.sigmoid(X))
    with pytest.raises(ParseError):
        nas.load("x\0")


def test_settings_are_those_of_an_activation():
    act = nas.load("Swish", beta="channel", channels=3)
    assert act.beta.shape == (3,)


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_parameters(suffix, tmp_path):
    saved = nas.Activation("x * sigmoid(beta * x)", beta=torch.tensor([0.5, 1.0, 2.0]))
    path = tmp_path / f"beta{suffix}"
    (save_file if suffix == ".safetensors" else torch.save)(saved.state_dict(), path)
    torch.testing.assert_close(nas.load("Swish", parameters=path)(X), saved(X))


def test_parameters_of_an_exported_module(swish, tmp_path):
    """Which are (1,) where all channels share them."""
    save_file({"beta": torch.tensor([1.5])}, tmp_path / "beta.safetensors")
    act = nas.load(swish, parameters=tmp_path / "beta.safetensors")
    torch.testing.assert_close(act(X), X * torch.sigmoid(1.5 * X))


def test_an_edited_file_is_refused(swish):
    swish.write_text(swish.read_text().replace("x * torch", "2 * x * torch"))
    with pytest.raises(LoadError, match="was edited"):
        nas.load(swish)
    with pytest.raises(LoadError, match="was edited"):
        nas.load(swish.with_suffix(".json"))


def test_a_card_runs_nothing(swish, tmp_path):
    card = json.loads(swish.with_suffix(".json").read_text())
    card["formula"] = "__import__('os').mkdir('proof')"
    swish.with_suffix(".json").write_text(json.dumps(card))
    with pytest.raises(ParseError):
        nas.load(swish)


class Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_pickled_parameters_run_nothing(tmp_path):
    path = tmp_path / "beta.pt"
    path.write_bytes(pickle.dumps({"beta": Evil(tmp_path / "proof")}))
    with pytest.raises(LoadError, match="cannot be read as parameters"):
        nas.load("Swish", parameters=path)
    torch.save({"beta": Evil(tmp_path / "proof")}, path)
    with pytest.raises(LoadError, match="cannot be read as parameters"):
        nas.load("Swish", parameters=path)
    assert not (tmp_path / "proof").exists()


@pytest.mark.parametrize(
    ("values", "channels", "why"),
    [
        ({"gamma": torch.ones(1)}, None, "has no beta, which x [*] sigmoid"),
        ({"beta": torch.ones(2, 3)}, None, r"beta is \(2, 3\)"),
        ({"beta": torch.ones(4)}, 3, "which are 3"),
        ({"beta": torch.ones(0)}, None, r"beta is \(0,\)"),
    ],
)
def test_parameters_that_do_not_fit(values, channels, why, tmp_path):
    save_file(values, tmp_path / "beta.safetensors")
    with pytest.raises(LoadError, match=why):
        nas.load("Swish", parameters=tmp_path / "beta.safetensors", channels=channels)


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("a.json", "not json", "is no JSON"),
        ("a.json", "[]", "no card"),
        ("a.json", '{"formula": 3}', "no card"),
        ("a.json", "[" * 100_000, "no card"),
        ("a.safetensors", "not tensors", "cannot be read as parameters"),
        ("a.pkl", "x", "are read from"),
    ],
)
def test_files_that_are_something_else(name, content, why, tmp_path):
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(LoadError, match=why):
        nas.load(path) if path.suffix == ".json" else nas.load("Swish", parameters=path)


def test_what_is_not_there(tmp_path):
    with pytest.raises(LoadError, match="there is no file"):
        nas.load(tmp_path / "missing.py")
    with pytest.raises(LoadError, match="there is no exports/missing"):
        nas.load("exports/missing")
    with pytest.raises(ParseError, match="did you mean 'SiLU'"):
        nas.load("SiLo")
    (tmp_path / "cardless.py").write_text("")
    with pytest.raises(LoadError, match=r"cardless.json cannot be read .* keep the two together, or import the file"):
        nas.load(tmp_path / "cardless.py")
    card = tmp_path / "alone.json"
    card.write_text(json.dumps({"formula": "x"}))
    with pytest.raises(LoadError, match="there is no file"):
        nas.load(card.with_suffix(".py"))
    assert nas.load(card)(X) is not None


def test_the_hash_is_of_the_bytes(swish):
    import hashlib

    assert sha256(swish) == hashlib.sha256(swish.read_bytes()).hexdigest()
