"""One rank, several ranks and a plain torch loop take the same steps; a resumed run takes them to the bit."""

import os
import subprocess
import sys
from pathlib import Path

import engine_script
import pytest
import torch
from slow_model import SMALL

from ring_model.engine import Engine, OptimizerSettings
from ring_model.modelling import BailingMoe, initialise

SCRIPT = str(Path(__file__).parent / "engine_script.py")


def run(*arguments: object, ranks: int = 1) -> subprocess.CompletedProcess:
    start = [sys.executable] if ranks == 1 else [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    start += [] if ranks == 1 else [f"--nproc-per-node={ranks}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        environment.pop(name, None)
    return subprocess.run(
        [*start, SCRIPT, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        env=environment,
        check=False,
    )


def result(path: Path, completed: subprocess.CompletedProcess) -> dict:
    assert completed.returncode == 0, completed.stderr[-3000:]
    return torch.load(path, weights_only=True)


def plain_torch(num_steps: int) -> tuple[list[torch.Tensor], list[float]]:
    """The same steps by torch alone: all micro-batches here, sum / denominator, clip, AdamW."""
    model = initialise(BailingMoe(SMALL), seed=5)
    settings = engine_script.SETTINGS
    groups = [
        {"params": [p for p in model.parameters() if p.dim() >= 2], "weight_decay": settings.weight_decay},
        {"params": [p for p in model.parameters() if p.dim() < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, betas=settings.betas, eps=settings.eps, foreach=False)
    norms = []
    for step in range(num_steps):
        for group in optimizer.param_groups:
            group["lr"] = engine_script.rate(step)
        optimizer.zero_grad()
        for rows in engine_script.rows_of(step):
            (engine_script.loss_of(model, rows) / engine_script.DENOMINATOR).backward()
        norms.append(float(torch.nn.utils.clip_grad_norm_(model.parameters(), settings.gradient_clip)))
        optimizer.step()
    return [p.detach() for p in model.parameters()], norms


def furthest(one: list[torch.Tensor], two: list[torch.Tensor]) -> float:
    return max(float((a - b).abs().max()) for a, b in zip(one, two, strict=True))


@pytest.mark.parametrize(("ranks", "stage"), [(1, 1), (2, 0), (2, 1)])
def test_any_ranks_and_stage_take_the_steps_of_plain_torch(tmp_path: Path, ranks: int, stage: int) -> None:
    out = tmp_path / "out.pt"
    found = result(out, run(out, stage, 3, ranks=ranks))
    weights, norms = plain_torch(3)
    assert furthest(found["weights"], weights) < 1e-6
    assert found["norms"] == pytest.approx(norms, rel=1e-5)
    assert min(norms) > engine_script.SETTINGS.gradient_clip  # clipping was at work
    assert found["gathered"] == list(range(ranks))
    assert found["total"] == {"one": ranks, "rank": ranks - 1}
    assert found["word"] == "from 0"


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_resumed_run_ends_with_the_same_bits(tmp_path: Path, ranks: int) -> None:
    one, two, folder = tmp_path / "one.pt", tmp_path / "two.pt", tmp_path / "steps" / "checkpoint"
    straight = result(one, run(one, 1, 4, ranks=ranks))
    result(two, run(two, 1, 2, folder, ranks=ranks))
    resumed = result(two, run(two, 1, 2, folder, ranks=ranks))
    assert resumed["norms"] == straight["norms"][2:]
    assert all(torch.equal(a, b) for a, b in zip(resumed["weights"], straight["weights"], strict=True))


def test_a_changed_checkpoint_or_another_number_of_ranks_is_refused(tmp_path: Path) -> None:
    out, folder = tmp_path / "out.pt", tmp_path / "checkpoint"
    result(out, run(out, 1, 1, folder))
    other = run(out, 1, 1, folder, ranks=2)
    assert other.returncode != 0
    assert "resume with the same" in other.stderr
    victim = next(path for path in sorted(folder.rglob("*.pt")))
    victim.write_bytes(victim.read_bytes() + b"x")
    changed = run(out, 1, 1, folder)
    assert changed.returncode != 0
    assert "changed since it was saved" in changed.stderr


def test_an_unknown_stage_is_refused() -> None:
    with pytest.raises(ValueError, match="zero_stage = 3"):
        Engine.start(BailingMoe(SMALL), optimizer=OptimizerSettings(learning_rate=1.0), zero_stage=3)
