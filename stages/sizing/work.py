"""Tokens and FLOPs of every stage of a recipe, by the formula by which arms are compared (`stages.training.compute`).

In: a recipe, the model and the rows that are planned for. Out: a `Load` a stage. Every row has the mean length: where lengths vary,
attention takes more, since its share grows with their square.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from ring_model.configuration import BailingMoeConfig
from stages.config import STAGES, Recipe, RlArm, RlConfig, SftArm, Training
from stages.sizing.assumptions import Assumptions
from stages.sizing.rows import Rows, evaluated_rows
from stages.training.checkpoints import planned_checkpoints
from stages.training.compute import (
    REFERENCE,
    SAMPLING,
    TRAINING,
    Work,
    forward_flops,
    row_work,
    sampling_work,
    training_flops,
)


@dataclass(frozen=True, slots=True)
class Drawing:
    """Responses that are sampled under one setting."""

    responses: int
    prompts: int  # read once each
    prompt_tokens: int  # of one
    response_tokens: int  # of one
    rows: int  # decoded together by one copy of the model, at most


@dataclass(frozen=True, slots=True)
class Load:
    """What a stage does. `flops` by what they are spent on."""

    stage: str
    steps: int = 0  # of the optimiser
    trained: int = 0  # tokens that go through a backward pass, prompts among them
    drawings: tuple[Drawing, ...] = ()
    flops: dict[str, int] = field(default_factory=dict)

    @property
    def sampled(self) -> int:
        """Tokens that are drawn."""
        return sum(one.responses * one.response_tokens for one in self.drawings)


def loads_of(recipe: Recipe, model: BailingMoeConfig, rows: Rows, assumed: Assumptions) -> list[Load]:
    """Of the stages of a recipe up to its last, in their order; those without arithmetic of a model are left out."""
    last = STAGES.index(recipe.until)
    return [load for load in _loads(recipe, model, rows, assumed) if STAGES.index(load.stage.partition(" ")[0]) <= last]


def _loads(recipe: Recipe, model: BailingMoeConfig, rows: Rows, assumed: Assumptions) -> Iterator[Load]:
    if recipe.base.checkpoint is None:
        yield _supervised("base", recipe.base.training, model, rows.base, rows)
    yield _supervised("sft", recipe.sft.training, model, rows.sft, rows)
    yield _selection(recipe, model, rows)
    arms = recipe.rl.arms if recipe.rl else ()
    for arm in arms:
        if isinstance(arm, SftArm):
            yield _supervised(f"rl {arm.name}", arm.training, model, rows.sft, rows)
        elif recipe.rl is not None:
            yield rl_load(recipe.rl.for_arm(arm.name), model, rows)
    yield _evaluation(recipe, model, rows, assumed, num_models=1 + len(arms))


def _supervised(stage: str, training: Training, model: BailingMoeConfig, count: int, rows: Rows) -> Load:
    tokens = min(rows.sft_tokens, training.max_total_tokens)
    prompt = min(rows.prompt_tokens, tokens - 1)
    each = row_work(prompt, tokens - prompt)
    seen = count * training.epochs
    return Load(
        stage,
        steps=max(1, -(-count * tokens // training.batch_tokens)) * training.epochs,
        trained=seen * tokens,
        flops={TRAINING: training_flops(_times(each, seen), model.shape)},
    )


def _selection(recipe: Recipe, model: BailingMoeConfig, rows: Rows) -> Load:
    """Every checkpoint answers the probe once greedily and `samples_per_problem` times; the chosen one grades the problems of RL."""
    config = recipe.selection
    checkpoints = len(planned_checkpoints(recipe.sft.training))
    response = min(rows.response_tokens, config.sampling.max_new_tokens)
    probed = [checkpoints * rows.probe, 1 + config.samples_per_problem]
    graded = [rows.rl, config.grading_samples]
    drawings = tuple(
        Drawing(count * samples, count, rows.prompt_tokens, response, config.sampling.max_rows)
        for count, samples in (probed, graded)
        if count
    )
    return _sampled("selection", drawings, model)


def rl_load(config: RlConfig, model: BailingMoeConfig, rows: Rows) -> Load:
    """Of one arm. More prompts for a budget that lacks tokens (`extra_prompts_share`) are not counted."""
    (arm,) = config.arms
    assert isinstance(arm, RlArm)
    drawings, trained, flops = [], 0, {TRAINING: 0}
    for phase in arm.phases:
        limit = max(1, phase.max_total_tokens - rows.prompt_tokens)
        response = min(rows.response_tokens, config.sampling.max_new_tokens, limit)
        asked = phase.steps * config.prompts_per_step
        drawn = asked * config.samples_per_prompt
        drawings.append(Drawing(drawn, asked, rows.prompt_tokens, response, config.sampling.max_rows))
        budget = config.for_phase(phase).objective.tokens_per_step
        updates = config.objective.updates_per_batch if budget is None else 1
        kept = min(drawn * response, phase.steps * budget) if budget else drawn * response * updates
        entering = -(-kept // response)  # responses that enter a loss
        trained += kept + entering * rows.prompt_tokens
        each = row_work(rows.prompt_tokens, response)
        flops[TRAINING] += training_flops(_times(each, entering), model.shape)
        if config.objective.kl_coefficient:
            scored = forward_flops(_times(each, drawn), model.shape)
            flops[REFERENCE] = flops.get(REFERENCE, 0) + scored
    sampled = _sampled("", tuple(drawings), model).flops
    return Load(
        f"rl {arm.name}",
        steps=arm.num_steps * config.objective.updates_per_batch,
        trained=trained,
        drawings=tuple(drawings),
        flops=flops | sampled,
    )


def _evaluation(recipe: Recipe, model: BailingMoeConfig, rows: Rows, assumed: Assumptions, *, num_models: int) -> Load:
    config = recipe.evaluation
    response = min(rows.response_tokens, config.sampling.max_new_tokens)
    drawings = tuple(
        Drawing(
            num_models * count * (1 + samples),
            num_models * count,
            rows.prompt_tokens,
            response,
            config.sampling.max_rows,
        )
        for _, count, samples in evaluated_rows(recipe, rows, assumed)
    )
    return _sampled("evaluation", drawings, model)


def _sampled(stage: str, drawings: tuple[Drawing, ...], model: BailingMoeConfig) -> Load:
    work = sum((_drawing_work(one) for one in drawings), Work())
    return Load(stage, drawings=drawings, flops={SAMPLING: forward_flops(work, model.shape)})


def _drawing_work(one: Drawing) -> Work:
    per_prompt = one.responses // one.prompts
    return _times(sampling_work(one.prompt_tokens, [one.response_tokens] * per_prompt), one.prompts)


def _times(work: Work, count: int) -> Work:
    return Work(work.tokens * count, work.logits * count, work.pairs * count)
