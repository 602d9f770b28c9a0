"""The responses of a sealed RL arm, as people read them: the steps that there are, the rows of one, and what each row says in words.

In: rollouts/step-000057.parquet of an arm (rows of ROLLOUT_SCHEMA), rl.parquet of the curation that it was made from. A step of the
paper's size has 8 192 long responses, so a column is read only where it is wanted.
"""

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from data.domains import STATUSES
from data.schema import PROBLEM_SCHEMA, ROLLOUT_SCHEMA, read_table
from stages.sampling.requests import EXPIRED, UNFINISHED
from stages.stage import ROLLOUTS, step_file

TOKEN_COLUMNS = ("prompt_ids", "token_ids", "logprobs", "token_versions", "reference_logprobs")  # a number a token
TEXT_COLUMNS = tuple(name for name in ROLLOUT_SCHEMA.names if name not in TOKEN_COLUMNS)
WITHOUT_VERDICT = {
    UNFINISHED: "unfinished, goes on in the next step",
    EXPIRED: "expired, given up before it was finished",
}
"""Status of a response that nobody judged -> words; of partial rollouts."""
ROLLOUT_STATUSES = (*STATUSES, *WITHOUT_VERDICT)
_STEP_FILE = re.compile(r"step-(\d+)\.parquet")


def rollout_steps(artifact: Path) -> list[int]:
    """The steps of which responses are kept, in order; of an arm that samples nothing, none."""
    found = (_STEP_FILE.fullmatch(path.name) for path in (artifact / ROLLOUTS).glob("*"))
    return sorted(int(match[1]) for match in found if match)


def read_rollouts(artifact: Path, step: int, names: Sequence[str]) -> pa.Table:
    """Columns of a step, a row a response, by group and sample. Raises ValueError where the file cannot be read so."""
    path = artifact / ROLLOUTS / step_file(step)
    return read_table(path, _columns(ROLLOUT_SCHEMA, names))


def rollout_rows(
    artifact: Path, step: int, indices: Sequence[int] | np.ndarray, names: Sequence[str]
) -> list[dict[str, Any]]:
    """Rows of a step as dicts of these columns, by their places in it."""
    return read_rollouts(artifact, step, names).take(pa.array(indices, pa.int64())).to_pylist()


def prompts_of(curation: Path, problem_ids: Sequence[str]) -> dict[str, str]:
    """Id -> prompt of problems of a curation's RL pool, as far as they are there."""
    pool = read_table(curation / "rl.parquet", _columns(PROBLEM_SCHEMA, ("id", "prompt")))
    asked = pool.filter(np.isin(pool["id"].to_numpy(), problem_ids))
    return dict(zip(asked["id"].to_pylist(), asked["prompt"].to_pylist(), strict=True))


def _columns(schema: pa.Schema, names: Sequence[str]) -> pa.Schema:
    return pa.schema([schema.field(name) for name in names])


def verdict_words(row: Mapping[str, Any]) -> str:
    """`wrong, score 0`, with what marks the verdict or the response; of one that nobody judged what became of it."""
    if row["status"] in WITHOUT_VERDICT:
        return WITHOUT_VERDICT[row["status"]]
    marks = {"weak": "on weak evidence", "checker_failed": "the checker did not come back", "truncated": "cut off"}
    return ", ".join([row["status"], f"score {row['score']:g}", *(words for name, words in marks.items() if row[name])])


def advantage_words(row: Mapping[str, Any]) -> str:
    """`+1.5000`, or `none` where its group is in the making."""
    return "none" if math.isnan(row["advantage"]) else f"{row['advantage']:+.4f}"


def loss_words(row: Mapping[str, Any]) -> str:
    """`entered the loss: 23 of 41 tokens`, or `not used`."""
    kept, total = row["kept_tokens"], row["num_tokens"]
    return f"entered the loss: {kept:,} of {total:,} tokens" if kept else "not used"
