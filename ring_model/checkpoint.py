"""Model folders in the released layout: safetensors under the released parameter names, and their JSON files.

A folder holds `config.json`, `generation_config.json` and either `model.safetensors` or shards
`model-00001-of-0000N.safetensors` with `model.safetensors.index.json`. Experts are split back into one tensor each
(paper section 1). The same weights give the same bytes. Nothing here reads or writes a pickle.
"""

import json
import math
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from operator import itemgetter
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ring_model.configuration import GENERATION_FILE, BailingMoeConfig
from ring_model.modelling import BailingMoe, DenseMlp, Layer
from ring_model.products import Linear

_READ_AT_ONCE = 1 << 22  # bytes of a file that is mapped: a map that stays keeps what was read in memory
SINGLE_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
PARAMETERS_FILE = "parameters.safetensors"
_DTYPES = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16, "F64": torch.float64}


Part = tuple[nn.Parameter, Callable[[Tensor], Tensor]]
"""A parameter, and which view of it a released tensor is."""


@dataclass(frozen=True, slots=True)
class Ranks:
    """The processes that write a folder together."""

    rank: int = 0
    num_ranks: int = 1
    gathered: Callable[[Iterable[nn.Parameter]], AbstractContextManager[Any]] = lambda _: nullcontext()
    """A context in which parameters are whole; all ranks enter it together."""


ALONE = Ranks()


def released_parts(model: BailingMoe) -> dict[str, Part]:
    """Where the tensors of the released layout lie, by their names."""
    parts: dict[str, Part] = {"model.word_embeddings.weight": (model.word_embeddings.weight, _whole)}
    for index, layer in enumerate(model.layers):
        assert isinstance(layer, Layer)
        parts |= {f"model.layers.{index}.{name}": part for name, part in _layer_parts(layer)}
    parts["model.norm.weight"] = (model.norm.weight, _whole)
    if not model.config.tie_word_embeddings:
        parts["lm_head.weight"] = (model.lm_head.weight, _whole)
    return parts


def released_tensors(model: BailingMoe) -> dict[str, Tensor]:
    """The parameters under their released names, as views into the stacked ones: writing into a view sets the model."""
    return {name: view(parameter.detach()) for name, (parameter, view) in released_parts(model).items()}


def _whole(tensor: Tensor) -> Tensor:
    return tensor


def _layer_parts(layer: Layer) -> Iterator[tuple[str, Part]]:
    yield "input_layernorm.weight", (layer.input_layernorm.weight, _whole)
    yield from _linear_parts("attention.query_key_value", layer.attention.query_key_value)
    yield from _linear_parts("attention.dense", layer.attention.dense)
    yield "post_attention_layernorm.weight", (layer.post_attention_layernorm.weight, _whole)
    mlp = layer.mlp
    if isinstance(mlp, DenseMlp):
        yield from _mlp_parts("mlp", mlp.gate_up, mlp.down, _whole)
        return
    yield "mlp.gate.weight", (mlp.gate.weight, _whole)
    for expert in range(mlp.num_experts):
        yield from _mlp_parts(f"mlp.experts.{expert}", mlp.gate_up, mlp.down, itemgetter(expert))
    if mlp.shared_experts is not None:
        yield from _mlp_parts("mlp.shared_experts", mlp.shared_experts.gate_up, mlp.shared_experts.down, _whole)


def _linear_parts(prefix: str, linear: Linear) -> Iterator[tuple[str, Part]]:
    yield f"{prefix}.weight", (linear.weight, _whole)
    if linear.bias is not None:
        yield f"{prefix}.bias", (linear.bias, _whole)


def _mlp_parts(
    prefix: str, gate_up: nn.Parameter, down: nn.Parameter, one: Callable[[Tensor], Tensor]
) -> Iterator[tuple[str, Part]]:
    yield f"{prefix}.gate_proj.weight", (gate_up, lambda tensor: one(tensor).chunk(2)[0])
    yield f"{prefix}.up_proj.weight", (gate_up, lambda tensor: one(tensor).chunk(2)[1])
    yield f"{prefix}.down_proj.weight", (down, one)


