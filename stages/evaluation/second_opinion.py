r"""A second opinion on stored responses: tasks of lm-eval (EleutherAI, extra `crosscheck`) judge them again with their own code.

In: judged responses of MATH-500, AIME 2024, AIME 2025 and GSM8K. Out: an `Opinion` for each response and task. Nothing is sampled: the
responses are rows of a local parquet file, which lm-eval loads as the data set of its task and gets back as what "a model" generated,
cut at the task's stop sequences and after `</think>` as lm-eval cuts those of a server. Filters, answers and metrics are lm-eval's.

A task is asked in one of two ways (`Task.sentence`). Where it reads what our prompt asks for, `\boxed{}` or the last number, it gets
the response, and finds the answer itself. Where it wants another sentence, as `#### 72`, it gets our extracted answer in that sentence:
its opinion is then about the equality of two answers alone, and responses in which we found none are left out.
"""

import contextlib
import importlib
import importlib.metadata
import io
import logging
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from data.domains import FAILED_STATUSES
from data.domains.extraction import last_box
from data.schema import Problem, write_table
from stages.records.artifact import write_json
from stages.sampling.rescoring import Judged

LIBRARY = "lm_eval"
_MISSING = "a second opinion needs lm-eval, which is not installed: pip install -e '.[crosscheck]' -c constraints.txt"
_END_OF_THINKING = "</think>"
_RESPONSE = "response"  # column of a task's rows


@dataclass(frozen=True, slots=True)
class Task:
    """A task of lm-eval, and what of it decides."""

    file: str  # in lm-eval's folder of tasks
    split: str  # of its data set, that is evaluated
    columns: Callable[[Problem], Mapping[str, str]]  # a row of its data set
    metric: str = "exact_match"
    filter: str = "none"
    sentence: str = ""  # in which our extracted answer is given, at `@`; empty: it gets the whole response

    @property
    def name(self) -> str:
        """What lm-eval calls it."""
        return Path(self.file).stem

    @property
    def title(self) -> str:
        """Task, filter where there are several, metric."""
        return "/".join((self.name, *([self.filter] if self.filter != "none" else []), self.metric))

    @property
    def given(self) -> str:
        """What it is given: the response, or our answer in a sentence of its own."""
        return self.sentence.replace("@", "…") or "the response"


@dataclass(frozen=True, slots=True)
class Opinion:
    """What a task of lm-eval says of a response."""

    benchmark: str
    task: Task
    judged: Judged
    is_right: bool
    read: str  # the answer that it found; empty where the task does not tell

    @property
    def ours(self) -> bool:
        """Whether we call the response right."""
        return self.judged.row["status"] == "correct"


# ---------------------------------------------------------------- rows of the tasks' data sets


def _math(problem: Problem) -> dict[str, str]:
    solution = problem.solution
    if last_box(solution) != problem.answer:
        solution = f"\\boxed{{{problem.answer}}}"
    return {"problem": problem.prompt, "solution": solution, "answer": problem.answer}


def _aime24(problem: Problem) -> dict[str, str]:
    return {"Problem": problem.prompt, "Answer": problem.answer}


def _aime25(problem: Problem) -> dict[str, str]:
    return {"problem": problem.prompt, "answer": problem.answer}


def _gsm8k(problem: Problem) -> dict[str, str]:
    return {"question": problem.prompt, "answer": f"#### {problem.answer}"}


TASKS: Mapping[str, tuple[Task, ...]] = {  # source of a problem -> who is asked
    "math500": (
        Task("minerva_math/minerva_math500.yaml", "test", _math, metric="math_verify"),
        Task(
            "minerva_math/minerva_math500.yaml",
            "test",
            _math,
            sentence="Final Answer: The final answer is $@$. I hope it is correct.",
        ),
        Task("hendrycks_math/hendrycks_math500.yaml", "test", _math, sentence="$@$"),
    ),
    "aime24": (Task("aime/aime24.yaml", "train", _aime24),),
    "aime25": (Task("aime/aime25.yaml", "test", _aime25),),
    "gsm8k": (
        Task("gsm8k/gsm8k.yaml", "test", _gsm8k, filter="flexible-extract"),
        Task("gsm8k/gsm8k.yaml", "test", _gsm8k, filter="strict-match", sentence="#### @"),
    ),
}


# ---------------------------------------------------------------- asking


def library_version() -> str:
    """The version of lm-eval. Raises ValueError where it, or the ANTLR that its tasks of mathematics need, is not installed."""
    try:
        version = importlib.metadata.version(LIBRARY)
        antlr = importlib.metadata.version("antlr4-python3-runtime")
    except importlib.metadata.PackageNotFoundError as error:
        raise ValueError(_MISSING) from error
    if not antlr.startswith("4.11."):
        raise ValueError(
            f"lm-eval reads formulas with antlr4-python3-runtime 4.11, and {antlr} is installed: "
            "pip install -e '.[crosscheck]' -c constraints.txt"
        )
    return version


