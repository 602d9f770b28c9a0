"""Models of other architectures are trained by the numbers that transformers computes of them, row by row."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from slow_model import SMALL, VARIANTS
from tiny_causal_lm import save_causal_lm
from torch import Tensor
from transformers import AutoModelForCausalLM
from transformers.models.mixtral.modeling_mixtral import load_balancing_loss_func

from ring_model.checkpoint import check_folder, save_model
from ring_model.modelling import BailingMoe, initialise
from ring_model.policy import BailingScorer, pack_rows
from ring_model.transformers_scorer import ADAPTER, Adapters, TransformersScorer

PROMPTS = [[5, 1, 36], [3], [11, 4]]
RESPONSES = [[7, 7, 2, 9], [8], [30, 8, 0]]
ROWS = pack_rows(PROMPTS, RESPONSES)
KINDS = ("llama", "qwen2", "qwen3_moe", "mixtral")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {kind: save_causal_lm(tmp_path_factory.mktemp(kind), kind) for kind in (*KINDS, "gpt2")}


def plain(folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


def slow_logprobs(model: Any, *, temperature: float = 1.0) -> tuple[Tensor, Tensor]:
    """Of every response token by transformers alone, a row at a time, and the entropies."""
    logprobs, entropies = [], []
    for prompt, response in zip(PROMPTS, RESPONSES, strict=True):
        logits = model(torch.tensor([[*prompt, *response]])).logits[0, len(prompt) - 1 : -1].double()
        logprobs.append((logits / temperature).log_softmax(1)[range(len(response)), response])
        table = logits.log_softmax(1)
        entropies.append(-(table.exp() * table).sum(1))
    return torch.cat(logprobs), torch.cat(entropies)


@pytest.mark.parametrize("kind", [*KINDS, "gpt2"])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_scores_are_those_of_transformers_row_by_row(folders, kind: str, temperature: float) -> None:
    scored = TransformersScorer(folders[kind])(ROWS, temperature=temperature)
    logprobs, entropies = slow_logprobs(plain(folders[kind]), temperature=temperature)
    assert (scored.logprobs_M - logprobs).abs().max() < 1e-5
    assert (scored.entropies_M - entropies).abs().max() < 1e-5


@pytest.mark.parametrize("kind", [*KINDS, "gpt2"])
def test_gradients_are_those_of_transformers(folders, kind: str) -> None:
    scorer, model = TransformersScorer(folders[kind]), plain(folders[kind])
    scorer(ROWS, entropy="none").logprobs_M.sum().backward()
    slow_logprobs(model)[0].sum().backward()
    found = dict(scorer.model.named_parameters())
    for name, parameter in model.named_parameters():
        assert torch.allclose(found[name].grad, parameter.grad, atol=2e-5 * float(parameter.grad.abs().max()) + 1e-6), (
            name
        )


def test_a_loss_that_leaves_routers_out_still_goes_back_through_their_logits(folders) -> None:
    """At ZeRO 3 every rank must go through a module's outputs alike."""
    scorer, outputs = TransformersScorer(folders["qwen3_moe"]), []

    def keep(_: Any, __: Any, output: Any) -> Any:
        """As DeepSpeed does: a view, so that what comes back this way is not what the chosen experts' weights send."""
        outputs.extend(logits.view_as(logits) for logits in output.router_logits)
        for logits in outputs:
            logits.retain_grad()
        output.router_logits = tuple(outputs)
        return output

    scorer.model.base_model.register_forward_hook(keep)
    scorer(ROWS, entropy="none").logprobs_M.sum().backward()
    assert len(outputs) == scorer.shape.routers.num_layers
    assert all(logits.grad is not None and not logits.grad.any() for logits in outputs)


