"""Training over one or many ranks: DeepSpeed, with its traps undone in one place (design: "What this means for us").

In: a scorer and gradients of loss sums. Out: updated weights, the pre-clip gradient norm, and step checkpoints.
One code path serves one rank (no launcher needed) and several (torchrun or deepspeed set the environment).
Ranks are data-parallel: each calls `backward` on its own micro-batches, equally often, and then `step`.
"""

import contextlib
import ctypes
import math
import os
import shutil
import sys
import warnings
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, Self, TypeVar

import torch
import torch.distributed
from torch import Tensor, nn

from ring_model.checkpoint import Ranks
from ring_model.head import Entropy
from ring_model.heartbeat import HEARTBEAT
from ring_model.policy import PackedRows, ResponseLogprobs, Scorer, one_row
from ring_model.shape import Shape
from ring_model.training_state import (
    STATE_FILE,
    TrainingState,
    read_index,
    read_pieces,
    share,
    write_index,
    write_pieces,
)

T = TypeVar("T")
Precision = Literal["float32", "bfloat16"]

ZERO_STAGES = (0, 1, 2, 3)
_ONE_RANK = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}
_PR_SET_PDEATHSIG, _SIGKILL = 1, 9
_LONGEST_WAIT = timedelta(
    days=2
)  # of ranks for one of them, as while responses are sampled; a rank that dies is noticed by the launcher


