"""Sampling by worker processes: the same bytes for any number of them, and after a kill only what is missing."""

import io
import json
from pathlib import Path

import pytest

from data.domains import DOMAINS
from data.schema import write_table
from data.sources.procedural import PHRASES, generate_problems, propose_trace
from ring_model.checkpoint import save_model
from ring_model.configuration import BailingMoeConfig
from ring_model.modelling import BailingMoe, initialise
from ring_model.tokenizer import build_word_tokenizer
from stages.config import Runtime, Sampling
from stages.sampling.local import SamplingJob, sample_and_judge
from stages.stage import StageLog

PROBLEMS = generate_problems(
    name="t", split="probe", num_problems=12, kinds={"chain": 0.5, "fit": 0.5}, levels={1: 1.0}, seed=0
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    texts = [propose_trace(row, styles={"long": 1.0}, slips={"long": 0.0}, seed=0) for row in PROBLEMS]
    suffixes = [domain.prompt_suffix for domain in DOMAINS.values()]
    tokenizer = build_word_tokenizer([*texts, *(row.prompt for row in PROBLEMS)], phrases=[*suffixes, *PHRASES])
    config = BailingMoeConfig(
        vocab_size=tokenizer.vocab_size,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        num_experts=4,
        num_experts_per_tok=2,
        num_shared_experts=1,
        moe_intermediate_size=8,
        max_position_embeddings=128,
        eos_token_id=tokenizer.eos_id,
        pad_token_id=tokenizer.pad_id,
    )
    save_model(initialise(BailingMoe(config), seed=0), folder)
    tokenizer.save(folder)
    return folder


def sampled(model: Path, out: Path, *, workers: int, max_rows: int = 8) -> tuple[bytes, list[dict]]:
    sampling = Sampling(max_new_tokens=12, chunk_problems=4)
    jobs = [SamplingJob(name, model, tuple(PROBLEMS), n, sampling, seed=3) for name, n in (("greedy", 0), ("many", 2))]
    events = io.StringIO()
    runtime = Runtime(workers=workers, max_rows=max_rows)
    tables = sample_and_judge(jobs, state=out / ".state", runtime=runtime, log=StageLog(events)).tables
    for name, table in tables.items():
        write_table(table, out / f"{name}.parquet")
    written = b"".join((out / f"{name}.parquet").read_bytes() for name in tables)
    return written, [json.loads(line) for line in events.getvalue().splitlines()]


def test_the_number_of_workers_changes_no_byte_and_finished_chunks_are_kept(model: Path, tmp_path: Path) -> None:
    one, _ = sampled(model, tmp_path / "one", workers=1)
    two, _ = sampled(model, tmp_path / "two", workers=2)
    assert one == two
    chunks = sorted((tmp_path / "two" / ".state").rglob("*.parquet"))
    assert len(chunks) == 6
    chunks[4].unlink()  # as if the stage had been killed before this one
    again, events = sampled(model, tmp_path / "two", workers=2)
    assert again == one
    assert events[0] == {"event": "resumed", "text": "5 of 6 chunks of responses are there"}
