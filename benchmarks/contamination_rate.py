"""How many rows of sets that hold no benchmark rows decontamination drops: with pairs to read, since some of them are leaks.

    python -m benchmarks contamination_rate
    READ=50 python -m benchmarks contamination_rate

Curates the public sets of RING_DATA_DIR (else ../shared/data) as `curate-public` says, up to decontamination, and draws 2 000 rows that
came as far as that step from sets that are not made of benchmark rows. `RATE_SEED` names another draw.
"""

import os
import random
import sys
import tempfile
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq

from stages.config import Runtime
from stages.curation import run
from stages.recipe import load_recipe
from stages.stage import StageLog

NUM_ROWS = 2000
MADE_OF_BENCHMARKS = (  # the same collection as a benchmark, or answers to one
    "math_train", "math_test4500", "aime_1983_2023", "mbpp", "gsm8k", "gsm8k_model_solutions", "taco_solutions", "qwen_math_cot_rm",
)  # fmt: skip
ROOT = Path(__file__).resolve().parents[1]
_SPLITS = ("sft", "rl", "probe", "validation")
_SHOWN = 400  # characters


def main() -> None:
    """Print the rate, what it is made of, and `READ` pairs."""
    data = Path(os.environ.get("RING_DATA_DIR", ROOT.parent / "shared" / "data"))
    with tempfile.TemporaryDirectory() as scratch:
        rows = _seen(data, Path(scratch))
    seed = int(os.environ.get("RATE_SEED", "0"))
    drawn = random.Random(seed).sample(rows, NUM_ROWS)
    for name, found in (("all", rows), (f"drawn, seed {seed}", drawn)):
        gone = [row for row in found if row.get("reason")]
        kinds = Counter(
            ("own probe row" if row["benchmark"] == "probe" else "benchmark", row["reason"]) for row in gone
        )
        sys.stdout.write(f"{name}: {len(gone)} of {len(found)} rows dropped ({len(gone) / len(found):.2%})\n")
        for (whose, reason), count in kinds.most_common():
            sys.stdout.write(f"  {count:5} {whose}, {reason}\n")
    _show(rows, count=int(os.environ.get("READ", "0")), seed=seed)


def _seen(data: Path, out: Path) -> list[dict]:
    """Rows that decontamination saw, those that it dropped with the benchmark's prompt as `leaks`."""
    config = load_recipe("curate-public").recipe.curation
    config = config.model_copy(update={"skip": ("verification", "annotation"), "mixture": None})
    log = StageLog(None)
    run(config, inputs={"data-dir": data}, runtime=Runtime(workers=2), out=out, log=log)
    kept = [row for split in _SPLITS for row in pq.read_table(out / f"{split}.parquet").to_pylist()]
    dropped = pq.read_table(out / "dropped.parquet").to_pylist()
    prompts = {row["id"]: row["prompt"] for path in data.glob("*.parquet") for row in pq.read_table(path).to_pylist()}
    gone = [{**row, "leaks": prompts.get(row["against"], "")} for row in dropped if row["step"] == "decontamination"]
    return [row for row in (*kept, *gone) if row["source"] not in MADE_OF_BENCHMARKS]


def _show(rows: list[dict], *, count: int, seed: int) -> None:
    gone = [row for row in rows if row.get("reason")]
    for row in random.Random(seed).sample(gone, min(count, len(gone))):
        sys.stdout.write(f"\n{row['id']}: {row['reason']}, {row['evidence']}\n")
        for text, answer in ((row["prompt"], row["answer"]), (row["leaks"], "")):
            sys.stdout.write(f"  {' '.join(text.split())[:_SHOWN]}  [{answer[:40]}]\n")


if __name__ == "__main__":
    main()
