r"""Our judge and lm-eval's on the same responses: `python -m benchmarks crosscheck [--problems N] [--out FILE]`.

A server of this machine answers the problems of MATH-500, AIME 2024, AIME 2025 and GSM8K with text whose truth is known
(`surface_forms`): the sets' own solutions, answers in many right and wrong forms, and what models said that the data folder has
recorded. The stage of `ring evaluate` asks it and stores what it says; lm-eval judges that as in `ring crosscheck`. Printed are the
tables of agreement, every kind of response on which the two part, and where a verdict is not the truth. Needs the extra `crosscheck`.

Last, the cases of the data folder's `cases/*math*.jsonl`, each a gold, a response and whether that is right, are given to both.
"""

import argparse
import contextlib
import json
import os
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from rich.console import Console

from benchmarks.surface_forms import RIGHT, WRONG, Recorded, Said, say
from data.benchmarks import find_benchmark
from data.benchmarks.golds import spread
from data.benchmarks.loading import load_benchmark
from data.domains import DOMAINS, Judge
from data.schema import Problem, table_from_problems, write_table
from flows.tables import rows_table
from stages.config import ModelEvaluationConfig, Runtime
from stages.evaluation.one_model import run
from stages.evaluation.second_opinion import TASKS, agreement_rows, disagreements, second_opinions
from stages.local_files import DATA_DIR
from stages.sampling.rescoring import Judged, judged_batches, problems_of, sample_files
from stages.stage import StageLog

RECORDED = {"gsm8k_model_solutions": "is_correct", "qwen_math_cot_rm": "grader_score"}  # file -> its label
MODEL = "surface-forms"


class Answers:
    """What the server says, and of each response how it was made."""

    def __init__(self, problems: Sequence[Problem], recorded: Mapping[str, Sequence[Recorded]]) -> None:
        self._problems = {f"{problem.prompt}{DOMAINS[problem.domain].prompt_suffix}": problem for problem in problems}
        self._golds = [problem.answer for problem in problems]
        self._recorded = recorded
        self.said: dict[tuple[str, str], Said] = {}  # by problem and response

    def to(self, question: str, seed: int) -> str:
        problem = self._problems[question]
        said = say(problem, seed=seed, others=self._golds, recorded=self._recorded.get(problem.prompt, ()))
        self.said[problem.id, said.text] = said
        return said.text


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    answers: Answers

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self._reply({"object": "list", "data": [{"id": MODEL}]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        text = self.answers.to(body["messages"][-1]["content"], body["seed"])
        message = {"role": "assistant", "content": text}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        self._reply({"choices": [choice], "usage": {"completion_tokens": len(text.split())}})

    def _reply(self, document: object) -> None:
        content = json.dumps(document).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64  # connections that wait, while a machine has other work


@contextlib.contextmanager
def served(answers: Answers) -> Iterator[str]:
    """Serve until the end; gives the model's address."""
    server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"answers": answers}))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1#{MODEL}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def main(arguments: list[str]) -> int:
    given = _parser().parse_args(arguments)
    console = Console(width=200)
    with tempfile.TemporaryDirectory() as folder:
        judged, made = _evaluated(given, Path(folder))
    opinions = list(second_opinions(judged))
    apart = [one | made[one["problem"], one["sample"]] for one in disagreements(opinions)]
    astray = _astray(judged, made)
    console.print(rows_table(agreement_rows(opinions), title="responses that each side calls right", num_keys=2))
    console.print(rows_table(_kinds(apart), title="where the two part, by how the response was made", num_keys=2))
    console.print(rows_table(_kinds(astray), title="where our verdict is not the truth", num_keys=2))
    if given.out:
        lines = (json.dumps(one, ensure_ascii=False) for one in apart + astray)
        given.out.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    console.print(rows_table(_cases(given.data_dir / "cases"), title="cases with a known verdict"))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks crosscheck", description=__doc__)
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    parser.add_argument("--data-dir", type=Path, default=Path(os.environ.get("RING_DATA_DIR", beside)))
    parser.add_argument("--problems", type=int, default=150, help="of a benchmark, at most, evenly over it")
    parser.add_argument("--samples", type=int, default=3, help="responses to each beside the greedy one")
    parser.add_argument("--out", type=Path, help="file for the responses on which the two part, as JSON lines")
    return parser


