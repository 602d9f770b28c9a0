"""Model folders in the released layout: safetensors under the released parameter names, and their JSON files.

A folder holds `config.json`, `generation_config.json` and either `model.safetensors` or shards
`model-00001-of-0000N.safetensors` with `model.safetensors.index.json`. Experts are split back into one tensor each
(paper section 1). The same weights give the same bytes. Nothing here reads or writes a pickle.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from ring_model.configuration import GENERATION_FILE, BailingMoeConfig
from ring_model.modelling import BailingMoe, Layer

_READ_AT_ONCE = 1 << 22  # bytes of a file that is mapped: a map that stays keeps what was read in memory
SINGLE_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
PARAMETERS_FILE = "parameters.safetensors"


def released_tensors(model: BailingMoe) -> dict[str, Tensor]:
    """The parameters under their released names, as views into the stacked ones: writing into a view sets the model."""
    tensors = {"model.word_embeddings.weight": model.word_embeddings.detach()}
    for index, layer in enumerate(model.layers):
        assert isinstance(layer, Layer)
        tensors |= {f"model.layers.{index}.{name}": tensor for name, tensor in _layer_tensors(layer)}
    return tensors | {"model.norm.weight": model.norm.weight.detach(), "lm_head.weight": model.lm_head.detach()}


def _layer_tensors(layer: Layer) -> Iterator[tuple[str, Tensor]]:
    yield "input_layernorm.weight", layer.input_layernorm.weight.detach()
    yield "attention.query_key_value.weight", layer.attention.query_key_value.weight.detach()
    yield "attention.dense.weight", layer.attention.dense.weight.detach()
    yield "post_attention_layernorm.weight", layer.post_attention_layernorm.weight.detach()
    yield "mlp.gate.weight", layer.mlp.gate.weight.detach()
    for expert, (gate_up, down) in enumerate(zip(layer.mlp.gate_up.detach(), layer.mlp.down.detach(), strict=True)):
        yield from _mlp_tensors(f"mlp.experts.{expert}", gate_up, down)
    if layer.mlp.shared_experts is not None:
        shared = layer.mlp.shared_experts
        yield from _mlp_tensors("mlp.shared_experts", shared.gate_up.detach(), shared.down.detach())


def _mlp_tensors(prefix: str, gate_up: Tensor, down: Tensor) -> Iterator[tuple[str, Tensor]]:
    gate, up = gate_up.chunk(2)
    yield f"{prefix}.gate_proj.weight", gate
    yield f"{prefix}.up_proj.weight", up
    yield f"{prefix}.down_proj.weight", down


def save_model(
    model: BailingMoe, folder: Path | str, *, end_ids: Sequence[int] = (), max_shard_bytes: int = 5 * 10**9
) -> None:
    """Write the model in float32; the folder is made when missing. Tokenizer files are `Tokenizer.save`'s.

    One file when everything fits into `max_shard_bytes`, else shards and an index. `end_ids` are what responses end with, the
    tokenizer's; without any, `generation_config.json` names those of the model's config.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    shards = _shards(released_tensors(model), max_shard_bytes=max_shard_bytes)
    weight_map: dict[str, str] = {}
    for index, shard in enumerate(shards, start=1):
        name = SINGLE_FILE if len(shards) == 1 else f"model-{index:05d}-of-{len(shards):05d}.safetensors"
        save_file({key: tensor.cpu() for key, tensor in shard.items()}, folder / name, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(shard, name)
    if len(shards) > 1:
        total = sum(tensor.nbytes for shard in shards for tensor in shard.values())
        _write_json(folder / INDEX_FILE, {"metadata": {"total_size": total}, "weight_map": weight_map})
    config = replace(model.config, torch_dtype="float32")
    config.save(folder)
    ends = config.eos_token_id if not end_ids else end_ids[0] if len(end_ids) == 1 else list(end_ids)
    _write_json(folder / GENERATION_FILE, {"eos_token_id": ends, "pad_token_id": config.pad_token_id})


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


@torch.no_grad()
def fill_with_mean(model: BailingMoe, folders: Sequence[Path | str]) -> None:
    """Set each weight to the mean, taken in float64, of those in several folders of models of the same sizes.

    Beside the model a few tensors are in memory at a time. Raises ValueError as `load_model`, before a weight is set.
    """
    targets = released_tensors(model)
    files = [_file_by_tensor(targets, Path(folder)) for folder in folders]
    for piece in _pieces(sorted(targets), targets):
        sums = {name: torch.zeros(targets[name].shape, dtype=torch.float64) for name in piece}
        for file_of in files:
            _add_tensors(sums, file_of)
        for name in piece:
            targets[name].copy_(sums.pop(name).div_(len(files)))


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


def _shards(tensors: Mapping[str, Tensor], *, max_shard_bytes: int) -> list[dict[str, Tensor]]:
    shards: list[dict[str, Tensor]] = [{}]
    size = 0
    for name, tensor in tensors.items():
        if shards[-1] and size + tensor.nbytes > max_shard_bytes:
            shards.append({})
            size = 0
        shards[-1][name] = tensor
        size += tensor.nbytes
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


def _file_by_tensor(targets: Mapping[str, Tensor], folder: Path) -> dict[str, Path]:
    """The file of each tensor of a folder that holds every target, of its shape."""
    _fill(targets, folder, copies=False)
    found: dict[str, Path] = {}
    for path in _weight_files(folder):
        with safe_open(path, framework="pt") as shard:
            found |= dict.fromkeys(shard.keys(), path)
    return found


def _add_tensors(sums: Mapping[str, Tensor], file_of: Mapping[str, Path]) -> None:
    """Add the tensors of one folder to the sums of their names."""
    for path in sorted({file_of[name] for name in sums}):
        with safe_open(path, framework="pt") as shard:
            for name, total in sums.items():
                if file_of[name] == path:
                    total += shard.get_tensor(name)


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
