"""TensorBoard's event files, read by a parser of the documented format, and by TensorBoard where it is installed."""

from __future__ import annotations

import struct

import pytest
from tensorboardX.proto.event_pb2 import Event

from tests.nas.loggers.logged import best_so_far, go_on


def files(path):
    return sorted((path / "tensorboard").glob("*tfevents*"))


def events(path) -> list[Event]:
    """Of all files of a study."""
    found = []
    for file in files(path):
        content = file.read_bytes()
        while content:
            (length,) = struct.unpack("<Q", content[:8])
            found.append(Event.FromString(content[12 : 12 + length]))
            content = content[16 + length :]
    return found


def curves(path) -> dict[str, list[tuple[int, float]]]:
    found: dict[str, list[tuple[int, float]]] = {}
    for event in events(path):
        for value in event.summary.value:
            if value.HasField("simple_value"):
                found.setdefault(value.tag, []).append((event.step, value.simple_value))
    return found


def check(drawn, records) -> None:
    steps = range(1, len(records) + 1)
    assert drawn["seconds"] == [(step, pytest.approx(r.result.seconds)) for step, r in zip(steps, records, strict=True)]
    failures = [sum(r.result.state == "FAIL" for r in records[:step]) for step in steps]
    assert drawn["failures"] == list(zip(steps, failures, strict=True))
    best = [(step, pytest.approx(b)) for step, b in zip(steps, best_so_far(records), strict=True) if b is not None]
    assert drawn["val_accuracy/best"] == best
    for stage in ("search", "retrain"):
        assert drawn[f"val_accuracy/{stage}"] == [
            (step, pytest.approx(r.result.metrics["val_accuracy"]))
            for step, r in zip(steps, records, strict=True)
            if r.trial.stage == stage and r.result.state == "COMPLETE"
        ]


def test_curves_over_the_finished_trials(tmp_path):
    records = go_on(tmp_path, "search.trials=15", "loggers=tensorboard")
    check(curves(tmp_path), records)
    assert len(files(tmp_path)) == 1
    assert events(tmp_path)[0].file_version == "brain.Event:2"
    texts = [
        value.tensor.string_val[0].decode()
        for event in events(tmp_path)
        for value in event.summary.value
        if value.tag == "best/text_summary"
    ]
    best = best_so_far(records)
    assert len(texts) == len({b for b in best if b is not None})
    top = next(r for r, b in zip(records, best, strict=True) if b == best[-1])
    assert texts[-1].startswith(f"`{top.formula}`")
    assert f"{best[-1]:.4f}" in texts[-1]


def test_a_resume_adds_a_file_and_no_step_twice(tmp_path):
    go_on(tmp_path, "search.trials=15", steps=6)
    records = go_on(tmp_path, "search.trials=15")
    assert len(files(tmp_path)) == 2
    check(curves(tmp_path), records)
    go_on(tmp_path, "search.trials=15")  # nothing is left to do
    assert len(files(tmp_path)) == 2


def test_a_file_cut_short_by_a_kill_is_completed_by_the_next(tmp_path):
    go_on(tmp_path, "search.trials=15", steps=6)
    (file,) = files(tmp_path)
    whole = file.read_bytes()
    for cut in range(1, 400, 37):
        file.write_bytes(whole[:-cut])
        for other in files(tmp_path):
            if other != file:
                other.unlink()
        records = go_on(tmp_path, "search.trials=15")
        kept = b"".join(e for e in _frames(file.read_bytes()))
        file.write_bytes(kept)  # what a reader takes of it
        check(curves(tmp_path), records)


def _frames(content: bytes):
    while len(content) >= 12:
        (length,) = struct.unpack("<Q", content[:8])
        if len(content) < 16 + length:
            return
        yield content[: 16 + length]
        content = content[16 + length :]


def test_pruned_trials_are_a_curve_of_their_own_and_smaller_may_be_better(tmp_path):
    pruned = ["trial.epochs=3", "pruning={metric: val_loss, rungs: [1]}", "search.objective=val_loss"]
    records = go_on(tmp_path, "search.trials=15", *pruned)
    states = {r.result.state for r in records}
    assert "PRUNED" in states
    drawn = curves(tmp_path)
    for curve, state in (("val_loss/pruned", "PRUNED"), ("val_loss/search", "COMPLETE")):
        assert drawn[curve] == [
            (step, pytest.approx(r.result.metrics["val_loss"]))
            for step, r in enumerate(records, 1)
            if r.result.state == state and r.trial.stage == "search"
        ]
    assert drawn["val_loss/best"][-1][1] == pytest.approx(min(v for _, v in drawn["val_loss/search"]))


def test_tensorboard_reads_the_same(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    go_on(tmp_path, "search.trials=15", steps=6)
    records = go_on(tmp_path, "search.trials=15")
    read = accumulator.EventAccumulator(str(tmp_path / "tensorboard"), size_guidance={"scalars": 0, "tensors": 0})
    read.Reload()
    drawn = {tag: [(e.step, e.value) for e in read.Scalars(tag)] for tag in read.Tags()["scalars"]}
    check(drawn, records)
    assert "best/text_summary" in read.Tags()["tensors"]
