"""The RL training loop (paper 3.2): a step is a function of the weights before it and of its rows in the journal.

In: the chosen SFT checkpoint, the graded pool, an arm. Out, under `out`: model/, the model at the end of every earlier phase,
rollouts/ (the journal), probes/, and steps.jsonl (values that depend on inputs and seed alone). Every rank calls `train_arm`. Rank 0
asks the sampler and writes; all read the journal, so that one rank and several train on the same tokens.

After a kill: the weights of the newest resume point, then the same steps over the journal, of which nothing is sampled or judged again.
After a roll back (see `attempts`): the same from its checkpoint, with the next attempt's seeds.
"""

import time
from collections.abc import Generator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pyarrow as pa
import torch

from ring_model.checkpoint import load_model
from ring_model.modelling import BailingMoe
from ring_model.tokenizer import Tokenizer
from stages.config import RlArm, RlConfig, Runtime
from stages.rl.attempts import Attempts
from stages.rl.best import Best
from stages.rl.collect import Collector, Effort
from stages.rl.figures import step_figures
from stages.rl.probe import Probe
from stages.rl.progress import Progress, pool_rows
from stages.rl.prompts import Pool, PromptStream
from stages.rl.publishing import Publisher
from stages.rl.samples import Journal
from stages.rl.update import accumulate_gradients, chosen_of
from stages.rl.watch import at_plateau
from stages.rl.watcher import Verdict, Watcher
from stages.sampling.local import LocalSampler
from stages.sampling.prompting import MODEL, prompt_ids
from stages.sampling.scores import JudgeWatch
from stages.stage import STATE, StageLog, StageRecord
from stages.training.checkpoints import Checkpoints
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
            run.ask_with(stack.enter_context(sampler), pool)
        run.look_at_start()
        while run.progress.step < run.arm.num_steps:
            step = run.progress.step + 1
            run.collect(step)
            rows = run.journal.read(step)
            trained = run.update(step, rows)
            run.record(step, rows, trained)
            run.hand_over(step)
            run.report(step)
            if run.heed(step):
                run.keep(step)
    return run.finish(pool)


