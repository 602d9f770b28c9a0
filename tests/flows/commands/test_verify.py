"""`ring verify` on results made by hand: each kind of change that a store can suffer is found, and the untouched one holds."""

import json
import os
import shutil

import pyarrow as pa
import pytest

from flows.commands.verify import verify
from stages.records.artifact import content_digest, document_seal, list_files, root_digest, sealed_files, write_json
from stages.records.run_ledger import RunLedger


@pytest.fixture
def chain(seal):
    """An SFT, an arm and an evaluation of them."""
    sft = seal("sft", files={"weights": "w"}, metrics={"sft/loss": 0.5})
    arm = seal("rl", sft, arm="mixed", files={"weights": "v"})
    return sft, arm, seal("report", sft, arm, files={"note": "n"})


def found(capsys, *arguments, **options):
    """Exit code, and what --json says."""
    code = verify(*arguments, json_=True, **options)
    return code, json.loads(capsys.readouterr().out)


def sealed_again(manifest, **changes):
    """What somebody does who knows how: files listed and seal made anew."""
    files = sealed_files(manifest.folder).files
    document = {**manifest.document, "files": files, "content": content_digest(files), **changes}
    write_json(manifest.folder / "manifest.json", {**document, "seal": document_seal(document)})


def test_an_untouched_store_holds_and_its_root_is_the_same_every_time(chain, capsys) -> None:
    code, first = found(capsys)
    assert (code, first["checked"], first["problems"]) == (0, 3, {})
    assert first["root"] == found(capsys)[1]["root"]
    assert found(capsys, root=first["root"])[0] == 0


# ---------------------------------------------------------------- what lies in a result


def nested_manifest(folder):
    (folder / "model").mkdir()
    (folder / "model" / "manifest.json").write_text("{}")


def state(folder):
    (folder / ".state").mkdir()
    (folder / ".state" / "evil.py").write_text("")


def nested_state(folder):
    (folder / "model" / ".state").mkdir(parents=True)
    (folder / "model" / ".state" / "evil.py").write_text("")


def link_to_folder(folder):
    (folder / "more").symlink_to(folder.parent)


def empty_folder(folder):
    (folder / "empty").mkdir()


def pipe(folder):
    os.mkfifo(folder / "pipe")


def link_in_place_of_a_file(folder):
    elsewhere = folder.parents[2] / "weights"
    (folder / "weights").rename(elsewhere)
    (folder / "weights").symlink_to(elsewhere)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (nested_manifest, "model/manifest.json: not in the manifest"),
        (state, ".state/evil.py: not in the manifest"),
        (nested_state, "model/.state/evil.py: not in the manifest"),
        (link_to_folder, "more: a link"),
        (empty_folder, "empty: an empty folder"),
        (pipe, "pipe: neither a file nor a folder"),
        (link_in_place_of_a_file, "weights: a link"),
    ],
)
def test_whatever_else_lies_in_a_result_is_found(chain, capsys, change, said: str) -> None:
    change(chain[0].folder)
    code, document = found(capsys)
    assert code == 1
    (line,) = document["problems"][chain[0].fingerprint]
    assert line.startswith(said)


@pytest.mark.parametrize("name", ["{}.x", "copy", "{}.old.x"])
def test_a_copy_beside_the_results_is_told(chain, capsys, name: str) -> None:
    folder = chain[0].folder
    shutil.copytree(folder, beside := folder.with_name(name.format(folder.name)))
    code, document = found(capsys)
    told = (
        str(beside) if "." in beside.name else beside.name
    )  # without a dot it is taken for a result, under a wrong name
    assert code == 1 and [*document["problems"]] == [told]


def test_what_runs_leave_is_told_and_breaks_nothing(chain, capsys) -> None:
    partial = chain[0].folder.with_name("0" * 32 + ".partial")
    partial.mkdir()
    code, document = found(capsys)
    assert code == 0 and "half built" in document["notes"][str(partial)][0]


def test_a_folder_that_is_no_stage_is_told(chain, home, capsys) -> None:
    (home / "artifacts" / "elsewhere").symlink_to(home)
    assert [*found(capsys)[1]["problems"]] == [str(home / "artifacts" / "elsewhere")]


