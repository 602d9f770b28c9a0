"""What makes a result a result: fingerprint, manifest, seal, verify, lineage.

An artifact is the folder `artifacts/<stage>/<fingerprint>/`. It is built beside its place (`<fingerprint>.partial`) and
renamed into it once `manifest.json` is written, so a folder without a manifest does not exist. The manifest holds the
fingerprint and the payload that was hashed, the inputs, every file with size and sha256, metrics, Runtime, code version,
package versions, hardware, the ids of the runs that made it, and a seal over all of that. Manifests are the lineage; MLflow
and Prefect show it. A dot in the name of a folder beside the results says that it is none: half built, or on its way out.

Each input is held with the seal of the manifest that was read, so that whoever seals a result again must seal all that follow from it.
What stands above all seals is one digest over them, `root_digest`: nothing here has a key, so only a root that was kept elsewhere tells
a forged store from an honest one. A manifest that is replaced when its result is made again is kept in `earlier/`.

With a remote store (`RING_STORE`, `stages.records.remote`) the results are those that lie there. The home folder is where they are built,
and holds copies of the files that were read here, each compared with its sha256 while it came; nothing in it is a result by itself.
"""

import contextlib
import fcntl
import functools
import hashlib
import json
import math
import os
import re
import shutil
import uuid
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Annotated, Any

from pydantic import BaseModel, Field, ValidationError

from stages.config import STAGES, StageName
from stages.records.digests import RememberedDigests
from stages.records.remote import (
    MANIFEST,
    RemoteError,
    RemoteStore,
    folder_for,
    is_address,
    open_remote,
    parts_of,
    store_url,
)
from stages.stage import STATE

FORMAT = 1
LONGEST_HOME = 400  # bytes; SQLite opens no file beyond 512
_UNWRITABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")  # in no address of a database, and on no line
_FINGERPRINT = "[0-9a-f]{32}"
_SHA256 = "[0-9a-f]{64}"
_OURS = {  # beside the results, and none
    re.compile(rf"{_FINGERPRINT}\.partial"): "half built; the run that was stopped goes on from it",
    re.compile(rf"{_FINGERPRINT}\.old\.\d+"): "left by a run that was killed; the next build removes it",
}
_HALF_WRITTEN = re.compile(r"\..+\.\d+")  # `.name.<pid>`, what `write_json` and `write_table` rename when it is whole


class ArtifactError(ValueError):
    """An artifact that is absent, damaged or of a newer format."""


class DamagedError(ArtifactError):
    """An artifact whose manifest cannot be read: it is built again."""


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

    place: Path  # its folder here; of a result in a remote store it holds the files that were read on this machine
    document: dict[str, Any]
    bring: Callable[[str], None] | None = field(
        default=None, compare=False
    )  # a part of its files (`remote.parts_of`) to its place

    @property
    def folder(self) -> Path:
        """Its folder, in which every file lies but, of a result in a remote store, weights and responses that nobody asked for."""
        return self._with("small")

    @property
    def whole_folder(self) -> Path:
        """Its folder with all files."""
        return self._with("all")

    @property
    def folder_of_responses(self) -> Path:
        """Its folder with all files but, of a result in a remote store, weights that nobody asked for."""
        self._with("responses")
        return self._with("small")

    def folder_with(self, name: str) -> Path:
        """Its folder, as `folder`, with all files of a folder in it, as `epoch-02/`."""
        self._with(f"{name.rstrip('/')}/")
        return self._with("small")

    def file(self, name: str) -> Path:
        """One of its files."""
        return self._with(name) / name

    def _with(self, part: str) -> Path:
        if self.bring:
            self.bring(part)
        return self.place

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
        """Input name -> {stage, fingerprint, content, seal} (or {content} for a data folder). Older results have no seal there."""
        return self.document["inputs"]

    @property
    def seal(self) -> str:
        """Hash of the manifest."""
        return self.document["seal"]

    @property
    def is_sealed(self) -> bool:
        """Whether the manifest is the one that its seal was made of."""
        return document_seal(self.document) == self.seal

    def tables(self) -> dict[str, list[dict[str, Any]]]:
        """The stage's tables for people."""
        return json.loads(self.file("tables.json").read_text(encoding="utf-8"))