def save_model(
    model: BailingMoe,
    folder: Path | str,
    *,
    end_ids: Sequence[int] = (),
    max_shard_bytes: int = 5 * 10**9,
    ranks: Ranks = ALONE,
) -> None:
    """Write the model in the dtype that it has; the folder is made when missing. Tokenizer files are `Tokenizer.save`'s.

    One file when everything fits into `max_shard_bytes`, else shards and an index. `end_ids` are what responses end with, the
    tokenizer's; without any, `generation_config.json` names those of the model's config. Several ranks call together: the shards are
    dealt among them, so that none needs more than one at a time, and the bytes do not depend on their number.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    parts = released_parts(model)
    sizes = {name: _meta(part).nbytes for name, part in parts.items()}

    def tensors(names: Sequence[str], *, wanted: bool) -> dict[str, Tensor]:
        with ranks.gathered(list({id(parts[name][0]): parts[name][0] for name in names}.values())):
            return {name: parts[name][1](parts[name][0].detach()).cpu() for name in names} if wanted else {}

    write_weights(folder, sizes, tensors, max_shard_bytes=max_shard_bytes, ranks=ranks)
    if ranks.rank == 0:
        config = replace(model.config, torch_dtype=str(model.lm_head.weight.dtype).removeprefix("torch."))
        config.save(folder)
        ends = config.eos_token_id if not end_ids else end_ids[0] if len(end_ids) == 1 else list(end_ids)
        _write_json(folder / GENERATION_FILE, {"eos_token_id": ends, "pad_token_id": config.pad_token_id})


def _meta(part: Part) -> Tensor:
    """A released tensor without its numbers. ZeRO 3 leaves a parameter empty and its shape in `ds_shape`."""
    parameter, view = part
    return view(torch.empty(getattr(parameter, "ds_shape", parameter.shape), dtype=parameter.dtype, device="meta"))


def write_weights(
    folder: Path,
    sizes: Mapping[str, int],
    tensors: Callable[..., dict[str, Tensor]],
    *,
    max_shard_bytes: int = 5 * 10**9,
    ranks: Ranks = ALONE,
) -> None:
    """Write tensors, whose bytes are `sizes`, into one file, or into shards with an index.

    `tensors(names, wanted=...)` gives those of a shard, nothing where they are not wanted on this rank.
    """
    shards = _shards(sizes, max_shard_bytes=max_shard_bytes)
    weight_map: dict[str, str] = {}
    for index, shard in enumerate(shards):
        name = SINGLE_FILE if len(shards) == 1 else f"model-{index + 1:05d}-of-{len(shards):05d}.safetensors"
        found = tensors(shard, wanted=index % ranks.num_ranks == ranks.rank)
        if found:
            save_file(found, folder / name, metadata={"format": "pt"})
        del found  # before the next shard takes its memory
        weight_map |= dict.fromkeys(shard, name)
    if len(shards) > 1 and ranks.rank == 0:
        _write_json(folder / INDEX_FILE, {"metadata": {"total_size": sum(sizes.values())}, "weight_map": weight_map})


def load_model(folder: Path | str, device: torch.device | str = "cpu") -> BailingMoe:
    """Read a model folder, shard by shard, into float32 parameters on `device`.

    Raises:
        ValueError: a file is missing or damaged, or a tensor is unknown, missing, given twice or of another shape.

    """
    config = BailingMoeConfig.from_folder(folder)
    _require_bytes(config, Path(folder))
    with torch.device(device):
        model = BailingMoe(config)
    refill(model, folder)
    return model


def unread_model(folder: Path | str) -> BailingMoe:
    """The model of a folder without its weights, which `read_parameters` gives: its parameters are on the device `meta`.

    Raises ValueError as `load_model`, for what can be seen without reading weights.
    """
    config = BailingMoeConfig.from_folder(folder)
    _require_bytes(config, Path(folder))
    with torch.device("meta"):
        model = BailingMoe(config)
    _fill(released_tensors(model), Path(folder), copies=False)
    return model


def read_parameters(model: BailingMoe, folder: Path | str) -> Iterator[tuple[nn.Module, str, Tensor]]:
    """The weights of a folder parameter by parameter, float32: the module of `model` that owns it, its name there, and the numbers.

    One parameter at a time is in memory. The model itself is left alone.
    """
    files = {name: stored.file for name, stored in _layout(Path(folder)).items()}
    parts: dict[int, list[tuple[str, Callable[[Tensor], Tensor]]]] = {}
    for name, (parameter, view) in released_parts(model).items():
        parts.setdefault(id(parameter), []).append((name, view))
    for module in model.modules():
        for own, parameter in list(module.named_parameters(recurse=False)):
            whole = torch.empty(parameter.shape)
            for name, view in parts[id(parameter)]:
                with safe_open(files[name], framework="pt") as shard:
                    view(whole).copy_(shard.get_tensor(name))
            yield module, own, whole


def save_parameters(model: BailingMoe, folder: Path | str) -> None:
    """Write the parameters as they lie in memory, for a process of this machine that soon reads them with `refill` or `load_model`.

    Experts stay stacked: a seventh of the tensors, so that writing and reading a small model takes 6 ms and not 25.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    model.config.save(folder)
    save_file(
        {name: parameter.detach().cpu() for name, parameter in model.named_parameters()}, folder / PARAMETERS_FILE
    )


