"""Questions to a finished chain, by the real commands: verify, lineage, why, diff. Changes are made to copies of its home."""

import hashlib
import json
import re
import shutil
import sqlite3
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from stages.records.artifact import content_digest, document_seal, sealed_files, write_json
from stages.records.rollouts import read_rollouts
from tests.flows.conftest import Ring, by_key

ROLLOUT = ("group", "sample", "status", "problem_id", "extracted", "reason")


@pytest.fixture
def copied(smoke, tmp_path) -> Ring:
    """The chain's home as it was before other tests ran chains there, to be changed."""
    shutil.copytree(smoke.ring.home.with_name("untouched"), tmp_path / "home")
    return Ring(tmp_path / "home")


def result_folder(ring: Ring, smoke, key: str) -> Path:
    entry = by_key(smoke.document)[key]
    return ring.home / "artifacts" / entry["stage"] / entry["fingerprint"]


def sealed_again(folder: Path, **changes) -> None:
    """What somebody does who knows how."""
    document = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    files = sealed_files(folder).files
    document |= {"files": files, "content": content_digest(files), **changes}
    write_json(folder / "manifest.json", {**document, "seal": document_seal(document)})


# ---------------------------------------------------------------- verify


def test_a_copy_of_a_chain_holds_and_has_its_root(smoke, copied) -> None:
    found = copied.json("verify", "--deep")
    assert (found["checked"], found["problems"]) == (len([*copied.home.glob("artifacts/*/*/manifest.json")]), {})
    assert found["root"] == Ring(smoke.ring.home.with_name("untouched")).json("verify")["root"]


OF_EVALUATION = "AND run_uuid IN (SELECT run_uuid FROM runs WHERE name = 'evaluation')"
CHANGES = [
    ("UPDATE latest_metrics SET value = 0.99 WHERE key = 'mixed/all/greedy'", "the metric mixed/all/greedy is 0.99"),
    (
        "UPDATE metrics SET value = 2.0 WHERE key = 'reward/mean' AND step = 2",
        "the metric reward/mean of step 2 is 2.0",
    ),
    ("UPDATE params SET value = '77' WHERE key = 'sft.seed'", "the parameter sft.seed is '77'"),
    ("UPDATE runs SET status = 'FAILED' WHERE name = 'evaluation'", "has the status FAILED"),
    ("UPDATE tags SET value = 'other' WHERE key = 'ring.fingerprint'", "the tag ring.fingerprint is 'other'"),
    ("UPDATE runs SET lifecycle_stage = 'deleted' WHERE name = 'sft'", "which made it, was deleted"),
    (
        f"DELETE FROM latest_metrics WHERE key = 'mixed/all/greedy/low' {OF_EVALUATION}",
        "mixed/all/greedy/low is not there",
    ),
    (
        f"DELETE FROM latest_metrics WHERE (key LIKE '%/low' OR key LIKE '%/high') {OF_EVALUATION}",
        "is not there, the manifest says",
    ),
    (f"DELETE FROM metrics WHERE key = 'mixed/math/greedy' {OF_EVALUATION}", "mixed/math/greedy has no point of"),
    (
        "UPDATE runs SET status = 'FAILED' WHERE name LIKE 'smoke%'",
        "runs.jsonl says finished, MLflow's run has the status",
    ),
    ("UPDATE runs SET lifecycle_stage = 'deleted' WHERE name LIKE 'smoke%'", "says finished, MLflow's run was deleted"),
]


@pytest.mark.parametrize(("change", "said"), CHANGES)
def test_a_record_that_was_changed_is_found(copied, change: str, said: str) -> None:
    with sqlite3.connect(copied.home / "mlflow.db") as database:
        assert database.execute(change).rowcount
    problems = copied.json("verify", code=1)["problems"]
    assert any(line.startswith("records: ") and said in line for lines in problems.values() for line in lines), problems


def test_intervals_that_older_records_hold_in_the_chains_run_are_compared_there(smoke, copied) -> None:
    ends = f"(key LIKE '%/low' OR key LIKE '%/high') {OF_EVALUATION}"
    with sqlite3.connect(copied.home / "mlflow.db") as database:
        for table in ("metrics", "latest_metrics"):
            database.execute(f"UPDATE OR IGNORE {table} SET run_uuid = ? WHERE {ends}", [smoke.document["chain"]])
            database.execute(f"DELETE FROM {table} WHERE {ends}")
    assert copied.json("verify")["problems"] == {}
    with sqlite3.connect(copied.home / "mlflow.db") as database:
        database.execute("UPDATE latest_metrics SET value = 0.99 WHERE key = 'mixed/math/greedy/low'")
    (lines,) = copied.json("verify", code=1)["problems"].values()
    assert "the metric mixed/math/greedy/low is 0.99" in lines[0]


