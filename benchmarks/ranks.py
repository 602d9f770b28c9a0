"""`python -m benchmarks ranks --home HOME [--page PAGE]`: SFT and RL of the smoke chain by 1, 2 and 4 ranks at every ZeRO stage.

HOME holds a finished smoke chain, whose data and models are the inputs: 58 steps of SFT and 10 of RL; the arms of RL are given the journal
of one rank, so that all train on the same samples. Then three runs in one, each begun by other ranks and ended by SIGKILL of one of
them: 2 ranks at ZeRO 1, 4 at ZeRO 3, and 1 to the end. A curve is steps.jsonl. Exit code 1 where a loss is further than 1e-5 from that of
one rank at the same step; the gradient norm's distance is told beside it, as a share of the norm.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from flows.launch import job_of
from flows.tables import rows_table
from flows.worker_process import worker_environment
from stages.config import RlConfig, Runtime, SftConfig
from stages.markdown import table
from stages.plan import PlannedStage
from stages.ranks import BEATS
from stages.records.artifact import Manifest, Store
from stages.records.machine import machine_kind
from stages.reproduction import planned_again, sealed_inputs
from stages.stage import STATE
from stages.training.ledger import STEPS

LIMIT = 1e-5
SFT_EPOCHS, RL_STEPS = 4, 10  # 58 steps of SFT
LAYOUTS = ((1, 0), (2, 0), (2, 1), (2, 2), (2, 3), (4, 0), (4, 1), (4, 3))
RELAY = ((2, 1), (4, 3), (1, 0))  # ranks and stage of a run that is killed twice
LOSS, NORM = "train/loss", "train/gradient_norm"


@dataclass(frozen=True)
class Task:
    """What is trained, and where."""

    name: str
    spec: PlannedStage
    inputs: Mapping[str, Manifest]
    root: Path

    def job(self, out: Path, *, ranks: int, stage: int) -> Path:
        """The job file of a run."""
        (out / STATE).mkdir(parents=True, exist_ok=True)
        runtime = Runtime(workers=1, zero_stage=stage, checkpoint_seconds=0.0, micro_batch_tokens=256)
        document = job_of(replace(self.spec, ranks=ranks), partial=out, inputs=self.inputs, runtime=runtime)
        events, path = out.with_suffix(".events"), out.with_suffix(".json")
        events.touch()
        path.write_text(json.dumps({**document, "events": str(events)}), encoding="utf-8")
        return path

    def start(self, out: Path, *, ranks: int, stage: int) -> subprocess.Popen[bytes]:
        """Its process."""
        log = out.with_suffix(".log").open("ab")
        return subprocess.Popen(
            [sys.executable, "-m", "stages.worker", str(self.job(out, ranks=ranks, stage=stage))],
            env=worker_environment(Runtime()), stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip

    def run(self, out: Path, *, ranks: int, stage: int) -> None:
        """To its end."""
        code = self.start(out, ranks=ranks, stage=stage).wait()
        if code:
            raise SystemExit(out.with_suffix(".events").read_text() + out.with_suffix(".log").read_text()[-2000:])


def tasks(home: Path, root: Path) -> Iterator[Task]:
    """SFT and an arm of RL, with as many steps as are wanted."""
    store = Store(home)
    made = store.all()
    sft = next(one for one in made if one.stage == "sft")
    arm = next(one for one in made if one.stage == "rl" and "training" not in one.document["payload"]["config"])
    for name, manifest in (("SFT", sft), ("RL", arm)):
        spec = planned_again(manifest, data_dir=None)
        config = longer_sft(spec.config) if isinstance(spec.config, SftConfig) else longer_arm(spec.config)
        yield Task(name, replace(spec, config=config), sealed_inputs(spec, store=store), root / name)


def longer_sft(config: SftConfig) -> SftConfig:
    stated = config.model_dump(mode="json")
    stated["training"] |= {"epochs": SFT_EPOCHS, "checkpoints_per_epoch": 1, "mean_of_last": 0}
    return SftConfig.model_validate(stated)


def longer_arm(config: Any) -> RlConfig:
    stated = config.model_dump(mode="json")
    (arm,) = stated["arms"]
    arm["phases"] = [{**arm["phases"][0], "steps": RL_STEPS, "until": None}]
    return RlConfig.model_validate(stated)


def curve(out: Path) -> list[dict[str, float]]:
    lines = (out / STEPS).read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def furthest(reference: Path, out: Path, name: str, *, share: bool = False) -> float:
    """Largest difference of a figure at a step, or as a share of the figure."""
    pairs = zip(curve(reference), curve(out), strict=True)
    return max(abs(two[name] - one[name]) / (abs(one[name]) if share else 1.0) for one, two in pairs if name in one)


def given_journal(task: Task, reference: Path, out: Path) -> None:
    """So that an arm trains on the samples of the reference."""
    if task.name == "RL":
        for name in ("rollouts", "probes"):
            if (reference / name).is_dir():
                shutil.copytree(reference / name, out / name)


def relay(task: Task, reference: Path) -> Path:
    """One run by other ranks after each kill of one of them."""
    out = task.root / "relay"
    given_journal(task, reference, out)
    steps = len(curve(reference))
    for turn, (ranks, stage) in enumerate(RELAY, start=1):
        if turn == len(RELAY):
            task.run(out, ranks=ranks, stage=stage)
            return out
        process = task.start(out, ranks=ranks, stage=stage)
        wait_for(out, steps * turn // len(RELAY), process)
        beat = json.loads((out / STATE / BEATS / f"rank-{ranks - 1:05d}.json").read_text())
        os.kill(beat["pid"], signal.SIGKILL)
        assert process.wait() == 1
    raise AssertionError


def wait_for(out: Path, step: int, process: subprocess.Popen[bytes]) -> None:
    while not (out / STEPS).exists() or (out / STEPS).read_bytes().count(b"\n") < step:
        assert process.poll() is None, out.with_suffix(".log").read_text()[-2000:]
        time.sleep(0.02)


def measured(task: Task) -> list[dict[str, Any]]:
    task.root.mkdir(parents=True)
    reference = task.root / "1-0"
    rows = []
    for ranks, stage in LAYOUTS:
        out = task.root / f"{ranks}-{stage}"
        if out != reference:
            given_journal(task, reference, out)
        started = time.monotonic()
        task.run(out, ranks=ranks, stage=stage)
        rows.append(row_of(task, f"{ranks} ranks, ZeRO {stage}" if ranks > 1 else "1 rank", reference, out, started))
    started = time.monotonic()
    chain = " -> ".join(f"{ranks} (ZeRO {stage})" if ranks > 1 else "1" for ranks, stage in RELAY)
    rows.append(row_of(task, f"{chain}, a rank killed twice", reference, relay(task, reference), started))
    return rows


def row_of(task: Task, name: str, reference: Path, out: Path, started: float) -> dict[str, Any]:
    return {
        "stage": task.name,
        "ranks": name,
        "steps": len(curve(out)),
        "loss": f"{furthest(reference, out, LOSS):.1e}",
        "norm": f"{furthest(reference, out, NORM, share=True):.1e}",
        "seconds": round(time.monotonic() - started),
    }


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks ranks", description=__doc__)
    parser.add_argument("--home", type=Path, required=True, help="with a finished smoke chain")
    parser.add_argument("--page", type=Path, help="write the table here, as Markdown")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as root:
        rows = [row for task in tasks(given.home, Path(root)) for row in measured(task)]
    Console().print(rows_table(rows, title=f"furthest from the curve of 1 rank, smoke chain ({machine_kind('cpu')})"))
    if given.page:
        given.page.write_text("\n".join(table(rows)) + "\n", encoding="utf-8")
    return 0 if all(float(row["loss"]) <= LIMIT for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
