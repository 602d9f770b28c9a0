"""Make a bundle: gather a chain's results from the home folder, write what follows from them, check it all, and put it in its place."""

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from flows.bundle import attestation, check
from flows.bundle.closing import close_bundle
from flows.bundle.contents import (
    write_environment,
    write_readme,
    write_rows,
    write_statements,
    write_verdicts,
)
from flows.bundle.source import Source, write_source
from stages.errors import StageError
from stages.records.artifact import MANIFEST, ArtifactError, Manifest, Store, open_store, write_json
from stages.records.chains import Chain, find_chain
from stages.records.run_ledger import RunLedger
from stages.report.tries import Tries, known_tries

_NEEDED = ("curation", "evaluation", "report")
_MOST_FAULTS = 20  # that are told


@dataclass(frozen=True, slots=True)
class Made:
    """A bundle in its place."""

    folder: Path
    root: str
    chain: str
    num_files: int
    num_bytes: int
    num_left_out: int  # files of a slim one
    source: Source
    notes: tuple[str, ...]


def make_bundle(chain: str, out: Path, *, home: Path, key: Path | None, is_slim: bool) -> Made:
    """Build beside `out`, check, then rename.

    Raises ValueError for a chain that is not there or not whole, an `out` that exists, and a signature without the extra; StageError
    where the records, or anything else, say other than the sealed results.
    """
    _require_place(out)
    if key is not None:
        attestation.require_signer(key)
    found = find_chain(chain, open_store(home))
    manifests = chain_manifests(found, open_store(home))
    beside = out.with_name(f".{out.name}.{os.getpid()}")
    partial = beside / out.name  # the signature holds the folder's name
    try:
        partial.mkdir(parents=True)
        source = _fill(partial, manifests, found, open_store(home), is_slim=is_slim, is_signed=key is not None)
        bundle = close_bundle(partial, is_slim=is_slim)
        if faults := check.faults_of(bundle):
            listed = "\n  ".join(faults[:_MOST_FAULTS])
            raise StageError(f"the bundle does not hold, so it is not published:\n  {listed}", is_user_mistake=False)
        if key is not None:
            attestation.sign(partial, key)
        partial.rename(out)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return _made(check.Bundle(out), out, chain=found.name, source=source)


def _require_place(out: Path) -> None:
    if out.exists() or out.is_symlink():
        raise ValueError(f"{out} is there already; name a folder that is not, or move it away")
    if not out.absolute().parent.is_dir():
        raise ValueError(f"{out}: the folder {out.absolute().parent} is not there; make it first")


def chain_manifests(chain: Chain, store: Store) -> dict[str, Manifest]:
    """By key, inputs first. Raises ValueError where one is gone, does not verify, or is not of one chain with the others."""
    absent = [stage for stage in _NEEDED if stage not in chain.results]
    if absent:
        raise ValueError(
            f"chain {chain.name} stopped before {', '.join(absent)}: a bundle needs them; run the recipe to its end"
        )
    found = {}
    for key, fingerprint in chain.results.items():
        manifest = store.find(key.partition("/")[0], fingerprint)
        if manifest is None:
            raise ArtifactError(
                f"{key} {fingerprint[:12]} of chain {chain.name} is no longer there, or damaged: run the recipe again"
            )
        if problems := store.problems(manifest.stage, manifest.fingerprint, reads_all=True):
            raise ArtifactError(
                f"{key} {fingerprint[:12]} does not hold: {'; '.join(problems[:3])}; `ring verify` tells all"
            )
        found[key] = manifest
    return dict(sorted(found.items(), key=lambda item: (len(item[1].inputs), item[0])))


# ---------------------------------------------------------------- content


def _fill(
    folder: Path,
    manifests: Mapping[str, Manifest],
    recorded: Chain,
    store: Store,
    *,
    is_slim: bool,
    is_signed: bool,
) -> Source:
    """Everything but the lists of files; the root digest stands as zeros where it is printed."""
    for manifest in manifests.values():
        _copy_result(manifest, folder / check.RESULTS / manifest.stage / manifest.fingerprint, is_slim=is_slim)
    _copy_earlier(manifests, store, folder / check.EARLIER)
    write_verdicts(manifests, folder)
    _write_records(manifests, recorded, folder)
    write_environment(manifests, folder / check.ENVIRONMENT)
    source = write_source(manifests, folder / check.SOURCE)
    write_json(folder / check.SOURCE_NOTE, {"commit": source.commit, "gives": source.gives})
    bundle = check.Bundle(folder)
    chain = check.chain_of(recorded.name, bundle.by_key)
    write_json(folder / check.CHAIN, chain)
    write_statements(bundle)
    tries = _write_tries(recorded.name, store, folder)
    _write_report(manifests["report"], folder, tries)
    title = manifests["report"].document["payload"]["config"]["title"]
    attested = attestation.is_there()
    if attested:
        attestation.write_views(bundle, title=title, manifests=manifests)
    write_readme(bundle, chain=chain, source=source, title=title, tries=tries, attested=attested, signed=is_signed)
    shutil.copyfile(check.__file__, folder / "check.py")
    return source


def _copy_result(manifest: Manifest, place: Path, *, is_slim: bool) -> None:
    for name in (MANIFEST, *manifest.document["files"]):
        if not (is_slim and check.is_left_out(name)):
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(manifest.file(name), place / name, follow_symlinks=False)


def _copy_earlier(manifests: Mapping[str, Manifest], store: Store, folder: Path) -> None:
    """The manifests whose seals inputs name and that stand there no longer: their results were made again with the same bytes."""
    named = {entry.get("seal") for manifest in manifests.values() for entry in manifest.inputs.values()}
    for manifest in manifests.values():
        for one in store.history(manifest.stage, manifest.fingerprint):
            if one.seal in named and one.seal != manifest.seal:
                folder.mkdir(parents=True, exist_ok=True)
                write_json(folder / f"{one.seal}.json", one.document)


def _write_records(manifests: Mapping[str, Manifest], chain: Chain, folder: Path) -> None:
    tables = chain.rows([one.document["mlflow_run_id"] for one in manifests.values()])
    for name, rows in tables.items():
        write_rows(rows, folder / check.RECORDS / f"{name}.jsonl")
    recipe = {row["name"]: row["value"] for row in tables["params"] if row["run_id"] == chain.name}
    write_json(folder / check.RECIPE, recipe)


def _write_tries(chain: str, store: Store, folder: Path) -> Tries:
    """What the ledger of runs said when the chain began."""
    tries = known_tries(RunLedger(store.home), chain)
    write_json(folder / check.TRIES, tries)
    return tries


def _write_report(report: Manifest, folder: Path, tries: Tries) -> None:
    sealed = (report.folder / "report.html").read_bytes().decode("utf-8")
    (folder / check.REPORT).write_bytes(check.published_page(sealed, root=check.NO_ROOT, tries=tries).encode("utf-8"))


def _made(bundle: check.Bundle, out: Path, *, chain: str, source: Source) -> Made:
    listed = {f"{place}/{name}" for place, one in bundle.manifests.items() for name in one["files"]}
    left_out = listed - bundle.digests.keys()
    notes = [] if attestation.is_there() else [attestation.ABSENT]
    others = [key for key, is_given in source.gives.items() if not is_given]
    if others:
        notes.append(f"the source is {source.title}; the code that made {', '.join(others)} is not there any more")
    total = sum(bundle.sizes.values())
    return Made(out, bundle.root, chain, len(bundle.digests), total, len(left_out), source, tuple(notes))
