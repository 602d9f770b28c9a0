"""Sampling from a server in a process of its own, which fails in all ways: no response is lost, none is counted twice, and it is told.

The server is the program that stands before vLLM, with our own model behind it (`stand_in`); vLLM itself is asked by
`python -m benchmarks vllm_arm`.
"""

import json
import math
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from data.schema import SAMPLE_SCHEMA
from ring_model.checkpoint import load_model
from ring_model.generation import generate
from ring_model.tokenizer import Tokenizer
from stages.config import RlConfig, Runtime
from stages.sampling.answering import REFERENCE_FIELD, next_token_logprobs, response_logprobs_of
from stages.sampling.engines import publishing_sampler
from stages.sampling.journal import TokenLine, append_line, journal_path
from stages.sampling.pacing import Limits
from stages.sampling.prompting import prompt_ids
from stages.sampling.requests import UNFINISHED, Begun, Chunk, Policy
from stages.sampling.sampler import Done
from stages.sampling.vllm import VllmSampler, _digests, _request
from stages.sampling.vllm_client import Place
from tests.stages.conftest import PROBLEMS, arm_config
from tests.stages.sampling.conftest import chunk_of

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[3]
LIMITS = Limits(stall_seconds=5.0, connect_seconds=60.0, max_attempts=3, backoff_seconds=0.02)
TOKENS = [3, 4, 5, 6, 7]
Faults = Callable[..., None]


@dataclass(frozen=True)
class Served:
    """A sampler whose server runs, and what tells it to fail."""

    sampler: VllmSampler
    folder: Path