@pytest.mark.parametrize("kind", ["llama", "qwen3_moe"])
def test_checkpointed_layers_give_the_same_gradients(folders, kind: str) -> None:
    gradients = []
    for checkpoints in (False, True):
        scorer = TransformersScorer(folders[kind])
        if checkpoints:
            scorer.checkpoint_layers()
        scorer(ROWS).logprobs_M.sum().backward()
        gradients.append([parameter.grad for parameter in scorer.parameters()])
    assert all(torch.allclose(one, two, atol=1e-6) for one, two in zip(*gradients, strict=True))


def test_a_dense_model_has_no_routers(folders) -> None:
    scorer = TransformersScorer(folders["llama"])
    assert scorer.shape.routers.num_layers == 0
    assert scorer(ROWS).router is None


@pytest.mark.parametrize("kind", ["qwen3_moe", "mixtral"])
def test_of_one_layer_our_balance_loss_times_the_chosen_experts_is_that_of_transformers(
    kind: str, tmp_path: Path
) -> None:
    """theirs: experts x sum over experts of (selections a token) x (mean probability), in which selections sum to K and not to 1."""
    folder = save_causal_lm(tmp_path, kind, layers=1)
    scorer, model = TransformersScorer(folder), plain(folder)
    router = scorer(ROWS).router
    routers = scorer.shape.routers
    assert (routers.num_layers, routers.num_experts, routers.num_chosen) == (1, 4, 2)
    logits = [
        model(torch.tensor([[*prompt, *response]]), output_router_logits=True).router_logits[0]
        for prompt, response in zip(PROMPTS, RESPONSES, strict=True)
    ]
    theirs = load_balancing_loss_func((torch.cat(logits),), num_experts=4, top_k=2)
    assert float(router.balance_loss(router.load_LE)) * 2 == pytest.approx(float(theirs), rel=1e-5)


@pytest.mark.parametrize("config", [SMALL, *VARIANTS.values()])
def test_the_shape_of_our_own_architecture_is_the_same_whoever_computes_it(config, tmp_path: Path) -> None:
    save_model(initialise(BailingMoe(config), seed=3), tmp_path)
    assert TransformersScorer(tmp_path).shape == config.shape


def test_a_variant_of_our_own_architecture_scores_alike_and_is_saved_alike_whoever_computes_it(
    variant: BailingMoe, tmp_path: Path
) -> None:
    save_model(variant, tmp_path / "ours")
    scorer = TransformersScorer(tmp_path / "ours")
    assert (BailingScorer(variant)(ROWS).logprobs_M - scorer(ROWS).logprobs_M).abs().max() < 1e-5
    scorer.save(tmp_path / "theirs", end_ids=[0])
    assert check_folder(tmp_path / "theirs") == variant.config.num_parameters


def test_our_own_architecture_scores_alike_whoever_computes_it(tmp_path: Path) -> None:
    model = initialise(BailingMoe(replace(SMALL, norm_head=True)), seed=3)
    save_model(model, tmp_path)
    ours, theirs = BailingScorer(model)(ROWS), TransformersScorer(tmp_path)(ROWS)
    assert (ours.logprobs_M - theirs.logprobs_M).abs().max() < 1e-5
    assert torch.allclose(
        ours.router.balance_loss(ours.router.load_LE), theirs.router.balance_loss(theirs.router.load_LE), atol=1e-5
    )


def test_a_model_that_caps_its_logits_is_refused(tmp_path: Path) -> None:
    folder = save_causal_lm(tmp_path, "gemma2")
    with pytest.raises(ValueError, match="gemma2 does more to its logits than one product"):
        TransformersScorer(folder)


@pytest.mark.parametrize("kind", ["llama", "qwen2", "qwen3_moe"])
def test_a_folder_that_is_saved_opens_again_with_the_same_weights_and_end_tokens(folders, kind, tmp_path) -> None:
    scorer = TransformersScorer(folders[kind])
    with torch.no_grad():
        next(iter(scorer.parameters())).mul_(1.5)
    scorer.save(tmp_path, end_ids=[3, 5])
    again = TransformersScorer(tmp_path)
    assert all(torch.equal(one, two) for one, two in zip(scorer.parameters(), again.parameters(), strict=True))
    assert json.loads((tmp_path / "generation_config.json").read_text())["eos_token_id"] == [3, 5]


