"""The README.md of an exported model: front matter as the Hugging Face hub reads it, and what a stranger wants to know, from the records.

What it is, how it is asked so that it answers as recorded, scores with intervals, how it was made (stages with fingerprints and seals,
data sets with licences and rows, hyperparameters), limits, licence. Nothing in it is written by hand but the sentences around the numbers.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from flows.export.records import Evaluation, ModelRecords
from ring_model.configuration import BailingMoeConfig
from stages.markdown import plain, table
from stages.records.machine import machine_line
from stages.training.model_card import snippet

Decode = Callable[[Sequence[int]], str]
PERMISSIVE = frozenset(
    {"Apache-2.0", "MIT", "BSD-2-Clause", "BSD-3-Clause", "CC0-1.0"}
)  # of data: a model may be Apache-2.0
_TRAINED = ("base", "sft", "selection", "rl")
_MATTER = (  # dotted keys of a stage's configuration
    "seed",
    "checkpoint",
    "training.epochs",
    "training.learning_rate",
    "training.batch_tokens",
    "training.max_total_tokens",
    "training.weight_decay",
    "rule",
    "entropy_window",
    "prompts_per_step",
    "samples_per_prompt",
    "objective.kind",
    "objective.token_budget",
    "objective.clip_low",
    "objective.clip_high",
    "objective.kl_coefficient",
    "objective.entropy_coefficient",
    "optimizer.learning_rate",
    "sampling.temperature",
    "sampling.top_p",
    "sampling.max_new_tokens",
)
_METRIC_NAMES = {"greedy": "accuracy, greedy", "pass@1": "accuracy, sampled (pass@1)"}


def card(records: ModelRecords | None, *, config: BailingMoeConfig, decode: Decode, name: str) -> str:
    """The whole text. Without records it says that there are none. `decode` gives the text of ids as whoever opens the folder sees it."""
    parts = [
        _front_matter(records, name=name),
        _what(records, config=config, name=name),
        _use(),
        *(
            []
            if records is None
            else [_recorded(records, decode), _scores(records), _made(records), _data(records), _numbers(records)]
        ),
        _limits(records),
        _licence(records),
    ]
    return "\n".join(part.rstrip("\n") + "\n" for part in parts if part)


def licence_of(records: ModelRecords | None) -> str:
    """`apache-2.0` where all data it was trained on are under a licence that lets it be, and no other model is behind it; else `other`."""
    if records is None or not records.sources or released_start(records):
        return "other"
    return "apache-2.0" if {row["licence"] for row in records.sources} <= PERMISSIVE else "other"


def released_start(records: ModelRecords) -> str | None:
    """Digest of the released model that training started from; None where it started from random weights."""
    bases = [one for one in records.made_from if one.stage == "base"]
    return next((one.inputs["checkpoint"]["content"] for one in bases if "checkpoint" in one.inputs), None)


# ---------------------------------------------------------------- front matter


def _front_matter(records: ModelRecords | None, *, name: str) -> str:
    licence = licence_of(records)
    data = ModelCardData(
        license=licence,
        license_name="see-the-card" if licence == "other" else None,
        license_link="README.md#licence" if licence == "other" else None,
        library_name="transformers",
        pipeline_tag="text-generation",
        tags=["bailing_moe", "reasoning", "ring-in-the-open"],
        datasets=_hub_sets(records) or None,
        metrics=["accuracy"] if records is not None and records.evaluations else None,
        model_name=name,
        eval_results=[] if records is None else list(_results(records)),
    )
    return f"---\n{data.to_yaml()}\n---\n"


def _hub_sets(records: ModelRecords | None) -> list[str]:
    """Repositories of the hub that rows were read from."""
    if records is None:
        return []
    sources = [
        source
        for one in records.made_from
        if one.stage == "curation"
        for source in one.document["payload"]["config"]["sources"]
    ]
    return sorted({source["repo"] for source in sources if source.get("repo")})


def _results(records: ModelRecords) -> Iterator[EvalResult]:
    """Scores of the newest evaluation that measured each group; single levels stand in the table alone."""
    told: set[tuple[str, str]] = set()
    for evaluation in records.evaluations:
        for score in evaluation.scores:
            if (score.group, score.metric) in told or "level" in score.group.split():
                continue
            told.add((score.group, score.metric))
            yield EvalResult(
                task_type="text-generation",
                dataset_type=re.sub(r"[^a-z0-9._]+", "-", _group_name(evaluation, score.group).lower()),
                dataset_name=_group_name(evaluation, score.group),
                metric_type="accuracy",
                metric_name=_METRIC_NAMES[score.metric],
                metric_value=round(score.value, 4),
                metric_args={"low": round(score.low, 4), "high": round(score.high, 4), "problems": score.num_problems},
            )


def _group_name(evaluation: Evaluation, group: str) -> str:
    return group if group in evaluation.benchmarks else f"held-out problems: {group}"


# ---------------------------------------------------------------- sections


def _what(records: ModelRecords | None, *, config: BailingMoeConfig, name: str) -> str:
    sizes = f"{config.num_parameters:,} parameters, of which a token uses {config.num_active_parameters:,}"
    dense = f" (the first {config.first_k_dense_replace} dense)" if config.first_k_dense_replace else ""
    shape = (
        f"{config.num_hidden_layers} layers of width {config.hidden_size}{dense}, {config.num_experts} routed experts "
        f"({config.num_experts_per_tok} for a token), a vocabulary of {config.vocab_size:,}, {config.max_position_embeddings:,} positions"
    )
    if records is None:
        origin = "The folder that it was exported from lies in no result: nothing is recorded of how it was made."
    else:
        made = records.manifest
        origin = (
            f"It is the model `{records.part}` of the result `{made.fingerprint}` ({records.title}), made at {made.document['made_at']} "
            "by *Ring, in the open*, a pipeline of data curation, Long-CoT SFT, checkpoint selection and RL in which every number can be "
            "checked."
        )
    kind = "A BailingMoE language model, a mixture of experts that thinks before it answers"
    return f"# {plain(name)}\n\n{kind}: {sizes}; {shape}.\n{origin}\n"


def _use() -> str:
    return f"""## How to ask it