@pytest.fixture(scope="module")
def served(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("served")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RING_STAND_IN", str(folder / "faults.jsonl"))
        with sampler_in(folder, tiny_model) as sampler:
            yield Served(sampler, folder)


@pytest.fixture
def sampler(served: Served, tiny_model: Path) -> VllmSampler:
    """Its server runs, and has the tiny model's weights."""
    (served.folder / "faults.jsonl").write_text("")
    served.sampler.check(Policy.of(tiny_model), TOKENS)
    served.sampler._client.take_tally()
    return served.sampler


@pytest.fixture
def faults(served: Served, sampler: VllmSampler) -> Faults:
    """Say what the server is to do wrong, one after the other."""

    def say(*those: Mapping[str, Any]) -> None:
        (served.folder / "faults.jsonl").write_text("".join(json.dumps(one) + "\n" for one in those))

    return say


def sampler_in(folder: Path, model: Path, **values: Any) -> VllmSampler:
    program = folder / "launch.py"
    stand_in = Path(__file__).with_name("stand_in.py")
    program.write_text(
        f"import runpy, sys\nsys.path[0] = {str(ROOT)!r}\nrunpy.run_path({str(stand_in)!r}, run_name='__main__')\n"
    )
    place = Place(python=sys.executable, program=program, log=folder / "vllm.log")
    defaults: dict[str, Any] = {"max_rows": 4, "limits": LIMITS, "place": place}
    return VllmSampler(Runtime(workers=1), published=folder / "published", tokenizer=model, **{**defaults, **values})


def drawn(chunk: Chunk) -> list[list[int]]:
    """The tokens of every row, by our own generator from the seeds that the server gets."""
    model, tokenizer = load_model(chunk.policy.weights), Tokenizer.from_folder(chunk.policy.tokenizer)
    prompts = [prompt_ids(tokenizer, problem) for problem in chunk.asked]
    room = chunk.max_total_tokens or model.config.max_position_embeddings
    made = [
        generate(
            model, [prompt], seeds=[seed % 2**63], max_new_tokens=min(chunk.sampling.max_new_tokens, room - len(prompt)),
            temperature=0.0 if chunk.is_greedy else chunk.sampling.temperature, eos_id=tokenizer.end_ids,
        )
        for prompt, seed in zip(prompts, chunk.seeds, strict=True)
    ]  # fmt: skip
    return [one[0].token_ids for one in made]


def only(done: Iterator[Done]) -> Done:
    (one,) = done
    return one


# ---------------------------------------------------------------- what is drawn


def test_rows_are_those_of_the_weights_and_the_seeds(sampler: VllmSampler, tiny_model: Path, tmp_path: Path) -> None:
    chunks = [
        chunk_of(tmp_path / "sampled", tiny_model, max_total_tokens=64),
        chunk_of(tmp_path / "greedy", tiny_model, num_samples=0),
    ]
    done = {one.chunk.path: one for one in sampler.sample(chunks)}
    for chunk in chunks:
        rows = chunk.read()
        assert rows.schema == SAMPLE_SCHEMA
        assert rows["token_ids"].to_pylist() == drawn(chunk)
        assert rows["problem_id"].to_pylist() == [problem.id for problem in chunk.asked]
        assert rows["seed"].to_pylist() == list(chunk.seeds)
        assert all(math.isnan(entropy) for entropy in rows["entropy"].to_pylist())
        counts = done[chunk.path].counts
        assert counts["tokens"] == counts["slots"] == sum(rows["num_tokens"].to_pylist())
        assert (counts["kept"], counts["requests"]) == (0, 1)
        assert sorted(path.name for path in chunk.path.parent.iterdir()) == [chunk.path.name]
    tally = [sum(one.counts.get(name, 0) for one in done.values()) for name in ("server_starts", "weights_opened")]
    assert tally == [0, 0]


def test_a_round_goes_on_behind_what_there_is_with_random_numbers_of_its_own(
    sampler: VllmSampler, tiny_model: Path, tmp_path: Path
) -> None:
    begun = (Begun((5, 6), (-1.0, -2.0), math.nan), Begun())
    chunk = chunk_of(
        tmp_path / "c", tiny_model, PROBLEMS[:2], num_samples=1, begun=begun, most_more=3, reference=Policy.of(tiny_model)
    )  # fmt: skip
    only(sampler.sample([chunk]))
    rows = chunk.read()
    first, second = rows["token_ids"].to_pylist()
    assert first[:2] == [5, 6] and 3 <= len(first) <= 5 and 1 <= len(second) <= 3
    assert rows["logprobs"].to_pylist()[0][:2] == [-1.0, -2.0]
    assert rows["status"].to_pylist()[0] == UNFINISHED or rows["truncated"].to_pylist()[0] is False
    assert rows[REFERENCE_FIELD.name].to_pylist()[0] == ([] if rows["status"].to_pylist()[0] == UNFINISHED else first)


def test_the_reference_scores_what_was_drawn(
    sampler: VllmSampler, tiny_model: Path, other_model: Path, tmp_path: Path
) -> None:
    chunk = chunk_of(tmp_path / "c", tiny_model, reference=Policy.of(other_model))
    only(sampler.sample([chunk]))
    rows = chunk.read()
    columns = [rows[name].to_pylist() for name in ("prompt_ids", "token_ids")]
    expected = response_logprobs_of(load_model(other_model), columns[0], columns[1], 1.0)
    assert rows[REFERENCE_FIELD.name].to_pylist() == [values.tolist() for values in expected]


def test_published_weights_are_those_that_answer(sampler: VllmSampler, tiny_model: Path, other_model: Path) -> None:
    first = sampler.publish(load_model(tiny_model), version=0, oldest=0)
    second = sampler.publish(load_model(other_model), version=1, oldest=0)
    for policy, model in ((first, tiny_model), (second, other_model), (first, tiny_model)):
        assert sampler.check(policy, TOKENS) == next_token_logprobs(load_model(model), TOKENS)
    third = sampler.publish(load_model(tiny_model), version=2, oldest=2)
    assert [path.name for path in third.weights.parent.iterdir()] == ["000002"]


# ---------------------------------------------------------------- a server that fails

FAULTS = {
    "dies in a batch": ({"do": "die", "after": 3}, 1, 1),
    "dies at once": ({"do": "die"}, 1, 1),
    "drops the connection": ({"do": "drop", "after": 2}, 0, 0),
    "sends fewer": ({"do": "fewer", "after": 1}, 0, 0),
    "sends one twice": ({"do": "twice", "after": 1}, 0, 0),
    "sends what was not asked": ({"do": "stranger", "after": 1}, 0, 0),
    "sends too many tokens": ({"do": "long", "after": 1}, 0, 0),
    "its engine fails": ({"do": "fail", "after": 2}, 0, 1),
    "its engine hangs": ({"do": "hang", "after": 2}, 1, 1),
    "is slow": ({"do": "slow", "after": 1, "seconds": 2.0}, 0, 0),
}
"""What it does, how often it is started anew, and how often it opens the weights again."""


@pytest.mark.parametrize("name", FAULTS)
def test_no_response_is_lost_and_none_is_counted_twice(
    name: str, sampler: VllmSampler, faults: Faults, tiny_model: Path, tmp_path: Path
) -> None:
    fault, starts, opened = FAULTS[name]
    faults(fault)
    chunk = chunk_of(tmp_path / "c", tiny_model)
    counts = only(sampler.sample([chunk])).counts
    assert chunk.read()["token_ids"].to_pylist() == drawn(chunk)
    assert counts["requests"] == (1 if name == "is slow" else 2)
    assert [counts.get(what, 0) for what in ("server_starts", "weights_opened")] == [starts, opened]
    assert [path.name for path in chunk.path.parent.iterdir()] == [chunk.path.name]


def test_only_what_did_not_come_is_asked_for_again(
    sampler: VllmSampler, faults: Faults, tiny_model: Path, tmp_path: Path
) -> None:
    """A chunk of 6 rows; the server dies after 2, then after 2 more."""
    faults({"do": "die", "after": 2}, {"do": "die", "after": 2})
    chunk = chunk_of(tmp_path / "c", tiny_model)
    counts = only(sampler.sample([chunk])).counts
    assert (counts["requests"], counts["server_starts"]) == (3, 2)
    assert chunk.read()["token_ids"].to_pylist() == drawn(chunk)


def test_responses_that_came_before_a_kill_are_kept(sampler: VllmSampler, tiny_model: Path, tmp_path: Path) -> None:
    chunk = chunk_of(tmp_path / "c", tiny_model)
    tokenizer = Tokenizer.from_folder(tiny_model)
    prompts = [prompt_ids(tokenizer, problem) for problem in chunk.asked]
    digests = _digests(_request(chunk, prompts, end_ids=tokenizer.end_ids, room=128))
    chunk.path.parent.mkdir()
    for place, token in ((4, 9), (0, 8), (0, 7)):  # the first of two counts
        line = TokenLine(
            problem_id="p",
            sample=0,
            question=digests[place],
            token_ids=[token] * 8,
            logprobs=[-1.0] * 8,
            finished=False,
        )
        append_line(journal_path(chunk), line)
    with journal_path(chunk).open("ab") as journal:
        journal.write(b'{"problem_id": "torn')
    counts = only(sampler.sample([chunk])).counts
    rows, fresh = chunk.read()["token_ids"].to_pylist(), drawn(chunk)
    assert rows == [[8] * 8, *fresh[1:4], [9] * 8, fresh[5]]
    assert counts["kept"] == 2


def test_after_so_many_tries_without_any_response_it_says_so_and_keeps_what_came(
    sampler: VllmSampler, faults: Faults, tiny_model: Path, tmp_path: Path
) -> None:
    faults({"do": "die", "after": 2}, *[{"do": "die"}] * 3)
    chunk = chunk_of(tmp_path / "c", tiny_model)
    with pytest.raises(
        ConnectionError, match=r"did not give 4 responses of .* in 3 attempts, none of which brought any"
    ):
        list(sampler.sample([chunk]))
    assert len(journal_path(chunk).read_bytes().splitlines()) == 2
    assert only(sampler.sample([chunk])).counts["kept"] == 2
    assert chunk.read()["token_ids"].to_pylist() == drawn(chunk)


def test_numbers_that_are_not_finite_end_the_run(
    sampler: VllmSampler, faults: Faults, tiny_model: Path, tmp_path: Path
) -> None:
    faults({"do": "nan", "after": 1})
    with pytest.raises(FloatingPointError):
        list(sampler.sample([chunk_of(tmp_path / "c", tiny_model)]))


def test_a_model_that_the_engine_cannot_open_is_told_at_once(
    sampler: VllmSampler, faults: Faults, other_model: Path
) -> None:
    faults({"do": "refuse", "words": "Unsupported CPU attention configuration: head_dim=16"})
    with pytest.raises(ValueError, match=r"cannot open the model: RuntimeError: Unsupported .* head_dim=16"):
        sampler.check(Policy.of(other_model), TOKENS)


def test_a_server_that_has_other_weights_than_it_says_computes_others(
    sampler: VllmSampler, faults: Faults, tiny_model: Path, other_model: Path
) -> None:
    """What `Publisher` finds at every version: as vLLM's `reload_weights` on a CPU."""
    assert sampler.check_every == 1
    faults({"do": "others", "folder": str(tiny_model)})
    found = sampler.check(sampler.publish(load_model(other_model), version=7, oldest=7), TOKENS)
    assert found == next_token_logprobs(load_model(tiny_model), TOKENS)


# ---------------------------------------------------------------- processes


def test_a_server_that_somebody_else_started_needs_its_key(
    sampler: VllmSampler, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, policy = Place(address=sampler._client._address), Policy.of(tiny_model)
    with (
        sampler_in(tmp_path, tiny_model, place=place) as stranger,
        pytest.raises(ValueError, match="wants a key: set RING_VLLM_KEY"),
    ):
        stranger.check(policy, TOKENS)
    monkeypatch.setenv("RING_VLLM_KEY", sampler._client._key)
    with sampler_in(tmp_path, tiny_model, place=place) as guest:
        assert guest.check(policy, TOKENS) == sampler.check(policy, TOKENS)
    assert sampler.check(policy, TOKENS)  # a server that somebody else started is not ended


def test_a_server_ends_with_the_sampler_that_started_it(tiny_model: Path, tmp_path: Path) -> None:
    with sampler_in(tmp_path, tiny_model) as sampler:
        sampler.check(Policy.of(tiny_model), TOKENS)
        assert sampler._client._process is not None
        pid = sampler._client._process.popen.pid
        os.kill(pid, 0)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_an_address_where_nobody_is_is_told_after_so_many_tries(tiny_model: Path, tmp_path: Path) -> None:
    place = Place(address="http://127.0.0.1:9")
    said = r"did not give the fixed prompt in 3 attempts.*ConnectError"
    with sampler_in(tmp_path, tiny_model, place=place) as sampler, pytest.raises(ConnectionError, match=said):
        sampler.check(Policy.of(tiny_model), TOKENS)


@pytest.mark.parametrize(
    ("program", "said"), [("raise SystemExit('no module vllm')", "no module vllm"), ("print(1)", "it said nothing")]
)
def test_a_program_that_does_not_start_is_told_with_its_last_words(
    tiny_model: Path, tmp_path: Path, program: str, said: str
) -> None:
    (tmp_path / "broken.py").write_text(program)
    place = Place(python=sys.executable, program=tmp_path / "broken.py", log=tmp_path / "log")
    told = rf"broken.py did not start; it needs vLLM in its environment .*{said}"
    with sampler_in(tmp_path, tiny_model, place=place) as sampler, pytest.raises(ValueError, match=told):
        sampler.check(Policy.of(tiny_model), TOKENS)


# ---------------------------------------------------------------- which engine


def test_no_vllm_is_told_before_anything_is_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VLLM_PYTHON", raising=False)
    config = arm_config(sampling={"engine": "vllm"})
    for runtime, said in (
        (Runtime(), "set runtime.vllm_python"),
        (Runtime(vllm_python="no-such"), "no-such is not a program"),
    ):
        with pytest.raises(ValueError, match=said):
            publishing_sampler(config.sampling, runtime, published=tmp_path / "p", tokenizer=tmp_path)


def test_an_engine_that_tells_no_entropy_is_not_watched_for_it() -> None:
    watch = {"rules": ({"kind": "entropy_floor", "limit": 0.1},)}
    with pytest.raises(ValueError, match="tells no entropy"):
        arm_config(sampling={"engine": "vllm"}, watch=watch)
    assert isinstance(arm_config(sampling={"engine": "workers"}, watch=watch), RlConfig)
