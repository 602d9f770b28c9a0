"""The commands of docs/own-data.md, in their order, in a folder of a person's own: a file, a domain, a verdict, a reward, a score."""

import os
import re
import subprocess
import sys
from dataclasses import dataclass

import pytest

from tests.flows.conftest import ROOT

PAGE = (ROOT / "docs" / "own-data.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```console\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
_NUMBERS = re.compile(r"[\d.,]*\d|\bn/a\b")  # they hold on one kind of machine


@dataclass(frozen=True)
class Shown:
    """A command of the page, and the lines that the page shows of what it prints."""

    command: str
    lines: tuple[str, ...]


def shown_commands(block: str) -> list[Shown]:
    """A command reaches to the next line with a prompt, or to the END of what is written for it; the rest is its output."""
    found = []
    for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        command, end, output = part.partition("\nEND\n") if "<<" in part.split("\n", 1)[0] else part.partition("\n")
        lines = tuple(line for line in output.splitlines() if line.strip() and line.strip() != "...")
        found.append(Shown(command + end.rstrip() if end.strip() else command, lines))
    return found


COMMANDS = [shown for block in BLOCKS for shown in shown_commands(block)]


def squeezed(text: str) -> str:
    return " ".join(_NUMBERS.sub("0", text).split())


@pytest.fixture(scope="module")
def printed(tmp_path_factory) -> dict[str, str]:
    """Command -> what it printed, both streams; the shell keeps what one command leaves for the next."""
    folder = tmp_path_factory.mktemp("mine")
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PREFECT_", "RING_"))}
    environment |= {"PYTHONPATH": str(ROOT), "PYTHONSAFEPATH": "1", "COLUMNS": "120"}
    named = f'ring() {{ "{sys.executable}" -m flows.cli "$@"; }}\n'
    exports, outputs = "", {}
    for shown in COMMANDS:
        command = re.sub(r"\bARM\b", "$(basename .ring/artifacts/rl/*)", shown.command)
        script = f"set -e -o pipefail\n{named}{exports}{command}\n"
        done = subprocess.run(
            ["bash", "-c", script],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}"
        outputs[shown.command] = done.stdout
        exports += f"{command}\n" if command.startswith("export ") else ""
    return outputs


@pytest.mark.slow
@pytest.mark.parametrize("shown", COMMANDS, ids=lambda shown: shown.command.split("\n")[0][:50])
def test_a_command_of_the_page_works_and_prints_what_is_shown(printed, shown) -> None:
    found = squeezed(printed[shown.command])
    for line in shown.lines:
        assert squeezed(line) in found, f"{line!r} is not in\n{printed[shown.command]}"


def test_the_page_goes_from_a_file_to_a_score() -> None:
    said = " ".join(shown.command for shown in COMMANDS)
    for command in (
        "ring judge --domain math",
        "export RING_DOMAINS=",
        "ring new",
        "ring run",
        "ring rollouts",
        "ring evaluate",
    ):
        assert command in said, command
