"""How many rows each split of a recipe will have and how long they are, as far as the recipe, the data folder and the options tell.

In: a recipe, a data folder where there is one, and `Assumptions`. Out: `Rows`, and a `Stated` for every value that the recipe does not fix.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from data.benchmarks.catalogue import measured_set
from stages.config import FileSource, GymSource, HubSource, ProceduralSource, Recipe, RlArm
from stages.sizing.assumptions import Assumptions, Stated

_MANIFESTS = Path(__file__).resolve().parents[2] / "data" / "benchmarks" / "manifests"
_OURS = {"base": 20_000, "sft": 100_000, "probe": 200, "heldout": 500, "rl": 20_000}
_WORKING_SPLIT = "the recipe's sources"


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of each split, and mean lengths in tokens."""

    base: int
    sft: int
    rl: int
    probe: int
    heldout: int
    prompt_tokens: int
    sft_tokens: int  # of a row, prompt and solution
    response_tokens: int  # that a model samples


@dataclass(frozen=True, slots=True)
class _Count:
    rows: int
    why: str


def rows_of_recipe(recipe: Recipe, assumed: Assumptions, *, data_dir: Path | None) -> tuple[Rows, list[Stated]]:
    """What is known of the rows, and where each value comes from."""
    counts = dict(_split_counts(recipe, assumed, data_dir))
    response, why = _response_tokens(recipe, assumed)
    sft_tokens, sft_why = _sft_tokens(recipe, assumed, response)
    rows = Rows(
        **{split: count.rows for split, count in counts.items()},
        prompt_tokens=assumed.prompt_tokens,
        sft_tokens=sft_tokens,
        response_tokens=response,
    )
    stated = [
        *(Stated(f"{split} rows", count.rows, count.why) for split, count in counts.items() if _is_used(split, recipe)),
        Stated("prompt tokens, mean", assumed.prompt_tokens, "--prompt-tokens, ours"),
        Stated("response tokens, mean", response, why),
        Stated("tokens of a row of SFT, mean", sft_tokens, sft_why),
    ]
    return rows, stated


def benchmark_rows(name: str, assumed: Assumptions) -> int:
    """Rows of a benchmark by its frozen manifest; else what is assumed."""
    known = _manifest_rows(name)
    return assumed.benchmark_rows if known is None else known


def evaluated_rows(recipe: Recipe, rows: Rows, assumed: Assumptions) -> list[tuple[str, int, int]]:
    """(name, rows, responses to each beside the greedy one) of all that evaluation asks; the recipe's own problems have no name."""
    config = recipe.evaluation
    names = config.benchmarks or recipe.curation.benchmarks
    own = [("", rows.heldout, config.samples_per_problem)] if rows.heldout else []
    if config.benchmarks:
        return [*own, *((name, benchmark_rows(name, assumed), config.samples_of(name)) for name in names)]
    return [*own, *((name, benchmark_rows(name, assumed), config.samples_per_problem) for name in names)]


@cache
def _manifest_rows(name: str) -> int | None:
    path = _MANIFESTS / f"{measured_set(name).name}.txt"
    if not path.is_file():
        return None
    with path.open(encoding="utf-8") as lines:
        return int(next(lines).split()[1])


def _is_used(split: str, recipe: Recipe) -> bool:
    return split != "base" or recipe.base.checkpoint is None


def _split_counts(recipe: Recipe, assumed: Assumptions, data_dir: Path | None) -> Iterator[tuple[str, _Count]]:
    generated = _generated(recipe)
    reads = any(isinstance(source, FileSource | HubSource) for source in recipe.curation.sources)
    found = _counted(data_dir) if data_dir is not None else None
    for split in _OURS:
        option = getattr(assumed, f"{split}_rows", None)
        if option is not None:
            yield split, _Count(option, f"--{split}-rows")
        elif found is not None and reads:
            yield split, _of_folder(split, found, recipe, generated)
        elif reads and split == "rl" and recipe.curation.mixture and recipe.curation.mixture.rl:
            yield split, _Count(sum(recipe.curation.mixture.rl.values()), "curation.mixture.rl, all of them")
        elif reads and split != "heldout":
            yield split, _Count(generated[split] or _OURS[split], f"{_hint(split)}, ours")
        else:
            yield split, _Count(generated[split], _WORKING_SPLIT)


def _hint(split: str) -> str:
    return f"--{split}-rows" if split in ("base", "sft", "rl", "heldout") else "fixed here"


def _generated(recipe: Recipe) -> Counter[str]:
    """Rows of the sources that make their own, by split."""
    counts: Counter[str] = Counter()
    for source in recipe.curation.sources:
        if isinstance(source, ProceduralSource):
            counts[source.split] += source.num_kept or source.num_problems
        elif isinstance(source, GymSource):
            counts[source.split] += source.num_problems
    return counts


def _of_folder(split: str, train_rows: int, recipe: Recipe, generated: Counter[str]) -> _Count:
    """Rows of a folder, before curation drops any, by the shares of curation.splits."""
    shares = recipe.curation.splits
    rows = round(train_rows * shares.get(split, 0.0)) if split in ("sft", "rl", "probe") else 0
    limit = sum(recipe.curation.mixture.rl.values()) if recipe.curation.mixture and split == "rl" else rows
    return _Count(generated[split] + min(rows, limit), "curation.splits of --data-dir, before curation drops any")


def _counted(data_dir: Path) -> int:
    """Rows of `train` in a folder's files."""
    from data.sources.formats import problem_files, read_batches

    total = 0
    for file in problem_files(data_dir, what="--data-dir"):
        for batch in read_batches(file):
            splits = batch.get("split") or [""] * len(next(iter(batch.values()), []))
            total += sum(_text(value) in ("", "train") for value in splits)
    return total


def _text(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value or "")


def _response_tokens(recipe: Recipe, assumed: Assumptions) -> tuple[int, str]:
    if assumed.response_tokens is not None:
        return assumed.response_tokens, "--response-tokens"
    longest = (
        min(recipe.rl.sampling.max_new_tokens, _shortest_phase(recipe) - assumed.prompt_tokens) if recipe.rl else 0
    )
    if recipe.rl is None:
        return max(1, recipe.selection.sampling.max_new_tokens // 2), "half of selection.sampling.max_new_tokens, ours"
    tokens = recipe.rl.objective.tokens_per_step
    if tokens is None:
        return max(1, longest // 2), "half of the longest, ours"
    filled = tokens // (recipe.rl.prompts_per_step * recipe.rl.samples_per_prompt)
    if filled <= longest:
        return max(1, filled), "the length at which a step's samples just fill its token budget"
    return max(1, longest // 2), "half of the longest, ours: no length fills a step's token budget"


def _shortest_phase(recipe: Recipe) -> int:
    arms = recipe.rl.arms if recipe.rl else ()
    return min((phase.max_total_tokens for arm in arms if isinstance(arm, RlArm) for phase in arm.phases), default=0)


def _sft_tokens(recipe: Recipe, assumed: Assumptions, response: int) -> tuple[int, str]:
    if assumed.sft_tokens is not None:
        return assumed.sft_tokens, "--sft-tokens"
    tokens = min(assumed.prompt_tokens + response, recipe.sft.training.max_total_tokens)
    return tokens, "prompt and response of RL, at most sft.training.max_total_tokens, ours"
