"""How many rows each split of a recipe will have and how long they are, as far as the recipe, the data folder and the options tell.

In: a recipe, a data folder where there is one, and `Assumptions`. Out: `Rows`, and a `Stated` for every value that the recipe does not fix.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from data.benchmarks.catalogue import measured_set
from stages.config import FileSource, GymSource, HubSource, ProceduralSource, Recipe, RlArm
from stages.sizing.assumptions import Assumptions, Stated

_MANIFESTS = Path(__file__).resolve().parents[2] / "data" / "benchmarks" / "manifests"
_OURS = {"base": 20_000, "sft": 100_000, "probe": 200, "heldout": 500, "rl": 20_000}
_PROMPT, _INSTRUCTION = 200, 30  # tokens of a prompt where nothing tells, and of the instruction of its domain
_CHARACTERS = 3  # a token; byte-level BPE of 4 096 entries has 3.04


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
class _Known:
    """A number, and where it is from."""

    value: int
    why: str


def rows_of_recipe(recipe: Recipe, assumed: Assumptions, *, data_dir: Path | None) -> tuple[Rows, list[Stated]]:
    """What is known of the rows, and where each value comes from. Raises ValueError for files that cannot be read."""
    found = _read(recipe, data_dir) if data_dir is not None else None
    counts = dict(_split_counts(recipe, assumed, found))
    prompt = _prompt_tokens(assumed, found)
    response = _response_tokens(recipe, assumed, prompt.value)
    row = _sft_tokens(recipe, assumed, found, prompt.value + response.value)
    rows = Rows(
        **{split: count.value for split, count in counts.items()},
        prompt_tokens=prompt.value,
        sft_tokens=row.value,
        response_tokens=response.value,
    )
    known = {f"{split} rows": count for split, count in counts.items() if count.value or split in ("sft", "rl")}
    known |= {
        "prompt tokens, mean": prompt,
        "response tokens, mean": response,
        "tokens of a row of SFT, mean": row,
    }
    return rows, [Stated(name, one.value, one.why) for name, one in known.items()]


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


def _split_counts(recipe: Recipe, assumed: Assumptions, found: "_Found | None") -> Iterator[tuple[str, _Known]]:
    generated = _generated(recipe)
    reads = any(isinstance(source, FileSource | HubSource) for source in recipe.curation.sources) or found is not None
    limits = recipe.curation.mixture.rl if recipe.curation.mixture else {}
    for split in _OURS:
        option = getattr(assumed, f"{split}_rows", None)
        if split == "base" and recipe.base.checkpoint is not None:
            yield split, _Known(0, "a released model")
        elif option is not None:
            yield split, _Known(option, f"--{split}-rows")
        elif found is not None:
            rows = found.rows_of(split, {**recipe.curation.splits})
            rows = min(rows, sum(limits.values())) if split == "rl" and limits else rows
            yield split, _Known(generated[split] + rows, "--data-dir by curation.splits, before curation drops any")
        elif reads and split == "rl" and limits:
            yield split, _Known(sum(limits.values()), "curation.mixture.rl, all of them")
        elif reads and split != "heldout" and not generated[split]:
            yield split, _Known(_OURS[split], "ours" if split == "probe" else f"--{split}-rows, ours")
        else:
            yield split, _Known(generated[split], "the recipe's sources")


def _generated(recipe: Recipe) -> Counter[str]:
    """Rows of the sources that make their own, by split."""
    counts: Counter[str] = Counter()
    for source in recipe.curation.sources:
        if isinstance(source, ProceduralSource):
            counts[source.split] += source.num_kept or source.num_problems
        elif isinstance(source, GymSource):
            counts[source.split] += source.num_problems
    return counts


@dataclass(frozen=True, slots=True)
class _Found:
    """What the files hold: rows by split, of those without one how many have a solution, and mean lengths in characters."""

    marked: Counter[str]
    solved: int
    unsolved: int
    prompt_characters: float
    row_characters: float  # of prompt and solution, where there is one

    def rows_of(self, split: str, shares: Mapping[str, float]) -> int:
        """Rows of a split: its own, and its share of those that have none; without a solution they go to rl and probe alone."""
        with_solution = sum(shares.values())
        without = sum(shares.get(one, 0.0) for one in ("rl", "probe"))
        found = self.solved * shares.get(split, 0.0) / with_solution if with_solution else 0.0
        if split in ("rl", "probe") and without:
            found += self.unsolved * shares.get(split, 0.0) / without
        return self.marked[split] + round(found)


def _read(recipe: Recipe, data_dir: Path | None) -> _Found:
    from data.sources.files import load_files  # the judge's mathematics
    from stages.local_files import places

    marked: Counter[str] = Counter()
    solved = unsolved = prompts = rows = 0
    for place in places(recipe.curation, data_dir):
        for row in load_files(place.path, columns=place.columns, max_row_bytes=recipe.curation.max_row_bytes):
            problem = row.problem
            if row.fault or problem.split == "eval":
                continue
            prompts += len(problem.prompt)
            is_solved = bool(problem.solution.strip())
            rows += is_solved * (len(problem.prompt) + len(problem.solution))
            if problem.split in ("", "train", "traces"):
                solved, unsolved = solved + is_solved, unsolved + (not is_solved)
            marked[problem.split] += 1
    count, with_solution = max(1, sum(marked.values())), max(1, solved)
    return _Found(marked, solved, unsolved, prompts / count, rows / with_solution)


def _prompt_tokens(assumed: Assumptions, found: _Found | None) -> _Known:
    if assumed.prompt_tokens is not None:
        return _Known(assumed.prompt_tokens, "--prompt-tokens")
    if found is not None:
        return _Known(
            _tokens(found.prompt_characters) + _INSTRUCTION, f"--data-dir, {_CHARACTERS} characters a token, ours"
        )
    return _Known(_PROMPT, "--prompt-tokens, ours")


def _tokens(characters: float) -> int:
    return max(1, round(characters / _CHARACTERS))


def _response_tokens(recipe: Recipe, assumed: Assumptions, prompt: int) -> _Known:
    if assumed.response_tokens is not None:
        return _Known(assumed.response_tokens, "--response-tokens")
    if recipe.rl is None:
        return _Known(max(1, recipe.selection.sampling.max_new_tokens // 2), "half of selection's longest, ours")
    longest = max(2, min(recipe.rl.sampling.max_new_tokens, _shortest_phase(recipe) - prompt))
    tokens = recipe.rl.objective.tokens_per_step
    filled = tokens // (recipe.rl.prompts_per_step * recipe.rl.samples_per_prompt) if tokens else 0
    if 0 < filled <= longest:
        return _Known(filled, "the length at which a step's samples just fill its token budget")
    return _Known(longest // 2, "half of RL's longest, ours")


def _shortest_phase(recipe: Recipe) -> int:
    arms = recipe.rl.arms if recipe.rl else ()
    return min((phase.max_total_tokens for arm in arms if isinstance(arm, RlArm) for phase in arm.phases), default=0)


def _sft_tokens(recipe: Recipe, assumed: Assumptions, found: _Found | None, prompt_and_response: int) -> _Known:
    longest = recipe.sft.training.max_total_tokens
    if assumed.sft_tokens is not None:
        return _Known(min(assumed.sft_tokens, longest), "--sft-tokens")
    if found is not None and found.solved:
        tokens = _tokens(found.row_characters) + _INSTRUCTION
        return _Known(min(tokens, longest), f"--data-dir, {_CHARACTERS} characters a token, ours")
    return _Known(min(prompt_and_response, longest), "prompt and response of RL, ours")
