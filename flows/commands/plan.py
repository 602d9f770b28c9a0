"""`ring plan`: what a recipe needs on given GPUs, computed before anything runs: memory by part, hours, cost, disk, and what to change."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from flows.console import plain_console
from stages.config import Runtime
from stages.recipe import load_recipe
from stages.sizing.assumptions import Assumptions
from stages.sizing.gpus import own_gpu
from stages.sizing.requirements import SFT, ZERO_STAGES, Fit, Requirements, requirements
from stages.sizing.times import Cluster, Hours, total_flops
from stages.sizing.work import Load

GB = 1e9
_OURS = Assumptions()


def plan(
    recipe: str,
    *,
    gpus: int,
    gpu: str,
    price: float | None = None,
    zero_stage: int | None = None,
    data_dir: Path | None = None,
    set_: Annotated[list[str] | None, Parameter(name="--set", negative="")] = None,
    gpu_memory: float | None = None,
    gpu_tflops: float | None = None,
    gpu_bandwidth: float | None = None,
    assumed: Annotated[Assumptions, Parameter(name="*")] = _OURS,
    json_: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> int:
    """Say what a recipe needs on given GPUs: memory by part, hours, cost, disk, and what to change where it does not fit.

    Nothing runs. What the recipe does not say is an option or an assumption, and every one is printed.

    Parameters
    ----------
    recipe
        Name or path.
    gpus
        How many GPUs; each is one data-parallel rank.
    gpu
        H800, H100, H100-PCIe, H200, H20, A100-80GB, A100-40GB, L40S, L4 or RTX4090; another name with its three figures.
    price
        Of one GPU for an hour.
    zero_stage
        ZeRO stage that has to fit; none: the recipe's.
    data_dir
        File or folder of problems, of which rows are counted.
    set_
        KEY=VALUE, as for `ring run`.
    gpu_memory
        Gigabytes (10^9 bytes) of a GPU.
    gpu_tflops
        Its dense bfloat16 peak, TFLOP/s.
    gpu_bandwidth
        Bandwidth of its memory, GB/s.
    assumed
        What the recipe does not say.
    json_
        Print one JSON object instead of tables.

    """
    if gpus < 1:
        raise ValueError(f"--gpus = {gpus} must be at least 1")
    if price is not None and price < 0:
        raise ValueError(f"--price = {price:g} must be at least 0")
    cluster = Cluster(own_gpu(gpu, memory_gb=gpu_memory, tflops=gpu_tflops, bandwidth_gb=gpu_bandwidth), gpus)
    found = load_recipe(recipe, overrides=set_ or []).recipe
    needs = requirements(found, cluster, assumed, zero_stage=zero_stage, data_dir=data_dir)
    document = _document(found.name, cluster, needs, price=price)
    if json_:
        sys.stdout.write(json.dumps(document) + "\n")
        return 0
    _print(document, needs, cluster, found.runtime)
    return 0


# ---------------------------------------------------------------- the document


def _document(name: str, cluster: Cluster, needs: Requirements, *, price: float | None) -> dict[str, Any]:
    stages = [_stage(load, hours, cluster, price) for load, hours in zip(needs.loads, needs.hours, strict=True)]
    total = sum(hours.total for hours in needs.hours)
    return {
        "recipe": name,
        "gpu": {"name": cluster.gpu.name, "bytes": cluster.gpu.memory, "flops": cluster.gpu.flops, "bandwidth": cluster.gpu.bandwidth},
        "gpus": cluster.num_gpus,
        "precision": needs.precision,
        "model": {
            "parameters": needs.model.num_parameters,
            "active_parameters": needs.model.num_active_parameters,
            "from": needs.model_from,
        },
        "assumptions": [{"name": one.name, "value": one.value, "why": one.why} for one in needs.stated],
        "memory": {name: _fit(fit) for name, fit in needs.fits.items()},
        "cache": dict(needs.caches),
        "stages": stages,
        "hours": total,
        "gpu_hours": total * cluster.num_gpus,
        "cost": None if price is None else total * cluster.num_gpus * price,
        "disk": dict(needs.disk),
    }  # fmt: skip


def _fit(fit: Fit) -> dict[str, Any]:
    return {
        "stages": [{"stays": share.stays, "passing": share.passing, "peak": share.peak} for share in fit.shares],
        "limit": fit.limit,
        "zero_stage": fit.zero_stage,
        "fits": fit.fits,
        "largest": fit.shares[fit.zero_stage].largest,
        "change": None if fit.way is None else dict(fit.way.changes),
        "peak_after_change": None if fit.way is None else fit.way.peak,
        "gpus_needed": fit.gpus_needed,
    }


def _stage(load: Load, hours: Hours, cluster: Cluster, price: float | None) -> dict[str, Any]:
    gpu_hours = hours.total * cluster.num_gpus
    return {
        "stage": load.stage,
        "steps": load.steps,
        "trained_tokens": load.trained,
        "sampled_tokens": load.sampled,
        "flops": total_flops(load),
        "training_hours": hours.training,
        "sampling_hours": hours.sampling,
        "reference_hours": hours.reference,
        "hours": hours.total,
        "gpu_hours": gpu_hours,
        "cost": None if price is None else gpu_hours * price,
    }


# ---------------------------------------------------------------- tables


def _print(document: dict[str, Any], needs: Requirements, cluster: Cluster, runtime: Runtime) -> None:
    from flows.tables import rows_table, wrapped

    out = plain_console()
    model, gpu = document["model"], cluster.gpu
    lines = [
        f"{document['recipe']} on {cluster.num_gpus} x {gpu.name}: computed, nothing was run",
        f"model: {model['parameters'] / 1e9:,.4g} B parameters, {model['active_parameters'] / 1e9:,.3g} B active, from {model['from']}",
        f"GPU: {gpu.memory / GB:g} GB, {gpu.flops / 1e12:g} TFLOP/s bfloat16 dense, {gpu.bandwidth / GB:,.5g} GB/s;"
        f" training in {document['precision']}",
    ]
    lines += _ranks(runtime, cluster)
    for line in lines:
        for part in wrapped(line, width=out.width, indent="  "):
            out.print(part, highlight=False, soft_wrap=True)
    out.print()
    for name, fit in needs.fits.items():
        out.print(rows_table(_memory_rows(fit, num_gpus=cluster.num_gpus), title=_memory_title(name, fit)))
        for line in _verdict(name, fit, cluster):
            for part in wrapped(line, width=out.width, indent="  "):
                out.print(part, highlight=False, soft_wrap=True)
        out.print()
    if needs.caches:
        cache = [{"keys and values of a sampler": name, "size": _size(size)} for name, size in needs.caches.items()]
        out.print(rows_table(cache, title=""))
    out.print(rows_table([_stage_row(row) for row in document["stages"]], title="work and time"))
    for part in wrapped(_total(document, needs), width=out.width, indent="  "):
        out.print(part, highlight=False, soft_wrap=True)
    out.print()
    disk = [{"disk": name, "size": _size(size)} for name, size in needs.disk.items() if size]
    out.print(rows_table(disk, title=""))
    assumptions = [
        {"taken for granted": one.name, "value": f"{one.value:,.6g}", "from": one.why} for one in needs.stated
    ]
    out.print(rows_table(assumptions, title=""), end="")


def _ranks(runtime: Runtime, cluster: Cluster) -> list[str]:
    """What to set for a rank on each GPU, where the recipe has other numbers."""
    stated = {name: getattr(runtime, name) for name in ("base_ranks", "sft_ranks", "rl_ranks")}
    others = [name for name, count in stated.items() if count != cluster.num_gpus]
    changes = " ".join(f"--set runtime.{name}={cluster.num_gpus}" for name in others)
    return [f"for a rank on each GPU: {changes}"] if others else []


def _memory_title(name: str, fit: Fit) -> str:
    return f"{name}: GB of each GPU, of which {fit.limit / GB:,.4g} may be used"


def _memory_rows(fit: Fit, *, num_gpus: int) -> list[dict[str, Any]]:
    """A part a row, a ZeRO stage a column (on one GPU there is nothing to shard); parts that are nothing at every stage are left out."""
    shares = fit.shares if num_gpus > 1 else fit.shares[:1]
    titles = [f"ZeRO {stage}" for stage in ZERO_STAGES] if num_gpus > 1 else ["one rank"]
    sizes = {part: [share.stays.get(part, 0) for share in shares] for part in shares[0].stays}
    sizes |= {f"{part}, at times": [share.passing.get(part, 0) for share in shares] for part in shares[0].passing}
    sizes = {part: row for part, row in sizes.items() if any(row)} | {"at most at a time": [one.peak for one in shares]}
    return [{"part": part} | dict(zip(titles, map(_gb, row), strict=True)) for part, row in sizes.items()]


def _gb(size: int) -> str:
    value = size / GB
    if value >= 100 or size == 0:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 1 else f"{value:.2g}"


def _verdict(name: str, fit: Fit, cluster: Cluster) -> list[str]:
    share = fit.shares[fit.zero_stage]
    at = f"{name} at ZeRO {fit.zero_stage}" if cluster.num_gpus > 1 else f"{name} on one GPU"
    if fit.fits:
        return [f"{at} fits: {_gb(share.peak)} of {_gb(int(fit.limit))} GB."]
    lines = [
        f"{at} does not fit: {_gb(share.peak)} of {_gb(int(fit.limit))} GB, most of it {share.largest}"
        f" ({_gb((share.stays | share.passing)[share.largest])} GB)."
    ]
    if fit.way is not None:
        changes = " ".join(_as_option(key, value, name) for key, value in fit.way.changes.items())
        return [*lines, f"It fits with {_gb(fit.way.peak)} GB after: {changes}"]
    if fit.gpus_needed is not None:
        return [
            *lines,
            f"Nothing that may be changed makes it fit on {cluster.num_gpus}; {fit.gpus_needed:,} GPUs would do.",
        ]
    return [
        *lines,
        "Nothing that may be changed makes it fit on any number of these GPUs: each holds whole layers and whole rows. Take GPUs with more"
        " memory, or a smaller model; layers that lie on several GPUs (expert or tensor parallelism) are not done here.",
    ]


def _as_option(key: str, value: object, kind: str) -> str:
    """As one types it; lengths stand in several places of a recipe and change its results."""
    if key == "max_total_tokens":
        return f"max_total_tokens = {value} in {'sft.training' if kind == SFT else 'every phase'} (other results)"
    text = str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)
    return f"{key} {text}" if key.startswith("--") else f"--set {key}={text}"


def _stage_row(row: dict[str, Any]) -> dict[str, Any]:
    shown = {
        "stage": row["stage"],
        "trained": _count(row["trained_tokens"]),
        "sampled": _count(row["sampled_tokens"]),
        "FLOPs": f"{row['flops']:.2e}",
        "train h": _hours(row["training_hours"] + row["reference_hours"]),
        "sample h": _hours(row["sampling_hours"]),
        "GPU h": _hours(row["gpu_hours"]),
    }
    return shown | ({} if row["cost"] is None else {"cost": f"{row['cost']:,.0f}"})


def _total(document: dict[str, Any], needs: Requirements) -> str:
    """In words; under which settings, where those of the recipe do not fit."""
    misfits = [fit for fit in needs.fits.values() if not fit.fits]
    under = (
        "" if not misfits else ", under the settings that fit" if all(fit.way for fit in misfits) else ", if it did fit"
    )
    cost = "" if document["cost"] is None else f"; at the given price {document['cost']:,.0f}"
    return f"together {_hours(document['hours'])} h one after the other{under}: {_hours(document['gpu_hours'])} GPU h{cost}"


def _hours(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 1 else f"{value:.3f}"


def _count(tokens: int) -> str:
    for size, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if tokens >= size:
            return f"{tokens / size:,.4g} {unit}"
    return str(tokens)


def _size(size: int) -> str:
    for unit, name in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB")):
        if size >= unit:
            return f"{size / unit:,.4g} {name}"
    return f"{size:,} bytes"
