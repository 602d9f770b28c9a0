"""Responses to a chunk: every column says what the model did, and a process that keeps a model answers by the policy that is named."""

import math
import shutil
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.feather as feather
import pytest
import torch

from ring_model.checkpoint import load_model, save_model, save_parameters
from ring_model.configuration import BailingMoeConfig
from ring_model.generation import generate
from ring_model.modelling import BailingMoe, initialise
from ring_model.tokenizer import Tokenizer
from stages.config import Sampling
from stages.sampling.answering import answer_chunk, next_token_logprobs, token_logprobs
from stages.sampling.judging import ANSWER_SCHEMA
from stages.sampling.prompting import prompt_ids
from stages.sampling.requests import GREEDY, Begun, Chunk, Policy
from stages.sampling.workers import Worker
from tests.stages.conftest import PROBLEMS, SIZES
from tests.stages.sampling.conftest import chunk_of

TOKENS = (1, 5, 9, 2, 7)
LONG = Sampling(max_new_tokens=40, max_rows=5)


def answered(worker: Worker, chunk: Chunk) -> pa.Table:
    answer_chunk(worker, chunk)
    table = feather.read_table(chunk.answers, memory_map=False)
    chunk.answers.unlink()
    return table


def slow_logprobs(model: BailingMoe, tokens: tuple[int, ...]) -> list[float]:
    """Log-probability of every token but the first, one row of logits after the other."""
    with torch.no_grad():
        logits_NV = model.logits(model(torch.tensor([tokens])).hidden_ND).double()
    return [float(row.log_softmax(dim=0)[token]) for row, token in zip(logits_NV, tokens[1:], strict=False)]


# ---------------------------------------------------------------- what is written


def test_every_row_says_what_was_asked_and_what_the_model_did(worker: Worker, tiny_model: Path, tmp_path: Path) -> None:
    chunk = chunk_of(tmp_path, tiny_model, PROBLEMS[:3], num_samples=3, sampling=LONG)
    rows = answered(worker, chunk)
    tokenizer, model = Tokenizer.from_folder(tiny_model), load_model(tiny_model)
    assert rows.schema == ANSWER_SCHEMA
    assert rows["problem_id"].to_pylist() == [problem.id for problem in PROBLEMS[:3] for _ in range(3)]
    assert rows["domain"].to_pylist() == [problem.domain for problem in PROBLEMS[:3] for _ in range(3)]
    assert rows["sample"].to_pylist() == [0, 1, 2] * 3
    assert rows["seed"].to_pylist() == list(range(100, 109))
    for row, problem in zip(rows.to_pylist(), chunk.asked, strict=True):
        tokens, ended = row["token_ids"], row["token_ids"][-1] == tokenizer.eos_id
        assert row["prompt_ids"] == prompt_ids(tokenizer, problem)
        assert row["num_tokens"] == len(tokens) <= 40
        assert row["truncated"] == (not ended) and (ended or len(tokens) == 40)
        assert row["response"] == tokenizer.decode(tokens[:-1] if ended else tokens)
        assert "<|endoftext|>" not in row["response"]
        whole = slow_logprobs(model, (*row["prompt_ids"], *tokens))
        assert row["logprobs"] == pytest.approx(whole[-len(tokens) :], abs=1e-5)
        assert 0 < row["entropy"] < math.log(tokenizer.vocab_size)
    assert set(rows["truncated"].to_pylist()) == {True, False}


