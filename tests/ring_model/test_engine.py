"""One rank, several ranks and a plain torch loop take the same steps; a resumed run takes them to the bit."""

import functools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import architectures_script
import engine_script
import pytest
import torch
from safetensors.torch import load_file
from slow_model import SMALL, VARIANTS
from tiny_causal_lm import save_causal_lm

from ring_model.checkpoint import save_model
from ring_model.configuration import BailingMoeConfig
from ring_model.engine import Engine, OptimizerSettings, remove_save
from ring_model.modelling import BailingMoe, initialise
from ring_model.policy import BailingScorer, Scorer
from ring_model.transformers_scorer import ADAPTER

pytestmark = pytest.mark.slow
RANKS_AND_STAGES = [(1, 1), (2, 0), (2, 1), (2, 2), (2, 3)]
CASES = [f"{kind}:{stage}" for kind in ("qwen2", "qwen3_moe") for stage in (1, 2, 3)]
CASES += ["qwen2:1:2", "qwen3_moe:1:2", "qwen3_moe:3:2"]  # KIND:STAGE[:RANK_OF_ADAPTERS]
SCRIPT = str(Path(__file__).parent / "engine_script.py")


def run(
    *arguments: object, ranks: int = 1, script: str = SCRIPT, timeout: float = 120, **variables: str
) -> subprocess.CompletedProcess:
    start = [sys.executable] if ranks == 1 else [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    start += [] if ranks == 1 else [f"--nproc-per-node={ranks}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **variables}
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        environment.pop(name, None)
    return subprocess.run(
        [*start, script, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=timeout,
        env=environment,
        check=False,
    )


def result(folder: Path, *refused: Path, ranks: int, stage: int, **variables: str) -> dict:
    """What the script says of a run that saves in `folder`, or goes on from there."""
    out = folder.with_suffix(".pt")
    completed = run(out, stage, folder, *refused, ranks=ranks, **variables)
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
    """A run that first tries a checkpoint that was changed, then goes on from one of some ranks and stage."""

    @functools.cache
    def make(*, saved_by: tuple[int, int], ranks: int, stage: int) -> dict:
        folder, changed = (tmp_path_factory.mktemp("resumed") / name for name in ("checkpoint", "changed"))
        for copy in (folder, changed):
            shutil.copytree(straight(ranks=saved_by[0], stage=saved_by[1])[1], copy)
        victim = next(path for path in sorted(changed.rglob("*.safetensors")))
        victim.write_bytes(victim.read_bytes() + b"x")
        return result(folder, changed, ranks=ranks, stage=stage)

    return make


def plain_torch(
    num_steps: int, *, reset_after: int | None = None, config: BailingMoeConfig = SMALL, scorer: Scorer | None = None
) -> tuple[list[torch.Tensor], list[float]]:
    """The same steps by torch alone: all micro-batches here, sum / denominator, clip, AdamW, which may be a new one after some steps.

    `scorer`: trained in place of a new model of `config`.
    """
    scorer = scorer or BailingScorer(initialise(BailingMoe(config), seed=5))
    trained = [parameter for parameter in scorer.parameters() if parameter.requires_grad]
    settings = engine_script.SETTINGS
    groups = [
        {"params": [p for p in trained if p.dim() >= 2], "weight_decay": settings.weight_decay},
        {"params": [p for p in trained if p.dim() < 2], "weight_decay": 0.0},
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
            (engine_script.loss_of(scorer, rows) / engine_script.DENOMINATOR).backward()
        norms.append(float(torch.nn.utils.clip_grad_norm_(trained, settings.gradient_clip)))
        optimizer.step()
    return [p.detach() for p in scorer.parameters()], norms


def furthest(one: list[torch.Tensor], two: list[torch.Tensor]) -> float:
    return max(float((a - b).abs().max()) for a, b in zip(one, two, strict=True))


@pytest.mark.parametrize(("ranks", "stage"), RANKS_AND_STAGES)
def test_any_ranks_and_stage_take_the_steps_of_plain_torch(straight, ranks: int, stage: int) -> None:
    found, _ = straight(ranks=ranks, stage=stage)
    weights, norms = plain_torch(engine_script.NUM_STEPS)
    assert furthest(found["weights"], weights) < 1e-6
    assert found["norms"] == pytest.approx(norms, rel=1e-5)
    assert min(norms) > engine_script.SETTINGS.gradient_clip  # clipping was at work
    assert found["gathered"] == list(range(ranks))
    assert found["total"] == {"one": ranks, "rank": ranks - 1}
    assert found["word"] == "from 0"


@pytest.mark.parametrize("stage", [1, 3])
def test_dense_layers_biases_and_a_tied_head_take_the_steps_of_plain_torch(tmp_path: Path, stage: int) -> None:
    found = result(tmp_path / "checkpoint", ranks=2, stage=stage, VARIANT="all")
    weights, norms = plain_torch(engine_script.NUM_STEPS, config=VARIANTS["all"])
    assert furthest(found["weights"], weights) < 1e-6
    assert found["norms"] == pytest.approx(norms, rel=1e-5)
    assert all(torch.equal(a, b) for a, b in zip(found["again"], found["weights"], strict=True))


# ---------------------------------------------------------------- other architectures


@pytest.fixture(scope="module")
def architectures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two ranks leave of CASES: one start of them for all, since it takes as long as ten cases."""
    folder = tmp_path_factory.mktemp("architectures")
    for kind in ("qwen2", "qwen3_moe"):
        save_causal_lm(folder / kind, kind)
    script = str(Path(__file__).parent / "architectures_script.py")
    done = run(folder, *CASES, ranks=2, script=script, timeout=400)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.fixture(scope="module")
def architecture_alone(architectures: Path) -> Callable[[str], tuple[list[torch.Tensor], list[float], list[str], Path]]:
    """Weights, norms, names and saved folder of a case's model after the same steps by torch alone, whatever the stage."""

    @functools.cache
    def make(case: str) -> tuple[list[torch.Tensor], list[float], list[str], Path]:
        torch.manual_seed(7)
        scorer = architectures_script.scorer_of(architectures, case)
        names = [name for name, _ in scorer.named_parameters()]
        weights, norms = plain_torch(engine_script.NUM_STEPS, scorer=scorer)
        scorer.save(folder := architectures / f"{case}.alone", end_ids=[3])
        return weights, norms, names, folder

    return lambda case: make(":".join(["0" if index == 1 else part for index, part in enumerate(case.split(":"))]))


@pytest.mark.parametrize("case", CASES)
def test_two_ranks_with_a_model_of_another_architecture_take_the_steps_of_plain_torch(
    architectures: Path, architecture_alone, case: str
) -> None:
    """Rank 1 has fewer micro-batches than rank 0, so it goes through the model without a router's loss.

    A bias of all keys nearly cancels in the softmax: AdamW makes steps of what rounding leaves of its gradient, and plain torch that
    takes the micro-batches in another order ends 2.2e-5 away in it. Other weights were within 4.8e-6, norms within 8.6e-7.
    """
    found = torch.load(architectures / f"{case}.pt", weights_only=True)
    weights, norms, names, _ = architecture_alone(case)
    assert found["norms"] == pytest.approx(norms, rel=1e-5)
    for name, one, two in zip(names, found["weights"], weights, strict=True):
        assert float((one - two).abs().max()) < (1e-4 if name.endswith("k_proj.bias") else 1e-5), name
    assert min(norms) > engine_script.SETTINGS.gradient_clip


@pytest.mark.parametrize("case", CASES)
def test_two_ranks_write_the_folder_of_another_architecture_that_one_writes(
    architectures: Path, architecture_alone, case: str
) -> None:
    alone = architecture_alone(case)[-1]
    assert_alike(architectures / case, alone)
    if len(case.split(":")) == 3:
        assert_alike(architectures / case / ADAPTER, alone / ADAPTER)
    for name in ("config.json", "generation_config.json"):
        assert (architectures / case / name).read_text() == (alone / name).read_text()


def assert_alike(folder: Path, other: Path) -> None:
    """The safetensors files of two folders have the same names and, as far as another order of sums allows, the same numbers."""
    (one,), (two,) = (list(map(load_file, each.glob("*.safetensors"))) for each in (folder, other))
    assert one.keys() == two.keys()
    for name in one:
        assert float((one[name] - two[name]).abs().max()) < (1e-4 if name.endswith("k_proj.bias") else 1e-5), name


@pytest.mark.parametrize("case", CASES)
def test_a_model_of_another_architecture_goes_back_to_its_checkpoint_to_the_bit(architectures: Path, case: str) -> None:
    found = torch.load(architectures / f"{case}.pt", weights_only=True)
    assert all(torch.equal(a, b) for a, b in zip(found["again"], found["weights"], strict=True))


@pytest.mark.parametrize("case", [case for case in CASES if len(case.split(":")) == 2])
def test_a_model_of_another_architecture_is_refilled_with_the_weights_of_a_folder(
    architectures: Path, case: str
) -> None:
    found = torch.load(architectures / f"{case}.pt", weights_only=True)
    start = architectures_script.scorer_of(architectures, case)
    assert all(torch.equal(a, b) for a, b in zip(found["refilled"], start.parameters(), strict=True))


# ---------------------------------------------------------------- checkpoints


@pytest.mark.parametrize(("ranks", "stage"), RANKS_AND_STAGES)
def test_a_resumed_run_ends_with_the_same_bits(straight, resumed, ranks: int, stage: int) -> None:
    whole = straight(ranks=ranks, stage=stage)[0]
    rest = resumed(saved_by=(ranks, stage), ranks=ranks, stage=stage)
    assert rest["norms"] == whole["norms"][engine_script.SAVED_STEPS :]
    assert all(torch.equal(a, b) for a, b in zip(rest["weights"], whole["weights"], strict=True))


@pytest.mark.parametrize(
    ("saved_by", "ranks", "stage"),
    [((2, 3), 1, 0), ((2, 1), 1, 0), ((1, 1), 2, 2), ((2, 2), 2, 3), ((2, 3), 2, 1), ((2, 0), 4, 3), ((2, 1), 4, 1)],
)
def test_other_ranks_and_another_stage_go_on_from_a_checkpoint(straight, resumed, saved_by, ranks, stage) -> None:
    whole, rest = straight(ranks=1)[0], resumed(saved_by=saved_by, ranks=ranks, stage=stage)
    assert rest["norms"] == pytest.approx(whole["norms"][engine_script.SAVED_STEPS :], rel=1e-5)
    assert furthest(rest["weights"], whole["weights"]) < 1e-6


@pytest.mark.parametrize(("ranks", "stage"), [(1, 1), (2, 2), (2, 3)])
def test_bfloat16_stays_near_float32_and_goes_on_from_its_float32_masters_to_the_bit(
    straight, tmp_path: Path, ranks: int, stage: int
) -> None:
    folder = tmp_path / "checkpoint"
    whole = result(folder, ranks=ranks, stage=stage, PRECISION="bfloat16")
    exact = straight(ranks=1)[0]
    assert {weight.dtype for weight in whole["weights"]} == {torch.bfloat16}
    assert whole["norms"] == pytest.approx(exact["norms"], rel=0.1)
    assert whole["norms"] != pytest.approx(exact["norms"], rel=1e-4)
    masters = [load_file(path) for path in sorted(folder.glob("*.safetensors"))]
    assert {tensor.dtype for held in masters for tensor in held.values()} == {torch.float32}
    rest = result(folder, ranks=ranks, stage=stage, PRECISION="bfloat16")
    assert rest["norms"] == whole["norms"][engine_script.SAVED_STEPS :]
    assert all(torch.equal(a, b) for a, b in zip(rest["weights"], whole["weights"], strict=True))


@pytest.mark.parametrize(("ranks", "stage"), [(1, 1), (2, 1), (2, 3)])
def test_a_folder_that_is_read_parameter_by_parameter_is_the_same_model(straight, tmp_path: Path, ranks, stage) -> None:
    save_model(initialise(BailingMoe(SMALL), seed=5), tmp_path / "model")
    found = result(tmp_path / "checkpoint", ranks=ranks, stage=stage, START=str(tmp_path / "model"))
    whole, _ = straight(ranks=ranks, stage=stage)
    assert found["norms"] == whole["norms"]
    assert all(torch.equal(a, b) for a, b in zip(found["weights"], whole["weights"], strict=True))


@pytest.mark.parametrize(("ranks", "stage"), RANKS_AND_STAGES)
def test_an_engine_that_goes_back_to_its_checkpoint_takes_the_same_steps_to_the_bit(straight, ranks, stage) -> None:
    found, _ = straight(ranks=ranks, stage=stage)
    assert all(torch.equal(a, b) for a, b in zip(found["again"], found["weights"], strict=True))


@pytest.mark.parametrize(("ranks", "stage"), RANKS_AND_STAGES)
def test_an_optimiser_that_is_reset_goes_on_as_a_new_one(straight, ranks: int, stage: int) -> None:
    found, _ = straight(ranks=ranks, stage=stage)
    weights, _ = plain_torch(engine_script.NUM_STEPS, reset_after=engine_script.SAVED_STEPS)
    assert furthest(found["reset"], weights) < 1e-6
    assert furthest(found["reset"], found["weights"]) > 1e-4


@pytest.mark.parametrize(("ranks", "stage"), [(1, 1), (2, 3)])
def test_a_changed_checkpoint_is_refused_on_every_rank(resumed, ranks: int, stage: int) -> None:
    refusals = resumed(saved_by=(ranks, stage), ranks=ranks, stage=stage)["refusals"]
    assert len(refusals) == ranks and all("changed since it was saved" in text for (text,) in refusals)


@pytest.mark.parametrize(("ranks", "stage"), RANKS_AND_STAGES)
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
    with pytest.raises(ValueError, match="zero_stage = 4"):
        Engine.start(BailingScorer(BailingMoe(SMALL)), optimizer=OptimizerSettings(learning_rate=1.0), zero_stage=4)


def test_a_save_that_is_removed_leaves_nothing_that_could_be_loaded(tmp_path: Path) -> None:
    folder = tmp_path / "save"
    for suffix in ("", ".old", ".writing"):  # the last two a kill may have left
        (tmp_path / f"save{suffix}" / "state").mkdir(parents=True)
    (tmp_path / "save-of-another").mkdir()
    for _ in range(2):
        remove_save(folder)
        assert [path.name for path in tmp_path.iterdir()] == ["save-of-another"]