def test_a_page_that_was_changed_is_found_published_or_sealed(smoke, copied) -> None:
    page = copied.home / "reports" / f"{smoke.document['chain']}.html"
    text = page.read_text(encoding="utf-8")
    page.write_text(text.replace("mixed", "MIXED", 1), encoding="utf-8")
    assert "is another page than the sealed" in copied.json("verify", code=1)["problems"][page.stem][0]
    folder = result_folder(copied, smoke, "report")
    (folder / "report.html").write_text(text.replace("greedy", "GREEDY", 1), encoding="utf-8")
    sealed_again(folder)
    assert "says other things than the results" in copied.json("verify", code=1)["problems"][folder.name][0]


def test_the_root_digest_of_the_page_is_the_one_that_verify_compares(smoke, copied) -> None:
    folder = result_folder(copied, smoke, "report")
    text = (folder / "report.html").read_text(encoding="utf-8")
    root = re.search('<code id="root-digest">([0-9a-f]{64})</code>', text)
    evaluation = by_key(smoke.document)["evaluation"]["fingerprint"]
    assert root and f"ring verify {evaluation[:8]} --root {root[1][:8]}" in text
    assert copied.json("verify", evaluation)["root"] == root[1]
    (folder / "report.html").write_text(text.replace(root[1], "0" * 64), encoding="utf-8")
    sealed_again(folder)
    lines = copied.json("verify", code=1)["problems"][folder.name]
    assert f"report.html: prints the root digest {'0' * 12}, what it read has {root[1][:12]}" in lines


# ---------------------------------------------------------------- verify: the ledger of runs


