"""What docs/models.md shows can be typed as it stands, and prints what it says."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from tests.test_documents import ROOT, python_blocks

PAGE = ROOT / "docs" / "models.md"


@pytest.fixture(scope="module")
def printed(tmp_path_factory):
    done = subprocess.run(
        [sys.executable, "-c", python_blocks("docs/models.md")],
        cwd=tmp_path_factory.mktemp("page"),
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_page_runs_from_top_to_bottom(printed):
    assert printed.endswith("1 of 11 layers are trained at first\n")


def test_the_report_is_the_one_on_the_page(printed):
    block = re.search(r"^```\n(9 x ReLU.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    assert block is not None
    assert printed.startswith(block.group(1))


def test_what_comments_say_is_printed(printed):
    said = re.findall(r"# (\d+ x .+? -> \w+\(\))", PAGE.read_text())
    assert len(said) == 2
    assert all(line in printed for line in said)


def test_its_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)#]+)\)", PAGE.read_text()):
        assert "://" in target or (PAGE.parent / target).exists(), target
