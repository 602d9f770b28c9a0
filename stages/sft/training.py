"""The supervised training loop that the base, SFT and further-SFT stages share (paper 4.1.1).

In: a model, rows, `Training`. Out, under `out`: model folders (one an epoch, or the last as `model`) and steps.jsonl, one
object a step of values that depend on inputs and seed alone. Every rank calls `train`; rank 0 writes.

loss = sum over the batch's response tokens of -log p / loss_tokens + balance and z losses of the routers, where `loss_tokens`
(mean response tokens per batch of the whole plan) never changes during a run: every token weighs the same. A batch is cut
into rectangular micro-batches shared by the ranks; so that neither changes the loss, the balance loss takes the experts' loads
from the step before (uniform at first) and the probabilities from this one.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from ring_model.checkpoint import save_model
from ring_model.engine import Engine, OptimizerSettings
from ring_model.modelling import BailingMoe
from ring_model.policy import PackedRows, ResponseLogprobs, micro_batches, pack_rows, response_logprobs
from ring_model.tokenizer import Tokenizer
from stages.config import Runtime, Training
from stages.sampling.prompting import MODEL
from stages.sft.batches import Batch, Plan, PlannedStep, Row, Rows, plan_steps, share_of_rank
from stages.stage import STATE, StageLog, StageRecord
from stages.stage import Row as TableRow
from stages.training.ledger import StepLedger, checkpoint_name, replay
from stages.training.model_card import write_card
from stages.training.routing import Load, no_routing, routing_metrics, step_load, uniform_load, weighed_routing

_RESUME = "training"  # the engine's save under STATE
_LOGGED_POINTS = 500  # about so many points of a curve go to the tracker; steps.jsonl holds every step


@dataclass(frozen=True, slots=True)
class SupervisedJob:
    """What is trained on what."""

    model: BailingMoe
    tokenizer: Tokenizer
    training: Training
    rows: Rows
    validation: Rows | None
    seed: int
    keeps_epochs: bool  # a folder epoch-NN after every epoch; otherwise `model` after the last


@dataclass(slots=True)
class Progress:
    """Where a run stands; saved with the engine."""

    step: int = 0  # finished steps
    tokens_trained: int = 0  # response tokens
    tokens_processed: int = 0  # prompt and response tokens
    steps_bytes: int = 0  # length of steps.jsonl
    epoch_nll: float = 0.0  # sum over the response tokens of the epoch so far
    epoch_tokens: int = 0
    load: Load = field(default_factory=list)  # of the last step
    epochs: list[TableRow] = field(default_factory=list)  # a row per finished epoch


@dataclass(frozen=True, slots=True)
class StepFigures:
    """Sums over one batch and all ranks."""

    nll: float
    num_response_tokens: int
    balance_loss: float
    z_loss: float
    load: Load
    routing: dict[str, float]
    save_is_due: bool


def train(job: SupervisedJob, *, runtime: Runtime, out: Path, log: StageLog) -> StageRecord:
    """Train the job to its end, going on from the last resume point if there is one."""
    torch.set_num_threads(runtime.threads)
    plan = plan_steps(job.rows, num_epochs=job.training.epochs, batch_tokens=job.training.batch_tokens, seed=job.seed)
    engine = Engine.start(
        job.model,
        optimizer=_optimizer(job.training),
        zero_stage=runtime.zero_stage,
        device=runtime.device,
        checkpoints_layers=runtime.checkpoint_layers,
    )
    run = _Run(job, plan, engine=engine, runtime=runtime, out=out, log=log)
    run.resume()
    for step in plan.steps[run.progress.step :]:
        figures = run.train_batch(step.batch)
        norm = run.apply_gradients()
        run.record_step(step, figures, gradient_norm=norm)
        if step.ends_epoch:
            run.finish_epoch(step.epoch)
        if figures.save_is_due or step.ends_epoch:
            run.save()
    record = run.record()
    run.close()
    return record


def learning_rate_at(step: int, *, num_steps: int, training: Training) -> float:
    """Learning rate of `step`, counted from 1: linear over the first warmup_share of the steps, then a cosine down to the last."""
    warmup_steps = math.ceil(training.warmup_share * num_steps)
    if step <= warmup_steps:
        return training.learning_rate * step / warmup_steps
    way = (step - warmup_steps) / max(1, num_steps - warmup_steps)
    floor = training.final_learning_rate_share
    return training.learning_rate * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * way)))


def supervised_loss(
    scored: ResponseLogprobs, *, loss_tokens: float, token_share: float, load_LE: Tensor, training: Training
) -> Tensor:
    """One micro-batch's part of the batch's loss; the parts add up, however the batch is cut.

    `token_share`: its tokens / the batch's tokens. `load_LE`: the experts' loads in the step before.
    """
    balance = training.balance_coefficient * scored.router.balance_loss(load_LE)
    router = balance + training.z_coefficient * scored.router.z_loss
    return -scored.logprobs_M.sum() / loss_tokens + token_share * router


def _optimizer(training: Training) -> OptimizerSettings:
    return OptimizerSettings(
        learning_rate=training.learning_rate,
        betas=training.betas,
        weight_decay=training.weight_decay,
        gradient_clip=training.gradient_clip,
    )


def packed_micro_batches(
    rows: Sequence[Row], *, micro_batch_tokens: int, device: torch.device | str
) -> list[PackedRows]:
    """Rectangles of rows of similar length, each at most `micro_batch_tokens` places."""
    groups = micro_batches([row.num_tokens for row in rows], token_budget=micro_batch_tokens)
    return [
        pack_rows([rows[index].prompt for index in group], [rows[index].response for index in group], device=device)
        for group in groups
    ]


class _Run:
    """The steps of `train`, with what they share."""

    def __init__(
        self, job: SupervisedJob, plan: Plan, *, engine: Engine, runtime: Runtime, out: Path, log: StageLog
    ) -> None:
        self.job, self.plan, self.engine, self.runtime, self.out, self.log = job, plan, engine, runtime, out, log
        self.num_steps = len(plan.steps)
        self.progress = Progress(load=uniform_load(job.model.config))
        self.lengths = [row.num_tokens for row in job.rows.rows]
        self.timings = {"train": 0.0, "validate": 0.0, "save": 0.0}
        self.last_save = self.step_started = time.monotonic()
        self.log_every = max(1, self.num_steps // _LOGGED_POINTS)
        self.ledger: StepLedger

    @property
    def _writes(self) -> bool:
        return self.engine.rank == 0

    def resume(self) -> None:
        """Go on from the saved step, if any: weights, optimizer and counters from the save, steps.jsonl cut back to it."""
        saved = self.engine.load(self.out / STATE / _RESUME)
        if saved is not None:
            self.progress = Progress(**saved)
            self.log.resumed(f"step {self.progress.step} of {self.num_steps}")
        self.ledger = StepLedger(self.out, size=self.progress.steps_bytes, writes=self._writes)
        if saved is not None and self._writes:
            replay(self.out, self.log, every=self.log_every)
        self.step_started = self.last_save = time.monotonic()

    def train_batch(self, batch: Batch) -> StepFigures:
        """Gradients of one batch: this rank's share, micro-batch by micro-batch; figures summed over the ranks."""
        batch_tokens = sum(self.lengths[index] for index in batch)
        mine = share_of_rank(batch, self.lengths, rank=self.engine.rank, num_ranks=self.engine.world_size)
        packed = packed_micro_batches(
            [self.job.rows.rows[index] for index in mine],
            micro_batch_tokens=self.runtime.micro_batch_tokens,
            device=self.engine.device,
        )
        sums = self._empty_sums()
        load_LE = torch.tensor(self.progress.load, device=self.engine.device)
        for micro_batch in self.engine.padded(packed):
            if micro_batch is None:
                self.engine.backward_nothing()
                continue
            share = int(micro_batch.lengths_B.sum()) / batch_tokens
            scored = response_logprobs(self.job.model, micro_batch, entropy="none")
            loss = supervised_loss(
                scored,
                loss_tokens=self.plan.loss_tokens,
                token_share=share,
                load_LE=load_LE,
                training=self.job.training,
            )
            self.engine.backward(loss, denominator=1.0)
            _add(sums, scored, share)
        return self._figures(sums, batch)

    def _empty_sums(self) -> dict[str, float]:
        due = self._writes and time.monotonic() - self.last_save >= self.runtime.checkpoint_seconds
        return {"nll": 0.0, "balance": 0.0, "z": 0.0, "due": float(due), **no_routing(self.job.model.config)}

    def _figures(self, sums: dict[str, float], batch: Batch) -> StepFigures:
        totals = self.engine.all_reduce_sum(sums)
        return StepFigures(
            nll=totals["nll"],
            num_response_tokens=sum(len(self.job.rows.rows[index].response) for index in batch),
            balance_loss=totals["balance"],
            z_loss=totals["z"],
            load=step_load(totals, self.job.model.config),
            routing=routing_metrics(totals, self.job.model.config),
            save_is_due=totals["due"] > 0,
        )

    def apply_gradients(self) -> float:
        """One optimiser step at its learning rate; returns the gradient norm before clipping."""
        self.engine.set_learning_rate(self._learning_rate(self.progress.step + 1))
        return self.engine.step()

    def _learning_rate(self, step: int) -> float:
        return learning_rate_at(step, num_steps=self.num_steps, training=self.job.training)

    def record_step(self, step: PlannedStep, figures: StepFigures, *, gradient_norm: float) -> None:
        """Count the step, write its line, and report it."""
        progress = self.progress
        batch_tokens = sum(self.lengths[index] for index in step.batch)
        progress.step += 1
        progress.tokens_trained += figures.num_response_tokens
        progress.tokens_processed += batch_tokens
        progress.epoch_nll += figures.nll
        progress.epoch_tokens += figures.num_response_tokens
        progress.load = figures.load
        values = {
            "train/loss": figures.nll / figures.num_response_tokens,
            "train/gradient_norm": gradient_norm,
            "train/learning_rate": self._learning_rate(progress.step),
            **figures.routing,
            "router/balance_loss": figures.balance_loss,
            "router/z_loss": figures.z_loss,
            "tokens/batch": batch_tokens,
            "tokens/trained": progress.tokens_trained,
            "tokens/processed": progress.tokens_processed,
        }
        self.ledger.write({"step": progress.step, "epoch": step.epoch, **values})
        progress.steps_bytes = self.ledger.size
        self._report(step.epoch, values)

    def _report(self, epoch: int, values: dict[str, float]) -> None:
        now = time.monotonic()
        seconds, self.step_started = now - self.step_started, now
        self.timings["train"] += seconds
        step = self.progress.step
        self.log.progress(
            step,
            self.num_steps,
            unit="steps",
            detail=f"epoch {epoch}/{self.job.training.epochs} loss {values['train/loss']:.3f}",
        )
        if step % self.log_every == 0 or step == self.num_steps:
            self.log.metrics(
                step,
                {
                    **values,
                    "time/step_seconds": seconds,
                    "speed/tokens_per_second": values["tokens/batch"] / max(seconds, 1e-9),
                },
            )

    def finish_epoch(self, epoch: int) -> None:
        """Validate, write the model folder of this epoch (or of the last), and note the epoch's figures."""
        progress = self.progress
        started = time.monotonic()
        loss = validation_loss(self.job, engine=self.engine, micro_batch_tokens=self.runtime.micro_batch_tokens)
        self.timings["validate"] += time.monotonic() - started
        learning_rate = self._learning_rate(progress.step)
        row = {
            "epoch": epoch,
            "train_loss": progress.epoch_nll / progress.epoch_tokens,
            "validation_loss": loss,
            "learning_rate": learning_rate,
        }
        progress.epochs.append({**row, "steps": progress.step, "tokens_trained": progress.tokens_trained})
        progress.epoch_nll, progress.epoch_tokens = 0.0, 0
        if loss is not None:
            self.log.metrics(progress.step, {"validation/loss": loss})
        if self._writes and (self.job.keeps_epochs or epoch == self.job.training.epochs):
            folder = self.out / (checkpoint_name(epoch) if self.job.keeps_epochs else MODEL)
            save_model(self.job.model, folder)
            self.job.tokenizer.save(folder)
            write_card(folder)
        self.step_started = time.monotonic()

    def save(self) -> None:
        """Write a resume point, unless the run is at its end."""
        if self.progress.step == self.num_steps:
            return
        started = time.monotonic()
        state = self.engine.broadcast(asdict(self.progress))  # only rank 0 knows how long steps.jsonl is
        self.engine.save(self.out / STATE / _RESUME, state)
        self.last_save = self.step_started = time.monotonic()
        self.timings["save"] += self.last_save - started

    def record(self) -> StageRecord:
        """What the run has to say."""
        last = self.progress.epochs[-1]
        metrics = {
            "train/final_loss": last["train_loss"],
            "train/steps": float(self.progress.step),
            "tokens/trained": float(self.progress.tokens_trained),
            "tokens/processed": float(self.progress.tokens_processed),
            "data/rows": float(len(self.job.rows.rows)),
            "data/too_long": float(self.job.rows.num_too_long),
            "data/without_solution": float(self.job.rows.num_without_solution),
        }
        if last["validation_loss"] is not None:
            metrics["validation/final_loss"] = last["validation_loss"]
        return StageRecord(
            metrics, tables={"epochs": self.progress.epochs}, notes=_notes(self.job), timings=self.timings
        )

    def close(self) -> None:
        """Close the log of steps and leave the process group."""
        self.ledger.close()
        self.engine.close()


