"""Machines that share a bucket: what one made no other makes, also when they start at the same time; damage is found and built again."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import fsspec
import pytest

from tests.flows.conftest import Ring, by_key

pytestmark = pytest.mark.slow
UNTIL = ("run", "smoke", "--until", "base", "--json")


@dataclass(frozen=True)
class Machine(Ring):
    """A local folder of its own, and the bucket."""

    url: str = ""
    reach: Mapping[str, str] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        kept = super().environment
        return {**kept, **self.reach, "RING_HOME": self.url, "RING_CACHE": str(self.home)}


def statuses(document) -> dict[str, str]:
    return {key: entry["status"] for key, entry in by_key(document).items()}


def test_machines_that_share_a_bucket(tmp_path: Path, s3_server):
    key, secret, endpoint = (
        s3_server[f"AWS_{name}"] for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "ENDPOINT_URL")
    )
    fs = fsspec.filesystem("s3", key=key, secret=secret, endpoint_url=endpoint, use_listings_cache=False)
    url = "s3://shared/team"
    one, two, three = (Machine(tmp_path / name, url, s3_server) for name in ("one", "two", "three"))
    assert "there is no bucket 'shared'" in one("ls", code=2).stderr
    fs.mkdir("shared")

    both = [machine.start(*UNTIL) for machine in (one, two)]
    documents = [json.loads(child.communicate()[0]) for child in both]
    assert [child.returncode for child in both] == [0, 0]
    ran = [statuses(document) for document in documents]
    assert [sorted(each) for each in zip(*(one.values() for one in ran), strict=True)] == [["cached", "ran"]] * 2
    assert len(fs.glob("shared/team/artifacts/*/*/manifest.json")) == 2

    listed = three.json("ls")["artifacts"]
    assert [entry["path"].startswith(f"{url}/artifacts/") for entry in listed] == [True, True]
    assert not [*three.home.glob("artifacts/*/*")]
    assert three.json("verify")["problems"] == {}
    assert not [*three.home.rglob("*.safetensors")]

    base = by_key(documents[0])["base"]["fingerprint"]
    (weights,) = fs.glob(f"shared/team/artifacts/base/{base}/*/model/model.safetensors")
    fs.pipe_file(weights, fs.cat_file(weights)[:-1] + b"!")
    assert [*three.json("verify", code=1)["problems"]] == [base]
    assert "model/model.safetensors has the sha256" in three("model", "info", base[:8], code=2).stderr
    assert statuses(three.json(*UNTIL[:-1])) == {"curation": "cached", "base": "ran"}
    assert two.json("verify")["problems"] == {}
