"""The report of a study as a document without a format: sections of sentences, tables and figures.

``analysis.report_html`` and ``analysis.report_markdown`` write it. All text is plain text here; whoever writes it
escapes it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from analysis import report_facts, report_sections
from analysis.leaders import Leaders, leaders
from analysis.report_parts import Section
from analysis.study import Study
from analysis.verdict import Verdict, verdict


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
    report_sections.progress,
    report_sections.leaderboard,
    report_sections.curves,
    report_sections.learning,
    report_sections.space_map,
    report_sections.operators,
    report_sections.complexity,
    report_sections.failures,
    report_sections.transfer,
    report_facts.configuration,
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
        searched=report_facts.searched(study),
        verdict=verdict(study, chosen.board),
        sections=tuple(section(study, chosen) for section in _SECTIONS),
    )