def _evaluated(given: argparse.Namespace, folder: Path) -> tuple[list[Judged], dict[tuple[str, int], dict[str, str]]]:
    """The judged responses that are stored, and how each was made, by problem and sample."""
    problems = [problem for name in TASKS for problem in _some(name, given)]
    write_table(table_from_problems(problems), folder / "sets" / "rows.parquet")
    answers = Answers(problems, recorded_by_prompt(given.data_dir))
    with served(answers) as address:
        artifact = _evaluate(address, folder, samples=given.samples)
    read = problems_of([artifact])
    judged = [one for file in sample_files(artifact) for batch in judged_batches(file, read) for one in batch]
    said = {
        (one.row["problem_id"], one.row["sample"]): answers.said[one.row["problem_id"], one.row["response"]]
        for one in judged
    }
    return judged, {key: {"kind": one.kind, "truth": one.truth} for key, one in said.items()}


def _some(name: str, given: argparse.Namespace) -> list[Problem]:
    return spread(load_benchmark(find_benchmark(name), data_dir=given.data_dir), given.problems)


def _evaluate(address: str, folder: Path, *, samples: int) -> Path:
    """What the stage of `ring evaluate` stores; a part of the rows is another version of a set."""
    config = ModelEvaluationConfig(
        model=address, name=MODEL, benchmarks=tuple(TASKS), samples=samples, another_version=True
    )
    out = folder / "evaluation"
    run(config, inputs={DATA_DIR: folder / "sets"}, runtime=Runtime(workers=1), out=out, log=StageLog(None))
    return out


def recorded_by_prompt(data_dir: Path) -> dict[str, list[Recorded]]:
    """Prompt -> what models said of it, by the files of the folder that have recorded it."""
    found: dict[str, list[Recorded]] = {}
    for name, label in RECORDED.items():
        for row in pq.read_table(data_dir / f"{name}.parquet", columns=["prompt", "solution", "meta"]).to_pylist():
            is_right = bool(json.loads(row["meta"])[label])
            found.setdefault(row["prompt"], []).append(Recorded(row["solution"], is_right))
    return found


# ---------------------------------------------------------------- what came of it


def _astray(judged: Sequence[Judged], made: Mapping[tuple[str, int], Mapping[str, str]]) -> list[dict[str, Any]]:
    """Responses whose verdict is not the truth, in the form of a disagreement."""
    return [
        {"task": "ours", "problem": one.problem.id, "sample": one.row["sample"], "gold": one.problem.answer}
        | {"extracted": one.row["extracted"], "ours": one.row["status"], "reason": one.row["reason"], "theirs": ""}
        | made[one.problem.id, one.row["sample"]]
        for one in judged
        if made[one.problem.id, one.row["sample"]]["truth"] == (WRONG if one.row["status"] == "correct" else RIGHT)
    ]


def _kinds(apart: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A row for each task, kind and pair of verdicts, with an example."""
    groups: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for one in apart:
        groups.setdefault((one["task"], one["kind"], one["truth"], one["ours"], one["theirs"]), []).append(one)
    return [
        dict(zip(("task", "kind", "truth", "ours", "theirs"), key, strict=True))
        | {"responses": len(ones), "gold": ones[0]["gold"][:40], "our answer": ones[0]["extracted"][:40]}
        for key, ones in sorted(groups.items())
    ] or [{"task": "none"}]


def _cases(folder: Path) -> list[dict[str, Any]]:
    """How many of the cases each side judges as their authors do, a file a row."""
    rows = []
    for file in sorted(folder.glob("*math*.jsonl")):
        cases = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        problems = [Problem(case["id"], "math", "eval", "", case["gold"], source="math500") for case in cases]
        with Judge(requires_thinking=False) as judge:
            verdicts = judge.verify([(case["response"], one) for case, one in zip(cases, problems, strict=True)])
        judged = [
            Judged(
                "case",
                problem,
                {"response": case["response"], "status": verdict.status, "extracted": verdict.extracted},
            )
            for case, problem, verdict in zip(cases, problems, verdicts, strict=True)
        ]
        expected = {case["id"]: case["should_pass"] for case in cases}
        by_task: dict[str, list[tuple[bool, bool]]] = {}
        for one in second_opinions(judged):
            wanted = expected[one.judged.problem.id]
            by_task.setdefault(one.task.title, []).append((one.ours == wanted, one.is_right == wanted))
        rows += [
            {"cases": file.stem, "task": task, "asked": len(pairs), "ours as expected": sum(ours for ours, _ in pairs)}
            | {"theirs as expected": sum(theirs for _, theirs in pairs)}
            for task, pairs in by_task.items()
        ]
    return rows


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
