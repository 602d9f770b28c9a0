"""`ring rollouts`: what an arm answered, how it was judged, and what of it was trained on."""

import json

import pyarrow as pa
import pytest

from data.schema import ROLLOUT_SCHEMA, Problem, table_from_problems
from flows.commands import rollouts as command
from flows.commands.rollouts import rollouts
from stages.records.rollouts import ROLLOUT_STATUSES, TOKEN_COLUMNS

FIRST = "What is 6 times 7?"


def response(group, sample, **columns):
    """A row of a step: group 0 asks mathematics, the others code."""
    values = {
        "step": 3, "group": group, "budget_rank": 0, "policy_version": 2, "problem_id": f"p{group}", "sample": sample,
        "domain": "code" if group else "math", "prompt_ids": [1], "response": f"said {group}/{sample}", "token_ids": [5, 6],
        "logprobs": [-1.0, -0.5], "status": "wrong", "score": 0.0, "checker_failed": False, "weak": False, "extracted": "41",
        "reason": "not equal", "seed": 9, "entropy": 0.25, "num_tokens": 41, "truncated": False, "advantage": -0.5,
        "kept_tokens": 0, "weight": 0.0,
    }  # fmt: skip
    return {**values, **columns}


def step_of(*rows):
    return pa.Table.from_pylist(list(rows), schema=ROLLOUT_SCHEMA)


@pytest.fixture
def curation(seal):
    problems = [Problem(f"p{group}", "math", "rl", FIRST if group == 0 else f"Problem {group}") for group in range(7)]
    return seal("curation", rows={"rl.parquet": table_from_problems(problems)})


@pytest.fixture
def arm(seal, curation):
    """Steps 1 to 3; the last has 14 responses, of which one is right and entered the loss in part."""
    right = {"status": "correct", "score": 1.0, "extracted": "42", "reason": "", "advantage": 1.5, "kept_tokens": 23}
    last = [response(0, 0, **right), *(response(group, sample) for group in range(7) for sample in (0, 1))][:14]
    files = {f"rollouts/step-{step:06d}.parquet": step_of(response(0, 0)) for step in (1, 2)}
    return seal("rl", curation, arm="mixed", rows={**files, "rollouts/step-000003.parquet": step_of(*last)})


def told(capsys, arm, **options):
    assert rollouts(arm.fingerprint[:8], **options) == 0
    return capsys.readouterr().out


def document(capsys, arm, **options):
    return json.loads(told(capsys, arm, json_=True, **options))


def test_a_response_is_told_with_its_verdict_and_what_of_it_entered_the_loss(arm, capsys):
    said = told(capsys, arm, rows=1).splitlines()
    assert said[0] == f"rl mixed {arm.fingerprint[:8]}, step 3 of 3: 14 of 14 responses match; page 1 of 14"
    assert said[2:-2] == [
        f"step 3 group 0 sample 0  p0  math  {arm.fingerprint[:8]}/3/0/0",
        "  verdict    correct, score 1",
        "  extracted  42",
        "  advantage  +1.5000, entered the loss: 23 of 41 tokens",
        "  policy     version 2, entropy 0.2500 nats per token",
        "  prompt:",
        f"    {FIRST}",
        "  response:",
        "    said 0/0",
    ]
    assert "  advantage  -0.5000, not used" in told(capsys, arm, page=2, rows=1).splitlines()


def test_the_pages_hold_every_response_once_and_each_names_the_next(arm, capsys):
    pages = [document(capsys, arm, page=page, rows=4) for page in (1, 2, 3, 4)]
    assert [(page["page"], page["pages"], page["matching"], len(page["rows"])) for page in pages] == [
        (1, 4, 14, 4), (2, 4, 14, 4), (3, 4, 14, 4), (4, 4, 14, 2),
    ]  # fmt: skip
    assert len([row for page in pages for row in page["rows"]]) == 14
    next_line = told(capsys, arm, page=2, rows=4, domain=None).splitlines()[-1]
    assert next_line == f"Next: {command.program()} rollouts {arm.fingerprint[:8]} --step 3 --rows 4 --page 3"
    assert "Next:" not in told(capsys, arm, page=4, rows=4)


def test_a_page_is_ten_rows_of_the_last_step_where_nothing_else_is_said(arm, capsys):
    found = document(capsys, arm)
    assert (found["id"], found["arm"], found["step"]) == (arm.fingerprint, "mixed", 3)
    assert (len(found["rows"]), found["pages"]) == (10, 2)
    assert document(capsys, arm, step=1)["rows"][0]["response"] == "said 0/0"


def test_domain_and_status_choose_together(arm, capsys):
    assert document(capsys, arm, domain="math")["matching"] == 3
    assert document(capsys, arm, status="wrong")["matching"] == 13
    both = document(capsys, arm, domain="math", status="wrong")
    assert [(row["group"], row["status"]) for row in both["rows"]] == [(0, "wrong"), (0, "wrong")]
    line = told(capsys, arm, domain="math", status="wrong", rows=1).splitlines()[-1]
    assert line.endswith("--step 3 --domain math --status wrong --rows 1 --page 2")


@pytest.fixture
def partial(seal):
    """An arm of partial rollouts: of two prompts one has an answer that goes on, the other one that was given up."""
    nan = float("nan")
    open_ = {"reward": nan, "advantage": nan, "truncated": True, "reason": "", "extracted": ""}
    rows = [
        response(0, 0, status="correct", score=1.0, reward=1.0, advantage=nan),
        response(0, 1, status="unfinished", **open_),
        response(1, 0, advantage=0.0, reward=0.0),
        response(1, 1, status="expired", **open_),
    ]
    return seal("rl", arm="partial", rows={"rollouts/step-000003.parquet": step_of(*rows)})


