"""What a chain says of the machine that made it, against results of another kind, against published ones, and by its model's own lines."""

import json
import re
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from stages.records.artifact import read_manifest
from stages.records.machine import kind_of, machine_kind, machine_line
from stages.records.reference import compare, entry_of
from stages.training.model_card import CARD, snippet

ROOT = Path(__file__).resolve().parents[2]
NEW_TOKENS, ASKED = 48, 10  # smoke's evaluation.sampling.max_new_tokens; the problems that are asked here


@pytest.fixture(scope="module")
def manifests(smoke):
    keys = [f"rl/{entry['arm']}" if entry["arm"] else entry["stage"] for entry in smoke.document["stages"]]
    return {
        key: read_manifest(Path(entry["artifact"])) for key, entry in zip(keys, smoke.document["stages"], strict=True)
    }


def test_every_manifest_names_the_machine_and_those_with_torch_the_kernel(smoke, manifests):
    assert {kind_of(one.document) for one in manifests.values()} == {smoke.document["machine"]} == {machine_kind("cpu")}
    assert smoke.document["made_elsewhere"] == {}
    kernels = {key: (one.document["hardware"]["arithmetic"] or {}).get("kernel") for key, one in manifests.items()}
    assert {kernels[key] for key in ("curation", "report")} == {None}
    assert {kernels[key] for key in ("base", "sft", "selection", "rl/mixed", "evaluation")} <= {"mkl", "onednn"}
    page = Path(smoke.document["report"]).read_text(encoding="utf-8")
    assert machine_line(manifests["sft"].document) in page


def test_results_of_another_kind_of_machine_are_told_by_status_and_run_and_recorded(smoke):
    environment = {"ONEDNN_MAX_CPU_ISA": "SSE41"}  # a kind of its own; nothing is computed here
    table = smoke.ring("status", "smoke", env=environment).stdout
    done = smoke.ring("run", "smoke", "--until", "sft", "--json", env=environment)
    for text in (table, done.stderr):
        assert len(re.findall(r"made on another kind of machine: curation, base, sft.*`--rerun curation`", text)) == 1
    assert list(json.loads(done.stdout)["made_elsewhere"]) == ["curation", "base", "sft"]
    assert "another kind" not in smoke.ring("status", "smoke").stdout


def test_a_chain_equals_its_own_reference_and_another_machine_is_compared_by_scores(manifests):
    entry = entry_of(manifests, recipe="smoke", seed=0)
    asked = {"recipe": "smoke", "seed": 0, "kind": entry.kind}
    assert compare(manifests, entries=[entry], **asked) == [
        "all 8 results are equal to what is published for this kind of machine, byte for byte"
    ]
    made = {
        key: one.model_copy(update={"content": "x"}) if key != "curation" else one for key, one in entry.stages.items()
    }
    where, scores = compare(manifests, entries=[entry.model_copy(update={"kind": "z", "stages": made})], **asked)
    assert where.startswith("bytes part at base from what is published for another kind of machine, z")
    assert scores.startswith("8 of 8 scores lie in the intervals there")


def test_the_lines_of_the_model_card_answer_as_recorded_token_for_token(smoke, manifests, monkeypatch, capsys):
    folder = manifests["rl/mixed"].folder / "model"
    code = (folder / CARD).read_text(encoding="utf-8").partition("```python\n")[2].partition("\n```")[0]
    assert code == snippet()
    monkeypatch.chdir(folder)
    asked: dict = {}
    exec(compile(code, str(folder / CARD), "exec"), asked)
    assert capsys.readouterr().out
    problems = {row["id"]: row for row in pq.read_table(manifests["curation"].folder / "heldout.parquet").to_pylist()}
    samples = pq.read_table(manifests["evaluation"].folder / "samples.parquet")
    greedy = samples.filter((pc.field("model") == "mixed") & (pc.field("sample") < 0)).to_pylist()
    domains = set()
    for row in greedy[:: len(greedy) // ASKED]:
        problem = problems[row["problem_id"]]
        domains.add(problem["domain"])
        recorded = asked["tokenizer"].decode(row["token_ids"])
        assert asked["answer"](problem["prompt"], problem["domain"], max_new_tokens=NEW_TOKENS) == recorded
    assert domains == {"math", "code", "science"}


def test_the_documentation_shows_the_lines_of_the_model_card():
    shown = (ROOT / "docs" / "model.md").read_text(encoding="utf-8")
    assert snippet().replace('FOLDER = "."  # this folder', 'FOLDER = "MODEL"  # a model folder of a home') in shown
