"""One rank, several ranks and a plain torch loop take the same steps; a resumed run takes them to the bit."""

import functools
import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import engine_script
import pytest
import torch
from slow_model import SMALL

from ring_model.engine import Engine, OptimizerSettings, _load_tensors, remove_save, require_own
from ring_model.modelling import BailingMoe, initialise

pytestmark = pytest.mark.slow
SCRIPT = str(Path(__file__).parent / "engine_script.py")


def run(*arguments: object, ranks: int = 1, script: str = SCRIPT) -> subprocess.CompletedProcess:
    start = [sys.executable] if ranks == 1 else [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    start += [] if ranks == 1 else [f"--nproc-per-node={ranks}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        environment.pop(name, None)
    return subprocess.run(
        [*start, script, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        env=environment,
        check=False,
    )


def result(folder: Path, *refused: Path, ranks: int, stage: int) -> dict:
    """What the script says of a run that saves in `folder`, or goes on from there."""
    out = folder.with_suffix(".pt")
    completed = run(out, stage, folder, *refused, ranks=ranks)
    assert completed.returncode == 0, completed.stderr[-3000:]
    return torch.load(out, weights_only=True)


@pytest.fixture(scope="module")
def straight(tmp_path_factory) -> Callable[..., tuple[dict, Path]]:
    """A run of four steps and the checkpoint that it left after two; made once, since each start takes 10 s of CPU."""

    @functools.cache
    def make(*, ranks: int, stage: int = 1) -> tuple[dict, Path]:
        folder = tmp_path_factory.mktemp("straight") / "checkpoint"
        return result(folder, ranks=ranks, stage=stage), folder

    return make


@pytest.fixture(scope="module")
def resumed(straight, tmp_path_factory) -> Callable[..., dict]:
    """A run that first tries checkpoints that are not its own, then goes on from the one that it is given."""

    @functools.cache
    def make(*, ranks: int) -> dict:
        folder, changed = (tmp_path_factory.mktemp("resumed") / name for name in ("checkpoint", "changed"))
        for copy in (folder, changed):
            shutil.copytree(straight(ranks=ranks)[1], copy)
        victim = next(path for path in sorted(changed.rglob("*.pt")))
        victim.write_bytes(victim.read_bytes() + b"x")
        others = [straight(ranks=3 - ranks)[1], *([straight(ranks=2, stage=0)[1]] if ranks == 2 else [])]
        return result(folder, changed, *others, ranks=ranks, stage=1)

    return make


def plain_torch(num_steps: int, *, reset_after: int | None = None) -> tuple[list[torch.Tensor], list[float]]:
    """The same steps by torch alone: all micro-batches here, sum / denominator, clip, AdamW, which may be a new one after some steps."""
    model = initialise(BailingMoe(SMALL), seed=5)
    settings = engine_script.SETTINGS
    groups = [
        {"params": [p for p in model.parameters() if p.dim() >= 2], "weight_decay": settings.weight_decay},
        {"params": [p for p in model.parameters() if p.dim() < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, betas=settings.betas, eps=settings.eps, foreach=False)
    norms = []
    for step in range(num_steps):
        if step == reset_after:
            optimizer = torch.optim.AdamW(groups, betas=settings.betas, eps=settings.eps, foreach=False)
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
def test_any_ranks_and_stage_take_the_steps_of_plain_torch(straight, ranks: int, stage: int) -> None:
    found, _ = straight(ranks=ranks, stage=stage)
    weights, norms = plain_torch(engine_script.NUM_STEPS)
    assert furthest(found["weights"], weights) < 1e-6
    assert found["norms"] == pytest.approx(norms, rel=1e-5)
    assert min(norms) > engine_script.SETTINGS.gradient_clip  # clipping was at work
    assert found["gathered"] == list(range(ranks))
    assert found["total"] == {"one": ranks, "rank": ranks - 1}
    assert found["word"] == "from 0"


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_resumed_run_ends_with_the_same_bits(straight, resumed, ranks: int) -> None:
    whole, rest = straight(ranks=ranks)[0], resumed(ranks=ranks)
    assert rest["norms"] == whole["norms"][engine_script.SAVED_STEPS :]
    assert all(torch.equal(a, b) for a, b in zip(rest["weights"], whole["weights"], strict=True))


@pytest.mark.parametrize(("ranks", "stage"), [(1, 1), (2, 0), (2, 1)])
def test_an_engine_that_goes_back_to_its_checkpoint_takes_the_same_steps_to_the_bit(straight, ranks, stage) -> None:
    found, _ = straight(ranks=ranks, stage=stage)
    assert all(torch.equal(a, b) for a, b in zip(found["again"], found["weights"], strict=True))


@pytest.mark.parametrize(("ranks", "stage"), [(1, 1), (2, 0), (2, 1)])
def test_an_optimiser_that_is_reset_goes_on_as_a_new_one(straight, ranks: int, stage: int) -> None:
    found, _ = straight(ranks=ranks, stage=stage)
    weights, _ = plain_torch(engine_script.NUM_STEPS, reset_after=engine_script.SAVED_STEPS)
    assert furthest(found["reset"], weights) < 1e-6
    assert furthest(found["reset"], found["weights"]) > 1e-4


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_changed_checkpoint_another_number_of_ranks_or_stage_is_refused_on_every_rank(resumed, ranks: int) -> None:
    for changed, *others in resumed(ranks=ranks)["refusals"]:
        assert "changed since it was saved" in changed
        assert len(others) == ranks and all("resume with the same" in other for other in others)


@pytest.mark.parametrize(("ranks", "stage"), [(1, 1), (2, 0), (2, 1)])
def test_a_gradient_that_is_not_finite_on_one_rank_stops_all_before_any_weight_changes_and_is_never_saved(
    tmp_path: Path, ranks: int, stage: int
) -> None:
    script = str(Path(__file__).parent / "nonfinite_script.py")
    done = run(tmp_path / "out.json", stage, tmp_path / "checkpoint", ranks=ranks, script=script)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads((tmp_path / "out.json").read_text())
    assert len(found["errors"]) == ranks
    assert all(text.startswith("the gradient norm is ") for text in found["errors"]), found
    assert found["unchanged"]
    assert all(text.startswith("the weights ") and "not finite" in text for text in found["unsaved"]), found
    assert found["state"] == {"step": 1}


def test_an_unknown_stage_is_refused() -> None:
    with pytest.raises(ValueError, match="zero_stage = 3"):
        Engine.start(BailingMoe(SMALL), optimizer=OptimizerSettings(learning_rate=1.0), zero_stage=3)


def test_a_save_that_is_removed_leaves_nothing_that_could_be_loaded(tmp_path: Path) -> None:
    folder = tmp_path / "save"
    for suffix in ("", ".old", ".writing"):  # the last two a kill may have left
        (tmp_path / f"save{suffix}" / "state").mkdir(parents=True)
    (tmp_path / "save-of-another").mkdir()
    for _ in range(2):
        remove_save(folder)
        assert [path.name for path in tmp_path.iterdir()] == ["save-of-another"]


# ---------------------------------------------------------------- who may have written a resume point


@pytest.fixture
def save(tmp_path: Path) -> Path:
    folder = tmp_path / "save"
    (folder / "state").mkdir(parents=True, mode=0o755)
    (folder / "state" / "model.pt").write_bytes(b"")
    folder.chmod(0o755)
    return folder


def test_a_resume_point_of_ones_own_is_read(save: Path) -> None:
    require_own(save)


@pytest.mark.parametrize("part", [".", "state", "state/model.pt"])
def test_a_resume_point_that_others_may_write_is_refused_with_what_to_do(save: Path, part: str) -> None:
    (save / part).chmod(0o777)
    with pytest.raises(ValueError, match=r"may be written by others \(mode 777\).*delete .*chmod -R go-w"):
        require_own(save)


def test_what_lies_in_a_folder_that_nobody_else_enters_may_have_any_mode(save: Path) -> None:
    (save / "state").chmod(0o777)
    save.chmod(0o700)
    require_own(save)


def test_a_link_in_a_resume_point_is_refused(save: Path) -> None:
    (save / "more").symlink_to("/tmp")
    with pytest.raises(ValueError, match="more is a link"):
        require_own(save)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_resume_point_of_another_user_is_refused(save: Path) -> None:
    os.chown(save / "state" / "model.pt", 12345, 12345)
    with pytest.raises(ValueError, match="belongs to the user 12345"):
        require_own(save)


class _Attack:
    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return (os.system, ("touch attacked",))


def test_a_pickle_that_runs_code_is_refused_and_runs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, write in (("torch", torch.save), ("plain", lambda value, path: path.write_bytes(pickle.dumps(value)))):
        write({"ours": _Attack()}, path := tmp_path / name)
        with pytest.raises(ValueError, match="holds more than a resume point does"):
            _load_tensors(str(path))
    assert not (tmp_path / "attacked").exists()
