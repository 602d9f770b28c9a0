"""The RL training loop (paper 3.2): roll out, judge, advantages, choice of tokens, one update; logged step by step.

In: the chosen SFT checkpoint, the graded pool, an arm. Out, under `out`: model/, steps.jsonl (values that depend on inputs
and seed alone) and rollouts/. Every rank calls `train_arm`; prompts are dealt to the ranks, the choice of tokens is made over
the responses of all, so that one rank and several train on the same tokens.
"""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch

from data.domains import Judge
from ring_model.checkpoint import load_model, save_model
from ring_model.engine import Engine, OptimizerSettings
from ring_model.policy import micro_batches, pack_rows, response_logprobs
from ring_model.tokenizer import Tokenizer
from stages.config import RlArm, RlConfig, RlOptimizer, Runtime
from stages.rl.losses import TokenBatch, step_loss
from stages.rl.objectives import Response, Share, Shares, choose_shares, tokens_per_step
from stages.rl.pool import PlannedStep, Pool, extra_problems, plan_arm
from stages.rl.rollout import Rollout, figures, roll_out, write_rollout
from stages.sampling.prompting import MODEL
from stages.sampling.scores import require_judged
from stages.seeds import derive_seed
from stages.stage import STATE, StageLog, StageRecord
from stages.stage import Row as TableRow
from stages.training.ledger import StepLedger, replay
from stages.training.model_card import write_card
from stages.training.routing import Load, no_routing, routing_metrics, step_load, uniform_load, weighed_routing

_RESUME = "training"  # the engine's save under STATE
_ROLLOUTS = "rollouts"


@dataclass(slots=True)
class Progress:
    """Where an arm stands; saved with the engine."""

    step: int = 0  # finished steps
    tokens_trained: int = 0  # response tokens that entered the loss
    tokens_generated: int = 0
    ledger_bytes: int = 0  # length of steps.jsonl
    verdicts: int = 0
    failures: dict[str, int] = field(default_factory=dict)  # the judge's own, by problem and status
    underfilled: int = 0  # steps with fewer tokens than Phi
    load: Load = field(default_factory=list)  # of the last step
    phases: dict[str, TableRow] = field(default_factory=dict)  # a row per phase

    @property
    def num_failures(self) -> int:
        """Verdicts that were the judge's failure."""
        return sum(self.failures.values())


@dataclass(frozen=True, slots=True)
class Chosen:
    """A response of this rank that enters the loss."""

    prompt: Sequence[int]
    token_ids: Sequence[int]
    logprobs: np.ndarray  # float32, of the rollout
    advantage: float
    share: Share


def train_arm(
    arm: RlArm, pool: Pool, *, config: RlConfig, start: Path, runtime: Runtime, out: Path, log: StageLog
) -> StageRecord:
    """Train one arm from the model folder `start` to its end, going on from the last resume point if there is one."""
    torch.set_num_threads(runtime.threads)
    plan = plan_arm(pool, arm, config=config)
    with ExitStack() as stack:
        judge = stack.enter_context(Judge(unsafe_local_execution=runtime.unsafe_local_execution))
        run = _Run(plan, pool, config=config, start=start, judge=judge, runtime=runtime, out=out, log=log)
        run.resume()
        for step in range(run.progress.step + 1, len(plan) + 1):
            rollouts = run.roll_out(step)
            shares = run.choose(rollouts, step)
            run.train_on(rollouts, shares)
            run.apply_gradients(step)
            run.record_step(step)
            run.save_if_due()
        return run.finish()


def learning_rate_at(step: int, *, num_steps: int, optimizer: RlOptimizer) -> float:
    """Learning rate of `step`, counted from 1: linear warm-up, then a line down to the final share at the last step."""
    if step <= optimizer.warmup_steps:
        return optimizer.learning_rate * step / optimizer.warmup_steps
    way = (step - optimizer.warmup_steps) / max(1, num_steps - optimizer.warmup_steps)
    return optimizer.learning_rate * (1 - way * (1 - optimizer.final_learning_rate_share))