class NonFiniteError(FloatingPointError):
    """A loss, a gradient norm or a weight that is not a finite number; nothing that follows from it is kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizerSettings:
    """AdamW and clipping."""

    learning_rate: float
    """Initial step size; `Engine.set_learning_rate` changes it."""
    betas: tuple[float, float] = (0.9, 0.95)
    """Decay of the first and second moments."""
    eps: float = 1e-8
    """Added to the root of the second moment."""
    weight_decay: float = 0.0
    """Decoupled decay of matrices (two or more axes); vectors, that is norm weights and biases, are left alone."""
    gradient_clip: float = 1.0
    """Largest global gradient norm; 0 turns clipping off."""


class Engine:
    """One model in training on this rank. `Engine.start` makes it, `close` ends it."""

    def __init__(self, deepspeed_engine: Any, *, scorer: Scorer, settings: OptimizerSettings, stage: int) -> None:  # noqa: ANN401 - torch and DeepSpeed give it no type
        """Use `Engine.start`."""
        self._engine = deepspeed_engine
        self._settings = settings
        self._stage = stage
        self._norm: float | None = None
        self.state = TrainingState(deepspeed_engine, stage=stage)
        self.scorer = scorer
        if stage == 0:
            deepspeed_engine.basic_optimizer.register_step_pre_hook(self._clip)

    @classmethod
    def start(
        cls,
        scorer: Scorer,
        *,
        optimizer: OptimizerSettings,
        zero_stage: int = 1,
        device: str = "cpu",
        precision: Precision = "float32",
        checkpoints_layers: bool = False,
    ) -> Self:
        """Join the process group that the environment describes and shard the optimizer by `zero_stage`.

        One rank always uses stage 0, where there is nothing to shard. With `device` "cuda" the model moves to this rank's GPU.
        In "bfloat16" the model's parameters are that, AdamW's float32 copies of them and its moments lie with the rank that updates
        them, and gradients are summed in float32: by ZeRO 2, where the stage is less, also on one rank.
        `checkpoints_layers`: see `Scorer.checkpoint_layers`.

        Raises:
            ValueError: the stage is not supported.

        """
        if zero_stage not in ZERO_STAGES:
            raise ValueError(f"zero_stage = {zero_stage} is not supported; choose one of {ZERO_STAGES}")
        uses_gpu = device == "cuda"
        if uses_gpu and not torch.cuda.is_available():
            raise ValueError("runtime.device = 'cuda', but torch sees no GPU here: set it to 'cpu'")
        deepspeed = _import_deepspeed(uses_gpu=uses_gpu)
        world_size = int(os.environ["WORLD_SIZE"])
        if world_size > 1:
            die_with_parent()
        stage = zero_stage if world_size > 1 else 0
        if precision == "bfloat16":
            stage = max(stage, 2)
        if uses_gpu:
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        deepspeed.init_distributed(dist_backend="nccl" if uses_gpu else "gloo", verbose=False, timeout=_LONGEST_WAIT)
        if checkpoints_layers:
            scorer.checkpoint_layers()
        dtype = getattr(torch, precision)
        if uses_gpu or precision == "bfloat16":
            scorer.compute_in(dtype)
        config = _config(optimizer, stage=stage, precision=precision)
        shard = partial(_shard, deepspeed, config) if stage == 3 else _keep
        scorer.read(device, dtype, then=shard)
        if stage == 3 and scorer.leaves:
            deepspeed.utils.set_z3_leaf_modules(scorer, list(scorer.leaves))
        engine, *_ = deepspeed.initialize(model=scorer, optimizer=_adamw(scorer, optimizer), config=config)
        return cls(engine, scorer=scorer, settings=optimizer, stage=stage)

    @property
    def rank(self) -> int:
        """This process's number among the ranks."""
        return torch.distributed.get_rank()

    @property
    def world_size(self) -> int:
        """Number of ranks."""
        return torch.distributed.get_world_size()

    @property
    def device(self) -> torch.device:
        """Where this rank's model lives."""
        return self.scorer.device

    @property
    def shape(self) -> Shape:
        """Of the model."""
        return self.scorer.shape

    def set_learning_rate(self, learning_rate: float) -> None:
        """Step size of the next `step`; the schedule is the caller's."""
        for group in self._engine.optimizer.param_groups:
            group["lr"] = learning_rate

    def reset_optimizer(self) -> None:
        """Forget AdamW's moments and step count, as before its first step; all ranks call. Weights and step size stay."""
        self.state.forget()

    def score(self, rows: PackedRows, *, entropy: Entropy = "detached", temperature: float = 1.0) -> ResponseLogprobs:
        """See `response_logprobs`. At ZeRO 3 every rank calls, equally often: parameters are gathered layer by layer."""
        HEARTBEAT.note("a forward pass")
        return self._engine(rows, entropy=entropy, temperature=temperature)

    def padded(self, micro_batches: Sequence[T]) -> list[T | None]:
        """This rank's micro-batches, filled up with None to the largest count of any rank, at least one.

        Every rank must call `backward` equally often; None stands for `backward_nothing`.
        """
        count = torch.tensor([max(1, len(micro_batches))], device=self.device)
        with HEARTBEAT.waiting("the number of micro-batches"):
            torch.distributed.all_reduce(count, op=torch.distributed.ReduceOp.MAX)
        return [*micro_batches, *[None] * (int(count) - len(micro_batches))]

    def backward(self, loss_sum: Tensor, *, denominator: float) -> None:
        """Add the gradient of loss_sum / denominator to this step's, where the ranks' losses are summed.

        The one place for this factor: DeepSpeed averages over ranks (hence x world_size) and is told not to divide by
        its accumulation steps. `denominator` is the global one, e.g. the token budget of the whole step.
        """
        HEARTBEAT.note("a backward pass")
        self._engine.backward(loss_sum * (self.world_size / denominator), scale_wrt_gas=False)

    def score_nothing(self, *, entropy: Entropy = "none") -> Tensor:
        """A forward pass whose number is 0 and whose gradients are, for a rank that has fewer micro-batches.

        `entropy` is that of the others' passes: at ZeRO 3 the modules' backward passes must come in the same order on every rank.
        """
        scored = self.score(one_row([0, 0], self.device), entropy=entropy)
        zero = scored.logprobs_M.sum() * 0.0
        return zero if scored.entropies_M is None else zero + scored.entropies_M.sum() * 0.0

    def backward_nothing(self, *, entropy: Entropy = "none") -> None:
        """A backward pass that adds zero to every gradient, for a rank that has fewer micro-batches; `entropy` as in `score_nothing`."""
        self._engine.backward(self.score_nothing(entropy=entropy), scale_wrt_gas=False)

    def step(self) -> float:
        """Reduce, clip and apply this step's gradients; returns their global norm before clipping.

        Raises:
            NonFiniteError: the norm is not finite, on every rank. No weight has changed: at stage 0 the norm is looked at before
                AdamW; at stage 1 DeepSpeed skips the update, says nothing, and gives inf for nan, too.

        """
        HEARTBEAT.note("the optimiser's step")
        self._engine.step()
        norm = self._norm if self._stage == 0 else self._engine.get_global_grad_norm()
        assert norm is not None
        return _finite_norm(float(norm))

    def _clip(self, *_: Any) -> None:  # noqa: ANN401 - torch and DeepSpeed give it no type
        """DeepSpeed reports no norm at stage 0, so clipping happens here: after its reduction, before AdamW."""
        limit = self._settings.gradient_clip or float("inf")
        self._norm = _finite_norm(float(torch.nn.utils.clip_grad_norm_(self.scorer.parameters(), limit)))

    def gathered(self, parameters: Iterable[nn.Parameter]) -> AbstractContextManager[Any]:
        """Within it these parameters are whole on every rank, to be read; all ranks enter it together."""
        if self._stage != 3:
            return nullcontext()
        from deepspeed.runtime.zero import GatheredParameters

        return GatheredParameters(list(parameters))

    def whole(self) -> AbstractContextManager[Any]:
        """Within it every parameter is whole on every rank, to be read; all ranks enter it together."""
        return self.gathered(self.scorer.parameters())

    @torch.no_grad()
    def next_token_logprobs(self, tokens: Sequence[int]) -> list[float]:
        """Log-probability of every token but the first; all ranks call."""
        return self.score(one_row(tokens, self.device), entropy="none").logprobs_M.tolist()

    def export(self, folder: Path, *, end_ids: Sequence[int]) -> None:
        """Write the model's folder, of which each rank writes its part; all ranks call.

        Raises:
            NonFiniteError: a weight is not finite; nothing is written.

        """
        self.require_finite_weights()
        self.scorer.save(folder, end_ids=end_ids, ranks=Ranks(self.rank, self.world_size, self.gathered))
        self.barrier()

    def refill(self, folder: Path) -> None:
        """Read other weights to score with; all ranks call. Training does not go on from them."""
        if self._stage != 3:
            self.scorer.refill(folder)
            return
        from deepspeed.runtime.zero import GatheredParameters

        with GatheredParameters(list(self.scorer.parameters()), modifier_rank=0):
            if self.rank == 0:
                self.scorer.refill(folder)

    def require_finite_weights(self) -> None:
        """Raises NonFiniteError on every rank, naming a parameter, where a weight is not finite; all ranks call."""
        broken = (piece.name for piece in self.state.pieces() if not bool(torch.isfinite(piece.tensors[0]).all()))
        found = [name for name in self.all_gather_object(next(broken, None)) if name]
        if found:
            raise NonFiniteError(f"the weights {found[0]} are not finite")

    def save(self, folder: Path | str, client_state: Mapping[str, Any]) -> None:
        """Write weights, optimizer state and `client_state`, values that JSON has, for `load`; all ranks call. Replaces an older save.

        The files are written beside and renamed last: a killed save leaves the older one. Each rank writes and hashes its own.

        Raises:
            NonFiniteError: a weight is not finite; the older save stays.

        """
        self.require_finite_weights()
        folder = Path(folder)
        writing = _writing(folder)
        if self.rank == 0:
            shutil.rmtree(writing, ignore_errors=True)
            writing.mkdir(parents=True)
        self.barrier()
        pieces = self.state.pieces()
        mine = share(pieces, rank=self.rank, num_ranks=self.world_size) if self._stage == 0 else pieces
        lines = self.all_gather_object(write_pieces(list(mine), writing, rank=self.rank))
        if self.rank == 0:
            write_index(writing, lines, steps=self.state.steps, values=client_state)
            _replace_folder(writing, folder)
        self.barrier()

    def load(self, folder: Path | str) -> dict[str, Any] | None:
        """Continue from a save; returns its `client_state`, or None when there is no save. All ranks call.

        By the same ranks and ZeRO stage to the bit; by others as far as another order of sums allows.

        Raises:
            ValueError: files changed since they were written, or belong to another model; on every rank.

        """
        found = self.broadcast(
            _whole_save(Path(folder))
        )  # of all ranks one decides: file systems of several hosts may lag
        if found is None:
            return None
        folder = Path(found)
        problem, index = None, {}
        try:
            index = read_index(folder)
            read_pieces(list(self.state.pieces()), folder, index)
        except ValueError as error:
            problem = str(error)
        if problems := [one for one in self.all_gather_object(problem) if one]:
            raise ValueError(problems[0])
        self.state.refresh(index["steps"])
        return index["values"]

    def all_reduce_sum(self, values: Mapping[str, float]) -> dict[str, float]:
        """Sum of each value over the ranks, in float64; all ranks give the same names."""
        names = sorted(values)
        total = torch.tensor([values[name] for name in names], dtype=torch.float64, device=self.device)
        with HEARTBEAT.waiting("sums over the ranks"):
            torch.distributed.all_reduce(total)
        return dict(zip(names, total.tolist(), strict=True))

    def all_gather_object(self, value: T) -> list[T]:
        """Every rank's value, in order of rank."""
        gathered: list[Any] = [None] * self.world_size
        with HEARTBEAT.waiting("values of the ranks"):
            torch.distributed.all_gather_object(gathered, value)
        return gathered

    def broadcast(self, value: T) -> T:
        """Rank 0's value, on every rank."""
        box: list[Any] = [value]
        with HEARTBEAT.waiting("what rank 0 says"):
            torch.distributed.broadcast_object_list(box, src=0)
        return box[0]

    def barrier(self) -> None:
        """Wait for all ranks."""
        with HEARTBEAT.waiting("all ranks"):
            torch.distributed.barrier()

    def close(self) -> None:
        """Leave the process group; all ranks call. The model stays usable."""
        self.barrier()
        self._engine.destroy()
        torch.distributed.destroy_process_group()