def file_digest(path: Path) -> str:
    """sha256 of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def list_files(folder: Path) -> dict[str, dict[str, Any]]:
    """Relative path -> {bytes, sha256} of every file of a folder outside the store, links followed, but a manifest.json at its top."""
    paths = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    return {
        name: {"bytes": path.stat().st_size, "sha256": file_digest(path)}
        for name, path in paths.items()
        if name != MANIFEST
    }


def changed_files(folder: Path, expected: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What of a folder outside the store is not as it was listed: files that are missing, new or other ones.

    A file is read once a process, while its size and time stay.
    """
    if not folder.is_dir():
        return [f"{folder}: no such folder"]
    actual = matching_files(folder, "**/*")
    actual.pop(MANIFEST, None)
    names = sorted(expected.keys() | actual.keys())
    return [line for name in names if (line := _change(name, actual.get(name), expected.get(name, {}).get("sha256")))]


def _change(name: str, actual: str | None, expected: str | None) -> str:
    if actual == expected:
        return ""
    if actual is None or expected is None:
        return f"{name}: missing" if actual is None else f"{name}: was not there"
    return f"{name}: sha256 is {actual[:12]}, was {expected[:12]}"


@dataclass(frozen=True, slots=True)
class Sealed:
    """What lies in the folder of a result: by relative path {bytes, sha256} of each file, and what no result holds."""

    files: dict[str, dict[str, Any]]
    strange: dict[str, str]  # path -> what it is


def sealed_files(folder: Path, *, remembered: RememberedDigests | None = None) -> Sealed:
    """Everything below a result's folder but its manifest. No link is followed.

    Every byte is read, but of files that are remembered and have not changed.
    """
    kinds = dict(_entries(folder, at=""))
    kinds.pop(MANIFEST, None)
    files = {}
    for name in sorted(name for name, kind in kinds.items() if not kind):
        path = folder / name
        sha256 = remembered.digest(path, name=name) if remembered else file_digest(path)
        files[name] = {"bytes": path.stat().st_size, "sha256": sha256}
    if remembered:
        remembered.keep()
    return Sealed(files, {name: kind for name, kind in kinds.items() if kind})


def _entries(folder: Path, *, at: str) -> Iterator[tuple[str, str]]:
    """Relative path, and what it is where it is no file, of all that lies below a folder; empty folders and links by themselves."""
    with os.scandir(folder) as scanned:
        found = sorted(scanned, key=lambda entry: entry.name)
    if not found and at:
        yield at.rstrip("/"), "an empty folder"
    for entry in found:
        name = f"{at}{entry.name}"
        if entry.is_symlink():
            yield name, "a link"
        elif entry.is_dir(follow_symlinks=False):
            yield from _entries(folder / entry.name, at=f"{name}/")
        else:
            yield name, "" if entry.is_file(follow_symlinks=False) else "neither a file nor a folder"


def _remove_empty_folders(folder: Path) -> None:
    """Those below a folder, and those that hold nothing else."""
    for parent in [Path(parent) for parent, _, _ in os.walk(folder, topdown=False)]:
        if parent != folder and not any(parent.iterdir()):
            parent.rmdir()


def content_digest(files: Mapping[str, Mapping[str, Any]]) -> str:
    """One sha256 over the names and sha256 of a list of files."""
    return hashlib.sha256(canonical_json({name: entry["sha256"] for name, entry in files.items()}).encode()).hexdigest()


def matching_files(folder: Path, pattern: str) -> dict[str, str]:
    """Relative path -> sha256 of the files of a folder that match."""
    return file_digests([path for path in sorted(folder.glob(pattern)) if path.is_file()], below=folder)