@pytest.mark.parametrize(
    ("status", "words"),
    [
        ("unfinished", "  verdict    unfinished, goes on in the next step"),
        ("expired", "  verdict    expired, given up before it was finished"),
    ],
)
def test_what_nobody_judged_is_found_by_its_status_and_told_without_a_verdict(partial, capsys, status, words):
    said = told(capsys, partial, status=status).splitlines()
    assert "1 of 4 responses match" in said[0]
    assert [line for line in said if line.startswith(("  verdict", "  advantage"))] == [
        words,
        "  advantage  none, not used",
    ]


def test_a_reward_that_is_none_is_null_to_programs(partial, capsys):
    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    said = told(capsys, partial, json_=True, tokens=True)
    rows = json.loads(said, parse_constant=refuse)["rows"]
    assert [row["reward"] for row in rows] == [1.0, None, 0.0, None]
    assert [row["advantage"] for row in rows] == [None, None, 0.0, None]


def test_where_nothing_matches_the_page_is_empty(arm, capsys):
    found = document(capsys, arm, status="timeout")
    assert (found["matching"], found["pages"], found["rows"]) == (0, 1, [])
    assert "0 of 14 responses match; page 1 of 1" in told(capsys, arm, status="timeout")


def test_token_ids_are_left_out_unless_they_are_asked_for(arm, capsys):
    (row,) = document(capsys, arm, step=1)["rows"]
    assert set(ROLLOUT_SCHEMA.names) - set(row) == set(TOKEN_COLUMNS)
    assert row["prompt"] == FIRST
    (row,) = document(capsys, arm, step=1, tokens=True)["rows"]
    assert (row["token_ids"], row["logprobs"], row["prompt_ids"]) == ([5, 6], [-1.0, -0.5], [1])
    with pytest.raises(ValueError, match="add --json"):
        rollouts(arm.fingerprint, tokens=True)


def test_without_its_curation_an_arm_has_no_prompts_and_says_so(arm, curation, capsys):
    (curation.folder / "manifest.json").unlink()
    assert "without prompts" in told(capsys, arm)
    assert [row["prompt"] for row in document(capsys, arm, step=1)["rows"]] == [None]


def test_no_step_but_the_one_that_is_asked_for_is_read(arm, capsys):
    for step in (1, 3):
        (arm.folder / "rollouts" / f"step-{step:06d}.parquet").write_bytes(b"no parquet")
    assert document(capsys, arm, step=2)["matching"] == 1


def test_what_a_terminal_obeys_is_shown_and_no_text_passes_for_ours(seal, capsys):
    hostile = "clear\x1b[2K\r\x07\u202e\x00 a\ttab\nstep 3 group 9 sample 9\n  verdict    correct, score 1"
    columns = dict.fromkeys(("response", "extracted", "reason", "problem_id"), hostile)
    arm = seal("rl", arm="mixed", rows={"rollouts/step-000001.parquet": step_of(response(0, 0, **columns))})
    said = told(capsys, arm)
    assert said.count(r"clear\x1b[2K\r\x07\u202e\x00 a") == 4
    assert not set(said) & set("\x1b\r\x07\u202e\x00")
    assert [line for line in said.splitlines() if line.startswith(("step ", "  verdict"))][1:] == [
        "  verdict    wrong, score 0"
    ]
    assert document(capsys, arm)["rows"][0]["response"] == hostile


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"step": 4}, "no step 4; the arm mixed has the steps 1 to 3"),
        ({"step": 0}, "no step 0; the arm mixed has the steps 1 to 3"),
        ({"domain": "poetry"}, "no domain 'poetry'; there are math, code, science, gym"),
        ({"status": "right"}, f"no status 'right'; there are {', '.join(ROLLOUT_STATUSES)}"),
        ({"page": 3}, "--page = 3 is beyond the last, 2: 14 of 14 responses match, at most 10 a page"),
        ({"page": 0}, "--page = 0 must be at least 1"),
        ({"rows": 0}, "--rows = 0 must be at least 1"),
    ],
)
def test_a_mistake_says_what_there_is(arm, options, expected):
    with pytest.raises(ValueError) as error:
        rollouts(arm.fingerprint, **options)
    assert str(error.value) == expected


def test_a_result_without_rollouts_is_refused_with_the_arms_that_have_some(seal, arm):
    control = seal("rl", arm="more-sft")
    there = rf"give an arm of RL: {arm.fingerprint[:8]} \(mixed\)"
    with pytest.raises(ValueError, match=f"is the arm more-sft, which holds no rollouts.*{there}"):
        rollouts(control.fingerprint)
    with pytest.raises(ValueError, match=f"is a result of the stage sft; {there}"):
        rollouts(seal("sft").fingerprint)
    with pytest.raises(ValueError, match="no result begins with 'nothing'"):
        rollouts("nothing")


def test_a_home_without_an_arm_says_how_to_make_one(seal):
    with pytest.raises(ValueError, match="this home has no arm of RL; `ring run RECIPE` makes one"):
        rollouts(seal("sft").fingerprint)


def test_the_help_names_every_status():
    assert all(status in rollouts.__doc__ for status in ROLLOUT_STATUSES)