It was trained, and evaluated, on problems that end with the instruction of their domain. Without it, or without the chat template, it
answers otherwise. The lines below ask as the evaluation does; with `do_sample=False` they give its greedy answers, token for token.
`ring_model` comes with the project. vLLM opens the folder by itself; give it the same chat template and instructions.

```python
{snippet()}
```
"""


def _recorded(records: ModelRecords, decode: Decode) -> str:
    """Greedy answers to compare one's own with."""
    examples = list(records.examples())
    if not examples:
        return ""
    most = records.evaluations[0].sampling["max_new_tokens"]
    lines = [
        f"The evaluation recorded these greedy answers, of at most {most:,} tokens (`answer(problem, domain, max_new_tokens={most})`):",
        "",
    ]
    for example in examples:
        asked = {"domain": example.domain, "problem": example.prompt, "answer": decode(example.token_ids)}
        lines += ["```json", json.dumps(asked, ensure_ascii=False), "```", ""]
    return "\n".join(lines)


def _scores(records: ModelRecords) -> str:
    if not records.evaluations:
        return "## Scores\n\nNo evaluation in the home has asked this model.\n"
    lines = ["## Scores", ""]
    for evaluation in records.evaluations:
        document = evaluation.manifest.document
        sampling = ", ".join(
            f"{name} {value}"
            for name, value in evaluation.sampling.items()
            if name in ("temperature", "top_p", "max_new_tokens")
        )
        lines += [
            f"Evaluation `{evaluation.manifest.fingerprint}` ({document['made_at']}), shares of right answers with "
            f"{evaluation.confidence:.0%} intervals; sampled with {sampling}:",
            "",
            *table(_score_rows(evaluation)),
            "",
        ]
    return "\n".join(lines)


def _score_rows(evaluation: Evaluation) -> Iterator[dict[str, Any]]:
    groups = dict.fromkeys(score.group for score in evaluation.scores)
    scores = {(score.group, score.metric): score for score in evaluation.scores}
    for group in groups:
        row: dict[str, Any] = {
            "problems": group,
            "number": f"{next(s.num_problems for s in evaluation.scores if s.group == group):,}",
        }
        for metric in dict.fromkeys(score.metric for score in evaluation.scores):
            found = scores.get((group, metric))
            row[metric] = f"{found.value:.3f} [{found.low:.3f}, {found.high:.3f}]" if found else ""
        yield row


