"""What a trainer needs to go on: float32 weights and AdamW's two moments, in the pieces in which ranks hold them.

In: a DeepSpeed engine at any ZeRO stage. Out: a folder with a safetensors file a rank, which holds a part of every parameter's elements,
and `state.json`: which part lies where, the SHA-256 of each file, AdamW's count of steps, and the caller's own values. Any number of
ranks at any stage reads it: a rank opens the files that hold what it needs, which for ranks and stage as before is its own.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

STATE_FILE = "state.json"
QUANTITIES = ("weight", "exp_avg", "exp_avg_sq")


@dataclass(frozen=True, slots=True)
class Piece:
    """Elements of one flattened parameter that this rank holds."""

    name: str  # of the parameter
    start: int  # the first of them
    size: int  # how many
    numel: int  # of the whole parameter
    tensors: tuple[Tensor, ...]  # by QUANTITIES, float32 [size]; writing into them sets what the optimiser has


class TrainingState:
    """The optimiser's memory of a DeepSpeed engine, seen as pieces of parameters."""

    def __init__(self, engine: Any, *, stage: int) -> None:  # noqa: ANN401 - DeepSpeed gives it no type
        """`engine` has taken no step yet: moments of zero are made for it here, as AdamW does in its first."""
        self._engine, self._stage = engine, stage
        for flat in self._flat():
            self._adamw.state[flat] = {
                "step": torch.zeros((), device=flat.device),
                "exp_avg": torch.zeros_like(flat),
                "exp_avg_sq": torch.zeros_like(flat),
            }

    @property
    def _adamw(self) -> torch.optim.Optimizer:
        return self._engine.basic_optimizer

    def _flat(self) -> Sequence[Tensor]:
        """The tensors that AdamW updates on this rank."""
        if self._stage == 0:
            return [parameter for _, parameter in self._trained()]
        zero = self._engine.optimizer
        return zero.fp32_partitioned_groups_flat if self._stage == 3 else zero.single_partition_of_fp32_groups

    def _trained(self) -> Iterator[tuple[str, nn.Parameter]]:
        return ((name, one) for name, one in self._engine.module.named_parameters() if one.requires_grad)

    @property
    def steps(self) -> int:
        """Steps that AdamW counts for its bias correction."""
        return int(self._adamw.state[self._flat()[0]]["step"])

    def forget(self) -> None:
        """Moments and count of steps as before the first step."""
        for state in self._adamw.state.values():
            for value in state.values():
                value.zero_()

    def pieces(self) -> Iterator[Piece]:
        """What this rank holds: at stage 0 everything."""
        for name, parameter in self._trained():
            start, tensors, numel = self._held(parameter)
            if tensors and len(tensors[0]):
                yield Piece(name, start, len(tensors[0]), numel, tensors)

    def _held(self, parameter: nn.Parameter) -> tuple[int, tuple[Tensor, ...], int]:
        if self._stage == 0:
            state = self._adamw.state[parameter]
            tensors = (parameter.data, state["exp_avg"], state["exp_avg_sq"])
            return 0, tuple(tensor.view(-1) for tensor in tensors), parameter.numel()
        return self._shard(parameter) if self._stage == 3 else self._fragment(parameter)

    def _shard(self, parameter: Any) -> tuple[int, tuple[Tensor, ...], int]:  # noqa: ANN401 - a parameter with DeepSpeed's attributes
        from deepspeed.utils import safe_get_local_fp32_param, safe_get_local_optimizer_state

        moments = (safe_get_local_optimizer_state(parameter, name) for name in QUANTITIES[1:])
        tensors = tuple(tensor.detach() for tensor in (safe_get_local_fp32_param(parameter), *moments))
        start, numel = torch.distributed.get_rank() * len(tensors[0]), parameter.ds_numel
        size = max(0, min(len(tensors[0]), numel - start))  # the last shards are filled up
        return start, tuple(tensor[:size] for tensor in tensors), numel

    def _fragment(self, parameter: Any) -> tuple[int, tuple[Tensor, ...], int]:  # noqa: ANN401 - a parameter with DeepSpeed's attributes
        mapping = parameter._hp_mapping  # none of this parameter is in this rank's partition
        if mapping is None:
            return 0, (), parameter.numel()
        address = mapping.get_hp_fragment_address()
        flat = self._flat()[mapping.param_group_index]
        state = self._adamw.state[flat]
        tensors = (flat.data, state["exp_avg"], state["exp_avg_sq"])
        return (
            mapping.lp_fragment_address.start,
            tuple(tensor.narrow(0, address.start, address.numel) for tensor in tensors),
            parameter.numel(),
        )

    def refresh(self, steps: int) -> None:
        """After writing into pieces: AdamW has taken `steps`, and the module has the new weights. All ranks call."""
        for flat in self._flat():
            self._adamw.state[flat]["step"].fill_(steps)
        zero = self._engine.optimizer
        if self._stage in (1, 2):
            zero.update_lp_params()
        elif self._stage == 3:
            zero._partition_all_parameters()  # those that a forward pass without a backward pass left whole
            for group in range(len(zero.fp32_partitioned_groups_flat)):
                zero._reassign_or_swap_out_partitioned_parameters(group)


