"""The RL training loop (paper 3.2): a step is a function of the weights before it and of its rows in the journal.

In: an SFT checkpoint to start from, the graded pool, an arm. Out, under `out`: model/, the model at the end of every earlier phase,
rollouts/ (the journal), probes/, and steps.jsonl (values that depend on inputs and seed alone). Every rank calls `train_arm`. Rank 0
asks the sampler and writes; all read the journal, so that one rank and several train on the same tokens.

After a kill: the weights of the newest resume point, then the same steps over the journal, of which nothing is sampled or judged again.
"""

import time
from collections.abc import Collection, Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import torch

from ring_model.checkpoint import load_model
from ring_model.configuration import BailingMoeConfig
from ring_model.modelling import BailingMoe, freeze_routers
from ring_model.tokenizer import Tokenizer
from stages.config import RlArm, RlConfig, Runtime
from stages.rl.ahead import Ahead
from stages.rl.collect import Collector, Effort
from stages.rl.figures import mean_figures, step_figures
from stages.rl.flops import step_flops
from stages.rl.mismatch import Differences
from stages.rl.probe import Probe
from stages.rl.progress import Progress, pool_rows
from stages.rl.prompts import Pool, PromptStream
from stages.rl.publishing import Publisher
from stages.rl.ratios import ends_sentence
from stages.rl.samples import Journal
from stages.rl.update import Totals, Update, accumulate_gradients, chosen_of
from stages.sampling.local import LocalSampler
from stages.sampling.prompting import MODEL, prompt_ids
from stages.sampling.requests import Policy
from stages.sampling.scores import JudgeWatch
from stages.stage import STATE, StageLog, StageRecord
from stages.training.routing import router_losses, routing_metrics, step_load, uniform_load
from stages.training.schedule import linear_rate, optimizer_settings
from stages.training.trainer import Trainer

_FIXED_PROMPT = 64  # tokens on which trainer and sampler are compared


def train_arm(
    arm: RlArm,
    pool: Pool,
    *,
    config: RlConfig,
    start: Path,
    probe: Probe | None,
    runtime: Runtime,
    out: Path,
    log: StageLog,
) -> StageRecord:
    """Train one arm from the model folder `start` to its end, going on from the last resume point if there is one."""
    torch.set_num_threads(runtime.threads)
    with ExitStack() as stack:
        run = _Run.start(arm, config=config, start=start, probe=probe, runtime=runtime, out=out, log=log)
        if run.trainer.writes:
            sampler = LocalSampler(runtime, published=out / STATE / "published", tokenizer=start)
            run.ask_with(stack.enter_context(sampler), pool, stack)
        run.look_at_start()
        for step in range(run.progress.step + 1, arm.num_steps + 1):
            run.collect(step)
            rows = run.journal.read(step)
            trained = run.update(step, rows)
            run.record(step, rows, trained)
            run.report(step)
            run.keep(step)
    return run.finish(pool)


@dataclass(frozen=True, slots=True)
class Asking:
    """What only the rank has that asks for samples."""

    sampler: LocalSampler
    publisher: Publisher
    ahead: Ahead


