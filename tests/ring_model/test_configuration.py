"""The configuration is Ling-lite's, and refuses what would change the arithmetic."""

import json
from pathlib import Path

import pytest

from ring_model.configuration import BailingMoeConfig


def test_defaults_have_ling_lites_parameter_counts() -> None:
    config = BailingMoeConfig()
    assert round(config.num_parameters / 1e9, 1) == 16.8
    assert round(config.num_active_parameters / 1e9, 2) == 2.75


def test_saved_config_reads_back_equal_and_names_the_architecture(tmp_path: Path) -> None:
    config = BailingMoeConfig(num_experts=8, vocab_size=1000, eos_token_id=1, pad_token_id=1)
    config.save(tmp_path)
    first = (tmp_path / "config.json").read_bytes()
    assert BailingMoeConfig.from_folder(tmp_path) == config
    values = json.loads(first)
    assert values["model_type"] == "bailing_moe"
    assert values["architectures"] == ["BailingMoeForCausalLM"]
    assert (values["use_bias"], values["use_qkv_bias"], values["embedding_dropout"]) == (False, False, 0.0)
    config.save(tmp_path)
    assert (tmp_path / "config.json").read_bytes() == first


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("rope_scaling", {"type": "yarn", "factor": 4}),
        ("use_qk_norm", True),
        ("partial_rotary_factor", 0.5),
        ("n_group", 8),
        ("hidden_act", "gelu"),
        ("model_type", "llama"),
        ("score_function", "sigmoid"),
        ("head_dim", 64),
        ("moe_shared_expert_intermediate_size", 1408),
        ("rope_parameters", {"rope_type": "yarn", "rope_theta": 600000.0}),
        ("rope_parameters", {"rope_type": "default", "rope_theta": 5.0, "factor": 4.0}),
        ("num_nextn_predict_layers", 1),
        ("an_unheard_of_switch", "on"),
    ],
)
def test_a_key_that_changes_the_arithmetic_is_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=name):
        BailingMoeConfig.from_dict({name: value})


def test_harmless_keys_are_left_out() -> None:
    extra = {"auto_map": {"AutoConfig": "x.Y"}, "transformers_version": "4.36.0", "use_cache": True, "head_dim": 128}
    assert "auto_map" not in BailingMoeConfig.from_dict({**extra, "rope_scaling": None}).to_dict()


def test_an_unknown_key_that_is_off_changes_nothing() -> None:
    off = {"num_nextn_predict_layers": 0, "some_switch": False, "some_list": [], "some_thing": None}
    assert BailingMoeConfig.from_dict(off) == BailingMoeConfig()


def test_rope_theta_is_read_from_either_place_and_may_not_contradict_itself() -> None:
    new = {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4}}
    assert BailingMoeConfig.from_dict(new).rope_theta == 1e4
    assert BailingMoeConfig.from_dict({"rope_theta": 1e4}).rope_theta == 1e4
    assert BailingMoeConfig.from_dict({**new, "rope_theta": 1e4}).rope_theta == 1e4
    with pytest.raises(ValueError, match="differ"):
        BailingMoeConfig.from_dict({**new, "rope_theta": 6e5})


@pytest.mark.parametrize(
    ("name", "value"),
    [("num_attention_heads", 3), ("num_key_value_heads", 5), ("num_experts_per_tok", 65), ("eos_token_id", 126464)],
)
def test_impossible_numbers_are_refused_by_name(name: str, value: int) -> None:
    with pytest.raises(ValueError, match=name):
        BailingMoeConfig(**{name: value})


def test_a_missing_or_broken_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"config\.json does not exist"):
        BailingMoeConfig.from_folder(tmp_path)
    (tmp_path / "config.json").write_text("{", encoding="utf-8")
    with pytest.raises(ValueError, match="is not JSON"):
        BailingMoeConfig.from_folder(tmp_path)


@pytest.mark.parametrize(("given", "kept"), [(7, 7), ([7, 2], (7, 2)), ([7, 7], (7,)), ([], ()), (None, None)])
def test_end_tokens_may_be_one_or_several_or_none(tmp_path: Path, given: object, kept: object) -> None:
    config = BailingMoeConfig.from_dict({"eos_token_id": given, "pad_token_id": None})
    assert (config.eos_token_id, config.pad_token_id) == (kept, None)
    config.save(tmp_path)
    assert BailingMoeConfig.from_folder(tmp_path) == config


