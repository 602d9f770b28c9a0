"""What a bundle holds besides the sealed results: verdicts as JSON lines, records, environment, statements, README."""

import hashlib
import importlib.metadata
import json
import platform
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from data.schema import PROBLEM_SCHEMA, problems_from_table, read_table
from flows.bundle import check
from flows.bundle.source import Source
from stages.config import EvaluationConfig
from stages.evaluation.asked import asked_of
from stages.evaluation.groups import problem_clusters
from stages.records.artifact import Manifest, write_json
from stages.records.code_digest import ROOT

_VERDICT = ("model", "problem_id", "sample", "status", "score", "extracted")
_CONSTRAINTS = "constraints.txt"
Manifests = Mapping[str, Manifest]  # by `sft`, `rl/<arm>`, ...


def write_rows(rows: Iterable[Mapping[str, Any]], path: Path) -> None:
    """JSON lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as stream:
        stream.writelines(json.dumps(row) + "\n" for row in rows)


def write_verdicts(manifests: Manifests, folder: Path) -> None:
    """The verdicts of the evaluation and what problems they are on, as the standard library can read them."""
    curation, evaluation = manifests["curation"].folder, manifests["evaluation"].folder
    import pyarrow.parquet as pq

    samples = pq.read_table(evaluation / "samples.parquet", columns=[*_VERDICT]).select(_VERDICT)
    write_rows(samples.to_pylist(), folder / check.SAMPLES)
    config = EvaluationConfig.model_validate(manifests["evaluation"].document["payload"]["config"])
    asked = asked_of(config, curation)
    clusters = problem_clusters(asked.problems)
    rows = (
        {"id": one.id, "domain": one.domain, "split": one.split, "source": one.source, "level": one.level,
         "cluster": clusters[one.id], "samples": part.num_samples}
        for part in asked.parts
        for one in part.problems
    )  # fmt: skip
    write_rows(rows, folder / check.PROBLEMS)
    pool = problems_from_table(read_table(curation / "rl.parquet", PROBLEM_SCHEMA))
    levels = sorted({one.level for one in pool if one.level is not None})
    write_json(folder / check.FACTS, {"trained_levels": levels})


def write_environment(manifests: Manifests, path: Path) -> None:
    """The packages that are installed where the bundle is made, each with the digest of its list of files (`RECORD`, PEP 376).

    The manifests hold the versions under which the results were made; a package with another one here is named.
    """
    installed = {one.name: one for one in importlib.metadata.distributions()}
    used: dict[str, set[str]] = {}
    for manifest in manifests.values():
        for name, version in manifest.document.get("packages", {}).items():
            used.setdefault(name, set()).add(version)
    constraints = ROOT / _CONSTRAINTS
    document = {
        "as_of": "the making of the bundle",
        "python": platform.python_version(),
        "constraints_sha256": check.file_sha256(constraints) if constraints.is_file() else None,
        "packages": [_package(one) for _, one in sorted(installed.items(), key=lambda item: item[0].lower())],
        "other_when_made": {
            name: sorted(versions)
            for name, versions in sorted(used.items())
            if name not in installed or versions != {installed[name].version}
        },
    }
    write_json(path, document)


def _package(distribution: importlib.metadata.Distribution) -> dict[str, str | None]:
    record = distribution.read_text("RECORD")
    digest = hashlib.sha256(record.encode()).hexdigest() if record else None
    return {"name": distribution.name, "version": distribution.version, "record_sha256": digest}


def write_statements(bundle: check.Bundle) -> None:
    """An in-toto Statement for each result, and one for the verdicts."""
    seals = {manifest["fingerprint"]: manifest["seal"] for manifest in bundle.manifests.values()}
    folder = bundle.folder / check.STATEMENTS
    folder.mkdir()
    for key, manifest in bundle.by_key.items():
        write_json(folder / f"{key.replace('/', '-')}.json", check.statement_of(manifest, seals))
    write_json(folder / "verdicts.json", check.verdicts_statement(bundle.by_key, bundle.digests))


# ---------------------------------------------------------------- README


def write_readme(
    bundle: check.Bundle,
    *,
    chain: check.Json,
    source: Source,
    title: str,
    tries: check.Json,
    attested: bool,
    signed: bool,
) -> None:
    """What is in the folder, how to check it, and the tables; the root digest stands there as zeros until it is known."""
    results = bundle.json(bundle.result_file("evaluation", "results.json"))
    compared = bundle.json(bundle.result_file("evaluation", "tables.json"))["comparisons"]
    parts = [
        f"# {title}\n",
        f"Recipe `{chain['recipe']}`, chain `{chain['chain']}`. Root digest:\n\n    {check.NO_ROOT}\n",
        _CHECKING,
        _SIGNED if signed else "The folder bears no signature; the root digest is what to keep elsewhere.\n",
        "## Tries\n",
        check.tries_line(tries),
        "## Scores\n",
        f"Made again by `check.py` from the stored verdicts. {_confidence(bundle)}\n",
        check.score_tables(results, compared),
        _HOLDS.format(views=_VIEWS if attested else ""),
        "## Code\n",
        f"`{check.SOURCE}` is {source.title}. {_given(source)}\n",
        "## Results\n",
        *_results(bundle),
    ]
    (bundle.folder / check.README).write_text("\n".join(parts), encoding="utf-8")


def _confidence(bundle: check.Bundle) -> str:
    config = bundle.by_key["evaluation"]["payload"]["config"]
    return f"Intervals are {100 * config['confidence']:g} %; comparisons are paired by problem."


def _given(source: Source) -> str:
    others = [key for key, is_given in source.gives.items() if not is_given]
    if not others:
        return "The code digest in every result's manifest is that of this source: it is what ran."
    return (
        f"**Not the code of {', '.join(others)}**: the digest of these results' code is another one, and neither the commits that they "
        "name nor the working tree gave it. Of the others it is what ran."
    )


def _results(bundle: check.Bundle) -> list[str]:
    lines = ["| result | fingerprint | seal | made by commit | processor |", "| --- | --- | --- | --- | --- |"]
    for key, one in bundle.by_key.items():
        code, hardware = one["code"], one.get("hardware", {})
        commit = f"{(code['commit'] or 'none')[:12]}{' with changes' if code['dirty'] else ''}"
        lines.append(
            f"| {key} | `{one['fingerprint']}` | `{one['seal'][:16]}` | {commit} | {hardware.get('kind', '')} |"
        )
    return [*lines, ""]


_CHECKING = """\
    python3 check.py                           # files, seals, inputs, statements, records, report, root digest, every score and interval
    python3 check.py --root DIGEST             # and that this is the bundle whose root digest was kept elsewhere
    python3 check.py --number sft/all/greedy   # the verdicts behind one number, and the number made again
    sha256sum -c --quiet manifest-sha256.txt   # the files alone

