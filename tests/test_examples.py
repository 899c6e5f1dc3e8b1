"""Examples run, and what they measure is what they say."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from analysis.store import Record, Store
from nas.config import load_config
from trainers.run import run_trial

FILE = Path(__file__).parent.parent / "examples" / "swap_activation.py"
SHORT = ["--seeds", "2", "--steps", "12", "--train-steps", "12", "--new", "tanh"]


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("swap_activation", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["swap_activation"] = module
    spec.loader.exec_module(module)
    return module


def run(*arguments: str) -> str:
    done = subprocess.run([sys.executable, str(FILE), *SHORT, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_variant_is_measured_for_every_seed():
    results = json.loads(run("--json"))["results"]
    assert [(r["variant"], r["seed"]) for r in results] == [
        (variant, seed)
        for seed in (0, 1)
        for variant in ("stay", "at once", "blend", "blend, unfreezing", "unfreezing", "from scratch")
    ]
    for r in results:
        assert (r["loss_swapped"] == r["loss_before"]) == (r["variant"] in ("stay", "blend", "blend, unfreezing"))
        assert r["loss_worst"] >= r["loss_swapped"]


@pytest.mark.slow
def test_the_table_says_how_it_was_made():
    text = run()
    assert text.startswith("ReLU -> tanh; before: accuracy ")
    assert "over 2 seeds" in text
    assert "torch " in text


@pytest.mark.parametrize("variant", ["at once", "blend", "blend, unfreezing", "unfreezing", "from scratch"])
def test_in_the_end_there_is_the_new_activation_and_nothing_else(example, variant):
    options = example.argparse.Namespace(steps=8, blend=0.5)
    model = example.network(nn.ReLU, 0)
    model, after = example.swap(model, variant, "tanh", 0, options)
    for _ in range(8):
        for step in after:
            step()
    kinds = {type(module) for module in example.finish(model).modules()}
    assert nn.Tanh in kinds
    assert not {nn.ReLU, example.Blend} & kinds
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_the_interval_is_students(example):
    values = torch.randn(10, generator=torch.Generator().manual_seed(0)).tolist()
    mean, deviation = sum(values) / 10, torch.tensor(values).std().item()
    assert example.interval(values) == f"{mean:+.3f} ± {2.262157 * deviation / 10**0.5:.3f}"


def confirmation(run: Path, expressions: list[str], shape: str) -> list[float]:
    """A study in which each function was confirmed with one real training; their accuracies."""
    config = load_config("digits", ["model.width=4", "trial.epochs=1", f"trial.param_shape={shape}", "pruning=null"])
    results = []
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with Store.create(run, config.model_dump(mode="json")) as store:
            for number, expression in enumerate(expressions, 1):
                trial = config.full_trial(number, "confirm", expression, 4, "fp32")
                trial = dataclasses.replace(trial, score_on="test")
                store.launch(Record(trial, expression, expression, None, None, None))
                result = run_trial(trial, lambda metrics: False)
                store.finish(number, result)
                results.append(result.metrics["test_accuracy"])
    finally:
        torch.set_num_threads(threads)
    return results


def learned_parameters(run: Path, *arguments: str) -> subprocess.CompletedProcess:
    words = [sys.executable, str(FILE.with_name("learned_parameters.py")), str(run), *arguments]
    return subprocess.run(words, capture_output=True, text=True)


def test_learned_parameters_are_those_of_the_same_training(tmp_path):
    """The network that is trained again ends with the accuracy that the study has, and its parameters have moved."""
    (accuracy,) = confirmation(tmp_path, ["beta * x * sigmoid(x)"], "scalar")
    done = learned_parameters(tmp_path, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["test_accuracy"] == accuracy
    assert len(found["places"]) == 7  # a ResNet-8 has as many activations
    assert all(values["beta"] != 1 for values in found["places"].values())


def test_learned_parameters_of_channels_are_their_mean_and_range(tmp_path):
    """Of the best that has any, whatever the best is; a function without is refused."""
    accuracies = confirmation(tmp_path, ["x * sigmoid(x)", "beta * x * sigmoid(x)"], "channel")
    done = learned_parameters(tmp_path)
    assert done.returncode == 0, done.stderr
    first, *lines = done.stdout.splitlines()
    assert first == f"beta * x * sigmoid(x): test accuracy {100 * accuracies[1]:.2f} %, seed 4"
    for line in lines:
        mean, least, most = map(float, re.fullmatch(r"\S+ +beta (\S+) \((\S+) to (\S+)\)", line).groups())
        assert least <= mean <= most
        assert least < most
    assert len(lines) == 7
    rank = "1" if accuracies[0] > accuracies[1] else "2"
    done = learned_parameters(tmp_path, "--function", rank)
    assert done.returncode == 1
    assert done.stderr == "error: x * sigmoid(x) has no learnable parameters; give another --function RANK\n"
