"""The end of a chain: words that fit a terminal, folders and commands that can be copied."""

import io
import re
import shlex
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from rich.console import Console

from data.schema import PROBLEM_SCHEMA, problems_from_table, read_table
from flows.ending import MOST_LINES, _fitting, benchmark_rows, chain_models, ending_lines, show_ending, what_ran
from flows.request import Request
from stages.recipe import load_recipe
from stages.records.artifact import Store
from stages.sampling.asking import respond
from stages.sampling.requests import GREEDY
from tests.flows.conftest import by_key


def manifests_of(smoke):
    store = Store(smoke.ring.home)
    return {key: store.find(entry["stage"], entry["fingerprint"]) for key, entry in by_key(smoke.document).items()}


def lines_of(smoke, *, until: int = 9, verbose: bool = False, width: int = 80, **request) -> list[str]:
    stages = smoke.document["stages"][:until]
    document = {**smoke.document, "stages": stages, "results": smoke.document["results"] if until > 7 else {}}
    manifests = dict(list(manifests_of(smoke).items())[:until])
    return ending_lines(
        document, manifests, request=Request("smoke", **request), home=smoke.ring.home, width=width, verbose=verbose
    )


def test_a_benchmark_has_a_row_with_every_model_and_its_leaks_and_an_absent_one_no_number() -> None:
    def row(benchmark: str, model: str, problems: int | None, leaks: int | None, score: str) -> dict[str, object]:
        return {
            "benchmark": benchmark,
            "model": model,
            "problems": problems,
            "trained_on": leaks,
            "greedy": "-",
            "pass@1": score,
        }

    told = [
        row("gsm8k", "sft", 4, 1, ".5"),
        row("gsm8k", "mixed", 4, 1, ".7"),
        row("aime25", "", None, None, "not here"),
    ]
    assert benchmark_rows({"benchmark_scores": told}) == [
        {"benchmark": "gsm8k", "problems": 4, "trained on": 1, "sft": ".5", "mixed": ".7"},
        {"benchmark": "aime25", "problems": None, "trained on": None, "sft": "not here", "mixed": "not here"},
    ]
    assert benchmark_rows({"summary": []}) == []


@pytest.mark.parametrize("width", [80, 120])
def test_the_end_is_at_most_forty_lines_of_whole_words(smoke, width: int) -> None:
    lines = lines_of(smoke, width=width)
    assert len(lines) <= MOST_LINES
    for line in lines:
        assert len(line) <= width or "/" in line  # a path or a command is never broken


def test_the_end_says_what_was_found_where_it_is_and_what_to_do_next(smoke) -> None:
    said = "\n".join(lines_of(smoke))
    assert "9 stages ran" in said and "40 problems never seen" in said
    assert "was chosen of 2 SFT checkpoints" in said and "Curation kept" in said
    for folder in ("sft", "rl"):
        assert re.search(rf"^  \S+ +/\S+/artifacts/{folder}/[0-9a-f]{{32}}/\S+$", said, re.MULTILINE)
    assert "ring model info" in said and "ring model ask" in said
    assert smoke.document["report"] in said and str(smoke.ring.home / "mlflow.db") in said
    assert "ring show smoke --changed" in said


@pytest.mark.parametrize(("until", "there"), [(1, ()), (2, ("base",)), (3, ("sft",)), (6, ("sft", "phased", "mixed"))])
def test_a_chain_that_stops_early_says_how_to_go_on(smoke, until: int, there: tuple[str, ...]) -> None:
    lines = lines_of(smoke, until=until, overrides=("seed=3",))
    assert lines[-1].split() == "Next: ring run smoke --set seed=3 (goes on until report)".split()
    manifests = dict(list(manifests_of(smoke).items())[:until])
    assert tuple(chain_models(manifests)) == there
    assert all((folder / "config.json").is_file() for _, folder in chain_models(manifests).values())


def statuses(*names: str) -> dict:
    return {"recipe": "tiny", "seconds": 6.4, "stages": [{"status": name} for name in names]}


def test_the_first_sentence_says_what_was_computed_and_what_was_changed() -> None:
    assert what_ran(statuses("cached", "cached"), ()) == (
        "tiny: all 2 stages answered from the cache in 6 s; nothing was computed."
    )
    assert what_ran(statuses("ran", "cached", "resumed"), ("rl.seed=1", "seed=2")) == (
        "tiny with rl.seed=1 seed=2: 2 stages ran, 1 stage came from the cache; 6 s."
    )


def test_sentences_for_which_no_line_is_left_are_counted() -> None:
    said = [["- a", "  b"], ["- c"], ["- d", "  e"]]
    assert _fitting(said, room=5) == _fitting(said, room=None) == ["- a", "  b", "- c", "- d", "  e"]
    assert _fitting(said, room=4) == ["- a", "  b", "- c", "- 1 more: add --verbose, or see the report"]
    assert _fitting(said, room=2) == ["- 3 more: add --verbose, or see the report"]


def test_verbose_adds_every_table(smoke) -> None:
    console = Console(file=io.StringIO(), width=80)
    show_ending(smoke.document, request=Request("smoke"), home=smoke.ring.home, console=console, verbose=True)
    said = console.file.getvalue()
    for title in ("what each step kept", "SFT epochs", "RL arms by phase", "Paired differences", "Token efficiency"):
        assert title in said


def test_the_report_begins_with_the_same_sentences(smoke) -> None:
    page = " ".join(Path(smoke.document["report"]).read_text(encoding="utf-8").split())
    sentences = [line for line in " ".join(lines_of(smoke, width=1000)).split("- ") if "was chosen" in line]
    assert sentences and all(sentence.split(" Models:")[0].strip()[:60] in page for sentence in sentences)


def test_a_model_that_is_asked_alone_answers_as_was_recorded(smoke) -> None:
    found = manifests_of(smoke)
    problems = problems_from_table(read_table(found["curation"].folder / "heldout.parquet", PROBLEM_SCHEMA))
    samples = pq.read_table(found["evaluation"].folder / "samples.parquet").to_pylist()
    recorded = {
        row["problem_id"]: row["response"] for row in samples if (row["model"], row["sample"]) == ("mixed", GREEDY)
    }
    limit = load_recipe("smoke").recipe.evaluation.sampling.max_new_tokens
    _, folder = chain_models(found)["mixed"]
    one_of_each = {problem.domain: problem for problem in problems}
    assert set(one_of_each) == {"math", "code", "science"}
    for problem in one_of_each.values():
        assert respond(folder, problem, max_new_tokens=limit).response == recorded[problem.id]


def test_the_command_that_is_printed_asks_the_model(smoke) -> None:
    arguments = shlex.split(next(line for line in lines_of(smoke) if "model ask" in line).split("ring ")[1])
    answer = smoke.ring.json(*arguments, "--max-new-tokens", "5")
    assert answer["prompt"].startswith("PROBLEM\n") and answer["tokens"] <= 5
