"""The chain as a picture: its stages from top to bottom, arms side by side, with what each made and how long it took."""

from collections.abc import Mapping, Sequence
from itertools import groupby

from stages.records.artifact import Manifest
from stages.stage import Row
from stages.training.checkpoints import checkpoint_name


def chain_picture(manifests: Mapping[str, Manifest]) -> list[list[Row]]:
    """Rows of boxes, a row a stage; of each `key`, `what`, `seconds`, `status` and `made_at`. `manifests` are in the order of stages.

    A stage made by the same run as the newest one `ran`; one made earlier came from the cache.
    """
    newest = max(manifests.values(), key=lambda manifest: manifest.document.get("made_at", ""), default=None)
    run = newest.document.get("prefect_flow_run_id") if newest else None
    rows = groupby(manifests.items(), key=lambda item: item[1].stage)
    return [[_box(key, manifest, run=run) for key, manifest in row] for _, row in rows]


def _box(key: str, manifest: Manifest, *, run: str | None) -> Row:
    document = manifest.document
    return {
        "key": key.removeprefix("rl/"),
        "what": _what(manifest),
        "seconds": f"{document['seconds']:,.0f} s",
        "status": "ran" if document.get("prefect_flow_run_id") == run else "cached",
        "made_at": document.get("made_at", "")[:16].replace("T", " "),
        "fingerprint": manifest.fingerprint[:8],
    }


def _what(manifest: Manifest) -> str:
    """What a stage came to, in a few words; empty where its tables do not say."""
    tables = manifest.tables()
    told = {"funnel": _kept, "candidates": _chosen, "phases": _steps, "epochs": _loss, "ledger": _models}
    return next((tell(tables[name]) for name, tell in told.items() if tables.get(name)), "")


def _kept(funnel: Sequence[Row]) -> str:
    return f"{funnel[-1]['kept']:,} rows kept"


def _chosen(candidates: Sequence[Row]) -> str:
    return next((f"chose {row['checkpoint']}" for row in candidates if row["chosen"]), "")


def _steps(phases: Sequence[Row]) -> str:
    steps, tokens = (sum(row[name] for row in phases) for name in ("steps", "tokens_trained"))
    return f"{steps:,} steps of RL on {tokens:,} tokens"


def _loss(epochs: Sequence[Row]) -> str:
    last = epochs[-1]
    loss = last["train_loss"] if last.get("validation_loss") is None else last["validation_loss"]
    return f"loss {loss:.3f} at {last.get('checkpoint') or checkpoint_name(last['epoch'])}"


def _models(ledger: Sequence[Row]) -> str:
    return f"{len(ledger)} models compared"
