"""Processes that work through chunks: numbered, gone with the stage, and no further ahead than they can work."""

import ctypes
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from data.domains import Judge
from stages.config import Runtime
from stages.sampling.workers import (
    Pool,
    Worker,
    _start,
    borrowed_worker,
    gpu_in_turn,
    result_of,
    work_through,
)

NUM_PROCESSES = 3
LONGEST_SECONDS = 60.0  # that a test waits for a process


# ---------------------------------------------------------------- what the processes do


def met(worker: Worker, folder: Path) -> dict[str, Any]:
    """Wait for the other processes of the pool, and tell what this one is."""
    (folder / str(os.getpid())).touch()
    until(lambda: len(list(folder.iterdir())) >= NUM_PROCESSES)
    death_signal = ctypes.c_int(-1)
    ctypes.CDLL(None).prctl(2, ctypes.byref(death_signal))  # PR_GET_PDEATHSIG
    worker.kept["calls"] = worker.kept.get("calls", 0) + 1
    return {
        "pid": os.getpid(),
        "parent": os.getppid(),
        "number": worker.number,
        "workers": worker.runtime.workers,
        "death signal": death_signal.value,
        "calls": worker.kept["calls"],
    }


def square(worker: Worker, number: int) -> int:
    return number * number


def refused(worker: Worker, what: str) -> None:
    raise ValueError(f"{what} is refused")


def died(worker: Worker, _: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def waited(worker: Worker, files: tuple[Path, Path]) -> str:
    """Say that it has begun, and wait for leave to end."""
    begun, leave = files
    begun.touch()
    until(leave.exists)
    return "waited"


def until(happened: Any) -> None:
    end = time.monotonic() + LONGEST_SECONDS
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.01)


# ---------------------------------------------------------------- a process's device, and a worker without a pool


@pytest.mark.parametrize(
    ("num_gpus", "devices"),
    [
        (0, ["cuda:0", "cuda:0", "cuda:0"]),
        (1, ["cuda:0", "cuda:0", "cuda:0"]),
        (2, ["cuda:0", "cuda:1", "cuda:0"]),
        (8, ["cuda:0", "cuda:1", "cuda:2"]),
    ],
)
def test_processes_take_the_gpus_in_turn(num_gpus: int, devices: list[str]) -> None:
    assert [gpu_in_turn(number, num_gpus=num_gpus) for number in range(3)] == devices


def test_a_worker_lives_where_the_runtime_says() -> None:
    import torch

    with Judge() as judge:
        assert Worker(Runtime(), judge).device == "cpu"
        assert Worker(Runtime(), judge).number == 0
        worker = Worker(Runtime(device="cuda"), judge, number=5)
        assert worker.device == gpu_in_turn(5, num_gpus=torch.cuda.device_count())


def test_a_borrowed_worker_keeps_what_it_has_within_a_run_and_nothing_of_another_run() -> None:
    runtime = Runtime(workers=7)
    with borrowed_worker(runtime, run="one") as worker:
        worker.kept["of"] = "one"
        assert worker.number == 0 and worker.runtime is runtime
    with borrowed_worker(Runtime(workers=2), run="one") as again:
        assert again is worker and again.runtime is runtime
    with borrowed_worker(Runtime(workers=2), run="two") as other:
        assert other is not worker and other.kept == {} and other.runtime.workers == 2
    with borrowed_worker(runtime, run="one") as anew:
        assert anew is not worker and anew.kept == {}


def test_a_borrowed_worker_is_one_threads_at_a_time() -> None:
    inside, most = 0, 0

    def borrow() -> None:
        nonlocal inside, most
        with borrowed_worker(Runtime(), run="threads"):
            inside += 1
            most = max(most, inside)
            time.sleep(0.02)
            inside -= 1

    threads = [threading.Thread(target=borrow) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1


# ---------------------------------------------------------------- a pool


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    with Pool(Runtime(workers=NUM_PROCESSES)) as one:
        yield one


@pytest.mark.slow
def test_the_processes_of_a_pool_are_numbered_from_zero_are_killed_with_the_stage_and_keep_what_they_have(
    pool: Pool, tmp_path: Path
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    found = [result_of(future) for future in [pool.submit(met, first) for _ in range(NUM_PROCESSES)]]
    assert sorted(one["number"] for one in found) == [0, 1, 2]
    assert len({one["pid"] for one in found}) == NUM_PROCESSES
    assert {one["parent"] for one in found} == {os.getpid()}
    assert {one["death signal"] for one in found} == {signal.SIGKILL}
    assert {one["workers"] for one in found} == {NUM_PROCESSES}
    again = [result_of(future) for future in [pool.submit(met, second) for _ in range(NUM_PROCESSES)]]
    assert {one["pid"]: one["number"] for one in again} == {one["pid"]: one["number"] for one in found}
    assert [one["calls"] for one in again] == [2, 2, 2]


@pytest.mark.slow
def test_what_a_function_raises_is_raised_and_the_process_lives_on(pool: Pool) -> None:
    with pytest.raises(ValueError, match="seven is refused"):
        result_of(pool.submit(refused, "seven"))
    assert result_of(pool.submit(square, 7)) == 49


@pytest.mark.slow
def test_a_stage_that_ends_waits_for_what_has_begun_and_leaves_the_rest(tmp_path: Path) -> None:
    begun, leave = tmp_path / "begun", tmp_path / "leave"
    with Pool(Runtime(workers=1)) as pool:
        first = pool.submit(waited, (begun, leave))
        others: list[Future[int]] = [pool.submit(square, number) for number in range(9)]
        until(begun.exists)
        threading.Timer(0.5, leave.touch).start()
    assert first.done() and first.result() == "waited"
    assert sum(other.cancelled() for other in others) >= 6  # at most some were handed over before


@pytest.mark.slow
def test_a_stage_that_fails_waits_for_nobody(tmp_path: Path) -> None:
    begun, leave = tmp_path / "begun", tmp_path / "leave"
    with pytest.raises(KeyError), Pool(Runtime(workers=1)) as pool:
        first = pool.submit(waited, (begun, leave))
        until(begun.exists)
        raise KeyError
    assert not first.done()
    leave.touch()
    assert first.result(LONGEST_SECONDS) == "waited"


@pytest.mark.slow
def test_a_process_whose_stage_is_gone_goes_at_once() -> None:
    context = multiprocessing.get_context("spawn")
    nobody = -1
    orphan = context.Process(target=_start, args=(Runtime(), nobody, context.Value("i", 0), __name__))
    orphan.start()
    orphan.join(LONGEST_SECONDS)
    assert orphan.exitcode == 1


# ---------------------------------------------------------------- a stream of chunks


@pytest.mark.slow
def test_a_stream_is_taken_no_faster_than_it_is_worked_through_and_each_result_has_its_place() -> None:
    taken = 0

    def stream() -> Iterator[int]:
        nonlocal taken
        for number in range(12):
            taken += 1
            yield number

    results: dict[int, int] = {}
    for place, result in work_through(square, stream(), runtime=Runtime(workers=1)):
        assert taken <= len(results) + 4
        assert taken == 4 or results
        results[place] = result
    assert results == {number: number * number for number in range(12)}
    assert list(work_through(square, [], runtime=Runtime(workers=1))) == []


@pytest.mark.slow
def test_a_worker_that_dies_is_told_in_words() -> None:
    with pytest.raises(RuntimeError, match=r"a worker process died; if memory ran out, lower runtime\.workers"):
        list(work_through(died, range(3), runtime=Runtime(workers=1)))
