"""`ring judge`: verdicts on responses in a file of JSON lines.

In: rows of `id`, `response` (or `code`), and `gold` or `tests` (with `limits` and `compare` of a code problem beside it). Out: one row of
`id, status, score, extracted, reason, seconds` for each, in order. A row that cannot be read is told with its line; the rest go on.
"""

import json
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from data.domains import DOMAINS, FAILED_STATUSES, Judge, Policy, Verdict
from data.domains.extraction import Program, language_named
from data.schema import Problem
from flows.console import shown, waiting

_BATCH = 64
_SHOWN = 60  # characters of what cannot be read
_TESTS = (
    'an object such as {"type": "stdin", "inputs": ["3"], "outputs": ["9"]} or a list of {"input": "3", "output": "9"}'
)


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the file: its number, and what to judge or why that cannot be read."""

    line: int
    id: str | int | None
    response: str | Program
    problem: Problem | None
    mistake: str = ""


def judge(
    file: Path,
    *,
    domain: str,
    require_thinking: Annotated[bool, Parameter(negative="")] = False,
    partial_credit: Annotated[bool, Parameter(negative="")] = False,
    packages: Annotated[tuple[str, ...], Parameter(negative="")] = (),
    unsafe_local_execution: Annotated[bool, Parameter(negative="")] = False,
) -> int:
    r"""Judge the responses of a file of JSON lines; print one JSON line for each, in order. Exit code 1 when a line cannot be read.

    Parameters
    ----------
    file
        Rows of {"id", "response", "gold"}. Code: "tests" for "gold", one of
        {"type": "stdin", "inputs": [TEXT], "outputs": [TEXT]},
        {"type": "call", "function": NAME, "inputs": [[ARGUMENT]], "outputs": [VALUE]},
        {"type": "asserts", "check": CODE},
        or a list of {"input": TEXT, "output": TEXT}; beside it "limits" and "compare", and "code" may stand for "response".
        An answer counts where it stands in \boxed{}, the letter of a choice too: "(B)" or "the answer is 3" alone is no_answer. Of code the
        last closed block counts.
    domain
        How to judge: math, code, science, gym (docs/reasoning-gym.md), or one of your own
        (docs/own-data.md). A row's own "domain" is not read.
    require_thinking
        A response without a closed `</think>` has no answer. Otherwise a response without such tags counts as a whole.
    partial_credit
        Science: half a point for some, but not all, of the right letters, and no wrong one.
    packages
        Packages that answers of code may import beside the standard library, as numpy; none by default.
    unsafe_local_execution
        Run code without a sandbox. Only on a machine that can be thrown away.

    """
    if domain not in DOMAINS:
        raise ValueError(f"no domain {domain!r}; there are {', '.join(DOMAINS)}")
    num_rows, statuses, mistakes = 0, Counter[str](), 0
    with Judge(
        unsafe_local_execution=unsafe_local_execution,
        requires_thinking=require_thinking,
        policy=Policy(partial_credit=partial_credit),
        packages=packages,
    ) as judge_:
        for batch in _batches(_rows(file, domain=domain)):
            with waiting(f"judging line {batch[0].line} and following"):
                verdicts = _verdicts(batch, judge_)
            for row, verdict in zip(batch, verdicts, strict=True):
                num_rows += 1
                statuses[verdict.status] += 1
                mistakes += row.problem is None
                sys.stdout.write(json.dumps({"id": row.id, **_shown(verdict)}) + "\n")
            sys.stdout.flush()
    _summarise(num_rows, statuses, mistakes)
    return 1 if mistakes else 0


def _shown(verdict: Verdict) -> dict[str, Any]:
    """Its fields; a mark such as `checker_failed` only where it is set."""
    return {name: value for name, value in asdict(verdict).items() if value is not False}


def _summarise(num_rows: int, statuses: Mapping[str, int], mistakes: int) -> None:
    counts = ", ".join(f"{count} {status}" for status, count in sorted(statuses.items()))
    sys.stderr.write(f"{num_rows} rows: {counts or 'none'}\n")
    failed = sum(statuses[status] for status in FAILED_STATUSES)
    if failed > mistakes:
        sys.stderr.write(
            f"the judge does not know {failed - mistakes} of them: count them neither as right nor as wrong\n"
        )
    if mistakes:
        sys.stderr.write(f"{mistakes} lines could not be read\n")


def _batches(rows: Iterator[Row]) -> Iterator[list[Row]]:
    batch: list[Row] = []
    for row in rows:
        batch.append(row)
        if len(batch) == _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _verdicts(batch: list[Row], judge_: Judge) -> list[Verdict]:
    """A verdict for each row; of the judge's failure where the line cannot be read."""
    judged = iter(judge_.verify([(row.response, row.problem) for row in batch if row.problem is not None]))
    broken = (Verdict("judge_error", 0.0, "", f"line {row.line}: {row.mistake}", 0.0) for row in batch)
    return [next(judged) if row.problem is not None else failure for row, failure in zip(batch, broken, strict=True)]


