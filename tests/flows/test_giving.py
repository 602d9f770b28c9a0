"""A model of a chain that is given away, talked to, or served is the model that was evaluated."""

import hashlib
import json
import signal
import subprocess
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from huggingface_hub import ModelCard

from data.domains import DOMAINS
from data.schema import Problem, table_from_problems, write_table
from flows.export.folder import export_model
from flows.export.records import find_records
from stages.records.artifact import ArtifactError, read_manifest
from stages.training.model_card import CARD
from tests.flows.conftest import by_key

NEW_TOKENS, ASKED = 48, 10  # smoke's evaluation.sampling.max_new_tokens; the problems that are asked here


@pytest.fixture(scope="module")
def manifests(smoke):
    return {key: read_manifest(Path(entry["artifact"])) for key, entry in by_key(smoke.document).items()}


@pytest.fixture(scope="module")
def exported(smoke, manifests, tmp_path_factory):
    out = tmp_path_factory.mktemp("given") / "tiny-ring"
    smoke.ring("export", manifests["rl/mixed"].fingerprint[:8], str(out))
    return out


def recorded(manifests, model):
    """(problem, domain, ids) of the evaluation's greedy responses."""
    problems = {row["id"]: row for row in pq.read_table(manifests["curation"].folder / "heldout.parquet").to_pylist()}
    samples = pq.read_table(manifests["evaluation"].folder / "samples.parquet")
    greedy = samples.filter((pc.field("model") == model) & (pc.field("sample") < 0)).to_pylist()
    return [(problems[row["problem_id"]], row) for row in greedy]


