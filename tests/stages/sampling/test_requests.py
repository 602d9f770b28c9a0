"""What is asked, in chunks of a fixed composition, and the file that each becomes."""

import pickle
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.feather as feather
import pytest

from data.schema import Problem
from stages.config import Sampling
from stages.sampling.requests import GREEDY, Chunk, Policy, SamplingJob, write_chunk
from stages.seeds import derive_seed
from tests.stages.conftest import PROBLEMS
from tests.stages.sampling.conftest import chunk_of

TABLE = pa.table({"number": list(range(1000)), "text": ["a"] * 1000})


def job(num_problems: int, *, num_samples: int, chunk_problems: int = 4) -> SamplingJob:
    sampling = Sampling(max_new_tokens=8, chunk_problems=chunk_problems)
    return SamplingJob("many", Policy.of(Path("model")), PROBLEMS[:num_problems], num_samples, sampling, seed=3)


@pytest.mark.parametrize(("num_problems", "sizes"), [(0, []), (3, [3]), (4, [4]), (8, [4, 4]), (9, [4, 4, 1])])
def test_every_problem_is_in_one_chunk_in_its_order(num_problems: int, sizes: list[int]) -> None:
    chunks = list(job(num_problems, num_samples=2).chunks(Path("folder")))
    assert [len(chunk.problems) for chunk in chunks] == sizes
    assert tuple(problem for chunk in chunks for problem in chunk.problems) == PROBLEMS[:num_problems]
    names = [str(chunk.path) for chunk in chunks]
    assert names == [f"folder/many/{4 * number:07d}.arrow" for number in range(len(sizes))]


def test_a_chunk_asks_each_problem_so_many_times_with_a_seed_of_its_own_for_each_response() -> None:
    chunks = list(job(6, num_samples=3).chunks(Path("folder")))
    for chunk in chunks:
        assert chunk.samples == (0, 1, 2) and not chunk.is_greedy
        assert chunk.asked == [problem for problem in chunk.problems for _ in range(3)]
        assert chunk.title == "many" and chunk.max_total_tokens is None
    seeds = [seed for chunk in chunks for seed in chunk.seeds]
    assert seeds == [derive_seed(3, problem.id, sample) for problem in PROBLEMS[:6] for sample in (0, 1, 2)]
    assert len(set(seeds)) == 18


def test_a_response_has_the_same_seed_whatever_is_asked_beside_it() -> None:
    alone = next(iter(replace(job(1, num_samples=2), problems=PROBLEMS[5:6]).chunks(Path("folder"))))
    among = list(job(6, num_samples=2, chunk_problems=3).chunks(Path("folder")))[1]
    assert alone.seeds == among.seeds[4:]


def test_no_sample_means_one_greedy_response() -> None:
    (chunk,) = job(3, num_samples=0).chunks(Path("folder"))
    assert chunk.samples == (GREEDY,) == (-1,)
    assert chunk.is_greedy
    assert len(chunk.seeds) == len(chunk.asked) == 3
    assert not replace(chunk, samples=(0,)).is_greedy
    assert not replace(chunk, samples=(0, 1)).is_greedy


def test_what_a_sampler_sees_of_a_chunk_holds_no_answer_no_test_and_no_solution(tmp_path: Path) -> None:
    secrets = {"answer": "SECRET 1", "tests": "SECRET 2", "solution": "SECRET 3"}
    chunk = chunk_of(tmp_path, tmp_path, [replace(problem, **secrets) for problem in PROBLEMS[:3]])
    seen = chunk.without_answers()
    assert b"SECRET" in pickle.dumps(chunk) and b"SECRET" not in pickle.dumps(seen)
    assert [problem.prompt for problem in seen.problems] == [problem.prompt for problem in chunk.problems]
    assert replace(seen, problems=chunk.problems) == chunk
    assert [problem.id for problem in seen.asked] == [problem.id for problem in chunk.asked]


def test_a_chunk_is_done_when_its_file_is_there_and_its_answers_are_another_file(tmp_path: Path) -> None:
    chunk = chunk_of(tmp_path, tmp_path)
    write_chunk(TABLE, chunk.answers)
    assert chunk.answers == tmp_path / "0000.answers"
    assert not chunk.is_done
    write_chunk(TABLE, chunk.path)
    assert chunk.is_done


def test_a_written_chunk_replaces_an_older_one_as_a_whole_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "0000.arrow"
    write_chunk(TABLE, path)
    with path.open("rb") as older:  # whoever reads it goes on reading the older one
        write_chunk(TABLE.slice(0, 5), path)
        assert feather.read_table(older, memory_map=False).num_rows == 1000
    assert [found.name for found in tmp_path.iterdir()] == ["0000.arrow"]
    assert feather.read_table(path) == TABLE.slice(0, 5)


def test_a_chunk_that_cannot_be_written_leaves_the_older_one(tmp_path: Path) -> None:
    path = tmp_path / "0000.arrow"
    write_chunk(TABLE, path)
    with pytest.raises(TypeError):
        write_chunk(object(), path)  # ty: ignore[invalid-argument-type]
    assert feather.read_table(path) == TABLE


def test_a_chunk_that_was_read_is_in_memory_and_its_file_may_go(tmp_path: Path) -> None:
    chunk = chunk_of(tmp_path, tmp_path)
    write_chunk(TABLE, chunk.path)
    read = chunk.read()
    assert read == TABLE
    assert str(chunk.path) not in Path("/proc/self/maps").read_text()


def test_a_chunk_file_is_not_compressed(tmp_path: Path) -> None:
    chunk = chunk_of(tmp_path, tmp_path)
    write_chunk(TABLE, chunk.path)
    assert chunk.path.stat().st_size > 1000 * (8 + 1 + 4)


def test_a_policy_of_a_folder_takes_weights_and_tokenizer_from_it() -> None:
    assert Policy.of(Path("model")) == Policy(Path("model"), Path("model"))


def test_a_chunk_is_the_same_for_the_same_contents() -> None:
    one, two = (list(job(6, num_samples=2).chunks(Path("folder"))) for _ in range(2))
    assert one == two
    assert isinstance(one[0], Chunk) and isinstance(one[0].problems[0], Problem)
