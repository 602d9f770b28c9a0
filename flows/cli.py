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

from flows.commands import data, model, sandbox
from flows.commands.judge import judge
from flows.commands.lineage import lineage
from flows.commands.listing import list_artifacts
from flows.commands.new import new
from flows.commands.show import show
from flows.commands.status import status
from flows.commands.verify import verify
from flows.console import plain_console
from flows.request import Request, column_overrides, plan_request
from flows.settings import use_home
from stages.artifact import ring_home
from stages.config import StageName
from stages.errors import StageError, TrackingError

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
app.command(show)
app.command(list_artifacts, name="ls")
app.command(lineage)
app.command(verify)
app.command(status)
app.command(new)
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
    columns: str | None = None,
    verbose: Annotated[bool, Parameter(negative="")] = False,
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
        A file of problems (CSV, TSV, JSON, JSON lines, parquet), or a folder of them; each is a source (docs/own-data.md).
    columns
        Which column of those files is what, where their names do not tell: `prompt=question,answer=result,domain=science`.
    verbose
        Print all tables at the end, before the words.
    json_
        Print one JSON object instead of words.

    """
    home = _writable_home()
    use_home(home)
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "CRITICAL")
    overrides = (*column_overrides(columns), *(set_ or ()))
    request = Request(recipe, until=until, rerun=rerun, arm=arm, overrides=overrides, data_dir=data_dir)
    plan_request(request)  # a mistake is told before a server starts
    from flows.serve import temporary_server

    with temporary_server(home):
        document = _run_chain(request)
    if json_:
        sys.stdout.write(json.dumps(document) + "\n")
        return 0
    from flows.ending import show_ending

    show_ending(document, request=request, home=home, console=_out, verbose=verbose)
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
    _err.print(f"ring: {_sentence(error)}", highlight=False, soft_wrap=True, style="red")
    return code


def _sentence(error: Exception) -> str:
    """The operating system's own, without its number and with the folder that was looked in."""
    if not isinstance(error, OSError) or not isinstance(error.filename, str) or not error.strerror:
        return str(error)
    where = Path(error.filename).absolute()
    return f"{error.filename}: {error.strerror[0].lower()}{error.strerror[1:]} (looked for {where})"


if __name__ == "__main__":
    main()
