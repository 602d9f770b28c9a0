"""The reward of a response: its score, less what the objective takes off for its length and for its distance from the reference."""

import numpy as np
import pyarrow as pa
import torch

from data.domains import FAILED_STATUSES
from stages.config import RlConfig
from stages.rl.divergences import ESTIMATORS
from stages.sampling.requests import EXPIRED, UNFINISHED

NO_REWARD = frozenset({*FAILED_STATUSES, UNFINISHED, EXPIRED})  # statuses


def rewards_of(rows: pa.Table, *, config: RlConfig) -> np.ndarray:
    """float64, one a row; NaN where the judge failed, and of a response that is not finished."""
    objective = config.objective
    judged = ~np.isin(rows["status"].to_pylist(), list(NO_REWARD))
    rewards = rows["score"].to_numpy().astype(np.float64)
    if objective.overlong_share:
        lengths = rows["num_tokens"].to_numpy()
        rewards = rewards - overlong_penalty(
            lengths, longest=config.sampling.max_new_tokens, share=objective.overlong_share
        )
    if objective.kl_coefficient and objective.kl_place == "reward":
        estimates = _divergences(rows.filter(pa.array(judged)), estimator=objective.kl_estimator)
        rewards[judged] -= objective.kl_coefficient * estimates  # of what goes on no reference was asked
    return np.where(judged, rewards, np.nan)


def overlong_penalty(lengths: np.ndarray, *, longest: int, share: float) -> np.ndarray:
    """DAPO (arXiv 2503.14476, eq. 13): 0 up to (1 - share) x longest tokens, from there linear up to 1 at `longest`."""
    return np.clip(1.0 - (longest - lengths) / (share * longest), 0.0, 1.0)


def _divergences(rows: pa.Table, *, estimator: str) -> np.ndarray:
    """The estimates of a response's tokens, summed."""
    pairs = zip(rows["logprobs"].to_pylist(), rows["reference_logprobs"].to_pylist(), strict=True)
    return np.array(
        [
            float(ESTIMATORS[estimator](torch.tensor(one, dtype=torch.float64), torch.tensor(two, dtype=torch.float64)).sum())
            for one, two in pairs
        ]
    )  # fmt: skip
