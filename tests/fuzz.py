"""Throws bad input at everything that reads input, and looks for tracebacks, hangs and executed code.

    python -m tests.fuzz [--inputs 10000] [--seed 0] [--json]

Inputs are real ones (the shipped configurations, formulas of every kind, stores and tables of small studies) with
random damage, and with payloads that would create a file if anything evaluated them. Each is either read, or refused
with one of the project's own errors, within seconds; no process is started, and nothing is unpickled.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import signal
import sqlite3
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

SECONDS = 20.0
MARK = Path(tempfile.gettempdir()) / "nas-fuzz-was-here"
PAYLOADS = [
    f"__import__('os').system('touch {MARK}')",
    f"().__class__.__base__.__subclasses__()[0]('touch {MARK}')",
    f"!!python/object/apply:os.system ['touch {MARK}']",
    f"!!python/object/new:subprocess.Popen [['touch', '{MARK}']]",
    f"exec(\"open('{MARK}','w')\")",
    f'"""\nopen("{MARK}", "w")\n"""',
    f"$(touch {MARK})",
    f"`touch {MARK}`",
    "../../../../etc/passwd",
    "{{7*7}}",
    "%s%n\x00\x1b[2J",
    "𝔵" * 50,
    "(" * 5000,
    "x" + "^2" * 3000,
    "9" * 5000,
    "1e999999",
    ".inf",
    "null",
    "- " * 2000,
    "&a [*a]",
    "-1",
    "",
]
FORBIDDEN = ("os.system", "os.exec", "os.posix_spawn", "os.spawn", "subprocess.Popen", "pickle.find_class")


class Executed(BaseException):
    """An input made something run."""


class TooLong(BaseException):
    """An input took longer than it may."""


Reader = Callable[[random.Random, Path], None]


def mutated(text: str, chance: random.Random) -> str:
    """A text with some damage."""
    for _ in range(chance.randint(1, 4)):
        at, to = sorted(chance.randrange(len(text) + 1) for _ in range(2))
        to = min(to, at + chance.choice((0, 1, 3, 12)))
        small = ("", text[at:to] * 2, chr(chance.randrange(1, 0x2FF)), ": ", "[", "\n")
        new = chance.choice((*small, chance.choice(PAYLOADS)))
        text = text[:at] + new + text[to:]
    return text


def formulas(chance: random.Random) -> str:
    from search_spaces.known import NAMED

    text = chance.choice([*NAMED.values(), "max(x, beta * x, 0)", "x1 * x2"])
    return mutated(text, chance) if chance.random() < 0.8 else chance.choice(PAYLOADS)


def read_formula(chance: random.Random, folder: Path) -> None:
    from nas.show import find_expression
    from search_spaces.equivalence import rejection

    rejection(find_expression(formulas(chance)))


def read_config(chance: random.Random, folder: Path) -> None:
    from nas.config import load_config
    from nas.yaml_config import shipped_configs

    name, path = chance.choice(sorted(shipped_configs().items()))
    file = folder / f"{name}.yaml"
    file.write_text(mutated(path.read_text(), chance), encoding="utf-8", errors="replace")
    load_config(str(file))


def read_overrides(chance: random.Random, folder: Path) -> None:
    from nas.config import ExperimentConfig, load_config

    keys = [*ExperimentConfig.model_fields, "space.name", "space.units", "model.width", "data.root", "ray.address"]
    keys += ["search.trials", "trial.epochs", "retrain.top", "retrain.functions", "pruning.rungs", "strategy.kappa"]
    keys += ["warm_start.functions"]
    values = [*PAYLOADS, "[]", "{}", "{name: x}", "[1, 2]", "true", "x * sigmoid(x)", "1.5", "custom", "tpe", "auto"]
    texts = [f"{chance.choice(keys)}={chance.choice(values)}" for _ in range(chance.randint(1, 3))]
    load_config("digits", [mutated(text, chance) if chance.random() < 0.3 else text for text in texts])


def read_comparison(chance: random.Random, folder: Path) -> None:
    from nas.comparison import load_comparison
    from nas.yaml_config import shipped_configs

    file = folder / "comparison.yaml"
    file.write_text(mutated(shipped_configs()["passkey"].read_text(), chance), encoding="utf-8", errors="replace")
    load_comparison(str(file))


def read_study(run: Path) -> None:
    """All that is done with somebody's study."""
    from analysis.recovery import recover
    from nas.check import check_run
    from nas.export import export_top

    each_refuses_by_itself(
        lambda: read_leaderboards(run),
        lambda: check_run(run),
        lambda: export_top(run, 1, run / "export"),
        lambda: recover(run, run / "recovered"),
        lambda: read_leaderboards(run / "recovered") if (run / "recovered").exists() else None,
    )


