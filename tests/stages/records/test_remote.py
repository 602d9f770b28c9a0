"""A remote store, against a real S3 server on loopback: whole results, one builder, bytes that are what the manifest says."""

import contextlib
import dataclasses
import hashlib
import json
import socket
import subprocess
import sys
import threading
import time

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from stages.records.artifact import ArtifactError, Store, fingerprint, folder_problems, open_store, ring_home
from stages.records.remote import RemoteError, open_remote, store_url
from stages.stage import STATE
from tests.stages.records.test_artifact import DOCUMENT as PLAIN
from tests.stages.records.test_artifact import PAYLOAD

IDENTITY = fingerprint(PAYLOAD)
DOCUMENT = {"payload": PAYLOAD, **PLAIN}
WEIGHTS = "epoch-01/model.safetensors"
CONFIG = "epoch-01/config.json"
RESPONSES = "rollouts/step-000001.parquet"


@pytest.fixture
def bucket(s3_server, monkeypatch, request) -> str:
    """A bucket of the test's own, and credentials for it."""
    for name, value in s3_server.items():
        monkeypatch.setenv(name, value)
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    name = f"b{hashlib.sha256(request.node.name.encode()).hexdigest()[:20]}"
    fsspec.filesystem("s3").mkdir(name)
    return name


def machine(folder, bucket: str, **seconds: float) -> Store:
    """A machine: a local folder of its own, the one store."""
    remote = open_remote(f"s3://{bucket}/results", owner=folder.name)
    return Store(folder, dataclasses.replace(remote, **seconds))


def build(store: Store, text: str = "weights") -> None:
    """What a stage leaves in the folder where it is built."""
    partial = store.prepare("sft", IDENTITY, afresh=False)
    for name in (WEIGHTS, CONFIG, RESPONSES):
        (partial / name).parent.mkdir(exist_ok=True)
        (partial / name).write_text(f"{name} {text}")
    (partial / "tables.json").write_text(json.dumps({"text": [{"is": text}]}))


def seal(store: Store):
    return store.seal(stage="sft", identity=IDENTITY, document=DOCUMENT)


def key_of(store: Store, name: str) -> str:
    entry = store.find("sft", IDENTITY).document["files"][name]
    return f"{store.remote.root}/artifacts/sft/{IDENTITY}/{entry['sha256']}/{name}"


def names_in(folder) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_another_machine_finds_a_result_and_brings_what_it_reads(tmp_path, bucket):
    first, second = machine(tmp_path / "one", bucket), machine(tmp_path / "two", bucket)
    build(first)
    made = seal(first)
    found = second.find("sft", IDENTITY)
    assert (found, second.all(), second.problems("sft", IDENTITY, reads_all=False)) == (
        dataclasses.replace(made, place=found.place),
        [found],
        [],
    )
    assert not found.place.exists()
    assert found.tables() == {"text": [{"is": "weights"}]}
    assert names_in(found.place) == {"tables.json", "manifest.json"}
    assert names_in(found.folder) == {"tables.json", "manifest.json", CONFIG}
    assert names_in(found.folder_of_responses) == {"tables.json", "manifest.json", CONFIG, RESPONSES}
    assert found.folder_with("epoch-01").joinpath(WEIGHTS).read_text() == f"{WEIGHTS} weights"
    assert folder_problems(found.whole_folder) == []


def test_without_its_manifest_nothing_is_a_result_and_the_next_run_ends_the_upload(tmp_path, bucket):
    store, other = machine(tmp_path / "one", bucket), machine(tmp_path / "two", bucket)
    build(store)
    made = seal(store)
    store.remote.fs.rm(f"{store.remote.root}/artifacts/sft/{IDENTITY}/manifest.json")
    store.remote.fs.rm(
        [f"{store.remote.root}/artifacts/sft/{IDENTITY}/{made.document['files'][WEIGHTS]['sha256']}"], recursive=True
    )
    assert (store.find("sft", IDENTITY), other.all(), other.folders()) == (None, [], [])
    assert [stray.is_expected for stray in other.strays()] == [True]
    assert not other.deliver("sft", IDENTITY)
    assert store.deliver("sft", IDENTITY)
    assert other.problems("sft", IDENTITY, reads_all=True) == []
    assert other.find("sft", IDENTITY).document == made.document


