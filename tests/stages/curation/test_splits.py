from data.schema import problems_from_table, read_table
from stages.curation.splits import BENCHMARK_ROWS, SPLITS, write_splits


def test_there_are_always_six_splits(pool, tmp_path):
    assert write_splits(pool(), {}, tmp_path) == dict.fromkeys(SPLITS, 0)
    assert set(SPLITS) == {"base", "sft", "validation", "rl", "probe", "heldout"}
    assert all(len(read_table(tmp_path / f"{split}.parquet")) == 0 for split in SPLITS)
    assert not (tmp_path / BENCHMARK_ROWS).exists()


def test_benchmark_rows_that_can_be_judged_join_heldout(problem, batch, pool, tmp_path):
    rows = [
        problem("Three?", id="b/0", split="eval", source="math500"),
        problem("Four?", id="b/1", split="eval", answer=""),
    ]
    heldout = batch(problem("Two?", id="h/0", split="heldout"), via="h", generated=True)
    assert write_splits(pool(heldout), {"math500": rows}, tmp_path)["heldout"] == 2
    written = problems_from_table(read_table(tmp_path / "heldout.parquet"))
    assert [(row.id, row.split, row.source) for row in written] == [("h/0", "heldout", "a"), ("b/0", "eval", "math500")]
    assert problems_from_table(read_table(tmp_path / BENCHMARK_ROWS)) == rows
