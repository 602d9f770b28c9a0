"""`ring run` of a released checkpoint on real problems, from curation to benchmarks: what is asked, how it ends, and what is told.

The checkpoint is made here: merges over bytes that `tokenizers` learns from the problems, a chat template of its own that leaves the
thinking to the model, several end tokens, random weights in the released layout. Nothing it says is right; every prompt must be.
"""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tokenizers
from tokenizers import AddedToken
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.trainers import BpeTrainer

from data.schema import write_table
from flows.commands.model import info
from ring_model.checkpoint import save_model
from ring_model.configuration import BailingMoeConfig
from ring_model.modelling import BailingMoe, initialise
from ring_model.tokenizer import Tokenizer
from stages.config import Training
from stages.sft.run import rows_of
from tests.flows.conftest import ROOT, Ring

END, TURN, START = "<|end|>", "<|turn|>", "<|start|>"
SPECIAL = (END, TURN, START, "<think>", "</think>")
TEMPLATE = (
    "{% if messages[0].role == 'assistant' %}{{ raise_exception('a user speaks first') }}{% endif %}"
    "{% for message in messages %}<|start|>{{ message.role }}\n{{ message.content }}<|turn|>{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
)
ASKED = "<|start|>user\n{}\nPlease reason step by step, and put your final answer within \\boxed{{}}.<|turn|><|start|>assistant\n"
RECIPE = """
[curation]
benchmarks = ["gsm8k", "math500", "aime25"]
splits = { sft = 0.4, rl = 0.4, probe = 0.1, validation = 0.1 }

[base]
checkpoint = "released"

[sft.training]
epochs = 1
learning_rate = 1e-3
batch_tokens = 4096
max_total_tokens = 512

[selection]
grading_samples = 2
sampling = { max_new_tokens = 24 }

[rl]
prompts_per_step = 4
samples_per_prompt = 2
objective = { token_budget = 400, budget_scope = "global" }
sampling = { max_new_tokens = 24 }

[[rl.arms]]
kind = "rl"
name = "mixed"

[[rl.arms.phases]]
name = "math"
steps = 2
mixture = { math = 1.0 }
max_total_tokens = 512

[evaluation]
benchmarks = ["gsm8k", "math500", "aime25"]
benchmark_samples = { math500 = 2 }
another_version = true           # a few rows are no whole set
sampling = { max_new_tokens = 24, top_p = 0.95 }

[runtime]
workers = 1
parallel_arms = 1
"""


@pytest.fixture(scope="module")
def public_data() -> Path:
    folder = Path(os.environ.get("RING_DATA_DIR", ROOT.parent / "shared" / "data"))
    if not (folder / "gsm8k.parquet").is_file():
        pytest.skip(f"no public problem sets in {folder}; set RING_DATA_DIR")
    return folder


def _some_rows(folder: Path, name: str, split: str, count: int) -> pa.Table:
    """The first rows with short prompts and solutions."""
    rows = [
        row
        for row in pq.read_table(folder / f"{name}.parquet").to_pylist()
        if row["split"] == split and len(row["prompt"]) < 220 and len(row["solution"]) < 300
    ]
    return pa.Table.from_pylist(rows[:count])


