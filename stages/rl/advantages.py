"""Advantages within a group of responses to one prompt (paper eq. 1; Dr. GRPO, arXiv 2503.20783).

Legend: _P prompts, _K responses per prompt. NaN stands for a reward that the judge could not give, and for a response that is not there.
"""

import numpy as np

from stages.config import Objective

EQUAL = 1e-9
"""Rewards of a group that lie no further apart are equal: what is left of them less their mean is rounding."""


def group_advantages(rewards_PK: np.ndarray, *, objective: Objective) -> np.ndarray:
    """(R - mean) / (std + epsilon) within each row, or R - mean where the objective says `centred`; float64 [P, K].

    mean and std (of the population: divided by the count) are over the judged responses of the group; a response that
    the judge failed on has advantage 0 and leaves the baseline of the others, as does a group of one judged response.
    Where the rewards of a group are equal every advantage is exactly 0.
    """
    judged_PK = ~np.isnan(rewards_PK)
    count_P1 = np.maximum(judged_PK.sum(axis=1, keepdims=True), 1)
    mean_P1 = np.where(judged_PK, rewards_PK, 0.0).sum(axis=1, keepdims=True) / count_P1
    centred_PK = np.where(judged_PK, rewards_PK - mean_P1, 0.0)
    centred_PK[np.ptp(centred_PK, axis=1) <= EQUAL] = 0.0
    if objective.advantage == "centred":
        return centred_PK
    std_P1 = np.sqrt((centred_PK**2).sum(axis=1, keepdims=True) / count_P1)
    return centred_PK / (std_P1 + objective.advantage_epsilon)
