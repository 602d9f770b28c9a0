"""The `ring` command. Exit codes: 0 done, 1 a check does not hold, 2 a user's mistake, 130 interrupted,
141 nobody reads the output any more.

Standard output carries results, standard error progress and messages. Heavy packages are imported by the command that needs them.
"""

import gc
import importlib.metadata
import json
import signal
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from flows.commands.show import toml_text
from flows.console import UNHEARD, leave_pipe, plain_console, say, waiting
from flows.environment import prepare
from flows.model_size import ModelSize, random_base, tiny_changes
from flows.request import Request, column_overrides, plan_request
from flows.running import prepared_home, run_flow, writable_home
from flows.settings import use_home
from stages.config import StageName
from stages.errors import StageError, StoppedError, TrackingError
from stages.recipe import load_recipe

COMMANDS = {  # name -> where it is, imported when it is called, and what it says of itself
    "show": (
        "flows.commands.show:show",
        "Print the values of a recipe and where each comes from: the paper, a class default, a line of the recipe, or --set.",
    ),
    "new": (
        "flows.commands.new:new",
        "Write a recipe file that states only what differs from another recipe; `ring run FILE` runs it.",
    ),
    "plan": (
        "flows.commands.plan:plan",
        "Say what a recipe needs on given GPUs: memory by part, hours, cost, disk, and what to change where it does not fit.",
    ),
    "status": (
        "flows.commands.status:status",
        "Say for each stage of a recipe whether its result is there, damaged or out of date; every file is hashed.",
    ),
    "ls": (
        "flows.commands.listing:list_artifacts",
        "List the results of this home folder, oldest first: when, recipe, stage, score, id, size, and how two of one stage differ.",
    ),
    "runs": (
        "flows.commands.runs:list_runs",
        "List every run of this home folder, oldest first: when, what, how it ended, and how many tries of the same chain it makes.",
    ),
    "lineage": (
        "flows.commands.lineage:lineage",
        "Show what a result, a figure, a row or a response was made from, as a tree, down to the raw data with licences and hashes.",
    ),
    "why": (
        "flows.commands.why:why",
        "Say why a stored response was judged right or wrong: answer read out, rule, judge, problem, and its way through curation.",
    ),
    "diff": (
        "flows.commands.diff:diff",
        "Say in what two results, chains or recipes differ: values, code, packages, machines, and figures with their intervals.",
    ),
    "verify": (
        "flows.commands.verify:verify",
        "Hash every file of every result, compare manifests, inputs, figures, MLflow's records, ledger and pages; print one root digest.",
    ),
    "reproduce": (
        "flows.commands.reproduce:reproduce",
        "Make a result again in a clean folder, from its sealed inputs and its manifest alone, and compare every byte.",
    ),
    "rollouts": (
        "flows.commands.rollouts:rollouts",
        "Show what an RL arm answered in a step, a page at a time: verdict, reason, advantage, and what of each response entered the loss.",
    ),
    "evaluate": (
        "flows.commands.evaluate:evaluate",
        "Evaluate one model on named benchmarks or a file of problems: greedy and sampled accuracy, pass@k, maj@k, with intervals.",
    ),
    "rescore": (
        "flows.commands.rescore:rescore_result",
        "Judge the stored responses of a result again, without sampling, and show each verdict that changes.",
    ),
    "bundle": (
        "flows.commands.bundle:bundle",
        "Put a finished chain in one folder: results, code, records, report, and a check that needs Python alone (docs/bundle.md).",
    ),
    "export-records": (
        "flows.commands.export_records:export_records",
        "Write a chain's experiment records as CSV or JSON lines: parameters, metrics of every step, tags, data sets, models.",
    ),
    "crosscheck": (
        "flows.commands.crosscheck:crosscheck",
        "Let lm-eval judge the stored responses of a result again, without sampling, and show where it and our judge part.",
    ),
    "data": ("flows.commands.data:app", "Ask what curation did."),
    "model": ("flows.commands.model:app", "Look at a model, or ask it."),
    "chat": (
        "flows.commands.chat:chat",
        "Talk to a model, line by line: its thinking dim, then its answer, as it comes. Ctrl-C ends an answer, Ctrl-D the talk.",
    ),
    "export": (
        "flows.commands.export:export",
        "Write a model as a new folder to give away: weights, tokenizer, chat template, sampling, and a model card made from the records.",
    ),
    "sandbox": ("flows.commands.sandbox:app", "Where answers that are code run."),
    "judge": (
        "flows.commands.judge:judge",
        "Judge the responses of a file of JSON lines; print one JSON line for each, in order. "
        "Exit code 1 when a line cannot be read.",
    ),
}

