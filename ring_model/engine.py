"""Training over one or many ranks: DeepSpeed, with its traps undone in one place (design: "What this means for us").

In: a model and gradients of loss sums. Out: updated weights, the pre-clip gradient norm, and step checkpoints.
One code path serves one rank (no launcher needed) and several (torchrun or deepspeed set the environment).
Ranks are data-parallel: each calls `backward` on its own micro-batches, equally often, and then `step`.
"""

import contextlib
import ctypes
import hashlib
import json
import math
import os
import pickle
import shutil
import stat
import sys
import warnings
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import Any, Self, TypeVar

import torch
import torch.distributed
from torch import Tensor

from ring_model.modelling import BailingMoe

T = TypeVar("T")

ZERO_STAGES = (0, 1)  # at stage 2 the gradient norm of two ranks was 2 % off that of one (measured), so it is refused
_ONE_RANK = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}
_TAG = "state"
_MANIFEST = "files.json"
_OTHERS, _OTHERS_WRITE = stat.S_IRWXG | stat.S_IRWXO, stat.S_IWGRP | stat.S_IWOTH
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
    """Decoupled decay of matrices (two or more axes); vectors, that is norm weights, are left alone."""
    gradient_clip: float = 1.0
    """Largest global gradient norm; 0 turns clipping off."""


