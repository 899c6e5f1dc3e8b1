"""The sections of a report that have figures: what one sees in each, and what it does not say."""

from __future__ import annotations

import math

import pandas as pd

from analysis import map as maps
from analysis import operators as shares
from analysis import searched
from analysis.comparisons import SURE
from analysis.curves import learning as learning_of
from analysis.figures.course import BEYOND, groups
from analysis.intervals import with_intervals
from analysis.leaders import Leaders
from analysis.report.parts import Section, Table
from analysis.report.rows import board_table, transfer_table
from analysis.study import Study
from analysis.wording import label, prose, shown


def progress(study: Study, chosen: Leaders) -> Section:
    rows = searched.in_order(study)
    search = rows[rows["stage"] == searched.SEARCH]
    states = search["state"].value_counts()
    last = search["best"].dropna()
    seen = (
        "Every finished training of the search, and of the retraining after it, in the order of its end; the line is "
        "the best value so far in the search alone."
    )
    if len(last):
        at = 1 + int((search["best"] == last.iloc[-1]).to_numpy().argmax())
        best = shown(last.iloc[-1], study.objective)
        seen += f" Its best, {best}, came as number {at:,} of the {len(search):,} that were searched."
    counts = ", ".join(f"{states.get(state, 0):,} {word}" for state, word in _STATES)
    if beyond := len(groups(study, rows)[0].get(BEYOND, ())):
        seen += f" {beyond:,} that hardly trained lie beyond the axis and are drawn at its edge."
    return Section(
        "How the search went",
        f"{seen} Of the functions searched: {counts}.",
        "A rising line is no proof that the strategy learns: the best of ever more draws rises by itself. Each value "
        "is of one training; the best one is partly lucky.",
        figure="progress",
    )


_STATES = (("COMPLETE", "completed"), ("PRUNED", "pruned"), ("FAIL", "failed"))


def leaderboard(study: Study, chosen: Leaders) -> Section:
    rows = with_intervals(chosen.listed)
    seen = (
        "The best functions, and the baselines, as the leaderboard has them: those with the most trustworthy training "
        "first (confirmed, retrained, searched), then by their mean over seeds; bars are 95 % intervals of that mean."
    )
    if len(rows):
        line = "; the dotted line is ReLU" if (rows["name"] == "ReLU").any() else ""
        seen += f" Shown: {label(rows['metric'].iloc[0])}{line}."
        single = rows[rows["n_seeds"] < 2]
        if len(single):
            picked = ", with the seed by which the function was picked" if (single["stage"] == "search").all() else ""
            seen += f" Open circles are single trainings{picked}."
        left_out = len(chosen.listed) - len(rows)
        if left_out:
            seen += f" {left_out} rows of the table were judged on other data, or not completed, and are not drawn."
    return Section(
        "Leaderboard",
        seen,
        "Intervals that overlap are no proof of equality, nor is one that excludes another's mean proof of a "
        f"difference: the paired tests in the table are (p, by Holm's method, below {SURE}). Intervals of few seeds "
        "are too short.",
        figure="intervals",
        tables=(board_table(chosen.listed),) if len(chosen.listed) else (),
    )


def curves(study: Study, chosen: Leaders) -> Section:
    level = study.config.get("search", {}).get("equivalence", "reflection")
    same = (
        " f(x) and -f(-x) count as one function, so a curve may stand for its reflection." if level != "exact" else ""
    )
    return Section(
        "The functions",
        "The best finds with their slopes, beside ReLU and SiLU, on [-5, 5]; most of what a network with normalisation "
        f"puts in lies within ±3.{same}",
        "Learnable parameters are drawn at their initial value 1; after training they have others. That two curves "
        "look alike does not make their results alike, nor the reverse.",
        figure="curves",
    )


def learning(study: Study, chosen: Leaders) -> Section:
    metric, table = learning_of(study, chosen.drawn)
    seeds = table.groupby("function_key")["id"].nunique() if len(table) else pd.Series(dtype=int)
    what = f"The {prose(metric)} after every reported epoch, of the best finds and of ReLU and SiLU"
    seen = f"{what}: every seed thin, their mean bold." if len(table) else "No learning curve is recorded."
    if len(seeds):
        seen += f" {_number(int(seeds.min()), int(seeds.max()))} seeds a function."
    return Section(
        "Learning curves",
        seen,
        "Where a curve stands in the middle of training says little about its end: the learning rate is still large "
        "there. A gap that is smaller than the spread of the thin lines is noise.",
        figure="learning",
    )


def _number(low: int, high: int) -> str:
    return str(low) if low == high else f"{low} to {high}"


