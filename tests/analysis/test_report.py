"""The report: what its verdict says of planted results, that it asks nothing of the net, that text stays text."""

from __future__ import annotations

import json
import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import yaml
from plotly.offline import get_plotlyjs

import analysis.report as report_of
from analysis.report import make_report
from analysis.report.html import html
from analysis.report.markdown import code, escaped, write_markdown
from analysis.report.parts import Table
from analysis.report.verdict import verdict
from analysis.study import Study
from nas.cli import main
from tests import made_studies
from tests.made_reports import made_study, repeated, searched

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"
RELU, SILU, NEW = "max(x, 0)", "x * sigmoid(x)", "x * tanh(x)"
BASE = np.array([0.90, 0.91, 0.905, 0.895, 0.9])


class Page(HTMLParser):
    """Tags with their attributes, and the text outside scripts."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        if self.tags and self.tags[-1][0] not in ("script", "style"):
            self.text += data


def rows(stage, *, new, silu=0.0, spread=0.001):
    noise = spread * np.array([1, -1, 0.5, -0.5, 0.2])
    values = {RELU: BASE, SILU: BASE + silu - noise, NEW: BASE + new + noise}
    found = searched({NEW: 0.9, "tanh(x)": 0.5})
    return found + [row for formula, accuracy in values.items() for row in repeated(formula, stage, list(accuracy))]


@pytest.mark.parametrize(
    ("stage", "new", "spread", "answer", "advice"),
    [
        ("confirm", 0.02, 0.001, "Yes, here: x * tanh(x) is better than ReLU and SiLU on the test set.", "worth a try"),
        (
            "retrain",
            0.02,
            0.001,
            "Perhaps: x * tanh(x) is better than ReLU and SiLU on validation data.",
            "nas confirm",
        ),
        ("confirm", -0.02, 0.001, "No: x * tanh(x), the best that was found, is worse than ReLU and SiLU", "Use ReLU"),
        ("confirm", 0.002, 0.02, "No difference is shown: x * tanh(x) may be no better than ReLU or SiLU", "no reason"),
    ],
)
def test_the_verdict_follows_the_tests(tmp_path, stage, new, spread, answer, advice):
    with made_study(tmp_path, rows(stage, new=new, spread=spread)) as study:
        found = verdict(study, study.leaderboard())
    assert found.answer.startswith(answer)
    assert advice in found.advice


def test_a_single_training_is_no_evidence(tmp_path):
    with made_study(tmp_path, searched({NEW: 0.99, RELU: 0.5})) as study:
        found = verdict(study, study.leaderboard())
    assert "trained only once" in found.answer
    assert "nas confirm" in found.advice


def test_better_than_one_of_both_is_said_as_such(tmp_path):
    with made_study(tmp_path, rows("confirm", new=0.02, silu=0.02)) as study:
        found = verdict(study, study.leaderboard())
    assert found.answer == (
        "Yes, here: x * tanh(x) is better than ReLU on the test set; that it is better than SiLU is not shown."
    )


def test_the_noise_floor_is_the_two_way_residual(tmp_path):
    with made_study(tmp_path, rows("confirm", new=0.01, spread=0.01)) as study:
        reasons = " ".join(verdict(study, study.leaderboard()).reasons)
        results = study.trials[study.trials["stage"] == "confirm"].pivot_table(
            index="formula", columns="seed", values="test_accuracy"
        )
    x = results.to_numpy()
    residual = x - x.mean(1, keepdims=True) - x.mean(0) + x.mean()
    std = np.sqrt((residual**2).sum() / ((len(x) - 1) * (x.shape[1] - 1)))
    assert f"varies by {100 * std:.2g} points" in reasons


def test_a_loss_is_better_when_smaller(tmp_path):
    study = made_study(tmp_path, rows("confirm", new=0.02), search={"objective": "val_loss"})
    with study:  # the loss of a made-up confirmation is 1 - accuracy
        assert verdict(study, study.leaderboard()).answer.startswith("Yes, here")


def test_sections_stand_in_their_order_and_say_what_they_do_not_say(tmp_path):
    with made_study(tmp_path, rows("confirm", new=0.02)) as study:
        report = make_report(study)
    titles = [section.title for section in report.sections]
    assert titles[0] == "How the search went"
    assert titles[-1] == "Configuration, versions, hardware"
    assert len(titles) == 10
    assert all(section.seen and section.unseen for section in report.sections)
    assert report.sections[-1].command.splitlines() == [
        "nas search config.yaml --run again",
        "nas confirm again --top 1 --seeds 5",
    ]


def test_what_is_needed_to_do_it_again(tmp_path):
    with made_study(tmp_path / "a", rows("retrain", new=0.02)) as study:
        assert make_report(study).sections[-1].command == "nas search config.yaml"
    with made_study(tmp_path / "b", rows("confirm", new=0.02)) as study:
        study.about["settings"] = {"other one": {"name": "other one"}}
        last = make_report(study).sections[-1]
    assert [(name, yaml.safe_load(text)) for name, text in last.files][1] == ("other one.yaml", {"name": "other one"})
    assert last.command.endswith("--also 'other one.yaml'")


def test_numbers_stand_at_the_right():
    cells = (("1", "x * 2", "98.20", "reference"), ("2", "x", "", "+0.06 ± 0.45"), ("3", "x", "98.11 to 98.94", ""))
    assert Table(("#", "formula", "95 %", "vs ReLU"), cells).numbers == {0, 2, 3}
    assert Table(("function", "digits"), (("ReLU", "98.56 (5); reference"),)).numbers == set()


def test_no_button_of_a_figure_hands_it_to_anybody():
    script = (Path(report_of.__file__).parent / "page.js").read_text()
    (buttons,) = re.findall(r"buttons = (\[\[.*?\]\])", script)
    assert set(json.loads(buttons)[0]) == {"toImage", "zoom2d", "pan2d", "zoomIn2d", "zoomOut2d", "resetScale2d"}
    assert "modeBarButtons: buttons" in script


def test_the_page_asks_nothing_of_the_net(tmp_path):
    with made_study(tmp_path, rows("confirm", new=0.02)) as study:
        text = html(study)
    page = Page(text)
    assert not [tag for tag, attrs in page.tags if {"src", "data", "action", "poster"} & set(attrs)]
    assert {attrs["href"][0] for _, attrs in page.tags if "href" in attrs} == {"#"}
    assert not [tag for tag, _ in page.tags if tag in ("link", "iframe", "object", "embed", "base", "form")]
    assert not re.search(r"https?://", text.replace(get_plotlyjs(), ""))
    (policy,) = [attrs["content"] for _, attrs in page.tags if attrs.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none'")
    scripts = [attrs for tag, attrs in page.tags if tag == "script"]
    assert [attrs.get("nonce") is not None for attrs in scripts] == [False, True, True]
    assert f"'nonce-{scripts[1]['nonce']}'" in policy


def hostile(path):
    made = rows("retrain", new=0.02)
    study = made_study(
        path, made, named={RELU: "ReLU", NEW: HOSTILE}, model={"name": HOSTILE, HOSTILE: 1}, name=HOSTILE
    )
    study.about["machine"] = {"packages": {HOSTILE: HOSTILE}, "gpus": [HOSTILE]}
    study.trials.loc[study.trials["formula"] == NEW, "formula"] = HOSTILE
    study.trials["likeness"] = study.trials["likeness"].astype(object)
    study.trials.loc[1, ["state", "reason"]] = ["FAIL", HOSTILE]
    return study


def test_hostile_text_is_text(tmp_path):
    with hostile(tmp_path) as study:
        text = html(study)
    page = Page(text.replace(get_plotlyjs(), ""))
    assert [tag for tag, _ in page.tags].count("script") == 3
    assert "img" not in {tag for tag, _ in page.tags}
    assert HOSTILE in page.text  # shown as it is


def test_markdown_has_no_tags_and_its_figures_exist(tmp_path):
    with hostile(tmp_path) as study:
        path = write_markdown(study, tmp_path / "report")
    text = path.read_text()
    outside = re.sub(r"```.*?```|`[^`\n]*`", "", text, flags=re.DOTALL)
    assert "<" not in outside
    assert "alert(1)" in outside
    names = re.findall(r"^!\[.*\]\((.*)\)$", text, re.MULTILINE)
    assert len(names) == 8
    assert all((path.parent / name).is_file() for name in names)


def test_markdown_escapes():
    assert escaped("a|b*c <b>") == r"a\|b\*c &lt;b&gt;"
    assert code("x | y") == r"`x \| y`"
    assert code("a`b") == "``a`b``"


@pytest.mark.parametrize("made", [[], searched({NEW: None, "tanh(x)": None}), [(NEW, "search", 0, None, "RUNNING")]])
def test_a_study_without_results_has_a_report(tmp_path, made):
    with made_study(tmp_path, made) as study:
        assert "no function that completed" in html(study)
        assert write_markdown(study, tmp_path / "report").is_file()


@pytest.fixture
def nas(monkeypatch, capsys):
    """The command line: exit code, and what is on standard error."""

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["nas", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
        return end.value.code, capsys.readouterr().err

    return call


def test_a_whole_search_by_the_command_line(tmp_path, nas):
    run = tmp_path / "run"
    made_studies.study(run)
    assert nas("report", run) == (0, "")
    page = (run / "report.html").read_text()
    assert "random" in Page(page.replace(get_plotlyjs(), "")).text
    assert nas("report", run, "--figures", tmp_path / "figures", "--figure-format", "svg") == (0, "")
    assert {path.suffix for path in (tmp_path / "figures").iterdir()} == {".svg"}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["{}"], "is not a study's directory"),
        (["{}/run", "--out", "{}"], "is a folder; name a file to write"),
        (["{}/run", "--out", "{}/run/study.db/x.html"], "cannot be written"),
        (["{}/run", "--figures", "{}/run/study.db"], "cannot be written"),
        (["{}/run", "--format", "docx"], "--format"),
    ],
)
def test_mistakes_are_one_sentence(tmp_path, nas, arguments, sentence):
    made_study(tmp_path / "run", searched({NEW: 0.9})).close()
    code, said = nas("report", *(argument.format(tmp_path) for argument in arguments))
    assert code == 2
    assert sentence in " ".join(said.split())


def test_functions_that_were_given_are_no_search(tmp_path):
    given = ["search.trials=0", "retrain.top=0", "retrain.functions=['x * tanh(x)']", "baselines=[ReLU, SiLU]"]
    made_studies.study(tmp_path / "mine", *given)
    with Study(tmp_path / "mine") as study:
        report = make_report(study)
    facts = dict(report.searched)
    assert facts["Functions"] == "given: nothing was searched"
    assert not {"Space", "Strategy"} & facts.keys()
    assert facts["Trained"] == "3 trainings"
    assert any(reason.startswith("The best of the functions given is x * tanh(x)") for reason in report.verdict.reasons)