@torch.no_grad()
def refill(model: BailingMoe, folder: Path | str) -> None:
    """Read the weights of a folder into a model of the same sizes. Raises ValueError as `load_model`."""
    parameters = Path(folder) / PARAMETERS_FILE
    if not parameters.is_file():
        _fill(released_tensors(model), Path(folder), copies=True)
        return
    read = load_file(parameters)
    for name, parameter in model.named_parameters():
        parameter.copy_(read[name])


def write_mean(folders: Sequence[Path | str], out: Path | str, *, max_shard_bytes: int = 5 * 10**9) -> None:
    """Write a model folder of which each weight is the mean, taken in float64, of those in several folders of models of the same sizes.

    A shard, and one weight in float64, are in memory at a time; the dtype, and the files beside the weights, are those of the last folder.

    Raises:
        ValueError: a folder lacks a weight, or has one of another shape; nothing is written.

    """
    layouts = [_layout(Path(folder)) for folder in folders]
    for folder, layout in zip(folders, layouts, strict=True):
        _require_same(layouts[-1], layout, Path(folder))
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)

    def tensors(names: Sequence[str], *, wanted: bool) -> dict[str, Tensor]:
        assert wanted
        return {name: _mean([layout[name] for layout in layouts]) for name in names}

    write_weights(
        out, {name: one.nbytes for name, one in layouts[-1].items()}, tensors, max_shard_bytes=max_shard_bytes
    )
    for path in Path(folders[-1]).iterdir():
        if path.is_file() and path.suffix != ".safetensors" and path.name != INDEX_FILE:
            shutil.copyfile(path, out / path.name)


@dataclass(frozen=True, slots=True)
class _Stored:
    """A tensor of a model folder."""

    name: str
    file: Path
    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def _layout(folder: Path) -> dict[str, _Stored]:
    found: dict[str, _Stored] = {}
    for path in _weight_files(folder):
        _require_whole(path)
        with safe_open(path, framework="pt") as shard:
            for name in sorted(shard.keys()):
                part = shard.get_slice(name)
                found[name] = _Stored(name, path, tuple(part.get_shape()), _DTYPES[part.get_dtype()])
    return found


def _require_same(one: Mapping[str, _Stored], other: Mapping[str, _Stored], folder: Path) -> None:
    for name in one.keys() | other.keys():
        if name not in one or name not in other or one[name].shape != other[name].shape:
            raise ValueError(f"{folder}: {name} is not there, or of another shape than in the other folders")


def check_folder(folder: Path | str) -> int:
    """Compare every tensor's name and shape with what config.json asks for, reading no weights; returns the parameters.

    Raises:
        ValueError: as `load_model`.

    """
    config = BailingMoeConfig.from_folder(folder)
    _require_bytes(config, Path(folder))
    with torch.device("meta"):
        model = BailingMoe(config)
    _fill(released_tensors(model), Path(folder), copies=False)
    return config.num_parameters