class _Run:
    """The steps of `train_arm`, with what they share."""

    def __init__(
        self,
        plan: Sequence[PlannedStep],
        pool: Pool,
        *,
        config: RlConfig,
        start: Path,
        judge: Judge,
        runtime: Runtime,
        out: Path,
        log: StageLog,
    ) -> None:
        self.plan, self.pool, self.config, self.judge = plan, pool, config, judge
        self.runtime, self.out, self.log = runtime, out, log
        self.tokenizer = Tokenizer.from_folder(start)
        self.model = load_model(start)
        self.engine = Engine.start(
            self.model,
            optimizer=_optimizer(config.optimizer),
            zero_stage=runtime.zero_stage,
            device=runtime.device,
            checkpoints_layers=runtime.checkpoint_layers,
        )
        self.reference = load_model(start, device=self.engine.device).requires_grad_(requires_grad=False)
        self.budget = tokens_per_step(config.objective)
        self.progress = Progress(load=uniform_load(self.model.config))
        self.values: dict[str, float] = {}  # metrics of the step in the making
        self.seconds: dict[str, float] = {}  # of that step, by activity
        self.generated = 0.0  # tokens of that step, over all ranks
        self.timings: dict[str, float] = {}  # of the whole arm
        self.last_save = time.monotonic()
        self.ledger: StepLedger

    @property
    def _writes(self) -> bool:
        return self.engine.rank == 0

    def resume(self) -> None:
        """Go on from the saved step, if any: weights, optimizer and counters from the save, steps.jsonl cut back to it."""
        saved = self.engine.load(self.out / STATE / _RESUME)
        if saved is not None:
            self.progress = Progress(**saved)
            self.log.resumed(f"step {self.progress.step} of {len(self.plan)}")
        self.ledger = StepLedger(self.out, size=self.progress.ledger_bytes, writes=self._writes)
        if saved is not None and self._writes:
            replay(self.out, self.log)
        self.last_save = time.monotonic()

    # ------------------------------------------------------------ one step

    def roll_out(self, step: int) -> list[Rollout]:
        """This rank's responses: one round of prompts, and more while those with a gradient do not fill Phi."""
        self.values, self.seconds = {}, {}
        planned = self.plan[step - 1]
        rollouts: list[Rollout] = []
        for round_ in range(1 + self.config.extra_rounds):
            problems = planned.problems if round_ == 0 else self._more(step, round_)
            first = round_ * self.config.prompts_per_step
            mine = dict(list(enumerate(problems, start=first))[self.engine.rank :: self.engine.world_size])
            rollout = roll_out(
                self.model,
                mine,
                tokenizer=self.tokenizer,
                judge=self.judge,
                config=self.config,
                phase=planned.phase,
                step=step,
                max_rows=self.runtime.max_rows,
            )
            write_rollout(rollout, self.out / _ROLLOUTS, step=step, round_=round_, rank=self.engine.rank)
            _add(self.seconds, rollout.answers.seconds)
            rollouts.append(rollout)
            if self.budget is None or self._informative_tokens(rollouts) >= self.budget:
                break
        self._describe(rollouts)
        return rollouts

    def _more(self, step: int, round_: int) -> tuple:
        seed = derive_seed(self.config.seed, "rl", "extra", step, round_)
        count = self.config.prompts_per_step
        return extra_problems(self.pool, self.plan[step - 1].phase, count=count, seed=seed)

    def _informative_tokens(self, rollouts: Sequence[Rollout]) -> float:
        """Tokens of responses with a nonzero advantage, over all ranks."""
        mine = sum(response.num_tokens for rollout in rollouts for response in rollout.responses if response.advantage)
        return self.engine.all_reduce_sum({"tokens": float(mine)})["tokens"]

    def _describe(self, rollouts: Sequence[Rollout]) -> None:
        sums: dict[str, float] = {}
        for rollout in rollouts:
            _add(sums, rollout.sums())
        totals = self.engine.all_reduce_sum(sums)
        self.values |= figures(totals)
        self.generated = totals["tokens"]
        self.progress.tokens_generated += int(totals["tokens"])
        self.progress.verdicts += int(totals["responses"])
        mine = sum((rollout.failures() for rollout in rollouts), Counter())
        failures = sum(self.engine.all_gather_object(mine), Counter(self.progress.failures))
        self.progress.failures = dict(failures)
        require_judged(failures, self.progress.verdicts, config=self.config, stage="rl")

    def choose(self, rollouts: Sequence[Rollout], step: int) -> Shares:
        """Which tokens of which responses enter the loss: the same choice on every rank, over the responses of all."""
        mine = [response for rollout in rollouts for response in rollout.responses]
        responses = [response for responses in self.engine.all_gather_object(mine) for response in responses]
        seed = derive_seed(self.config.seed, "rl", "choice", step)
        shares = choose_shares(responses, objective=self.config.objective, seed=seed)
        self.values |= _budget_figures(responses, shares, budget=self.budget)
        return shares

    def train_on(self, rollouts: Sequence[Rollout], shares: Shares) -> None:
        """Gradients of the chosen tokens, micro-batch by micro-batch."""
        started = time.monotonic()
        chosen = [item for rollout in rollouts for item in _chosen(rollout, shares)]
        total = self.engine.all_reduce_sum({"tokens": float(sum(_num_tokens(item) for item in chosen))})["tokens"]
        budget = self.runtime.micro_batch_tokens
        batches = micro_batches([_num_tokens(item) for item in chosen], token_budget=budget) if chosen else []
        sums = {"kl": 0.0, "clipped": 0.0, "tokens": 0.0, **no_routing(self.model.config)}
        for batch in self.engine.padded(batches):
            if batch is None:
                self.engine.backward_nothing()
            else:
                _add(sums, self._train_micro_batch([chosen[index] for index in batch], total_tokens=total))
        self._describe_training(self.engine.all_reduce_sum(sums))
        _add(self.seconds, {"train": time.monotonic() - started})

    def _train_micro_batch(self, chosen: Sequence[Chosen], *, total_tokens: float) -> dict[str, float]:
        device = self.engine.device
        rows = pack_rows([item.prompt for item in chosen], [item.token_ids for item in chosen], device=device)
        temperature = self.config.sampling.temperature
        with torch.no_grad():
            reference = response_logprobs(self.reference, rows, entropy="none", temperature=temperature).logprobs_M
        wants_entropy = "gradient" if self.config.entropy_coefficient else "detached"
        scored = response_logprobs(self.model, rows, entropy=wants_entropy, temperature=temperature)
        assert scored.entropies_M is not None
        router_share = float(rows.lengths_B.sum()) / total_tokens
        output = step_loss(
            scored.logprobs_M,
            scored.entropies_M,
            scored.router,
            _token_batch(chosen, reference),
            config=self.config,
            load_LE=torch.tensor(self.progress.load, device=device),
            router_share=router_share,
        )
        self.engine.backward(output.loss, denominator=1.0)
        figures = {"kl": output.kl_sum, "clipped": output.num_clipped, "tokens": float(rows.num_response_tokens)}
        return figures | weighed_routing(scored.router, router_share)

    def _describe_training(self, totals: Mapping[str, float]) -> None:
        tokens = max(totals["tokens"], 1.0)
        self.progress.tokens_trained += int(totals["tokens"])
        self.progress.load = step_load(totals, self.model.config)
        self.values |= {
            "policy/kl": totals["kl"] / tokens,
            "loss/clip_fraction": totals["clipped"] / tokens,
            **routing_metrics(totals, self.model.config),
        }

    def apply_gradients(self, step: int) -> None:
        """One optimiser step."""
        rate = learning_rate_at(step, num_steps=len(self.plan), optimizer=self.config.optimizer)
        self.engine.set_learning_rate(rate)
        started = time.monotonic()
        self.values |= {"train/gradient_norm": self.engine.step(), "train/learning_rate": rate}
        _add(self.seconds, {"train": time.monotonic() - started})

    # ------------------------------------------------------------ records

    def record_step(self, step: int) -> None:
        """Count the step, write its line, and report it."""
        progress, phase = self.progress, self.plan[step - 1].phase
        progress.step = step
        progress.underfilled += self.values.get("budget/fill", 1.0) < 1.0
        values = {
            **self.values,
            "tokens/trained": progress.tokens_trained,
            "tokens/generated": progress.tokens_generated,
        }
        _note_phase(progress.phases.setdefault(phase.name, {}), phase.name, values)
        self.ledger.write({"step": step, "phase": phase.name, **values})
        progress.ledger_bytes = self.ledger.size
        _add(self.timings, self.seconds)
        times = {f"time/{name}_seconds": value for name, value in sorted(self.seconds.items())}
        rate = self.generated / max(sum(self.seconds.values()), 1e-9)
        self.log.progress(step, len(self.plan), unit="steps", detail=f"{phase.name} reward {values['reward/mean']:.3f}")
        self.log.metrics(step, {**values, **times, "speed/tokens_per_second": rate})

    def save_if_due(self) -> None:
        """Write a resume point now and then; never after the last step, which is followed by the result itself."""
        if self.progress.step == len(self.plan):
            return
        due = self._writes and time.monotonic() - self.last_save >= self.runtime.checkpoint_seconds
        if self.engine.broadcast(due):
            started = time.monotonic()
            state = self.engine.broadcast(asdict(self.progress))  # only rank 0 knows how long steps.jsonl is
            self.engine.save(self.out / STATE / _RESUME, state)
            self.last_save = time.monotonic()
            _add(self.timings, {"save": self.last_save - started})

    def finish(self) -> StageRecord:
        """Write the model, and say what the arm has to say."""
        if self._writes:
            save_model(self.model, self.out / MODEL)
            self.tokenizer.save(self.out / MODEL)
            write_card(self.out / MODEL)
        self.ledger.close()
        progress = self.progress
        metrics = {
            "train/steps": float(progress.step),
            "tokens/trained": float(progress.tokens_trained),
            "tokens/generated": float(progress.tokens_generated),
            "budget/underfilled_steps": float(progress.underfilled),
            "judge/total_failures": float(progress.num_failures),
            "pool/problems": float(self.pool.num_problems),
            **{f"{name}_final": self.values[name] for name in ("reward/mean", "policy/entropy", "policy/kl")},
        }
        self.engine.close()
        return StageRecord(
            metrics,
            tables={"phases": list(progress.phases.values()), "pool": _pool_rows(self.pool)},
            notes=_notes(progress, len(self.plan)),
            timings=self.timings,
        )