def _made(records: ModelRecords) -> str:
    """Stages with fingerprints and seals, then the machine and the code."""
    rows = [
        {
            "stage": f"{one.stage} {one.arm or ''}".rstrip(),
            "fingerprint": one.fingerprint,
            "content": one.content,
            "seal": one.document["seal"],
        }
        for one in records.made_from
    ]
    machines = dict.fromkeys(machine_line(one.document) for one in records.made_from)
    code = dict.fromkeys(_code(one.document["code"]) for one in records.made_from)
    packages = records.manifest.document.get("packages", {})
    text = [
        "## How it was made",
        "",
        f"Recipe `{records.manifest.document['recipe']}`. Each stage's result is sealed under a fingerprint of what it was made from.",
        "",
        *table(rows),
        "",
        f"Made on {'; '.join(machines)}. Code: {', '.join(code)}.",
        f"Packages: {', '.join(f'{name} {version}' for name, version in packages.items())}." if packages else "",
        "On another kind of machine the same recipe gives other bytes, and scores within about the difference between seeds.",
    ]
    return "\n".join([*text, ""])


def _code(code: Mapping[str, Any]) -> str:
    return f"commit {code['commit'] or 'unknown'}" + (" with changes" if code["dirty"] else "")


def _data(records: ModelRecords) -> str:
    if not records.sources:
        return ""
    rows = table(
        {name: f"{value:,}" if isinstance(value, int) else value or "not recorded" for name, value in row.items()}
        for row in records.sources
    )
    return "\n".join(
        [
            "## Data",
            "",
            "Rows that curation read and kept, the held-out ones of the evaluation among them:",
            "",
            *rows,
            "",
        ]
    )


def _numbers(records: ModelRecords) -> str:
    """Hyperparameters that matter, and all of them folded away."""
    stages = [one for one in records.made_from if one.stage in _TRAINED]
    rows = [
        {"stage": one.stage, "key": key, "value": json.dumps(value)}
        for one in stages
        for key, value in _matter(one.document["payload"]["config"])
    ]
    lines = ["## Hyperparameters", "", *table(rows), "", "<details><summary>Every value</summary>", ""]
    for one in records.made_from:
        config = json.dumps(one.document["payload"]["config"], indent=1, ensure_ascii=False)
        lines += [f"{one.stage} {one.arm or ''}".rstrip(), "", "```json", config.replace("```", "'''"), "```", ""]
    return "\n".join([*lines, "</details>", ""])


def _matter(config: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key in _MATTER:
        value: Any = config
        for name in key.split("."):
            value = value.get(name) if isinstance(value, Mapping) else None
        if value is not None:
            yield key, value


def _limits(records: ModelRecords | None) -> str:
    lines = ["## Limits", ""]
    if records is not None:
        notes = dict.fromkeys(note for one in records.made_from for note in one.document["notes"])
        lines += [f"- {plain(note)}" for note in notes]
        kinds = {
            source.get("kind")
            for one in records.made_from
            if one.stage == "curation"
            for source in one.document["payload"]["config"]["sources"]
        }
        if kinds == {"procedural"}:
            lines.append(
                "- Trained on generated problems alone: it knows their words and no others, and speaks no language."
            )
    lines.append(
        "- Nothing was done to make it safe, and nothing was measured but the scores above: what it says is to be checked."
    )
    return "\n".join([*lines, ""])


def _licence(records: ModelRecords | None) -> str:
    if licence_of(records) == "apache-2.0":
        licences = ", ".join(sorted({row["licence"] for row in records.sources})) if records else ""
        return f"## Licence\n\nApache-2.0, as the code that made it; all of its data are under {licences}.\n"
    if records is None:
        why = "nothing is recorded of the data behind it"
    elif released_start(records):
        why = "it was trained from a released model, whose licence holds"
    else:
        found = ", ".join(sorted({row["licence"] for row in records.sources})) or "unknown licences"
        why = f"its data are under {found}"
    return f"## Licence\n\nNot decided here: {why}. Whoever publishes it must state one that agrees, in place of `other` at the top.\n"