def _require_bytes(config: BailingMoeConfig, folder: Path) -> None:
    """Raises ValueError where the files cannot hold what config.json asks for, before that much memory is asked for."""
    parameters = folder / PARAMETERS_FILE
    files = [parameters] if parameters.is_file() else _weight_files(folder)
    size = sum(path.stat().st_size for path in files)
    if size < config.num_parameters:
        for path in files:
            _require_whole(path)
        raise ValueError(
            f"{folder}: config.json asks for {config.num_parameters:,} parameters, and its weights have {size:,} bytes, less than one "
            "each: they belong to another config.json"
        )


def _require_whole(path: Path) -> None:
    try:
        with safe_open(path, framework="pt"):
            pass
    except SafetensorError as error:
        raise ValueError(f"{path} is not a whole safetensors file: {error}") from error


def _fill(targets: Mapping[str, Tensor], folder: Path, *, copies: bool) -> None:
    missing = set(targets)
    for path in _weight_files(folder):
        missing -= _read_shard(path, targets, missing, copies=copies)
    if missing:
        raise ValueError(f"{folder}: {len(missing)} tensors are missing: {_some(missing)}; config.json asks for them")


def _shards(sizes: Mapping[str, int], *, max_shard_bytes: int) -> list[list[str]]:
    shards: list[list[str]] = [[]]
    room = max_shard_bytes
    for name, size in sizes.items():
        if shards[-1] and size > room:
            shards.append([])
            room = max_shard_bytes
        shards[-1].append(name)
        room -= size
    return shards


def _weight_files(folder: Path) -> list[Path]:
    if (folder / SINGLE_FILE).is_file():
        return [folder / SINGLE_FILE]
    index = folder / INDEX_FILE
    if not index.is_file():
        raise ValueError(f"{folder} holds neither {SINGLE_FILE} nor {INDEX_FILE}; other formats are not read")
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (json.JSONDecodeError, KeyError, AttributeError) as error:
        raise ValueError(f"{index} is not an index of safetensors shards: {error!r}") from error
    for name in names:
        if Path(name).name != name or not (folder / name).is_file():
            raise ValueError(f"{index} names the shard {name!r}, which is not a file of that folder")
    return [folder / name for name in names]


def _read_shard(path: Path, targets: Mapping[str, Tensor], missing: set[str], *, copies: bool) -> set[str]:
    """Check one file's tensors, copy them into their targets where asked, and return their names."""
    try:
        with safe_open(path, framework="pt") as shard:
            names = set(shard.keys())
            if unknown := names - set(targets):
                raise ValueError(f"{path}: unknown tensors {_some(unknown)}; config.json has no place for them")
            if twice := names - missing:
                raise ValueError(f"{path}: tensors given twice: {_some(twice)}")
            for name in sorted(names):
                shape, target = tuple(shard.get_slice(name).get_shape()), targets[name]
                if shape != tuple(target.shape):
                    raise ValueError(f"{path}: {name} has shape {shape}, not {tuple(target.shape)}")
    except SafetensorError as error:
        raise ValueError(f"{path} is not a whole safetensors file: {error}") from error
    for piece in _pieces(sorted(names), targets) if copies else ():
        with safe_open(path, framework="pt") as shard:
            for name in piece:
                targets[name].copy_(shard.get_tensor(name))
    return names


def _mean(stored: Sequence[_Stored]) -> Tensor:
    total = torch.zeros(stored[-1].shape, dtype=torch.float64)
    for one in stored:
        with safe_open(one.file, framework="pt") as shard:
            total += shard.get_tensor(one.name)
    return total.div_(len(stored)).to(stored[-1].dtype)


def _pieces(names: Sequence[str], targets: Mapping[str, Tensor]) -> list[list[str]]:
    """Names of tensors that are read from one map of a file."""
    pieces: list[list[str]] = []
    room = 0
    for name in names:
        room -= targets[name].nbytes
        if room < 0 or not pieces:
            pieces.append([])
            room = _READ_AT_ONCE - targets[name].nbytes
        pieces[-1].append(name)
    return pieces


def _some(names: set[str]) -> str:
    shown = sorted(names)[:5]
    return ", ".join(shown) + (f", ... ({len(names)} in all)" if len(names) > len(shown) else "")


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", encoding="utf-8")
