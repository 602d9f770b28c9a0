"""Stages in work pools: two workers as two hosts that share a bucket, one of them killed; a chain that is stopped; hosts that differ."""

import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec
import pytest

from flows.launch import Chain
from flows.placed import asked_of, inputs_of, require_same_stage, require_whole_paths, understood
from flows.terminal import PlainDisplay
from stages.config import Runtime
from stages.errors import StageError
from stages.plan import PlannedStage, plan_chain
from stages.recipe import load_recipe
from stages.records.artifact import Store, fingerprint
from stages.records.tracking import Tracker
from tests.flows.conftest import Ring, by_key
from tests.flows.servers import asked, awaited, up
from tests.flows.test_storage import Machine

BUCKET = "s3://placed/team"
LONG = ("--set", "sft.training.epochs=12")  # so that it is at work for half a minute


# ---------------------------------------------------------------- what a host makes sure of


def planned(key: str, *, data_dir: Path | None = None) -> PlannedStage:
    return next(spec for spec in plan_chain(load_recipe("smoke").recipe, data_dir=data_dir) if spec.key == key)


@pytest.fixture(scope="module")
def tracker(tmp_path_factory) -> Tracker:
    return Tracker(tmp_path_factory.mktemp("records"), "smoke")


def asked_by(spec: PlannedStage, tracker: Tracker, tmp_path: Path) -> dict[str, Any]:
    chain = Chain(
        [spec],
        store=Store(tmp_path),
        tracker=tracker,
        run_id="c1",
        runtime=Runtime(),
        display=PlainDisplay(),
        prefect_run=None,
    )
    return json.loads(json.dumps(asked_of(spec, chain=chain, replaces="").model_dump(mode="json")))


@pytest.mark.parametrize(
    "key", ["curation", "base", "sft", "selection", "rl/mixed", "rl/more-sft", "evaluation", "report"]
)
def test_a_stage_arrives_as_it_was_planned(tracker, tmp_path, key):
    spec = planned(key)
    arrived = understood(asked_by(spec, tracker, tmp_path)).planned()
    assert arrived == spec
    require_same_stage(arrived)


def test_another_version_and_another_payload_are_refused():
    spec = planned("base")
    payload = {**spec.payload, "code": "0" * 64}
    with pytest.raises(ValueError, match="base: what came is not what"):
        require_same_stage(dataclasses.replace(spec, payload=payload))
    with pytest.raises(
        ValueError, match=r"the code on .* is not the chain's: give this host the project in the same version"
    ):
        require_same_stage(dataclasses.replace(spec, payload=payload, fingerprint=fingerprint(payload)))
    payload = {**spec.payload, "domains": {"chess": "0" * 64}}
    with pytest.raises(ValueError, match=r"the domains on .* is not the chain's: give this host the same RING_DOMAINS"):
        require_same_stage(dataclasses.replace(spec, payload=payload, fingerprint=fingerprint(payload)))


def test_what_only_another_version_knows_is_refused(tracker, tmp_path):
    asked = asked_by(planned("base"), tracker, tmp_path)
    for other in ({**asked, "colour": "red"}, {**asked, "module": "stages.colour"}, {}):
        with pytest.raises(
            ValueError, match="give this host the project in the same version, and start its worker again"
        ):
            understood(other)


@pytest.mark.parametrize(
    ("home", "cache", "wrong"),
    [
        ("results", None, "RING_HOME=results"),
        (None, None, "RING_HOME=.ring"),
        ("s3://bucket/team", "one", "RING_CACHE=one"),
        ("s3://bucket/team", None, None),
        ("/results", "~/one", None),
    ],
)
def test_a_worker_names_its_folders_by_their_whole_paths(monkeypatch, home, cache, wrong):
    for name, value in (("RING_HOME", home), ("RING_CACHE", cache)):
        monkeypatch.setenv(name, value) if value else monkeypatch.delenv(name, raising=False)
    if wrong is None:
        require_whole_paths()
        return
    with pytest.raises(ValueError, match=f"runs with {wrong}, and a flow run works in a folder of its own"):
        require_whole_paths()