def read_leaderboards(run: Path) -> None:
    from analysis.filters import Wanted
    from analysis.study import Study, together
    from nas.tables import leaderboard_csv, leaderboard_json, leaderboard_note, leaderboard_table

    with Study(run) as study:
        rows = together([study], Wanted())
        leaderboard_table(rows, 120)
        leaderboard_note(rows)
        leaderboard_csv(rows)
        leaderboard_json(rows)
        Wanted(family="swish", max_complexity=5, pareto="complexity").of(rows)
        for setting in study.settings:
            study.leaderboard(setting=setting)
        _ = study.epochs


def each_refuses_by_itself(*readers: Callable[[], object]) -> None:
    """A refusal by one of several readers of the same file is not to hide what the others do."""
    refusal = None
    for read in readers:
        try:
            read()
        except ValueError as error:
            if not is_refusal(error):
                raise
            refusal = error
    if refusal is not None:
        raise refusal


def read_damaged_store(chance: random.Random, folder: Path) -> None:
    """Bytes of the file."""
    run = folder / "run"
    shutil.copytree(STUDIES[0], run)
    content = bytearray((run / "study.db").read_bytes())
    for _ in range(chance.choice((1, 3, 30))):
        content[chance.randrange(len(content))] = chance.randrange(256)
    if chance.random() < 0.2:
        content = content[: chance.randrange(len(content))]
    (run / "study.db").write_bytes(content)
    read_study(run)


def read_forged_store(chance: random.Random, folder: Path) -> None:
    """A whole file with values that we would not have written."""
    run = folder / "run"
    shutil.copytree(STUDIES[0], run)
    with closing(sqlite3.connect(run / "study.db")) as db, db:
        for _ in range(chance.randint(1, 3)):
            forge(db, chance)
    read_study(run)


def forge(db: sqlite3.Connection, chance: random.Random) -> None:
    value = chance.choice([*PAYLOADS, None, 7, -1, 2.5, b"\x80\x04\x95", "[]", "{}", "nan", "x"])
    if chance.random() < 0.3:
        key = chance.choice(
            ("config", "version", "proposals", "known_keys", "warm_start", "created", "search_seconds", "settings")
        )
        text = chance.choice([json.dumps(value if not isinstance(value, bytes) else "?"), "{", "NaN", *PAYLOADS])
        if key == "config" and chance.random() < 0.7:
            (stored,) = db.execute("SELECT value FROM study WHERE key = 'config'").fetchone()
            text = mutated(stored, chance)
        db.execute("INSERT OR REPLACE INTO study VALUES (?, ?)", (key, text))
        return
    columns = [row[1] for row in db.execute("PRAGMA table_info(trials)")]
    column = chance.choice(columns)
    (number,) = db.execute("SELECT id FROM trials ORDER BY random() LIMIT 1").fetchone()
    if column in ("trial", "result") and chance.random() < 0.8:
        (stored,) = db.execute(f"SELECT {column} FROM trials WHERE id = ?", (number,)).fetchone()
        value = mutated(stored or "{}", chance)
    with suppress(sqlite3.IntegrityError):  # the schema's own refusal
        db.execute(f"UPDATE trials SET {column} = ? WHERE id = ?", (value, number))


