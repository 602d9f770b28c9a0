"""The supervised training loop that the base, SFT and further-SFT stages share (paper 4.1.1).

In: a model, rows, `Training`. Out, under `out`: steps.jsonl, one object a step of values that depend on inputs and seed alone, and
the last weights as `model`, or a folder a checkpoint with checkpoints.json. Every rank calls `train`; rank 0 writes.

loss = sum over the batch's response tokens of -log p / loss_tokens + balance and z losses of the routers, where `loss_tokens`
(mean response tokens per batch of the whole plan) never changes during a run: every token weighs the same. A batch is cut
into rectangular micro-batches shared by the ranks; so that neither changes the loss, the balance loss takes the experts' loads
from the step before (uniform at first) and the probabilities from this one.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from ring_model.checkpoint import write_mean
from ring_model.engine import Engine
from ring_model.policy import PackedRows, ResponseLogprobs, Scorer
from ring_model.tokenizer import Tokenizer
from stages.config import Runtime, Training
from stages.sampling.prompting import MODEL
from stages.sft.batches import Batch, Plan, PlannedStep, Row, Rows, plan_steps
from stages.stage import Row as TableRow
from stages.stage import StageLog, StageRecord
from stages.training.checkpoints import Checkpoint, checkpoint_name, mean_name, write_checkpoints
from stages.training.compute import TRAINING, Work, compute_metrics, row_work, training_flops
from stages.training.dealing import rectangles, share_of_rank
from stages.training.routing import (
    Load,
    no_routing,
    router_losses,
    routing_metrics,
    step_load,
    uniform_load,
    weighed_routing,
)
from stages.training.schedule import cosine_rate, optimizer_settings
from stages.training.trainer import Trainer

_OF_CHECKPOINT = ("checkpoint", "epoch", "steps", "tokens_trained", "validation_loss")


@dataclass(frozen=True, slots=True)
class SupervisedJob:
    """What is trained on what."""

    scorer: Scorer
    tokenizer: Tokenizer
    training: Training
    rows: Rows
    validation: Rows | None
    seed: int
    keeps_checkpoints: bool  # a folder after every part of an epoch, and a mean if asked for; else `model` at the end

    @property
    def parts_per_epoch(self) -> int:
        """How many parts an epoch has, after each of which validation says how far the model is."""
        return self.training.checkpoints_per_epoch if self.keeps_checkpoints else 1


@dataclass(slots=True)
class Progress:
    """Where a run stands; saved with the engine."""

    step: int = 0  # finished steps
    tokens_trained: int = 0  # response tokens
    tokens_processed: int = 0  # prompt and response tokens
    training_flops: int = 0
    ledger_bytes: int = 0  # length of steps.jsonl
    epoch_nll: float = 0.0  # sum over the response tokens of the epoch so far
    epoch_tokens: int = 0
    load: Load = field(default_factory=list)  # of the last step
    epochs: list[TableRow] = field(default_factory=list)  # a row per finished epoch, or part of one


@dataclass(frozen=True, slots=True)
class StepFigures:
    """Sums over one batch and all ranks."""

    nll: float
    num_response_tokens: int
    losses: dict[str, float]  # of the routers, by name
    load: Load
    routing: dict[str, float]
    save_is_due: bool


def train(job: SupervisedJob, *, runtime: Runtime, out: Path, log: StageLog) -> StageRecord:
    """Train the job to its end, going on from the last resume point if there is one."""
    torch.set_num_threads(runtime.threads)
    plan = plan_steps(
        job.rows,
        num_epochs=job.training.epochs,
        batch_tokens=job.training.batch_tokens,
        seed=job.seed,
        parts_per_epoch=job.parts_per_epoch,
    )
    trainer = Trainer.start(
        job.scorer,
        optimizer=optimizer_settings(job.training),
        num_steps=len(plan.steps),
        runtime=runtime,
        out=out,
        log=log,
    )
    run = _Run(job, plan, trainer)
    for step in plan.steps[run.progress.step :]:
        figures = run.train_batch(step.batch)
        norm = run.apply_gradients(figures)
        run.record_step(step, figures, gradient_norm=norm)
        if step.ends_part:
            run.finish_part(step)
        if figures.save_is_due or step.ends_part:
            trainer.save(run.progress)
    run.finish_checkpoints()
    trainer.close()
    return run.record()


def supervised_loss(
    scored: ResponseLogprobs, *, loss_tokens: float, token_share: float, load_LE: Tensor, training: Training
) -> Tensor:
    """One micro-batch's part of the batch's loss; the parts add up, however the batch is cut.

    `token_share`: its tokens / the batch's tokens. `load_LE`: the experts' loads in the step before.
    """
    loss = -scored.logprobs_M.sum() / loss_tokens
    if scored.router is None:
        return loss
    balance = training.balance_coefficient * scored.router.balance_loss(load_LE)
    return loss + token_share * (balance + training.z_coefficient * scored.router.z_loss)


def packed_micro_batches(
    rows: Sequence[Row], *, micro_batch_tokens: int, device: torch.device | str
) -> list[PackedRows]:
    """Rectangles of rows of similar length, each at most `micro_batch_tokens` places."""
    texts = [(row.prompt, row.response) for row in rows]
    return [packed for _, packed in rectangles(texts, micro_batch_tokens=micro_batch_tokens, device=device)]


class _Run:
    """The steps of `train`, with what they share."""

    def __init__(self, job: SupervisedJob, plan: Plan, trainer: Trainer) -> None:
        self.job, self.plan, self.trainer = job, plan, trainer
        self.lengths = [row.num_tokens for row in job.rows.rows]
        self.progress = trainer.resume(Progress(load=uniform_load(job.scorer.shape.routers)))
        self.checkpoints: list[Checkpoint] = []  # filled at the end
        self.step_started = time.monotonic()

    def train_batch(self, batch: Batch) -> StepFigures:
        """Gradients of one batch: this rank's share, micro-batch by micro-batch; figures summed over the ranks."""
        engine, rows = self.trainer.engine, self.job.rows.rows
        batch_tokens = sum(self.lengths[index] for index in batch)
        packed = packed_micro_batches(
            [rows[index] for index in share_of_batch(batch, self.lengths, engine=engine)],
            micro_batch_tokens=self.trainer.runtime.micro_batch_tokens,
            device=engine.device,
        )
        sums = {"nll": 0.0, "due": float(self.trainer.save_is_due()), **no_routing(self.job.scorer.shape.routers)}
        load_LE = torch.tensor(self.progress.load, device=engine.device)
        for micro_batch in engine.padded(packed):
            if micro_batch is None:
                engine.backward_nothing()
                continue
            share = int(micro_batch.lengths_B.sum()) / batch_tokens
            scored = engine.score(micro_batch, entropy="none")
            loss = supervised_loss(
                scored,
                loss_tokens=self.plan.loss_tokens,
                token_share=share,
                load_LE=load_LE,
                training=self.job.training,
            )
            engine.backward(loss, denominator=1.0)
            _add(sums, scored, share)
        return self._figures(engine.all_reduce_sum(sums), batch)

    def _figures(self, totals: dict[str, float], batch: Batch) -> StepFigures:
        return StepFigures(
            nll=totals["nll"],
            num_response_tokens=sum(len(self.job.rows.rows[index].response) for index in batch),
            losses=router_losses(totals, self.job.scorer.shape.routers),
            load=step_load(totals, self.job.scorer.shape.routers),
            routing=routing_metrics(totals, self.job.scorer.shape.routers),
            save_is_due=totals["due"] > 0,
        )

    def apply_gradients(self, figures: StepFigures) -> float:
        """One optimiser step at its learning rate; returns the gradient norm before clipping."""
        step = self.progress.step + 1
        loss = figures.nll + sum(figures.losses.values())
        return self.trainer.apply(step, loss=loss, learning_rate=self._learning_rate(step))

    def _learning_rate(self, step: int) -> float:
        return cosine_rate(step, num_steps=self.trainer.num_steps, training=self.job.training)

    def record_step(self, step: PlannedStep, figures: StepFigures, *, gradient_norm: float) -> None:
        """Count the step, write its line, and report it."""
        progress = self.progress
        batch_tokens = sum(self.lengths[index] for index in step.batch)
        progress.step += 1
        progress.tokens_trained += figures.num_response_tokens
        progress.tokens_processed += batch_tokens
        progress.training_flops += training_flops(self._work(step.batch), self.job.scorer.shape)
        progress.epoch_nll += figures.nll
        progress.epoch_tokens += figures.num_response_tokens
        progress.load = figures.load
        values = {
            "train/loss": figures.nll / figures.num_response_tokens,
            "train/gradient_norm": gradient_norm,
            "train/learning_rate": self._learning_rate(progress.step),
            **figures.routing,
            **figures.losses,
            "tokens/batch": batch_tokens,
            "tokens/trained": progress.tokens_trained,
            "tokens/processed": progress.tokens_processed,
            **compute_metrics({TRAINING: progress.training_flops}),
        }
        self.trainer.write_step(progress, {"epoch": step.epoch, **values})
        self._report(step.epoch, values)

    def _work(self, batch: Batch) -> Work:
        rows = (self.job.rows.rows[index] for index in batch)
        return sum((row_work(len(row.prompt), len(row.response)) for row in rows), Work())

    def _report(self, epoch: int, values: dict[str, float]) -> None:
        now = time.monotonic()
        seconds, self.step_started = now - self.step_started, now
        trainer, step = self.trainer, self.progress.step
        trainer.spend("train", seconds)
        detail = f"epoch {epoch}/{self.job.training.epochs} loss {values['train/loss']:.3f}"
        trainer.log.progress(step, trainer.num_steps, unit="steps", detail=detail)
        if step % trainer.every == 0 or step == trainer.num_steps:
            speed = values["tokens/batch"] / max(seconds, 1e-9)
            trainer.log.metrics(step, {**values, "time/step_seconds": seconds, "speed/tokens_per_second": speed})

    def finish_part(self, step: PlannedStep) -> None:
        """Validate, write the model folder of this part of an epoch (or of the last), and note its figures."""
        progress, trainer, job = self.progress, self.trainer, self.job
        loss = self._validation_loss()
        name = checkpoint_name(step.epoch, part=step.ends_part, num_parts=job.parts_per_epoch)
        row = {
            "epoch": step.epoch if step.ends_epoch else step.epoch - 1 + step.ends_part / job.parts_per_epoch,
            "train_loss": progress.epoch_nll / progress.epoch_tokens,  # of the epoch so far
            "validation_loss": loss,
            "learning_rate": self._learning_rate(progress.step),
            "steps": progress.step,
            "tokens_trained": progress.tokens_trained,
        }
        progress.epochs.append({**row, "checkpoint": name} if job.keeps_checkpoints else row)
        if step.ends_epoch:
            progress.epoch_nll, progress.epoch_tokens = 0.0, 0
        if loss is not None:
            trainer.log.metrics(progress.step, {"validation/loss": loss})
        if job.keeps_checkpoints or progress.step == trainer.num_steps:
            folder = trainer.out / (name if job.keeps_checkpoints else MODEL)
            trainer.export(job.tokenizer, folder, step=progress.step)
        self.step_started = time.monotonic()

    def finish_checkpoints(self) -> None:
        """Add the mean of the last ones, where one is asked for, and write checkpoints.json. Sets the model's weights to the mean."""
        if not self.job.keeps_checkpoints:
            return
        self.checkpoints = [Checkpoint(**{name: row[name] for name in _OF_CHECKPOINT}) for row in self.progress.epochs]
        if count := self.job.training.mean_of_last:
            self.checkpoints.append(self._mean(self.checkpoints[-count:]))
        if self.trainer.writes:
            write_checkpoints(self.trainer.out, self.checkpoints)

    def _mean(self, last: Sequence[Checkpoint]) -> Checkpoint:
        """WSM (2510.22115): the mean of the weights of the last checkpoints as a model folder, validated as they were."""
        trainer = self.trainer
        started = time.monotonic()
        names, folder = tuple(checkpoint.checkpoint for checkpoint in last), trainer.out / mean_name(len(last))
        if trainer.writes:
            write_mean([trainer.out / name for name in names], folder)
        trainer.engine.barrier()
        trainer.engine.refill(folder)
        trainer.spend("mean", time.monotonic() - started)
        return replace(
            last[-1], checkpoint=mean_name(len(last)), validation_loss=self._validation_loss(), mean_of=names
        )

    def _validation_loss(self) -> float | None:
        """Of the model as it is. Raises NonFiniteError where it is not finite."""
        trainer, started = self.trainer, time.monotonic()
        loss = validation_loss(self.job, engine=trainer.engine, micro_batch_tokens=trainer.runtime.micro_batch_tokens)
        trainer.spend("validate", time.monotonic() - started)
        if loss is not None and not math.isfinite(loss):
            raise trainer.diverged(self.progress.step, f"after it the validation loss is {loss}")
        return loss

    def record(self) -> StageRecord:
        """What the run has to say."""
        last = self.progress.epochs[-1]
        metrics = {
            "train/final_loss": last["train_loss"],
            "train/steps": float(self.progress.step),
            "tokens/trained": float(self.progress.tokens_trained),
            "tokens/processed": float(self.progress.tokens_processed),
            **compute_metrics({TRAINING: self.progress.training_flops}),
            "data/rows": float(len(self.job.rows.rows)),
            "data/too_long": float(self.job.rows.num_too_long),
            "data/without_solution": float(self.job.rows.num_without_solution),
        }
        if last["validation_loss"] is not None:
            metrics["validation/final_loss"] = last["validation_loss"]
        if self.checkpoints and self.checkpoints[-1].mean_of and self.checkpoints[-1].validation_loss is not None:
            metrics["validation/mean_of_last_loss"] = self.checkpoints[-1].validation_loss
        return StageRecord(
            metrics, tables={"epochs": self.progress.epochs}, notes=_notes(self.job), timings=self.trainer.timings
        )


