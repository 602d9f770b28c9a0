"""The teacher's text: canonical for the word-level tokenizer, short, and wrong as often as its slips say."""

import json
import re

import pytest

from data.sources.procedural import KINDS, PHRASES, STYLES, generate_problems, propose_trace
from data.sources.procedural.kind import LEVELS
from ring_model.tokenizer import UNKNOWN, build_word_tokenizer

SLIPS = {"long": 0.02, "skip": 0.12, "direct": 0.20}
MIXED = {"long": 0.6, "skip": 0.15, "direct": 0.25}
RECIPE_LEVELS = {1: 0.25, 2: 0.25, 3: 0.25, 4: 0.25}
EVEN = dict.fromkeys(KINDS, 0.2)


@pytest.fixture(scope="module")
def problems():
    return generate_problems(name="toy", split="sft", num_problems=4000, kinds=EVEN, levels=RECIPE_LEVELS, seed=0)


@pytest.fixture(scope="module")
def traces(problems):
    return [propose_trace(problem, styles=MIXED, slips=SLIPS, seed=1) for problem in problems]


@pytest.fixture(scope="module")
def tokenizer(problems, traces):
    return build_word_tokenizer([*(problem.prompt for problem in problems), *traces], phrases=PHRASES)


def final_answer(trace: str) -> str:
    return trace.split("</think> ")[1]


def right_answer(problem) -> str:
    return final_answer(propose_trace(problem, styles={"direct": 1.0}, slips=dict.fromkeys(STYLES, 0.0), seed=0))


def test_prompts_and_traces_survive_the_tokenizer(problems, traces, tokenizer):
    unknown = tokenizer.token_id(UNKNOWN)
    for text in [*(problem.prompt for problem in problems), *traces]:
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids) == text
        assert unknown not in ids


def test_every_phrase_is_one_token(tokenizer):
    assert all(len(tokenizer.encode(phrase)) == 1 for phrase in PHRASES)


def test_the_vocabulary_is_small(tokenizer):
    assert tokenizer.vocab_size <= 275


def test_whole_numbers_stay_below_200_even_after_slips(problems):
    for problem in problems:
        trace = propose_trace(problem, styles=MIXED, slips=dict.fromkeys(STYLES, 0.6), seed=5)
        words = [*problem.prompt.split(), *trace.split()]
        assert all(int(word) < 200 for word in words if word.isdigit()), trace
        assert not any(re.fullmatch(r"-\d+", word) for word in words)


def test_prompts_have_at_most_33_tokens_and_reasoned_responses_12_to_80(problems, tokenizer):
    assert max(len(tokenizer.encode(problem.prompt)) for problem in problems) <= 33
    reasons = [propose_trace(problem, styles={"long": 0.8, "skip": 0.2}, slips=SLIPS, seed=2) for problem in problems]
    lengths = [len(tokenizer.encode(trace)) for trace in reasons]
    assert min(lengths) >= 12
    assert max(lengths) <= 80


def test_styles_are_drawn_by_share(traces):
    direct = sum(trace.startswith("</think>") for trace in traces)
    assert abs(direct / len(traces) - MIXED["direct"]) < 0.03


def test_a_proposal_closes_the_thought_once_and_answers(problems, traces):
    for problem, trace in zip(problems, traces, strict=True):
        assert trace.count("</think>") == 1
        form = r"```python\ndef f\(x\): return \d+ \* x [+-] \d+\n```" if problem.tests else r"\\boxed\{ .+ \}"
        assert re.fullmatch(form, final_answer(trace))


def test_a_proposal_depends_on_its_arguments_alone(problems, traces):
    assert [propose_trace(problem, styles=MIXED, slips=SLIPS, seed=1) for problem in problems] == traces
    assert [propose_trace(problem, styles=MIXED, slips=SLIPS, seed=2) for problem in problems] != traces


def test_two_problems_slip_at_different_places(problems):
    chains = [problem for problem in problems if problem.metadata["kind"] == "list" and problem.level == 4]
    slipped = [
        final_answer(propose_trace(problem, styles={"direct": 1.0}, slips={"direct": 0.1}, seed=0))
        != right_answer(problem)
        for problem in chains
    ]
    assert 0.3 < sum(slipped) / len(slipped) < 0.8


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("style", STYLES)
def test_more_slips_give_more_wrong_answers_and_none_gives_none(problems, kind, level, style):
    chosen = [problem for problem in problems if (problem.metadata["kind"], problem.level) == (kind, level)]
    wrong = {
        chance: sum(
            final_answer(propose_trace(problem, styles={style: 1.0}, slips={style: chance}, seed=3))
            != right_answer(problem)
            for problem in chosen
        )
        / len(chosen)
        for chance in (0.0, 0.1, 0.5)
    }
    assert wrong[0.0] == 0 < wrong[0.1] < wrong[0.5]


def test_a_slip_is_carried_on():
    (problem,) = generate_problems(
        name="toy", split="sft", num_problems=1, kinds={"list": 1.0}, levels={4: 1.0}, seed=0
    )
    operands = json.loads(problem.meta)
    for seed in range(200):
        trace = propose_trace(problem, styles={"long": 1.0}, slips={"long": 0.05}, seed=seed)
        states = [line.split()[1:] for line in trace.split(" </think>")[0].split("\n")]
        assert states[-1] == final_answer(trace).split()[1:-1]
        assert len(states) == len(operands["program"])