def test_files_outside_the_store_must_be_the_same(tmp_path):
    rows = tmp_path / "own" / "rows.jsonl"
    rows.parent.mkdir()
    rows.write_text("".join(json.dumps({"prompt": f"{n} + 1", "answer": str(n + 1)}) + "\n" for n in range(3)))
    recipe = load_recipe(
        "smoke", overrides=(f'curation.sources=[{{kind="files", name="own", folder="{rows}"}}]',)
    ).recipe
    spec = plan_chain(recipe, until="curation")[0]
    require_same_stage(spec)
    rows.write_text(rows.read_text().replace("1 + 1", "1 + 2"))
    with pytest.raises(
        ValueError, match=r"curation reads source/own, and .*rows.jsonl is another file .*\(1 of 1 files\)"
    ):
        require_same_stage(spec)
    rows.unlink()
    with pytest.raises(ValueError, match=r"rows.jsonl is missing on .* give it the same files under the same path"):
        require_same_stage(spec)


def test_a_stage_without_its_inputs_is_not_begun(tmp_path):
    with pytest.raises(StageError, match="sft: the results of curation, base are not there"):
        inputs_of(planned("sft"), store=Store(tmp_path))


# ---------------------------------------------------------------- with real servers and workers


@dataclass(frozen=True)
class Site:
    """Servers, and machines that reach them and the bucket."""

    folder: Path
    reach: Mapping[str, str]
    api: str

    def machine(self, name: str, *, url: str = BUCKET) -> Machine:
        return Machine(self.folder / name, url, self.reach)

    @contextmanager
    def host(self, name: str, *, pool: str, url: str = BUCKET) -> Generator[Machine]:
        """A machine with a worker of a pool. When it ends, all that runs on it is killed at once."""
        machine = self.machine(name, url=url)
        environment = {**machine.environment, "PREFECT_HOME": str(machine.home / "prefect")}
        command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", pool, "--name", name]
        machine.home.mkdir()
        with (self.folder / f"{name}.log").open("wb") as log:
            worker = subprocess.Popen(command, env=environment, cwd=self.folder, stdout=log, stderr=log)
        try:
            yield machine
        finally:
            kill(machine)
            worker.wait()

    def runs(self, name: str) -> list[str]:
        """States of the flow runs of a name, in the order of their beginnings."""
        found = asked(self.api, "flow_runs/filter", flow_runs={"name": {"any_": [name]}}, sort="START_TIME_ASC")
        return [run["state_type"] for run in found]

    def cancel(self, name: str) -> None:
        """As the button does, or `prefect flow-run cancel`."""
        running = {"name": {"any_": [name]}, "state": {"type": {"any_": ["RUNNING"]}}}
        (run,) = asked(self.api, "flow_runs/filter", flow_runs=running)
        asked(self.api, f"flow_runs/{run['id']}/set_state", state={"type": "CANCELLING"})


def processes_on(machine: Machine) -> dict[int, str]:
    """Process -> command of all that runs on a machine."""
    found = {}
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdigit() and f"RING_CACHE={machine.home}\0".encode() in (folder / "environ").read_bytes():
                found[int(folder.name)] = (folder / "cmdline").read_text()
        except OSError:
            continue
    return {pid: command for pid, command in found.items() if command}


def kill(machine: Machine) -> None:
    while there := processes_on(machine):
        for pid in there:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        time.sleep(0.05)


@pytest.fixture(scope="module")
def site(tmp_path_factory, s3_server) -> Generator[Site]:
    folder = tmp_path_factory.mktemp("site")
    key, secret, endpoint = (
        s3_server[f"AWS_{name}"] for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "ENDPOINT_URL")
    )
    fsspec.filesystem("s3", key=key, secret=secret, endpoint_url=endpoint).mkdir("placed")
    with up(Ring(folder / "servers")) as servers:
        named = {"PREFECT_API_URL": servers.api, "MLFLOW_TRACKING_URI": servers.records}
        yield Site(folder, {**s3_server, **named}, servers.api)


def pools(**by_stage: str) -> tuple[str, str]:
    named = ", ".join(f'{stage} = "{pool}"' for stage, pool in by_stage.items())
    return "--set", f"runtime.pools={{{named}}}"


def awaited_line(child: subprocess.Popen[str], pattern: str) -> list[str]:
    """Read what a chain says until a line matches."""
    assert child.stderr is not None
    said = []
    for line in child.stderr:
        said.append(line)
        if re.search(pattern, line):
            return said
    raise AssertionError("".join(said))


