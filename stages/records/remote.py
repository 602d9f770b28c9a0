"""Results in a store that several machines reach: objects under an fsspec address, as `s3://bucket/prefix`.

`<prefix>/artifacts/<stage>/<fingerprint>/` holds `manifest.json` and, as `<sha256>/<name>`, the files that it lists. An object store
knows no rename: files are uploaded first, the manifest last with one PUT, and a result is there when its manifest is. A file's key holds
its sha256, so that two machines which upload to one result never change a file of the other's: whichever manifest stands is of a whole
result. `<prefix>/earlier/` holds the manifests that were replaced, `<prefix>/locks/` who builds what.

A lock is a row of numbered objects, of which the last counts: its holder writes it again every `beat_seconds`, and marks it at the end.
To take it over is to create the next number where none is (`If-None-Match: *`), so that one of any number of takers wins. Whoever waits
tells by its own clock that the holder has stopped writing, so that clocks of machines need not agree.

S3 needs s3fs (extra `s3`): pyarrow's S3 has no conditional PUT, without which no lock is safe. Everything here is fsspec's own
interface, but that in a folder (`file://`) objects are created and replaced by `stages.records.folder_objects`; `memory://` works within
one process. Any other store shows before its first lock that an object is not created over another, and is refused where it is.
"""

import contextlib
import ftplib
import hashlib
import importlib
import json
import os
import platform
import re
import threading
import time
import uuid
from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

import fsspec
from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from stages.records.folder_objects import create_whole, write_whole

MANIFEST = "manifest.json"
BEAT_SECONDS = 10.0  # between two signs of life of a lock's holder
STALE_SECONDS = 60.0  # without one: the lock is taken over
_POLL_SECONDS = 1.0
_BLOCK_BYTES = 1 << 20
_UPLOADS = 8  # at once
_UNFINISHED = "unfinished"  # of a store that is a folder: where objects are written before they take their names
_WITHOUT_BUCKETS = ("file", "local", "memory")
_PASSWORD = re.compile(r"://[^/:\s]*:[^/\s]*@")


class RemoteError(ValueError):
    """The store cannot be reached, or not with these credentials, or holds other bytes than its manifests say."""


@dataclass(frozen=True, slots=True)
class RemoteObject:
    """One object as a listing tells of it; `tag` changes whenever the object is written."""

    num_bytes: int
    tag: str


def _errors() -> tuple[type[Exception], ...]:
    """What a file system raises where a store does not answer as it should: OSError, ftplib's, and botocore's, where that is installed."""
    with contextlib.suppress(ImportError):
        return *ftplib.all_errors, importlib.import_module("botocore.exceptions").BotoCoreError
    return ftplib.all_errors


