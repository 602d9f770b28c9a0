"""What a stage takes of its machine, as MLflow's system metrics (the tab "System metrics" of a run): CPU, memory, and the GPUs it works on.

MLflow's own monitors measure, and one of ours that looks at the stage's processes alone. MLflow's thread is not used: it drops what it
cannot write, and only warns. Whoever waits for the stage calls `due` over and over, so that there is nothing to stop and to wait for.
What is measured enters no result, and no fingerprint.
"""

import time
from collections.abc import Sequence

import psutil
from mlflow.system_metrics.metrics.base_metrics_monitor import BaseMetricsMonitor
from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor

PREFIX = "system/"  # what MLflow's UI takes for a system metric
FIRST_SECONDS = 1.0  # between the first points
GROWTH = 0.01  # of the time since the start: between points later on, of which an hour has some 460 and a week some 970
_NO_GPUS = "the use of the GPUs is not recorded"
MOST_SECONDS = 10.0  # between two looks; a point is the mean of those since the last


class StageMonitor(BaseMetricsMonitor):
    """The processes of a stage: cores of CPU that they keep busy, and their memory (pages that several share count for each)."""

    def __init__(self, pid: int) -> None:
        """Of a process and all that descend from it."""
        super().__init__()
        self._root = psutil.Process(pid)
        self._seconds, self._at = 0.0, self._root.create_time()

    def collect_metrics(self) -> None:
        """Look; once the stage has ended there is nothing to see."""
        seconds, memory, now = 0.0, 0, time.time()
        try:
            processes = [self._root, *self._root.children(recursive=True)]
        except psutil.NoSuchProcess:
            return
        for process in processes:
            try:
                with process.oneshot():
                    times, held = process.cpu_times(), process.memory_info()
            except psutil.NoSuchProcess:  # it ended since; its parent has waited for it, and has its seconds
                continue
            seconds += times.user + times.system + times.children_user + times.children_system
            memory += held.rss
        self._metrics["stage_cpu_cores"].append(max(0.0, seconds - self._seconds) / max(now - self._at, 1e-3))
        self._metrics["stage_memory_usage_megabytes"].append(memory / 1e6)
        self._seconds, self._at = seconds, now

    def aggregate_metrics(self) -> dict[str, float]:
        """Means."""
        return {name: round(sum(values) / len(values), 2) for name, values in self._metrics.items()}


class SystemSampler:
    """When to look at the machine, and what was seen. `lacks`: what cannot be seen, and why; None where all can."""

    def __init__(self, pid: int, *, device: str, elapsed: float = 0.0) -> None:
        """Of the stage whose process is `pid`. `elapsed`: seconds since the stage began, before it was resumed, too.

        On the device `cuda` the GPUs are looked at. Raises psutil.Error where there is no such process.
        """
        gpus, self.lacks = _gpus(device)
        self._monitors: Sequence[BaseMetricsMonitor] = (CPUMonitor(), StageMonitor(pid), *gpus)
        psutil.cpu_percent()  # the first call of a thread answers 0: it has nothing to compare with
        self._looked = self._told = elapsed

    def due(self, elapsed: float) -> dict[str, float]:
        """The metrics of a point when it is time for one, by their names in MLflow; none before that."""
        is_due = elapsed - self._told >= max(FIRST_SECONDS, GROWTH * elapsed)
        if not is_due and elapsed - self._looked < MOST_SECONDS:
            return {}
        self._looked = elapsed
        for monitor in self._monitors:
            monitor.collect_metrics()
        if not is_due:
            return {}
        self._told = elapsed
        return self._means()

    def _means(self) -> dict[str, float]:
        found = {
            f"{PREFIX}{name}": float(value)
            for monitor in self._monitors
            for name, value in monitor.aggregate_metrics().items()
        }
        for monitor in self._monitors:
            monitor.clear_metrics()
        return found


def _gpus(device: str) -> tuple[Sequence[BaseMetricsMonitor], str | None]:
    """The monitor of the GPUs, where the stage works on some, or why there is none."""
    if device != "cuda":
        return (), None
    try:
        return (GPUMonitor(),), None
    except ImportError:
        return (), f"{_NO_GPUS}: that needs the extra `gpu`: pip install -e '.[gpu]' -c constraints.txt"
    except RuntimeError as error:
        return (), f"{_NO_GPUS}: {error}"
