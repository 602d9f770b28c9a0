"""What a run has used is judged from looks at its family, here made by hand."""

import os

import pytest

from data.sandbox.budget import Budget, Records
from data.sandbox.family import Look

SECOND = 10**9


def budget(*, cpu_seconds=1.0, call_seconds=0.0):
    return Budget(cpu_seconds=cpu_seconds, call_seconds=call_seconds, memory_bytes=100, max_tasks=4, now=0.0)


def test_processor_time_of_the_family_is_limited():
    assert budget().beyond(Look(cpu_seconds=1.0), num_done=0, now=1.0) == ""
    assert budget().beyond(Look(cpu_seconds=1.1), num_done=0, now=0.6) == "timeout"


def test_memory_and_tasks_are_limited():
    assert budget().beyond(Look(memory_bytes=101), num_done=0, now=0.1) == "memory"
    assert budget().beyond(Look(num_tasks=5), num_done=0, now=0.1) == "memory"
    assert budget().beyond(Look(memory_bytes=100, num_tasks=4), num_done=0, now=0.1) == ""


@pytest.mark.parametrize(("waited", "verdict"), [(0.0, "timeout"), (0.9, "timeout"), (1.5, "")])
def test_the_clock_stands_only_while_the_scheduler_lets_a_thread_wait(waited, verdict):
    """Of 4 s, `waited` for a core: 3 s are what one second of processor time may take."""
    look = Look(cpu_seconds=0.4, waited={"7": int(waited * SECOND)})
    assert budget().beyond(look, num_done=0, now=4.0) == verdict


def test_a_parent_that_waits_for_a_worker_without_a_core_is_not_asleep():
    look = Look(waited={"parent": 0, "worker": int(2.5 * SECOND)})
    assert budget().beyond(look, num_done=0, now=4.0) == ""


def test_threads_that_wait_at_the_same_time_count_once():
    look = Look(waited=dict.fromkeys("abc", SECOND // 2))
    assert budget().beyond(look, num_done=0, now=4.0) == "timeout"


def test_what_a_thread_waited_counts_in_the_time_in_which_it_did():
    run = budget()
    assert run.beyond(Look(waited={"7": 2 * SECOND}), num_done=0, now=2.0) == ""
    assert run.beyond(Look(waited={"7": 2 * SECOND}), num_done=0, now=4.9) == ""
    assert run.beyond(Look(waited={"7": 2 * SECOND}), num_done=0, now=5.1) == "timeout"


def test_patience_ends_however_busy_the_machine_is():
    run = budget()
    assert run.beyond(Look(waited={"7": 14 * SECOND}), num_done=0, now=14.0) == ""
    assert run.beyond(Look(waited={"7": 16 * SECOND}), num_done=0, now=16.0) == "timeout"


def test_each_call_has_its_own_processor_time_and_clock():
    run = budget(cpu_seconds=3.0, call_seconds=1.0)
    assert run.beyond(Look(cpu_seconds=0.9), num_done=0, now=1.0) == ""
    assert run.beyond(Look(cpu_seconds=0.9), num_done=1, now=2.0) == ""
    assert run.beyond(Look(cpu_seconds=1.8), num_done=2, now=3.0) == ""
    assert run.beyond(Look(cpu_seconds=2.7), num_done=2, now=4.0) == ""
    assert run.beyond(Look(cpu_seconds=2.9), num_done=2, now=4.5) == "timeout"


def test_a_call_that_sleeps_has_the_clock_of_one_call():
    run = budget(cpu_seconds=9.0, call_seconds=1.0)
    assert run.beyond(Look(cpu_seconds=0.1), num_done=1, now=1.0) == ""
    assert run.beyond(Look(cpu_seconds=0.1), num_done=1, now=3.9) == ""
    assert run.beyond(Look(cpu_seconds=0.1), num_done=1, now=4.1) == "timeout"


@pytest.fixture
def file():
    fd = os.memfd_create("results")
    yield fd
    os.close(fd)


def test_records_are_counted_as_they_appear(file):
    records = Records(file)
    assert records.count() == 0
    os.write(file, b"one\ntw")
    assert records.count() == 1
    os.write(file, b"o\n" + b"x" * 200_000 + b"\n")
    assert records.count() == 3
    assert records.is_intact()


@pytest.mark.parametrize("change", [lambda fd: os.truncate(fd, 2), lambda fd: os.pwrite(fd, b"X", 1)])
def test_a_record_that_was_seen_cannot_be_taken_back(file, change):
    records = Records(file)
    os.write(file, b"one\n")
    records.count()
    change(file)
    records.count()
    assert not records.is_intact()