@dataclass(slots=True)
class _Run:
    """What the steps of `train_arm` share."""

    arm: RlArm
    config: RlConfig
    trainer: Trainer
    start_model: Path  # the checkpoint that RL started from
    tokenizer: Tokenizer
    journal: Journal
    probe: Probe | None
    progress: Progress
    sentence_ends: Collection[int]  # ids of tokens
    asking: Asking | None = None  # on rank 0
    values: dict[str, float] = field(default_factory=dict)  # of the last step
    effort: Effort = field(default_factory=Effort)  # of the last step

    @classmethod
    def start(
        cls,
        arm: RlArm,
        *,
        config: RlConfig,
        start: Path,
        probe: Probe | None,
        runtime: Runtime,
        out: Path,
        log: StageLog,
    ) -> "_Run":
        """Load the model, and go on from the resume point."""
        model = load_model(start)
        _require_positions(arm, model, start)
        if config.optimizer.freeze_router:
            freeze_routers(model)
        optimizer = optimizer_settings(config.optimizer)
        trainer = Trainer.start(model, optimizer=optimizer, num_steps=arm.num_steps, runtime=runtime, out=out, log=log)
        progress = trainer.resume(Progress(load=uniform_load(model.config)))
        tokenizer = Tokenizer.from_folder(start)
        ends = frozenset(id_ for id_ in range(tokenizer.vocab_size) if ends_sentence(tokenizer.decode([id_])))
        return cls(arm, config, trainer, start, tokenizer, Journal(out), probe, progress, ends)

    def ask_with(self, sampler: LocalSampler, pool: Pool, stack: ExitStack) -> None:
        """Rank 0: from here on it asks this sampler, where the journal has not got the step."""
        strangers = self.journal.clean(num_steps=self.arm.num_steps)
        if strangers:
            self.trainer.log.message(
                f"rollouts/ held what is no step of this arm, and was removed: {', '.join(strangers)}"
            )
        first = next(iter(pool.problems[min(pool.problems)]))
        collector = Collector(
            self.arm,
            self.config,
            PromptStream(pool, seed=self.config.seed, cursor=self.progress.cursor),
            sampler,
            Policy.of(self.start_model) if self.config.objective.kl_coefficient else None,
            self.journal,
            JudgeWatch(self.config, recent=self.progress.judged),
        )
        publisher = Publisher(
            self.trainer.engine.model,
            sampler,
            prompt=prompt_ids(self.tokenizer, first)[:_FIXED_PROMPT],
            max_lag=self.config.objective.max_lag,
        )
        ahead = stack.enter_context(Ahead(collector, publisher, step=self.progress.step))
        self.asking = Asking(sampler, publisher, ahead)

    # ------------------------------------------------------------ one step

    def look_at_start(self) -> None:
        """Probe the checkpoint that RL starts from."""
        if self.progress.step == 0 and (figures := self._probe(0)):
            self.trainer.log.metrics(0, figures)

    def collect(self, step: int) -> None:
        """Wait until the journal has the step."""
        started, self.effort = time.monotonic(), Effort()
        if self.asking is not None:
            with self._finite_policy(step - 1):
                self.asking.ahead.ask(step)
                collected = self.asking.ahead.take(step)
            self.effort = collected.effort
            self.progress.cursor, self.progress.judged = collected.cursor, collected.judged
        self.trainer.engine.barrier()
        self.effort.seconds["wait"] = time.monotonic() - started

    def update(self, step: int, rows: pa.Table) -> dict[str, float]:
        """The step's optimiser updates on what the rows say of each; none where no token entered its loss."""
        started, rate = time.monotonic(), self._learning_rate(step)
        updates = [self._update_of(rows, number) for number in range(1, self.config.objective.updates_per_batch + 1)]
        old = [None, *(update.old_logprobs() for update in updates[1:])]
        found: list[dict[str, float]] = []
        differences = Differences.none()
        for update, logprobs in zip(updates, old, strict=True):
            if update.chosen:
                totals = accumulate_gradients(update, load=self.progress.load, old=logprobs)
                norm = self.trainer.apply(step, loss=totals.sums["loss"], learning_rate=rate)
                self.progress.load, self.progress.gradient_norm = step_load(totals.sums, self._sizes), norm
                found.append(self._update_figures(totals, norm=norm))
                differences.merge(totals.differences)
            else:
                self._note_skipped(step)
        self.effort.seconds["train"] = time.monotonic() - started
        return {**mean_figures(found), **({"train/learning_rate": rate} if found else {}), **differences.figures()}

    def _update_of(self, rows: pa.Table, number: int) -> Update:
        trainer = self.trainer
        return Update(
            chosen_of(rows, update=number),
            self.config,
            trainer.engine,
            self.sentence_ends,
            trainer.runtime.micro_batch_tokens,
        )

    @property
    def _sizes(self) -> BailingMoeConfig:
        return self.trainer.engine.model.config

    def _learning_rate(self, step: int) -> float:
        return linear_rate(step, num_steps=self.arm.num_steps, optimizer=self.config.optimizer)

    def _note_skipped(self, step: int) -> None:
        self.progress.skipped += 1
        self.trainer.log.message(f"step {step}: no response enters the loss, so the weights stay as they are")

    def _update_figures(self, totals: Totals, *, norm: float) -> dict[str, float]:
        sums = totals.sums
        return {
            "train/loss": sums["loss"],
            "train/gradient_norm": norm,
            "policy/kl": sums["kl"] / sums["tokens"],
            "loss/clip_fraction": sums["clipped"] / sums["tokens"],
            **router_losses(sums, self._sizes),
            **routing_metrics(sums, self._sizes),
        }

    def record(self, step: int, rows: pa.Table, trained: dict[str, float]) -> None:
        """Count the step and write its line: figures of its rows, of its update, and of the probe where it is due."""
        progress, phase = self.progress, self.arm.phase_of(step).name
        figures = step_figures(rows, config=self.config)
        progress.count(step, phase, figures)
        counts = {"tokens/trained": progress.tokens_trained, "tokens/generated": progress.tokens_generated}
        spent = progress.spend(step_flops(rows, model=self._sizes, objective=self.config.objective))
        self.values = {**figures, **trained, **counts, **spent}
        self.values |= self._probe(step)
        self.trainer.write_step(progress, {"phase": phase, **self.values})

    def _probe(self, version: int) -> dict[str, float]:
        """Figures of the probe after so many steps, where it is due; on the rank that asks."""
        if self.probe is None or self.asking is None or not self.probe.is_due(version, num_steps=self.arm.num_steps):
            return {}
        started, asking = time.monotonic(), self.asking
        with self._finite_policy(version):
            figures = self.probe.figures(
                version, sampler=asking.sampler, policy=lambda: asking.publisher.policy(version)
            )
        self.progress.note_probe(version, figures)
        self.trainer.spend("probe", time.monotonic() - started)
        return figures

    @contextmanager
    def _finite_policy(self, version: int) -> Generator[None]:
        """Tell of which step weights are that give no finite numbers where they are asked."""
        try:
            yield
        except FloatingPointError as error:
            if version == 0:
                raise ValueError(
                    f"the model that RL starts from is broken: {error}; run the stages before it again"
                ) from error
            norm, rate = self.progress.gradient_norm, self.values.get("train/learning_rate", 0.0)
            what = f"its update (gradient norm {norm:g}, learning rate {rate:g}) broke the model: {error}"
            raise self.trainer.diverged(version, what) from error

    def report(self, step: int) -> None:
        """Tell people and the tracker."""
        trainer, seconds, counts = self.trainer, self.effort.seconds, self.effort.counts
        for activity, spent in seconds.items():
            trainer.spend(activity, spent)
        busy = seconds["wait"] + seconds.get("train", 0.0)
        reward = f"reward {self.values['reward/mean']:.3f}" if "reward/mean" in self.values else "no verdict"
        trainer.log.progress(step, trainer.num_steps, unit="steps", detail=f"{self.arm.phase_of(step).name} {reward}")
        speeds = {"speed/tokens_per_second": self.values["response/new_tokens"] / max(busy, 1e-9)}
        if counts:
            speeds["speed/idle_rows_share"] = 1 - counts["tokens"] / counts["slots"]
        if step % trainer.every == 0 or step == trainer.num_steps:
            times = {f"time/{name}_seconds": value for name, value in sorted(seconds.items())}
            trainer.log.metrics(step, {**self.values, **times, **speeds})

    def keep(self, step: int) -> None:
        """The model at the end of a phase, and a resume point now and then."""
        trainer, is_last = self.trainer, step == self.arm.num_steps
        ends_phase, is_due = self.arm.ends_phase(step), trainer.engine.broadcast(trainer.save_is_due())
        if self.asking is not None and (ends_phase or is_due):
            with self._finite_policy(step):
                self.asking.publisher.finite_logprobs()
                self.asking.ahead.settle()
        if ends_phase:
            trainer.export(self.tokenizer, trainer.out / (MODEL if is_last else self.arm.phase_folder(step)), step=step)
        if is_due:
            trainer.save(self.progress)

    def finish(self, pool: Pool) -> StageRecord:
        """Say what the arm has to say."""
        trainer, progress = self.trainer, self.progress
        trainer.close()
        tables = {"phases": list(progress.phases.values()), "pool": pool_rows(pool), "probes": progress.probes}
        return StageRecord(
            progress.metrics(self.values, pool),
            tables={name: rows for name, rows in tables.items() if rows},
            notes=progress.notes(),
            timings=trainer.timings,
        )


def _require_positions(arm: RlArm, model: BailingMoe, start: Path) -> None:
    positions = model.config.max_position_embeddings
    for phase in arm.phases:
        if phase.max_total_tokens > positions:
            raise ValueError(
                f"arm {arm.name}, phase {phase.name}: max_total_tokens = {phase.max_total_tokens} is more than the {positions} "
                f"positions of the model ({start / 'config.json'}: max_position_embeddings); lower it, or start from a model with more"
            )