# ---------------------------------------------------------------- what was sealed again


def test_a_parent_that_was_sealed_again_is_found_by_its_children(chain, capsys) -> None:
    for changes in (
        {"metrics": {"sft/loss": 0.1}},
        {"notes": ["nothing to see"]},
        {"code": {"commit": "other", "dirty": False}},
    ):
        sealed_again(chain[0], **changes)
        code, document = found(capsys)
        assert code == 1 and chain[0].fingerprint not in document["problems"]
        for child in chain[1:]:
            assert document["problems"][child.fingerprint][0].startswith("input sft: its manifest was sealed again")


def test_other_bytes_of_a_parent_are_found_though_a_child_was_made_to_name_them(chain, capsys) -> None:
    sft, arm, _ = chain
    (sft.folder / "weights").write_text("other")
    sealed_again(sft)
    entry = {**arm.inputs["sft"], "content": content_digest(sealed_files(sft.folder).files)}
    sealed_again(arm, inputs={"sft": entry})
    assert "sealed again" in found(capsys)[1]["problems"][arm.fingerprint][0]


def test_an_input_that_is_not_that_of_the_fingerprint_is_found(chain, seal, capsys) -> None:
    other = seal("sft", files={"weights": "other"}, config={"seed": 1})
    entry = {"stage": "sft", "fingerprint": other.fingerprint, "content": other.content, "seal": other.seal}
    sealed_again(chain[1], inputs={"sft": entry})
    assert "but the fingerprint was made of" in found(capsys)[1]["problems"][chain[1].fingerprint][0]
    sealed_again(chain[1], inputs={})
    assert found(capsys)[1]["problems"][chain[1].fingerprint] == [
        "input sft: part of the fingerprint, and not among the inputs"
    ]


@pytest.mark.parametrize(
    "entry",
    [{"stage": "../../../elsewhere/artifacts/sft"}, {"fingerprint": "../" * 10 + "etc"}, {"fingerprint": "0" * 31}],
)
def test_an_input_names_a_stage_and_a_fingerprint_and_no_path(chain, capsys, entry) -> None:
    sealed_again(chain[1], inputs={"sft": {**chain[1].inputs["sft"], **entry}})
    code, document = found(capsys)
    assert code == 1 and "manifest: " in document["problems"][chain[1].fingerprint][0]


def test_a_last_result_that_was_sealed_again_is_told_by_the_root_alone(chain, capsys) -> None:
    before = found(capsys)[1]["root"]
    (chain[2].folder / "note").write_text("forged")
    sealed_again(chain[2], notes=[])
    assert found(capsys)[0] == 0  # nothing follows from it, and nothing is signed
    assert found(capsys, root=before)[0] == 1


def test_the_root_of_one_result_stays_when_others_are_added(chain, seal, capsys) -> None:
    name = chain[2].fingerprint[:8]
    code, before = found(capsys, name)
    assert (code, before["checked"]) == (0, 3)  # with what it was made from
    whole = found(capsys)[1]["root"]
    seal("sft", config={"seed": 7})
    assert found(capsys, name, root=before["root"])[0] == 0
    assert found(capsys, root=whole)[0] == 1


# ---------------------------------------------------------------- made again, and made before


def test_a_parent_that_is_made_again_with_the_same_bytes_breaks_nothing(chain, seal, capsys) -> None:
    again = seal("sft", files={"weights": "w"}, metrics={"sft/loss": 0.5}, minute=7)
    assert again.fingerprint == chain[0].fingerprint and again.seal != chain[0].seal
    assert found(capsys)[0] == 0
    seal("sft", files={"weights": "w"}, metrics={"sft/loss": 0.4}, minute=8)
    assert "made again with other metrics" in found(capsys)[1]["problems"][chain[1].fingerprint][0]