def file_digests(paths: Iterable[Path], *, below: Path) -> dict[str, str]:
    """Path relative to a folder -> sha256; a file is read once a process, while its size and time stay."""
    return {str(path.relative_to(below)): _known_digest(path.absolute(), *_size_and_time(path)) for path in paths}


def _size_and_time(path: Path) -> tuple[int, int]:
    state = path.stat()
    return state.st_size, state.st_mtime_ns


@functools.cache
def _known_digest(path: Path, _size: int, _modified_ns: int) -> str:
    return file_digest(path)


def document_seal(document: Mapping[str, Any]) -> str:
    """sha256 over the canonical JSON of a manifest but its seal. A NaN among the metrics has its word here, as in the file."""
    body = {key: value for key, value in document.items() if key != "seal"}
    return hashlib.sha256(json.dumps(body, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


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


class _Payload(BaseModel):
    stage: str
    arm: str | None


class _File(BaseModel):
    bytes: int
    sha256: str


class _Input(BaseModel):
    """A stage and a fingerprint become a path: nothing else than a name of each may stand there."""

    content: str
    stage: StageName | None = None
    fingerprint: Annotated[str, Field(pattern=rf"\A{_FINGERPRINT}\z")] | None = None
    seal: Annotated[str, Field(pattern=rf"\A{_SHA256}\z")] | None = None


class _Document(BaseModel):
    """What a manifest holds at least."""

    payload: _Payload
    fingerprint: str
    content: str
    seal: str
    files: dict[str, _File]
    inputs: dict[str, _Input]
    metrics: dict[str, float]
    timings: dict[str, float]
    notes: list[str]
    code: dict[str, str | bool | None]
    recipe: str
    status: str
    seconds: float
    made_at: str
    mlflow_run_id: str


def read_manifest(folder: Path) -> Manifest:
    """Raises ArtifactError where there is none, or a newer version of this program wrote it; DamagedError where it is unreadable."""
    path = folder / MANIFEST
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise ArtifactError(f"{folder} holds no {MANIFEST}: it is not a finished result") from None
    return Manifest(folder, _read_document(data, path=str(path)))


def _read_document(data: bytes, *, path: str) -> dict[str, Any]:
    """What `read_manifest` says; `path` is for its messages."""
    try:
        document = json.loads(data.decode("utf-8"))
    except ValueError as error:
        raise DamagedError(f"{path} is not valid JSON ({error}): the stage that made it builds it again") from error
    written = document.get("format") if isinstance(document, dict) else None
    if isinstance(written, int) and written > FORMAT:
        raise ArtifactError(
            f"{path} has format {written}, this program reads up to {FORMAT}: update it, or use another RING_HOME"
        )
    try:
        _Document.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise DamagedError(f"{path}: {where}: {first['msg']}: the stage that made it builds it again") from error
    return document


def problems_of(manifest: Manifest, *, remembered: RememberedDigests | None = None) -> list[str]:
    """What does not hold: a file missing, added, or changed; what is no file; a seal, fingerprint or content that is not the hash.

    Empty: verified.
    """
    return _problems(manifest, sealed_files(manifest.place, remembered=remembered))


def _problems(manifest: Manifest, found: Sealed) -> list[str]:
    expected = manifest.document["files"]
    lines = [
        line
        for name in sorted(expected.keys() | found.files.keys() | found.strange.keys())
        if (line := _problem(name, expected.get(name), found))
    ]
    if fingerprint(manifest.document["payload"]) != manifest.fingerprint:
        lines.append("fingerprint: not the hash of the payload")
    if manifest.place.name != manifest.fingerprint:
        lines.append(f"fingerprint: {manifest.fingerprint[:12]} stands in the folder {manifest.place.name[:12]}")
    if manifest.place.parent.name != manifest.stage:
        lines.append(f"stage: a result of {manifest.stage} stands among those of {manifest.place.parent.name}")
    if content_digest(expected) != manifest.content:
        lines.append("content: not the hash of the list of files")
    if not manifest.is_sealed:
        lines.append("seal: not the hash of the manifest, which was changed after it was written")
    return lines


def _problem(name: str, expected: Mapping[str, Any] | None, found: Sealed) -> str:
    if name in found.strange:
        return f"{name}: {found.strange[name]}; a result holds files alone"
    if expected is None:
        return f"{name}: not in the manifest"
    if (actual := found.files.get(name)) is None:
        return f"{name}: missing"
    if actual != expected:
        return f"{name}: sha256 is {actual['sha256'][:12]}, the manifest says {expected['sha256'][:12]}"
    return ""


def folder_problems(folder: Path, *, remembered: RememberedDigests | None = None) -> list[str]:
    """What does not hold of the result in a folder, its manifest included. Raises ArtifactError for a newer format."""
    try:
        return problems_of(read_manifest(folder), remembered=remembered)
    except DamagedError as error:
        return [f"manifest: {error}"]


def root_digest(seals: Mapping[str, str]) -> str:
    """sha256 over `<stage>/<fingerprint>` -> seal of results: whoever kept it elsewhere sees whether any was changed, added or removed."""
    return hashlib.sha256(canonical_json(seals).encode()).hexdigest()


# ---------------------------------------------------------------- the store


@dataclass(frozen=True, slots=True)
class Stray:
    """What lies among the results and is none."""

    path: Path
    what: str
    is_expected: bool  # as runs leave it


@contextlib.contextmanager
def held(lock: Path, *, meanwhile: Callable[[], None] | None = None) -> Generator[None]:
    """One holder of a lock file at a time, over threads and processes; released by the kernel when its holder dies.

    `meanwhile` is called over and over while another holds it, and may raise to give up.
    """
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as stream:
        while meanwhile and not _try_lock(stream):
            meanwhile()
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def is_held(lock: Path) -> bool:
    """Whether somebody holds a lock file."""
    if not lock.exists():
        return False
    with lock.open("r+") as stream:
        return not _try_lock(stream)


def _try_lock(stream: IO[str]) -> bool:
    with contextlib.suppress(BlockingIOError):
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False


@dataclass(frozen=True, slots=True)
class Store:
    """The artifacts of one home folder, or, with a home folder to build in, those of a remote store."""

    home: Path
    remote: RemoteStore | None = None

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
        """The sealed result, unverified; None where there is none, or none with a manifest that can be read."""
        if self.remote is None:
            return _readable(self.place(stage, identity))
        data = self.remote.manifest(stage, identity)
        return self._readable_remote(stage, identity, data)

    def _readable_remote(self, stage: str, identity: str, data: bytes | None) -> Manifest | None:
        with contextlib.suppress(DamagedError):
            return self._of_remote(stage, identity, data) if data is not None else None
        return None

    def _of_remote(self, stage: str, identity: str, data: bytes) -> Manifest:
        place = self.place(stage, identity)
        document = _read_document(data, path=self.address(stage, identity))
        return Manifest(place, document, bring=functools.partial(self._bring, place, document))

    def address(self, stage: str, identity: str) -> str:
        """Where a result stands, for people."""
        if self.remote is None:
            return str(self.place(stage, identity))
        return f"{self.remote.url}/artifacts/{stage}/{identity}"

    def folders(self) -> list[Path]:
        """Folder of every sealed result; with a remote store the folder here that its files have once they are read."""
        if self.remote is not None:
            found = self.remote.manifests()
            return [self.place(stage, identity) for (stage, identity), data in found.items() if data is not None]
        paths = sorted(self.root.glob(f"*/*/{MANIFEST}"))
        return [path.parent for path in paths if "." not in path.parent.name]

    def strays(self) -> list[Stray]:
        """What lies among the results and is none, in order: half built folders, and what nobody should have put there."""
        here = sorted(self.root.iterdir()) if self.root.is_dir() else []
        found = [stray for path in here for stray in self._strays_in(path)]
        remote = self.remote.manifests() if self.remote else {}
        what = "in the remote store without a manifest: its upload goes on, or was cut short, and the next one ends it"
        cut_short = [Stray(self.place(*key), what, is_expected=True) for key, data in remote.items() if data is None]
        return found + cut_short

    def _strays_in(self, stage: Path) -> Iterator[Stray]:
        if stage.name not in STAGES or stage.is_symlink() or not stage.is_dir():
            yield Stray(stage, f"no stage's folder; those are {', '.join(STAGES)}", is_expected=False)
            return
        for path in sorted(stage.iterdir()):
            ours = next((what for pattern, what in _OURS.items() if pattern.fullmatch(path.name)), "")
            if path.is_symlink() or not path.is_dir():
                yield Stray(path, "a link" if path.is_symlink() else "no folder", is_expected=False)
            elif ours:
                yield Stray(path, ours, is_expected=True)
            elif "." in path.name or not (path / MANIFEST).is_file():  # others are results, be it under a wrong name
                what = "no result, and nothing that a run leaves: it is read by no command"
                yield Stray(path, what, is_expected=False)

    def all(self) -> list[Manifest]:
        """Every sealed result with a manifest that can be read."""
        if self.remote is not None:
            found = (self._readable_remote(*key, data) for key, data in self.remote.manifests().items())
            return [manifest for manifest in found if manifest]
        return [manifest for folder in self.folders() if (manifest := _readable(folder))]

    def folder_of(self, prefix: str) -> Path:
        """Folder of the one result whose fingerprint begins with `prefix`. Raises ArtifactError for none or several."""
        found = [folder for folder in self.folders() if folder.name.startswith(prefix)]
        if len(found) != 1:
            names = ", ".join(f"{folder.parent.name} {folder.name[:12]}" for folder in found[:5])
            many = f"{len(found)} results begin with {prefix!r} ({names}): give more characters"
            raise ArtifactError(many if found else f"no result begins with {prefix!r}; `ring ls` lists them")
        return found[0]

    def by_id(self, prefix: str) -> Manifest:
        """The one result whose fingerprint begins with `prefix`. Raises ArtifactError for none, several or a damaged one."""
        folder = self.folder_of(prefix)
        if self.remote is None:
            return read_manifest(folder)
        return self._there(self.remote, folder.parent.name, folder.name)

    def _there(self, remote: RemoteStore, stage: str, identity: str) -> Manifest:
        data = remote.manifest(stage, identity)
        if data is None:
            raise ArtifactError(f"{self.address(stage, identity)} was removed just now")
        return self._of_remote(stage, identity, data)

    def problems(self, stage: str, identity: str, *, reads_all: bool) -> list[str]:
        """What does not hold of a result, its manifest included; empty where all does, or there is none.

        Unless `reads_all`, what has not changed since it was read here is not read again; of a remote store what was never read here is
        then taken for what the manifest says, if it has the size: whoever reads it compares it. Raises ArtifactError for a newer format.
        """
        if self.remote is None:
            place = self.place(stage, identity)
            remembered = None if reads_all else self.remembered(stage, identity)
            return folder_problems(place, remembered=remembered) if (place / MANIFEST).is_file() else []
        data = self.remote.manifest(stage, identity)
        try:
            manifest = self._of_remote(stage, identity, data) if data is not None else None
        except DamagedError as error:
            return [f"manifest: {error}"]
        return _problems(manifest, self._remote_files(self.remote, manifest, reads_all=reads_all)) if manifest else []

    def _remote_files(self, remote: RemoteStore, manifest: Manifest, *, reads_all: bool) -> Sealed:
        key, files = (manifest.place.parent.name, manifest.place.name), manifest.document["files"]
        remembered = self._remembered_remote(*key)
        found = {}
        for name, there in remote.objects(*key, files).items():
            stated = files[name]["sha256"]
            sha256 = None if reads_all else remembered.known(name, [there.num_bytes, there.tag])
            if sha256 is None and not reads_all and there.num_bytes == files[name]["bytes"]:
                sha256 = stated
            elif sha256 is None:
                sha256 = remote.digest(*key, name, stated)
                remembered.note(name, [there.num_bytes, there.tag], sha256)
            found[name] = {"bytes": there.num_bytes, "sha256": sha256}
        remembered.keep()
        return Sealed(found, {})

    def _remembered_remote(self, stage: str, identity: str) -> RememberedDigests:
        path = self.home / "digests" / f"remote-{stage}-{identity}.json"
        return RememberedDigests(path, read=file_digest, write=write_json)

    def open(self, manifest: Manifest, name: str) -> IO[bytes]:
        """A file of a result as a stream in which one can seek; of a remote store only what is read is transferred, and not verified."""
        if self.remote is None or (manifest.place / name).is_file():
            return (manifest.folder / name).open("rb")
        entry = manifest.document["files"][name]
        return self.remote.open(manifest.place.parent.name, manifest.place.name, name, entry["sha256"])

    def _bring(self, place: Path, document: dict[str, Any], part: str) -> None:
        """Have a part of a remote result's files in its place, every byte as the manifest says. Raises RemoteError where one is another."""
        remote = self.remote
        if remote is None or (document["seal"], part) in remote.whole:
            return
        stage, identity = place.parent.name, place.name
        with held(self._fetch_lock(stage, identity)):
            remembered = self.remembered(stage, identity)
            for name in parts_of(document["files"], part):
                self._bring_file(remote, place, name, document["files"][name]["sha256"], remembered=remembered)
            remembered.keep()
            for name, kind in dict(_entries(place, at="")).items() if place.is_dir() else ():
                if not kind and name != MANIFEST and name not in document["files"]:
                    (place / name).unlink()  # of the result that stood there before
            if (there := _readable(place)) is None or there.document != document:
                place.mkdir(parents=True, exist_ok=True)
                write_json(place / MANIFEST, document)
        remote.whole.add((document["seal"], part))

    def _bring_file(
        self, remote: RemoteStore, place: Path, name: str, sha256: str, *, remembered: RememberedDigests
    ) -> None:
        path = place / name
        if path.is_file() and remembered.digest(path, name=name) == sha256:
            return
        stage, identity = place.parent.name, place.name
        actual = remote.fetch(stage, identity, name, sha256, into=path)
        if actual == sha256:
            remembered.learn(path, name=name, sha256=sha256)
            return
        there = remote.objects(stage, identity, {name: {"sha256": sha256}})[name]
        known = self._remembered_remote(stage, identity)
        known.note(name, [there.num_bytes, there.tag], actual)
        known.keep()
        raise RemoteError(
            f"{self.address(stage, identity)}: {name} has the sha256 {actual[:12]}, its manifest says {sha256[:12]}: it was changed in the "
            "store and is not used; `ring run` builds the result again"
        )

    def _fetch_lock(self, stage: str, identity: str) -> Path:
        return self.home / "locks" / f"fetch-{stage}-{identity}"

    def lock(
        self, stage: str, identity: str, *, meanwhile: Callable[[], None] | None = None
    ) -> contextlib.AbstractContextManager[None]:
        """One builder per result; `meanwhile` as for `held`."""
        return held(self.home / "locks" / f"{stage}-{identity}", meanwhile=meanwhile)

    @contextlib.contextmanager
    def claim(self, stage: str, identity: str, *, meanwhile: Callable[[], None]) -> Generator[None]:
        """One builder per result over all machines that share the store; `meanwhile` as for `held`. Under the lock."""
        if self.remote is None:
            yield
            return
        with self.remote.lock(f"{stage}-{identity}", meanwhile=meanwhile):
            yield

    def deliver(self, stage: str, identity: str) -> bool:
        """Upload the result that is whole here: its upload was cut short, or what was uploaded is damaged. Whether there was such a one.

        Under the claim.
        """
        place = self.place(stage, identity)
        if self.remote is None or not (place / MANIFEST).is_file():
            return False
        there = self.remote.manifest(stage, identity)
        if there not in (None, (place / MANIFEST).read_bytes()):
            return False
        if folder_problems(place, remembered=self.remembered(stage, identity)):
            return False
        self._publish(self.remote, read_manifest(place), goes_on=there is None)
        return True

    def _publish(self, remote: RemoteStore, manifest: Manifest, *, goes_on: bool) -> None:
        """Upload a result's files, then its manifest; what another machine sealed in the meantime stays. Under the claim."""
        key, files = (manifest.place.parent.name, manifest.place.name), manifest.document["files"]
        there = remote.objects(*key, files) if goes_on else {}
        rest = {name: one for name, one in files.items() if name not in there or there[name].num_bytes != one["bytes"]}
        remote.upload(*key, manifest.place, rest)
        remembered = self._remembered_remote(*key)
        for name, one in remote.objects(*key, files).items():
            remembered.note(name, [one.num_bytes, one.tag], files[name]["sha256"])
        remembered.keep()
        lock = remote.held.get("-".join(key))
        if lock is not None and not lock.is_ours():
            raise ArtifactError(
                f"{self.address(*key)}: another machine took over, as nothing was heard of this one for {remote.stale_seconds:g} s; "
                "its result is used: run the command again"
            )
        replaces = remote.manifest(*key) is not None
        data = (manifest.place / MANIFEST).read_bytes()
        if remote.publish(*key, data, replaces=replaces) and lock is not None:
            remote.drop_others(*key, files)

    def prepare(self, stage: str, identity: str, *, afresh: bool) -> Path:
        """The folder to build in, free of what killed builders left in it and beside it; empty when `afresh`. Under the lock."""
        partial = self.partial(stage, identity)
        for leftover in partial.parent.glob(f"{identity}.old.*"):
            shutil.rmtree(leftover)
        if partial.exists() and (afresh or not (partial / STATE).is_dir()):
            self._remove(partial, stage, identity)
        (partial / STATE).mkdir(parents=True, exist_ok=True)
        for path in partial.rglob(".*"):
            if _HALF_WRITTEN.fullmatch(path.name) and path.is_file():
                path.unlink()
        return partial

    def seal(self, *, stage: str, identity: str, document: dict[str, Any]) -> Manifest:
        """Drop the resume state, write the manifest last, and move the folder into its place. Under the lock.

        Where the same bytes stand there already, only their manifest is replaced: another chain may be reading them.
        """
        partial, place = self.partial(stage, identity), self.place(stage, identity)
        self._remove(partial / STATE, stage, identity)
        _remove_empty_folders(partial)
        remembered = self.remembered(stage, identity)
        sealed = sealed_files(partial, remembered=remembered)
        if sealed.strange:
            name, what = next(iter(sealed.strange.items()))
            raise ArtifactError(f"{partial / name} is {what}; a result holds files alone")
        files = sealed.files
        described = {"format": FORMAT, "fingerprint": identity, "files": files, "content": content_digest(files)}
        whole = json.loads(json.dumps({**document, **described}))
        write_json(partial / MANIFEST, {**whole, "seal": document_seal(whole)})
        self._keep_earlier(stage, identity)
        with held(self._fetch_lock(stage, identity)) if self.remote else contextlib.nullcontext():
            self._put_in_place(stage, identity, sealed)
        if self.remote is None:
            return read_manifest(place)
        self._publish(self.remote, read_manifest(place), goes_on=False)
        return self._there(self.remote, stage, identity)

    def _put_in_place(self, stage: str, identity: str, sealed: Sealed) -> None:
        partial, place = self.partial(stage, identity), self.place(stage, identity)
        if place.is_dir() and sealed_files(place) == sealed:
            (partial / MANIFEST).replace(place / MANIFEST)
            self._remove(partial, stage, identity)
        else:
            self._remove(place, stage, identity)
            partial.rename(place)

    def _keep_earlier(self, stage: str, identity: str) -> None:
        """Keep the manifest that a result has, if it is whole, before another one replaces it: what follows from it names its seal."""
        manifest = self.find(stage, identity)
        if manifest is None or not manifest.is_sealed:
            return
        if self.remote is not None:
            data = json.dumps(manifest.document, indent=1, ensure_ascii=False).encode()
            self.remote.keep_earlier(stage, identity, manifest.seal, data)
        else:
            path = self._earlier(stage, identity) / f"{manifest.seal}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_json(path, manifest.document)

    def _earlier(self, stage: str, identity: str) -> Path:
        return self.home / "earlier" / f"{stage}-{identity}"

    def history(self, stage: str, identity: str) -> list[Manifest]:
        """The result's manifest, and before it those that stood there before it was made again; unsealed and unreadable ones left out."""
        now = self.find(stage, identity)
        kept = [_document_in(data) for data in self._earlier_manifests(stage, identity)]
        earlier = [Manifest(self.place(stage, identity), document) for document in kept if document]
        return [one for one in [*earlier, *([now] if now else [])] if one.is_sealed]

    def _earlier_manifests(self, stage: str, identity: str) -> list[bytes]:
        if self.remote is not None:
            return self.remote.earlier(stage, identity)
        return [path.read_bytes() for path in sorted(self._earlier(stage, identity).glob("*.json"))]

    def remembered(self, stage: str, identity: str) -> RememberedDigests:
        """Digests of the result's files as they were last read."""
        path = self.home / "digests" / f"{stage}-{identity}.json"
        return RememberedDigests(path, read=file_digest, write=write_json)

    def _remove(self, folder: Path, stage: str, identity: str) -> None:
        """Remove a folder of this result, if it is there; first by rename, so that it is gone at once."""
        if folder.exists():
            shutil.rmtree(folder.rename(self.root / stage / f"{identity}.old.{os.getpid()}"))


def _readable(folder: Path) -> Manifest | None:
    if not (folder / MANIFEST).is_file():
        return None
    try:
        return read_manifest(folder)
    except DamagedError:
        return None


def _document_in(data: bytes) -> dict[str, Any] | None:
    """A manifest outside its folder; None where it cannot be read."""
    try:
        document = json.loads(data.decode("utf-8"))
        _Document.model_validate(document)
    except ValueError:  # no JSON, no UTF-8, or no manifest
        return None
    return document


def ring_home() -> Path:
    """RING_HOME, else ./.ring; where RING_HOME is an address, the local folder that works with it.

    Raises ValueError for a name that not every program below can carry.
    """
    named = os.environ.get("RING_HOME") or ".ring"
    if is_address(named):
        named = folder_for(named)
    try:
        home = Path(named).expanduser().absolute()
    except RuntimeError as error:
        raise ValueError(f"RING_HOME={named}: {error} Name the folder itself") from error
    if found := _UNWRITABLE.search(str(home)):
        raise ValueError(
            f"the home folder {str(home)!r} holds {found[0]!r}, a control character or no UTF-8; set RING_HOME to another folder"
        )
    if len(os.fsencode(home)) > LONGEST_HOME:
        raise ValueError(
            f"RING_HOME={named[:60]}... has {len(os.fsencode(home))} bytes, at most {LONGEST_HOME} can be used (SQLite's limit); "
            "set it to a folder nearer to the root"
        )
    return home


def open_store(home: Path | None = None) -> Store:
    """The results of the home folder, or of the remote store that is named. Raises ValueError where that one does not answer."""
    home = home or ring_home()
    url = store_url()
    return Store(home, _remote_of(url, home)) if url else Store(home)


@functools.cache
def _remote_of(url: str, home: Path) -> RemoteStore:
    remote = open_remote(url, owner=_owner(home))
    remote.require()
    return remote


def _owner(home: Path) -> str:
    """What locks call this home folder."""
    path = home / "locks" / "owner.json"
    with held(home / "locks" / "owner"):
        if not path.exists():
            write_json(path, uuid.uuid4().hex)
        return json.loads(path.read_text(encoding="utf-8"))