def _add(sums: dict[str, float], scored: ResponseLogprobs, share: float) -> None:
    sums["nll"] -= float(scored.logprobs_M.detach().double().sum())
    sums["balance"] += share * float(scored.router.balance_loss(scored.router.load_LE).detach())
    sums["z"] += share * float(scored.router.z_loss.detach())
    for name, value in weighed_routing(scored.router, share).items():
        sums[name] += value


@torch.no_grad()
def validation_loss(job: SupervisedJob, *, engine: Engine, micro_batch_tokens: int) -> float | None:
    """Mean over all response tokens of -log p on the validation rows, shared by the ranks; None without such rows."""
    if job.validation is None or not job.validation.rows:
        return None
    packed = packed_micro_batches(job.validation.rows, micro_batch_tokens=micro_batch_tokens, device=engine.device)
    mine = [
        response_logprobs(job.model, rows, entropy="none").logprobs_M
        for rows in packed[engine.rank :: engine.world_size]
    ]
    total = engine.all_reduce_sum({"nll": -sum(float(logprobs_M.double().sum()) for logprobs_M in mine)})["nll"]
    return total / job.validation.num_response_tokens


def _notes(job: SupervisedJob) -> tuple[str, ...]:
    notes = []
    if job.rows.num_too_long:
        notes.append(
            f"{job.rows.num_too_long} rows longer than max_total_tokens = {job.training.max_total_tokens} were left out"
        )
    if job.rows.num_without_solution:
        notes.append(f"{job.rows.num_without_solution} problems without a solution were left out")
    return tuple(notes)
