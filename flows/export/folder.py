"""The exported folder: the model's own files byte for byte, how it is to be sampled, its chat template by itself, and the card.

It is written beside its place and renamed when it is whole. Weights keep the shards that they have: a file is begun anew every 5 GB when a
model is written (`ring_model.checkpoint.save_model`).
"""

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flows.export.card import card
from flows.export.records import ModelRecords, find_records
from ring_model.chat_template import TEMPLATE_FILE
from ring_model.checkpoint import check_folder
from ring_model.configuration import GENERATION_FILE, BailingMoeConfig, end_ids_of
from ring_model.tokenizer import Tokenizer
from stages.records.artifact import ArtifactError, file_digest, write_json
from stages.training.model_card import CARD

_COPIED = (
    "config.json",
    "*.safetensors",
    "*.safetensors.index.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
)
_SAMPLED = ("temperature", "top_p", "max_new_tokens")


@dataclass(frozen=True, slots=True)
class ExportedFile:
    """A file of the new folder."""

    name: str
    num_bytes: int
    sha256: str
    is_sealed: bool  # its bytes are those that the manifest of the model's result names


@dataclass(frozen=True, slots=True)
class Exported:
    """The new folder."""

    folder: Path
    files: tuple[ExportedFile, ...]
    records: ModelRecords | None


def export_model(folder: Path, out: Path, *, name: str | None = None) -> Exported:
    """Write the model of `folder` to the new folder `out`; `name` is the model's in its card, else the new folder's.

    Raises:
        ValueError: `out` is there already, `folder` is no model of ours, or a file is not the one that was sealed.

    """
    if out.exists() or out.is_symlink():
        raise ValueError(f"{out} is there already; an export makes a new folder: name another, or remove it")
    config = BailingMoeConfig.from_folder(folder)
    check_folder(folder)
    tokenizer = Tokenizer.from_folder(folder)
    records = find_records(folder)
    sealed = _sealed(records)
    out.parent.mkdir(parents=True, exist_ok=True)
    beside = out.parent / f".{out.name}.{os.getpid()}"
    shutil.rmtree(beside, ignore_errors=True)
    try:
        beside.mkdir()
        _copy(folder, beside, sealed=sealed)
        _write(beside, folder, records, config=config, tokenizer=tokenizer, name=name or out.name)
        files = tuple(_files(beside, sealed))
        _place(beside, out)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return Exported(out, files, records)


def _sealed(records: ModelRecords | None) -> Mapping[str, str]:
    """Name -> sha256 of the model's files, as they were sealed."""
    if records is None:
        return {}
    inside = f"{records.part}/"
    files = records.manifest.document["files"].items()
    return {name.removeprefix(inside): entry["sha256"] for name, entry in files if name.startswith(inside)}


def _copy(folder: Path, out: Path, *, sealed: Mapping[str, str]) -> None:
    """Copy the model's files. Raises ArtifactError, before the new folder is there, for one that is not as it was sealed."""
    if sealed and (strange := sorted({path.name for path in folder.iterdir()} - sealed.keys())):
        raise ArtifactError(
            f"{folder} holds {strange[0]}, which was not there when it was sealed; take it away, or `ring verify`"
        )
    for path in sorted({path for pattern in _COPIED for path in folder.glob(pattern)}):
        shutil.copyfile(path, out / path.name)
        if sealed and file_digest(out / path.name) != sealed.get(path.name):
            raise ArtifactError(
                f"{path} is not the file that was sealed; `ring verify` says more, `ring run` builds it again"
            )


def _write(
    out: Path, folder: Path, records: ModelRecords | None, *, config: BailingMoeConfig, tokenizer: Tokenizer, name: str
) -> None:
    write_json(out / GENERATION_FILE, _generation(folder, records))
    (out / TEMPLATE_FILE).write_text(tokenizer.template.text, encoding="utf-8")
    text = card(records, config=config, decode=_decoder(out), name=name)
    (out / CARD).write_text(text, encoding="utf-8")


def _decoder(out: Path) -> Callable[[Sequence[int]], str]:
    """What the lines of the card decode with: it sets blanks where our own tokenizer sets none."""
    from transformers import AutoTokenizer  # seconds

    tokenizer = AutoTokenizer.from_pretrained(out)
    assert tokenizer is not None
    return lambda ids: str(tokenizer.decode([*ids]))


def _generation(folder: Path, records: ModelRecords | None) -> dict[str, Any]:
    """What the folder says of end tokens, and the sampling that was used where it is recorded."""
    path = folder / GENERATION_FILE
    values = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    ends = end_ids_of(folder)
    if "eos_token_id" not in values and ends:
        values["eos_token_id"] = ends[0] if len(ends) == 1 else list(ends)
    used = records.sampling if records is not None else None
    if used is not None:
        values |= {"do_sample": True, **{key: used[key] for key in _SAMPLED}}
    return values


def _files(out: Path, sealed: Mapping[str, str]) -> Iterator[ExportedFile]:
    for path in sorted(out.iterdir()):
        sha256 = file_digest(path)
        yield ExportedFile(path.name, path.stat().st_size, sha256, is_sealed=sealed.get(path.name) == sha256)


def _place(beside: Path, out: Path) -> None:
    """Rename. An empty folder that came meanwhile would be replaced; a full one is refused."""
    try:
        beside.rename(out)
    except OSError as error:
        raise ValueError(f"{out} came to be there meanwhile ({error.strerror}); name another folder") from error