app = App(
    name="ring",
    version=lambda: importlib.metadata.version("ring-in-the-open"),
    help="Train a reasoning model in the open, and check every number on the way.",
    version_flags=["--version"],
    console=plain_console(),
    error_console=plain_console(stderr=True),
)
for name, (place, text) in COMMANDS.items():
    app.command(place, name=name, help=text)
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
    model_size: ModelSize | None = None,
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
    model_size
        `tiny`: the same recipe with a tiny random model, tiny budgets and few rows, on a CPU, to try every path of it. What is made
        smaller is printed, and its results stand under another name: they say nothing about the recipe's own.
    verbose
        Print all tables at the end, before the words.
    json_
        Print one JSON object instead of words.

    """
    home = prepared_home()
    smaller = _made_smaller(recipe, model_size, home=home, data_dir=data_dir)
    overrides = (*column_overrides(columns), *smaller, *(set_ or ()))
    request = Request(recipe, until=until, rerun=rerun, arm=arm, overrides=overrides, data_dir=data_dir)
    with waiting("reading the recipe, and the code that its stages run"):
        plan = plan_request(request)  # a mistake is told before a server starts
    parameters = {
        "recipe": recipe,
        "until": until,
        "rerun": rerun,
        "arm": arm,
        "overrides": list(overrides),
        "data_dir": str(data_dir) if data_dir else None,
    }
    document = run_flow("flows.chain:full_chain", parameters, home=home, experiment=plan.resolved.recipe.name)
    if json_:
        sys.stdout.write(json.dumps(document) + "\n")
        return 0
    from flows.ending import show_ending

    show_ending(document, request=request, home=home, console=_out, verbose=verbose)
    return 0


def _made_smaller(recipe: str, size: ModelSize | None, *, home: Path, data_dir: Path | None) -> list[str]:
    """Changes of the recipe for a model size, as overrides; they are told."""
    if size is None:
        return []
    found = load_recipe(recipe).recipe
    released = found.base.checkpoint is not None or found.selection.stronger is not None
    with waiting("making a random model in the released layout"):
        changes = tiny_changes(found, data_dir=data_dir, base=random_base(home) if released else None)
    say(f"{found.name} is run tiny: its results say nothing about the recipe's own. What was made smaller:")
    for change in changes:
        say(f"  {change.key} = {toml_text(change.value)}{change.was_in_words}")
    return [change.override for change in changes]


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
    home = writable_home()
    use_home(home)
    from flows.serve import serve

    return serve(home, host=host, prefect_port=prefect_port, mlflow_port=mlflow_port)


def main() -> None:
    """Entry point: a user's mistake is one message and exit code 2, without a traceback."""
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        prepare()
        with waiting("importing what the command needs"):
            command, bound, _ = app.parse_args()
        code = command(*bound.args, **bound.kwargs)
        sys.stdout.flush()
    except KeyboardInterrupt as error:
        say(str(error) or "interrupted")
        code = 130
    except StoppedError as error:
        code = _tell(error, code=130)
    except StageError as error:
        code = _tell(error, code=2 if error.is_user_mistake else 1)
    except (ValueError, TrackingError, OSError) as error:
        code = UNHEARD if isinstance(error, BrokenPipeError) and leave_pipe() else _tell(error, code=2)
    gc.freeze()  # Python would look for cycles in all that was imported before it goes: seconds, after the last word was said
    sys.exit(code if isinstance(code, int) else 0)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


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