def test_the_exported_folder_answers_as_recorded_when_it_is_asked_as_its_card_says(
    exported, manifests, monkeypatch, capsys
):
    text = (exported / CARD).read_text(encoding="utf-8")
    code = text.partition("```python\n")[2].partition("\n```")[0]
    monkeypatch.chdir(exported)
    asked: dict = {}
    exec(compile(code, CARD, "exec"), asked)
    assert capsys.readouterr().out
    greedy, domains = recorded(manifests, "mixed"), set()
    for problem, row in greedy[:: len(greedy) // ASKED]:
        domains.add(problem["domain"])
        answer = asked["answer"](problem["prompt"], problem["domain"], max_new_tokens=NEW_TOKENS)
        assert answer == asked["tokenizer"].decode(row["token_ids"])
    assert domains == {"math", "code", "science"}
    shown = [json.loads(part.partition("\n```")[0]) for part in text.partition("## Scores")[0].split("```json\n")[1:]]
    assert {one["domain"] for one in shown} == domains
    for one in shown:
        assert asked["answer"](one["problem"], one["domain"], max_new_tokens=NEW_TOKENS) == one["answer"]
    config = asked["model"].generation_config
    assert (config.do_sample, config.max_new_tokens, config.temperature) == (True, NEW_TOKENS, 1.0)


def test_the_bytes_are_those_that_were_sealed_and_the_digests_those_of_the_files(smoke, manifests, tmp_path):
    arm = manifests["rl/mixed"]
    document = smoke.ring.json("export", arm.fingerprint[:8], str(tmp_path / "out"))
    sealed = arm.document["files"]
    for one in document["files"]:
        data = (tmp_path / "out" / one["name"]).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (one["num_bytes"], one["sha256"])
        assert one["is_sealed"] == (sealed.get(f"model/{one['name']}", {}).get("sha256") == one["sha256"])
    kept = {one["name"] for one in document["files"] if one["is_sealed"]}
    assert kept == {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    assert document["evaluations"] == [manifests["evaluation"].fingerprint]


def test_the_lines_that_are_printed_are_those_of_sha256sum(smoke, manifests, tmp_path):
    done = smoke.ring("export", manifests["rl/mixed"].fingerprint[:8], str(tmp_path / "out"))
    checked = subprocess.run(["sha256sum", "--check"], input=done.stdout, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "Byte for byte as sealed" in done.stderr


def test_the_front_matter_is_what_the_hub_reads_and_its_scores_are_the_evaluations(exported, manifests):
    found = ModelCard.load(exported / CARD).data
    assert (found.license, found.library_name, found.model_name) == ("apache-2.0", "transformers", "tiny-ring")
    results = json.loads((manifests["evaluation"].folder / "results.json").read_text())
    told = {(one.dataset_name, one.metric_name): one for one in found.eval_results}
    groups = {name.removeprefix("held-out problems: ") for name, _ in told}
    assert groups == {"all", "math", "code", "science", "harder"}
    for group in groups:
        score = results[f"mixed/{group}/greedy"]
        one = told[f"held-out problems: {group}", "accuracy, greedy"]
        assert one.metric_value == round(score["value"], 4)
        assert one.metric_args["low"] == round(score["low"], 4)


def test_the_card_names_every_result_behind_the_model_with_its_seal_and_every_source(exported, manifests):
    text = (exported / CARD).read_text(encoding="utf-8")
    for key in ("curation", "base", "sft", "selection", "rl/mixed"):
        document = manifests[key].document
        assert f"| {document['fingerprint']} | {document['content']} | {document['seal']} |" in text
    assert manifests["rl/phased"].fingerprint not in text
    for source in manifests["curation"].document["payload"]["config"]["sources"]:
        assert f"| {source['name']} | Apache-2.0 |" in text
    score = json.loads((manifests["evaluation"].folder / "results.json").read_text())["mixed/all/pass@1"]
    assert (
        f"{score['value']:.3f} [{score['low']:.3f}, {score['high']:.3f}]".replace("[", "\\[").replace("]", "\\]")
        in text
    )


def test_only_the_model_that_was_evaluated_has_its_scores(manifests):
    chosen = json.loads((manifests["selection"].folder / "choice.json").read_text())["checkpoint"]
    for folder in manifests["sft"].folder.glob("epoch-*"):
        names = [one.name for one in find_records(folder).evaluations]
        assert names == (["sft"] if folder.name == chosen else [])
    phased = manifests["rl/phased"].folder
    assert [one.name for one in find_records(phased / "model").evaluations] == ["phased"]
    assert find_records(phased / "phase-01-math").evaluations == ()


def test_what_was_changed_after_it_was_sealed_is_not_given_away(manifests, tmp_path):
    model = manifests["rl/more-sft"].folder / "model"
    weights = model / "model.safetensors"
    before = weights.read_bytes()
    try:
        weights.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
        with pytest.raises(ArtifactError, match="is not the file that was sealed"):
            export_model(model, tmp_path / "out")
        weights.write_bytes(before)
        (model / "chat_template.jinja").write_text("{{ messages[0].content }}")
        with pytest.raises(ArtifactError, match=r"holds chat_template.jinja, which was not there"):
            export_model(model, tmp_path / "out")
    finally:
        weights.write_bytes(before)
        (model / "chat_template.jinja").unlink(missing_ok=True)
    assert list(tmp_path.iterdir()) == []


def test_an_export_is_a_model_like_any_other_but_one_without_records(smoke, exported, manifests, tmp_path):
    problem = recorded(manifests, "mixed")[0][0]["prompt"]
    asked = [
        smoke.ring.json("model", "ask", name, problem, "--max-new-tokens", "20")
        for name in (str(exported), manifests["rl/mixed"].fingerprint)
    ]
    assert asked[0] == asked[1]
    again = smoke.ring("export", str(exported), str(tmp_path / "again"))
    assert "lies in no result" in again.stderr
    text = (tmp_path / "again" / CARD).read_text(encoding="utf-8")
    assert "nothing is recorded of how it was made" in text
    assert ModelCard.load(tmp_path / "again" / CARD).data.license == "other"


def test_a_folder_that_is_there_stays_as_it_is(smoke, exported, manifests):
    before = {path.name: path.read_bytes() for path in exported.iterdir()}
    done = smoke.ring("export", manifests["rl/mixed"].fingerprint[:8], str(exported), code=2)
    assert "is there already" in done.stderr
    assert {path.name: path.read_bytes() for path in exported.iterdir()} == before


# ---------------------------------------------------------------- ring chat


def test_a_talk_by_pipe_says_the_recorded_answers(smoke, manifests):
    (first, row), _ = recorded(manifests, "mixed")[:2]
    arm = manifests["rl/mixed"].fingerprint[:8]
    done = smoke.ring(
        "chat", arm, "--domain", first["domain"], "--max-new-tokens", str(NEW_TOKENS), input=f"{first['prompt']}\n\n"
    )
    said = " ".join(done.stdout.replace("thinking:", "").replace("answer:", "").split())
    assert said == " ".join(row["response"].replace("</think>", " ").split())
    assert ("cut off" in done.stderr) == row["truncated"]


@pytest.fixture
def served(smoke, manifests):
    process = smoke.ring.start("chat", manifests["rl/mixed"].fingerprint[:8], "--serve", "--port", "0")
    yield process.stdout.readline().strip()
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 0


def test_an_evaluation_of_the_server_finds_the_greedy_accuracy_of_the_folder(smoke, manifests, served, tmp_path):
    rows = [
        Problem(f"aime24/{number}", "math", "eval", problem["prompt"], problem["answer"], source="aime24")
        for number, (problem, row) in enumerate(recorded(manifests, "mixed"))
        if problem["domain"] == "math"
    ][:8]
    write_table(table_from_problems(rows), tmp_path / "sets" / "rows.parquet")
    found, responses = [], []
    for model in (served, manifests["rl/mixed"].fingerprint):
        document = smoke.ring.json(
            "evaluate", model, "--benchmarks", "aime24", "--data-dir", str(tmp_path / "sets"), "--another-version",
            "--samples", "2", "--set", f"evaluation.sampling.max_new_tokens={NEW_TOKENS}",
        )  # fmt: skip
        found.append(
            {key.split("/", 1)[1]: value for key, value in document["results"].items() if key.endswith("greedy")}
        )
        samples = pq.read_table(Path(document["artifact"]) / "samples.parquet")
        greedy = samples.filter(pc.field("sample") < 0).sort_by("problem_id").to_pylist()
        responses.append([_said(row["response"]) for row in greedy])
    assert found[0] == found[1]
    assert responses[0] == responses[1]


def _said(response):
    """Of a response that is cut right behind its thinking no server can tell that the thinking was closed."""
    return response.removeprefix("<think>").removesuffix("</think>").rstrip(" ")


def test_the_domains_of_chat_are_those_of_training(smoke, manifests):
    done = smoke.ring("chat", manifests["rl/mixed"].fingerprint[:8], "--domain", "history", code=2, input="")
    assert f"no domain 'history'; there are {', '.join(DOMAINS)}" in done.stderr
