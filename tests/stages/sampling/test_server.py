"""Sampling from a server that does all that a server may do: every response is there once, and nothing is asked twice needlessly."""

import json
import math
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow.feather as feather
import pytest

from data.domains import DOMAINS
from data.schema import SAMPLE_SCHEMA, Problem
from stages.config import Runtime, Sampling
from stages.sampling.journal import journal_path
from stages.sampling.pacing import Limits
from stages.sampling.requests import Chunk, Policy
from stages.sampling.sampler import Done
from stages.sampling.scores import mean_tokens, policy_entropy, scores_by_problem, status_counts
from stages.sampling.server import ServerSampler
from tests.stages.sampling import serving
from tests.stages.sampling.serving import Script, Way, completion, says, served

ROOT = Path(__file__).resolve().parents[3]
SUFFIX = DOMAINS["math"].prompt_suffix
STALL = 4.0  # long beside what a busy machine takes for a good reply
LIMITS = Limits(concurrency=8, stall_seconds=STALL, connect_seconds=60.0, max_attempts=4, backoff_seconds=0.02)
LONGEST_SECONDS = 120.0  # that a test waits for a process

BAD: Mapping[str, Sequence[Way]] = {
    "nothing": [],
    "whole": [serving.whole],
    "drops": [serving.drops, serving.drops],
    "stalls": [serving.stalls(2 * STALL)],
    "late": [serving.after(STALL + 1.0, says(200, completion("late \\boxed{2}")))],
    "not-json": [says(200, b"<html>"), says(200, b"[" * 100_000), says(200, b"")],
    "another-form": [says(200, {"choices": [{"text": "\\boxed{2}"}]}), says(200, [1]), says(200, {"choices": [None]})],
    "error-body": [says(200, {"error": {"message": "busy"}}), serving.fails_in_a_stream],
    "too-many": [says(429, {"error": "slow down"}, Retry_After="0")],
    "broken": [says(500, b"oops"), says(503, b"", Retry_After="nonsense"), says(502, b"")],
    "cut": [serving.cuts_a_body, serving.cuts_a_stream, serving.ends_a_stream_early],
    "no-choice": [
        says(200, {"choices": []}),
        says(200, {"choices": [{"index": 1, "message": {"content": "\\boxed{2}"}}]}),
    ],
    "aborted": [says(200, completion("half", finish_reason="abort"))],
}


def problems_of(name: str, count: int = 2) -> tuple[Problem, ...]:
    return tuple(Problem(f"{name}-{n}", "math", "eval", f"{name} number {n}", answer="1") for n in range(count))


def chunk_of(folder: Path, name: str, *, num_samples: int = 2, **sampling: float) -> Chunk:
    problems, samples = problems_of(name), tuple(range(num_samples)) or (-1,)
    seeds = tuple(2**31 + 100 + n for n in range(len(problems) * len(samples)))
    values = Sampling(**{"max_new_tokens": 50, **sampling})
    return Chunk(folder / f"{name}.arrow", Policy.of(Path("m")), problems, samples, seeds, values)


def requests_of(script: Script, name: str) -> list[int]:
    """How often each response to a chunk's questions was asked for."""
    return [count for (text, _), count in script.attempts.items() if text.split()[0] == name]


@dataclass(frozen=True)
class Ran:
    script: Script
    chunks: Mapping[str, Chunk]
    done: Mapping[str, Done]
    left: Sequence[str]  # files beside the chunks


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ran]:
    """All that is bad, in one run."""
    folder = tmp_path_factory.mktemp("bad")
    chunks = {name: chunk_of(folder, name) for name in BAD}
    with served(Script(BAD)) as script, ServerSampler(script.address, Runtime(workers=1), limits=LIMITS) as sampler:
        done = {one.chunk.path.stem: one for one in sampler.sample(list(chunks.values()))}
        time.sleep(2.0)  # what is late comes
        yield Ran(script, chunks, done, sorted(path.name for path in folder.iterdir()))