def space_map(study: Study, chosen: Leaders) -> Section:
    table = maps.space_map(study)
    on_it = int((table["kind"] == "searched").sum())
    seen = (
        f"{on_it:,} functions of the search; those with similar graphs lie near each other (t-SNE of their outputs on "
        "inputs from N(0,1), brought to mean 0 and standard deviation 1). Stars are known functions, some of which the "
        "search may not have had."
    )
    left_out, infinite = table.attrs["left_out"], table.attrs["infinite"]
    if left_out:
        seen += f" {left_out:,} more are left out at random; the best are all here."
    if infinite:
        seen += f" {infinite:,} that were looked at are constant or infinite within ±3 and have no place."
    return Section(
        "Map of the functions",
        seen,
        "Only neighbourhoods mean something: neither the axes, nor the distance or the size of groups. Scale and shift "
        "are not seen here, though they matter in training.",
        figure="space_map",
    )


def operators(study: Study, chosen: Leaders) -> Section:
    functions = shares.uses(study)
    table = shares.operator_shares(functions) if len(functions) else pd.DataFrame()
    sure = list(table.loc[table["p"] < SURE, "operator"]) if len(table) else []
    best = int(functions["best"].sum()) if len(functions) else 0
    seen = (
        f"For every operator, its share among the best {best} functions (the best tenth; bars: 95 % Wilson intervals) "
        f"and among all {len(functions)} that were searched. "
    )
    seen += f"Beyond chance, after Holm's correction: {', '.join(sure)}." if sure else "No difference is beyond chance."
    return Section(
        "What winners share",
        seen,
        "All are those that this search chose to train, not the whole space; results are of one training each. An "
        "operator may be frequent among the best because of its company. The statements of 2017 come from another "
        "space, network and budget; their intervals are not corrected for being several, and for sin and cos a single "
        "function is enough.",
        figure="operators",
        tables=(_findings_table(functions), *((_shares_table(table),) if len(table) else ())),
    )


def _shares_table(table: pd.DataFrame) -> Table:
    rows = tuple(
        (
            shares.written(row["operator"]),
            f"{row['best_count']}",
            _percent(row["best_share"]),
            f"{row['count']}",
            _percent(row["share"]),
            "" if math.isnan(row["lift"]) else f"{row['lift']:.2f} ({row['lift_low']:.2f} to {row['lift_high']:.2f})",
            "" if math.isnan(row["p"]) else f"{row['p']:.2g}",
        )
        for _, row in table.iterrows()
    )
    header = ("operator", "of the best", "%", "of all", "%", "lift (95 %)", "p (Holm)")
    return Table(header, rows, caption="Operators, by lift: the share among the best by the share among all.")


def _percent(share: float) -> str:
    return "" if math.isnan(share) else f"{100 * share:.0f}"


def _findings_table(functions: pd.DataFrame) -> Table:
    found = shares.findings(functions) if len(functions) else []
    rows = tuple((entry.statement, entry.verdict, entry.numbers) for entry in found)
    caption = "What the search of 2017 found (Ramachandran, Zoph and Le, arXiv 1710.05941), counted in this study."
    return Table(("in 2017", "here", "numbers"), rows, caption=caption)


def complexity(study: Study, chosen: Leaders) -> Section:
    functions = searched.searched(study)
    done = functions[functions["state"] == "COMPLETE"]
    sizes = functions["complexity"].dropna()
    seen = "Results of completed functions by their number of nodes (above; boxes are quartiles)"
    seen += ", and what became of all functions of that size (below)."
    if len(sizes):
        seen += f" {len(functions):,} functions with {sizes.min()} to {sizes.max()} nodes."
    return Section(
        "Simple or complicated",
        seen,
        f"The boxes show survivors only: {len(done):,} of {len(functions):,}; so look at both halves. A formula can be "
        "longer than need be, and a learnable parameter counts as a node like any other.",
        figure="complexity",
    )


def failures(study: Study, chosen: Leaders) -> Section:
    table = searched.failures_by_reason(study)
    total, trained = int(table["trials"].sum()), len(study.trials)
    rows = tuple(
        (f"{row['trials']:,}", f"{row['functions']:,}", row["example"] if row["trials"] == 1 else row["pattern"])
        for _, row in table.head(30).iterrows()
    )
    return Section(
        "Failures",
        f"{total:,} of {trained:,} trainings failed"
        + ("; reasons that differ in numbers only are one, with N for the number." if total else "."),
        "A failure is one under this recipe: with a smaller learning rate or another initialisation the function might "
        "have trained. Pruned functions are no failures.",
        figure="failures" if total else "",
        tables=(Table(("trainings", "functions", "reason"), rows),) if total else (),
    )


def transfer(study: Study, chosen: Leaders) -> Section:
    table, counted = transfer_table(study)
    if table is None:
        return Section(
            "Elsewhere",
            "The functions were not tried with another model or other data.",
            "So nothing is known about how they do there. To try: nas confirm RUN --also CONFIG",
        )
    return Section(
        "Elsewhere",
        f"Differences to ReLU on the test set, with 95 % intervals, in {counted} settings; a star marks those that are "
        f"significant after Holm's correction within their setting (p < {SURE}).",
        "A setting is one model, data set and recipe, tuned for none of these functions; a few settings are no sample "
        "of all.",
        tables=(table,),
    )
