"""The guarded update, the resume point and the model at the end: real engines of one rank, in a process of their own.

A process can join a group of ranks once, so what is asked of an engine happens in one that does nothing else, and what it found comes back.
"""

import io
import json
import math
import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch

from ring_model.checkpoint import load_model, save_model
from ring_model.engine import NonFiniteError, OptimizerSettings
from ring_model.modelling import BailingMoe
from ring_model.policy import BailingScorer, pack_rows, response_logprobs
from ring_model.tokenizer import Tokenizer
from stages.config import Runtime
from stages.stage import STATE, StageLog
from stages.training.ledger import STEPS, steps_of
from stages.training.model_card import CARD
from stages.training.restore_points import RestorePoints
from stages.training.trainer import Trainer
from tests.stages.conftest import lines_of

CLIP = 0.5
ROWS = pack_rows([(1, 2, 3), (8, 9)], [(4, 5, 6, 7), (10, 11)])
Elsewhere = Callable[..., Any]


@dataclass(slots=True)
class Progress:
    """A stage's counters."""

    step: int = 0
    ledger_bytes: int = 0
    seen: list[int] = field(default_factory=list)


class Run:
    """A stage over the tiny model, from its resume point on."""

    def __init__(
        self,
        model: Path,
        out: Path,
        *,
        num_steps: int = 10,
        restore_points: RestorePoints | None = None,
        **runtime: Any,
    ) -> None:
        self.stream = io.StringIO()
        self.trainer = Trainer.start(
            BailingScorer(load_model(model)),
            optimizer=OptimizerSettings(learning_rate=1.0, gradient_clip=CLIP),
            num_steps=num_steps,
            runtime=Runtime(**{"checkpoint_seconds": 0, **runtime}),
            out=out,
            log=StageLog(self.stream),
            restore_points=restore_points,
        )
        self.progress = self.trainer.resume(Progress())

    @property
    def model(self) -> BailingMoe:
        return self.trainer.engine.scorer.model

    @property
    def events(self) -> list[dict[str, Any]]:
        return lines_of(self.stream)

    def weights(self) -> list[torch.Tensor]:
        return [parameter.detach().clone() for parameter in self.model.parameters()]

    def backward(self, factor: float = 1.0) -> float:
        """Gradients of a loss, which is returned."""
        loss = nll(self.model) * factor
        self.trainer.engine.backward(loss, denominator=6.0)
        return float(loss.detach()) / 6.0

    def step(self, *, learning_rate: float = 1e-3) -> float:
        """A step as a stage takes it; returns the norm."""
        loss = self.backward()
        norm = self.trainer.apply(self.progress.step + 1, loss=loss, learning_rate=learning_rate)
        self.progress.step += 1
        self.progress.seen = [*self.progress.seen, self.progress.step]
        self.trainer.write_step(self.progress, {"train/loss": loss, "phase": "one"})
        return norm


def nll(model: BailingMoe) -> torch.Tensor:
    return -response_logprobs(model, ROWS, entropy="none").logprobs_M.sum()


def same(one: list[torch.Tensor], two: list[torch.Tensor]) -> bool:
    return all(torch.equal(mine, theirs) for mine, theirs in zip(one, two, strict=True))


