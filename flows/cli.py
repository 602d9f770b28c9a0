"""The `ring` command. Exit codes: 0 done, 1 a check does not hold, 2 a user's mistake, 130 interrupted.

Standard output carries results, standard error progress and messages. Heavy packages are imported by the command that needs them.
"""

import importlib.metadata
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from flows.commands import data, model, sandbox
from flows.commands.judge import judge
from flows.console import assembled, plain_console
from flows.request import Request, plan_request
from flows.settings import use_home
from stages.artifact import Manifest, Store, folder_problems, ring_home
from stages.config import StageName
from stages.errors import StageError, TrackingError
from stages.machine import elsewhere_line, machine_kind, made_elsewhere
from stages.plan import PlannedStage, kept_results, outdated, plan_chain
from stages.recipe import load_recipe, recipe_names, walk_values

LEAST_FREE_BYTES = 20_000_000  # the databases of a first run alone take 8 MB

app = App(
    name="ring",
    version=lambda: importlib.metadata.version("ring-in-the-open"),
    help="Train a reasoning model in the open, and check every number on the way.",
    version_flags=["--version"],
    error_console=plain_console(stderr=True),
)
app.command(data.app)
app.command(model.app)
app.command(sandbox.app)
app.command(judge)
_out = plain_console()
_err = plain_console(stderr=True)


@app.command
def run(
    recipe: str,
    *,
    rerun: StageName | None = None,
    arm: str | None = None,
    until: StageName | None = None,
    set_: Annotated[list[str] | None, Parameter(name="--set", negative="")] = None,
    data_dir: Path | None = None,
    json_: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> int:
    """Run the chain of a recipe. Finished stages come from the cache; a stage that was killed goes on from its last checkpoint.

    Parameters
    ----------
    recipe
        Name of a recipe under recipes/ (`ring show` lists them), or a path that ends in .toml.
    rerun
        Build this stage again although its result stands there. Same inputs and seed give the same bytes, and the run says so.
    arm
        With `--rerun rl`: only this arm.
    until
        Stop after this stage.
    set_
        KEY=VALUE changes one value, for example `--set rl.objective.token_budget=2000`; may be given several times.
    data_dir
        Folder of *.parquet files in the schema of data/schema.py; each is a source of problems.
    json_
        Print one JSON object instead of tables.

    """
    home = _writable_home()
    use_home(home)
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "CRITICAL")
    request = Request(recipe, until=until, rerun=rerun, arm=arm, overrides=tuple(set_ or ()), data_dir=data_dir)
    plan_request(request)  # a mistake is told before a server starts
    from flows.serve import temporary_server

    with temporary_server(home):
        document = _run_chain(request)
    if json_:
        sys.stdout.write(json.dumps(document) + "\n")
        return 0
    from flows.terminal import show_chain

    show_chain(document, console=_out)
    _out.print(f"report: {document['report']}", highlight=False, soft_wrap=True)
    _out.print(
        f"records: .venv/bin/mlflow ui --backend-store-uri sqlite:///{home / 'mlflow.db'}   (or: ring up)",
        highlight=False,
        soft_wrap=True,
    )
    return 0


def _run_chain(request: Request) -> dict[str, Any]:
    from flows.chain import full_chain  # Prefect reads its settings when it is imported
    from flows.terminal import ACTIVE_DISPLAY, progress_display

    with progress_display() as display:
        ACTIVE_DISPLAY.set(display)
        return full_chain(
            request.recipe,
            until=request.until,
            rerun=request.rerun,
            arm=request.arm,
            overrides=list(request.overrides),
            data_dir=str(request.data_dir) if request.data_dir else None,
        )


@app.command
def show(
    recipe: str | None = None, *, set_: Annotated[list[str] | None, Parameter(name="--set", negative="")] = None
) -> int:
    """Print every resolved value of a recipe and where it comes from: the paper, a class default or a line of the recipe.

    Parameters
    ----------
    recipe
        Name or path; without it the recipes are listed.
    set_
        KEY=VALUE, as for `ring run`.

    """
    if recipe is None:
        for name in recipe_names():
            _out.print(f"{name:<16} {load_recipe(name).recipe.description}", highlight=False)
        return 0
    resolved = load_recipe(recipe, overrides=set_ or [])
    table = Table("key", "value", "from", "meaning", title=str(resolved.path.name), title_justify="left")
    for item in walk_values(resolved.recipe):
        table.add_row(item.key, str(item.value), resolved.origin(item.key, item.declared), item.doc)
    _out.print(table)
    return 0


