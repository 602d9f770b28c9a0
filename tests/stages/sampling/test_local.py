"""Sampling by worker processes: the same bytes for any number of them, and after a kill only what is missing."""

import io
import json
from pathlib import Path

from data.schema import write_table
from stages.config import Runtime, Sampling
from stages.sampling.local import LocalSampler
from stages.sampling.requests import Policy, SamplingJob
from stages.sampling.sampler import sample_and_judge
from stages.stage import StageLog
from tests.stages.conftest import PROBLEMS


def sampled(model: Path, out: Path, *, workers: int) -> tuple[bytes, list[dict]]:
    sampling, problems = Sampling(max_new_tokens=12, chunk_problems=4, max_rows=8), PROBLEMS[:12]
    jobs = [
        SamplingJob(name, Policy.of(model), problems, n, sampling, seed=3) for name, n in (("greedy", 0), ("many", 2))
    ]
    events = io.StringIO()
    with LocalSampler(Runtime(workers=workers), published=out / "published") as sampler:
        tables = sample_and_judge(jobs, sampler=sampler, folder=out / ".state", log=StageLog(events)).tables
    for name, table in tables.items():
        write_table(table, out / f"{name}.parquet")
    written = b"".join((out / f"{name}.parquet").read_bytes() for name in tables)
    return written, [json.loads(line) for line in events.getvalue().splitlines()]


def test_the_number_of_workers_changes_no_byte_and_finished_chunks_are_kept(tiny_model: Path, tmp_path: Path) -> None:
    one, _ = sampled(tiny_model, tmp_path / "one", workers=1)
    two, _ = sampled(tiny_model, tmp_path / "two", workers=2)
    assert one == two
    chunks = sorted((tmp_path / "two" / ".state").rglob("*.arrow"))
    assert len(chunks) == 6
    chunks[4].unlink()  # as if the stage had been killed before this one
    again, events = sampled(tiny_model, tmp_path / "two", workers=2)
    assert again == one
    assert events[0] == {"event": "resumed", "text": "5 of 6 chunks of responses are there"}
