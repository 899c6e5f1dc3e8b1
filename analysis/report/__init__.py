"""The report of a study as a document without a format: sections of sentences, tables and figures.

``analysis.report.html`` and ``analysis.report.markdown`` write it. All text is plain text here; whoever writes it
escapes it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from analysis.leaders import Leaders, leaders
from analysis.report import facts, sections
from analysis.report.parts import Section
from analysis.report.verdict import Verdict, verdict
from analysis.study import Study


@dataclass(frozen=True)
class Report:
    """A document.

    Attributes:
        title: name of the study.
        written: when, in local time.
        searched: what was searched, pairs of a word and a text.
        verdict: on the best find.
        sections: in their order.
    """

    title: str
    written: str
    searched: tuple[tuple[str, str], ...]
    verdict: Verdict
    sections: tuple[Section, ...]


_SECTIONS: tuple[Callable[[Study, Leaders], Section], ...] = (
    sections.progress,
    sections.leaderboard,
    sections.curves,
    sections.learning,
    sections.space_map,
    sections.operators,
    sections.complexity,
    sections.failures,
    sections.transfer,
    facts.configuration,
)


def make_report(study: Study, chosen: Leaders | None = None) -> Report:
    """The report of a study as it is now.

    Args:
        study: what to report on.
        chosen: its leaders, if they are known already.
    """
    chosen = chosen or leaders(study)
    return Report(
        title=study.name,
        written=time.strftime("%Y-%m-%d %H:%M"),
        searched=facts.searched(study),
        verdict=verdict(study, chosen.board),
        sections=tuple(section(study, chosen) for section in _SECTIONS),
    )
