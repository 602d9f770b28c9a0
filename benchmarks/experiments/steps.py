"""What the steps of an arm show, from steps.jsonl, and how long each took, from MLflow: the ledger holds no times."""

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from benchmarks.experiments.chains import Chain
from benchmarks.experiments.statistics import Spread, spread
from stages.records.artifact import Manifest
from stages.records.tracking_uri import tracking_uri
from stages.stage import Row
from stages.training.ledger import steps_of

SECONDS = "seconds"
FIGURES = {
    "tokens trained on": "budget/tokens_used",
    "gradient norm": "train/gradient_norm",
    "reward": "reward/mean",
    "response length": "response/mean_tokens",
    "entropy, nats": "policy/entropy",
    "seconds": SECONDS,
}
"""Title -> key of a step's row."""
_PARTS = ("time/wait_seconds", "time/train_seconds")  # what the trainer does one after the other


def step_rows(chain: Chain, arm: str) -> list[Row]:
    """The arm's lines of steps.jsonl, with SECONDS where they are recorded."""
    manifest = chain.arms[arm]
    seconds = _seconds(chain, manifest)
    return [
        {**row, **({SECONDS: seconds[row["step"]]} if row["step"] in seconds else {})}
        for row in steps_of(manifest.folder)
    ]


def _seconds(chain: Chain, manifest: Manifest) -> dict[int, float]:
    """Step -> seconds of waiting for samples and training; nothing where the records have no such run."""
    client, run = MlflowClient(tracking_uri=tracking_uri(chain.home)), manifest.document["mlflow_run_id"]
    try:
        histories = [{one.step: one.value for one in client.get_metric_history(run, name)} for name in _PARTS]
    except MlflowException:
        return {}
    wait, train = histories
    return {step: wait[step] + train[step] for step in wait.keys() & train.keys()}


def points(rows: Iterable[Row], key: str) -> dict[int, float]:
    """Step -> value, of the rows that have one: a step without an update has no gradient."""
    return {row["step"]: row[key] for row in rows if row.get(key) is not None}


def spreads(rows: Sequence[Row]) -> dict[str, Spread]:
    """Title -> mean and variation over the steps."""
    return {title: spread(list(points(rows, key).values())) for title, key in FIGURES.items()}


def curve(of_seeds: Sequence[Mapping[int, float]], *, num_points: int = 40) -> list[tuple[float, float]]:
    """(last step, mean) of blocks of steps, over the seeds that have a value; about so many blocks."""
    steps = sorted({step for values in of_seeds for step in values})
    block = max(1, len(steps) // num_points)
    blocks = [steps[start : start + block] for start in range(0, len(steps), block)]
    found = [(part[-1], [values[step] for values in of_seeds for step in part if step in values]) for part in blocks]
    return [(step, fmean(values)) for step, values in found if values]