@pytest.mark.slow
@pytest.mark.parametrize("name", BAD)
def test_every_response_is_there_once_and_no_request_was_needless(ran: Ran, name: str) -> None:
    chunk, rows = ran.chunks[name], ran.done[name].chunk.read()
    assert rows.schema == SAMPLE_SCHEMA
    expected = [
        (problem.id, sample, f"{problem.prompt}{SUFFIX} with {seed - 2**31}: \\boxed{{1}}")
        for (problem, sample), seed in zip(
            [(problem, sample) for problem in chunk.problems for sample in (0, 1)], chunk.seeds, strict=True
        )
    ]
    got = zip(*(rows[column].to_pylist() for column in ("problem_id", "sample", "response")), strict=True)
    assert list(got) == expected
    answers_well = BAD[name][-1:] == [serving.whole]
    attempts = len(BAD[name]) + (not answers_well)
    assert requests_of(ran.script, name) == [attempts] * 4
    assert ran.done[name].counts == {"kept": 0, "requests": 4 * attempts, "tokens": 28}
    assert rows["status"].to_pylist() == ["correct"] * 4


@pytest.mark.slow
def test_nothing_is_left_beside_the_chunks(ran: Ran) -> None:
    assert ran.left == sorted(f"{name}.arrow" for name in BAD)


@pytest.mark.slow
def test_rows_say_what_a_server_tells_and_no_more(ran: Ran) -> None:
    rows = ran.done["nothing"].chunk.read()
    assert rows["prompt_ids"].to_pylist() == rows["token_ids"].to_pylist() == rows["logprobs"].to_pylist() == [[]] * 4
    assert rows["num_tokens"].to_pylist() == [7] * 4 and rows["truncated"].to_pylist() == [False] * 4
    assert all(math.isnan(value) for value in rows["entropy"].to_pylist())
    assert rows["seed"].to_pylist() == list(ran.chunks["nothing"].seeds)
    assert mean_tokens(rows) == 7.0 and math.isnan(policy_entropy(rows))
    assert scores_by_problem(rows) == {"nothing-0": [1.0, 1.0], "nothing-1": [1.0, 1.0]}