@pytest.mark.slow
def test_a_host_that_is_killed_loses_its_stage_to_another_and_the_bytes_are_the_same(site):
    chain = site.machine("chain")
    with site.host("judge", pool="cpu-judge"), site.host("one", pool="gpu") as one:
        child = chain.start(
            "run", "smoke", "--until", "sft", *LONG, *pools(curation="cpu-judge", base="gpu", sft="gpu"), "--json"
        )
        said = awaited_line(child, r"sft .*steps")
        kill(one)
        with site.host("two", pool="gpu"):
            out, err = child.communicate(timeout=600)
    assert child.returncode == 0, err
    assert re.search(r"sft +nothing was heard of \S+ \(one\) for \d+ s: it is handed to the pool again", err)
    assert not re.search("nothing was heard", "".join(said))
    assert (site.runs("smoke base"), site.runs("smoke sft")) == (["COMPLETED"], ["CRASHED", "COMPLETED"])
    document = json.loads(out)
    assert {key: entry["status"] for key, entry in by_key(document).items()} == dict.fromkeys(
        ("curation", "base", "sft"), "ran"
    )
    assert [*(site.folder / "two" / "artifacts" / "sft").iterdir()]
    assert not [*chain.home.glob("artifacts/*/*.partial")]

    assert chain.json("verify")["problems"] == {}
    again = chain("run", "smoke", "--until", "sft", "--rerun", "sft", *LONG)
    assert "sft            reproduced byte for byte" in again.stderr


@pytest.mark.slow
def test_on_a_shared_disk_the_next_host_goes_on_from_the_last_checkpoint(site):
    disk = str(site.folder / "disk")
    chain = site.machine("boss", url=disk)
    with site.host("four", pool="gpu", url=disk) as four:
        child = chain.start("run", "smoke", "--until", "sft", *LONG, *pools(sft="gpu"), "--json")
        awaited_line(child, r"sft .*[1-9]\d*/\d+ steps")
        kill(four)
        with site.host("five", pool="gpu", url=disk):
            out, err = child.communicate(timeout=600)
    assert child.returncode == 0, err
    assert by_key(json.loads(out))["sft"]["status"] == "resumed"
    found = Ring(Path(disk))("runs", "--json", env=chain.environment)
    assert [run["outcome"] for run in json.loads(found.stdout)["runs"]] == ["finished"]


@pytest.mark.slow
def test_a_chain_that_is_stopped_ends_its_stage_on_the_host_and_a_stage_that_is_cancelled_ends_its_chain(site):
    chain = site.machine("stopped")
    asked_for = ("run", "smoke", "--until", "sft", "--set", "sft.training.epochs=60", *pools(sft="gpu"))
    with site.host("three", pool="gpu") as host:
        for stop, said in (
            (lambda child: child.send_signal(signal.SIGINT), "stopped: sft"),
            (lambda _: site.cancel("smoke sft"), "sft was cancelled in Prefect; the same command goes on"),
        ):
            child = chain.start(*asked_for)
            awaited_line(child, r"sft .*steps")
            assert any("stages.worker" in command for command in processes_on(host).values())
            stop(child)
            told = child.communicate(timeout=90)[1]
            assert (child.returncode, said in told, "Traceback" in told) == (130, True, False), told
            awaited(lambda: not any("stages.worker" in command for command in processes_on(host).values()), seconds=60)
    outcomes = [run["outcome"] for run in chain.json("runs")["runs"]]
    assert outcomes == ["stopped", "stopped"]


@pytest.mark.slow
def test_what_cannot_be_is_told_before_anything_is_computed(site):
    chain = site.machine("refused")
    told = chain("run", "smoke", *pools(base="tpu"), code=2).stderr
    assert "runtime.pools names 'tpu', and the Prefect server at" in told
    assert "has no deployment placed-stage/tpu: start `ring up`" in told
    with site.host("elsewhere", pool="cpu-judge", url="s3://placed/another"):
        told = chain(
            "run", "smoke", "--until", "curation", "--rerun", "curation", *pools(curation="cpu-judge"), code=2
        ).stderr
    assert (
        "has its results in s3://placed/another, the chain in s3://placed/team: start it with the chain's RING_STORE"
        in told
    )
    assert "Traceback" not in told
