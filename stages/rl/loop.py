"""The RL training loop (paper 3.2): a step is a function of the weights before it and of its rows in the journal.

In: an SFT checkpoint to start from, the graded pool, an arm. Out, under `out`: model/, the model at the end of every earlier phase,
rollouts/ (the journal), probes/, and steps.jsonl (values that depend on inputs and seed alone). Every rank calls `train_arm`. Rank 0
asks the sampler and writes; all read the journal, so that one rank and several train on the same tokens.

After a kill: the weights of the newest resume point, then the same steps over the journal, of which nothing is sampled or judged again.
After a roll back (see `attempts`): the same from its restore point, with the next attempt's seeds.
"""

import time
from collections.abc import Collection, Generator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import torch

from ring_model.heartbeat import HEARTBEAT
from ring_model.policy import Scorer
from ring_model.scorers import open_scorer
from ring_model.tokenizer import Tokenizer
from stages.config import RlArm, RlConfig, Runtime
from stages.rl.ahead import Ahead
from stages.rl.best import Best
from stages.rl.collect import Collector, Effort
from stages.rl.figures import step_figures
from stages.rl.flops import step_flops
from stages.rl.probe import Probe
from stages.rl.progress import Progress, pool_rows
from stages.rl.prompts import Pool, PromptStream
from stages.rl.publishing import Publisher
from stages.rl.ratios import ends_sentence
from stages.rl.samples import Journal
from stages.rl.updates import take_updates, updates_of
from stages.rl.watch import at_plateau
from stages.rl.watcher import Verdict, Watcher, restore_points_of
from stages.sampling.engines import publishing_sampler
from stages.sampling.prompting import MODEL, prompt_ids
from stages.sampling.requests import Policy
from stages.sampling.sampler import PublishingSampler
from stages.sampling.scores import JudgeWatch
from stages.stage import STATE, StageLog, StageRecord
from stages.training.adapters import adapters
from stages.training.routing import load_rows, uniform_load
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
        sampler = None
        if run.trainer.writes:
            published = out / STATE / "published"
            sampler = publishing_sampler(config.sampling, runtime, published=published, tokenizer=start)
            run.ask_with(stack.enter_context(sampler), pool, stack)
        run.publish_to(sampler, pool)
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


@dataclass(frozen=True, slots=True)
class Asking:
    """What only the rank has that asks for samples."""

    sampler: PublishingSampler
    ahead: Ahead