@app.command(name="ls")
def list_artifacts(*, json_: Annotated[bool, Parameter(name="--json", negative="")] = False) -> int:
    """List the results of this home folder: stage, arm, fingerprint, recipe that first made it, when, size.

    Parameters
    ----------
    json_
        Print one JSON object instead of a table.

    """
    store = Store(ring_home())
    manifests = sorted(store.all(), key=lambda manifest: manifest.document["made_at"])
    rows = [_summary(manifest) for manifest in manifests]
    if num_left := len(store.folders()) - len(rows):
        _err.print(f"{num_left} results are left out: their manifests cannot be read; `ring verify` says why")
    if json_:
        sys.stdout.write(json.dumps({"artifacts": rows}) + "\n")
        return 0
    table = Table(
        "stage", "arm", "fingerprint", "recipe", "made at", "MB", "status", title=str(ring_home()), title_justify="left"
    )
    for row in rows:
        table.add_row(
            row["stage"],
            row["arm"] or "",
            row["fingerprint"][:12],
            row["recipe"],
            row["made_at"],
            f"{row['bytes'] / 1e6:.1f}",
            row["status"],
        )
    _out.print(table)
    return 0


def _summary(manifest: Manifest) -> dict[str, Any]:
    document = manifest.document
    size = sum(entry["bytes"] for entry in document["files"].values())
    return {
        "stage": manifest.stage,
        "arm": manifest.arm,
        "fingerprint": manifest.fingerprint,
        "recipe": document["recipe"],
        "made_at": document["made_at"],
        "bytes": size,
        "status": document["status"],
    }


@app.command
def lineage(
    id_: Annotated[str, Parameter(name="ID")], *, json_: Annotated[bool, Parameter(name="--json", negative="")] = False
) -> int:
    """Show what a result was made from, back to the raw problems: stages, fingerprints, code version, records.

    Parameters
    ----------
    id_
        The first characters of a fingerprint (`ring ls` lists them).
    json_
        Print the whole manifests instead of a tree.

    """
    store = Store(ring_home())
    manifest = store.by_id(id_)
    if json_:
        sys.stdout.write(json.dumps(_lineage_document(manifest, store)) + "\n")
        return 0
    tree = Tree(_lineage_line(manifest))
    _grow(tree, manifest, store)
    _out.print(tree)
    return 0


def _lineage_line(manifest: Manifest, changed: str = "") -> Text:
    document = manifest.document
    commit = (document["code"]["commit"] or "no commit")[:10] + (" + changes" if document["code"]["dirty"] else "")
    rest = f" {manifest.fingerprint[:12]}  {document['made_at']}  code {commit}  MLflow {document['mlflow_run_id'][:8]}"
    return assembled((f"{manifest.stage} {manifest.arm or ''}", "bold"), rest, (changed, "red"))


def _grow(tree: Tree, manifest: Manifest, store: Store) -> None:
    for name, entry in manifest.inputs.items():
        found = store.find(entry["stage"], entry["fingerprint"]) if "stage" in entry else None
        if found is None:
            line = f"{name} {entry.get('fingerprint', '')[:12]} content {entry['content'][:12]}"
            tree.add(assembled(line, (" (no longer there)" if "stage" in entry else "", "red")))
            continue
        changed = "" if found.content == entry["content"] else "  (its bytes are other ones now)"
        _grow(tree.add(_lineage_line(found, changed)), found, store)


def _lineage_document(manifest: Manifest, store: Store) -> dict[str, Any]:
    parents = {
        name: store.find(entry["stage"], entry["fingerprint"])
        for name, entry in manifest.inputs.items()
        if "stage" in entry
    }
    return {
        "manifest": manifest.document,
        "inputs": {name: _lineage_document(parent, store) if parent else None for name, parent in parents.items()},
    }


