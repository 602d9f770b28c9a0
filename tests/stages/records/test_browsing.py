"""What a person meets first in the records tells things apart, and is bounded."""

import re

from stages.records.artifact import Manifest
from stages.records.browsing import ARM_CURVES, chain_description, model_name, run_name, tables_read

AT = "2026-01-01 00:00"


def manifest(stage, *, arm=None, files=()):
    entries = {name: {"bytes": 1, "sha256": name[0] * 64} for name in files}
    return Manifest(None, {"payload": {"stage": stage, "arm": arm}, "files": entries})


def test_the_name_of_a_run_says_what_was_changed():
    assert run_name("laptop", changed=(), at=AT) == f"laptop {AT}"
    assert run_name("laptop", changed=["rl.x=300"], at=AT) == f"laptop rl.x=300 {AT}"
    assert (
        run_name("laptop", changed=["a=1", "b=2", "c=3", "d=4", "e=5"], at=AT) == f"laptop a=1 b=2 c=3 and 2 more {AT}"
    )
    assert len(run_name("laptop", changed=["a=" + "x" * 1000], at=AT)) < 100


def test_the_name_of_a_model_begins_with_what_differs():
    assert model_name(manifest("sft"), "epoch-09") == "epoch-09 of sft"
    assert model_name(manifest("rl", arm="mixed"), "model") == "final of rl mixed"


def test_links_to_charts_come_first_and_are_never_cut() -> None:
    def said(length: int) -> str:
        curves = dict.fromkeys(ARM_CURVES, f"#/metric?{'r' * length}")
        return chain_description({}, ran=[], changed=[], page=None, curves=curves).splitlines()[0]

    assert said(100).startswith("Curves of the RL arms on one chart: [reward](#/metric?r")
    assert [len(re.findall(r"\]\(#/metric\?r+\)", said(length))) for length in (100, 1500, 3000)] == [4, 2, 1]
    assert said(5000).endswith("tick the arms, press Compare")
    assert "chart" not in chain_description({}, ran=[], changed=[], page=None, curves={})


def test_a_stage_is_said_to_read_the_tables_that_it_reads():
    files = ("base.parquet", "sft.parquet", "validation.parquet", "heldout.parquet", "rl.parquet", "card.md")
    curation = manifest("curation", files=files)
    assert tables_read("stages.sft", "curation", curation) == {"sft.parquet": "s" * 64, "validation.parquet": "v" * 64}
    assert tables_read("stages.sft.further", "curation", curation).keys() == {"sft.parquet", "validation.parquet"}
    assert tables_read("stages.evaluation.run", "curation", curation).keys() == {"heldout.parquet", "rl.parquet"}
    with_benchmarks = manifest("curation", files=(*files, "benchmarks.parquet"))
    assert tables_read("stages.evaluation.run", "curation", with_benchmarks).keys() == {
        *files,
        "benchmarks.parquet",
    } - {"card.md"}
    arm = manifest("rl", arm="mixed", files=("rollouts/step-000001.parquet",))
    assert tables_read("stages.evaluation.run", "rl/mixed", arm) == {}
