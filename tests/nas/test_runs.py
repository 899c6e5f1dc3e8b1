"""Opening studies: what is measured and checked before the first trial."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
import torch

import nas.runs as runs
from nas.config import load_config
from nas.execution import execute
from nas.runs import RunError, check_components, create_run, open_run
from nas.search import Search

TINY = [
    "trial.precision=auto",
    "search.trials=2",
    "trial.epochs=1",
    "pruning=null",
    "retrain.top=0",
    "baselines=[]",
    "model.width=2",
    "executor=inline",
]


@contextlib.contextmanager
def unseen(search):
    yield lambda: None


def precisions(path: Path, *overrides: str, create: bool = True) -> set[str]:
    """Run a study, or go on with it; the precisions of all its trials so far."""
    opened = create_run(load_config("digits", [*TINY, *overrides]), path) if create else open_run(path)
    with opened as run:
        execute(run, unseen)
        return {record.trial.precision for record in run.store.records()}


@pytest.mark.parametrize("faster", ["fp32", "bf16"])
def test_the_precision_is_measured_once_a_study(tmp_path, monkeypatch, faster):
    monkeypatch.setattr(runs, "faster_precision", lambda *_: faster)
    assert precisions(tmp_path) == {faster}
    monkeypatch.setattr(runs, "faster_precision", lambda *_: pytest.fail("measured again"))
    assert precisions(tmp_path, create=False) == {faster}


def test_a_configured_precision_is_not_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "faster_precision", lambda *_: pytest.fail("measured"))
    assert precisions(tmp_path, "trial.precision=bf16") == {"bf16"}


def test_the_measurement_itself_answers(tmp_path):
    assert precisions(tmp_path) <= {"fp32", "bf16"}


def test_a_study_from_before_some_keys_goes_on_as_it_was(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "faster_precision", lambda *_: "bf16")
    config = load_config("digits", ["trial.precision=auto", "trial.epochs=3", "pruning.rungs=[1]"])
    with create_run(config, tmp_path) as run:
        stored = run.store.get("config")
        for section, key in (("trial", "precision"), ("search", "screen"), ("pruning", "anneal")):
            del stored[section][key]
        run.store.put("config", stored)
    with open_run(tmp_path) as run:
        runs.settle_precision(run)
        trial = Search(run.config, run.store).next()
    assert (trial.precision, trial.screen, trial.anneal_epochs) == ("fp32", False, ())


def test_memory_that_runs_out_while_measuring_is_one_sentence(tmp_path, monkeypatch):
    def fail(*_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")

    monkeypatch.setattr(runs, "faster_precision", fail)
    with (
        create_run(load_config("digits", TINY), tmp_path) as run,
        pytest.raises(RunError, match="memory ran out while the precision was measured"),
    ):
        runs.settle_precision(run)


@pytest.mark.parametrize(
    ("name", "overrides", "message"),
    [
        ("digits", ["search.objective=val_bpb"], "val_bpb, bits per byte, is measured on text"),
        ("digits", ["pruning.metric=val_bpb"], "val_bpb, bits per byte, is measured on text"),
        ("digits", ["model={name: gpt}"], "'gpt' does not work on 'digits': gpt reads text, got images"),
        ("pydoc_gpt", ["model={name: resnet8}"], "'resnet8' does not work on 'pydoc': resnet8 reads images, got text"),
        (
            "pydoc_gpt",
            ["model.ffn=binary"],
            "it gives its activation 2 inputs, and a function of a search space has one",
        ),
        ("pydoc_gpt", ["data.context=100000"], r"each part needs at least data.context \+ 1 = 100,001"),
        ("pydoc_gpt", ["model.heads=3"], "got model.dim and model.heads 64 and 3"),
        ("digits", ["model={name: vit_tiny, patch: 3}"], "'vit_tiny' does not work on 'digits'"),
        ("digits", ["model={name: wide_resnet, depth: 29}"], "'wide_resnet' does not work on 'digits'"),
    ],
)
def test_what_does_not_go_together_is_said_before_anything_starts(tmp_path, name, overrides, message):
    path = tmp_path / "study"
    with pytest.raises(RunError, match=message), create_run(load_config(name, overrides), path):
        pass
    assert not path.exists()


def test_an_empty_text_and_a_missing_one(tmp_path):
    (tmp_path / "empty.txt").touch()
    for text, message in (("empty.txt", "is empty"), ("missing.txt", "does not exist")):
        data = f"data={{name: text, root: {tmp_path / text}}}"
        with pytest.raises(RunError, match=message), create_run(load_config("pydoc_gpt", [data]), tmp_path / "study"):
            pass


def test_a_data_set_without_a_test_set_is_refused_before_it_is_confirmed_on(tmp_path):
    text = ["data={name: pydoc, context: 16, test_fraction: 0}", "model={name: gpt, dim: 16, depth: 1, heads: 2}"]
    config = load_config("digits", text)
    check_components(config)
    with pytest.raises(RunError, match=r"scored on a test set.*texts keep data\.test_fraction"):
        check_components(config, "test")
