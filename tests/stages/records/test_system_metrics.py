"""What a stage takes of its machine: seen by the kernel's own counts, often at first and seldom later, and told where it cannot be seen."""

import subprocess
import sys
import time
from itertools import pairwise

import psutil
import pytest

from stages.records.system_metrics import PREFIX, StageMonitor, SystemSampler

WORK = """
import subprocess, sys, time
def work():
    held = bytearray(b"x" * 150_000_000)
    while time.process_time() < 0.6: pass
    return held
if sys.argv[1:] == ["child"]:
    held = work(); print(time.process_time(), flush=True); time.sleep(60)
subprocess.run([sys.executable, "-c", "import time\\nwhile time.process_time() < 0.3: pass"], check=True)
child = subprocess.Popen([sys.executable, __file__, "child"], stdout=subprocess.PIPE, text=True)
held, others = work(), float(child.stdout.readline())
print(time.process_time() + others + 0.3, flush=True); time.sleep(60)
"""
IDLE = [sys.executable, "-c", "import time; time.sleep(60)"]


@pytest.fixture
def idle():
    process = subprocess.Popen(IDLE)
    yield process.pid
    process.kill()
    process.wait()


def points(sampler: SystemSampler, until: float, *, pause: float) -> list[float]:
    """Seconds at which a point is due, when asked every `pause` seconds."""
    return [step * pause for step in range(1, int(until / pause) + 1) if sampler.due(step * pause)]


def test_the_processes_of_a_stage_are_summed_and_those_that_ended_count(tmp_path) -> None:
    script = tmp_path / "work.py"
    script.write_text(WORK)
    process = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    try:
        began = psutil.Process(process.pid).create_time()
        seconds = float(process.stdout.readline())
        monitor = StageMonitor(process.pid)
        monitor.collect_metrics()
        elapsed = time.time() - began
        (cores,), (megabytes,) = (monitor.metrics[f"stage_{name}"] for name in ("cpu_cores", "memory_usage_megabytes"))
    finally:
        psutil.Process(process.pid).children()[0].kill()
        process.kill()
        process.wait()
    assert cores * elapsed == pytest.approx(
        seconds, abs=0.3
    )  # the start of three interpreters is not in their own count
    assert seconds >= 1.5
    assert 300 <= megabytes < 400


def test_a_point_holds_the_mean_of_the_looks_since_the_last(idle) -> None:
    sampler = SystemSampler(idle, device="cpu")
    found = [values for step in range(1, 5) if (values := sampler.due(float(step)))]
    assert len(found) == 4
    for values in found:
        assert values.keys() == {
            f"{PREFIX}{name}"
            for name in (
                "cpu_utilization_percentage",
                "system_memory_usage_megabytes",
                "system_memory_usage_percentage",
                "stage_cpu_cores",
                "stage_memory_usage_megabytes",
            )
        }
        assert 0 < values[f"{PREFIX}stage_memory_usage_megabytes"] < 50
        assert values[f"{PREFIX}stage_memory_usage_megabytes"] < values[f"{PREFIX}system_memory_usage_megabytes"]


def test_a_short_stage_has_a_point_a_second_and_ten_hours_have_a_few_hundred(idle) -> None:
    assert len(points(SystemSampler(idle, device="cpu"), 10.0, pause=0.25)) == 10
    long = points(SystemSampler(idle, device="cpu"), 36_000.0, pause=1.0)
    # at most 100 in the first 100 s, then ln(360) / ln(1.01) = 592, each a hundredth of the time after the last, and the next full second
    assert 600 < len(long) <= 692
    assert max(later - earlier for earlier, later in pairwise(long)) <= 361


def test_a_stage_that_was_resumed_goes_on_at_its_pace(idle) -> None:
    sampler = SystemSampler(idle, device="cpu", elapsed=1000.0)
    assert not sampler.due(1010.0)
    assert sampler.due(1010.5)


def test_a_process_that_has_ended_leaves_no_point_of_zeros(idle) -> None:
    sampler = SystemSampler(idle, device="cpu")
    psutil.Process(idle).kill()
    psutil.Process(idle).wait()
    assert not {f"{PREFIX}stage_cpu_cores", f"{PREFIX}stage_memory_usage_megabytes"} & sampler.due(5.0).keys()


def test_gpus_are_seen_or_it_is_said_why_not(idle) -> None:
    assert SystemSampler(idle, device="cpu").lacks is None
    sampler = SystemSampler(idle, device="cuda")
    values = sampler.due(5.0)
    assert f"{PREFIX}cpu_utilization_percentage" in values
    if sampler.lacks is None:
        assert f"{PREFIX}gpu_0_utilization_percentage" in values
    else:
        assert sampler.lacks.startswith("the use of the GPUs is not recorded: ")
