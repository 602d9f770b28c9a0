"""A chain against published ones: bytes on the same kind of machine, scores on another, nothing where code or settings differ."""

import json

import pytest

from stages.records.artifact import Manifest
from stages.records.reference import RUNTIME, compare, entry_of, read_reference, write_reference

SCORES = {
    "sft/all/greedy": {"value": 0.60, "low": 0.57, "high": 0.63},
    "mixed/all/pass@1": {"value": 0.66, "low": 0.64, "high": 0.69},
    "mixed/math/greedy": {"value": 0.9, "low": 0.9, "high": 0.9},
    "mixed/all/pass@4": {"value": 0.9, "low": 0.9, "high": 0.9},
}


def chain(tmp_path, *, kind="here", contents=None, fingerprints=None, scores=None, **runtime):
    folder = tmp_path / f"evaluation-{len(list(tmp_path.iterdir()))}"
    folder.mkdir()
    values = {
        name: {**entry, "n": 10, "value": (scores or {}).get(name, entry["value"])} for name, entry in SCORES.items()
    }
    (folder / "results.json").write_text(json.dumps(values))
    made = {}
    for key in ("curation", "sft", "rl/mixed", "evaluation", "report"):
        stage, _, arm = key.partition("/")
        document = {
            "payload": {"stage": stage, "arm": arm or None},
            "fingerprint": (fingerprints or {}).get(key, f"f-{key}"),
            "content": (contents or {}).get(key, f"c-{key}"),
            "hardware": {"kind": kind, "processor": "p", "vendor": "v", "family": "6", "model": "1", "stepping": "1", "level": "avx2"},
            "runtime": {**dict.fromkeys(RUNTIME, 1), "workers": 7, **runtime},
            "code": {"commit": "abc"},
        }  # fmt: skip
        made[key] = Manifest(folder, document)
    return made


def compared(tmp_path, published, mine, *, kind="here", recipe="laptop", seed=0):
    path = tmp_path / "reference.json"
    for manifests in published:
        write_reference(entry_of(manifests, recipe="laptop", seed=0), path)
    lines = compare(mine, recipe=recipe, seed=seed, kind=kind, entries=read_reference(path))
    assert len(lines) <= 3
    return lines


def test_equal_bytes_on_the_same_kind_of_machine_are_one_line(tmp_path):
    lines = compared(tmp_path, [chain(tmp_path, kind="other"), chain(tmp_path)], chain(tmp_path))
    assert lines == ["all 4 results are equal to what is published for this kind of machine, byte for byte"]


def test_the_first_stage_with_other_bytes_is_named_and_the_report_with_its_times_is_not_compared(tmp_path):
    other = dict.fromkeys(("sft", "rl/mixed", "evaluation", "report"), "x")
    first, *_ = compared(tmp_path, [chain(tmp_path)], chain(tmp_path, contents=other))
    assert first == "bytes part at sft from what is published for this kind of machine (x here, c-sft there)"
    assert len(compared(tmp_path, [chain(tmp_path)], chain(tmp_path, contents={"report": "x"}))) == 1


def test_on_another_kind_of_machine_scores_are_compared_with_the_intervals_there(tmp_path):
    mine = chain(
        tmp_path, contents={"sft": "x", "evaluation": "y"}, scores={"mixed/all/pass@1": 0.65, "sft/all/greedy": 0.5}
    )
    where, agreed, outside = compared(tmp_path, [chain(tmp_path, kind="amd")], mine)
    assert where.startswith("bytes part at sft from what is published for another kind of machine, amd")
    assert agreed == (
        "1 of 2 scores lie in the intervals there: mixed pass@1 0.650 here, 0.660 [0.640, 0.690] there: agrees"
    )
    assert outside == "outside: sft greedy 0.500 here, 0.600 [0.570, 0.630] there"


def test_another_runtime_is_named_because_it_may_change_bytes(tmp_path):
    (line,) = compared(tmp_path, [chain(tmp_path)], chain(tmp_path, sft_ranks=2, workers=3))
    assert "this kind of machine with other runtime.sft_ranks" in line


def test_stages_of_other_code_or_settings_are_not_compared(tmp_path):
    later = {"rl/mixed": "g", "evaluation": "h"}
    (line,) = compared(tmp_path, [chain(tmp_path)], chain(tmp_path, fingerprints=later, contents={"evaluation": "x"}))
    assert line.startswith("all 2 results are equal")
    assert line.endswith("not compared, as code, settings or data are other ones: rl/mixed, evaluation")
    everything = dict.fromkeys(chain(tmp_path), "new")
    (line,) = compared(tmp_path, [chain(tmp_path)], chain(tmp_path, fingerprints=everything))
    assert "every fingerprint differs" in line


def test_a_seed_or_recipe_without_reference_says_so_or_nothing(tmp_path):
    published, mine = [chain(tmp_path)], chain(tmp_path)
    assert compared(tmp_path, published, mine, seed=5) == ["nothing is published for seed 5 of laptop"]
    assert compared(tmp_path, published, mine, recipe="my") == []
    assert read_reference(tmp_path / "none.json") == ()


def test_entries_of_other_machines_stay_and_ones_own_is_replaced(tmp_path):
    path = tmp_path / "reference.json"
    for manifests in (
        chain(tmp_path, kind="b"),
        chain(tmp_path, kind="a"),
        chain(tmp_path, kind="b", contents={"sft": "new"}),
    ):
        write_reference(entry_of(manifests, recipe="laptop", seed=0), path)
    entries = {entry.kind: entry.stages["sft"].content for entry in read_reference(path)}
    assert entries == {"a": "c-sft", "b": "new"}


def test_a_chain_of_several_kinds_of_machines_is_not_published(tmp_path):
    mixed = {**chain(tmp_path), "sft": chain(tmp_path, kind="other")["sft"]}
    with pytest.raises(ValueError, match="2 kinds of machines"):
        entry_of(mixed, recipe="laptop", seed=0)
    with pytest.raises(ValueError, match="is no list of references"):
        (tmp_path / "bad.json").write_text("{}")
        read_reference(tmp_path / "bad.json")


def test_what_is_published_with_the_project_can_be_read():
    for entry in read_reference():
        assert entry.stages.keys() >= {"curation", "base", "sft", "selection", "evaluation"}