def test_a_result_that_knows_no_seals_of_its_inputs_is_told_and_not_called_broken(chain, capsys) -> None:
    for child in chain[1:]:
        entries = {
            name: {key: entry[key] for key in ("stage", "fingerprint", "content")}
            for name, entry in child.inputs.items()
        }
        sealed_again(child, inputs=entries)
    code, document = found(capsys)
    assert code == 0
    assert all(
        "before inputs were held with their seals" in document["notes"][child.fingerprint][0] for child in chain[1:]
    )


# ---------------------------------------------------------------- folders outside, choices, and rows


def test_a_released_folder_is_compared_again(seal, tmp_path, capsys) -> None:
    released = tmp_path / "released"
    released.mkdir()
    (released / "model.safetensors").write_bytes(b"weights")
    reference = {"folder": str(released), "files": list_files(released)}
    base = seal("base", files={"reference.json": json.dumps(reference)})
    assert found(capsys)[0] == 0
    (released / "model.safetensors").write_bytes(b"WEIGHTS")
    assert "model.safetensors: sha256 is" in found(capsys)[1]["problems"][base.fingerprint][0]


@pytest.mark.parametrize("name", ["../..", "epoch-02"])
def test_a_choice_must_be_a_checkpoint_of_its_sft(seal, capsys, name: str) -> None:
    sft = seal("sft", models=("epoch-01",))
    choice = seal(
        "selection", sft, files={"choice.json": json.dumps({"checkpoint": name})}, rows={"probe.parquet": pa.table({})}
    )
    assert "is no checkpoint of sft" in found(capsys)[1]["problems"][choice.fingerprint][0]


def test_rows_of_a_curation_are_counted_again(seal, capsys) -> None:
    splits = {
        f"{name}.parquet": pa.table({"id": ["a", "b"]})
        for name in ("base", "sft", "validation", "rl", "probe", "heldout")
    }
    rows = splits | {"dropped.parquet": pa.table({"step": ["cleansing"]})}
    metrics = {"curation/rl_rows": 2.0, "curation/dropped_by_cleansing": 1.0} | {
        f"curation/{name}_rows": 2.0 for name in ("base", "sft", "validation", "probe", "heldout")
    }
    curation = seal("curation", rows=rows, metrics=metrics)
    assert found(capsys)[0] == 0
    sealed_again(curation, metrics={**metrics, "curation/rl_rows": 3.0})
    lines = found(capsys)[1]["problems"][curation.fingerprint]
    assert lines == ["recount: curation/rl_rows is stated as 3, the rows give 2"]


# ---------------------------------------------------------------- what the report prints, and the ledger of runs


def test_a_root_digest_on_a_page_is_that_of_the_seals_that_it_read_whatever_code_made_it(seal, capsys) -> None:
    sft = seal("sft", files={"weights": "w"})
    root = root_digest({f"sft/{sft.fingerprint}": sft.seal})
    right, wrong = (f'<code id="root-digest">{digest}</code>' for digest in (root, "0" * 64))
    honest = seal("report", sft, files={"report.html": right})
    assert found(capsys)[1]["problems"] == {}
    assert found(capsys, sft.fingerprint)[1]["root"] == root
    forged = seal("report", sft, files={"report.html": wrong}, config={"title": "other"})
    assert [*found(capsys)[1]["problems"]] == [forged.fingerprint] != [honest.fingerprint]


def test_a_ledger_of_runs_that_was_changed_is_found_without_any_records(chain, home, capsys) -> None:
    ledger = RunLedger(home)
    ledger.start("one", recipe="small", fingerprints={})
    ledger.end("one", outcome="failed")
    assert found(capsys)[0] == 0
    ledger.path.write_text(ledger.path.read_text().replace("small", "large"))
    code, document = found(capsys)
    assert code == 1 and "was changed, moved or removed" in document["problems"]["runs.jsonl"][0]
    assert (
        found(capsys, chain[2].fingerprint)[0] == 0
    )  # one result and what it was made from: the ledger is of the home


def test_words_say_what_does_not_hold_and_end_with_the_root(chain, capsys) -> None:
    (chain[0].folder / "weights").write_text("other")
    assert verify() == 1
    said = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("BROKEN sft") for line in said) == 1
    assert said[-2] == "3 results checked, 1 do not hold" and said[-1].startswith("root ")
