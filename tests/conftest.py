"""Which tests run together, and which are left out of the inner loop."""

import logging
from collections.abc import Generator, Iterator, Mapping

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


@pytest.fixture(scope="session")
def s3_server() -> Iterator[Mapping[str, str]]:
    """An S3 server on loopback, as the variables by which a program reaches it."""
    pytest.importorskip("s3fs", reason="needs the extra `s3`")
    moto = pytest.importorskip("moto.server", reason="needs moto, of the extra `dev`")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    running = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    yield {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "id",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_MAX_ATTEMPTS": "1",
    }
    running.stop()
