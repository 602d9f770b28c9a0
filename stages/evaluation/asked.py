"""What an evaluation asks: of the models of a chain what its curation held out, of one model the rows that stand beside its results.

In: the config and a folder. Out: parts, and every row of the benchmarks. Who counts results again asks here, too.
"""

from dataclasses import dataclass
from pathlib import Path

from data.benchmarks import find_benchmark
from data.schema import PROBLEM_SCHEMA, Problem, problems_from_table, read_table
from stages.config import EvaluationConfig, ModelEvaluationConfig
from stages.evaluation.benchmarks import Sets, benchmark_parts, rows_set_aside
from stages.evaluation.groups import problem_groups
from stages.evaluation.parts import Part

HELDOUT = "heldout.parquet"
ASKED = "problems.parquet"  # beside the results of one model


@dataclass(frozen=True, slots=True)
class Asked:
    """The recipe's own problems, where it has any, and the benchmarks that it names."""

    own: tuple[Part, ...]  # one, or none
    benchmarks: tuple[Part, ...]
    sets: Sets  # every row of the benchmarks, those that cannot be judged among them
    absent: tuple[str, ...]  # benchmarks of which there is no row

    @property
    def parts(self) -> tuple[Part, ...]:
        """All of them, in the order in which they are asked."""
        return *self.own, *self.benchmarks

    @property
    def problems(self) -> list[Problem]:
        """Their problems."""
        return [problem for part in self.parts for problem in part.problems]


def asked_of(config: EvaluationConfig, curation: Path) -> Asked:
    """What curation held out. Raises ValueError where that is nothing, and for rows that are not those of a frozen manifest."""
    sets = rows_set_aside(config, curation)
    absent = tuple(name for name in config.benchmarks if name not in sets)
    own = _own_part(config, curation)
    asked = Asked(own, tuple(benchmark_parts(config, sets)), sets, absent)
    if not asked.problems:
        raise ValueError(
            f"{curation / HELDOUT} holds no problem: give curation a source for the split `heldout`, or name benchmarks"
            + (f"; of {', '.join(absent)} it found no row" if absent else "")
        )
    return asked


def asked_of_one_model(config: ModelEvaluationConfig, evaluation: Path) -> Asked:
    """What stands in problems.parquet of the evaluation, set by set."""
    sets: dict[str, list[Problem]] = {}
    for row in _problems(evaluation / ASKED):
        sets.setdefault(_set_of(row, config), []).append(row)
    return Asked((), tuple(benchmark_parts(config, sets)), sets, ())


def _set_of(row: Problem, config: ModelEvaluationConfig) -> str:
    """The benchmark that a row is of; else it is of the set of one's own."""
    owners = (name for name in config.benchmarks if find_benchmark(name).owns(row.source, row.metadata))
    return next(owners, config.problems)


def _own_part(config: EvaluationConfig, curation: Path) -> tuple[Part, ...]:
    """The held-out problems; where the recipe names benchmarks, without their rows."""
    problems = [row for row in _problems(curation / HELDOUT) if not (config.benchmarks and row.split == "eval")]
    trained = [problem.level for problem in _problems(curation / "rl.parquet")]
    groups = problem_groups(problems, trained_levels=trained)
    return (Part("", tuple(problems), config.samples_per_problem, groups),) if problems else ()


def _problems(path: Path) -> list[Problem]:
    return problems_from_table(read_table(path, PROBLEM_SCHEMA))
