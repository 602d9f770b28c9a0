"""The sandbox's test of itself tries what would succeed without it."""

import pytest

from data.sandbox import LADDER, Sandbox, SandboxError, check, require_confinement
from data.sandbox.probes import CONTROL, QUICK_PROBES, try_to_escape

# What fails for anybody who is not root, or is limited whatever the rung
STOPPED_ANYWAY = {
    "read the password hashes",
    "read it through a symbolic link",
    "change its mode",
    "read the environment of the judge",
    "read the environment of the first process",
    "read the memory of the server",
    "find the environment of the judge here",
    "signal the judge",
    "mount",
    "become root",
    "use an inherited file",
    "take much memory",
    "write without end",
}


def test_no_probe_gets_out(sandbox):
    rows = {row.probe: row for row in try_to_escape(sandbox)}
    assert not [row for row in rows.values() if not row.stopped]
    assert rows.keys() == {*QUICK_PROBES, CONTROL}


def test_the_same_probes_get_out_without_confinement():
    escaped = {row.probe for row in check(confined=False) if not row.stopped}
    assert escaped >= QUICK_PROBES.keys() - STOPPED_ANYWAY - {CONTROL}


def test_a_rung_that_leaks_is_given_up_for_the_next():
    with Sandbox() as sandbox:
        sandbox._rungs = [Sandbox(confined=False).rung.__class__("leaky", False, False, False, ""), *sandbox._rungs]
        sandbox.refuse("it leaks")
        require_confinement(sandbox)
        assert sandbox.rung in LADDER


def test_where_no_rung_is_left_nothing_runs():
    with Sandbox() as sandbox:
        for rung in LADDER:
            sandbox.refuse(f"no {rung.what} here")
        with pytest.raises(SandboxError, match=r"not running untrusted code.*unsafe_local_execution"):
            require_confinement(sandbox)
