"""`ring model`: what a model holds and the memory it needs, computed from its config.json; and its answer to a problem."""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter

from data.domains import DOMAINS
from data.schema import Problem
from flows.console import near, plain_console, waiting
from flows.models import find_model
from ring_model.configuration import MODEL_TYPE, BailingMoeConfig
from ring_model.model_types import is_ours, model_type
from stages.records.artifact import open_store

app = App(name="model", help="Look at a model, or ask it.")


@app.command
def info(
    model: str,
    *,
    ranks: int = 8,
    micro_batch_tokens: int = 4096,
    context: int = 32768,
    json_: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> int:
    """Print parameters, files, the chat template, end tokens, and memory for training under ZeRO 0 to 3 and for serving.

    Weights, where there are any, are compared with config.json by name and shape, without being read. The tokenizer is opened where
    there is one, and its template tried; one that cannot be used is refused with the reason.

    Parameters
    ----------
    model
        An id of `ring ls` (ID/epoch-02 where it holds several), a result's folder, or a model folder; config.json alone is enough.
    ranks
        Data-parallel ranks that ZeRO shards over.
    micro_batch_tokens
        Tokens of one forward and backward pass.
    context
        Tokens of one served sequence.
    json_
        Print one JSON object instead of tables.

    """
    folder = find_model(model, store=open_store())
    with waiting("importing PyTorch, and reading the names and shapes of the weights"):
        document = _document(folder, ranks=ranks, micro_batch_tokens=micro_batch_tokens, context=context)
    if json_:
        sys.stdout.write(json.dumps(document) + "\n")
        return 0
    from flows.tables import rows_table

    out = plain_console()
    out.print(near(folder), highlight=False, soft_wrap=True)
    out.print(f"{_summary(document)}\n", highlight=False)
    if document["tokenizer"] is not None:
        out.print(f"{_tokenizer_summary(document['tokenizer'])}\n", highlight=False, soft_wrap=True)
    if not document["parts"]:
        return 0
    out.print(rows_table(document["parts"], title=""))
    training = [{"training": row["what"], "size": _size(row["bytes"])} for row in document["training"]]
    out.print(rows_table(training, title=f"each of {ranks} ranks, {micro_batch_tokens:,} tokens a micro-batch"))
    serving = [{"serving": row["what"], "size": _size(row["bytes"])} for row in document["serving"]]
    out.print(rows_table(serving, title=f"one sequence of {context:,} tokens"), end="")
    return 0


@app.command
def ask(
    model: str,
    problem: str,
    *,
    domain: str = "math",
    max_new_tokens: int = 1024,
    json_: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> int:
    """Ask a model one problem as training and evaluation do, with the instruction of its domain, and print its greedy response.

    Parameters
    ----------
    model
        As for `ring model info`.
    problem
        The problem alone; the instruction is added.
    domain
        math, code or science: which instruction.
    max_new_tokens
        Longest response.
    json_
        Print one JSON object: prompt, response, tokens, finished.

    """
    if domain not in DOMAINS:
        raise ValueError(f"no domain {domain!r}; there are {', '.join(DOMAINS)}")
    if max_new_tokens < 1:
        raise ValueError(f"--max-new-tokens = {max_new_tokens} must be at least 1")
    from stages.sampling.asking import respond  # torch

    folder = find_model(model, store=open_store())
    answer = respond(folder, Problem("", domain, "eval", problem, ""), max_new_tokens=max_new_tokens)
    if json_:
        sys.stdout.write(json.dumps(asdict(answer)) + "\n")
        return 0
    plain_console().print(answer.response, highlight=False, soft_wrap=True)
    if not answer.finished:
        plain_console(stderr=True).print(f"cut off after {answer.tokens:,} tokens; --max-new-tokens sets the limit")
    return 0


def _summary(document: dict[str, Any]) -> str:
    if document["architecture"] != MODEL_TYPE:
        of = f"{document['architecture']}, opened and trained through transformers"
        return f"{document['parameters']:,} parameters; {of}; parts and memory are told of {MODEL_TYPE} alone"
    counts = f"{document['parameters']:,} parameters, {document['active_parameters']:,} active"
    weights = document["weights"]
    if weights is None:
        return f"{counts}; no weights in the folder"
    files = f"{weights['files']} file{'' if weights['files'] == 1 else 's'}"
    return f"{counts}; {files}, {_size(weights['bytes'])}, names and shapes as config.json asks"


def _tokenizer_summary(tokenizer: dict[str, Any]) -> str:
    opener = (
        "opened by the template"
        if tokenizer["opens_thinking"]
        else "opened by the model: its responses begin with <think>"
    )
    ends = ", ".join(f"{end['token']} ({end['id']})" for end in tokenizer["end_tokens"])
    trained = ", of which the first ends what is trained on" if len(tokenizer["end_tokens"]) > 1 else ""
    return f"chat template: {tokenizer['template']}\nthinking: {opener}\nend tokens: {ends}{trained}"


def _size(count: int) -> str:
    """GiB where there is one, else MB."""
    return f"{count / 2**30:,.2f} GiB" if count >= 2**30 else f"{count / 1e6:,.1f} MB"


def _document(folder: Path, *, ranks: int, micro_batch_tokens: int, context: int) -> dict[str, Any]:
    for name, value in (("ranks", ranks), ("micro-batch-tokens", micro_batch_tokens), ("context", context)):
        if value < 1:
            raise ValueError(f"--{name} = {value} must be at least 1")
    if not is_ours(folder):
        return _other_document(folder)
    config = BailingMoeConfig.from_folder(folder)
    return {
        "architecture": MODEL_TYPE,
        "parameters": config.num_parameters,
        "active_parameters": config.num_active_parameters,
        "weights": _weights(folder),
        "tokenizer": _tokenizer(folder),
        "parts": [{"part": part, "parameters": count} for part, count in config.parameters_by_part().items()],
        "training": _training(config, ranks=ranks, num_tokens=micro_batch_tokens),
        "serving": _serving(config, num_tokens=context),
    }


def _other_document(folder: Path) -> dict[str, Any]:
    """Of another architecture: what its files say; the tables of parts and memory are made for our own alone."""
    from ring_model.causal_lm import check_causal_lm, count_parameters

    check_causal_lm(folder)
    files = sorted(folder.glob("*.safetensors"))
    return {
        "architecture": model_type(folder),
        "parameters": count_parameters(folder),
        "active_parameters": None,
        "weights": {"files": len(files), "bytes": sum(file.stat().st_size for file in files)},
        "tokenizer": _tokenizer(folder),
        "parts": [],
        "training": [],
        "serving": [],
    }


def _weights(folder: Path) -> dict[str, int] | None:
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        return None
    from ring_model.checkpoint import check_folder

    check_folder(folder)
    return {"files": len(files), "bytes": sum(file.stat().st_size for file in files)}


def _tokenizer(folder: Path) -> dict[str, Any] | None:
    if not any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer_config.json")):
        return None
    from ring_model.tokenizer import Tokenizer

    tokenizer = Tokenizer.from_folder(folder)
    return {
        "template": tokenizer.template.origin,
        "opens_thinking": tokenizer.template.opens_thinking,
        "end_tokens": [{"id": index, "token": tokenizer.decode([index])} for index in tokenizer.end_ids],
    }


def _training(config: BailingMoeConfig, *, ranks: int, num_tokens: int) -> list[dict[str, Any]]:
    from ring_model.memory import activation_bytes, training_state_bytes

    rows = []
    for stage in range(4):
        size = training_state_bytes(config, zero_stage=stage, num_ranks=ranks)
        rows.append({"what": f"weights, gradients, AdamW: ZeRO {stage}", "bytes": size})
    for checkpoints in (False, True):
        size = activation_bytes(config, num_tokens=num_tokens, checkpoints_layers=checkpoints)
        rows.append({"what": f"activations, float32{', checkpointed layers' if checkpoints else ''}", "bytes": size})
    return rows


def _serving(config: BailingMoeConfig, *, num_tokens: int) -> list[dict[str, Any]]:
    from ring_model.memory import BFLOAT16, FLOAT32, cache_bytes

    rows = [
        {"what": f"weights, {name}", "bytes": size * config.num_parameters}
        for name, size in (("bfloat16", BFLOAT16), ("float32", FLOAT32))
    ]
    return [*rows, {"what": "keys and values, bfloat16", "bytes": cache_bytes(config, num_tokens=num_tokens)}]