@dataclass(frozen=True, slots=True)
class RemoteStore:
    """The objects of one store. Every method raises RemoteError where the store does not answer."""

    url: str
    owner: str  # of locks: names the local folder that works with this store
    fs: Any  # an fsspec file system; the package has no types
    root: str  # path of the prefix in it
    beat_seconds: float = BEAT_SECONDS
    stale_seconds: float = STALE_SECONDS
    whole: set[tuple[str, str]] = field(
        default_factory=set
    )  # (seal, part) that this process has seen in its local folder
    held: dict[str, "RemoteLock"] = field(default_factory=dict)  # by name, those of this process
    proven: threading.Event = field(
        default_factory=threading.Event
    )  # set once the store has refused to create over an object

    # ------------------------------------------------------------ manifests

    def manifest(self, stage: str, identity: str) -> bytes | None:
        """The manifest's bytes; None where there is no such result."""
        return self._read(self._key("artifacts", stage, identity, MANIFEST))

    def manifests(self) -> dict[tuple[str, str], bytes | None]:
        """(stage, fingerprint) -> manifest of every result; None where files lie there and no manifest."""
        with self._told():
            names = [
                name
                for stage in self._below("artifacts")
                for name in self._below("artifacts", stage.rpartition("/")[2])
            ]
            keys = {f"{name}/{MANIFEST}": name for name in names}
            found = self.fs.cat(list(keys), on_error="return") if keys else {}
        told = {}
        for key, name in sorted(keys.items()):
            text = found[key]
            if isinstance(text, Exception) and not isinstance(text, FileNotFoundError):
                raise self._error(text) from text
            stage, identity = name.split("/")[-2:]
            told[stage, identity] = text if isinstance(text, bytes) else None
        return told

    def earlier(self, stage: str, identity: str) -> list[bytes]:
        """The manifests that stood there before, in the order of their names."""
        with self._told():
            names = self._below("earlier", f"{stage}-{identity}")
            return [self.fs.cat_file(name) for name in sorted(names)]

    def keep_earlier(self, stage: str, identity: str, seal: str, data: bytes) -> None:
        """Keep a manifest that is about to be replaced."""
        self._write(self._key("earlier", f"{stage}-{identity}", f"{seal}.json"), data)

    # ------------------------------------------------------------ files

    def objects(self, stage: str, identity: str, files: Mapping[str, Mapping[str, Any]]) -> dict[str, RemoteObject]:
        """Of the files that a manifest lists those that are there, by name."""
        with self._told():
            found = self.fs.find(self._key("artifacts", stage, identity), detail=True)
        keys = {self._file(stage, identity, name, entry["sha256"]): name for name, entry in files.items()}
        return {keys[key]: RemoteObject(info["size"], _tag(info)) for key, info in found.items() if key in keys}

    def open(self, stage: str, identity: str, name: str, sha256: str) -> IO[bytes]:
        """A file of a result as a stream in which one can seek: what is not asked for is not transferred, and nothing is verified."""
        with self._told():
            return self.fs.open(self._file(stage, identity, name, sha256), "rb", block_size=_BLOCK_BYTES)

    def digest(self, stage: str, identity: str, name: str, sha256: str) -> str:
        """sha256 of every byte of a file."""
        return self._stream(self._file(stage, identity, name, sha256), lambda _: None)

    def fetch(self, stage: str, identity: str, name: str, sha256: str, *, into: Path) -> str:
        """Bring a file to `into`, which holds it when its bytes are the right ones; returns the sha256 that they have."""
        into.parent.mkdir(parents=True, exist_ok=True)
        beside = into.with_name(f".{into.name}.{os.getpid()}")
        try:
            with beside.open("wb") as stream:
                actual = self._stream(self._file(stage, identity, name, sha256), stream.write)
                stream.flush()
                os.fsync(stream.fileno())
            if actual == sha256:
                beside.replace(into)
        finally:
            beside.unlink(missing_ok=True)
        return actual

    def _stream(self, key: str, take: Callable[[bytes], Any]) -> str:
        """Hash a file while it comes."""
        found = hashlib.sha256()
        with self._told(), self.fs.open(key, "rb", block_size=8 * _BLOCK_BYTES, cache_type="readahead") as stream:
            while block := stream.read(_BLOCK_BYTES):
                found.update(block)
                take(block)
        return found.hexdigest()

    def upload(self, stage: str, identity: str, folder: Path, files: Mapping[str, Mapping[str, Any]]) -> None:
        """Bring a result's files here, each under its sha256. They are no result until `publish`."""
        keys = {str(folder / name): self._file(stage, identity, name, entry["sha256"]) for name, entry in files.items()}
        with self._told():
            for key in keys.values():
                self._make_parent(key)
            if keys:
                self.fs.put([*keys], [*keys.values()], batch_size=_UPLOADS)

    def publish(self, stage: str, identity: str, data: bytes, *, replaces: bool) -> bool:
        """Write a manifest with one PUT; returns whether it stands there. Unless it `replaces`, the first of several is kept."""
        key = self._key("artifacts", stage, identity, MANIFEST)
        return self._write(key, data) if replaces else self._create(key, data)

    def drop_others(self, stage: str, identity: str, files: Mapping[str, Mapping[str, Any]]) -> None:
        """Remove objects of a result that its manifest does not list: of killed uploads, and of the result that it replaced."""
        kept = {self._file(stage, identity, name, entry["sha256"]) for name, entry in files.items()}
        kept.add(self._key("artifacts", stage, identity, MANIFEST))
        with self._told():
            left = [key for key in self.fs.find(self._key("artifacts", stage, identity)) if key not in kept]
            if left:
                self.fs.rm(left)

    # ------------------------------------------------------------ locks

    @contextlib.contextmanager
    def lock(self, name: str, *, meanwhile: Callable[[], None] | None = None) -> Generator["RemoteLock"]:
        """One holder at a time over all machines. `meanwhile` is called over and over while another holds it, and may raise to give up.

        Raises RemoteError where the store knows no conditional writes.
        """
        self._require_conditional_writes()
        number = self._taken(name, meanwhile=meanwhile)
        lock = RemoteLock(self, name, number)
        has_ended = threading.Event()
        beating = threading.Thread(target=lock.beat, args=(has_ended,), name=f"lock-{name[:20]}", daemon=True)
        self.held[name] = lock
        beating.start()
        try:
            yield lock
        finally:
            del self.held[name]
            has_ended.set()
            beating.join()
            with contextlib.suppress(RemoteError):  # whoever waits takes it over when it is stale
                lock.release()

    def _taken(self, name: str, *, meanwhile: Callable[[], None] | None) -> int:
        """Wait until the lock is free, stale, or left by a dead process of this very folder; returns the number that is ours."""
        seen: tuple[int, bytes | None] | None = None
        since = time.monotonic()
        while True:
            number, data = self.lock_state(name)
            if (number, data) != seen:
                seen, since = (number, data), time.monotonic()
            is_stale = time.monotonic() - since >= self.stale_seconds
            if is_stale or self._is_free(data):
                if self._is_won(name, number + 1):
                    return number + 1
                continue
            if meanwhile:
                meanwhile()
            time.sleep(min(_POLL_SECONDS, self.stale_seconds / 10))

    def _is_won(self, name: str, number: int) -> bool:
        """Create a number. It is ours unless others took it, let go and dropped it since we looked: then a later one is there."""
        if not self._create(self._lock_key(name, number), self._note(is_released=False)):
            return False
        is_last = self.lock_state(name)[0] == number
        if is_last:
            self._drop_locks(name, before=number)
        else:
            self._remove(self._lock_key(name, number))
        return is_last

    def _is_free(self, data: bytes | None) -> bool:
        """Nobody has it, its holder let go, or it died: of one local folder only the holder of its own lock comes here."""
        note = _json(data) if data is not None else {"is_released": True}
        return bool(note.get("is_released")) or note.get("owner") == self.owner

    def lock_state(self, name: str) -> tuple[int, bytes | None]:
        """The last number of a lock, 0 for none, and what is written there."""
        with self._told():
            numbers = [int(key.rpartition("/")[2]) for key in self._below("locks", name)]
        last = max(numbers, default=0)
        return last, self._read(self._lock_key(name, last)) if last else None

    def write_lock(self, name: str, number: int, *, is_released: bool) -> None:
        """The holder's sign of life, and its last one."""
        self._write(self._lock_key(name, number), self._note(is_released=is_released))

    def _drop_locks(self, name: str, *, before: int) -> None:
        """The last number stays, so that none is ever given twice."""
        with self._told():
            old = [key for key in self._below("locks", name) if int(key.rpartition("/")[2]) < before]
        for key in old:
            self._remove(key)

    def _note(self, *, is_released: bool) -> bytes:
        note = {
            "owner": self.owner,
            "host": platform.node(),
            "pid": os.getpid(),
            "at": time.time(),
            "is_released": is_released,
        }
        return json.dumps(note).encode()

    def _lock_key(self, name: str, number: int) -> str:
        return self._key("locks", name, f"{number:012d}")

    # ------------------------------------------------------------ marks

    @contextlib.contextmanager
    def marked(self, name: str) -> Generator[None]:
        """Meanwhile an object of this name is here, by which another machine sees that it has the same store."""
        key = self._key("marks", name)
        self._write(key, b"")
        try:
            yield
        finally:
            with contextlib.suppress(RemoteError), self._told():
                self.fs.rm(key)

    def is_marked(self, name: str) -> bool:
        """Whether somebody marked it so."""
        return self._read(self._key("marks", name)) is not None

    # ------------------------------------------------------------ objects

    def require(self) -> None:
        """Raises RemoteError unless the store answers, with a sentence that says what to do."""
        with self._told():
            try:
                self.fs.ls(self.root.partition("/")[0] if self._is_bucket() else "/", detail=False)
            except FileNotFoundError:
                raise self._missing() from None

    def _is_bucket(self) -> bool:
        return urlsplit(self.url).scheme not in _WITHOUT_BUCKETS

    def _is_folder(self) -> bool:
        return isinstance(self.fs, LocalFileSystem)

    def _key(self, *parts: str) -> str:
        return "/".join([self.root, *parts])

    def _file(self, stage: str, identity: str, name: str, sha256: str) -> str:
        return self._key("artifacts", stage, identity, sha256, name)

    def _below(self, *parts: str) -> list[str]:
        """Keys and prefixes directly below a prefix."""
        try:
            return [name.rstrip("/") for name in self.fs.ls(self._key(*parts), detail=False)]
        except FileNotFoundError:
            return []

    def _read(self, key: str) -> bytes | None:
        with self._told():
            try:
                return self.fs.cat_file(key)
            except FileNotFoundError:
                return None

    def _write(self, key: str, data: bytes) -> bool:
        with self._told():
            self._make_parent(key)
            if self._is_folder():
                write_whole(Path(key), data, beside=Path(self._key(_UNFINISHED)))
            else:
                self.fs.pipe_file(key, data)
        return True

    def _create(self, key: str, data: bytes) -> bool:
        """Write an object that is not there yet; whether this call did."""
        with self._told():
            self._make_parent(key)
            if self._is_folder():
                return create_whole(Path(key), data, beside=Path(self._key(_UNFINISHED)))
            try:
                self.fs.pipe_file(key, data, mode="create")
            except FileExistsError:
                return False
        return True

    def _remove(self, key: str) -> None:
        """Remove an object, if nobody else did."""
        with self._told(), contextlib.suppress(FileNotFoundError):
            self.fs.rm(key)

    def _require_conditional_writes(self) -> None:
        """Asked of a store once, where it does not hold by itself. Raises RemoteError where an object is created over another."""
        if self.proven.is_set() or self._is_folder():
            return
        if not self._refuses_to_create_twice():
            raise RemoteError(
                f"the store {self.url} does not know conditional writes (`If-None-Match: *`), so that two machines could hold one lock; "
                "name a bucket of a server that does, or a folder that all machines reach (file://)"
            )
        self.proven.set()

    def _refuses_to_create_twice(self) -> bool:
        if getattr(self.fs.pipe_file, "__func__", None) is fsspec.AbstractFileSystem.pipe_file:
            return False  # fsspec's own asks whether there is one, and writes then
        probe = self._key("probes", uuid.uuid4().hex)
        try:
            return self._create(probe, b"probe") and not self._create(probe, b"probe")
        except (NotImplementedError, TypeError):  # of a file system that has no `mode`
            return False
        finally:
            self._remove(probe)

    def _make_parent(self, key: str) -> None:
        if not self._is_bucket():
            self.fs.makedirs(key.rpartition("/")[0], exist_ok=True)

    @contextlib.contextmanager
    def _told(self) -> Generator[None]:
        try:
            yield
        except _errors() as error:
            raise self._error(error) from error

    def _missing(self) -> RemoteError:
        bucket = self.root.partition("/")[0]
        return RemoteError(
            f"{self.url}: there is no bucket {bucket!r}; make it, or name another in RING_STORE (or RING_HOME)"
        )

    def _error(self, error: Exception) -> RemoteError:
        if isinstance(error, FileNotFoundError) and "bucket" in str(error):
            return self._missing()
        text = " ".join(str(error).split())[:300]
        silent = f"nothing answers ({text}); is the network up, and AWS_ENDPOINT_URL right?"
        what = {
            "NoCredentialsError": "no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE",
            "PermissionError": f"the credentials are not accepted, or do not allow it ({text})",
            "EndpointConnectionError": silent,
            "ConnectTimeoutError": silent,
            "ReadTimeoutError": silent,
            "FileNotFoundError": f"an object is gone ({text}); another machine may have made its result again: run the command again",
        }.get(type(error).__name__, f"{type(error).__name__}: {text}")
        return RemoteError(f"the store {self.url}: {what}")


