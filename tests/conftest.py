"""Which tests run together, and which are left out of the inner loop."""

from collections.abc import Generator

import pytest
from xdist.scheduler import LoadFileScheduling

from stages.imports import heavy_imports

SHARE_A_CHAIN = frozenset(
    f"tests/flows/test_{name}.py" for name in ("bundle", "chain", "ending", "giving", "machines", "questions")
)
SLOW_FIXTURES = frozenset({"ring", "smoke", "cluster", "sandbox", "public_data", "shared_data"})


class _Scheduling(LoadFileScheduling):
    """A file stays on one worker, which makes its fixtures once; so do the files that look at the session's one chain."""

    def _split_scope(self, nodeid: str) -> str:
        file = super()._split_scope(nodeid)
        return "chain" if file in SHARE_A_CHAIN else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> _Scheduling | None:
    return _Scheduling(config, log) if config.option.dist == "loadfile" else None


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Collecting imports PyTorch, Prefect and MLflow."""
    with heavy_imports():
        return (yield)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if SLOW_FIXTURES.intersection(getattr(item, "fixturenames", ())):
            item.add_marker("slow")
