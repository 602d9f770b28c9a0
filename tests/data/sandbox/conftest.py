"""One sandbox for each rung; a rung that does not start on this machine is skipped with its reason."""

from pathlib import Path

import pytest

from data.sandbox import LADDER, Sandbox, SandboxError


@pytest.fixture(scope="session", params=[rung.name for rung in LADDER])
def sandbox(request):
    with Sandbox(rung=request.param) as sandbox:
        try:
            sandbox.start()
        except SandboxError as error:
            pytest.skip(str(error))
        yield sandbox


@pytest.fixture
def descendants():
    return descendants_of


def descendants_of(pid: int) -> set[int]:
    """Processes below this one, those in other namespaces included."""
    parents = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            except (OSError, IndexError):  # it ended meanwhile
                continue
    found, new = set(), {pid}
    while new:
        new = {child for child, parent in parents.items() if parent in new} - found
        found |= new
    return found
