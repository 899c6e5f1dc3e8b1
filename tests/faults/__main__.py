"""Prints the table of faults; see the package."""

from __future__ import annotations

import argparse
import json
import sys

import tests.faults
from tests.faults.rounds import play, possible
from tests.faults.strikes import FAULTS


def line_of(row: dict[str, object]) -> str:
    return (
        f"{row['fault']!s:<30} {row['rounds']!s:>6} {row['lost']!s:>6} {row['doubled']!s:>8} {row['resumed_s']!s:>10}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=tests.faults.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--only", nargs="*", help="Parts of names.")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    wanted = [f for f in FAULTS if possible(f) and any(part in f.name for part in arguments.only or [""])]
    rows: list[dict[str, object]] = []
    if not arguments.json:
        print(line_of({name: name for name in ("fault", "rounds", "lost", "doubled", "resumed_s")}))
    for fault in wanted:
        outcomes, wrong = [], []
        for number in range(arguments.rounds):
            try:
                outcomes.append(play(fault, number))
            except AssertionError as error:
                wrong.append(f"round {number}: {error}")
        times = [outcome.seconds for outcome in outcomes if outcome.seconds is not None]
        rows.append(
            {
                "fault": fault.name,
                "rounds": arguments.rounds,
                "lost": sum(outcome.lost for outcome in outcomes),
                "doubled": sum(outcome.doubled for outcome in outcomes),
                "resumed_s": round(max(times), 1) if times else None,
                "otherwise_wrong": wrong,
            }
        )
        if not arguments.json:
            print(line_of(rows[-1]), *(f"  {text[:1500]}" for text in wrong), sep="\n", flush=True)
    if arguments.json:
        print(json.dumps(rows, indent=1))
    sys.exit(any(row["lost"] or row["doubled"] or row["otherwise_wrong"] for row in rows))


if __name__ == "__main__":
    main()
