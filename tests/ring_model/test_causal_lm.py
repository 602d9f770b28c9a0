"""Models of any architecture, drawn as ours are: compared with a loop without cache, padding and batch, in plain Python."""

import functools
import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_causal_lm import POSITIONS, TEMPLATE, save_causal_lm, slow_logits
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from ring_model.causal_lm import check_causal_lm, load_causal_lm
from ring_model.generation import Completion, uniforms

KINDS = ("llama", "qwen2", "gpt2")
ROWS = [[5, 1, 36, 2, 2, 9, 30], [3, 8], [11, 4, 30, 8], [3, 8], list(range(10, 40))]
SEEDS = (7, 2**63 + 5, 0, 11, 3)
PREFERRED = {
    "do_sample": True,
    "top_k": 1,
    "temperature": 9.0,
    "repetition_penalty": 5.0,
    "min_length": 40,
    "max_length": 3,
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """What the folders say of sampling must say nothing."""
    root = tmp_path_factory.mktemp("causal")
    return {kind: save_causal_lm(root / kind, kind, **PREFERRED) for kind in KINDS}


@pytest.fixture
def copied(folders: dict[str, Path], tmp_path: Path) -> Path:
    """A folder to be changed."""
    return Path(shutil.copytree(folders["llama"], tmp_path / "model"))


def respond(folder: Path, **values: object) -> list[Completion]:
    defaults: dict = {"seeds": SEEDS, "max_new_tokens": 12, "temperature": 1.0, "max_rows": 3}
    return load_causal_lm(folder).respond(ROWS, **{**defaults, **values})


@functools.cache
def opened(folder: Path) -> PreTrainedModel:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


def slow_response(
    folder: Path, row: list[int], seed: int, *, temperature: float, top_p: float, length: int
) -> tuple[list[int], list[float], list[float]]:
    """Tokens, log-probabilities at the temperature, entropies at temperature 1."""
    model = opened(folder)
    end = model.config.eos_token_id
    tokens: list[int] = []
    logprobs, entropies = [], []
    while len(tokens) < length and (not tokens or tokens[-1] != end):
        logits = slow_logits(model, row + tokens)
        plain = logits.softmax(0).tolist()
        drawn = (logits / (temperature or 1.0)).softmax(0).tolist()
        if temperature == 0.0:
            token = max(range(len(plain)), key=plain.__getitem__)
        else:
            uniform = uniforms(np.array([seed], np.uint64), np.array([len(tokens)], np.uint64))[0]
            token = _at(_nucleus(drawn, top_p), uniform)
        tokens.append(token)
        logprobs.append(math.log(drawn[token]))
        entropies.append(-sum(p * math.log(p) for p in plain if p > 0))
    return tokens, logprobs, entropies


def _nucleus(probabilities: list[float], top_p: float) -> list[float]:
    kept, total = [0.0] * len(probabilities), 0.0
    for token in sorted(range(len(probabilities)), key=lambda one: -probabilities[one]):
        if total >= top_p:
            break
        kept[token] = probabilities[token]
        total += probabilities[token]
    return kept


def _at(probabilities: list[float], uniform: float) -> int:
    rest = uniform * sum(probabilities)
    for token, probability in enumerate(probabilities):
        rest -= probability
        if rest < 0:
            return token
    raise AssertionError


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("temperature", "top_p"), [(0.0, 1.0), (1.0, 1.0), (0.7, 0.8)])
def test_responses_equal_a_slow_loop(folders: dict[str, Path], kind: str, temperature: float, top_p: float) -> None:
    made = respond(folders[kind], temperature=temperature, top_p=top_p)
    for row, seed, completion in zip(ROWS, SEEDS, made, strict=True):
        tokens, logprobs, entropies = slow_response(
            folders[kind], row, seed, temperature=temperature, top_p=top_p, length=12
        )
        assert completion.token_ids == tokens
        assert completion.logprobs == pytest.approx(logprobs, abs=1e-4)
        assert completion.entropies == pytest.approx(entropies, abs=1e-4)
    assert len({tuple(completion.token_ids) for completion in made}) >= 4


