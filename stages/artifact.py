"""What makes a result a result: fingerprint, manifest, seal, verify, lineage.

An artifact is the folder `artifacts/<stage>/<fingerprint>/`. It is built beside its place (`<fingerprint>.partial`) and
renamed into it once `manifest.json` is written, so a folder without a manifest does not exist. The manifest holds the
fingerprint and the payload that was hashed, the inputs, every file with size and sha256, metrics, Runtime, code version,
package versions, hardware and the ids of the runs that made it. Manifests are the lineage; MLflow and Prefect show it.
"""

import contextlib
import fcntl
import hashlib
import json
import math
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from stages.stage import STATE

FORMAT = 1
MANIFEST = "manifest.json"


class ArtifactError(ValueError):
    """An artifact that is absent, damaged or of a newer format."""


# ---------------------------------------------------------------- fingerprint


def canonical_json(value: Any, *, where: str = "") -> str:  # noqa: ANN401 - any JSON-like value
    """JSON with sorted keys and no white space. Sets, callables, NaN and other things without one stable form are refused by name."""
    return json.dumps(_stable(value, where), sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def _stable(value: Any, where: str) -> Any:  # noqa: ANN401 - any JSON-like value
    if isinstance(value, BaseModel):
        return {name: _stable(getattr(value, name), f"{where}.{name}") for name in type(value).model_fields}
    if isinstance(value, Mapping):
        return {str(key): _stable(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_stable(item, f"{where}.{index}") for index, item in enumerate(value)]
    if value is None or isinstance(value, str | bool | int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    raise TypeError(
        f"{where.lstrip('.') or 'value'}: {value!r} ({type(value).__name__}) has no stable form and cannot be part of a fingerprint"
    )


def fingerprint(payload: Mapping[str, Any]) -> str:
    """First 32 hex digits of sha256 over the canonical JSON of {stage, arm, config, code, inputs}."""
    return hashlib.sha256(canonical_json(payload).encode()).hexdigest()[:32]


# ---------------------------------------------------------------- files and manifest


@dataclass(frozen=True, slots=True)
class Manifest:
    """A sealed result, as read from its manifest.json. `content` is one sha256 over the files' own."""

    folder: Path
    document: dict[str, Any]

    @property
    def stage(self) -> str:
        """Stage name."""
        return self.document["payload"]["stage"]

    @property
    def arm(self) -> str | None:
        """Arm of an RL stage."""
        return self.document["payload"]["arm"]

    @property
    def fingerprint(self) -> str:
        """Identity: hash of what the result was made from."""
        return self.document["fingerprint"]

    @property
    def content(self) -> str:
        """Hash of what the result is."""
        return self.document["content"]

    @property
    def metrics(self) -> dict[str, float]:
        """Final metrics."""
        return self.document["metrics"]

    @property
    def inputs(self) -> dict[str, dict[str, str]]:
        """Input name -> {stage, fingerprint, content} (or {content} for a data folder)."""
        return self.document["inputs"]

    def tables(self) -> dict[str, list[dict[str, Any]]]:
        """The stage's tables for people."""
        return json.loads((self.folder / "tables.json").read_text(encoding="utf-8"))


def file_digest(path: Path) -> str:
    """sha256 of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def list_files(folder: Path) -> dict[str, dict[str, Any]]:
    """Relative path -> {bytes, sha256} of every file under a folder, but the manifest and the resume state."""
    paths = (path for path in sorted(folder.rglob("*")) if path.is_file())
    kept = [path for path in paths if path.name != MANIFEST and STATE not in path.relative_to(folder).parts]
    return {str(path.relative_to(folder)): {"bytes": path.stat().st_size, "sha256": file_digest(path)} for path in kept}


def content_digest(files: Mapping[str, Mapping[str, Any]]) -> str:
    """One sha256 over the names and sha256 of a list of files."""
    return hashlib.sha256(canonical_json({name: entry["sha256"] for name, entry in files.items()}).encode()).hexdigest()


def folder_content(folder: Path, pattern: str) -> str:
    """Content digest of the files of a data folder that match a pattern."""
    files = {path.name: {"sha256": file_digest(path)} for path in sorted(folder.glob(pattern))}
    return content_digest(files)


def write_json(path: Path, value: Any) -> None:  # noqa: ANN401 - any JSON value
    """Write beside, flush to disk, rename: a reader sees the old file or the whole new one."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with beside.open("w", encoding="utf-8") as stream:
            json.dump(value, stream, indent=1, ensure_ascii=False)
            stream.write("\n")
            stream.flush()
            os.fsync(stream.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def read_manifest(folder: Path) -> Manifest:
    """Raises ArtifactError where there is none, or where a newer version of this program wrote it."""
    path = folder / MANIFEST
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ArtifactError(f"{folder} holds no {MANIFEST}: it is not a finished result") from None
    except json.JSONDecodeError as error:
        raise ArtifactError(f"{path} is not valid JSON ({error}); remove the folder and run the stage again") from error
    if document.get("format", 0) > FORMAT:
        raise ArtifactError(
            f"{path} has format {document['format']}, this program reads up to {FORMAT}: update it, or use another RING_HOME"
        )
    return Manifest(folder=folder, document=document)


def problems_of(manifest: Manifest) -> list[str]:
    """What does not hold: a file missing, added, or changed; a fingerprint that is not the hash of its payload. Empty: verified."""
    found: list[str] = []
    expected, actual = manifest.document["files"], list_files(manifest.folder)
    for name in sorted(expected.keys() | actual.keys()):
        if name not in actual:
            found.append(f"{name}: missing")
        elif name not in expected:
            found.append(f"{name}: not in the manifest")
        elif actual[name] != expected[name]:
            found.append(
                f"{name}: sha256 is {actual[name]['sha256'][:12]}, the manifest says {expected[name]['sha256'][:12]}"
            )
    if fingerprint(manifest.document["payload"]) != manifest.fingerprint:
        found.append("fingerprint: not the hash of the payload")
    if content_digest(expected) != manifest.content:
        found.append("content: not the hash of the list of files")
    return found


# ---------------------------------------------------------------- the store


@dataclass(frozen=True, slots=True)
class Store:
    """The artifacts of one home folder."""

    home: Path

    @property
    def root(self) -> Path:
        """Folder of all artifacts."""
        return self.home / "artifacts"

    def place(self, stage: str, identity: str) -> Path:
        """Where the result with this fingerprint stands once it is sealed."""
        return self.root / stage / identity

    def partial(self, stage: str, identity: str) -> Path:
        """Where it is built."""
        return self.root / stage / f"{identity}.partial"

    def find(self, stage: str, identity: str) -> Manifest | None:
        """The sealed result, unverified, or None."""
        folder = self.place(stage, identity)
        return read_manifest(folder) if (folder / MANIFEST).is_file() else None

    def all(self) -> list[Manifest]:
        """Every sealed result."""
        return [
            read_manifest(path.parent)
            for path in sorted(self.root.glob(f"*/*/{MANIFEST}"))
            if not path.parent.name.endswith(".partial")
        ]

    def by_id(self, prefix: str) -> Manifest:
        """The one result whose fingerprint begins with `prefix`. Raises ArtifactError for none or several."""
        found = [manifest for manifest in self.all() if manifest.fingerprint.startswith(prefix)]
        if len(found) != 1:
            names = ", ".join(f"{m.stage} {m.fingerprint[:12]}" for m in found[:5])
            raise ArtifactError(
                f"{len(found)} results begin with {prefix!r}" + (f" ({names})" if found else "; `ring ls` lists them")
            )
        return found[0]

    @contextlib.contextmanager
    def lock(self, stage: str, identity: str) -> Iterator[None]:
        """One builder per result, over threads and processes; released by the kernel when its holder dies."""
        folder = self.home / "locks"
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / f"{stage}-{identity}").open("w") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            yield

    def seal(self, *, stage: str, identity: str, document: dict[str, Any]) -> Manifest:
        """Drop the resume state, write the manifest last, and move the folder into its place (an older one is replaced)."""
        partial, place = self.partial(stage, identity), self.place(stage, identity)
        shutil.rmtree(partial / STATE, ignore_errors=True)
        files = list_files(partial)
        sealed = {
            **document,
            "format": FORMAT,
            "fingerprint": identity,
            "files": files,
            "content": content_digest(files),
        }
        write_json(partial / MANIFEST, sealed)
        self.discard(stage, identity)
        partial.rename(place)
        return read_manifest(place)

    def discard(self, stage: str, identity: str) -> None:
        """Remove a sealed result; first by rename, so that it is gone at once."""
        place = self.place(stage, identity)
        if place.exists():
            away = place.with_name(f"{identity}.old.{os.getpid()}")
            place.rename(away)
            shutil.rmtree(away)


def ring_home() -> Path:
    """RING_HOME, else ./.ring."""
    return Path(os.environ.get("RING_HOME", ".ring")).absolute()