SLOW_SEALER = """
import sys
from pathlib import Path
from stages.records.artifact import Store
from stages.records.remote import open_remote
from tests.stages.records.test_remote import IDENTITY, build, seal

store = Store(Path(sys.argv[1]), open_remote(sys.argv[2], owner="one"))
with store.claim("sft", IDENTITY, meanwhile=lambda: None):
    build(store)
    for number in range(200):
        (store.partial("sft", IDENTITY) / f"file-{number}").write_text(str(number))
    seal(store)
"""


@pytest.mark.slow
def test_a_machine_killed_while_it_uploads_leaves_no_result_and_goes_on(tmp_path, bucket):
    other, again = machine(tmp_path / "two", bucket, stale_seconds=1.0), machine(tmp_path / "one", bucket)
    url = again.remote.url
    sealer = subprocess.Popen([sys.executable, "-c", SLOW_SEALER, str(tmp_path / "one"), url])
    while not other.strays():
        assert sealer.poll() is None
        time.sleep(0.05)
    sealer.kill()
    sealer.wait()
    assert (other.all(), len(other.strays())) == ([], 1)
    with again.claim("sft", IDENTITY, meanwhile=lambda: None):  # its own folder need not wait
        assert again.deliver("sft", IDENTITY)
    assert other.problems("sft", IDENTITY, reads_all=True) == []
    assert len(other.find("sft", IDENTITY).document["files"]) == 204


def test_a_changed_object_is_found_by_who_reads_it_and_never_used(tmp_path, bucket):
    first, second = machine(tmp_path / "one", bucket), machine(tmp_path / "two", bucket)
    build(first)
    seal(first)
    key = key_of(first, WEIGHTS)
    first.remote.fs.pipe_file(key, first.remote.fs.cat_file(key)[:-1] + b"!")
    assert [line.partition(":")[0] for line in first.problems("sft", IDENTITY, reads_all=True)] == [WEIGHTS]
    assert second.problems("sft", IDENTITY, reads_all=False) == []  # the size is right, and nobody read it here
    found = second.find("sft", IDENTITY)
    with pytest.raises(RemoteError, match=r"epoch-01/model\.safetensors has the sha256 .* is not used"):
        _ = found.whole_folder
    assert not (found.place / WEIGHTS).exists()
    assert [line.partition(":")[0] for line in second.problems("sft", IDENTITY, reads_all=False)] == [WEIGHTS]
    assert first.deliver("sft", IDENTITY)  # where it is whole
    assert second.problems("sft", IDENTITY, reads_all=False) == second.problems("sft", IDENTITY, reads_all=True) == []
    assert found.whole_folder.joinpath(WEIGHTS).read_text() == f"{WEIGHTS} weights"


def test_a_missing_object_and_a_changed_manifest_are_found(tmp_path, bucket):
    store = machine(tmp_path / "one", bucket)
    build(store)
    seal(store)
    store.remote.fs.rm(key_of(store, CONFIG))
    assert store.problems("sft", IDENTITY, reads_all=False) == [f"{CONFIG}: missing"]
    key = f"{store.remote.root}/artifacts/sft/{IDENTITY}/manifest.json"
    store.remote.fs.pipe_file(key, store.remote.fs.cat_file(key).replace(b'"ran"', b'"RAN"'))
    assert store.problems("sft", IDENTITY, reads_all=False)[-1].startswith("seal: ")
    store.remote.fs.pipe_file(key, b"{")
    assert store.find("sft", IDENTITY) is None
    assert store.problems("sft", IDENTITY, reads_all=False)[0].startswith("manifest: ")


def test_a_copy_here_that_was_changed_is_fetched_again(tmp_path, bucket):
    first, second = machine(tmp_path / "one", bucket), machine(tmp_path / "two", bucket)
    build(first)
    seal(first)
    path = second.find("sft", IDENTITY).file(CONFIG)
    path.write_text("x")
    again = machine(tmp_path / "two", bucket)
    assert again.find("sft", IDENTITY).file(CONFIG).read_text() == f"{CONFIG} weights"