@app.command
def verify(
    id_: Annotated[str | None, Parameter(name="ID")] = None,
    *,
    json_: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> int:
    """Hash every file of every result (or of one) and compare with the manifests; check that inputs are the ones that were used.

    Exit code 1 if anything does not hold.

    Parameters
    ----------
    id_
        The first characters of a fingerprint; without it all results are checked.
    json_
        Print one JSON object.

    """
    store = Store(ring_home())
    folders = [store.folder_of(id_)] if id_ else store.folders()
    found = {folder: _problems(folder, store) for folder in folders}
    if json_:
        problems = {folder.name: lines for folder, lines in found.items() if lines}
        sys.stdout.write(json.dumps({"checked": len(found), "problems": problems}) + "\n")
        return 1 if problems else 0
    for folder, lines in found.items():
        word = ("BROKEN", "red") if lines else ("ok    ", "green")
        manifest = store.find(folder.parent.name, folder.name)
        arm = (manifest.arm if manifest else None) or ""
        _out.print(assembled(word, f" {folder.parent.name} {arm} {folder.name[:12]}"))
        for line in lines:
            _out.print(f"       {line}", highlight=False)
    num_broken = sum(bool(lines) for lines in found.values())
    _out.print(f"{len(found)} results checked, {num_broken} do not hold", highlight=False)
    return 1 if num_broken else 0


def _problems(folder: Path, store: Store) -> list[str]:
    found = folder_problems(folder)
    manifest = store.find(folder.parent.name, folder.name)
    return found + (_broken_inputs(manifest, store) if manifest else [])


def _broken_inputs(manifest: Manifest, store: Store) -> list[str]:
    lines = []
    for name, entry in manifest.inputs.items():
        parent = store.find(entry["stage"], entry["fingerprint"]) if "stage" in entry else None
        if "stage" in entry and parent is None:
            lines.append(f"input {name}: {entry['fingerprint'][:12]} is no longer there, or damaged")
        elif parent is not None and parent.content != entry["content"]:
            lines.append(f"input {name}: its bytes are other ones than were used")
    return lines


@app.command
def status(
    recipe: str,
    *,
    set_: Annotated[list[str] | None, Parameter(name="--set", negative="")] = None,
    data_dir: Path | None = None,
) -> int:
    """Say for each stage of a recipe whether its result is there, or out of date.

    Parameters
    ----------
    recipe
        Name or path.
    set_
        KEY=VALUE, as for `ring run`.
    data_dir
        As for `ring run`.

    """
    store = Store(ring_home())
    resolved = load_recipe(recipe, overrides=set_ or []).recipe
    specs = plan_chain(resolved, data_dir=data_dir)
    stale = outdated(specs, store=store)
    table = Table("stage", "arm", "fingerprint", "state", title=recipe, title_justify="left")
    for spec in specs:
        state = _state(spec, store=store) if spec.key in stale else "up to date"
        table.add_row(spec.stage, spec.arm or "", spec.fingerprint[:12], state)
    _out.print(table)
    here = machine_kind(resolved.runtime.device)
    kept = {key: one.document for key, one in kept_results(specs, store=store).items()}
    if elsewhere := made_elsewhere(kept, here=here):
        _out.print(elsewhere_line(elsewhere, here=here), highlight=False, soft_wrap=True)
    return 0


def _state(spec: PlannedStage, *, store: Store) -> str:
    if store.find(spec.stage, spec.fingerprint):
        return "out of date: what it was made from is to be made, or has other bytes now"
    if store.partial(spec.stage, spec.fingerprint).exists():
        return "half made: goes on from its last checkpoint"
    return "to be made"


@app.command
def up(*, prefect_port: int = 4200, mlflow_port: int = 5000, host: str = "127.0.0.1") -> int:
    """Start the Prefect server, a worker with the deployments, and the MLflow UI; print both addresses; stop all on Ctrl-C.

    Parameters
    ----------
    prefect_port
        Port of the Prefect server and UI.
    mlflow_port
        Port of the MLflow UI.
    host
        Address to listen on; neither server asks for a password, so think before you change it.

    """
    home = _writable_home()
    use_home(home)
    from flows.serve import serve

    return serve(home, host=host, prefect_port=prefect_port, mlflow_port=mlflow_port)


def _writable_home() -> Path:
    home = ring_home()
    probe = home / f".write-{os.getpid()}"
    try:
        home.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise ValueError(
            f"cannot write to the home folder {home} ({error.strerror}); set RING_HOME to a folder of yours"
        ) from error
    if (free := shutil.disk_usage(home).free) < LEAST_FREE_BYTES:
        raise ValueError(
            f"the disk of the home folder {home} is full: {free:,} bytes are free, at least {LEAST_FREE_BYTES:,} are needed; "
            "free some, or set RING_HOME to a folder on another disk"
        )
    return home


def main() -> None:
    """Entry point: a user's mistake is one message and exit code 2, without a traceback."""
    try:
        code = app(result_action="return_value")
    except KeyboardInterrupt:
        _err.print("interrupted; the same command goes on where it stopped")
        code = 130
    except StageError as error:
        code = _tell(error, code=2 if error.is_user_mistake else 1)
    except (ValueError, TrackingError, OSError) as error:
        code = _tell(error, code=2)
    sys.exit(code if isinstance(code, int) else 0)


def _tell(error: Exception, *, code: int) -> int:
    _err.print(f"ring: {error}", highlight=False, soft_wrap=True, style="red")
    return code


if __name__ == "__main__":
    main()
