"""Samples written by hand, and a sampler that gives them: another implementation of the protocol, without generator and judge."""

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.feather as feather

from data.schema import ROLLOUT_SCHEMA, SAMPLE_SCHEMA, Problem
from ring_model.policy import Scorer
from stages.rl.prompts import Pool
from stages.sampling.answering import REFERENCE_FIELD
from stages.sampling.judging import ANSWER_SCHEMA
from stages.sampling.requests import UNFINISHED, Begun, Chunk, Policy, write_chunk
from stages.sampling.sampler import Done


@dataclass(frozen=True)
class Reply:
    """A response and its verdict."""

    num_tokens: int = 4
    status: str = "wrong"


Script = Callable[[str, int], Reply]  # of problem and sample


def sample(**values: Any) -> dict[str, Any]:
    """A row of SAMPLE_SCHEMA; what is not stated follows from `num_tokens` and `status`."""
    number, status = values.get("num_tokens", 4), values.get("status", "wrong")
    defaults = {
        "problem_id": "p",
        "domain": "math",
        "sample": 0,
        "prompt_ids": [1, 2, 3],
        "response": "text",
        "token_ids": list(range(10, 10 + number)),
        "logprobs": [-0.5 * (place + 1) for place in range(number)],
        "status": status,
        "score": float(status == "correct"),
        "checker_failed": False,
        "weak": False,
        "extracted": "1",
        "reason": "",
        "seed": 7,
        "entropy": 0.25,
        "num_tokens": number,
        "truncated": False,
    }
    return {**defaults, **values}


def samples(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """SAMPLE_SCHEMA."""
    return pa.Table.from_pylist([sample(**row) for row in rows], schema=SAMPLE_SCHEMA)


def rollouts(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """ROLLOUT_SCHEMA; nothing is chosen where a row does not say so."""
    return pa.Table.from_pylist([_rollout(row) for row in rows], schema=ROLLOUT_SCHEMA)


def _rollout(values: Mapping[str, Any]) -> dict[str, Any]:
    row = sample(**values)
    step, version, number = row.get("step", 1), row.get("policy_version", 0), row["num_tokens"]
    born = {"step": 1, "asked_step": step, "born_step": step, "new_tokens": number, "group": 0, "budget_rank": 0}
    policy = {"policy_version": version, "token_versions": [version] * number, "reference_logprobs": []}
    chosen = {"reward": float("nan"), "advantage": float("nan"), "kept_tokens": 0, "weight": 0.0, "update": 0}
    return {**born, **policy, **chosen, **row}


def groups(*replies: Sequence[Reply]) -> pa.Table:
    """ROLLOUT_SCHEMA of groups of one virtual rank, before the choice."""
    return rollouts(
        [
            {"group": group, "problem_id": f"p{group}", "sample": number, "num_tokens": one.num_tokens, "status": one.status}
            for group, of_group in enumerate(replies)
            for number, one in enumerate(of_group)
        ]
    )  # fmt: skip


def pool_of(**sizes: int) -> Pool:
    """Problems by domain, by number."""
    problems = {
        domain: tuple(Problem(f"{domain}-{n}", domain, "rl", prompt=f"what is {n}", answer="1") for n in range(size))
        for domain, size in sizes.items()
    }
    return Pool(problems, {})


class ScriptedSampler:
    """A `Sampler`. It notes what it published, sampled and judged; where `keeps_first`, it never reads other weights than the first.

    In rounds (`Chunk.most_more`) a response goes on until it has the length that the script gives. Chunks then do not say which of a
    prompt's responses a row is: `sample_of` tells it by the row's seed.
    """

    def __init__(
        self, script: Script, *, folder: Path, keeps_first: bool = False, sample_of: Mapping[int, int] | None = None
    ) -> None:
        self.script, self.folder, self.keeps_first = script, folder, keeps_first
        self.sample_of = sample_of or {}
        self.check_every = 20
        self.published: list[int] = []
        self.compared = 0
        self.num_tokens = 0  # that it drew
        self.sampled: list[Chunk] = []
        self.judged: list[Chunk] = []
        self._model: Scorer | None = None

    @property
    def asked(self) -> list[str]:
        """The problems of all chunks that were sampled, in order."""
        return [problem.id for chunk in self.sampled for problem in chunk.problems]

    def publish(self, scorer: Scorer, *, version: int, oldest: int) -> Policy:
        self.published.append(version)
        if self._model is None or not self.keeps_first:
            self._model = copy.deepcopy(scorer)
        return Policy(self.folder / f"{version:06d}", self.folder)

    def check(self, policy: Policy, tokens: Sequence[int]) -> list[float]:
        assert self._model is not None
        assert policy.weights.name == f"{self.published[-1]:06d}"
        self.compared += 1
        return self._model.next_token_logprobs(tokens)

    def sample(self, chunks: Sequence[Chunk]) -> Iterator[Done]:
        for chunk in chunks:
            if chunk.is_done:
                continue
            chunk.path.parent.mkdir(parents=True, exist_ok=True)
            if not chunk.answers.exists():
                rows = self._rows(chunk)
                write_chunk(rows.select(ANSWER_SCHEMA.names), chunk.answers)
                self.sampled.append(chunk)
                there = sum(len(before.token_ids) for before in chunk.begun)
                self.num_tokens += sum(rows["num_tokens"].to_pylist()) - there
            verdicts = self._rows(chunk)
            answers = feather.read_table(chunk.answers, memory_map=False)
            columns = {
                name: (answers if name in ANSWER_SCHEMA.names else verdicts)[name] for name in SAMPLE_SCHEMA.names
            }
            write_chunk(self._with_reference(pa.table(columns, schema=SAMPLE_SCHEMA), chunk), chunk.path)
            chunk.answers.unlink()
            self.judged.append(chunk)
            yield Done(chunk, {"generate": 2.0, "judge": 0.5}, {"tokens": 3, "slots": 4})

    def _with_reference(self, rows: pa.Table, chunk: Chunk) -> pa.Table:
        """The reference finds every token twice as likely."""
        if chunk.reference is None:
            return rows
        pairs = zip(rows["logprobs"].to_pylist(), rows["status"].to_pylist(), strict=True)
        values = [[] if status == UNFINISHED else [logprob + math.log(2) for logprob in row] for row, status in pairs]
        return rows.append_column(REFERENCE_FIELD, pa.array(values, REFERENCE_FIELD.type))

    def _rows(self, chunk: Chunk) -> pa.Table:
        rows = []
        questions = [(problem, number) for problem in chunk.problems for number in chunk.samples]
        begun = chunk.begun or (Begun(),) * len(questions)
        for (problem, number), seed, before in zip(questions, chunk.seeds, begun, strict=True):
            reply = self.script(problem.id, self.sample_of.get(seed, number))
            there = reply.num_tokens
            if chunk.most_more is not None:
                there = min(there, len(before.token_ids) + chunk.most_more)
                assert before.token_ids == tuple(range(10, 10 + len(before.token_ids)))
            rows.append(
                {
                    "problem_id": problem.id,
                    "domain": problem.domain,
                    "sample": number,
                    "seed": seed,
                    "num_tokens": there,
                    "status": reply.status if there == reply.num_tokens else UNFINISHED,
                }
            )
        return samples(rows)