class Engine:
    """One model in training on this rank. `Engine.start` makes it, `close` ends it."""

    def __init__(self, deepspeed_engine: Any, *, model: BailingMoe, settings: OptimizerSettings, stage: int) -> None:  # noqa: ANN401 - torch and DeepSpeed give it no type
        """Use `Engine.start`."""
        self._engine = deepspeed_engine
        self._settings = settings
        self._stage = stage
        self._norm: float | None = None
        self.model = model
        deepspeed_engine.checkpoint_engine.load = _load_tensors
        if stage == 0:
            deepspeed_engine.basic_optimizer.register_step_pre_hook(self._clip)

    @classmethod
    def start(
        cls,
        model: BailingMoe,
        *,
        optimizer: OptimizerSettings,
        zero_stage: int = 1,
        device: str = "cpu",
        checkpoints_layers: bool = False,
    ) -> Self:
        """Join the process group that the environment describes and shard the optimizer by `zero_stage`.

        One rank always uses stage 0, where there is nothing to shard. With `device` "cuda" the model moves to this rank's GPU.
        `checkpoints_layers` is the model's (see `BailingMoe`).

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
        if uses_gpu:
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
            model.to("cuda")
        deepspeed.init_distributed(dist_backend="nccl" if uses_gpu else "gloo", verbose=False, timeout=_LONGEST_WAIT)
        model.checkpoints_layers = checkpoints_layers
        config = {
            "train_micro_batch_size_per_gpu": 1,
            "managed_gradient_accumulation": False,
            "gradient_clipping": optimizer.gradient_clip if stage else 0.0,
            "zero_optimization": {"stage": stage},
            "zero_allow_untested_optimizer": True,
            "steps_per_print": None,
        }
        engine, *_ = deepspeed.initialize(model=model, optimizer=_adamw(model, optimizer), config=config)
        return cls(engine, model=model, settings=optimizer, stage=stage)

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
        return self.model.device

    def set_learning_rate(self, learning_rate: float) -> None:
        """Step size of the next `step`; the schedule is the caller's."""
        for group in self._engine.optimizer.param_groups:
            group["lr"] = learning_rate

    def reset_optimizer(self) -> None:
        """Forget AdamW's moments and step count, as before its first step; all ranks call. Weights and step size stay."""
        for state in self._engine.basic_optimizer.state.values():
            for value in state.values():
                value.zero_()

    def padded(self, micro_batches: Sequence[T]) -> list[T | None]:
        """This rank's micro-batches, filled up with None to the largest count of any rank, at least one.

        Every rank must call `backward` equally often; None stands for `backward_nothing`.
        """
        count = torch.tensor([max(1, len(micro_batches))], device=self.device)
        torch.distributed.all_reduce(count, op=torch.distributed.ReduceOp.MAX)
        return [*micro_batches, *[None] * (int(count) - len(micro_batches))]

    def backward(self, loss_sum: Tensor, *, denominator: float) -> None:
        """Add the gradient of loss_sum / denominator to this step's, where the ranks' losses are summed.

        The one place for this factor: DeepSpeed averages over ranks (hence x world_size) and is told not to divide by
        its accumulation steps. `denominator` is the global one, e.g. the token budget of the whole step.
        """
        self._engine.backward(loss_sum * (self.world_size / denominator), scale_wrt_gas=False)

    def backward_nothing(self) -> None:
        """A backward pass that adds zero to every gradient, for a rank that has fewer micro-batches."""
        zero = torch.stack([parameter.flatten()[0] for parameter in self.model.parameters()]).sum() * 0.0
        self._engine.backward(zero, scale_wrt_gas=False)

    def step(self) -> float:
        """Reduce, clip and apply this step's gradients; returns their global norm before clipping.

        Raises:
            NonFiniteError: the norm is not finite, on every rank. No weight has changed: at stage 0 the norm is looked at before
                AdamW; at stage 1 DeepSpeed skips the update, says nothing, and gives inf for nan, too.

        """
        self._engine.step()
        norm = self._norm if self._stage == 0 else self._engine.get_global_grad_norm()
        assert norm is not None
        return _finite_norm(float(norm))

    def _clip(self, *_: Any) -> None:  # noqa: ANN401 - torch and DeepSpeed give it no type
        """DeepSpeed reports no norm at stage 0, so clipping happens here: after its reduction, before AdamW."""
        limit = self._settings.gradient_clip or float("inf")
        self._norm = _finite_norm(float(torch.nn.utils.clip_grad_norm_(self.model.parameters(), limit)))

    def save(self, folder: Path | str, client_state: Mapping[str, Any]) -> None:
        """Write weights, optimizer state and `client_state` for `load`; all ranks call. Replaces an older save.

        The files are written beside and renamed last: a killed save leaves the older one. They are DeepSpeed's own
        (pickles), for resuming only, in a folder that nobody else may read or write, and their digests are kept with them.

        Raises:
            NonFiniteError: a weight is not finite; the older save stays.

        """
        require_finite_weights(self.model)
        folder = Path(folder)
        writing = _writing(folder)
        if self.rank == 0:
            shutil.rmtree(writing, ignore_errors=True)
            writing.mkdir(parents=True)
            writing.chmod(0o700)
        self.barrier()
        self._engine.save_checkpoint(
            str(writing), tag=_TAG, client_state={"ours": dict(client_state)}, save_latest=False
        )
        self.barrier()
        if self.rank == 0:
            manifest = {"world_size": self.world_size, "zero_stage": self._stage, "files": _digests(writing)}
            (writing / _MANIFEST).write_text(json.dumps(manifest, indent=2, sort_keys=True), encoding="utf-8")
            _replace_folder(writing, folder)
        self.barrier()

    def load(self, folder: Path | str) -> dict[str, Any] | None:
        """Continue from a save, to the bit; returns its `client_state`, or None when there is no save.

        Raises:
            ValueError: the files changed since they were written, were made by another number of ranks or stage, or may have been written
                by somebody else: pickles run code. What they hold beside tensors and plain values is refused, too.

        """
        folder = Path(folder)
        if not folder.is_dir() and _old(folder).is_dir():
            folder = _old(folder)
        if not (folder / _MANIFEST).is_file():
            return None
        require_own(folder)
        manifest = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
        made_by = (manifest["world_size"], manifest["zero_stage"])
        if made_by != (self.world_size, self._stage):
            raise ValueError(
                f"{folder} was saved by (ranks, ZeRO stage) = {made_by}, this run has "
                f"{(self.world_size, self._stage)}; resume with the same, or delete the folder to start over"
            )
        if _digests(folder) != manifest["files"]:
            raise ValueError(f"{folder} changed since it was saved; delete it to start the stage over")
        _, state = self._engine.load_checkpoint(str(folder), tag=_TAG)
        return state["ours"]

    def all_reduce_sum(self, values: Mapping[str, float]) -> dict[str, float]:
        """Sum of each value over the ranks, in float64; all ranks give the same names."""
        names = sorted(values)
        total = torch.tensor([values[name] for name in names], dtype=torch.float64, device=self.device)
        torch.distributed.all_reduce(total)
        return dict(zip(names, total.tolist(), strict=True))

    def all_gather_object(self, value: T) -> list[T]:
        """Every rank's value, in order of rank."""
        gathered: list[Any] = [None] * self.world_size
        torch.distributed.all_gather_object(gathered, value)
        return gathered

    def broadcast(self, value: T) -> T:
        """Rank 0's value, on every rank."""
        box: list[Any] = [value]
        torch.distributed.broadcast_object_list(box, src=0)
        return box[0]

    def barrier(self) -> None:
        """Wait for all ranks."""
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


