"""The map: what is near, what is left out, and that it is always the same."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analysis import map as maps
from search_spaces.parser import parse
from tests.made_reports import made_study, searched


def outputs(*formulas: str, turned: bool = True) -> np.ndarray:
    return maps.outputs([parse(formula) for formula in formulas], turned)


def test_outputs_have_mean_0_and_deviation_1_and_forget_scale_and_shift():
    rows = outputs("tanh(x)", "3 * tanh(x) + 7", "x ** 2")
    np.testing.assert_allclose(rows.mean(axis=1), 0, atol=1e-12)
    np.testing.assert_allclose(rows.std(axis=1), 1)
    np.testing.assert_allclose(rows[0], rows[1], atol=1e-9)


def test_a_function_and_its_reflection_are_one_unless_told_otherwise():
    there, back = outputs("max(x, 0)", "min(x, 0)")
    np.testing.assert_allclose(there, back, atol=1e-12)
    there, back = outputs("max(x, 0)", "min(x, 0)", turned=False)
    assert np.abs(there - back).max() > 1


def test_constant_and_infinite_functions_have_no_outputs():
    rows = outputs("x - x", "log(x)", "sin(x)")
    assert np.isnan(rows).any(axis=1).tolist() == [True, True, False]


def test_similar_functions_are_near_each_other_and_the_map_is_always_the_same(tmp_path):
    waves = {f"sin({3 + n / 100} * x)": 0.5 for n in range(20)}
    ramps = {f"max({1 + n / 100} * x, 0.01 * x)": 0.6 for n in range(20)}
    with made_study(tmp_path, searched(waves | ramps)) as study:
        table, again = maps.space_map(study), maps.space_map(study)
    pd.testing.assert_frame_equal(table, again)
    points = table[table["kind"] == "searched"].set_index("formula")[["across", "up"]]
    wave, ramp = points.loc[list(waves)], points.loc[list(ramps)]
    apart = np.linalg.norm(wave.mean() - ramp.mean())
    assert np.linalg.norm(wave - wave.mean(), axis=1).max() < apart
    relu = table[table["name"] == "ReLU"][["across", "up"]].to_numpy()[0]
    assert np.linalg.norm(relu - ramp.mean()) < np.linalg.norm(relu - wave.mean())


def test_of_too_many_the_best_the_named_and_a_fixed_random_rest_are_shown():
    functions = pd.DataFrame({"place": np.arange(100.0), "name": [None] * 100})
    functions.loc[3, "name"] = "ReLU"
    chosen = maps.choose(functions, 20)
    assert len(chosen) == 20
    assert set(range(95, 100)) | {3} <= set(chosen.index)
    assert list(chosen.index) == list(maps.choose(functions, 20).index)
    assert list(maps.choose(functions, 100).index) == list(range(100))


def test_what_has_no_place_is_counted(tmp_path):
    with made_study(tmp_path, searched({"sin(x)": 0.5, "log(x)": 0.4, "tanh(x)": 0.3})) as study:
        table = maps.space_map(study)
    assert table.attrs == {"left_out": 0, "infinite": 1}
    assert (table["kind"] == "searched").sum() == 2


def test_names_do_not_cover_each_other():
    named = pd.DataFrame(
        {"across": [0.0] * 8, "up": [0.0] * 8, "name": ["SiLU"] * 8, "kind": ["landmark"] * 7 + ["searched"]}
    )
    table = pd.concat([named, pd.DataFrame({"across": [10.0], "up": [10.0]})])
    places = maps.place_labels(named, table)
    assert places[-1] == "top center"  # of the search, so it comes first
    assert sorted(place for place in places if place) == ["bottom center", "top center"]  # beside would be cut off


def test_names_cover_no_other_point_of_a_name_and_completed_functions_only_if_they_must():
    named = pd.DataFrame({"across": [5.0, 5.0], "up": [5.0, 5.5], "name": ["ReLU", "GELU"], "kind": "landmark"})
    ends = pd.DataFrame({"across": [0.0, 10.0], "up": [0.0, 10.0]})
    assert maps.place_labels(named, pd.concat([named, ends])) == ["bottom center", "top center"]
    around = pd.DataFrame({"across": [5.0, 5.0], "up": [4.6, 5.9], "state": "COMPLETE"})
    sides = maps.place_labels(named, pd.concat([named, ends, around]))
    assert all(side.startswith("middle") for side in sides)