def _finite_norm(norm: float) -> float:
    if not math.isfinite(norm):
        raise NonFiniteError(f"the gradient norm is {norm}")
    return norm


def die_with_parent() -> None:
    """Ask Linux to kill this process when the launcher that started it dies, so that no rank is left behind."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, _SIGKILL)


def _import_deepspeed(*, uses_gpu: bool) -> ModuleType:
    """Import DeepSpeed after the environment it reads at import time is complete."""
    if "RANK" not in os.environ:
        os.environ.update(_ONE_RANK)
    if not uses_gpu:
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    warnings.filterwarnings("ignore", category=FutureWarning, module="torch.distributed")
    with _without("mlflow"):  # its autotuner, which nobody asks, would import all of MLflow: 1.5 s
        import deepspeed
        import deepspeed.ops

    if not uses_gpu:
        # Otherwise every start on a CPU compiles a shared-memory extension and needs a C++ compiler for it.
        deepspeed.ops.__dict__["__compatible_ops__"] = {}
    deepspeed.logger.setLevel("ERROR")
    return deepspeed


@contextlib.contextmanager
def _without(package: str) -> Generator[None]:
    """Let imports find that a package is not installed, unless it is imported already."""
    if package in sys.modules:
        yield
        return
    sys.modules[package] = None  # ty: ignore[invalid-assignment] - what the import system takes for "there is none"
    try:
        yield
    finally:
        del sys.modules[package]


def _shard(deepspeed: ModuleType, config: dict[str, Any], parameter: nn.Parameter) -> None:
    """Leave this rank its part of a parameter, so that no rank ever holds the whole model."""
    HEARTBEAT.note("reading the model")
    deepspeed.zero.Init(module=nn.ParameterList([parameter]), config_dict_or_path=config)


def _keep(_: nn.Parameter) -> None:
    """Where every rank has the whole model."""
    HEARTBEAT.note("reading the model")


def _config(optimizer: OptimizerSettings, *, stage: int, precision: Precision) -> dict[str, Any]:
    """What DeepSpeed is told."""
    config: dict[str, Any] = {
        "train_micro_batch_size_per_gpu": 1,
        "managed_gradient_accumulation": False,
        "gradient_clipping": optimizer.gradient_clip if stage else 0.0,
        # Small parameters are sharded, too: one rule for all, for some microseconds a layer.
        "zero_optimization": {"stage": stage, "stage3_param_persistence_threshold": 0},
        "zero_allow_untested_optimizer": True,
        "steps_per_print": None,
    }
    if precision == "bfloat16":
        config |= {"bf16": {"enabled": True}, "data_types": {"grad_accum_dtype": "fp32"}}
    return config


def _adamw(model: nn.Module, settings: OptimizerSettings) -> torch.optim.AdamW:
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    axes = [
        len(getattr(parameter, "ds_shape", parameter.shape)) for parameter in trained
    ]  # ZeRO 3 leaves a shard, flat
    matrices = [parameter for parameter, number in zip(trained, axes, strict=True) if number >= 2]
    vectors = [parameter for parameter, number in zip(trained, axes, strict=True) if number < 2]
    groups = [
        {"params": matrices, "weight_decay": settings.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=settings.learning_rate, betas=settings.betas, eps=settings.eps, fused=True)


def remove_save(folder: Path) -> None:
    """Remove what `Engine.save` wrote, if it is there; a kill leaves it whole, or nothing that `Engine.load` finds."""
    shutil.rmtree(_old(folder), ignore_errors=True)
    shutil.rmtree(_writing(folder), ignore_errors=True)
    if folder.exists():
        folder.rename(_writing(folder))
        shutil.rmtree(_writing(folder))


def _whole_save(folder: Path) -> str | None:
    """The folder of a save, or of the older one that a kill left in its place."""
    if not folder.is_dir() and _old(folder).is_dir():
        folder = _old(folder)
    return str(folder) if (folder / STATE_FILE).is_file() else None


def _writing(folder: Path) -> Path:
    return folder.with_name(folder.name + ".writing")


def _old(folder: Path) -> Path:
    return folder.with_name(folder.name + ".old")


def _replace_folder(new: Path, folder: Path) -> None:
    """Put `new` in the place of `folder`; at every moment one of `folder` and its `.old` is whole."""
    if folder.exists():
        shutil.rmtree(_old(folder), ignore_errors=True)
        folder.rename(_old(folder))
    new.rename(folder)
    shutil.rmtree(_old(folder), ignore_errors=True)