def parameters(folder: Path) -> list[torch.Tensor]:
    return [parameter.detach() for parameter in load_model(folder).parameters()]


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[Elsewhere]:
    """Calls a function of this file in the process of the engines."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield lambda function, *arguments: pool.submit(function, *arguments).result(timeout=120)


# ---------------------------------------------------------------- the update


def one_step(model: Path, out: Path) -> tuple[float, list[torch.Tensor]]:
    run = Run(model, out)
    return run.step(learning_rate=1e-2), run.weights()


@pytest.mark.slow
def test_a_step_is_adamws_with_the_norm_of_plain_torch(elsewhere: Elsewhere, tiny_model: Path, tmp_path: Path) -> None:
    norm, weights = elsewhere(one_step, tiny_model, tmp_path)
    plain = load_model(tiny_model)
    (nll(plain) / 6.0).backward()
    assert norm == pytest.approx(float(torch.nn.utils.clip_grad_norm_(plain.parameters(), CLIP)), rel=1e-5)
    assert norm > CLIP  # it is that before clipping
    moved = max(float((a - b).abs().max()) for a, b in zip(parameters(tiny_model), weights, strict=True))
    assert moved == pytest.approx(1e-2, rel=1e-3)  # AdamW's first step is the learning rate


def diverged(model: Path, out: Path, loss: float, factor: float) -> tuple[str, bool]:
    """The error of the second step, and whether the weights are those after the first."""
    run = Run(model, out)
    run.step()
    before = run.weights()
    run.backward(factor)
    with pytest.raises(NonFiniteError) as caught:
        run.trainer.apply(2, loss=loss, learning_rate=0.25)
    return str(caught.value), same(run.weights(), before)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("loss", "factor", "what"),
    [
        (math.nan, 1.0, "the loss is nan"),
        (math.inf, 1.0, "the loss is inf"),
        (-math.inf, 1.0, "the loss is -inf"),
        (1.0, math.nan, "the gradient norm is nan"),
        (1.0, math.inf, "the gradient norm is nan"),
    ],
)
def test_a_loss_or_norm_that_is_not_finite_ends_the_stage_at_its_step_before_a_weight_changes(
    elsewhere: Elsewhere, tiny_model: Path, tmp_path: Path, loss: float, factor: float, what: str
) -> None:
    message, unchanged = elsewhere(diverged, tiny_model, tmp_path, loss, factor)
    assert message.startswith(f"step 2 of 10: {what} (learning rate 0.25). Training has diverged, ")
    assert unchanged


# ---------------------------------------------------------------- the ledger and the resume point


def undisturbed(model: Path, out: Path) -> tuple[list[torch.Tensor], Progress, list[dict]]:
    run = Run(model, out)
    for _ in range(4):
        run.step()
    return run.weights(), run.progress, run.events


def killed(model: Path, out: Path) -> None:
    run = Run(model, out)
    for _ in range(2):
        run.step()
    run.trainer.save(run.progress)
    run.step()


def resumed(model: Path, out: Path) -> tuple[list[torch.Tensor], Progress, list[dict]]:
    run = Run(model, out)
    events, progress = run.events, Progress(run.progress.step, run.progress.ledger_bytes, run.progress.seen)
    assert progress.ledger_bytes == (out / STEPS).stat().st_size
    for _ in range(2):
        run.step()
    return run.weights(), progress, events


@pytest.mark.slow
def test_a_run_that_was_killed_goes_on_from_its_resume_point_and_ends_in_the_bits_of_one_that_was_not(
    elsewhere: Elsewhere, tiny_model: Path, tmp_path: Path
) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    weights, progress, events = elsewhere(undisturbed, tiny_model, one)
    assert events == []
    lines = (one / STEPS).read_bytes()
    assert progress == Progress(4, len(lines), [1, 2, 3, 4])

    elsewhere(killed, tiny_model, two)
    assert (two / STEPS).read_bytes() == b"".join(lines.splitlines(keepends=True)[:3])
    again, progress, events = elsewhere(resumed, tiny_model, two)
    assert progress == Progress(2, sum(map(len, lines.splitlines(keepends=True)[:2])), [1, 2])
    assert events[0] == {"event": "resumed", "text": "step 2 of 10"}
    assert [(event["event"], event["step"], list(event["values"])) for event in events[1:]] == [
        ("metrics", 1, ["train/loss"]),
        ("metrics", 2, ["train/loss"]),
    ]
    assert same(again, weights)
    assert (two / STEPS).read_bytes() == lines
    assert [list(row) for row in steps_of(two)] == [["step", "train/loss", "phase"]] * 4


def long_run(model: Path, out: Path) -> list[dict]:
    run = Run(model, out, num_steps=1500)
    for _ in range(7):
        run.step()
    run.trainer.save(run.progress)
    return Run(model, out, num_steps=1500).events


@pytest.mark.slow
def test_a_long_run_tells_the_tracker_again_what_it_told_before(
    elsewhere: Elsewhere, tiny_model: Path, tmp_path: Path
) -> None:
    events = elsewhere(long_run, tiny_model, tmp_path)
    assert [event["step"] for event in events if event["event"] == "metrics"] == [3, 6]


@pytest.mark.parametrize(("num_steps", "every"), [(1, 1), (499, 1), (999, 1), (1000, 2), (500_000, 1000)])
def test_about_five_hundred_points_of_a_curve_go_to_the_tracker(num_steps: int, every: int, tmp_path: Path) -> None:
    trainer = Trainer(None, num_steps=num_steps, runtime=Runtime(), out=tmp_path, log=StageLog(None))
    assert trainer.every == every


def test_seconds_add_up_by_activity(tmp_path: Path) -> None:
    trainer = Trainer(None, num_steps=1, runtime=Runtime(), out=tmp_path, log=StageLog(None))
    for activity, seconds in (("train", 1.5), ("sample", 4.0), ("train", 0.25)):
        trainer.spend(activity, seconds)
    assert trainer.timings == {"train": 1.75, "sample": 4.0}


def files(folder: Path) -> dict[str, tuple[int, int]]:
    """Inode and time of every file."""
    return {
        str(path.relative_to(folder)): (path.stat().st_ino, path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def saves(model: Path, out: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    run = Run(model, out, num_steps=2)
    found["due"], found["writes"] = run.trainer.save_is_due(), run.trainer.writes
    run.step()
    run.trainer.save(run.progress)
    found["seconds"], found["first"] = run.trainer.timings, files(out / STATE)
    run.step()
    run.trainer.save(run.progress)
    found["last"] = files(out / STATE)
    found["due later"] = Run(model, out, num_steps=2, checkpoint_seconds=3600).trainer.save_is_due()
    return found


@pytest.mark.slow
def test_a_resume_point_is_due_after_so_many_seconds_and_skipped_after_the_last_step(
    elsewhere: Elsewhere, tiny_model: Path, tmp_path: Path
) -> None:
    found = elsewhere(saves, tiny_model, tmp_path)
    assert found["writes"] and found["due"] and not found["due later"]
    assert found["first"] and found["last"] == found["first"]
    assert list(found["seconds"]) == ["save"] and 0 < found["seconds"]["save"] < 60


def goes_back(model: Path, out: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    kept = RestorePoints(out / STATE / "restore-points", every=2, keep=1)
    run = Run(model, out, num_steps=6, restore_points=kept)
    course = []
    for step in range(5):
        found[step] = run.trainer.restore_point_is_due(step)
        run.trainer.save_restore_point(run.progress)
        course.append(run.weights())
        if step < 4:
            run.step()
        if step == 2:
            run.trainer.save(run.progress)
    found["kept"], found["resume point"] = kept.steps, (out / STATE / "training").exists()
    run.trainer.forget_after(2)
    found["left"] = kept.steps
    run.progress = run.trainer.go_back(0, Progress)
    found["back"], found["lines"] = same(run.weights(), course[0]), len(list(steps_of(out)))
    run.step()
    found["again"], found["progress"] = same(run.weights(), course[1]), run.progress.step
    found["steps"] = [row["step"] for row in steps_of(out)]
    return found


@pytest.mark.slow
def test_a_run_goes_back_to_a_checkpoint_with_its_weights_moments_counters_and_ledger(
    elsewhere: Elsewhere, tiny_model: Path, tmp_path: Path
) -> None:
    found = elsewhere(goes_back, tiny_model, tmp_path)
    assert [found[step] for step in range(5)] == [True, False, True, False, True]
    assert found["kept"] == [0, 4]
    assert not found["resume point"]  # the checkpoint after it is newer
    assert found["left"] == [0]
    assert found["back"] and found["lines"] == 0
    assert found["again"] and found["progress"] == 1 and found["steps"] == [1]


def from_newest(model: Path, out: Path) -> tuple[bool, list[dict[str, Any]]]:
    kept = RestorePoints(out / STATE / "restore-points", every=2, keep=3)
    run = Run(model, out, restore_points=kept)
    for _ in range(3):
        run.trainer.save_restore_point(run.progress)
        run.step()
    assert kept.steps == [0, 2]
    again = Run(model, out, restore_points=kept)
    again.step()
    return same(again.weights(), run.weights()), again.events


@pytest.mark.slow
def test_without_a_resume_point_a_run_goes_on_from_its_newest_checkpoint(
    elsewhere: Elsewhere, tiny_model: Path, tmp_path: Path
) -> None:
    is_same, events = elsewhere(from_newest, tiny_model, tmp_path)
    assert is_same
    assert {"event": "resumed", "text": "step 2 of 10"} in events


# ---------------------------------------------------------------- weights that are not finite


def broken(model: Path, out: Path) -> tuple[list[str], bool]:
    """The errors of a save and of an export of such weights, and whether the older resume point gives its own."""
    run = Run(model, out)
    run.step()
    run.trainer.save(run.progress)
    good = run.weights()
    run.step()
    with torch.no_grad():
        run.model.get_parameter("layers.0.mlp.gate.weight")[1, 2] = math.nan
    messages = []
    with pytest.raises(NonFiniteError) as caught:
        run.trainer.save(run.progress)
    messages.append(str(caught.value))
    with pytest.raises(NonFiniteError) as caught:
        run.trainer.export(Tokenizer.from_folder(model), out / "model", step=2)
    messages.append(str(caught.value))
    again = Run(model, out)
    return messages, again.progress.step == 1 and same(again.weights(), good)


@pytest.mark.slow
def test_weights_that_are_not_finite_are_saved_and_exported_nowhere_and_the_older_resume_point_stays(
    elsewhere: Elsewhere, tiny_model: Path, tmp_path: Path
) -> None:
    messages, older_stays = elsewhere(broken, tiny_model, tmp_path)
    for message in messages:
        assert message.startswith(
            "step 2 of 10: its update broke the model: the weights model.layers.0.mlp.gate.weight are not finite. Training has"
        )
    assert len(messages) == 2 and older_stays
    assert not (tmp_path / "model").exists()


# ---------------------------------------------------------------- the model at the end


def exported(model: Path, out: Path) -> list[torch.Tensor]:
    run = Run(model, out)
    run.step()
    run.trainer.export(Tokenizer.from_folder(model), out / "model", step=1)
    return run.weights()


@pytest.mark.slow
def test_an_exported_folder_is_the_model_with_its_tokenizer_and_card(
    elsewhere: Elsewhere, tiny_model: Path, tmp_path: Path
) -> None:
    weights = elsewhere(exported, tiny_model, tmp_path)
    assert same(parameters(tmp_path / "model"), weights)
    assert (tmp_path / "model" / CARD).is_file()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        assert (tmp_path / "model" / name).read_bytes() == (tiny_model / name).read_bytes()


@pytest.mark.slow
def test_an_exported_folder_keeps_every_end_token(elsewhere: Elsewhere, tiny_model: Path, tmp_path: Path) -> None:
    several = tmp_path / "several"
    save_model(load_model(tiny_model), several, end_ids=[0, 9, 12])
    Tokenizer.from_folder(tiny_model).save(several)
    elsewhere(exported, several, tmp_path)
    assert json.loads((tmp_path / "model" / "generation_config.json").read_text())["eos_token_id"] == [0, 9, 12]
    assert Tokenizer.from_folder(tmp_path / "model").end_ids == (0, 9, 12)


def ended(model: Path, out: Path) -> tuple[bool, str]:
    """Whether this process is in a group of ranks after the end, and what writing a further step gives."""
    run = Run(model, out)
    run.step()
    run.trainer.close()
    with pytest.raises(ValueError, match="closed file") as caught:
        run.trainer.write_step(run.progress, {})
    return torch.distributed.is_initialized(), str(caught.value)


@pytest.mark.slow
def test_at_the_end_the_ledger_is_closed_and_the_group_of_ranks_left(
    elsewhere: Elsewhere, tiny_model: Path, tmp_path: Path
) -> None:
    is_member, message = elsewhere(ended, tiny_model, tmp_path)  # last of this file: the process joins no other group
    assert not is_member and "closed file" in message