# ---------------------------------------------------------------- small parts


def _add(sums: dict[str, float], values: Mapping[str, float]) -> None:
    for name, value in values.items():
        sums[name] = sums.get(name, 0.0) + value


def _optimizer(optimizer: RlOptimizer) -> OptimizerSettings:
    return OptimizerSettings(
        learning_rate=optimizer.learning_rate,
        betas=optimizer.betas,
        weight_decay=optimizer.weight_decay,
        gradient_clip=optimizer.gradient_clip,
    )


def _chosen(rollout: Rollout, shares: Shares) -> list[Chosen]:
    answers = rollout.answers
    items = []
    for response, prompt, completion in zip(rollout.responses, answers.prompts, answers.completions, strict=True):
        share = shares.get(response.key)
        if share is not None:
            kept = share.kept_tokens
            items.append(
                Chosen(prompt, completion.token_ids[:kept], completion.logprobs[:kept], response.advantage, share)
            )
    return items


def _num_tokens(item: Chosen) -> int:
    return len(item.prompt) + len(item.token_ids)


def _token_batch(chosen: Sequence[Chosen], reference_M: torch.Tensor) -> TokenBatch:
    def spread(values: Sequence[float]) -> torch.Tensor:
        lengths = torch.tensor([len(item.token_ids) for item in chosen])
        return torch.tensor(values, dtype=torch.float32).repeat_interleave(lengths).to(reference_M.device)

    old = torch.cat([torch.from_numpy(item.logprobs) for item in chosen])
    return TokenBatch(
        old_logprobs_M=old.to(reference_M.device),
        reference_logprobs_M=reference_M,
        advantages_M=spread([item.advantage for item in chosen]),
        weights_M=spread([item.share.weight for item in chosen]),
    )