def test_a_response_is_a_function_of_its_seed_and_of_no_other_rows(folders: dict[str, Path]) -> None:
    alone = load_causal_lm(folders["qwen2"]).respond(ROWS[2:3], seeds=SEEDS[2:3], max_new_tokens=12, temperature=1.0)
    beside = respond(folders["qwen2"], max_rows=5)
    assert alone[0].token_ids == beside[2].token_ids
    assert beside[1].token_ids != beside[3].token_ids  # one prompt, two seeds


def test_the_same_call_gives_the_same_bits(folders: dict[str, Path]) -> None:
    torch.manual_seed(1)
    first = respond(folders["llama"])
    torch.manual_seed(2)
    second = respond(folders["llama"])
    assert [one.token_ids for one in first] == [one.token_ids for one in second]
    assert all((one.logprobs == other.logprobs).all() for one, other in zip(first, second, strict=True))


@pytest.mark.parametrize("where", ["generation_config.json", "config.json"])
def test_any_of_several_end_tokens_ends_a_response(copied: Path, where: str) -> None:
    whole = respond(copied, temperature=0.0)
    ends = [whole[0].token_ids[3], whole[1].token_ids[5]]
    if where == "config.json":
        (copied / "generation_config.json").unlink()
    path = copied / where
    path.write_text(json.dumps((json.loads(path.read_text())) | {"eos_token_id": ends}))
    for before, after in zip(whole, respond(copied, temperature=0.0), strict=True):
        places = [n for n, token in enumerate(before.token_ids) if token in ends]
        expected = before.token_ids[: places[0] + 1] if places else before.token_ids
        assert after.token_ids == expected and after.finished == bool(places)
        assert len(after.logprobs) == len(after.entropies) == len(expected)
        assert after.logprobs.tolist() == pytest.approx(before.logprobs[: len(expected)].tolist(), abs=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_response_ends_where_the_positions_do(folders: dict[str, Path], kind: str) -> None:
    model = load_causal_lm(folders[kind])
    assert model.max_positions == POSITIONS
    rows = [[5] * (POSITIONS - 4), [5, 6]]
    long, short = model.respond(rows, seeds=(0, 1), max_new_tokens=100, temperature=1.0, max_rows=1)
    assert long.finished or len(long.token_ids) == 4
    assert short.finished or len(short.token_ids) == POSITIONS - 2
    for row in ([], [5] * POSITIONS):
        with pytest.raises(
            ValueError, match=f"a prompt of {len(row)} tokens leaves no room: the model has 64 positions"
        ):
            model.respond([row], seeds=(0,), max_new_tokens=1, temperature=1.0)


# ---------------------------------------------------------------- prompts and texts


def test_a_prompt_is_what_the_template_makes_of_the_users_turn(folders: dict[str, Path]) -> None:
    model, tokenizer = load_causal_lm(folders["llama"]), AutoTokenizer.from_pretrained(folders["llama"])
    prompt = model.prompt("what is 3?")
    assert tokenizer.decode(prompt.token_ids) == "<|im_start|>user\nwhat is 3?<|im_end|>\n<|im_start|>assistant\n"
    assert prompt.token_ids.count(tokenizer.convert_tokens_to_ids("<|im_start|>")) == 2
    assert not prompt.opens_thinking


def test_without_a_template_the_prompt_is_the_text(tmp_path: Path) -> None:
    model = load_causal_lm(save_causal_lm(tmp_path / "base", template=None))
    prompt = model.prompt("what is 3?")
    assert prompt.token_ids == AutoTokenizer.from_pretrained(tmp_path / "base")("what is 3?")["input_ids"]


@pytest.mark.parametrize(("ending", "opens"), [("<think>\\n", True), ("<think>\\n\\n</think>\\n", False)])
def test_a_response_holds_the_thinking_that_the_prompt_opened(tmp_path: Path, ending: str, opens: bool) -> None:
    template = TEMPLATE + "{% if add_generation_prompt %}{{ '" + ending + "' }}{% endif %}"
    model = load_causal_lm(save_causal_lm(tmp_path / "thinks", template=template))
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "thinks")
    prompt = model.prompt("what is 3?")
    assert prompt.opens_thinking == opens
    ids = tokenizer("so</think> 3")["input_ids"]
    for finished, more in ((False, []), (True, [tokenizer.eos_token_id])):
        nothing = np.zeros(len(ids) + len(more), np.float32)
        text = model.text(Completion([*ids, *more], nothing, nothing, finished=finished), prompt)
        assert text == ("<think>so</think> 3" if opens else "so</think> 3")