Needed is Python 3.11 or later, and nothing else. Exit code 0, or 1 with a line for each thing that does not hold. Whoever can change this
folder can change `check.py`, too: take it from the project's repository (`flows/bundle/check.py`) and the root digest from elsewhere, then
`python3 check.py FOLDER --root DIGEST`.
"""
_SIGNED = """\
`model.sig` signs every file but itself. To check it (Python package model-signing):

    model_signing verify key . --signature model.sig --ignore-paths model.sig --no-ignore-git-paths --public_key KEY.pub
"""
_VIEWS = """\
| `croissant.json` | the curated data for programs that read Croissant |
| `ro-crate-metadata.json` | the folder as an RO-Crate |
"""
_HOLDS = """\
## What is here

| place | what |
| --- | --- |
| `data/report.html` | the report; no network is needed to read it |
| `data/results/STAGE/FINGERPRINT` | the sealed results: curated data with `card.md` (sources and licences), weights, rollouts, samples |
| `data/statements` | an in-toto Statement a result: its files, and the digests of what it was made from |
| `data/verdicts` | verdicts of the evaluation as JSON lines, written from `samples.parquet` and what curation held out |
| `data/records` | runs, parameters and metrics of every step, from the experiment records; a value that is no number is null |
| `data/records/tries.json` | every run of the recipe in that home folder up to this one, as its ledger had them when this one began |
| `data/recipe.json` | the recipe with every value filled in, as it was recorded |
| `data/source`, `data/source.json` | the code, and which results have the digest of it |
| `data/environment.json` | installed packages with the digest of each one's list of files |
{views}
`bag-info.txt` says whether weights and rollouts are left out; their digests are in the manifests all the same, and the root digest is the
same. The layout is BagIt (RFC 8493). Tags of the records that name a machine, a folder or a process are left out.
"""
