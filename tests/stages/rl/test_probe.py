"""The probe: asked once a version, and its figures by hand."""

from pathlib import Path

import pytest

from data.schema import SAMPLE_SCHEMA, Problem, read_table, table_from_problems, write_table
from stages.config import RlConfig
from stages.rl.probe import Probe, probe_figures
from stages.sampling.requests import Policy
from stages.seeds import derive_seed
from tests.stages.conftest import arm_config
from tests.stages.rl.scripted import Reply, ScriptedSampler, samples

PROBLEMS = tuple(Problem(f"p{n}", "math" if n < 2 else "code", "probe", prompt="what", answer="1") for n in range(5))


def config_of(**values: object) -> RlConfig:
    return arm_config(**{"probe_every": 4, "probe_problems": 3, **values})


def reply(problem_id: str, number: int) -> Reply:
    return Reply(num_tokens=6, status="correct" if problem_id == "p0" else "wrong")


def written(folder: Path, problems: tuple[Problem, ...] = PROBLEMS) -> Path:
    write_table(table_from_problems(problems), folder / "probe.parquet")
    return folder


# ---------------------------------------------------------------- what is asked


def test_the_probe_is_the_first_rows_of_its_split(tmp_path: Path) -> None:
    probe = Probe.load(written(tmp_path), config=config_of(), out=tmp_path)
    assert probe is not None
    assert [problem.id for problem in probe.problems] == ["p0", "p1", "p2"]
    whole = Probe.load(tmp_path, config=config_of(probe_problems=100), out=tmp_path)
    assert whole is not None
    assert whole.problems == PROBLEMS


def test_a_recipe_that_wants_no_probe_reads_no_file(tmp_path: Path) -> None:
    assert Probe.load(tmp_path / "nowhere", config=config_of(probe_every=0), out=tmp_path) is None


def test_an_empty_split_is_refused_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"probe.parquet holds no problem: .* set rl.probe_every = 0"):
        Probe.load(written(tmp_path, ()), config=config_of(), out=tmp_path)


def test_it_is_due_at_the_start_every_so_many_steps_and_at_the_end(tmp_path: Path) -> None:
    probe = Probe(PROBLEMS, config_of(), tmp_path)
    assert [step for step in range(11) if probe.is_due(step, num_steps=10)] == [0, 4, 8, 10]


def test_a_version_is_asked_greedily_once_and_read_back(tmp_path: Path) -> None:
    sampler, policy = ScriptedSampler(reply, folder=tmp_path), Policy.of(tmp_path)
    probe = Probe(PROBLEMS[:3], config_of(), tmp_path / "arm")
    assert probe.needs_weights(4)
    first = probe.figures(4, sampler=sampler, policy=policy)
    path = tmp_path / "arm" / "probes" / "step-000004.parquet"
    kept = read_table(path, SAMPLE_SCHEMA)
    assert kept["problem_id"].to_pylist() == ["p0", "p1", "p2"]
    assert kept["sample"].to_pylist() == [-1, -1, -1]
    assert kept["seed"].to_pylist() == [derive_seed(0, problem.id, -1) for problem in PROBLEMS[:3]]
    assert [chunk.is_greedy for chunk in sampler.sampled] == [True, True]  # two problems and one
    assert sampler.sampled[0].sampling == config_of().sampling
    assert sampler.sampled[0].path.is_relative_to(tmp_path / "arm" / ".state" / "probes" / "step-000004")
    assert not probe.needs_weights(4)
    assert probe.figures(4, sampler=sampler, policy=None) == probe.figures(4, sampler=sampler, policy=policy) == first
    assert len(sampler.sampled) == 2
    probe.figures(8, sampler=sampler, policy=policy)
    assert len(sampler.sampled) == 4


def test_a_probe_that_was_killed_asks_what_is_missing(tmp_path: Path) -> None:
    sampler, probe = ScriptedSampler(reply, folder=tmp_path), Probe(PROBLEMS[:3], config_of(), tmp_path / "arm")
    probe.figures(0, sampler=sampler, policy=Policy.of(tmp_path))
    (tmp_path / "arm" / "probes" / "step-000000.parquet").unlink()
    sampler.sampled[0].path.unlink()
    probe.figures(0, sampler=sampler, policy=Policy.of(tmp_path))
    assert sampler.asked == ["p0", "p1", "p2", "p0", "p1"]


# ---------------------------------------------------------------- its figures


def test_figures_are_shares_of_right_answers_of_all_and_by_domain() -> None:
    table = samples(
        [
            {"problem_id": "a", "domain": "math", "status": "correct", "num_tokens": 2, "entropy": 1.0},
            {"problem_id": "b", "domain": "math", "num_tokens": 4, "entropy": 0.5},
            {"problem_id": "c", "domain": "code", "num_tokens": 6, "entropy": 0.25},
            {"problem_id": "d", "domain": "code", "status": "judge_error", "num_tokens": 8, "entropy": 0.0},
        ]
    )
    assert probe_figures(table) == pytest.approx(
        {
            "probe/greedy": 1 / 3,  # a failure of the judge is no wrong answer
            "probe/math": 1 / 2,
            "probe/code": 0.0,
            "probe/entropy": (2 * 1.0 + 4 * 0.5 + 6 * 0.25) / 20,
            "probe/mean_tokens": 5.0,
        }
    )


def test_a_domain_on_which_no_verdict_counts_has_no_figure() -> None:
    table = samples(
        [
            {"problem_id": "a", "domain": "math", "status": "correct"},
            {"problem_id": "b", "domain": "science", "status": "bad_gold"},
        ]
    )
    assert set(probe_figures(table)) == {"probe/greedy", "probe/math", "probe/entropy", "probe/mean_tokens"}