@pytest.mark.slow
def test_a_request_is_the_users_turn_and_how_it_is_sampled(ran: Ran) -> None:
    body = next(body for body in ran.script.asked if body["messages"][0]["content"].startswith("nothing number 1"))
    assert body == {
        "model": "tiny",
        "messages": [{"role": "user", "content": f"nothing number 1{SUFFIX}"}],
        "temperature": 1.0,
        "top_p": 1.0,
        "max_tokens": 50,
        "seed": body["seed"],
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    assert {body["seed"] for body in ran.script.asked} == {100, 101, 102, 103}
    assert set(ran.script.paths) == {"/v1/chat/completions"} and ran.script.listed == []


# ---------------------------------------------------------------- one chunk, of various replies


def answered(script: Script, chunk: Chunk, limits: Limits = LIMITS) -> Done:
    """Answers without verdicts, so that no process is started."""
    with served(script):
        return answer(script, chunk, limits)


def responses_of(folder: Path, *replies: object) -> list[tuple[str, bool, int | None]]:
    script = Script({"greedy": [says(200, reply) for reply in replies]}, last=says(500, b""))
    chunk = chunk_of(folder, "greedy", num_samples=0)
    answered(script, chunk)
    rows = feather.read_table(chunk.answers)
    return list(zip(*(rows[name].to_pylist() for name in ("response", "truncated", "num_tokens")), strict=True))


def test_greedy_takes_the_most_probable(tmp_path: Path) -> None:
    script = Script()
    for name, num_samples in (("greedy", 0), ("sampled", 1)):
        answered(script, chunk_of(tmp_path, name, num_samples=num_samples, temperature=0.7, top_p=0.9))
    assert [(body["temperature"], body["top_p"]) for body in script.asked] == [(0.0, 1.0)] * 2 + [(0.7, 0.9)] * 2


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
def test_reasoning_that_is_given_apart_stands_before_the_answer(tmp_path: Path, name: str) -> None:
    reply = completion("\\boxed{1}", **{name: "one"})
    assert responses_of(tmp_path, reply) == [("<think>one</think>\\boxed{1}", False, 7)] * 2


def test_a_response_that_was_cut_in_its_reasoning_has_not_closed_it(tmp_path: Path) -> None:
    reply = completion(None, finish_reason="length", reasoning_content="one \\boxed{1}")
    assert responses_of(tmp_path, reply) == [("<think>one \\boxed{1}", True, 7)] * 2


@pytest.mark.parametrize(
    "usage", ["none", {"completion_tokens": "7"}, {"completion_tokens": True}, {"completion_tokens": -1}, [7]]
)
def test_a_length_that_is_no_count_is_unknown(tmp_path: Path, usage: object) -> None:
    assert responses_of(tmp_path, completion("said", usage=usage)) == [("said", False, None)] * 2
    table = feather.read_table(chunk_of(tmp_path, "greedy").answers)
    assert math.isnan(mean_tokens(table)) and math.isnan(policy_entropy(table))


def test_a_lone_surrogate_becomes_a_mark_that_files_can_hold(tmp_path: Path) -> None:
    assert responses_of(
        tmp_path, b'{"choices": [{"message": {"content": "a\\ud800b\\u2028"}, "finish_reason": "stop"}]}'
    )[0] == (
        "a?b\u2028",
        False,
        None,
    )


def test_a_servers_second_choice_is_not_counted(tmp_path: Path) -> None:
    reply = completion("first")
    reply["choices"].append({"index": 1, "message": {"content": "second"}, "finish_reason": "length"})
    assert responses_of(tmp_path, reply) == [("first", False, 7)] * 2


# ---------------------------------------------------------------- a run that goes on


def journal_of(chunk: Chunk) -> list[dict]:
    return [json.loads(line) for line in journal_path(chunk).read_text().splitlines()]


def asked_of(script: Script) -> Counter[tuple[str, int]]:
    return Counter((body["messages"][0]["content"], body["seed"]) for body in script.asked)


def answer(script: Script, chunk: Chunk, limits: Limits = LIMITS) -> Done:
    """As `answered`, of a server that runs."""
    chunk.path.parent.mkdir(parents=True, exist_ok=True)
    with ServerSampler(script.address, Runtime(workers=1), limits=limits) as sampler:
        seconds, counts = sampler._begin(chunk).result(LONGEST_SECONDS)
    return Done(chunk, {"generate": seconds}, counts)


def half_answered(script: Script, chunk: Chunk) -> list[dict]:
    """A run that stopped after two responses."""
    script.refuses_from = 2
    with pytest.raises(ValueError, match="status 400"):
        answer(script, chunk, Limits(concurrency=1))
    assert len(script.asked) == 3 and not chunk.answers.exists()
    script.refuses_from = None
    script.asked.clear()
    return journal_of(chunk)


def test_after_a_failure_only_what_is_missing_is_asked_for(tmp_path: Path) -> None:
    chunk = chunk_of(tmp_path, "many", num_samples=3)
    with served(Script()) as script:
        lines = half_answered(script, chunk)
        assert [(line["problem_id"], line["sample"]) for line in lines] == [("many-0", 0), ("many-0", 1)]
        done = answer(script, chunk)
        assert done.counts == {"kept": 2, "requests": 4, "tokens": 42}
        assert asked_of(script) == {
            (f"{problem.prompt}{SUFFIX}", seed): 1
            for problem, seed in zip(chunk.asked[2:], range(102, 106), strict=True)
        }
    rows = feather.read_table(chunk.answers)
    assert rows["response"].to_pylist()[:2] == [line["response"] for line in lines]
    assert not journal_path(chunk).exists()


def test_a_line_that_a_kill_tore_is_asked_for_again_and_does_not_spoil_the_next(tmp_path: Path) -> None:
    chunk = chunk_of(tmp_path, "many", num_samples=3)
    with served(Script()) as script:
        half_answered(script, chunk)
        whole = journal_path(chunk).read_bytes()
        journal_path(chunk).write_bytes(whole[:-1])
        script.refuses_from = 1
        with pytest.raises(ValueError, match="status 400"):
            answer(script, chunk, Limits(concurrency=1))
        assert journal_path(chunk).read_bytes() == whole
        script.refuses_from = None
        assert answer(script, chunk).counts["kept"] == 2


def test_responses_to_other_questions_do_not_count(tmp_path: Path) -> None:
    chunk = chunk_of(tmp_path, "many", num_samples=3)
    with served(Script()) as script:
        half_answered(script, chunk)
        other = chunk_of(tmp_path, "many", num_samples=3, temperature=0.5)
        assert answer(script, other).counts == {"kept": 0, "requests": 6, "tokens": 42}


def test_of_two_lines_for_one_response_the_first_counts(tmp_path: Path) -> None:
    chunk = chunk_of(tmp_path, "many", num_samples=3)
    with served(Script()) as script:
        first, _ = half_answered(script, chunk)
        with journal_path(chunk).open("a") as journal:
            journal.write(json.dumps(first | {"response": "another"}) + "\n")
        assert answer(script, chunk).counts["kept"] == 2
    assert feather.read_table(chunk.answers)["response"][0].as_py() == first["response"]


def test_a_damaged_line_is_told_and_nothing_is_asked(tmp_path: Path) -> None:
    chunk = chunk_of(tmp_path, "many", num_samples=3)
    with served(Script()) as script:
        half_answered(script, chunk)
        journal_path(chunk).write_bytes(b"{}\n" + journal_path(chunk).read_bytes())
        with pytest.raises(ValueError, match=r"many\.responses\.jsonl: line 1 is damaged; remove it"):
            answer(script, chunk)
        assert script.asked == []


def test_what_was_answered_before_a_kill_is_only_judged_and_its_journal_goes(tmp_path: Path) -> None:
    chunk = chunk_of(tmp_path, "many", num_samples=1)
    with served(Script()) as script:
        answer(script, chunk)
        journal_path(chunk).write_text("left")
        with ServerSampler(script.address, Runtime(workers=1), limits=LIMITS) as sampler:
            sampler.sample([chunk])
        assert not journal_path(chunk).exists() and len(script.asked) == 2


KILLED = """
import sys
from pathlib import Path
from stages.config import Runtime
from stages.sampling.pacing import Limits
from stages.sampling.server import ServerSampler
from tests.stages.sampling.test_server import chunk_of
with ServerSampler(sys.argv[1], Runtime(workers=1), limits=Limits(concurrency=2)) as sampler:
    list(sampler.sample([chunk_of(Path(sys.argv[2]), name, num_samples=3) for name in ("one", "two")]))
"""


@pytest.mark.slow
def test_a_killed_run_asks_only_for_the_rest(tmp_path: Path) -> None:
    chunks = [chunk_of(tmp_path, name, num_samples=3) for name in ("one", "two")]
    with served(Script()) as script:
        script.blocks_from = 7
        command = [sys.executable, "-c", KILLED, script.address, str(tmp_path)]
        process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, cwd=tmp_path)
        end = time.monotonic() + LONGEST_SECONDS
        while len(script.asked) < 9 or sum(map(num_kept, chunks)) < 7:
            assert time.monotonic() < end
            time.sleep(0.02)
        process.kill()
        process.wait()
        assert sum(map(num_kept, chunks)) == 7
        answered, under_way = asked_of(script), {tuple_of(body) for body in script.asked[7:]}
        script.blocks_from = None
        script.asked.clear()
        with ServerSampler(script.address, Runtime(workers=1), limits=LIMITS) as sampler:
            done = list(sampler.sample(chunks))
        assert sum(one.counts.get("requests", 0) for one in done) == 5
    again = asked_of(script)
    assert set(again.values()) == {1} and again.keys() & answered.keys() == under_way
    assert (answered | again).keys() == {
        (f"{problem.prompt}{SUFFIX}", seed - 2**31)
        for chunk in chunks
        for problem, seed in zip(chunk.asked, chunk.seeds, strict=True)
    }
    for chunk in chunks:
        assert status_counts([chunk.read()]) == {"correct": 6}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.arrow", "two.arrow"]


def num_kept(chunk: Chunk) -> int:
    """Responses that a kill does not take."""
    if chunk.is_done or chunk.answers.exists():
        return len(chunk.seeds)
    try:
        return journal_path(chunk).read_bytes().count(b"\n")
    except FileNotFoundError:
        return 0


def tuple_of(body: dict) -> tuple[str, int]:
    return body["messages"][0]["content"], body["seed"]