@dataclass(slots=True)
class RemoteLock:
    """A lock that is held, under one number."""

    store: RemoteStore
    name: str
    number: int

    def is_ours(self) -> bool:
        """Whether nobody has taken it over."""
        return self.store.lock_state(self.name)[0] == self.number

    def beat(self, has_ended: threading.Event) -> None:
        """Write signs of life until it has ended. A store that does not answer is asked again: what is lost is told by `is_ours`."""
        while not has_ended.wait(self.store.beat_seconds):
            with contextlib.suppress(RemoteError):
                if not self.is_ours():
                    return
                self.store.write_lock(self.name, self.number, is_released=False)

    def release(self) -> None:
        """Let go, unless it was taken over."""
        if self.is_ours():
            self.store.write_lock(self.name, self.number, is_released=True)


def open_remote(url: str, *, owner: str) -> RemoteStore:
    """The store under an fsspec address.

    Raises ValueError for one that no file system here serves, or that names no bucket, and RemoteError where nothing answers.
    """
    scheme = urlsplit(url).scheme
    try:
        fs, root = url_to_fs(url, **({} if scheme in _WITHOUT_BUCKETS else {"use_listings_cache": False}))
    except ImportError as error:
        extra = "pip install -e '.[s3]' -c constraints.txt" if scheme in ("s3", "s3a") else str(error)
        raise ValueError(f"{url}: results under {scheme}:// need a package that is not installed: {extra}") from error
    except ValueError as error:
        known = ", ".join(sorted({"s3", "gs", "abfs", "file"} & set(fsspec.available_protocols())))
        raise ValueError(f"{url}: {error}; known are {known} and others of fsspec") from error
    except _errors() as error:
        raise RemoteError(
            f"the store {url}: nothing answers ({error}); is the network up, and the address right?"
        ) from error
    if not root.strip("/"):
        raise ValueError(f"{url} names no bucket; write {scheme}://BUCKET/PREFIX")
    return RemoteStore(url.rstrip("/"), owner, fs, root.rstrip("/"))


