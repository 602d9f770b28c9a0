"""Where an arm stands, and what it has to say at its end: sums over its steps, each from the journal."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from data.domains import DOMAINS, PLAIN_DOMAINS
from stages.config import RlArm
from stages.rl.prompts import Pool
from stages.stage import Row as TableRow
from stages.training.compute import compute_metrics
from stages.training.routing import Load

_NEW_PHASE = {"steps": 0, "first_reward": None, "last_reward": None, "last_entropy": None, "tokens_trained": 0}


@dataclass(slots=True)
class Progress:
    """Where an arm stands; saved with the engine."""

    step: int = 0  # finished steps
    ledger_bytes: int = 0  # length of steps.jsonl
    tokens_trained: int = 0  # response tokens that entered the loss
    tokens_generated: int = 0
    tokens_missing: int = 0  # that the budgets had room for
    verdicts: int = 0
    failures: int = 0  # of them the judge's own
    underfilled: int = 0  # steps in which tokens with a policy gradient did not fill every Phi
    skipped: int = 0  # steps without a token to train on
    flops: dict[str, int] = field(default_factory=dict)  # by what they were spent on
    load: Load = field(default_factory=list)  # of the last step
    domain_load: dict[str, Load] = field(default_factory=dict)  # of the last step's tokens of each domain
    gradient_norm: float = 0.0  # of the last step
    phases: dict[str, TableRow] = field(default_factory=dict)  # a row per phase
    probes: list[TableRow] = field(default_factory=list)
    ended: dict[str, int] = field(default_factory=dict)  # phases that ended at a plateau -> steps that they took
    cursor: dict[str, Any] = field(default_factory=dict)  # of the prompt stream
    judged: list[tuple[int, dict[str, int]]] = field(default_factory=list)  # of the last steps, for `JudgeWatch`

    def count(self, step: int, phase: str, values: Mapping[str, float]) -> None:
        """A finished step, by its figures."""
        used, num_rows = int(values["budget/tokens_used"]), int(values["response/count"])
        self.step = step
        self.tokens_trained += used
        self.tokens_generated += int(values["response/new_tokens"])
        self.tokens_missing += int(values.get("budget/tokens_missing", 0))
        self.verdicts += num_rows
        self.failures += int(values["judge/failures"])
        self.underfilled += values.get("budget/underfilled_ranks", 0) > 0
        row = self.phases.setdefault(phase, {"phase": phase, **_NEW_PHASE})
        row["steps"] += 1
        if "reward/mean" in values:
            row["first_reward"] = values["reward/mean"] if row["first_reward"] is None else row["first_reward"]
            row["last_reward"] = values["reward/mean"]
        row["last_entropy"] = values.get("policy/entropy", row["last_entropy"])
        row["tokens_trained"] += used

    def spend(self, flops: Mapping[str, int]) -> dict[str, float]:
        """Add a step's FLOPs; returns the sums as metrics."""
        self.flops = {name: self.flops.get(name, 0) + spent for name, spent in flops.items()}
        return compute_metrics(self.flops)

    def note_probe(self, version: int, figures: Mapping[str, float]) -> None:
        """What the probe showed after so many steps."""
        domains = [name for name in DOMAINS if name in PLAIN_DOMAINS or f"probe/{name}" in figures]
        names = ("greedy", *domains, "entropy", "mean_tokens")
        self.probes.append({"step": version, **{name: figures.get(f"probe/{name}") for name in names}})

    def scores_of(self, phase: str) -> list[float]:
        """Shares of right answers of the probes since the phase that runs began, one at its beginning among them."""
        start = self.step - self.phases[phase]["steps"]
        return [row["greedy"] for row in self.probes if row["step"] >= start and row["greedy"] is not None]

    def metrics(self, values: Mapping[str, float], pool: Pool) -> dict[str, float]:
        """Final metrics; `values` are those of the last step."""
        final = ("reward/mean", "policy/entropy", "policy/kl")
        return {
            "train/steps": float(self.step),
            "train/skipped_steps": float(self.skipped),
            "tokens/trained": float(self.tokens_trained),
            "tokens/generated": float(self.tokens_generated),
            **compute_metrics(self.flops),
            "budget/tokens_missing": float(self.tokens_missing),
            "budget/underfilled_steps": float(self.underfilled),
            "judge/total_failures": float(self.failures),
            "pool/problems": float(pool.num_problems),
            **{f"{name}_final": values[name] for name in final if name in values},
        }

    def early_ends(self, planned: RlArm) -> tuple[str, ...]:
        """A sentence a phase that ended before its last step; `planned` is the arm as the recipe has it."""
        return tuple(
            f"phase {phase.name} ended at a plateau of the probe after {self.ended[phase.name]} of {phase.steps} steps; the others were "
            f"not taken, and the arm trained on {self.tokens_trained:,} tokens"
            for phase in planned.phases
            if phase.name in self.ended
        )

    def notes(self) -> tuple[str, ...]:
        """Sentences that a reader must see."""
        notes = []
        if self.underfilled:
            notes.append(
                f"in {self.underfilled} of {self.step} steps the tokens of prompts with a policy gradient did not fill the budget: "
                "lower rl.objective.token_budget, or ask more prompts a step"
            )
        if self.skipped:
            notes.append(
                f"in {self.skipped} of {self.step} steps no response entered the loss, and the weights stayed as they were"
            )
        if self.failures:
            notes.append(f"the judge failed on {self.failures} of {self.verdicts} responses; they took no part")
        return tuple(notes)


def pool_rows(pool: Pool) -> list[TableRow]:
    """A table of what may be asked, and what was left out."""
    kept = [{"problems": f"kept: {domain}", "count": len(rows)} for domain, rows in sorted(pool.problems.items())]
    return kept + [{"problems": f"left out: {reason}", "count": count} for reason, count in pool.left_out.items()]
