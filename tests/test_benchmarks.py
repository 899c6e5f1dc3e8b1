"""The benchmarks' arithmetic and what they say; never a time."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

FOLDER = Path(__file__).parent.parent / "benchmarks"


def run(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(FOLDER / name), *arguments], capture_output=True, text=True)


def rows(n: int) -> list[dict]:
    """Made-up trainings: every signal is the final accuracy with noise."""
    rng = np.random.default_rng(0)
    made = []
    for function in range(n):
        for seed in (0, 1):
            accuracy = function / n + rng.normal(0, 0.1)
            history = [
                {"epoch": e, "val_accuracy": accuracy + rng.normal(0, 1 / e), "val_loss": 1 - accuracy}
                | {"train_loss": 1 - accuracy, "train_loss_sum": e * (1 - accuracy)}
                for e in range(1, 5)
            ]
            initial = {"loss": 2.3, "logits_spread": 1.0, "first_gradient": 1.0, "last_gradient": 1.0}
            made.append(
                {"expression": f"f{function}", "seed": seed, "initial": initial | {"gradient_norm": accuracy}}
                | {"screened": None, "reason": None, "history": history, "annealed": history[:2], "seconds": 1.0}
            )
    made[0]["reason"] = "diverged"  # its function is in no figure
    made[2]["screened"] = "vanishes"
    return made


def test_rank_fidelity_crosses_the_seeds(tmp_path):
    made = rows(30)
    (tmp_path / "rows.json").write_text(json.dumps({"figures": {"data": "made up"}, "rows": made}))
    found = json.loads(run("rank_fidelity.py", "--rows", str(tmp_path / "rows.json"), "--json").stdout)
    assert found["figures"]["complete_with_both_seeds"] == 29
    assert (found["figures"]["failed"], found["figures"]["screened"]) == (1, 1)
    by_signal = {entry["signal"]: entry for entry in found["correlations"]}
    final = np.array([row["history"][-1]["val_accuracy"] for row in made[2:]]).reshape(-1, 2)
    early = np.array([row["annealed"][0]["val_accuracy"] for row in made[2:]]).reshape(-1, 2)
    ceiling = by_signal["final val_accuracy, other seed"]
    assert ceiling["spearman"] == pytest.approx(spearmanr(final[:, 0], final[:, 1]).statistic)
    expected = (spearmanr(early[:, 0], final[:, 1]).statistic + spearmanr(early[:, 1], final[:, 0]).statistic) / 2
    assert by_signal["epoch 1, annealed: val_accuracy"]["spearman"] == pytest.approx(expected)
    low, high = ceiling["interval"]
    assert low <= ceiling["spearman"] <= high


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_the_gpu_benchmark_says_that_there_is_none():
    done = run("gpu_child.py")
    assert done.returncode == 2
    assert done.stderr.startswith("error: this benchmark measures a GPU")


@pytest.mark.slow
def test_step_times_are_printed_for_every_variant():
    found = json.loads(run("step_time.py", "--models", "resnet8", "--steps", "1", "--json").stdout)
    by_variant = {row["variant"]: row for row in found["rows"]}
    assert by_variant["ReLU"]["to_relu"] == 1
    assert by_variant["plain loop"]["speed_to_plain_loop"] == 1
    assert len(by_variant) == 7
    assert all(row["ms_a_step"] > 0 for row in found["rows"])


@pytest.mark.parametrize(
    ("part", "ours"), [("attention", "Attention"), ("window", "Attention, window"), ("infini", "InfiniAttention")]
)
def test_plain_compositions_compute_what_the_components_compute(part, ours, monkeypatch):
    spec = importlib.util.spec_from_file_location("benchmark_modules", FOLDER / "modules.py")
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    monkeypatch.setattr(benchmark, "SEGMENT", 8)
    monkeypatch.setattr(benchmark, "WINDOW", 5)
    torch.manual_seed(0)
    plain, module = (benchmark.CASES[part][name](24) for name in ("plain", ours))
    with torch.no_grad():
        module.heads.qkv.weight.copy_(torch.cat([p.weight for p in (plain.q, plain.k, plain.v)]))
        module.heads.out.weight.copy_(plain.out.weight)
    x = torch.randn(1, 24, benchmark.DIM)
    torch.testing.assert_close(module(x), plain(x), atol=1e-5, rtol=1e-4)


@pytest.mark.slow
def test_modules_measures_time_and_memory_of_each_case():
    found = json.loads(
        run("modules.py", "--lengths", "64", "--parts", "rope", "--modes", "eager", "--seconds", "0.1", "--json").stdout
    )
    assert [row["variant"] for row in found["rows"]] == ["plain", "half", "interleaved"]
    assert all(row["ms"] > 0 and row["length"] == 64 for row in found["rows"])
    assert found["rows"][0]["speed_to_plain"] == 1


@pytest.mark.slow
def test_kernels_compares_every_way():
    sizes = ("--elements", "131072", "--repeats", "1", "--threads", "1")
    done = run("kernels.py", *sizes, "--functions", "SiLU", "--json")
    rows = json.loads(done.stdout)["rows"]
    assert [(row["dtype"], row["way"]) for row in rows] == [
        (dtype, way) for dtype in ("fp32", "bf16") for way in ("F.silu", "nas", "compile", "eager")
    ]
    assert all(row[key] > 0 for row in rows for key in ("forward_ms", "backward_gb_s", "backward_x_silu"))
