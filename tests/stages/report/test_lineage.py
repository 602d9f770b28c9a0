"""What the page was made from: every input once a result, and a root digest that follows from the seals alone."""

import hashlib
import re

import pytest

from stages.report.lineage import digest_rows, input_rows, last_results, lineage_trees, root_of_page
from stages.report.page import render


@pytest.fixture
def chain(made):
    """A curation of a folder, a base model, an SFT and an arm, as far as the page reads them."""
    parents = {"curation": (), "base": ("curation",), "sft": ("curation", "base"), "rl/a": ("base", "sft")}
    found = {}
    for number, (key, names) in enumerate(parents.items()):
        stage, _, arm = key.partition("/")
        manifest = made(stage, arm or None, tables={"funnel": []} if stage == "curation" else {})
        inputs = {
            name: {"stage": found[name].stage, "fingerprint": found[name].fingerprint, "content": "c" * 64, "seal": found[name].seal}
            for name in names
        }  # fmt: skip
        outside = {"data-dir": {"content": "d" * 64}} if stage == "curation" else {}
        digests = {"fingerprint": f"{number}" * 32, "seal": f"{number}" * 64}
        manifest.document.update(digests, inputs=inputs | outside)
        found[key] = manifest
    return found


def test_the_tree_ends_in_what_nothing_was_made_from_and_tells_nothing_twice(chain) -> None:
    (tree,) = lineage_trees(chain)
    assert (tree["title"], tree["name"]) == ("rl a", "3" * 8)
    base, sft = tree["inputs"]
    assert [one["title"] for one in sft["inputs"]] == ["curation", "base"]
    assert (base["again"], sft["inputs"][1]["again"], sft["inputs"][1]["inputs"]) == (False, True, [])
    (outside,) = base["inputs"][0]["inputs"]
    assert outside["title"] == f"data-dir (outside the store, sha256 {'d' * 16})"


def test_every_input_has_a_row_with_the_seal_that_was_read(chain) -> None:
    rows = input_rows(chain)
    assert [(row["result"], row["made from"]) for row in rows] == [
        ("curation", "data-dir"),
        ("base", "curation"),
        ("sft", "curation"),
        ("sft", "base"),
        ("rl/a", "base"),
        ("rl/a", "sft"),
    ]
    assert rows[-1]["seal"] == "2" * 16 and rows[0]["seal"] == ""


def test_the_root_digest_is_worked_by_hand(chain) -> None:
    lines = [f'"{row["stage/fingerprint"]}":"{row["seal"]}"' for row in digest_rows(chain)]
    expected = hashlib.sha256(f"{{{','.join(sorted(lines))}}}".encode()).hexdigest()
    assert root_of_page(chain) == expected
    assert f'<code id="root-digest">{expected}</code>' in render("t", {"sft": chain["sft"], **chain})


def test_the_page_names_the_command_that_compares_its_root(chain) -> None:
    assert [one.stage for one in last_results(chain)] == ["rl"]
    page = render("t", chain)
    assert f"ring verify 33333333 --root {root_of_page(chain)[:8]}…" in page
    assert "One digest over the seals of the 4 results above" in page


def test_one_seal_that_is_another_gives_another_root(chain) -> None:
    before = root_of_page(chain)
    chain["sft"].document["seal"] = "9" * 64
    assert root_of_page(chain) != before


def test_every_result_of_the_tree_leads_to_its_row(chain) -> None:
    page = render("t", chain)
    named = set(re.findall('href="#(made-[0-9]+)"', page))
    assert named == {f"made-{str(number) * 8}" for number in range(4)}
    assert all(f'<tr id="{name}">' in page for name in named)