def _rows(file: Path, *, domain: str) -> Iterator[Row]:
    """Raises ValueError for a file that is not text; blank lines are no rows."""
    with file.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                row = _row(number, line, domain=domain)
                if row.mistake:
                    sys.stderr.write(shown(f"{file}:{number}: {row.mistake}\n"))
                yield row


def _row(number: int, line: bytes, *, domain: str) -> Row:
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError) as error:  # JSONDecodeError and UnicodeDecodeError are ValueErrors
        return Row(number, None, "", None, f"not JSON: {error}")
    if not isinstance(fields, dict):
        return Row(number, None, "", None, f"a JSON object is needed, this is a {type(fields).__name__}")
    identity = fields.get("id")
    identity = identity if isinstance(identity, str | int) else None
    mistake = _mistake(fields, domain=domain)
    if mistake:
        return Row(number, identity, "", None, mistake)
    return Row(number, identity, _response(fields), _problem(fields, domain=domain))


def _mistake(fields: Mapping[str, Any], *, domain: str) -> str:
    """What is missing or of the wrong kind; empty when all is there."""
    if not isinstance(fields.get("response"), str) and not (domain == "code" and isinstance(fields.get("code"), str)):
        return 'a text "response" is needed' + (', or a text "code"' if domain == "code" else "")
    if not isinstance(fields.get("gold", ""), str | int | float):
        return f'"gold" must be a text or a number, this is a {type(fields["gold"]).__name__}'
    if "gold" not in fields and "tests" not in fields:
        return 'a "gold" is needed' + (', or "tests"' if domain == "code" else "")
    if not isinstance(fields.get("meta") or {}, dict):
        return f'"meta" must be an object, this is a {type(fields["meta"]).__name__}'
    return _mistake_of_tests(fields.get("tests") or {})


def _mistake_of_tests(tests: Any) -> str:  # noqa: ANN401 - any JSON value
    """Whether its type is known, and what is in it, is the judge's to say."""
    if isinstance(tests, dict | str):
        return ""
    if not isinstance(tests, list):
        return f'"tests" must be {_TESTS}; this is a {type(tests).__name__}'
    for number, item in enumerate(tests, start=1):
        if not _is_pair(item):
            shown_item = json.dumps(item, ensure_ascii=False)[:_SHOWN]
            return f'"tests" must be {_TESTS}; item {number} of the list is {shown_item}'
    return ""


def _is_pair(item: Any) -> bool:  # noqa: ANN401 - any JSON value
    return (
        isinstance(item, dict)
        and item.keys() == {"input", "output"}
        and all(isinstance(text, str) for text in item.values())
    )


def _response(fields: Mapping[str, Any]) -> str | Program:
    """A response, or a program as it is."""
    response = fields.get("response")
    if isinstance(response, str):
        return response
    return Program(language_named(str(fields.get("language") or "python")), fields["code"])


def _problem(fields: Mapping[str, Any], *, domain: str) -> Problem:
    """Tests with the limits and the way to compare that stand beside them; whether they can be read is the judge's to say."""
    tests = fields.get("tests") or ""
    if isinstance(tests, list):
        tests = {
            "type": "stdin",
            "inputs": [pair["input"] for pair in tests],
            "outputs": [pair["output"] for pair in tests],
        }
    if isinstance(tests, dict):
        beside = {name: fields[name] for name in ("limits", "compare") if fields.get(name)}
        tests = json.dumps({**beside, **tests})
    meta = json.dumps(fields.get("meta") or {})
    return Problem(str(fields.get("id", "")), domain, "eval", "", str(fields.get("gold", "")), tests, meta=meta)
