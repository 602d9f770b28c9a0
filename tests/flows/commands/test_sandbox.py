"""`ring sandbox check` says what every rung stops on this machine."""

import json

from data.sandbox import LADDER, Probe, Rehearsal
from flows.commands.sandbox import probe_rows


def test_the_check_tries_every_rung_and_names_the_first_that_holds(ring):
    done = ring("sandbox", "check", "--json", code=0)
    document = json.loads(done.stdout)
    assert [rung["rung"] for rung in document["rungs"]] == [rung.name for rung in LADDER]
    assert document["rung"] == next(rung["rung"] for rung in document["rungs"] if rung["works"])
    for rung in document["rungs"]:
        assert rung["why_not"] or all(probe["stopped"] for probe in rung["probes"])


def test_cells_are_words_and_an_escape_is_loud():
    ended = {"read": "FileNotFoundError", "write": "PermissionError", "fill": "memory", "odd": "ZeroDivisionError"}
    probes = tuple(Probe(name, True, detail, "A") for name, detail in ended.items())
    rows = [*probe_rows([Rehearsal("A", "", (*probes, Probe("leak", False, "got out", "A")))])]
    assert [row["A"] for row in rows] == ["absent", "refused", "killed", "stopped: ZeroDivisionError", "GOT OUT"]
