"""Verdicts on a chunk's responses: the half of sampling that needs the problems' answers and tests, and no model."""

import time
from collections.abc import Iterable

import pyarrow as pa
import pyarrow.feather as feather

from data.domains import FAILED_STATUSES
from data.schema import SAMPLE_SCHEMA
from stages.sampling.requests import Chunk, write_chunk
from stages.sampling.workers import Worker

VERDICT_COLUMNS = ("status", "score", "checker_failed", "weak", "extracted", "reason")
ANSWER_SCHEMA = pa.schema([column for column in SAMPLE_SCHEMA if column.name not in VERDICT_COLUMNS])


def forget_verdicts(chunks: Iterable[Chunk]) -> None:
    """Keep the responses of chunks on which the judge failed, and let them be judged anew: what failed may have been mended."""
    for chunk in chunks:
        samples = chunk.read()
        if FAILED_STATUSES.isdisjoint(samples["status"].to_pylist()):
            continue
        write_chunk(samples.drop_columns(list(VERDICT_COLUMNS)), chunk.answers)
        chunk.path.unlink()


def judge_chunk(worker: Worker, chunk: Chunk) -> float:
    """Write the chunk's file from its answers, which go then; returns the seconds that judging took."""
    started = time.monotonic()
    answers = feather.read_table(chunk.answers, memory_map=False)
    verdicts = worker.judge.verify(list(zip(answers["response"].to_pylist(), chunk.asked, strict=True)))
    columns = {name: [getattr(verdict, name) for verdict in verdicts] for name in VERDICT_COLUMNS}
    columns |= {name: answers[name] for name in ANSWER_SCHEMA.names}
    judged = pa.table({name: columns[name] for name in SAMPLE_SCHEMA.names}, schema=SAMPLE_SCHEMA)
    for name in answers.column_names[len(ANSWER_SCHEMA) :]:
        judged = judged.append_column(answers.schema.field(name), answers[name])
    write_chunk(judged, chunk.path)
    chunk.answers.unlink()
    return time.monotonic() - started
