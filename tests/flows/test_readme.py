"""The README's commands do what they are documented for; `laptop` stands for `smoke` here, which is the same chain."""

import re
import shlex
from pathlib import Path

import pytest

from tests.flows.conftest import by_key

pytestmark = pytest.mark.xdist_group("chain")  # one process runs the smoke chain for all of them
README = (Path(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^\.venv/bin/ring ([^#\n]+?)\s*(?:#.*)?$", README, re.MULTILINE)
QUICK = [command for command in COMMANDS if command.split()[0] in ("status", "ls", "lineage", "verify", "show")]
RUNS = [command for command in COMMANDS if command.startswith("run") and "DIR" not in command]


def test_the_readme_documents_every_command() -> None:
    assert {command.split()[0] for command in COMMANDS} == {"run", "show", "ls", "lineage", "verify", "status", "up"}


@pytest.mark.parametrize("command", QUICK)
def test_a_command_that_reads_works_as_documented(smoke, command: str) -> None:
    identity = by_key(smoke.document)["evaluation"]["fingerprint"]
    done = smoke.ring(*shlex.split(command.replace("laptop", "smoke").replace("ID", identity)))
    assert done.stdout.strip()


@pytest.mark.parametrize("command", RUNS)
def test_a_documented_run_plans_without_complaint(smoke, command: str) -> None:
    arguments = shlex.split(command.replace("laptop", "smoke"))
    if "--rerun" in arguments:
        arguments = [part.replace("rl", "curation") for part in arguments if part not in ("--arm", "mixed")]
    until = [] if "--until" in arguments else ["--until", "curation"]
    assert "curation" in smoke.ring(*arguments, *until).stdout
