"""Exported files: their own check, compiled, scripted, exported again, and what was edited."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import warnings
from io import StringIO

import pytest
import torch
from rich.console import Console

from nas.cli import main
from nas.exported import module_source
from nas.zoo import FOLDER, as_table, cards
from nas.zoo_build import module_of
from search_spaces.known import NAMED
from search_spaces.parser import parse


def module(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    made = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = made
    spec.loader.exec_module(made)
    return made


@pytest.fixture
def swish(tmp_path):
    path = tmp_path / "exported_swish.py"
    path.write_text(module_source(parse("x * sigmoid(beta * x)"), "Swish", "Made in a test.\n"))
    yield module(path)
    del sys.modules[path.stem]


def test_a_file_checks_itself(tmp_path, clean_environment):
    path = tmp_path / "found.py"
    path.write_text(module_source(parse("max(x, beta * x) + 0.1 * gamma * sinc(x)"), "Found", "Made in a test.\n"))
    command = [sys.executable, path.name]
    done = subprocess.run(command, cwd=tmp_path, env=clean_environment, capture_output=True, text=True)
    assert done.stdout == "Found: values, gradients and second gradients are right\n", done.stderr
    path.write_text(path.read_text().replace("0.1 * gamma", "0.11 * gamma"))
    done = subprocess.run(command, cwd=tmp_path, env=clean_environment, capture_output=True, text=True)
    assert done.returncode != 0
    assert "not close" in done.stderr


@pytest.mark.parametrize("name", NAMED)
def test_every_module_of_the_zoo_passes_its_own_check(name):
    module(FOLDER / f"{cards()[name]['module']}.py").check()


def test_compiled_once_it_computes_the_same(swish):
    x = torch.randn(2, 3, 4, requires_grad=True)
    plain, fused = swish.Swish(3), swish.Swish(3, fused=True)
    for act in (plain, fused):
        act(x).sum().backward()
    torch.testing.assert_close(fused(x), plain(x))
    torch.testing.assert_close(fused.beta.grad, plain.beta.grad)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.numel()) or t, lambda t: t):
        fused(x)
    assert sorted(kept) == [3, x.numel()]  # beta and x
    assert torch._dynamo.explain(fused)(x).graph_break_count == 0


def test_torchscript(swish):
    act, x = swish.Swish(3), torch.randn(2, 3, 4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it is deprecated
        torch.testing.assert_close(torch.jit.script(act)(x), act(x))
        torch.testing.assert_close(torch.jit.script(swish.Swish(3, fused=True))(x), act(x))


def test_torch_export(swish):
    act, x = swish.Swish(3), torch.randn(2, 3, 4)
    torch.testing.assert_close(torch.export.export(act, (x,)).module()(x), act(x))


def test_narrow_numbers_are_computed_in_wide_ones(swish):
    x = torch.linspace(-9, 9, 301).bfloat16()
    torch.testing.assert_close(swish.Swish()(x), torch.nn.functional.silu(x.float()).bfloat16(), rtol=0, atol=0)


def test_the_zoo_is_what_would_be_written_today():
    """Formula, exporter and files agree; nas.zoo_build writes them anew."""
    for name in NAMED:
        cls, text = module_of(name)
        card = cards()[name]
        assert (card["class"], card["formula"]) == (cls, NAMED[name])
        assert (FOLDER / f"{card['module']}.py").read_text() == text
    assert len(list(FOLDER.glob("*.json"))) == len(NAMED)


def test_cards_say_what_the_tables_say():
    from nas.zoo_build import task_results

    found = task_results(FOLDER.parents[3] / "tables" / "three_node_cifar10")
    assert found["ReLU"]["vs_relu"] is None
    assert cards()["SiLU"]["results"] == [found["SiLU"]]
    assert "GELU" not in found  # which that space does not hold


def test_cards_say_what_the_studies_say():
    from nas.zoo_build import once, study_results

    studies = FOLDER.parents[3] / "docs" / "studies"
    rows = [row for path in sorted(studies.glob("*/study.db")) for row in study_results(path.parent)]
    for name, card in cards().items():
        assert card["confirmed"] == once(row for key, row in rows if key == name)
    settings = [result["setting"] for result in cards()["two slopes"]["confirmed"]]
    assert settings == ["study_cifar10", "learning_rate_0.1", "resnet20", "study_shakespeare"]


def test_the_list_counts_settings_that_a_function_won_and_has_sources_where_there_is_room():
    won = [row["vs_relu_holm"] < 0.05 and row["vs_relu"] > 0 for row in cards()["two slopes"]["confirmed"]]
    assert won == [True, True, True, False]  # in the last one less is better, and p is 1
    for width, has_sources in ((140, True), (90, False)):
        console = Console(width=width, file=StringIO())
        console.print(as_table(width))
        text = console.file.getvalue()
        assert "3 of 4" in next(line for line in text.splitlines() if line.startswith("two slopes"))
        assert ("Nair and Hinton" in text) == has_sources


def test_figures_of_a_card_are_those_of_scipy():
    import pandas as pd
    from scipy import stats

    from nas.zoo_build import figures

    ours, relu = pd.Series([0.5, 0.52, 0.57]), pd.Series([0.5, 0.49, 0.55])
    test = stats.ttest_rel(ours, relu).confidence_interval(0.95)
    found = figures(ours, relu)
    assert found["vs_relu"] == pytest.approx((test.low + test.high) / 2, abs=1e-4)
    assert found["vs_relu_ci95"] == pytest.approx((test.high - test.low) / 2, abs=1e-4)


def test_nas_zoo(tmp_path, monkeypatch, capsys):
    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["nas", "zoo", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        return ended.value.code, printed.out, " ".join(printed.err.replace("│", " ").split())

    listed = run()[1]
    assert all(f"\n{name} " in f"\n{listed}" for name in NAMED)
    assert "x * sigmoid(x)" in run("silu")[1]
    assert json.loads(run("SiLU", "--json")[1])["class"] == "SiLU"
    assert len(json.loads(run("--json")[1])) == len(NAMED)
    assert run("SiLU", "--out", str(tmp_path)) == (0, f"{tmp_path / 'silu.py'}\n", "")
    assert (tmp_path / "silu.py").read_text() == (FOLDER / "silu.py").read_text()
    for arguments, why in (
        (("SiLo",), "did you mean"),
        (("--out", "x"), "give its NAME"),
        (("SiLU", "--out", "/dev/null/x"), "cannot be written"),
    ):
        code, out, error = run(*arguments)
        assert (code, out) == (2, "")
        assert why in error