def read_damaged_table(chance: random.Random, folder: Path) -> None:
    from analysis.yardstick import read_table

    shutil.copytree(STUDIES[1], folder / "table")
    file = folder / "table" / chance.choice(("functions.parquet", "trainings.parquet"))
    content = bytearray(file.read_bytes())
    for _ in range(chance.choice((1, 3, 30))):
        content[chance.randrange(len(content))] = chance.randrange(256)
    file.write_bytes(content)
    read_table(folder / "table")


READERS: dict[str, Reader] = {
    "formula": read_formula,
    "configuration": read_config,
    "overrides": read_overrides,
    "comparison": read_comparison,
    "damaged store": read_damaged_store,
    "forged store": read_forged_store,
    "damaged table": read_damaged_table,
}
STUDIES: list[Path] = []
_watching = False


def _audit(event: str, arguments: tuple[object, ...]) -> None:
    if _watching and event.startswith(FORBIDDEN):
        raise Executed(f"{event}{arguments}"[:300])


@contextmanager
def watched() -> Iterator[None]:
    """No execution, no hang."""
    global _watching

    def too_long(*_: object) -> None:
        raise TooLong(f"more than {SECONDS:g} s")

    before = signal.signal(signal.SIGALRM, too_long)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    _watching = True
    try:
        yield
    finally:
        _watching = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def is_refusal(error: BaseException) -> bool:
    """Whether the command line would print it as one sentence."""
    from nas.cli import _is_ours

    return isinstance(error, ValueError) and _is_ours(error)


def throw(kind: str, seed: int) -> str | None:
    """One input; what was wrong, None if nothing was: it was read or refused."""
    with tempfile.TemporaryDirectory(prefix="nas-fuzz-") as folder:
        try:
            with watched():
                READERS[kind](random.Random(seed), Path(folder))
        except (Exception, Executed, TooLong) as error:
            if not is_refusal(error):
                last = traceback.extract_tb(error.__traceback__)[-1]
                return f"{type(error).__name__}: {str(error)[:200]} ({Path(last.filename).name}:{last.lineno})"
    if MARK.exists():
        MARK.unlink()
        return "a payload ran"
    return None


def prepare(folder: Path) -> None:
    """A study with its export, and a table, for the readers to damage."""
    import torch

    from tests.made_studies import study

    torch.set_num_threads(1)
    study(folder / "study")
    STUDIES[:] = [folder / "study", Path(__file__).resolve().parent.parent / "tables" / "three_node_digits"]
    MARK.unlink(missing_ok=True)
    sys.addaudithook(_audit)


def fuzz(inputs: int, seed: int) -> tuple[Counter[str], dict[str, list[str]]]:
    """So many inputs of each kind in turn; how many there were, and what was wrong with which."""
    thrown: Counter[str] = Counter()
    wrong: dict[str, list[str]] = {}
    kinds = [*READERS]
    for number in range(inputs):
        kind = kinds[number % len(kinds)]
        thrown[kind] += 1
        fault = throw(kind, seed + number)
        if fault:
            wrong.setdefault(kind, []).append(f"seed {seed + number}: {fault}")
    return thrown, wrong


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="nas-fuzz-") as folder:
        prepare(Path(folder))
        thrown, wrong = fuzz(arguments.inputs, arguments.seed)
    if arguments.json:
        print(json.dumps({"inputs": thrown, "wrong": wrong}, indent=1))
    else:
        for kind, number in thrown.items():
            print(f"{kind:<15} {number:>6} inputs, {len(wrong.get(kind, []))} wrong")
            print(*(f"    {fault}" for fault in wrong.get(kind, [])[:20]), sep="\n", end="\n" if kind in wrong else "")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