def test_in_bfloat16_rotary_frequencies_stay_exact_and_scores_near(folders) -> None:
    exact, rounded = TransformersScorer(folders["qwen2"]), TransformersScorer(folders["qwen2"])
    rounded.compute_in(torch.bfloat16)
    rounded.read("cpu", torch.bfloat16)
    assert {parameter.dtype for parameter in rounded.parameters()} == {torch.bfloat16}
    assert rounded.model.model.rotary_emb.inv_freq.dtype == torch.float32
    difference = (rounded(ROWS).logprobs_M - exact(ROWS).logprobs_M).abs()
    assert 0 < float(difference.max()) < 0.5


# ---------------------------------------------------------------- adapters


def trained_adapter(folder: Path, **options: Any) -> TransformersScorer:
    """Adapters after some steps of SGD."""
    scorer = TransformersScorer(folder, adapters=Adapters(rank=2, alpha=8, **options))
    trained = [parameter for parameter in scorer.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        (-scorer(ROWS, entropy="none").logprobs_M.mean()).backward()
        optimizer.step()
    return scorer


@pytest.mark.parametrize("kind", ["llama", "qwen3_moe"])
def test_new_adapters_change_nothing_and_are_all_that_is_trained(folders, kind: str) -> None:
    whole, adapted = (
        TransformersScorer(folders[kind]),
        TransformersScorer(folders[kind], adapters=Adapters(rank=2, alpha=8)),
    )
    assert torch.equal(whole(ROWS).logprobs_M, adapted(ROWS).logprobs_M)
    trained = {name for name, parameter in adapted.named_parameters() if parameter.requires_grad}
    assert trained and all("lora_" in name for name in trained)


@pytest.mark.parametrize(
    ("kind", "options"),
    [("llama", {}), ("llama", {"targets": ("q_proj",)}), ("qwen3_moe", {"parameters": ("mlp.experts.down_proj",)})],
)
def test_the_saved_folder_has_the_adapter_merged_and_beside_it_the_adapter_alone(
    folders, kind, options, tmp_path
) -> None:
    from peft import PeftModel

    scorer = trained_adapter(folders[kind], **options)
    scorer.save(tmp_path / "model", end_ids=[3])
    expected = scorer(ROWS).logprobs_M
    assert (expected - TransformersScorer(folders[kind])(ROWS).logprobs_M).abs().max() > 1e-2
    merged = TransformersScorer(tmp_path / "model")
    assert (merged(ROWS).logprobs_M - expected).abs().max() < 1e-4
    adapted = PeftModel.from_pretrained(plain(folders[kind]), str(tmp_path / "model" / ADAPTER))
    assert (slow_logprobs(adapted)[0] - expected).abs().max() < 1e-4
    scorer.publish(tmp_path / "published")
    assert (TransformersScorer(tmp_path / "published")(ROWS).logprobs_M - expected).abs().max() < 1e-4
    assert not (tmp_path / "published" / ADAPTER).exists()


def test_adapters_of_our_own_architecture_are_saved_in_the_released_layout(tmp_path: Path) -> None:
    model = initialise(BailingMoe(SMALL), seed=3)
    save_model(model, tmp_path / "base")
    scorer = trained_adapter(tmp_path / "base", targets=("query_key_value", "dense"))
    scorer.save(tmp_path / "model", end_ids=[0])
    assert check_folder(tmp_path / "model") == SMALL.num_parameters


def test_a_target_that_no_module_has_is_told(folders) -> None:
    with pytest.raises(ValueError, match="adapters cannot be put into this model"):
        TransformersScorer(folders["llama"], adapters=Adapters(rank=2, alpha=8, targets=("nothing",)))
