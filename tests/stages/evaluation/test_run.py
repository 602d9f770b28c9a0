"""The table that compares what arms took."""

import json
from pathlib import Path

from stages.evaluation.run import _ledger
from stages.training.checkpoints import Checkpoint, write_checkpoints


def _steps(folder: Path, *rows: tuple[int, float]) -> Path:
    """Lines of steps.jsonl: tokens and FLOPs so far."""
    folder.mkdir(parents=True)
    lines = [{"tokens/trained": tokens, "compute/total_flops": flops} for tokens, flops in rows]
    (folder / "steps.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def test_arms_are_told_with_their_tokens_over_those_of_their_start_and_their_flops_over_the_most(
    tmp_path: Path,
) -> None:
    kept = [
        Checkpoint(f"epoch-{n:02d}", epoch=n, steps=n, tokens_trained=100 * n, validation_loss=None) for n in (1, 2)
    ]
    inputs = {
        "sft": tmp_path / "sft",
        "selection": tmp_path / "selection",
        "rl/mixed": _steps(tmp_path / "mixed", (10, 1e6), (50, 6e6)),
        "rl/more": _steps(tmp_path / "more", (300, 8e6)),
    }
    inputs["selection"].mkdir()
    inputs["sft"].mkdir()
    write_checkpoints(inputs["sft"], kept)
    (inputs["selection"] / "choice.json").write_text('{"checkpoint": "epoch-01"}')
    results = {
        f"{model}/all/{metric}": {"value": 0.5} for model in ("sft", "mixed", "more") for metric in ("greedy", "pass@1")
    }
    rows = {row.pop("model"): row for row in _ledger(inputs, results, starts={"more": "epoch-02"})}
    scores = {"start": "epoch-01", "sft_tokens": 100, "greedy": 0.5, "pass@1": 0.5}
    later = {"start": "epoch-02", "sft_tokens": 200, "greedy": 0.5, "pass@1": 0.5}
    assert rows == {
        "sft": {"further_tokens": 0, "further / sft": 0.0, "further_flops": 0.0, "flops / most": 0.0, **scores},
        "mixed": {"further_tokens": 50, "further / sft": 0.5, "further_flops": 6e6, "flops / most": 0.75, **scores},
        "more": {"further_tokens": 300, "further / sft": 1.5, "further_flops": 8e6, "flops / most": 1.0, **later},
    }