def write_pieces(pieces: Sequence[Piece], folder: Path, *, rank: int) -> dict[str, Any]:
    """Write this rank's file; returns its line for `write_index`."""
    path = folder / f"rank-{rank:05d}.safetensors"
    tensors = {
        f"{quantity}:{piece.name}": tensor.detach().cpu()
        for piece in pieces
        for quantity, tensor in zip(QUANTITIES, piece.tensors, strict=True)
    }
    save_file(tensors, path)
    held = {piece.name: [piece.start, piece.size, piece.numel] for piece in pieces}
    return {"file": path.name, "sha256": _sha256(path), "pieces": held}


def share(pieces: Iterator[Piece], *, rank: int, num_ranks: int) -> Iterator[Piece]:
    """Of pieces that every rank holds whole, the part that one rank writes."""
    for piece in pieces:
        size = -(-piece.size // num_ranks)
        start = min(rank * size, piece.size)
        stop = min(start + size, piece.size)
        if stop > start:
            tensors = tuple(tensor[start:stop] for tensor in piece.tensors)
            yield Piece(piece.name, piece.start + start, stop - start, piece.numel, tensors)


def write_index(folder: Path, lines: Sequence[Mapping[str, Any]], *, steps: int, values: Mapping[str, Any]) -> None:
    """Write `state.json`: the last of a folder's files. `values` are the caller's."""
    index = {"steps": steps, "values": dict(values), "ranks": list(lines)}
    (folder / STATE_FILE).write_text(json.dumps(index, indent=1), encoding="utf-8")


def read_index(folder: Path) -> dict[str, Any]:
    """`state.json`. Raises ValueError where it is damaged."""
    try:
        return json.loads((folder / STATE_FILE).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(
            f"{folder / STATE_FILE} is damaged: {error}; delete {folder} to start the stage over"
        ) from error


def read_pieces(pieces: Sequence[Piece], folder: Path, index: Mapping[str, Any]) -> None:
    """Fill the pieces from the files that hold them.

    Raises:
        ValueError: a file changed since it was written, or the state is that of a model with other parameters.

    """
    missing = {piece.name: piece.size for piece in pieces}
    for line in index["ranks"]:
        wanted = [piece for piece in pieces if _overlap(piece, line["pieces"])]
        if not wanted:
            continue
        path = folder / line["file"]
        if not path.is_file() or _sha256(path) != line["sha256"]:
            raise ValueError(f"{path} changed since it was saved; delete {folder} to start the stage over")
        try:
            with safe_open(path, framework="pt") as file:
                for piece in wanted:
                    missing[piece.name] -= _copy(piece, line["pieces"], file)
        except SafetensorError as error:
            raise ValueError(f"{path} is no whole safetensors file: {error}") from error
    if lacking := [name for name, size in missing.items() if size]:
        raise ValueError(
            f"{folder} is the state of another model: {len(lacking)} parameters, such as {lacking[0]}, are not there or of another size; "
            "delete it to start the stage over"
        )


def _overlap(piece: Piece, held: Mapping[str, Sequence[int]]) -> range:
    """Elements of the flattened parameter that the piece needs and a file holds."""
    if piece.name not in held:
        return range(0)
    start, size, numel = held[piece.name]
    if numel != piece.numel:
        return range(0)
    return range(max(start, piece.start), min(start + size, piece.start + piece.size))


def _copy(piece: Piece, held: Mapping[str, Sequence[int]], file: Any) -> int:  # noqa: ANN401 - of safetensors
    found, start = _overlap(piece, held), held[piece.name][0]
    for quantity, tensor in zip(QUANTITIES, piece.tensors, strict=True):
        read = file.get_slice(f"{quantity}:{piece.name}")[found.start - start : found.stop - start]
        tensor[found.start - piece.start : found.stop - piece.start].copy_(read)
    return len(found)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