def second_opinions(judged: Sequence[Judged]) -> Iterator[Opinion]:
    """What every task of their benchmarks says of the responses, task by task, in the order of the responses.

    Of problems that no task knows, and of responses on which our judge failed, it says nothing.
    Raises ValueError where lm-eval is not installed. Only for a process's main thread: lm-eval ends long comparisons by a signal.
    """
    library_version()
    for benchmark, tasks in TASKS.items():
        here = [one for one in judged if one.problem.source == benchmark and one.row["status"] not in FAILED_STATUSES]
        for task in tasks:
            asked = [one for one in here if one.row["extracted"] or not task.sentence]
            if asked:
                yield from _opinions(benchmark, task, asked)


def _opinions(benchmark: str, task: Task, asked: Sequence[Judged]) -> Iterator[Opinion]:
    rows = [dict(task.columns(one.problem)) | {_RESPONSE: _text(task, one)} for one in asked]
    with tempfile.TemporaryDirectory() as folder:
        said = _ask(task, rows, Path(folder))
    for one, sample in zip(asked, said, strict=True):
        (read,) = sample["filtered_resps"]
        found = read if task.filter != "none" else ""
        yield Opinion(benchmark, task, one, bool(sample[task.metric]), found)


def _text(task: Task, one: Judged) -> str:
    return task.sentence.replace("@", one.row["extracted"]) if task.sentence else one.row["response"]


def _ask(task: Task, rows: Sequence[Mapping[str, str]], folder: Path) -> list[dict[str, Any]]:
    """lm-eval's log of every row, in their order."""
    manager = _module("tasks").TaskManager(include_defaults=False)
    logging.getLogger(LIBRARY).setLevel(logging.ERROR)  # it tells of each setting that a stored response does not need
    with contextlib.redirect_stderr(io.StringIO()):  # bars for each of several loops
        loaded = manager.load([str(_local_task(task, rows, folder))])
        results = _module("evaluator").evaluate(_stored_responses(), loaded, bootstrap_iters=0)
    said = [sample for sample in results["samples"][task.name] if sample["filter"] == task.filter]
    return sorted(said, key=lambda sample: sample["doc_id"])


def _local_task(task: Task, rows: Sequence[Mapping[str, str]], folder: Path) -> Path:
    """The file of a task that is lm-eval's, but for its data set, which is the rows, and for worked examples, which it has none."""
    write_table(pa.Table.from_pylist(list(rows)), folder / "rows.parquet")
    changed = {
        "include": str(Path(_module("tasks").__file__).parent / task.file),
        "task": task.name,
        "dataset_path": "parquet",
        "dataset_name": None,
        "dataset_kwargs": {
            "data_files": {task.split: str(folder / "rows.parquet")},
            "cache_dir": str(folder / "cache"),
        },
        "training_split": None,
        "fewshot_split": None,
        "num_fewshot": 0,
    }
    write_json(folder / "task.yaml", changed)  # JSON is YAML
    return folder / "task.yaml"


def _stored_responses() -> Any:  # noqa: ANN401 - a class of an optional package
    """A model of lm-eval that generates what the row holds, cut as lm-eval cuts what a server says."""
    cut = _module("models.utils").postprocess_generated_text

    class StoredResponses(_module("api.model").LM):
        def generate_until(self, requests: Sequence[Any], **_: object) -> list[str]:
            return [
                cut(request.doc[_RESPONSE], stop=request.args[1]["until"], think_end_token=_END_OF_THINKING)
                for request in requests
            ]

        def loglikelihood(self, requests: Sequence[Any], **_: object) -> list[tuple[float, bool]]:
            raise NotImplementedError("stored responses have no likelihood")

        def loglikelihood_rolling(self, requests: Sequence[Any], **_: object) -> list[float]:
            raise NotImplementedError("stored responses have no likelihood")

    return StoredResponses()


def _module(name: str) -> Any:  # noqa: ANN401 - an optional package
    try:
        return importlib.import_module(f"{LIBRARY}.{name}")
    except ImportError as error:
        raise ValueError(_MISSING) from error


# ---------------------------------------------------------------- counting


def agreement_rows(opinions: Sequence[Opinion]) -> list[dict[str, Any]]:
    """The table of two by two of each benchmark and task, in a row: who calls how many responses right."""
    tables: dict[tuple[str, Task], list[Opinion]] = {}
    for one in opinions:
        tables.setdefault((one.benchmark, one.task), []).append(one)
    return [
        {
            "benchmark": benchmark,
            "task": task.title,
            "given": task.given,
            "responses": len(asked),
            "both_right": sum(one.ours and one.is_right for one in asked),
            "ours_alone": sum(one.ours and not one.is_right for one in asked),
            "theirs_alone": sum(one.is_right and not one.ours for one in asked),
            "both_wrong": sum(not one.ours and not one.is_right for one in asked),
        }
        for (benchmark, task), asked in tables.items()
    ]


def disagreements(opinions: Sequence[Opinion]) -> list[dict[str, Any]]:
    """Every response that one side alone calls right."""
    return [
        {
            "benchmark": one.benchmark,
            "task": one.task.title,
            "model": one.judged.where,
            "problem": one.judged.problem.id,
            "sample": one.judged.row["sample"],
            "gold": one.judged.problem.answer,
            "extracted": one.judged.row["extracted"],
            "ours": one.judged.row["status"],
            "reason": one.judged.row["reason"],
            "read": one.read,
            "theirs": "correct" if one.is_right else "wrong",
        }
        for one in opinions
        if one.ours != one.is_right
    ]