@dataclass(slots=True)
class _Run:
    """What the steps of `train_arm` share."""

    planned: RlArm  # as the recipe has it: the most steps
    arm: RlArm  # as it goes: phases may have ended early
    config: RlConfig
    trainer: Trainer
    start_model: Path  # the checkpoint that RL started from
    tokenizer: Tokenizer
    journal: Journal
    probe: Probe | None
    progress: Progress
    sentence_ends: Collection[int]  # ids of tokens
    best: Best | None  # None where none is kept
    publisher: Publisher = field(init=False)
    asking: Asking | None = None  # on rank 0
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
        scorer = open_scorer(start, adapters=adapters(config.lora))
        _require_positions(arm, scorer, start)
        if config.optimizer.freeze_router:
            scorer.freeze_routers()
        trainer = Trainer.start(
            scorer,
            optimizer=optimizer_settings(config.optimizer),
            num_steps=arm.num_steps,
            runtime=runtime,
            out=out,
            log=log,
            restore_points=restore_points_of(config.watch, out),
        )
        watcher = Watcher.start(config.watch, trainer) if trainer.writes else None
        trainer.engine.barrier()
        progress = trainer.resume(Progress(load=uniform_load(scorer.shape.routers)))
        tokenizer = Tokenizer.from_folder(start)
        ends = _sentence_ends(tokenizer) if config.objective.ratio == "sentence" else frozenset()
        best = Best(out) if probe is not None and config.keep_best else None
        journal = Journal(out)
        run = cls(arm, arm, config, trainer, start, tokenizer, journal, probe, progress, ends, best, watcher=watcher)
        run._follow_phases()
        return run

    def ask_with(self, sampler: PublishingSampler, pool: Pool, stack: ExitStack) -> None:
        """Rank 0: from here on it asks this sampler, where the journal has not got the step."""
        strangers = self.journal.clean(num_steps=self.planned.num_steps)
        if strangers:
            self.trainer.log.message(
                f"rollouts/ held what is no step of this arm, and was removed: {', '.join(strangers)}"
            )
        collector = Collector(
            self.arm,
            self.config,
            PromptStream(pool, seed=self.config.seed, cursor=self.progress.cursor),
            sampler,
            Policy.of(self.start_model) if self.config.objective.kl_coefficient else None,
            self.journal,
            JudgeWatch(self.config, recent=self.progress.judged),
        )
        attempts = self.watcher.attempts if self.watcher is not None else None
        self.asking = Asking(sampler, stack.enter_context(Ahead(collector, attempts=attempts)))

    def publish_to(self, sampler: PublishingSampler | None, pool: Pool) -> None:
        """Every rank: weights go to the sampler that rank 0 has."""
        first = next(iter(pool.problems[min(pool.problems)]))
        engine = self.trainer.engine
        self.publisher = Publisher(
            engine,
            sampler,
            prompt=prompt_ids(self.tokenizer, first)[:_FIXED_PROMPT],
            max_lag=self.config.objective.max_lag,
            check_every=engine.broadcast(sampler.check_every if sampler is not None else 0),
        )

    # ------------------------------------------------------------ one step

    def look_at_start(self) -> None:
        """Probe the checkpoint that RL starts from, and keep what an arm that rolls back may go back to."""
        if self.progress.step == 0 and not self.progress.probes:
            figures = self._probe(0)
            if figures:
                self.trainer.log.metrics(0, figures)
            self._keep_best(0, figures)
        self.trainer.save_restore_point(self.progress)

    def collect(self, step: int) -> None:
        """Wait until the journal has the step."""
        started, self.effort, engine = time.monotonic(), Effort(), self.trainer.engine
        needs = engine.broadcast(self.asking is not None and self.asking.ahead.needs_weights(step))
        with self._finite_policy(step - 1):
            policy = self.publisher.policy(step - 1) if needs else None
            if self.asking is not None:
                self.asking.ahead.ask(step, policy)
                with HEARTBEAT.waiting("samples"):
                    collected = self.asking.ahead.take(step)
                self.effort = collected.effort
                self.progress.cursor, self.progress.judged = collected.cursor, collected.judged
        engine.barrier()
        self.effort.seconds["wait"] = time.monotonic() - started

    def update(self, step: int, rows: pa.Table) -> dict[str, float]:
        """The step's optimiser updates on what the rows say of each."""
        started, phase = time.monotonic(), self.arm.phase_of(step)
        config, trainer = self.config.for_phase(phase), self.trainer
        if phase.optimizer == "reset" and self.arm.begins_phase(step):
            trainer.engine.reset_optimizer()
        rate = linear_rate(step, num_steps=self.planned.num_steps, optimizer=config.optimizer)
        updates = updates_of(rows, config=config, trainer=trainer, sentence_ends=self.sentence_ends)
        figures = take_updates(step, updates, trainer=trainer, progress=self.progress, learning_rate=rate)
        self.effort.seconds["train"] = time.monotonic() - started
        return figures

    def record(self, step: int, rows: pa.Table, trained: dict[str, float]) -> None:
        """Count the step and write its line: figures of its rows, of its update, and of the probe where it is due."""
        progress, phase = self.progress, self.arm.phase_of(step)
        figures = step_figures(rows, config=self.config.for_phase(phase))
        progress.count(step, phase.name, figures)
        counts = {"tokens/trained": progress.tokens_trained, "tokens/generated": progress.tokens_generated}
        spent = progress.spend(step_flops(rows, model=self.trainer.engine.shape, objective=self.config.objective))
        self.values = {**figures, **trained, **counts, **spent}
        self.values |= self._probe(step)
        self.trainer.write_step(progress, {"phase": phase.name, **self.values})

    def _probe(self, version: int) -> dict[str, float]:
        """Figures of the probe after so many steps, where it is due; on the rank that asks. All ranks call."""
        if self.probe is None or not self.probe.is_due(version, num_steps=self.arm.num_steps):
            return {}
        started = time.monotonic()
        needs = self.trainer.engine.broadcast(self.probe.needs_weights(version))
        with self._finite_policy(version):
            policy = self.publisher.policy(version) if needs else None
            if self.asking is None:
                return {}
            with HEARTBEAT.waiting("answers to the probe"):
                figures = self.probe.figures(version, sampler=self.asking.sampler, policy=policy)
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
        """End the phase early, where its probes are as flat as it waits for: with the last step that was asked by now."""
        phase, progress = self.arm.phase_of(step), self.progress
        if phase.until is None or phase.name in progress.ended:
            return
        is_flat = "probe/greedy" in self.values and at_plateau(progress.scores_of(phase.name), phase.until)
        taken = progress.phases[phase.name]["steps"] + self.config.objective.max_lag
        if self.trainer.engine.broadcast(is_flat) and taken < phase.steps:
            progress.ended[phase.name] = taken
            self._follow_phases()
            self.trainer.log.message(
                f"phase {phase.name} ends at a plateau of the probe, after {taken} of {phase.steps} steps"
            )
            if self.watcher is not None:
                self.watcher.attempts.note(step, "hand over", phase=phase.name, steps=taken)

    def _follow_phases(self) -> None:
        """Let the arm be as long as it is by the phases that ended early."""
        self.arm = self.planned.cut_short(self.progress.ended)
        self.trainer.num_steps = self.arm.num_steps
        if self.asking is not None:
            self.asking.ahead.follow(self.arm)

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
        if self.asking is not None and self.watcher is not None:
            self.asking.ahead.settle()
            self.watcher.attempts.settle(forget_after=trainer.forget_after)
        trainer.engine.barrier()
        self.progress = trainer.go_back(step, Progress)
        if self.asking is not None:
            self.asking.ahead.go_back(cursor=self.progress.cursor, judged=self.progress.judged)
        self._follow_phases()

    def report(self, step: int) -> None:
        """Tell people and the tracker."""
        trainer, seconds, counts = self.trainer, self.effort.seconds, self.effort.counts
        for activity, spent in seconds.items():
            trainer.spend(activity, spent)
        busy = seconds["wait"] + seconds.get("train", 0.0)
        reward = f"reward {self.values['reward/mean']:.3f}" if "reward/mean" in self.values else "no verdict"
        trainer.log.progress(step, trainer.num_steps, unit="steps", detail=f"{self.arm.phase_of(step).name} {reward}")
        speeds = {"speed/tokens_per_second": self.values["response/new_tokens"] / max(busy, 1e-9)}
        if counts.get("slots"):
            speeds["speed/idle_rows_share"] = 1 - counts["tokens"] / counts["slots"]
        speeds |= {f"sampler/{name}": count for name, count in counts.items() if name not in ("tokens", "slots")}
        if step % trainer.every == 0 or step == trainer.num_steps:
            times = {f"time/{name}_seconds": value for name, value in sorted(seconds.items())}
            trainer.log.metrics(step, {**self.values, **times, **speeds})

    def keep(self, step: int) -> None:
        """The model at the end of a phase, and the best one; a resume point now and then, and those to go back to."""
        trainer, is_last = self.trainer, step == self.arm.num_steps
        ends_phase = self.arm.ends_phase(step)
        is_due, goes_back = trainer.engine.broadcast((trainer.save_is_due(), trainer.restore_point_is_due(step)))
        if ends_phase or is_due or goes_back:
            with self._finite_policy(step):
                self.publisher.finite_logprobs()
                if self.asking is not None:
                    self.asking.ahead.settle()
        if ends_phase:
            trainer.export(self.tokenizer, trainer.out / (MODEL if is_last else self.arm.phase_folder(step)), step=step)
        self._keep_best(step, self.values)
        if goes_back:
            trainer.save_restore_point(self.progress)
        if is_due:
            trainer.save(self.progress)

    def _keep_best(self, step: int, values: Mapping[str, float]) -> None:
        """Keep the model, if the probe never had as many right answers; all ranks call, and the one that asks decides."""
        score, trainer = values.get("probe/greedy"), self.trainer
        if self.best is None or not trainer.engine.broadcast(score is not None and self.best.is_beaten_by(score)):
            return
        if self.watcher is not None:
            self.best.clear()
        trainer.engine.barrier()
        trainer.export(self.tokenizer, self.best.beside, step=step)
        if self.watcher is not None:
            self.best.keep({"step": step, "attempt": self.watcher.attempts.of(step), "score": score})

    def finish(self, pool: Pool) -> StageRecord:
        """Say what the arm has to say."""
        trainer, progress = self.trainer, self.progress
        trainer.close()
        tables = {"phases": list(progress.phases.values()), "pool": pool_rows(pool), "probes": progress.probes}
        tables["router"] = load_rows(progress.load, progress.domain_load)
        metrics, notes = progress.metrics(self.values, pool), (*progress.notes(), *progress.early_ends(self.planned))
        if self.best is not None:
            metrics |= self.best.metrics()
        if self.watcher is not None:
            metrics, notes = metrics | self.watcher.metrics(), (*notes, *self.watcher.notes())
        tables = {name: rows for name, rows in tables.items() if rows}
        return StageRecord(metrics, tables=tables, notes=notes, timings=trainer.timings)


def _sentence_ends(tokenizer: Tokenizer) -> frozenset[int]:
    return frozenset(id_ for id_ in range(tokenizer.vocab_size) if ends_sentence(tokenizer.decode([id_])))


def _require_positions(arm: RlArm, scorer: Scorer, start: Path) -> None:
    positions = scorer.shape.max_positions
    for phase in arm.phases:
        if phase.max_total_tokens > positions:
            raise ValueError(
                f"arm {arm.name}, phase {phase.name}: max_total_tokens = {phase.max_total_tokens} is more than the {positions} "
                f"positions of the model ({start / 'config.json'}: max_position_embeddings); lower it, or start from a model with more"
            )
