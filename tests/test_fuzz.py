"""Some hundred bad inputs of every kind, and what Hypothesis thinks of; ``python -m tests.fuzz`` throws 10,000."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.schema import About
from nas.config import ExperimentConfig, load_config, restore_config
from nas.loading import LoadError, find_expression
from nas.yaml_config import ConfigError
from search_spaces.parser import ParseError
from trainers.trial import Trial, TrialResult

KEYS = st.sampled_from([*ExperimentConfig.model_fields, "name", "trials", "epochs", "width", "units", ""])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS | st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def test_bad_inputs_are_read_or_refused():
    """In a process of its own, since the look-out for executed code stays with it."""
    process = subprocess.run(
        [sys.executable, "-m", "tests.fuzz", "--inputs", "140", "--seed", "20000", "--json"],
        capture_output=True,
        text=True,
        timeout=240,
    )
    found = json.loads(process.stdout)
    assert sum(found["inputs"].values()) == 140
    assert found["wrong"] == {}


@given(st.text(max_size=40) | st.text(alphabet="x()+-*/^,.0123456789 sigmoidtanhbeta", max_size=60))
def test_any_text_is_a_formula_or_a_sentence(text):
    with contextlib.suppress(ParseError, LoadError):
        find_expression(text.replace(":", ""))  # RUN:RANK would be looked for among the files


@settings(deadline=None, max_examples=50)
@given(st.dictionaries(KEYS, VALUES, max_size=5))
def test_any_mapping_is_a_configuration_or_a_list_of_faults(values):
    base = load_config("digits", ["strategy=random"]).model_dump(mode="json")  # the default takes a second to make
    with contextlib.suppress(ConfigError):
        restore_config({**base, **values})


@settings(deadline=None)
@given(KEYS, VALUES)
def test_any_override_is_applied_or_refused(key, value):
    with contextlib.suppress(ConfigError):
        load_config("digits", [f"{key}={json.dumps(value)}"])


@pytest.mark.parametrize("kind", [Trial, TrialResult])
@given(value=VALUES)
def test_any_json_is_a_trial_or_a_value_error(kind, value):
    with contextlib.suppress(ValueError):
        kind.from_json(json.dumps(value))


@given(VALUES)
def test_what_a_stranger_keeps_about_a_study_is_read_or_refused(value):
    with contextlib.suppress(ValueError):
        About.model_validate({"config": value, "settings": value})