@dataclass(slots=True)
class _Run:
    """What the steps of `train_arm` share."""

    planned: RlArm  # as the recipe has it: the most steps
    arm: RlArm  # as it goes: phases may have ended early
    config: RlConfig
    trainer: Trainer
    reference: BailingMoe | None  # the checkpoint that RL started from; None where beta is 0
    tokenizer: Tokenizer
    journal: Journal
    probe: Probe | None
    progress: Progress
    best: Best | None  # None where none is kept
    collector: Collector | None = None  # on rank 0
    watcher: Watcher | None = None  # on rank 0
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
        trainer = Trainer.start(
            model,
            optimizer=optimizer_settings(config.optimizer),
            num_steps=arm.num_steps,
            runtime=runtime,
            out=out,
            log=log,
            checkpoints=_checkpoints(config, out),
        )
        reference = None
        if config.kl_coefficient:
            reference = load_model(start, device=trainer.engine.device).requires_grad_(requires_grad=False)
        watcher = _settled_watcher(config, trainer)
        trainer.engine.barrier()
        progress = trainer.resume(Progress(load=uniform_load(model.config)))
        best = Best(out) if probe is not None and config.keep_best else None
        tokenizer = Tokenizer.from_folder(start)
        run = cls(arm, arm, config, trainer, reference, tokenizer, Journal(out), probe, progress, best, watcher=watcher)
        run._follow_phases()
        return run

    def ask_with(self, sampler: LocalSampler, pool: Pool) -> None:
        """Rank 0: from here on it asks this sampler, where the journal has not got the step."""
        strangers = self.journal.clean(num_steps=self.planned.num_steps)
        if strangers:
            self.trainer.log.message(
                f"rollouts/ held what is no step of this arm, and was removed: {', '.join(strangers)}"
            )
        first = next(iter(pool.problems[min(pool.problems)]))
        self.collector = Collector(
            self.arm,
            self.config,
            PromptStream(pool, seed=self.config.seed, cursor=self.progress.cursor),
            sampler,
            Publisher(self.trainer.engine.model, sampler, prompt=prompt_ids(self.tokenizer, first)[:_FIXED_PROMPT]),
            self.journal,
            JudgeWatch(self.config, recent=self.progress.judged),
        )

    # ------------------------------------------------------------ one step

    def look_at_start(self) -> None:
        """Probe the checkpoint that RL starts from, and keep what an arm that rolls back may go back to."""
        if self.progress.step == 0 and not self.progress.probes and (figures := self._probe(0)):
            self.trainer.log.metrics(0, figures)
            self._keep_best(0, figures)
        self.trainer.save_checkpoint(self.progress)

    def collect(self, step: int) -> None:
        """Wait until the journal has the step."""
        started, self.effort = time.monotonic(), Effort()
        if self.collector is not None:
            attempt = self.watcher.attempts.of(step) if self.watcher is not None else 0
            with self._finite_policy(step - 1):
                self.effort = self.collector.collect(step, attempt=attempt)
            self.progress.cursor, self.progress.judged = self.collector.stream.cursor, self.collector.watch.recent
        self.trainer.engine.barrier()
        self.effort.seconds["wait"] = time.monotonic() - started

    def update(self, step: int, rows: pa.Table) -> dict[str, float]:
        """One optimiser step on what the rows say of it; none where no token entered the loss."""
        chosen, engine, started = chosen_of(rows), self.trainer.engine, time.monotonic()
        phase = self.arm.phase_of(step)
        config = self.config.for_phase(phase)
        if phase.optimizer == "reset" and self.arm.begins_phase(step):
            engine.reset_optimizer()
        if not chosen:
            self.progress.skipped += 1
            self.trainer.log.message(f"step {step}: no response enters the loss, so the weights stay as they are")
            return {}
        totals = accumulate_gradients(
            chosen,
            engine=engine,
            reference=self.reference,
            config=config,
            load=self.progress.load,
            micro_batch_tokens=self.trainer.runtime.micro_batch_tokens,
        )
        rate = linear_rate(step, num_steps=self.planned.num_steps, optimizer=config.optimizer)
        norm = self.trainer.apply(step, loss=totals["loss"], learning_rate=rate)
        self.progress.load, self.progress.gradient_norm = step_load(totals, engine.model.config), norm
        self.effort.seconds["train"] = time.monotonic() - started
        return {
            "train/loss": totals["loss"],
            "train/gradient_norm": norm,
            "train/learning_rate": rate,
            "policy/kl": totals["kl"] / totals["tokens"],
            "loss/clip_fraction": totals["clipped"] / totals["tokens"],
            **router_losses(totals, engine.model.config),
            **routing_metrics(totals, engine.model.config),
        }

    def record(self, step: int, rows: pa.Table, trained: dict[str, float]) -> None:
        """Count the step and write its line: figures of its rows, of its update, and of the probe where it is due."""
        progress, phase = self.progress, self.arm.phase_of(step)
        figures = step_figures(rows, config=self.config.for_phase(phase))
        progress.count(step, phase.name, figures, num_rows=len(rows))
        counts = {"tokens/trained": progress.tokens_trained, "tokens/generated": progress.tokens_generated}
        self.values = {**figures, **trained, **counts}
        self.values |= self._probe(step)
        self.trainer.write_step(progress, {"phase": phase.name, **self.values})

    def _probe(self, version: int) -> dict[str, float]:
        """Figures of the probe after so many steps, where it is due; on the rank that asks."""
        if self.probe is None or self.collector is None or not self.probe.is_due(version, num_steps=self.arm.num_steps):
            return {}
        started, collector = time.monotonic(), self.collector
        with self._finite_policy(version):
            figures = self.probe.figures(
                version, sampler=collector.sampler, policy=lambda: collector.publisher.policy(version)
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

    def hand_over(self, step: int) -> None:
        """End the phase early, where its probes are as flat as it waits for."""
        phase, progress = self.arm.phase_of(step), self.progress
        if phase.until is None or self.arm.ends_phase(step):
            return
        is_flat = "probe/greedy" in self.values and at_plateau(progress.scores_of(phase.name), phase.until)
        if self.trainer.engine.broadcast(is_flat):
            progress.ended[phase.name] = progress.phases[phase.name]["steps"]
            self._follow_phases()
            if self.watcher is not None:
                self.watcher.attempts.note(step, "hand over", phase=phase.name, steps=progress.ended[phase.name])
            self.trainer.log.message(f"step {step}: phase {phase.name} ends at a plateau of the probe")

    def _follow_phases(self) -> None:
        """Let the arm be as long as it is by the phases that ended early."""
        self.arm = self.planned.cut_short(self.progress.ended)
        self.trainer.num_steps = self.arm.num_steps
        if self.collector is not None:
            self.collector = replace(self.collector, arm=self.arm)

    def heed(self, step: int) -> bool:
        """Do what the recipe's rules say of the ledger: stop, or go back; False where the step is undone."""
        verdict = self.trainer.engine.broadcast(self.watcher.look(step) if self.watcher is not None else Verdict())
        if verdict.stop:
            raise ValueError(verdict.stop)
        if verdict.back_to is None:
            return True
        self._go_back(verdict.back_to)
        return False

    def _go_back(self, step: int) -> None:
        """Be again as after `step`, on every rank; what was sampled since is moved away, and the next attempt begins."""
        trainer = self.trainer
        if self.watcher is not None:
            self.watcher.attempts.settle(forget_after=trainer.forget_after)
        trainer.engine.barrier()
        self.progress = trainer.go_back(step, Progress)
        if self.collector is not None:
            self.collector = self.collector.moved(cursor=self.progress.cursor, judged=self.progress.judged)
        self._follow_phases()

    def report(self, step: int) -> None:
        """Tell people and the tracker."""
        trainer, seconds, counts = self.trainer, self.effort.seconds, self.effort.counts
        for activity, spent in seconds.items():
            trainer.spend(activity, spent)
        busy = seconds["wait"] + seconds.get("train", 0.0)
        reward = f"reward {self.values['reward/mean']:.3f}" if "reward/mean" in self.values else "no verdict"
        trainer.log.progress(step, trainer.num_steps, unit="steps", detail=f"{self.arm.phase_of(step).name} {reward}")
        speeds = {
            "speed/tokens_per_second": self.values["response/mean_tokens"]
            * self.values["response/count"]
            / max(busy, 1e-9)
        }
        if counts:
            speeds["speed/idle_rows_share"] = 1 - counts["tokens"] / counts["slots"]
        if step % trainer.every == 0 or step == trainer.num_steps:
            times = {f"time/{name}_seconds": value for name, value in sorted(seconds.items())}
            trainer.log.metrics(step, {**self.values, **times, **speeds})

    def keep(self, step: int) -> None:
        """The model at the end of a phase, and the best one; a resume point now and then, and those to go back to."""
        trainer, is_last = self.trainer, step == self.arm.num_steps
        ends_phase, is_due = self.arm.ends_phase(step), trainer.engine.broadcast(trainer.save_is_due())
        if self.collector is not None and (ends_phase or is_due or trainer.checkpoint_is_due(step)):
            with self._finite_policy(step):
                self.collector.publisher.finite_logprobs()
        if ends_phase:
            trainer.export(self.tokenizer, trainer.out / (MODEL if is_last else self.arm.phase_folder(step)), step=step)
        self._keep_best(step, self.values)
        trainer.save_checkpoint(self.progress)
        if is_due:
            trainer.save(self.progress)

    def _keep_best(self, step: int, values: Mapping[str, float]) -> None:
        """Keep the model, if the probe never had as many right answers; on the rank that asks."""
        score = values.get("probe/greedy")
        if self.best is None or self.watcher is None or score is None or not self.best.is_beaten_by(score):
            return
        row = {"step": step, "attempt": self.watcher.attempts.of(step), "score": score}
        self.best.keep(row, export=lambda folder: self.trainer.export(self.tokenizer, folder, step=step))

    def finish(self, pool: Pool) -> StageRecord:
        """Say what the arm has to say."""
        trainer, progress = self.trainer, self.progress
        trainer.close()
        tables = {"phases": list(progress.phases.values()), "pool": pool_rows(pool), "probes": progress.probes}
        metrics, notes = progress.metrics(self.values, pool), (*progress.notes(), *progress.early_ends(self.planned))
        if self.best is not None:
            metrics |= self.best.metrics()
        if self.watcher is not None:
            metrics, notes = metrics | self.watcher.metrics(), (*notes, *self.watcher.notes())
        tables = {name: rows for name, rows in tables.items() if rows}
        return StageRecord(metrics, tables=tables, notes=notes, timings=trainer.timings)


def _checkpoints(config: RlConfig, out: Path) -> Checkpoints | None:
    watch = config.watch
    if not watch.rolls_back:
        return None
    return Checkpoints(out / STATE / "checkpoints", every=watch.checkpoint_every, keep=watch.keep)


def _settled_watcher(config: RlConfig, trainer: Trainer) -> Watcher | None:
    """On rank 0: who applies the rules, when a roll back that a kill left unfinished is done."""
    if not trainer.writes:
        return None
    attempts = Attempts(trainer.out)
    attempts.settle(forget_after=trainer.forget_after)
    if trainer.checkpoints is not None:
        trainer.checkpoints.prune()
    return Watcher(config.watch, attempts, trainer.checkpoints, trainer.out, trainer.log)


def _require_positions(arm: RlArm, model: BailingMoe, start: Path) -> None:
    positions = model.config.max_position_embeddings
    for phase in arm.phases:
        if phase.max_total_tokens > positions:
            raise ValueError(
                f"arm {arm.name}, phase {phase.name}: max_total_tokens = {phase.max_total_tokens} is more than the {positions} "
                f"positions of the model ({start / 'config.json'}: max_position_embeddings); lower it, or start from a model with more"
            )
