"""Bytes that a chain leaves in the home folder, and those that come and go."""

from ring_model.configuration import BailingMoeConfig
from ring_model.memory import FLOAT32
from stages.config import Recipe, RlArm
from stages.sizing.work import Load
from stages.training.checkpoints import planned_checkpoints

JOURNAL_TOKEN, SAMPLE_TOKEN = (
    14,
    10,
)  # bytes a token: ids, log-probabilities, text, compressed; RL's journal also has the reference's
_RESUME = 16  # bytes a parameter: weights, moments, and ZeRO's float32 copy


def disk_of(recipe: Recipe, model: BailingMoeConfig, loads: list[Load]) -> dict[str, int]:
    """Bytes by what they are, model folders in float32."""
    folder = FLOAT32 * model.num_parameters
    arms = [arm for arm in (recipe.rl.arms if recipe.rl else ()) if isinstance(arm, RlArm)]
    of_arms = [load for load in loads if load.stage in {f"rl {arm.name}" for arm in arms}]
    others = [load for load in loads if load not in of_arms]
    kept = len(planned_checkpoints(recipe.sft.training)) + (recipe.base.checkpoint is None)
    kept += sum(len(arm.phases) + _keeps_best(recipe) for arm in arms)
    kept += len(recipe.rl.arms) - len(arms) if recipe.rl else 0
    return {
        "journal of rollouts": JOURNAL_TOKEN * sum(load.sampled for load in of_arms),
        "samples of selection and evaluation": SAMPLE_TOKEN * sum(load.sampled for load in others),
        f"{kept} model folders": kept * folder,
        "one resume point, while a stage runs": _RESUME * model.num_parameters,
        "published weights, while RL runs": 2 * folder if arms else 0,
    }


def _keeps_best(recipe: Recipe) -> bool:
    return recipe.rl is not None and recipe.rl.keep_best and recipe.rl.probe_every > 0