@pytest.mark.parametrize("given", ["7", [7, "2"], [[7]], 2.0, True, {"a": 7}, [7, 126464], -1])
def test_end_tokens_that_are_no_ids_are_refused(given: object) -> None:
    with pytest.raises(ValueError, match="eos_token_id"):
        BailingMoeConfig.from_dict({"eos_token_id": given})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("num_hidden_layers", 10**8), ("num_experts", 10**7), ("num_shared_experts", -1), ("vocab_size", 0), ("num_attention_heads", 0),
        ("hidden_size", "64"), ("num_experts", 4.0), ("moe_intermediate_size", True), ("max_position_embeddings", None),
        ("rms_norm_eps", 0.0), ("rope_theta", float("nan")), ("rope_theta", "1e4"), ("initializer_range", float("inf")),
        ("norm_head", 1), ("norm_topk_prob", "yes"), ("use_bias", 0), ("use_qkv_bias", "true"), ("tie_word_embeddings", 1),
        ("first_k_dense_replace", -1), ("first_k_dense_replace", 28), ("first_k_dense_replace", True), ("first_k_dense_replace", 1.0),
    ],
)  # fmt: skip
def test_a_hostile_config_is_refused_by_name_before_anything_is_built(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=name):
        BailingMoeConfig.from_dict({name: value})


def test_every_key_of_another_arithmetic_is_named_at_once_with_what_to_do() -> None:
    second_version = {
        "architectures": ["BailingMoeV2ForCausalLM"],
        "first_k_dense_replace": 1,
        "n_group": 8,
        "topk_group": 4,
        "score_function": "sigmoid",
        "moe_router_enable_expert_bias": True,
        "routed_scaling_factor": 2.5,
        "use_qk_norm": True,
        "partial_rotary_factor": 0.5,
        "num_nextn_predict_layers": 1,
    }
    with pytest.raises(ValueError, match="of the first version alone") as refusal:
        BailingMoeConfig.from_dict(second_version)
    for name in second_version.keys() - {"architectures", "first_k_dense_replace"}:
        assert f"{name} = {second_version[name]!r} (only " in str(refusal.value)
    assert "trains through transformers" in str(refusal.value)


@pytest.mark.parametrize(
    "values",
    [{"first_k_dense_replace": 2}, {"use_qkv_bias": True}, {"use_bias": True}, {"tie_word_embeddings": True, "norm_head": False}],
)  # fmt: skip
def test_dense_layers_biases_and_a_tied_head_are_read_and_written(tmp_path: Path, values: dict[str, object]) -> None:
    config = BailingMoeConfig.from_dict(values)
    assert {name: getattr(config, name) for name in values} == values
    config.save(tmp_path)
    assert BailingMoeConfig.from_folder(tmp_path) == config
    assert json.loads((tmp_path / "config.json").read_text()).items() >= values.items()


def test_null_means_without_dense_layers_biases_and_a_tied_head() -> None:
    names = ("first_k_dense_replace", "use_qkv_bias", "use_bias", "tie_word_embeddings")
    assert BailingMoeConfig.from_dict(dict.fromkeys(names)) == BailingMoeConfig()


def test_dense_layers_need_a_width() -> None:
    assert BailingMoeConfig(intermediate_size=0).intermediate_size == 0
    with pytest.raises(ValueError, match="intermediate_size = 0 must be at least 1, the width of the 1 dense layers"):
        BailingMoeConfig(intermediate_size=0, first_k_dense_replace=1)


def test_parameters_of_a_dense_layer_of_biases_and_of_a_tied_head_by_hand() -> None:
    plain = {
        "vocab_size": 10,
        "hidden_size": 8,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
    }
    plain |= {"num_experts": 4, "num_experts_per_tok": 2, "num_shared_experts": 1, "moe_intermediate_size": 4}
    ids = {"eos_token_id": 0, "pad_token_id": 0}
    more = {"first_k_dense_replace": 1, "intermediate_size": 6, "use_qkv_bias": True, "use_bias": True}
    config = BailingMoeConfig(**plain, **ids, **more, tie_word_embeddings=True, norm_head=False)
    # Queries, keys and values have (2 + 2 x 1) x 4 = 16 rows; an expert 3 x 8 x 4 = 96.
    assert config.parameters_by_part() == {
        "embedding": 80,
        "attention": 3 * (16 * 8 + 8 * 8),
        "attention biases": 3 * (16 + 8),
        "dense layers": 3 * 8 * 6,
        "routers": 2 * 4 * 8,
        "routed experts": 2 * 4 * 96,
        "shared experts": 2 * 96,
        "norms": 7 * 8,
    }
    assert config.num_active_parameters == config.num_parameters - 2 * 2 * 96
    # A token is multiplied by what it uses of the layers: no biases, no norms. The tied matrix is the head's product all the same.
    assert config.shape.active_parameters == 576 + 144 + 64 + 2 * 2 * 96 + 192
    assert config.shape.head_parameters == 80
