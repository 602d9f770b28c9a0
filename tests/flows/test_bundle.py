"""`ring bundle` on a real chain: a stranger finds every number, and every change."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys

import pytest

from benchmarks.tampering import KINDS, TRIES, copied, tamper
from flows.bundle import attestation, check

NO_EXTRA = f"the extra `attest` is not installed: {attestation.ABSENT}"


@pytest.fixture(scope="module")
def published(smoke, tmp_path_factory):
    """The folder and what the command said."""
    out = tmp_path_factory.mktemp("published") / "chain"
    return out, smoke.ring.json("bundle", smoke.document["chain"], str(out))


def _check(folder, *arguments):
    """In an environment of Python and nothing else."""
    command = [sys.executable, "-I", "-S", "-B", str(folder / "check.py"), *arguments]
    return subprocess.run(command, env={}, cwd="/", capture_output=True, text=True)


def test_it_holds_on_another_path_read_only_for_python_alone(published, tmp_path):
    moved = shutil.copytree(published[0], tmp_path / "elsewhere" / "under another name")
    for place, _, files in os.walk(moved, topdown=False):
        for name in files:
            os.chmod(os.path.join(place, name), 0o444)  # noqa: PTH101, PTH118
        os.chmod(place, 0o555)  # noqa: PTH101
    done = _check(moved, "--root", published[1]["root"])
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"root {published[1]['root']}" in done.stdout and not done.stderr
    for place, _, _ in os.walk(moved):
        os.chmod(place, 0o755)  # noqa: PTH101


def test_every_number_of_the_run_is_made_again_with_the_same_digits(published, smoke):
    bundle = check.Bundle(published[0])
    again = bundle.evaluation.results()
    assert again.keys() == smoke.document["results"].keys()
    for name, entry in smoke.document["results"].items():
        assert all(check.same(again[name][end], entry[end]) for end in entry)
    name = next(one for one in again if one.endswith("mixed/all/greedy"))
    said = _check(published[0], "--number", name).stdout.splitlines()
    assert said[-1].removeprefix("published:  ") == said[-2].removeprefix("made again: ")
    assert f"{smoke.document['results'][name]['low']:.12g}" in said[-1]
    assert len(said) == again[name]["n"] + 3
    assert _check(published[0], "--number", "mixed/all/guessed").returncode == 1


def test_its_digest_is_printed_where_people_read(published):
    folder, said = published
    assert all(
        said["root"] in (folder / name).read_text() for name in ("README.md", "data/report.html", "bag-info.txt")
    )


def test_how_often_the_chain_was_tried_stands_in_the_folder(published, smoke):
    folder, _ = published
    runs = [row["run"] for row in smoke.ring.json("runs", "smoke")["runs"]]
    tries = check.Bundle(folder).tries
    assert len(tries["runs"]) + tries["num_earlier"] == runs.index(smoke.document["chain"]) + 1
    assert check.tries_line(tries) in (folder / "README.md").read_text()
    assert tries["said"] in (folder / check.REPORT).read_text()
    sealed = next(folder.glob("data/results/report/*/report.html")).read_text()
    assert tries["said"] not in sealed and "ring runs" in sealed


def test_the_lists_are_those_of_sha256sum(published):
    for listing in (check.BAG_FILES, check.BAG_TAGS):
        done = subprocess.run(
            ["sha256sum", "-c", "--quiet", "--strict", listing], cwd=published[0], capture_output=True
        )
        assert done.returncode == 0, done.stdout


def test_each_statement_names_what_its_result_was_made_from(published):
    for key, manifest in check.Bundle(published[0]).by_key.items():
        path = published[0] / check.STATEMENTS / f"{key.replace('/', '-')}.json"
        statement = json.loads(path.read_text())
        named = {one["name"]: one["digest"]["sha256"] for one in statement["predicate"]["resolvedDependencies"]}
        assert named.pop("code") == manifest["payload"]["code"]
        assert named == {name: entry["content"] for name, entry in manifest["inputs"].items()}
        assert len(statement["subject"]) == len(manifest["files"])


def test_without_weights_and_rollouts_the_root_is_the_same(published, smoke, tmp_path):
    said = smoke.ring.json("bundle", "latest", str(tmp_path / "slim"), "--slim")
    assert said["left_out"] and said["bytes"] < published[1]["bytes"] / 1.5
    if smoke.document["chain"] == said["chain"]:
        assert said["root"] == published[1]["root"]
    assert not [*(tmp_path / "slim").rglob("*.safetensors")]
    assert _check(tmp_path / "slim").returncode == 0


def test_every_change_is_found_and_the_untouched_folder_holds(published):
    assert len(KINDS) >= 40
    with copied(published[0]) as folder:
        tries = [*tamper(folder, root=published[1]["root"], num=TRIES)]
        assert check.faults_of(check.Bundle(folder), root=published[1]["root"]) == []
    assert len(tries) == TRIES
    assert [one.kind for one in tries if not one.found_by] == []
    assert {one.found_by for one in tries if one.skill == "forged"} == {
        ("--root",),
        ("tables",),
    }  # the second by pyarrow


def test_what_is_there_already_stays(smoke, tmp_path):
    done = smoke.ring("bundle", "latest", str(tmp_path), code=2)
    assert "is there already" in done.stderr and not [*tmp_path.iterdir()]
    assert "no finished chain begins with" in smoke.ring("bundle", "beef", str(tmp_path / "new"), code=2).stderr


def test_a_metric_that_was_changed_in_the_records_is_not_published(smoke, tmp_path):
    home = shutil.copytree(smoke.ring.home, tmp_path / "home", ignore=shutil.ignore_patterns("prefect", "logs"))
    run = json.loads(next(home.glob("artifacts/evaluation/*/manifest.json")).read_text())["mlflow_run_id"]
    with sqlite3.connect(home / "mlflow.db") as records:
        for table in ("metrics", "latest_metrics"):
            records.execute(f"UPDATE {table} SET value = 0.99 WHERE run_uuid = ? AND key = 'mixed/all/greedy'", [run])
    done = smoke.ring("bundle", smoke.document["chain"], str(tmp_path / "out"), code=1, env={"RING_HOME": str(home)})
    assert "mixed/all/greedy of evaluation is not recorded" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["home"]


@pytest.mark.skipif(attestation.is_there(), reason="the extra `attest` is installed")
def test_a_signature_without_the_extra_is_refused_before_anything_is_made(smoke, tmp_path):
    done = smoke.ring("bundle", "latest", str(tmp_path / "out"), "--sign", "key.pem", code=2)
    assert "--sign needs the extra `attest`" in done.stderr and not [*tmp_path.iterdir()]


@pytest.mark.skipif(not attestation.is_there(), reason=NO_EXTRA)
def test_a_signed_folder_verifies_until_a_byte_changes_and_its_descriptions_are_read(smoke, tmp_path):
    key, public, out = tmp_path / "key.pem", tmp_path / "key.pub", tmp_path / "signed"
    subprocess.run(["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", key], check=True)
    subprocess.run(["openssl", "ec", "-in", key, "-pubout", "-out", public], check=True, capture_output=True)
    smoke.ring("bundle", smoke.document["chain"], str(out), "--sign", str(key))
    assert _check(out).returncode == 0
    from model_signing import hashing, verifying

    hashed = hashing.Config().set_ignored_paths(paths=[check.SIGNATURE], ignore_git_paths=False)
    verifier = verifying.Config().set_hashing_config(hashed).use_elliptic_key_verifier(public_key=public)
    verifier.verify(out, out / check.SIGNATURE)
    import mlcroissant

    dataset = mlcroissant.Dataset(out / attestation.CROISSANT)
    assert next(iter(dataset.records("rl")))
    crate = json.loads((out / attestation.CRATE).read_text())
    assert {"CreateAction", "Dataset"} <= {str(one["@type"]) for one in crate["@graph"]}
    (out / "data/chain.json").write_text("{}")
    with pytest.raises(ValueError, match=r"chain\.json"):
        verifier.verify(out, out / check.SIGNATURE)