def test_every_end_token_ends_a_response_and_is_no_part_of_its_text(
    worker: Worker, tiny_model: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "several"
    words = Tokenizer.from_folder(tiny_model).vocab_size - 1  # the last ids are plain words
    save_model(load_model(tiny_model), folder, end_ids=[0, words, words - 1, words - 2])
    Tokenizer.from_folder(tiny_model).save(folder)
    one, several = (
        answered(worker, chunk_of(tmp_path, made, num_samples=4, sampling=LONG)) for made in (tiny_model, folder)
    )
    tokenizer = Tokenizer.from_folder(folder)
    ends = []
    for whole, row in zip(one.to_pylist(), several.to_pylist(), strict=True):
        places = [place for place, token in enumerate(whole["token_ids"]) if token in tokenizer.end_ids]
        tokens = whole["token_ids"][: places[0] + 1 if places else None]
        assert row["token_ids"] == tokens
        assert row["truncated"] == (not places)
        assert row["response"] == tokenizer.decode(tokens[:-1] if places else tokens)
        ends += [tokens[-1]] if places else []
    assert len(set(ends)) > 1


def test_a_chunk_is_what_generate_gives_for_its_settings(worker: Worker, tiny_model: Path, tmp_path: Path) -> None:
    sampling = Sampling(max_new_tokens=12, max_rows=3, temperature=0.7, top_p=0.3)
    chunk = chunk_of(tmp_path, tiny_model, PROBLEMS[:2], sampling=sampling)
    rows = answered(worker, chunk)
    tokenizer = Tokenizer.from_folder(tiny_model)
    settings = {"max_new_tokens": 12, "eos_id": tokenizer.eos_id, "max_rows": 3}
    prompts = [prompt_ids(tokenizer, problem) for problem in chunk.asked]
    made = generate(load_model(tiny_model), prompts, seeds=chunk.seeds, temperature=0.7, top_p=0.3, **settings)
    assert rows["token_ids"].to_pylist() == [one.token_ids for one in made]
    assert rows["entropy"].to_pylist() == pytest.approx([float(one.entropies.mean()) for one in made])
    wide = generate(load_model(tiny_model), prompts, seeds=chunk.seeds, temperature=0.7, **settings)
    assert rows["token_ids"].to_pylist() != [one.token_ids for one in wide]


def test_a_greedy_chunk_takes_the_most_probable_tokens_whatever_the_temperature(
    worker: Worker, tiny_model: Path, tmp_path: Path
) -> None:
    hot = Sampling(max_new_tokens=12, temperature=1.0, top_p=0.5)
    rows = answered(worker, chunk_of(tmp_path, tiny_model, num_samples=0, sampling=hot))
    model = load_model(tiny_model)
    assert rows["sample"].to_pylist() == [GREEDY] * 3
    for row in rows.to_pylist():
        with torch.no_grad():
            logits_NV = model.logits(model(torch.tensor([row["prompt_ids"] + row["token_ids"]])).hidden_ND)
        assert logits_NV.argmax(dim=1)[len(row["prompt_ids"]) - 1 : -1].tolist() == row["token_ids"]


def test_samples_of_one_prompt_differ_and_the_same_seeds_give_the_same(
    worker: Worker, tiny_model: Path, tmp_path: Path
) -> None:
    chunk = chunk_of(tmp_path, tiny_model, PROBLEMS[:1], num_samples=4)
    rows = answered(worker, chunk)
    assert len({tuple(tokens) for tokens in rows["token_ids"].to_pylist()}) == 4
    assert answered(worker, chunk) == rows
    assert answered(worker, replace(chunk, seeds=(7, 8, 9, 10)))["token_ids"] != rows["token_ids"]


def test_a_response_does_not_depend_on_what_is_asked_beside_it(
    worker: Worker, tiny_model: Path, tmp_path: Path
) -> None:
    together = answered(worker, chunk_of(tmp_path, tiny_model, PROBLEMS[:3], seeds=(1, 2, 3, 4, 5, 6)))
    alone = answered(worker, chunk_of(tmp_path, tiny_model, PROBLEMS[1:2], seeds=(3, 4)))
    assert together["token_ids"].to_pylist()[2:4] == alone["token_ids"].to_pylist()


def test_prompt_and_response_have_at_most_the_chunks_tokens(worker: Worker, tiny_model: Path, tmp_path: Path) -> None:
    rows = answered(worker, chunk_of(tmp_path, tiny_model, max_total_tokens=50, sampling=LONG))
    lengths = [len(row["prompt_ids"]) + row["num_tokens"] for row in rows.to_pylist()]
    assert max(lengths) == 50


def test_the_counts_say_how_full_the_rows_were(worker: Worker, tiny_model: Path, tmp_path: Path) -> None:
    chunk = chunk_of(tmp_path, tiny_model)
    seconds, counts = answer_chunk(worker, chunk)
    rows = feather.read_table(chunk.answers, memory_map=False)
    assert counts["tokens"] == sum(rows["num_tokens"].to_pylist()) <= counts["slots"]
    assert 0 < seconds < 60


# ---------------------------------------------------------------- log-probabilities


def test_log_probabilities_of_a_text_are_those_of_a_slow_softmax(tiny_model: Path) -> None:
    model = load_model(tiny_model)
    found = next_token_logprobs(model, TOKENS)
    assert len(found) == 4
    assert found == pytest.approx(slow_logprobs(model, TOKENS), abs=1e-6)


# ---------------------------------------------------------------- the model that a process keeps


def asked(worker: Worker, policy: Policy) -> list[float]:
    return token_logprobs(worker, (policy, TOKENS))


def test_a_process_answers_by_the_policy_that_is_named_and_reads_it_once(
    worker: Worker, tiny_model: Path, other_model: Path, tmp_path: Path
) -> None:
    policy = Policy(Path(shutil.copytree(tiny_model, tmp_path / "mine")), tiny_model)
    mine, theirs = (next_token_logprobs(load_model(folder), TOKENS) for folder in (tiny_model, other_model))
    assert mine != theirs
    assert asked(worker, policy) == mine
    shutil.rmtree(tmp_path / "mine")
    assert asked(worker, policy) == mine  # it keeps what it read
    kept = worker.kept["model"]
    assert asked(worker, Policy.of(other_model)) == theirs
    assert worker.kept["model"] is kept  # other weights of the same sizes are read into the memory of the last
    assert asked(worker, Policy.of(tiny_model)) == mine


def test_weights_that_were_published_are_read_as_they_lie(worker: Worker, tiny_model: Path, tmp_path: Path) -> None:
    model = initialise(load_model(tiny_model), seed=9)
    save_parameters(model, tmp_path / "000001")
    assert asked(worker, Policy.of(tiny_model)) != next_token_logprobs(model, TOKENS)
    assert asked(worker, Policy(tmp_path / "000001", tiny_model)) == next_token_logprobs(model, TOKENS)


def test_a_model_of_other_sizes_takes_the_place_of_the_last(worker: Worker, tiny_model: Path, tmp_path: Path) -> None:
    vocabulary = load_model(tiny_model).config.vocab_size
    larger = BailingMoeConfig(
        **{**SIZES, "num_hidden_layers": 2}, vocab_size=vocabulary, eos_token_id=0, pad_token_id=0
    )
    save_model(initialise(BailingMoe(larger), seed=3), tmp_path / "larger")
    asked(worker, Policy.of(tiny_model))
    expected = next_token_logprobs(load_model(tmp_path / "larger"), TOKENS)
    assert asked(worker, Policy(tmp_path / "larger", tiny_model)) == expected
    assert worker.kept["model"].config == larger


def test_weights_that_cannot_be_read_leave_none_that_could_answer_for_others(
    worker: Worker, tiny_model: Path, other_model: Path, tmp_path: Path
) -> None:
    mine = asked(worker, Policy.of(tiny_model))
    broken = Path(shutil.copytree(other_model, tmp_path / "broken"))
    (broken / "model.safetensors").write_bytes((broken / "model.safetensors").read_bytes()[:-100])
    with pytest.raises(ValueError, match="is not a whole safetensors file"):
        asked(worker, Policy(broken, tiny_model))
    assert "policy" not in worker.kept
    assert asked(worker, Policy.of(tiny_model)) == mine


def test_the_tokenizer_is_that_of_the_policy(worker: Worker, tiny_model: Path, tmp_path: Path) -> None:
    renamed = Path(shutil.copytree(tiny_model, tmp_path / "renamed"))
    settings = (renamed / "tokenizer_config.json").read_text(encoding="utf-8")
    assert "<think>" in settings
    (renamed / "tokenizer_config.json").write_text(settings.replace("<think>", "compute <think>"), encoding="utf-8")
    chunk = chunk_of(tmp_path, tiny_model)
    mine = answered(worker, chunk)["prompt_ids"].to_pylist()
    theirs = answered(worker, replace(chunk, policy=Policy(tiny_model, renamed)))["prompt_ids"].to_pylist()
    compute = Tokenizer.from_folder(tiny_model).encode("compute")
    assert theirs == [[*prompt[:-1], *compute, prompt[-1]] for prompt in mine]
    assert answered(worker, chunk)["prompt_ids"].to_pylist() == mine


# ---------------------------------------------------------------- in rounds, and beside a reference


def begun_of(rows: pa.Table) -> tuple[Begun, ...]:
    columns = (rows[name].to_pylist() for name in ("token_ids", "logprobs", "entropy"))
    return tuple(
        Begun(tuple(tokens), tuple(logprobs), entropy) for tokens, logprobs, entropy in zip(*columns, strict=True)
    )


def rounds_of(worker: Worker, chunk: Chunk, *, most_more: int) -> tuple[dict[int, dict], list[int]]:
    """The last that is told of each row by its seed, and how many rows each round asked."""
    found: dict[int, dict] = {}
    problems, seeds, begun, asked = tuple(chunk.asked), chunk.seeds, (Begun(),) * len(chunk.asked), []
    while seeds:
        asked.append(len(seeds))
        part = replace(chunk, problems=problems, samples=(0,), seeds=seeds, begun=begun, most_more=most_more)
        rows = answered(worker, part)
        found |= {row["seed"]: row for row in rows.to_pylist()}
        goes_on = rows["unfinished"].to_pylist()
        problems = tuple(one for one, waits in zip(problems, goes_on, strict=True) if waits)
        seeds = tuple(one for one, waits in zip(seeds, goes_on, strict=True) if waits)
        begun = tuple(one for one, waits in zip(begun_of(rows), goes_on, strict=True) if waits)
    return found, asked


@pytest.mark.parametrize("limits", [{}, {"max_total_tokens": 24}])
def test_a_chunk_in_rounds_gives_the_responses_of_one_at_once(
    worker: Worker, tiny_model: Path, tmp_path: Path, limits: dict
) -> None:
    chunk = chunk_of(
        tmp_path, tiny_model, PROBLEMS[:3], num_samples=3, sampling=LONG, reference=Policy.of(tiny_model), **limits
    )
    at_once = answered(worker, chunk)
    assert "unfinished" not in at_once.column_names
    found, asked = rounds_of(worker, chunk, most_more=7)
    assert asked[0] == 9 and asked == sorted(asked, reverse=True) and len(asked) > 1
    for row in at_once.to_pylist():
        cut = found[row["seed"]]
        same = ("problem_id", "prompt_ids", "response", "token_ids", "num_tokens", "truncated")
        assert {name: cut[name] for name in same} == {name: row[name] for name in same}
        assert cut["logprobs"] == pytest.approx(row["logprobs"], abs=1e-5)
        assert cut["entropy"] == pytest.approx(row["entropy"], abs=1e-5)
        assert cut["reference_logprobs"] == pytest.approx(row["reference_logprobs"], abs=1e-5)
        assert len(cut["reference_logprobs"]) == row["num_tokens"]


def test_what_was_drawn_by_other_weights_stays_and_the_rest_is_drawn_by_these(
    worker: Worker, tiny_model: Path, other_model: Path, tmp_path: Path
) -> None:
    chunk = chunk_of(tmp_path, tiny_model, PROBLEMS[:2], num_samples=1, sampling=LONG, most_more=5)
    first = answered(worker, chunk)
    assert first["unfinished"].to_pylist() == [True, True]
    assert first["num_tokens"].to_pylist() == [5, 5]
    second = answered(worker, replace(chunk, policy=Policy.of(other_model), begun=begun_of(first)))
    model = load_model(other_model)
    for before, row in zip(first.to_pylist(), second.to_pylist(), strict=True):
        assert row["token_ids"][:5] == before["token_ids"]
        assert row["logprobs"][:5] == before["logprobs"]
        whole = slow_logprobs(model, (*row["prompt_ids"], *row["token_ids"]))
        assert row["logprobs"][5:] == pytest.approx(whole[len(row["prompt_ids"]) + 4 :], abs=1e-5)
        assert row["logprobs"][:5] != pytest.approx(whole[len(row["prompt_ids"]) - 1 :][:5], abs=1e-3)


def test_a_reference_tells_its_own_log_probability_of_every_token_of_what_is_finished(
    worker: Worker, tiny_model: Path, other_model: Path, tmp_path: Path
) -> None:
    chunk = chunk_of(tmp_path, tiny_model, PROBLEMS[:3], sampling=LONG, reference=Policy.of(other_model))
    model = load_model(other_model)
    for row in answered(worker, chunk).to_pylist():
        whole = slow_logprobs(model, (*row["prompt_ids"], *row["token_ids"]))
        assert row["reference_logprobs"] == pytest.approx(whole[len(row["prompt_ids"]) - 1 :], abs=1e-5)
    unfinished = answered(worker, replace(chunk, most_more=2))
    for row in unfinished.to_pylist():
        assert len(row["reference_logprobs"]) == (0 if row["unfinished"] else row["num_tokens"])
    assert True in unfinished["unfinished"].to_pylist()
