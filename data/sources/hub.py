"""Problems from a data set of the Hugging Face hub, at a pinned revision, or from a local folder in a layout that `datasets` reads.

In: the data set and a map from our columns to theirs. Out: `Problem` records. Text stays, a list of one text is that text, and anything
else becomes JSON text.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data.domains.extraction import final_answer
from data.schema import PROBLEM_COLUMNS, Problem
from data.sources.formats import cell_text

_GIVEN = frozenset({"domain", "split", "source", "licence"})  # by the recipe, not by a column


def load_hub(
    repo: str,
    *,
    revision: str,
    subset: str = "",
    split: str,
    name: str,
    domain: str,
    columns: Mapping[str, str],
    licence: str,
) -> list[Problem]:
    """Rows of one split, with ids `<name>/<theirs>` or `<name>-<index>`. `columns` maps our columns to theirs.

    Without a column for it, the answer is that with which the solution ends (`final_answer`), or empty.

    Raises:
        ValueError: a column that we or the data set do not have, or a data set that cannot be reached.

    """
    _check_ours(columns, where=f"hub source {name!r}")
    rows = load_rows(repo, revision=revision, subset=subset, split=split, where=f"hub source {name!r}")
    missing = [theirs for theirs in columns.values() if theirs not in rows.column_names]
    if missing:
        raise ValueError(
            f"hub source {name!r}: {repo} has no column {', '.join(missing)}; it has {', '.join(rows.column_names)}:"
            " change `columns`"
        )
    texts = {ours: [str(cell_text(value) or "") for value in rows[theirs]] for ours, theirs in columns.items()}
    if "answer" not in texts and "solution" in texts:
        texts["answer"] = [final_answer(solution) or "" for solution in texts["solution"]]
    ids = [f"{name}/{theirs}" for theirs in texts.pop("id", [])] or [f"{name}-{i:06d}" for i in range(len(rows))]
    return [
        Problem(
            id=ids[index],
            domain=domain,
            split="",
            source=name,
            licence=licence,
            **{ours: values[index] for ours, values in texts.items()},
        )
        for index in range(len(rows))
    ]


def _check_ours(columns: Mapping[str, str], *, where: str) -> None:
    allowed = [column for column in PROBLEM_COLUMNS if column not in _GIVEN]
    if unknown := [ours for ours in columns if ours not in allowed]:
        raise ValueError(f"{where}: columns names {', '.join(unknown)}; ours are {', '.join(allowed)}")
    if "prompt" not in columns or not {"answer", "solution", "tests"} & set(columns):
        raise ValueError(
            f"{where}: columns must map `prompt` and one of `answer`, `solution`, `tests`; it maps {', '.join(columns)}"
        )


def load_rows(repo: str, *, revision: str, subset: str = "", split: str, where: str, files: Sequence[str] = ()) -> Any:  # noqa: ANN401 - datasets has no type stubs
    """The rows of one split as `datasets` gives them. `files` are JSON lines of a repository that has no configuration to open.

    Raises ValueError, which begins with `where`, for what cannot be loaded.
    """
    from datasets import load_dataset  # heavy, and only chains with a hub source need it
    from datasets.exceptions import DatasetsError

    try:
        if files:
            root = repo if Path(repo).is_dir() else f"hf://datasets/{repo}@{revision}"
            return load_dataset("json", data_files=[f"{root}/{file}" for file in files], split="train")
        return load_dataset(repo, subset or None, revision=revision, split=split)
    except (DatasetsError, OSError, ValueError) as error:
        raise ValueError(
            f"{where}: {repo} at {revision}, split {split!r}, cannot be loaded: {error};"
            " check repo, revision and split, and that the hub can be reached, or read a folder of parquet files with --data-dir"
        ) from error
