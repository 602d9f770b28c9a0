"""`ring rollouts`: what an arm of RL answered in a step, how it was judged, and what of it was trained on."""

import json
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
from cyclopts import Parameter

from data.domains import DOMAINS
from flows.console import assembled, plain_console, program
from stages.records.artifact import Manifest, Store, open_store
from stages.records.remote import is_response
from stages.records.responses import rollout_id
from stages.records.rollouts import (
    ROLLOUT_STATUSES,
    TEXT_COLUMNS,
    TOKEN_COLUMNS,
    advantage_words,
    loss_words,
    prompts_of,
    read_rollouts,
    rollout_rows,
    rollout_steps,
    verdict_words,
)

_out = plain_console()
_MOST_ARMS = 5  # that are named where the id is of another result
_DEFAULT_ROWS = 10


@dataclass(frozen=True, slots=True)
class Wanted:
    """What was asked for."""

    step: int | None  # None: the last
    domain: str | None
    status: str | None
    page: int  # counted from 1
    size: int  # rows of a full page
    tokens: bool  # with a number a token, too

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of ROLLOUT_SCHEMA."""
        return (*TEXT_COLUMNS, *TOKEN_COLUMNS) if self.tokens else TEXT_COLUMNS


@dataclass(frozen=True, slots=True)
class Page:
    """Some of the responses of a step."""

    manifest: Manifest
    step: int
    last_step: int
    num_responses: int  # of the step
    matching: int  # of them with the domain and the status that were asked for
    number: int  # counted from 1
    size: int  # rows of a full page
    rows: tuple[
        Mapping[str, Any], ...
    ]  # columns of ROLLOUT_SCHEMA, the response's `id`, and `prompt`, None where it is not to be had

    @property
    def pages(self) -> int:
        """Pages of what matches; one, empty, where nothing does."""
        return max(1, -(-self.matching // self.size))


def rollouts(
    id_: Annotated[str, Parameter(name="ID")],
    *,
    step: int | None = None,
    domain: str | None = None,
    status: str | None = None,
    page: int = 1,
    rows: int = _DEFAULT_ROWS,
    tokens: Annotated[bool, Parameter(negative="")] = False,
    json_: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> int:
    """Show what an RL arm answered in a step, a page at a time: verdict, reason, advantage, and what of each response entered the loss.

    Parameters
    ----------
    id_
        The first characters of an RL arm's fingerprint (`ring ls` lists them).
    step
        Which step, counted from 1; without it the last.
    domain
        Only responses to problems of this domain.
    status
        Only responses with this verdict: correct, wrong, no_answer, timeout, resource_limit, judge_error, bad_gold or no_tests; of
        partial rollouts also unfinished or expired.
    page
        Which page, counted from 1.
    rows
        Responses on a page.
    tokens
        With --json: also each response's token ids, their log-probabilities when they were sampled, and the prompt's token ids.
    json_
        Print one JSON object: id, arm, step, page, pages, matching, and rows. A reward or an advantage that is none is null.

    """
    wanted = Wanted(step, domain, status, page, rows, tokens)
    _require_known(wanted)
    if tokens and not json_:
        raise ValueError("--tokens are for programs: add --json")
    store = open_store()
    shown = _page(_arm(id_, store), store, wanted)
    if json_:
        sys.stdout.write(json.dumps(_document(shown)) + "\n")
    else:
        _show(shown, wanted)
    return 0


def _require_known(wanted: Wanted) -> None:
    for name, value, known in (("domain", wanted.domain, DOMAINS), ("status", wanted.status, ROLLOUT_STATUSES)):
        if value is not None and value not in known:
            raise ValueError(f"no {name} {value!r}; there are {', '.join(known)}")
    for name, number in (("page", wanted.page), ("rows", wanted.size)):
        if number < 1:
            raise ValueError(f"--{name} = {number} must be at least 1")


def _arm(id_: str, store: Store) -> Manifest:
    """The arm that is meant. Raises ValueError for a result that holds no rollouts; it names some that do."""
    manifest = store.by_id(id_)
    if rollout_steps(manifest.folder_of_responses):
        return manifest
    arms = [other for other in store.all() if any(map(is_response, other.document["files"]))]
    named = ", ".join(f"{arm.fingerprint[:8]} ({arm.arm})" for arm in arms[:_MOST_ARMS])
    instead = f"give an arm of RL: {named}" if arms else "this home has no arm of RL; `ring run RECIPE` makes one"
    what = f"a result of the stage {manifest.stage}"
    if manifest.stage == "rl":
        what = f"the arm {manifest.arm}, which holds no rollouts, as further SFT does not, for it samples nothing"
    raise ValueError(f"{id_!r} is {what}; {instead}")


def _page(manifest: Manifest, store: Store, wanted: Wanted) -> Page:
    """Raises ValueError for a step that is not there, and a page beyond the last."""
    steps = rollout_steps(manifest.folder_of_responses)
    step = steps[-1] if wanted.step is None else wanted.step
    if step not in steps:
        raise ValueError(f"no step {step}; the arm {manifest.arm} has the steps {steps[0]} to {steps[-1]}")
    matches = _matches(read_rollouts(manifest.folder, step, ("domain", "status")), wanted)
    places = np.flatnonzero(matches)[(wanted.page - 1) * wanted.size : wanted.page * wanted.size]
    rows = rollout_rows(manifest.folder, step, places, wanted.columns)
    prompts = _prompts(manifest, store, [row["problem_id"] for row in rows])
    told = tuple(
        {"id": rollout_id(manifest.fingerprint, row), **row, "prompt": prompts.get(row["problem_id"])} for row in rows
    )
    page = Page(manifest, step, steps[-1], len(matches), int(matches.sum()), wanted.page, wanted.size, told)
    if page.number > page.pages:
        few = f"{_count(page)}, at most {page.size} a page"
        raise ValueError(f"--page = {page.number} is beyond the last, {page.pages}: {few}")
    return page


def _matches(keys: pa.Table, wanted: Wanted) -> np.ndarray:
    """Bool, a row a response."""
    matches = np.ones(len(keys), dtype=bool)
    for name, value in (("domain", wanted.domain), ("status", wanted.status)):
        if value is not None:
            matches &= keys[name].to_numpy() == value
    return matches


def _prompts(manifest: Manifest, store: Store, problem_ids: Sequence[str]) -> dict[str, str]:
    """Id -> prompt, from the curation that the arm was made from; nothing where that is gone or has other bytes."""
    entry = manifest.inputs.get("curation", {})
    curation = store.find(entry["stage"], entry["fingerprint"]) if "stage" in entry else None
    return prompts_of(curation.folder, problem_ids) if curation and curation.content == entry["content"] else {}


def _document(page: Page) -> dict[str, Any]:
    return {
        "id": page.manifest.fingerprint,
        "arm": page.manifest.arm,
        "step": page.step,
        "page": page.number,
        "pages": page.pages,
        "matching": page.matching,
        "rows": [{name: None if _is_nan(value) else value for name, value in row.items()} for row in page.rows],
    }


def _is_nan(value: object) -> bool:
    return isinstance(value, float) and math.isnan(value)


# ---------------------------------------------------------------- words


def _show(page: Page, wanted: Wanted) -> None:
    arm, number = f"rl {page.manifest.arm} {page.manifest.fingerprint[:8]}", f"page {page.number} of {page.pages}"
    _out.print(assembled((arm, "bold"), f", step {page.step} of {page.last_step}: {_count(page)}; {number}"))
    if page.rows and all(row["prompt"] is None for row in page.rows):
        _out.print("(without prompts: the curation that it was made from is gone, or has other bytes now)")
    above: str | None = None
    for row in page.rows:
        _out.print()
        _show_row(row, repeats_prompt=row["prompt"] == above)
        above = row["prompt"]
    if page.number < page.pages:
        _out.print(f"\nNext: {_next_command(page, wanted)}", highlight=False, soft_wrap=True)


def _next_command(page: Page, wanted: Wanted) -> str:
    options: dict[str, Any] = {"step": page.step, "domain": wanted.domain, "status": wanted.status}
    options |= {"rows": None if page.size == _DEFAULT_ROWS else page.size, "page": page.number + 1}
    given = [f"--{name} {value}" for name, value in options.items() if value is not None]
    return " ".join([program(), "rollouts", page.manifest.fingerprint[:8], *given])


def _count(page: Page) -> str:
    """`12 of 32 responses match`."""
    return f"{page.matching:,} of {page.num_responses:,} responses match"


def _show_row(row: Mapping[str, Any], *, repeats_prompt: bool) -> None:
    title = f"step {row['step']} group {row['group']} sample {row['sample']}"
    _out.print(
        assembled((title, "bold"), _inside(f"  {row['problem_id']}  {row['domain']}  {row['id']}")), soft_wrap=True
    )
    for name, value in _lines(row):
        _out.print(f"  {name:<10} {_inside(value)}", highlight=False, soft_wrap=True)
    if row["prompt"] is not None and not repeats_prompt:
        _show_text("prompt", row["prompt"])
    _show_text("response", row["response"])


def _lines(row: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What there is to say, by name."""
    yield "verdict", verdict_words(row)
    yield from ((name, row[name]) for name in ("reason", "extracted") if row[name])
    yield "advantage", f"{advantage_words(row)}, {loss_words(row)}"
    yield "policy", f"version {row['policy_version']}, entropy {row['entropy']:.4f} nats per token"


def _show_text(name: str, text: str) -> None:
    _out.print(f"  {name}:\n    {_inside(text)}", highlight=False, soft_wrap=True)


def _inside(text: str) -> str:
    """Each of its lines indented, so that no response can pass for what this command says."""
    return text.replace("\n", "\n    ")