def test_a_template_that_fails_is_told(tmp_path: Path) -> None:
    template = "{{ raise_exception('only for two') }}"
    model = load_causal_lm(save_causal_lm(tmp_path / "refuses", template=template))
    with pytest.raises(ValueError, match="refuses: the chat template cannot render a problem: only for two"):
        model.prompt("what is 3?")


# ---------------------------------------------------------------- folders that are refused


def change_config(folder: Path, **values: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def refused(folder: Path) -> str:
    with pytest.raises(ValueError) as caught:
        check_causal_lm(folder)
    assert str(folder) in str(caught.value)
    return str(caught.value)


def test_a_whole_folder_is_taken(folders: dict[str, Path]) -> None:
    for folder in folders.values():
        check_causal_lm(folder)


def test_no_code_of_a_folder_is_run(copied: Path) -> None:
    change_config(copied, model_type="new", auto_map={"AutoConfig": "code.C", "AutoModelForCausalLM": "code.M"})
    (copied / "code.py").write_text("raise SystemExit('ran')")
    assert "without running code of it" in refused(copied)


def test_an_architecture_that_is_none_of_a_causal_model_is_told(copied: Path) -> None:
    change_config(copied, model_type="vit", architectures=["ViTModel"])
    assert "a model of type vit is no causal language model that transformers opens" in refused(copied)


def test_weights_of_other_formats_are_not_read(copied: Path) -> None:
    torch.save(load_file(copied / "model.safetensors"), copied / "pytorch_model.bin")
    (copied / "model.safetensors").unlink()
    assert "holds no *.safetensors; weights of other formats can run code and are not read" in refused(copied)


def test_a_folder_without_a_tokenizer_is_told(copied: Path) -> None:
    for path in copied.glob("tokenizer*"):
        path.unlink()
    assert "cannot open the tokenizer of this folder" in refused(copied)


def test_a_folder_without_an_end_token_is_told(copied: Path) -> None:
    change_config(copied, eos_token_id=None)
    (copied / "generation_config.json").write_text("{}")
    path = copied / "tokenizer_config.json"
    values = json.loads(path.read_text())
    path.write_text(json.dumps({name: value for name, value in values.items() if name != "eos_token"}))
    assert "names no end token; set eos_token_id in generation_config.json" in refused(copied)


def test_a_damaged_generation_config_is_told(copied: Path) -> None:
    (copied / "generation_config.json").write_text("[]")
    assert "generation_config.json is not a JSON object" in refused(copied)


@pytest.mark.parametrize("damage", ["missing", "shape", "torn", "nan"])
def test_damaged_weights_are_told_and_not_made_up(copied: Path, damage: str) -> None:
    path = copied / "model.safetensors"
    tensors = load_file(path)
    name = "model.layers.0.mlp.up_proj.weight"
    if damage == "missing":
        del tensors[name]
    elif damage == "shape":
        tensors[name] = tensors[name][:-1].contiguous()
    elif damage == "nan":
        tensors[name][0, 0] = math.nan
    save_file(tensors, path, metadata={"format": "pt"})
    if damage == "torn":
        path.write_bytes(path.read_bytes()[:-100])
    if damage == "nan":
        with pytest.raises(FloatingPointError, match="log-probabilities are not finite"):
            respond(copied)
        return
    with pytest.raises(ValueError, match=str(copied)) as caught:
        load_causal_lm(copied)
    assert damage == "torn" or "tensors are missing or of another shape, such as" in str(caught.value)
    assert damage == "torn" or name in str(caught.value)