def test_of_two_sealers_whole_results_stand_whichever_is_last(tmp_path, bucket):
    stores = [machine(tmp_path / name, bucket) for name in ("one", "two")]
    for store in stores:
        build(store, text=store.home.name)
    threads = [threading.Thread(target=seal, args=(store,)) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    third = machine(tmp_path / "three", bucket)
    assert third.problems("sft", IDENTITY, reads_all=True) == []
    text = third.find("sft", IDENTITY).tables()["text"][0]["is"]
    assert third.find("sft", IDENTITY).whole_folder.joinpath(WEIGHTS).read_text() == f"{WEIGHTS} {text}"


def test_a_result_that_is_made_again_replaces_the_first_whose_manifest_is_kept(tmp_path, bucket):
    first, second = machine(tmp_path / "one", bucket), machine(tmp_path / "two", bucket)
    build(first, text="first")
    before = seal(first)
    with second.claim("sft", IDENTITY, meanwhile=time.sleep):
        build(second, text="second")
        after = seal(second)
    assert [one.seal for one in first.history("sft", IDENTITY)] == [before.seal, after.seal]
    assert first.find("sft", IDENTITY).tables() == {"text": [{"is": "second"}]}
    objects = second.remote.fs.find(f"{second.remote.root}/artifacts")
    assert len(objects) == len(after.document["files"]) + 1  # none of the first is left
    assert folder_problems(first.find("sft", IDENTITY).whole_folder) == []


# ---------------------------------------------------------------- locks


def test_one_of_many_machines_holds_a_lock(tmp_path, bucket):
    inside, most, count = [], [], 4

    def work(store: Store) -> None:
        with store.remote.lock("sft-x"):
            inside.append(store.home.name)
            most.append(len(inside))
            time.sleep(0.05)
            inside.remove(store.home.name)

    stores = [machine(tmp_path / str(number), bucket, stale_seconds=5.0) for number in range(count)]
    threads = [threading.Thread(target=work, args=(store,)) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * count
    assert len(stores[0].remote.fs.find(f"{bucket}/results/locks")) == 1


def test_a_lock_whose_holder_died_is_taken_when_it_is_stale_and_at_once_by_its_own_folder(tmp_path, bucket):
    dead, same, other = (machine(tmp_path / name, bucket, stale_seconds=1.0) for name in ("one", "one", "two"))
    number = dead.remote._taken("sft-x", meanwhile=None)  # and no sign of life follows
    began = time.monotonic()
    with other.remote.lock("sft-x") as lock:
        assert time.monotonic() - began >= 1.0
        assert lock.number == number + 1
    dead.remote._taken("sft-x", meanwhile=None)
    with same.remote.lock("sft-x") as lock:
        assert lock.number == number + 3


def test_a_holder_that_gives_signs_of_life_keeps_its_lock(tmp_path, bucket):
    one, two = (machine(tmp_path / name, bucket, beat_seconds=0.1, stale_seconds=2.0) for name in ("one", "two"))

    class EnoughError(Exception):
        pass

    until = time.monotonic() + 5.0

    def give_up() -> None:
        if time.monotonic() > until:
            raise EnoughError

    with one.remote.lock("sft-x") as lock:
        with pytest.raises(EnoughError), two.remote.lock("sft-x", meanwhile=give_up):
            pass
        assert lock.is_ours()


def test_who_lost_its_lock_changes_no_result(tmp_path, bucket):
    slow, quick = (machine(tmp_path / name, bucket, beat_seconds=60.0, stale_seconds=0.5) for name in ("one", "two"))
    with slow.claim("sft", IDENTITY, meanwhile=time.sleep):
        build(slow, text="slow")
        with quick.claim("sft", IDENTITY, meanwhile=lambda: None):
            build(quick, text="quick")
            seal(quick)
        with pytest.raises(ArtifactError, match="another machine took over"):
            seal(slow)
    assert quick.find("sft", IDENTITY).tables() == {"text": [{"is": "quick"}]}
    assert quick.problems("sft", IDENTITY, reads_all=True) == []


def test_a_number_that_was_taken_and_dropped_since_a_taker_looked_gives_no_lock(tmp_path):
    slow, second, third = (open_remote(f"memory://{tmp_path}", owner=name) for name in ("one", "two", "three"))
    with contextlib.ExitStack() as stack:
        held = []

        def others_take_it() -> None:
            with second.lock("sft-x") as lock:
                held.append(lock)
            held.append(stack.enter_context(third.lock("sft-x")))

        class Slow(MemoryFileSystem):
            """Others take the lock, twice, before the first object is created."""

            cachable = False

            def pipe_file(self, path, value, mode="overwrite", **kwargs):
                if mode == "create" and not held:
                    others_take_it()
                super().pipe_file(path, value, mode=mode, **kwargs)

        class WaitsError(Exception):
            pass

        def wait() -> None:
            raise WaitsError

        slow = dataclasses.replace(slow, fs=Slow(), proven=second.proven)
        second.proven.set()
        with pytest.raises(WaitsError), slow.lock("sft-x", meanwhile=wait):
            pass
        assert [lock.number for lock in held] == [1, 2]
        assert held[1].is_ours()
        assert [key[-1] for key in slow.fs.find(slow.root)] == ["2"]


def test_of_many_that_create_one_object_in_a_folder_one_does(tmp_path):
    stores = [open_remote(f"file://{tmp_path}", owner=str(number)) for number in range(4)]
    rounds, winners = 200, []
    together = threading.Barrier(len(stores))

    def take(store) -> None:
        for number in range(rounds):
            together.wait()
            if store._create(store._lock_key("sft-x", number), store.owner.encode()):
                winners.append((number, store.owner.encode()))

    threads = [threading.Thread(target=take, args=(store,)) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(winners) == [
        (number, stores[0]._read(stores[0]._lock_key("sft-x", number))) for number in range(rounds)
    ]
    assert not list((tmp_path / "unfinished").iterdir())


def test_a_manifest_in_a_folder_is_whole_whenever_it_is_read(tmp_path):
    store = open_remote(f"file://{tmp_path}", owner="one")
    texts = [bytes([number]) * 200_000 for number in range(2)]
    store.publish("sft", IDENTITY, texts[0], replaces=False)
    has_ended, seen = threading.Event(), set()

    def read() -> None:
        while not has_ended.is_set():
            seen.add(store.manifest("sft", IDENTITY))

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(200):
        store.publish("sft", IDENTITY, texts[number % 2], replaces=True)
    has_ended.set()
    reader.join()
    assert seen <= set(texts)
    assert not store.publish("sft", IDENTITY, texts[0], replaces=False)
    assert store.manifest("sft", IDENTITY) == texts[1]


class Careless(MemoryFileSystem):
    """Writes over what is there, as servers do that know no `If-None-Match`."""

    cachable = False

    def pipe_file(self, path, value, mode="overwrite", **kwargs):
        super().pipe_file(path, value, **kwargs)


class Asking(Careless):
    """Writes as fsspec does for a file system that says nothing of it."""

    pipe_file = fsspec.AbstractFileSystem.pipe_file


@pytest.mark.parametrize("kind", [Careless, Asking])
def test_a_store_without_conditional_writes_gives_no_lock_and_is_read_all_the_same(tmp_path, kind):
    remote = dataclasses.replace(open_remote(f"memory://{tmp_path}", owner="one"), fs=kind())
    remote.require()
    assert remote.manifests() == {}
    with pytest.raises(RemoteError, match=r"memory://.* does not know conditional writes"), remote.lock("sft-x"):
        pass
    assert remote.fs.find(remote.root) == []


def test_a_store_is_asked_once_whether_it_knows_conditional_writes(bucket):
    asked = []

    class Counting(type(fsspec.filesystem("s3"))):
        cachable = False

        async def _pipe_file(self, path, data, **kwargs):
            asked.append(path)
            return await super()._pipe_file(path, data, **kwargs)

    remote = dataclasses.replace(open_remote(f"s3://{bucket}/results", owner="one"), fs=Counting())
    for _ in range(2):
        with remote.lock("sft-x"):
            pass
    assert ["/probes/" in path for path in asked] == [True, True, False, False, False, False]  # taken, and let go
    assert [key.split("/")[2] for key in remote.fs.find(remote.root)] == ["locks"]


# ---------------------------------------------------------------- streams and messages


def test_a_column_of_a_table_is_read_without_the_others(tmp_path, bucket):
    store, other = machine(tmp_path / "one", bucket), machine(tmp_path / "two", bucket)
    build(store)
    numbers = np.random.default_rng(0).random((8, 500_000))
    pq.write_table(
        pa.table({f"c{number}": row for number, row in enumerate(numbers)}),
        store.partial("sft", IDENTITY) / "big.parquet",
    )
    seal(store)
    found = other.find("sft", IDENTITY)
    with other.open(found, "big.parquet") as stream:
        table = pq.ParquetFile(stream, pre_buffer=False).read(columns=["c3"])
        transferred = stream.cache.total_requested_bytes
    assert table["c3"].to_pylist()[:3] == numbers[3][:3].tolist()
    assert transferred < found.document["files"]["big.parquet"]["bytes"] / 2
    assert not found.place.exists()


def test_what_keeps_the_store_from_answering_is_told(tmp_path, bucket, monkeypatch):
    with pytest.raises(RemoteError, match=r"there is no bucket 'nowhere'; make it"):
        open_remote("s3://nowhere/x", owner="me").require()
    with pytest.raises(ValueError, match="names no bucket"):
        open_remote("s3://", owner="me")
    with pytest.raises(ValueError, match="nosuch"):
        open_remote("nosuch://a/b", owner="me")
    fs = fsspec.get_filesystem_class("s3")
    fs.clear_instance_cache()
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(RemoteError, match=r"nothing answers .* is the network up"):
        open_remote(f"s3://{bucket}/x", owner="me").require()
    fs.clear_instance_cache()
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    with pytest.raises(RemoteError, match="no credentials: set AWS_ACCESS_KEY_ID"):
        open_remote(f"s3://{bucket}/x", owner="me").require()
    fs.clear_instance_cache()


def test_a_store_that_cannot_be_reached_when_it_is_opened_is_named():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        url = f"ftp://127.0.0.1:{taken.getsockname()[1]}/results"
        with pytest.raises(RemoteError, match=f"the store {url}: nothing answers .*refused"):
            open_remote(url, owner="me")


@pytest.mark.parametrize(
    "url", ["s3://me:geheim@bucket/results", "simplecache::ftp://me:ge@heim@host/x", "sftp://:geheim@host/x"]
)
@pytest.mark.parametrize("variable", ["RING_STORE", "RING_HOME"])
def test_an_address_with_a_password_is_refused_and_not_repeated(monkeypatch, tmp_path, url, variable):
    monkeypatch.setenv("RING_HOME", str(tmp_path))
    monkeypatch.setenv(variable, url)
    with pytest.raises(ValueError, match=rf"^{variable} holds a password.* by the environment") as caught:
        open_store()
    assert "heim" not in str(caught.value)
    monkeypatch.setenv(variable, "abfs://container@account.dfs.core.windows.net/a:b@c")
    assert store_url().startswith("abfs://")  # a user alone, or a key, is no password


def test_an_address_as_home_has_a_local_folder_of_its_own(tmp_path, bucket, monkeypatch):
    monkeypatch.setenv("RING_HOME", f"s3://{bucket}/team")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert ring_home().parent == tmp_path / "ring"
    assert (store_url(), open_store().remote.url) == (f"s3://{bucket}/team", f"s3://{bucket}/team")
    monkeypatch.setenv("RING_CACHE", str(tmp_path / "mine"))
    assert ring_home() == tmp_path / "mine"
    monkeypatch.setenv("RING_HOME", str(tmp_path / "home"))
    assert (ring_home(), store_url()) == (tmp_path / "home", "")
    monkeypatch.setenv("RING_STORE", f"s3://{bucket}/team")
    assert open_store().remote.url == f"s3://{bucket}/team"
    monkeypatch.setenv("RING_STORE", "somewhere")
    with pytest.raises(ValueError, match="no address"):
        open_store()


@pytest.mark.parametrize("scheme", ["file", "memory"])
def test_other_addresses_of_fsspec_hold_results_as_well(tmp_path, scheme):
    url = f"{scheme}://{tmp_path / 'store'}"
    one, two = (Store(tmp_path / name, open_remote(url, owner=name)) for name in ("one", "two"))
    with one.claim("sft", IDENTITY, meanwhile=lambda: None):
        build(one)
        made = seal(one)
    assert two.find("sft", IDENTITY).document == made.document
    assert two.problems("sft", IDENTITY, reads_all=True) == []
    assert folder_problems(two.find("sft", IDENTITY).whole_folder) == []
    assert (tmp_path / "one" / "artifacts" / "sft" / IDENTITY / STATE).exists() is False