def _save_released(folder: Path, texts: list[str]) -> None:
    """A model folder as others release one."""
    backend = tokenizers.Tokenizer(BPE())
    backend.pre_tokenizer = ByteLevel(add_prefix_space=False)
    backend.decoder = ByteLevelDecoder()
    trainer = BpeTrainer(
        vocab_size=400, initial_alphabet=ByteLevel.alphabet(), special_tokens=[*SPECIAL], show_progress=False
    )
    backend.train_from_iterator(texts, trainer)
    backend.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in SPECIAL])
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    experts = {"num_experts": 4, "num_experts_per_tok": 2, "num_shared_experts": 1, "moe_intermediate_size": 16}
    ids = {"vocab_size": backend.get_vocab_size(), "eos_token_id": 0, "pad_token_id": 0}
    config = BailingMoeConfig(**sizes, **experts, **ids, max_position_embeddings=512)
    save_model(initialise(BailingMoe(config), seed=0), folder, end_ids=[0, 1])
    (folder / "tokenizer.json").write_text(backend.to_str(), encoding="utf-8")
    named = [{"name": "tool_use", "template": "no"}, {"name": "default", "template": TEMPLATE}]
    settings = {"chat_template": named, "eos_token": END, "tokenizer_class": "PreTrainedTokenizerFast"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")


@dataclass(frozen=True)
class _Chain:
    released: Path
    home: Path
    said: str

    def folder(self, stage: str) -> Path:
        """The one result of a stage."""
        (found,) = (path.parent for path in (self.home / "artifacts" / stage).glob("*/manifest.json"))
        return found


@pytest.fixture(scope="module")
def chain(public_data: Path, tmp_path_factory: pytest.TempPathFactory) -> _Chain:
    root = tmp_path_factory.mktemp("released")
    sets = {
        "gsm8k_train": _some_rows(public_data, "gsm8k", "train", 40),
        "gsm8k": _some_rows(public_data, "gsm8k", "eval", 4),
        "math_train": _some_rows(public_data, "math_train", "train", 16),
        "math500": _some_rows(public_data, "math500", "eval", 3),
    }
    for name, table in sets.items():
        write_table(table, root / "sets" / f"{name}.parquet")
    _save_released(root / "released", [text for table in sets.values() for text in table["prompt"].to_pylist()])
    (root / "own.toml").write_text(RECIPE, encoding="utf-8")
    ring = Ring(root / "home")
    said = ring("run", str(root / "own.toml"), "--data-dir", str(root / "sets")).stdout
    return _Chain(root / "released", ring.home, said)


def test_the_folder_is_described_as_it_is_read(chain: _Chain, capsys: pytest.CaptureFixture[str]) -> None:
    assert info(str(chain.released)) == 0
    told = capsys.readouterr().out
    assert "chat template: tokenizer_config.json, 'default' (not used: tool_use)\n" in told
    assert "thinking: opened by the model: its responses begin with <think>\n" in told
    assert "end tokens: <|end|> (0), <|turn|> (1), of which the first ends what is trained on\n" in told


def _responses(chain: _Chain) -> Iterator[dict[str, Any]]:
    """Every response of selection, RL and evaluation."""
    for key, pattern in (("selection", "*.parquet"), ("rl", "rollouts/*.parquet"), ("evaluation", "*.parquet")):
        tables = [pq.read_table(path) for path in sorted(chain.folder(key).glob(pattern))]
        rows = [row for table in tables if "prompt_ids" in table.column_names for row in table.to_pylist()]
        assert rows, key
        yield from rows


def _backend(chain: _Chain) -> tokenizers.Tokenizer:
    """The tokenizer that SFT exports with its model, opened without any code of ours."""
    return tokenizers.Tokenizer.from_file(str(chain.folder("sft") / "epoch-01" / "tokenizer.json"))


def test_every_prompt_is_the_folders_template_around_the_problem_and_its_instruction(chain: _Chain) -> None:
    curation = chain.folder("curation")
    problems = {
        row["id"]: row["prompt"]
        for split in ("rl", "probe", "benchmarks")
        for row in pq.read_table(curation / f"{split}.parquet").to_pylist()
    }
    backend = _backend(chain)
    texts = {
        row["problem_id"]: backend.decode(row["prompt_ids"], skip_special_tokens=False) for row in _responses(chain)
    }
    assert texts == {name: ASKED.format(problems[name]) for name in texts}
    assert {name.split("/")[0] for name in texts} >= {"gsm8k", "math500"}


def test_a_response_ends_with_the_first_end_token_of_the_list(chain: _Chain) -> None:
    ends, backend = set(), _backend(chain)
    for row in _responses(chain):
        *before, last = row["token_ids"]
        assert not {0, 1}.intersection(before)
        assert row["truncated"] == (last not in (0, 1))
        said = row["token_ids"] if row["truncated"] else before
        assert row["response"] == backend.decode(said, skip_special_tokens=False)
        ends.add(last)
    assert {0, 1} <= ends


def test_what_is_trained_on_opens_and_ends_the_thinking_once_and_ends_with_the_first_end_token(chain: _Chain) -> None:
    tokenizer = Tokenizer.from_folder(chain.released)
    rows = rows_of(chain.folder("curation") / "sft.parquet", tokenizer, Training(max_total_tokens=512)).rows
    assert rows
    for row in rows:
        whole = [*row.prompt, *row.response]
        opening, closing = SPECIAL.index("<think>"), SPECIAL.index("</think>")
        assert [whole.count(index) for index in (opening, closing, 0)] == [1, 1, 1]
        assert (row.response[0], row.response[-1]) == (opening, 0)


def test_what_is_exported_keeps_the_template_and_every_end_token(chain: _Chain) -> None:
    for folder in (chain.folder("sft") / "epoch-01", chain.folder("rl") / "model"):
        exported = Tokenizer.from_folder(folder)
        assert (exported.template.text, exported.end_ids) == (TEMPLATE, (0, 1))


def test_every_model_has_its_benchmarks_by_their_samples_and_what_is_absent_has_no_number(chain: _Chain) -> None:
    results = json.loads((chain.folder("evaluation") / "results.json").read_text(encoding="utf-8"))
    metrics = {"gsm8k": ("greedy", "pass@1"), "math500": ("greedy", "pass@1", "pass@2")}
    assert {name: entry["n"] for name, entry in results.items()} == {
        f"{model}/{name}/{metric}": {"gsm8k": 4, "math500": 3}[name]
        for model in ("sft", "mixed")
        for name in metrics
        for metric in metrics[name]
    }
    tables = json.loads((chain.folder("evaluation") / "tables.json").read_text(encoding="utf-8"))
    assert {row["trained_on"] for row in tables["benchmark_scores"] if row["model"]} == {0}
    assert {row["group"] for row in tables["comparisons"]} == {"gsm8k", "math500"}
    (line,) = (line for line in chain.said.splitlines() if line.startswith("aime25"))
    assert line.split("  ")[0].strip() == "aime25" and "not available here" in line
