"""The page: what it says first, what it shows of every stage, and responses that cannot change it."""

import re

import pytest

from data.benchmarks import BENCHMARKS
from stages.report.page import MAX_BYTES, render
from stages.report.paper import RING_LITE, beside_the_paper
from stages.report.picture import chain_picture

PHASES = [{"phase": "all", "steps": 3, "tokens_trained": 9, "first_reward": 0.25, "last_reward": 0.5}]
WINDOW = {"entropy_window": [0.25, 0.5]}
CHOICE = {
    "candidates": [
        {
            "checkpoint": "epoch-01",
            "entropy": 0.5,
            "pass@1": 0.25,
            "greedy": 0.5,
            "validation_loss": None,
            "chosen": True,
            "why": "",
        }
    ]
}
PARTS = {"selection": {"tables": CHOICE, "config": WINDOW}}


def test_the_page_says_what_each_rule_would_have_chosen(made) -> None:
    candidates = [
        {
            "checkpoint": name,
            "entropy": 0.5,
            "pass@1": 0.25,
            "greedy": 0.5,
            "validation_loss": loss,
            "chosen": False,
            "why": "",
        }
        for name, loss in (("epoch-01", 1.5), ("mean-of-last-2", 1.25))
    ]
    rules = [
        {"rule": "entropy-window", "checkpoint": "epoch-01", "why": "inside", "applied": True},
        {
            "rule": "highest-pass@k",
            "checkpoint": None,
            "why": "no probe problem has 4 judged responses",
            "applied": False,
        },
    ]
    tables = {"candidates": candidates, "rules": rules}
    page = render("t", {"selection": made("selection", tables=tables, config={"entropy_window": [0.25, 0.5]})})
    assert "no probe problem has 4 judged responses" in page
    assert re.findall("<title>validation loss: (.*?)</title>", page) == [
        "checkpoint 1, nats per token 1.5",
        "checkpoint 2, nats per token 1.25",
    ]


def test_without_validation_rows_the_losses_of_training_stand_alone(made) -> None:
    epochs = [{"epoch": 1, "train_loss": 1.5, "validation_loss": None, "checkpoint": "epoch-01"}]
    page = render("t", {"sft": made("sft", tables={"epochs": epochs})})
    assert "<title>train: epoch 1, nats per token 1.5</title>" in page
    assert "<title>validation:" not in page


# ---------------------------------------------------------------- what stands first


def test_the_page_is_named_by_its_recipe_and_says_when_it_was_made(made) -> None:
    first = made("sft", tables={}, made_at="2026-01-02T03:04:05Z", recipe="small")
    last = made("selection", tables=CHOICE, config=WINDOW, made_at="2026-01-02T04:00:00Z", recipe="small")
    page = render("Ring", {"selection": last, "sft": first})
    assert "<title>Ring: small</title>" in page
    assert "Made 2026-01-02 03:04 to 2026-01-02 04:00 UTC in 2 s of work, arms added up." in page


def test_what_ran_and_what_came_from_the_cache_is_told_apart_by_the_run(made) -> None:
    old = made("sft", made_at="2026-01-02T03:04:05Z", prefect_flow_run_id="a")
    new = made("selection", tables=CHOICE, config=WINDOW, made_at="2026-01-02T04:00:00Z", prefect_flow_run_id="b")
    (sft,), (selection,) = chain_picture({"sft": old, "selection": new})
    assert (sft["status"], selection["status"]) == ("cached", "ran")
    assert selection["what"] == "chose epoch-01"


def test_a_note_of_two_stages_stands_once(made) -> None:
    stages = {stage: made(stage, notes=["few problems"], **PARTS.get(stage, {})) for stage in ("sft", "selection")}
    assert "<b>sft, selection</b> few problems" in render("t", stages)


# ---------------------------------------------------------------- responses


def test_a_response_is_shown_and_never_obeyed(made, response) -> None:
    hostile = "</td><script>alert(1)</script>&amp;\"'"
    row = response(response=hostile, reason=hostile, problem_id=hostile, advantage=0.5)
    page = render("t", {"rl/a": made("rl", "a", tables={"phases": PHASES}, rollouts={1: [row]})})
    assert "<script" not in page
    assert (
        page.count("&lt;/td&gt;&lt;script&gt;alert(1)&lt;/script&gt;&amp;amp;&#34;&#39;") == 6
    )  # as one that was trained on, and in its decile
    assert "+0.500<br>entered the loss: 9 of 9 tokens" in page


def test_a_response_that_goes_on_has_no_advantage(made, response) -> None:
    row = response(status="unfinished", advantage=float("nan"), kept_tokens=0)
    page = render("t", {"rl/a": made("rl", "a", tables={"phases": PHASES}, rollouts={1: [row]})})
    assert "unfinished, goes on in the next step" in page
    assert "<td>none<br>not used</td>" in page


@pytest.mark.parametrize(("length", "folded"), [(400, False), (401, True)])
def test_a_long_response_is_folded(made, response, length, folded) -> None:
    arm = made("rl", "a", tables={"phases": PHASES}, rollouts={1: [response(response="x" * length)]})
    page = render("t", {"rl/a": arm})
    assert ("x" * 80 + " …</summary>" in page) is folded
    assert "x" * length in page


def test_the_page_stays_small_whatever_was_said(made, response) -> None:
    said = [response(0, response='"' * 100_000, advantage=1.0), response(1, reason="'" * 100_000, advantage=-1.0)]
    arms = {
        f"rl/{arm}": made("rl", arm, tables={"phases": PHASES}, rollouts=dict.fromkeys(range(1, 4), said))
        for arm in "abcdefgh"
    }
    assert len(render("t", arms).encode()) < MAX_BYTES


def test_a_phase_without_a_verdict_has_an_empty_place_in_its_table(made) -> None:
    phases = [
        {"phase": "first", "steps": 1, "tokens_trained": 0, "last_entropy": 2.0},
        {**PHASES[0], "phase": "second"},
    ]
    page = render("t", {"rl/a": made("rl", "a", tables={"phases": phases})})
    names = ("phase", "steps", "tokens_trained", "last_entropy", "first_reward", "last_reward")
    assert "".join(f'<th scope="col">{name}</th>' for name in names) in page
    row = re.search("<tr><td>first</td>.*?</tr>", page)
    assert row and row.group().count("<td") == len(names)


# ---------------------------------------------------------------- the paper's numbers


def test_a_benchmark_of_the_paper_has_its_number_beside_ours() -> None:
    row = {"group": "math500", "metric": "pass@1", "value": 0.5, "low": 0.4, "high": 0.6}
    results = [
        {**row, "model": "sft"},
        {**row, "model": "mixed", "value": 0.55},
        {**row, "model": "sft", "metric": "greedy"},
    ]
    results += [{**row, "model": "sft", "group": "all"}, {**row, "model": "sft", "group": "gsm8k"}]
    assert beside_the_paper(results) == [
        {
            "benchmark": "math500",
            "metric": "pass@1",
            "sft": "0.500 [0.400, 0.600]",
            "mixed": "0.550 [0.400, 0.600]",
            "Ring-lite (paper)": "0.967",
        }
    ]


def test_every_number_of_the_paper_is_of_a_set_in_the_catalogue() -> None:
    assert set(RING_LITE) <= set(BENCHMARKS)
