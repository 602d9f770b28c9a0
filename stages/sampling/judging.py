"""Verdicts on a chunk's responses: the half of sampling that needs the problems' answers and tests, and no model."""

import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.feather as feather

from data.domains import FAILED_STATUSES, Verdict
from data.schema import SAMPLE_SCHEMA, Problem
from stages.sampling.requests import UNFINISHED, Chunk, answers_path, write_chunk
from stages.sampling.workers import Worker

VERDICT_COLUMNS = ("status", "score", "checker_failed", "weak", "extracted", "reason")
_NONE_YET = Verdict(UNFINISHED, score=0.0, extracted="", reason="", seconds=0.0)
ANSWER_SCHEMA = pa.schema([column for column in SAMPLE_SCHEMA if column.name not in VERDICT_COLUMNS])


def forget_verdicts(paths: Iterable[Path]) -> None:
    """Keep the responses of chunks on which the judge failed, and let them be judged anew: what failed may have been mended."""
    for path in paths:
        samples = feather.read_table(path, memory_map=False)
        if FAILED_STATUSES.isdisjoint(samples["status"].to_pylist()):
            continue
        write_chunk(samples.drop_columns(list(VERDICT_COLUMNS)), answers_path(path))
        path.unlink()


def judge_chunk(worker: Worker, chunk: Chunk) -> float:
    """Write the chunk's file from its answers, which go then; returns the seconds that judging took."""
    started = time.monotonic()
    answers = feather.read_table(chunk.answers, memory_map=False)
    write_verdicts(chunk, answers, worker.judge.verify(to_judge(chunk, answers)))
    return time.monotonic() - started


def to_judge(chunk: Chunk, answers: pa.Table) -> list[tuple[str, Problem]]:
    """The responses of a chunk's answers with their problems, but those that go on."""
    pairs = zip(answers["response"].to_pylist(), chunk.asked, strict=True)
    return [pair for pair, waits in zip(pairs, _goes_on(answers), strict=True) if not waits]


def write_verdicts(chunk: Chunk, answers: pa.Table, told: Sequence[Verdict]) -> None:
    """Write the chunk's file from its answers and the verdicts on `to_judge`, in that order; the file of answers goes then."""
    found = iter(told)
    verdicts = [_NONE_YET if waits else next(found) for waits in _goes_on(answers)]
    columns = {name: [getattr(verdict, name) for verdict in verdicts] for name in VERDICT_COLUMNS}
    columns |= {name: answers[name] for name in ANSWER_SCHEMA.names}
    judged = pa.table({name: columns[name] for name in SAMPLE_SCHEMA.names}, schema=SAMPLE_SCHEMA)
    for name in answers.column_names[len(ANSWER_SCHEMA) :]:
        judged = judged.append_column(answers.schema.field(name), answers[name])
    write_chunk(judged, chunk.path)
    chunk.answers.unlink()


def _goes_on(answers: pa.Table) -> list[bool]:
    return answers[UNFINISHED].to_pylist() if UNFINISHED in answers.column_names else [False] * len(answers)
