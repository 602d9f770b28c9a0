"""`ring why`: why an answer was right or wrong: what was read out of it, the rule, the judge, and the problem with its history."""

import json
import sys
import textwrap
from collections.abc import Iterator
from typing import Annotated

from cyclopts import Parameter

from flows.console import assembled, plain_console, program
from flows.tables import wrapped
from stages.curation.audit import Fate
from stages.records.artifact import Manifest, open_store
from stages.records.responses import Response, as_json, find_response, is_judge_here, judge_version, passed_steps
from stages.records.rollouts import advantage_words, loss_words, verdict_words

_out = plain_console()
_NAME = 11  # width of the names at the left
_MOST_COPIES = 5
_MEANING = {
    "correct": "the answer that was read out is the problem's, by the rule below",
    "wrong": "an answer was read out, and it is not the problem's",
    "no_answer": "no answer could be read out of the response",
    "timeout": "the program, or the comparison, took too long",
    "resource_limit": "the program asked for more than it may have",
    "judge_error": "the judge itself failed; the response counts as neither right nor wrong",
    "bad_gold": "the problem's own answer or tests cannot be used; the response counts as neither right nor wrong",
    "no_tests": "the problem has no tests; the response counts as neither right nor wrong",
}


def why(response: str, *, json_: Annotated[bool, Parameter(name="--json", negative="")] = False) -> int:
    """Say why a stored response was judged right or wrong: answer read out, rule, judge, problem, and its way through curation.

    Parameters
    ----------
    response
        RESULT/STEP/GROUP/SAMPLE of an RL arm (`ring rollouts` shows them), or RESULT/MODEL/PROBLEM/SAMPLE of an evaluation or a
        selection, where SAMPLE is `greedy` or a number.
    json_
        Print one JSON object.

    """
    found = find_response(response, open_store())
    if json_:
        sys.stdout.write(json.dumps(as_json(found)) + "\n")
        return 0
    manifest = found.manifest
    title = f"{manifest.stage} {manifest.arm or found.model} {manifest.fingerprint[:8]}"
    _out.print(
        assembled((found.id, "bold"), f"  {title}: {verdict_words({'weak': False, **found.row})}"), soft_wrap=True
    )
    for name, text in _lines(found):
        _show(name, text)
    _show_text("prompt", found.problem.get("prompt", "(the problem is not in this home)"))
    _show_text("response", found.row["response"])
    _out.print(
        f"  again: {program()} rescore {manifest.fingerprint[:8]}    upstream: {program()} lineage {found.id}",
        soft_wrap=True,
    )
    return 0


def _lines(found: Response) -> Iterator[tuple[str, str]]:
    row, problem = found.row, found.problem
    yield "verdict", _MEANING.get(row["status"], verdict_words(row))
    yield "extracted", row["extracted"] or "(nothing)"
    if problem:
        yield "right is", problem["answer"] or ("what its tests accept" if problem["tests"] else "(nothing is known)")
    yield "rule", row["reason"] or "(none is noted)"
    yield "judged by", _judge(found.manifest)
    if "advantage" in row:
        yield "advantage", f"{advantage_words(row)}, {loss_words(row)}; policy of version {row['policy_version']}"
    source = f", from {problem['source']}, licence {problem['licence'] or 'not stated'}" if problem else ""
    yield "problem", f"{row['problem_id']}, {row['domain']}{source}"
    if found.curation is None:
        yield "curation", "none is known: the result names none, or its bytes are other ones than were used"
    else:
        for fate in found.fates:
            yield "curation", _history(found.curation, fate)
            for copy in fate.copies[:_MOST_COPIES]:
                yield "", f"stands for {copy['id']}: {copy['reason']}, {copy['evidence']}"
            if len(fate.copies) > _MOST_COPIES:
                yield "", f"and for {len(fate.copies) - _MOST_COPIES} more"
        if not found.fates:
            yield "curation", f"{found.curation.fingerprint[:8]} never saw a row of this id"
    yield "stored in", f"{found.file}, sha256 {found.manifest.document['files'][found.file]['sha256'][:12]}"


def _judge(manifest: Manifest) -> str:
    """Commit, code and package, and whether the judge that stands here is the same."""
    version = judge_version(manifest)
    parts = [
        f"code {version['code'][:12]} at {version['commit'][:8] or 'no commit'}{' with changes' if ' ' in version['commit'] else ''}"
    ]
    parts += [f"math-verify {version['math-verify']}"] if version["math-verify"] else []
    if version["judge"]:
        same = "the one that stands here" if is_judge_here(manifest) else "another one than stands here"
        parts.append(f"judge {version['judge'][:12]}, {same}")
    return ", ".join(parts)


def _history(curation: Manifest, fate: Fate) -> str:
    passed = ", ".join(passed_steps(curation, fate)) or "no step"
    dropped = f"; then dropped by {fate.why['step']}: {fate.why['reason']} ({fate.why['evidence']})" if fate.why else ""
    return f"{curation.fingerprint[:8]}: {fate.outcome}; passed {passed}{dropped}"


def _show(name: str, text: str) -> None:
    indent = " " * (_NAME + 3)
    lines = [line for part in text.split("\n") for line in wrapped(part, width=_out.width - len(indent))]
    _out.print(f"  {name:<{_NAME}} " + f"\n{indent}".join(lines), highlight=False, soft_wrap=True)


def _show_text(name: str, text: str) -> None:
    """Each line indented, so that no response can pass for what this command says."""
    _out.print(f"  {name}:\n{textwrap.indent(text, '    ', lambda _: True)}", highlight=False, soft_wrap=True)