def is_address(named: str) -> bool:
    """Whether what RING_HOME names is a store and no folder."""
    return "://" in named


def store_url() -> str:
    """Address of the store: RING_STORE, else RING_HOME where that is one; else empty.

    Raises ValueError for a RING_STORE that is none, and for an address with a password.
    """
    named = os.environ.get("RING_STORE") or ""
    if named and not is_address(named):
        raise ValueError(f"RING_STORE={named}: no address; write s3://BUCKET/PREFIX, or name a folder in RING_HOME")
    home = os.environ.get("RING_HOME") or ""
    url = named or (home if is_address(home) else "")
    _require_no_password(url, "RING_STORE" if named else "RING_HOME")
    return url


def _require_no_password(url: str, variable: str) -> None:
    """What an address holds is printed, recorded and handed to other processes; so the message does not repeat it."""
    if _PASSWORD.search(url):
        raise ValueError(
            f"{variable} holds a password, and addresses are printed and recorded: leave `user:password@` out, and name the credentials "
            "by the environment (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE)"
        )


def folder_for(url: str) -> str:
    """RING_CACHE, else a folder of the user's cache named after RING_HOME's address; what is lost there is made or fetched again.

    Raises ValueError for an address with a password.
    """
    _require_no_password(url, "RING_HOME")
    if named := os.environ.get("RING_CACHE"):
        return named
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    name = re.sub(r"[^A-Za-z0-9.-]+", "-", url.rstrip("/")).strip("-")[:60]
    return f"{cache}/ring/{name}-{hashlib.sha256(url.rstrip('/').encode()).hexdigest()[:8]}"


def _tag(info: Mapping[str, Any]) -> str:
    """What a listing gives that changes when an object does: S3's ETag, else the time."""
    return str(info.get("ETag") or info.get("etag") or info.get("mtime") or info.get("created") or "")


def _json(data: bytes) -> dict[str, Any]:
    """A lock's note; one that is half written says nothing, so that it is held until it is stale."""
    try:
        found = json.loads(data)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def is_weight(name: str) -> bool:
    """Whether a file holds weights of a model."""
    return name.endswith(".safetensors")


def is_response(name: str) -> bool:
    """Whether a file holds the responses of a step of RL."""
    return name.startswith("rollouts/")


def parts_of(names: Iterable[str], part: str) -> list[str]:
    """Of the files of a result those of a part: `all`; `small`, without weights and responses; `responses`; `folder/`; else one name."""
    wanted: Mapping[str, Callable[[str], bool]] = {
        "all": lambda _: True,
        "small": lambda name: not is_weight(name) and not is_response(name),
        "responses": is_response,
    }
    is_wanted = wanted.get(part) or (lambda name: name.startswith(part) if part.endswith("/") else name == part)
    return [name for name in names if is_wanted(name)]
