"""A result is made again from its manifest and its inputs alone; what differs is named, and what cannot be is refused."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from stages.records.artifact import Store, read_manifest
from stages.reproduction import agreement, differing_steps, planned_again
from tests.flows.conftest import Ring, by_key


@pytest.fixture(scope="module")
def copied(smoke, tmp_path_factory) -> Ring:
    """The smoke chain's results in a home of their own, to be damaged."""
    ring = Ring(tmp_path_factory.mktemp("again") / "home")
    shutil.copytree(smoke.ring.home / "artifacts", ring.home / "artifacts")
    return ring


def fingerprint(smoke, key: str) -> str:
    return by_key(smoke.document)[key]["fingerprint"]


def test_a_result_is_made_again_byte_for_byte_in_a_home_of_its_own(smoke, copied, tmp_path) -> None:
    kept = tmp_path / "second"
    done = copied("reproduce", fingerprint(smoke, "sft")[:12], "--keep", str(kept))
    assert "reproduced byte for byte: all " in done.stdout
    assert (kept / "epoch-01" / "model.safetensors").is_file()
    assert "it is there already" in copied("reproduce", fingerprint(smoke, "sft"), "--keep", str(kept), code=2).stderr


@pytest.mark.parametrize("arm", ["mixed", "more-sft"])
def test_the_first_steps_are_made_again_alone(smoke, copied, arm) -> None:
    told = json.loads(copied("reproduce", fingerprint(smoke, f"rl/{arm}"), "--steps", "2", "--json").stdout)
    assert (told["compared"], told["unit"], told["differing"]) == (2, "steps", [])


def test_progress_is_told_with_a_rate_and_what_is_left_of_what_was_asked(smoke, copied) -> None:
    said = copied("reproduce", fingerprint(smoke, "rl/mixed"), "--steps", "2").stderr
    assert re.search(r"rl mixed +making [0-9a-f]{12} again; the first time took \d+ s for 5 steps\n", said)
    assert re.search(r"rl mixed +2/2 steps, [0-9.]+ steps/s, 0 s left", said)
    assert "/5 steps" not in said


def test_what_has_no_steps_or_fewer_is_refused(smoke, copied) -> None:
    assert (
        "only SFT and RL have steps"
        in copied("reproduce", fingerprint(smoke, "selection"), "--steps", "1", code=2).stderr
    )
    assert "give 1 to " in copied("reproduce", fingerprint(smoke, "rl/mixed"), "--steps", "999", code=2).stderr


def test_a_changed_result_is_told_by_file_and_metric(smoke, tmp_path) -> None:
    first = read_manifest(Path(by_key(smoke.document)["evaluation"]["artifact"]))
    second = tmp_path / "second"
    shutil.copytree(first.folder, second)
    results = json.loads((second / "results.json").read_text())
    name = next(iter(results))
    results[name]["value"] = 2.0
    (second / "results.json").write_text(json.dumps(results))
    found = agreement(first, second, metrics={**first.metrics, name: 2.0})
    assert set(found.differing) == {"manifest.json", "results.json"}  # the copy holds a manifest, a second result none
    assert found.metrics == ((name, first.metrics[name], 2.0),)
    assert found.outside == (name,)


def test_a_step_of_other_bytes_is_told_by_its_number(tmp_path) -> None:
    for name, lines in (("first", "a\nb\nc\n"), ("second", "a\nx\nc\n")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "steps.jsonl").write_text(lines)
    assert differing_steps(tmp_path / "first", tmp_path / "second", steps=3) == [2]
    assert differing_steps(tmp_path / "first", tmp_path / "second", steps=1) == []


def test_an_input_that_was_damaged_is_not_used(smoke, copied) -> None:
    Path(copied.home / "artifacts" / "sft" / fingerprint(smoke, "sft") / "checkpoints.json").write_text("{}")
    assert "its input sft " in copied("reproduce", fingerprint(smoke, "selection"), code=2).stderr


def test_other_code_is_refused_with_the_commit_that_made_it(smoke) -> None:
    manifest = Store(smoke.ring.home).by_id(fingerprint(smoke, "sft"))
    document = {**manifest.document, "payload": {**manifest.document["payload"], "code": "0" * 64}}
    with pytest.raises(ValueError, match="was made by other code than stands here: by commit "):
        planned_again(replace(manifest, document=document), data_dir=None)