def last_run_of_the_recipe(copied, smoke) -> list[str]:
    """Lines of the ledger, with a second run of the chain, all from the cache."""
    copied("run", "smoke")
    return (copied.home / "runs.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)


def written_again(lines: list[str]) -> list[str]:
    """As somebody writes it who knows how: each line with the sha256 of the one before it."""
    before, found = "0" * 64, []
    for line in lines:
        found.append(json.dumps({**json.loads(line), "before": before}, sort_keys=True, separators=(",", ":")) + "\n")
        before = hashlib.sha256(found[-1].rstrip("\n").encode()).hexdigest()
    return found


def test_a_ledger_that_was_changed_cut_or_written_again_is_found(smoke, copied) -> None:
    chain, path = smoke.document["chain"], copied.home / "runs.jsonl"
    lines = last_run_of_the_recipe(copied, smoke)
    assert copied.json("verify")["problems"] == {}
    second = json.loads(lines[-1])["run"]

    path.write_text("".join(lines).replace('"recipe":"smoke"', '"recipe":"other"', 1), encoding="utf-8")
    assert "was changed, moved or removed" in copied.json("verify", code=1)["problems"]["runs.jsonl"][0]
    path.write_text("".join(lines[:-2]), encoding="utf-8")
    assert "runs.jsonl does not name it" in copied.json("verify", code=1)["problems"][second][0]
    path.unlink()
    assert copied.json("verify", code=1)["problems"].keys() == {chain, second}
    for old, new, said in (
        ('"sft":"', '"sft":"0', "runs.jsonl holds the seal 0"),
        ('"digest":"', '"digest":"0', "its stages are not those that runs.jsonl says were to be made"),
        ('"outcome":"finished"', '"outcome":"failed"', "runs.jsonl says failed, MLflow's run has the status FINISHED"),
    ):
        forged = written_again([line.replace(old, new) if chain in line else line for line in lines])
        path.write_text("".join(forged), encoding="utf-8")
        problems = copied.json("verify", code=1)["problems"]
        assert "runs.jsonl" not in problems and any(said in line for line in problems[chain]), problems


def test_tries_that_are_taken_out_of_a_published_page_are_found(smoke, copied) -> None:
    last_run_of_the_recipe(copied, smoke)
    runs = copied.json("runs", "smoke")["runs"]
    page = copied.home / "reports" / f"{runs[-1]['run']}.html"
    text = page.read_text(encoding="utf-8")
    assert f"{runs[-1]['try']} of exactly this chain" in text
    page.write_text(
        text.replace(f"{runs[-1]['try']} of exactly this chain", "1 of exactly this chain"), encoding="utf-8"
    )
    assert (
        "is another page than was published, by runs.jsonl" in copied.json("verify", code=1)["problems"][page.stem][0]
    )


@pytest.mark.parametrize(
    ("key", "name", "deep"),
    [
        ("evaluation", "mixed/all/greedy", False),
        ("selection", "selection/greedy", False),
        ("rl/mixed", "reward/mean_final", True),
    ],
)
def test_a_metric_that_its_rows_do_not_give_is_found_though_all_was_sealed_again(
    smoke, copied, key, name, deep
) -> None:
    (copied.home / "mlflow.db").unlink()
    folder = result_folder(copied, smoke, key)
    metrics = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["metrics"]
    sealed_again(folder, metrics={**metrics, name: 0.99})
    lines = copied.json("verify", folder.name, *(["--deep"] if deep else []), code=1)["problems"][folder.name]
    assert any(line.startswith(f"recount: {name} is stated as 0.99, the rows give") for line in lines), lines


# ---------------------------------------------------------------- lineage


def test_a_score_leads_to_its_rows_and_only_to_what_it_depends_on(smoke) -> None:
    stages = by_key(smoke.document)
    found = smoke.ring.json("lineage", "mixed/all/greedy")
    (subject,) = found["subjects"]
    stated = smoke.document["results"]["mixed/all/greedy"]
    assert {end: subject[end] for end in stated} == stated == subject["counted_again"]
    prints = {one["fingerprint"] for one in found["results"]}
    assert prints == {
        stages[key]["fingerprint"] for key in ("evaluation", "rl/mixed", "selection", "sft", "base", "curation")
    }
    assert [one["title"].rpartition(" ")[0] for one in subject["tree"]["inputs"]] == [
        "curation",
        "sft",
        "selection",
        "rl mixed",
    ]


@pytest.mark.parametrize("words", [["mixed all greedy"], ["latest", "mixed/all/greedy"], ["mixed", "all", "greedy"]])
def test_a_figure_is_found_as_the_report_or_a_chain_names_it(smoke, words) -> None:
    asked = [
        smoke.document["chain"] if word == "latest" else word for word in words
    ]  # other tests run chains here, too
    (subject,) = smoke.ring.json("lineage", *asked)["subjects"]
    assert subject["name"] == "mixed/all/greedy"


def test_a_number_leads_to_every_figure_that_is_written_so(smoke) -> None:
    value = smoke.document["results"]["sft/all/greedy"]["value"]
    for text in (f"{value:.3f}", f"{100 * value:.1f}%"):
        names = [one["name"] for one in smoke.ring.json("lineage", smoke.document["chain"], text)["subjects"]]
        assert "sft/all/greedy" in names and len(names) <= 10


def test_a_row_and_a_response_have_a_lineage_and_what_is_nothing_is_told(smoke) -> None:
    curation = result_folder(smoke.ring, smoke, "curation")
    name = pq.read_table(curation / "rl.parquet", columns=["id"])["id"][0].as_py()
    (row,) = smoke.ring.json("lineage", name)["subjects"]
    assert (row["kind"], row["outcome"]) == ("row", "kept in rl") and row["passed"][-1] == "mixture"
    arm = result_folder(smoke.ring, smoke, "rl/mixed").name[:8]
    (response,) = smoke.ring.json("lineage", f"{arm}/5/0/1")["subjects"]
    assert response["kind"] == "response" and response["tree"]["title"] == f"rl mixed {arm}"
    said = smoke.ring("lineage", "no such thing", code=2).stderr
    assert "names nothing here" in said and "mixed/all/greedy" in said


# ---------------------------------------------------------------- why


def test_a_rollout_says_why_it_was_judged_so(smoke) -> None:
    folder = result_folder(smoke.ring, smoke, "rl/mixed")
    stored = read_rollouts(folder, 5, ROLLOUT).to_pylist()[3]
    name = f"{folder.name[:8]}/5/{stored['group']}/{stored['sample']}"
    found = smoke.ring.json("why", name)
    assert {key: found["response"][key] for key in ROLLOUT} == stored
    assert found["problem"]["id"] == stored["problem_id"] and found["judged_by"]["judge"]
    (row,) = found["curation"]["rows"]
    assert row["outcome"] == "kept in rl" and row["passed"][0] == "sources"
    said = smoke.ring("why", name).stdout
    assert "the one that stands here" in said and found["problem"]["prompt"].split("\n")[0] in said
    assert name in smoke.ring("rollouts", folder.name[:8], "--step", "5").stdout


def test_an_answer_of_the_evaluation_or_the_selection_says_why(smoke) -> None:
    folder = result_folder(smoke.ring, smoke, "evaluation")
    row = pq.read_table(folder / "samples.parquet", columns=["problem_id", "status"]).to_pylist()[0]
    found = smoke.ring.json("why", f"{folder.name[:8]}/sft/{row['problem_id']}/greedy")
    assert found["response"]["status"] == row["status"] and found["curation"]["rows"][0]["outcome"] == "kept in heldout"
    selection = result_folder(smoke.ring, smoke, "selection")
    name = pq.read_table(selection / "probe.parquet", columns=["problem_id"])["problem_id"][0].as_py()
    assert smoke.ring.json("why", f"{selection.name[:8]}/epoch-01/{name}/1")["response"]["sample"] == 1


@pytest.mark.parametrize(
    "name",
    [
        "{arm}/99/0/0",
        "{arm}/5/0/999",
        "{arm}/x/y/z",
        "{evaluation}/sft/none/greedy",
        "{sft}/1/2/3",
        "{arm}",
        "zz/1/2/3",
    ],
)
def test_a_response_that_is_none_is_one_message(smoke, name: str) -> None:
    ids = {key: result_folder(smoke.ring, smoke, place).name[:8] for key, place in
           (("arm", "rl/mixed"), ("evaluation", "evaluation"), ("sft", "sft"))}  # fmt: skip
    done = smoke.ring("why", name.format(**ids), code=2)
    assert "ring: " in done.stderr and "Traceback" not in done.stderr


# ---------------------------------------------------------------- diff


def test_a_chain_and_itself_do_not_differ(smoke) -> None:
    found = smoke.ring.json("diff", smoke.document["chain"], smoke.document["chain"])
    assert found["kind"] == "chain" and len(found["compared"]) == 9
    assert all(
        not any(one[part] for part in ("values", "code", "files", "metrics")) for one in found["compared"].values()
    )


def test_two_arms_differ_in_their_phases_and_not_in_their_code(smoke) -> None:
    phased, mixed = (result_folder(smoke.ring, smoke, f"rl/{arm}").name for arm in ("phased", "mixed"))
    found = smoke.ring.json("diff", phased[:8], mixed[:8])["compared"]["result"]
    assert {"key": "arms.0.name", "a": "phased", "b": "mixed"} in found["values"]
    assert found["code"] == found["packages"] == found["inputs"] == []
    further = smoke.ring.json("diff", phased[:8], result_folder(smoke.ring, smoke, "rl/more-sft").name)["compared"][
        "result"
    ]
    assert {row["key"] for row in further["code"]} >= {"stages.rl.loop", "stages.sft.further"}


def test_recipes_differ_value_by_value_with_the_line_that_states_each(smoke, tmp_path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('from = "smoke"\n\n[sft]\nseed = 5\n', encoding="utf-8")
    found = smoke.ring.json("diff", "smoke", str(path))
    (row,) = [row for row in found["values"] if row["key"] == "sft.seed"]
    assert (row["b"], row["b from"]) == ("5", "mine.toml:4")


def test_scores_of_the_same_problems_are_paired(smoke, copied) -> None:
    """An evaluation whose first right greedy answer of `mixed` is made wrong: one of n problems differs, by -1."""
    folder = result_folder(copied, smoke, "evaluation")
    other = folder.with_name("0" * 32)
    shutil.copytree(folder, other)
    rows = pq.read_table(other / "samples.parquet").to_pylist()
    n = smoke.document["results"]["mixed/all/greedy"]["n"]
    changed = next(
        row
        for row in rows
        if row["model"] == "mixed" and row["sample"] == -1 and row["problem_id"].startswith("heldout")
    )
    before, changed["score"] = changed["score"], 1 - changed["score"]
    schema = pq.read_schema(other / "samples.parquet")
    pq.write_table(pq.read_table(other / "samples.parquet").from_pylist(rows, schema=schema), other / "samples.parquet")
    results = json.loads((other / "results.json").read_text(encoding="utf-8"))
    results["mixed/all/greedy"]["value"] += (1 - 2 * before) / n
    write_json(other / "results.json", results)
    sealed_again(other, fingerprint="0" * 32)
    found = copied.json("diff", folder.name[:8], "00000000")["compared"]["result"]
    (row,) = [row for row in found["metrics"] if row["metric"] == "mixed/all/greedy"]
    assert row["compared"] == "paired by problem" and row["n"] == n
    assert row["difference"] == pytest.approx((1 - 2 * before) / n) and row["low"] < row["difference"] < row["high"]
