"""What a person names is told apart by what it is, and what is none is refused in words."""

import json
from pathlib import Path

import pytest

from stages.config import Runtime
from stages.sampling.causal_lm import CausalLmSampler
from stages.sampling.local import LocalSampler
from stages.sampling.models import open_model
from stages.sampling.pacing import Limits
from stages.sampling.requests import Policy
from stages.sampling.server import ServerSampler
from tests.ring_model.tiny_causal_lm import save_causal_lm


def test_each_kind_of_model_has_its_sampler(tiny_model: Path, tmp_path: Path) -> None:
    other = save_causal_lm(tmp_path / "other")
    address = "http://127.0.0.1:1/v1#org/name"
    for text, name, kind in (
        (str(tiny_model), tiny_model.name, LocalSampler),
        (str(other), "other", CausalLmSampler),
        (address, "org/name", ServerSampler),
    ):
        model = open_model(text)
        assert (model.text, model.name) == (text, name)
        with model.sampler(Runtime(), published=tmp_path / "published", limits=Limits(concurrency=2)) as sampler:
            assert type(sampler) is kind
            assert list(sampler.sample([])) == []
    assert open_model(str(other)).policy == Policy.of(other)


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"is no model: .*config\.json does not exist; give a folder .* as http://127"):
        open_model(str(tmp_path / "nothing"))
    for content in ("{", "[]", "{}"):
        (tmp_path / "config.json").write_text(content)
        with pytest.raises(ValueError, match="is not the JSON of a model's configuration, which names a model_type"):
            open_model(str(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"}))
    with pytest.raises(ValueError, match=r"holds no \*\.safetensors"):
        open_model(str(tmp_path))
    with pytest.raises(ValueError, match="names no model"):
        open_model("http://127.0.0.1:1/v1")