def _budget_figures(responses: Sequence[Response], shares: Shares, *, budget: int | None) -> dict[str, float]:
    groups: dict[int, bool] = {}
    for response in responses:
        groups[response.group] = groups.get(response.group, False) or response.advantage != 0.0
    used = sum(share.kept_tokens for share in shares.values())
    return {
        **({} if budget is None else {"budget/fill": used / budget}),
        "budget/tokens_used": float(used),
        "budget/tokens_informative": float(sum(r.num_tokens for r in responses if r.advantage)),
        "group/zero_advantage_share": sum(not informative for informative in groups.values()) / max(len(groups), 1),
    }


def _note_phase(row: TableRow, name: str, values: dict[str, float]) -> None:
    row.setdefault("phase", name)
    row["steps"] = row.get("steps", 0) + 1
    row.setdefault("first_reward", values["reward/mean"])
    row["last_reward"] = values["reward/mean"]
    row["last_entropy"] = values["policy/entropy"]
    row["tokens_trained"] = row.get("tokens_trained", 0) + int(values["budget/tokens_used"])


def _pool_rows(pool: Pool) -> list[TableRow]:
    kept = [{"problems": f"kept: {domain}", "count": len(rows)} for domain, rows in sorted(pool.problems.items())]
    return kept + [{"problems": f"left out: {reason}", "count": count} for reason, count in pool.left_out.items()]


def _notes(progress: Progress, num_steps: int) -> tuple[str, ...]:
    notes = []
    if progress.underfilled:
        notes.append(
            f"{progress.underfilled} of {num_steps} steps had fewer tokens than the budget: "
            "lower rl.objective.token_budget, or ask more prompts a step"
        )
    if progress.failures:
        notes.append(f"the judge failed on {progress.num_failures} of {progress.verdicts} responses; they took no part")
    return tuple(notes)
