"""How often a chain was tried, in the page that is published of it. The page of the report stage cannot hold that.

A sealed page follows from the results that it read: the same ones give the same bytes, whenever and however often it is made. The ledger of
runs is of a home folder and grows. So the sealed page has an empty place; where the page is published, the place holds what the ledger said
when the run began, which no later line changes. The line at the run's end has the digest of that page, so that it can be compared again.
"""

import re
from collections import Counter
from collections.abc import Mapping
from html import escape
from typing import Any

from stages.records.run_ledger import GOING_ON, LedgerError, RunLedger, Standing, run_row, tries_in_words
from stages.report.page import TRIES_CLOSE, TRIES_ELSEWHERE, TRIES_OPEN

_PLACE = re.compile(f"{re.escape(TRIES_OPEN)}.*?{re.escape(TRIES_CLOSE)}", re.DOTALL)
_EMPTY = f"{TRIES_OPEN}{TRIES_ELSEWHERE}{TRIES_CLOSE}"
MOST_RUNS = 40
_DAMAGED = "not known: a line of the ledger was changed, moved or removed since it was written"
_NOT_NAMED = "not known: the ledger of this home folder does not name this run"
Tries = Mapping[str, Any]  # said, head, line, num_earlier, runs


def tries_document(ledger: RunLedger, run: str) -> Tries | None:
    """What the ledger said when a run began, of the runs of its recipe; None for a run that it does not name. Raises LedgerError."""
    standing = ledger.as_of(run)
    if standing is None:
        return None
    recipe = standing.runs[-1].start["recipe"]
    rows = [run_row(one) for one in standing.runs if one.start["recipe"] == recipe]
    rows[-1]["outcome"] = "this run"
    shown = rows[-MOST_RUNS:]
    return {
        "said": _said(standing, run),
        "head": standing.head,
        "line": standing.line,
        "num_earlier": len(rows) - len(shown),
        "runs": shown,
    }


def _said(standing: Standing, run: str) -> str:
    """The number of tries, and how those before ended."""
    recipe = standing.runs[-1].start["recipe"]
    ended = Counter(one.outcome for one in standing.runs if one.start["recipe"] == recipe and one.outcome != GOING_ON)
    before = ", ".join(f"{count} {outcome}" for outcome, count in sorted(ended.items()))
    return f"{tries_in_words(standing.runs, run)}; {f'before it {before}' if before else 'none before it'}"


def known_tries(ledger: RunLedger, run: str) -> Tries:
    """The same; where the ledger is damaged or does not name the run it says so, which is no fault of the run."""
    try:
        return tries_document(ledger, run) or _unknown(_NOT_NAMED)
    except LedgerError:
        return _unknown(_DAMAGED)


def _unknown(why: str) -> Tries:
    return {"said": why, "head": "", "line": 0, "num_earlier": 0, "runs": []}


def with_tries(page: str, tries: Tries) -> str:
    """The page with its place filled; as it is where it has none."""
    return _PLACE.sub(lambda _: tries_html(tries), page, count=1)


def without_tries(page: str) -> str:
    """The page as it was sealed."""
    return _PLACE.sub(lambda _: _EMPTY, page, count=1)


def tries_html(tries: Tries) -> str:
    """The place, filled. `flows.bundle.check` has the same by its own hand."""
    said = f"<p>Runs up to the one that published this page: {escape(tries['said'])}.</p>"
    if not tries["runs"]:
        return f"{TRIES_OPEN}{said}{TRIES_CLOSE}"
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in tries["runs"][0])
    cells = [[escape("" if value is None else str(value)) for value in row.values()] for row in tries["runs"]]
    rows = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in cells)
    earlier = f"<p>{tries['num_earlier']:,} earlier runs are left out here.</p>" if tries["num_earlier"] else ""
    return (
        f'{TRIES_OPEN}{said}<div class="scroll" role="region" aria-label="Runs" tabindex="0"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>{earlier}<p>Line {tries['line']:,} of the ledger, sha256 "
        f"<code>{tries['head']}</code>: each line holds the sha256 of the one before it.</p>{TRIES_CLOSE}"
    )