def require_finite_weights(model: BailingMoe) -> None:
    """Raises NonFiniteError, naming the parameter, where a weight is not finite: such a model is saved nowhere."""
    for name, parameter in model.named_parameters():
        if not bool(torch.isfinite(parameter.detach()).all()):
            raise NonFiniteError(f"the weights {name} are not finite")


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


def _adamw(model: BailingMoe, settings: OptimizerSettings) -> torch.optim.AdamW:
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    matrices = [parameter for parameter in trained if parameter.dim() >= 2]
    vectors = [parameter for parameter in trained if parameter.dim() < 2]
    groups = [
        {"params": matrices, "weight_decay": settings.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=settings.learning_rate, betas=settings.betas, eps=settings.eps, fused=True)


def require_own(folder: Path) -> None:
    """Raises ValueError where somebody else owns, or may write, a save or a file of it: then its digests say nothing."""
    is_open = bool(folder.stat().st_mode & _OTHERS)  # else nobody reaches what lies in it, however that may be written
    for path in (folder, *sorted(folder.rglob("*"))):
        found = path.lstat()
        theirs = f"belongs to the user {found.st_uid}" if found.st_uid != os.geteuid() else ""
        if stat.S_ISLNK(found.st_mode):
            theirs = "is a link"
        elif is_open and found.st_mode & _OTHERS_WRITE:
            theirs = theirs or f"may be written by others (mode {stat.S_IMODE(found.st_mode):o})"
        if theirs:
            raise ValueError(
                f"{path} {theirs}: a resume point runs code of whoever wrote it, so it is not read; "
                f"delete {folder} to start the stage over, or, where it is yours, `chmod -R go-w {folder}`"
            )


def _load_tensors(path: str, map_location: Any = None) -> Any:  # noqa: ANN401 - as torch.load
    """In place of DeepSpeed's own, which would run what a pickle asks for.

    Raises:
        ValueError: the file holds more than tensors, plain values and what DeepSpeed itself saves.

    """
    from deepspeed.runtime.fp16.loss_scaler import LossScaler
    from deepspeed.runtime.zero.config import ZeroStageEnum
    from deepspeed.utils.tensor_fragment import fragment_address

    try:
        with torch.serialization.safe_globals([LossScaler, ZeroStageEnum, fragment_address]):
            return torch.load(path, map_location=map_location, weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path} holds more than a resume point does and is not read ({str(error).splitlines()[0]}); delete its folder to start over"
        ) from error


def _digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != _MANIFEST)
    digests: dict[str, str] = {}
    for path in files:
        with path.open("rb") as file:
            digests[path.relative_to(folder).as_posix()] = hashlib.file_digest(file, "sha256").hexdigest()
    return digests


def remove_save(folder: Path) -> None:
    """Remove what `Engine.save` wrote, if it is there; a kill leaves it whole, or nothing that `Engine.load` finds."""
    shutil.rmtree(_old(folder), ignore_errors=True)
    shutil.rmtree(_writing(folder), ignore_errors=True)
    if folder.exists():
        folder.rename(_writing(folder))
        shutil.rmtree(_writing(folder))


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
