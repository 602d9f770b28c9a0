"""The rung is chosen by trying: where the kernel refuses a mechanism, as a container's profile may, the next one is used."""

import subprocess
import sys
from pathlib import Path

import pytest

from data.sandbox import Sandbox, SandboxError

ROOT = Path(__file__).resolve().parents[3]
UNSHARE, LANDLOCK, SECCOMP = 272, 444, 317
CHOOSE = """
import struct, sys
from data.sandbox import Job, Sandbox, SandboxError, kernel, require_confinement, seccomp
denied = [int(number) for number in sys.argv[1:]]
tests = [operation for number in denied for operation in (seccomp._op(0x15, number, 0, 1), seccomp._op(0x06, 0x00050001))]
kernel.checked(kernel.libc.prctl(38, 1, 0, 0, 0), "no_new_privs")
seccomp.restrict(b"".join([seccomp._op(0x20, 0), *tests, seccomp._op(0x06, 0x7FFF0000)]))
with Sandbox() as sandbox:
    try:
        require_confinement(sandbox)
        print(sandbox.rung.name, sandbox.run(Job("print(41 + 1)")).stdout.decode())
    except SandboxError as error:
        print(error)
if len(denied) > 1:
    from flows.commands.sandbox import check
    print("exit code", check())
"""


@pytest.mark.parametrize(
    ("denied", "rung"),
    [
        ([UNSHARE], "B 42"),
        ([LANDLOCK], "A-without-landlock 42"),
        ([UNSHARE, LANDLOCK], "not running untrusted code"),
    ],
)
def test_a_refused_mechanism_leaves_the_next_rung_or_none(denied, rung):
    with Sandbox(rung="A") as sandbox:
        try:
            sandbox.start()
        except SandboxError as error:
            pytest.skip(str(error))
    command = [sys.executable, "-c", CHOOSE, *map(str, denied)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout.startswith(rung), done.stdout + done.stderr
    if "not running" in rung:
        assert "used: none" in done.stdout
        assert done.stdout.endswith("exit code 1\n")