def share_of_batch(batch: Batch, lengths: Sequence[int], *, engine: Engine) -> list[int]:
    """The rows of a batch that this rank trains on."""
    rows = sorted(batch)
    mine = share_of_rank([lengths[row] for row in rows], rank=engine.rank, num_ranks=engine.world_size)
    return [rows[index] for index in mine]


def _add(sums: dict[str, float], scored: ResponseLogprobs, share: float) -> None:
    sums["nll"] -= float(scored.logprobs_M.detach().double().sum())
    for name, value in weighed_routing(scored.router, share).items():
        sums[name] += value


@torch.no_grad()
def validation_loss(job: SupervisedJob, *, engine: Engine, micro_batch_tokens: int) -> float | None:
    """Mean over all response tokens of -log p on the validation rows, shared by the ranks; None without such rows."""
    if job.validation is None or not job.validation.rows:
        return None
    packed = packed_micro_batches(job.validation.rows, micro_batch_tokens=micro_batch_tokens, device=engine.device)
    nll = 0.0
    for rows in engine.padded(packed[engine.rank :: engine.world_size]):
        if rows is None:
            engine.score_nothing()
        else:
            nll -= float(engine.score(rows, entropy="none").logprobs_M.double().sum())
    total = engine.all_reduce_sum({"nll": nll})["nll"]
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
