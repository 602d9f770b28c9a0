"""Check a published chain: `python3 check.py` in its folder, wherever the folder lies. Needs the standard library of Python 3.11 alone.

Nothing is written, run from the folder, or fetched. Exit code 0, or 1 with a line for each thing that does not hold: a file that is
missing, added, changed or a link; a seal, fingerprint, input or statement that is not what it should be; a score, interval or
comparison that does not follow from the verdicts; a metric of the records that is another one; a report or README that says another
number; a root digest that is not the folder's. Without `--root` damage is found and a forgery of everything at once is not: get the root
digest from elsewhere than this folder. `--number mixed/all/greedy` shows the rows behind one number.

Verdicts are taken as they are stored (`ring rescore` makes them again). Where pyarrow is there the verdicts, which stand as JSON lines, are
compared with the sealed tables as well. A copy of this file checks another folder: `python3 check.py FOLDER`.
"""

import argparse
import functools
import hashlib
import html
import importlib.util
import json
import math
import os
import re
import stat
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import NormalDist, fmean
from typing import Any

Json = Any  # what `json.loads` returns
RESULTS = "data/results"  # <stage>/<fingerprint>/ as in the home folder
EARLIER = "data/earlier"  # manifests that results had before they were made again with the same bytes
STATEMENTS = "data/statements"
HELD_OUT = ("heldout.parquet", "benchmarks.parquet")  # of curation
PROBLEMS, SAMPLES, FACTS = (f"data/verdicts/{name}" for name in ("problems.jsonl", "samples.jsonl", "facts.json"))
RECORDS = "data/records"
RUNS, METRICS = f"{RECORDS}/runs.jsonl", f"{RECORDS}/metrics.jsonl"
TRIES = f"{RECORDS}/tries.json"  # what the ledger of runs said when the chain began
RECIPE, ENVIRONMENT = "data/recipe.json", "data/environment.json"
SOURCE, SOURCE_NOTE = "data/source", "data/source.json"
REPORT, README, CHAIN = "data/report.html", "README.md", "data/chain.json"
BAG, BAG_INFO, BAG_FILES, BAG_TAGS = "bagit.txt", "bag-info.txt", "manifest-sha256.txt", "tagmanifest-sha256.txt"
SIGNATURE = "model.sig"  # over everything else; made last
BAG_TEXT = "BagIt-Version: 1.0\nTag-File-Character-Encoding: UTF-8\n"
UNROOTED = frozenset(
    {BAG, BAG_INFO, BAG_FILES, BAG_TAGS, SIGNATURE}
)  # follow from the rest, and are checked against it
PRINTS_ROOT = (README, REPORT)
NO_ROOT = "0" * 64  # how the root digest's own digits are read where they are printed
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "urn:ring-in-the-open:stage:v1"
VERDICTS_TYPE = "urn:ring-in-the-open:verdicts:v1"
FAILED = frozenset({"judge_error", "bad_gold", "no_tests"})  # the judge does not know: neither right nor wrong
GREEDY = -1  # number of the greedy sample
POWER = 0.8  # chance to show a difference of the size that is named
NEARLY_NOTHING = 1e-9
DIGITS = 1e-12  # to which a number made again must be the published one, relative or absolute
ROOT_DIGITS = 1e-9  # to which a solved equation must be
_TRIES_PLACE = re.compile(r'<section id="tries">.*?</section>', re.DOTALL)  # of the report
_DIGEST = re.compile(r"[0-9a-f]{64}")
_LINE = re.compile(r"([0-9a-f]{64})  (.+)")
_PLACE = re.compile(rf"{RESULTS}/([a-z-]+)/([0-9a-f]{{32}})/(.+)")
_SPACE_AROUND_SIGNS = re.compile(r" (?=[^\w ])|(?<=[^\w ]) ")


# ---------------------------------------------------------------- digests


def canonical(value: Json) -> bytes:
    """JSON with sorted keys and without white space."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def sha256(content: bytes) -> str:
    """Hex digits."""
    return hashlib.sha256(content).hexdigest()


def file_sha256(path: Path) -> str:
    """Of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def seal_of(manifest: Json) -> str:
    """Over a manifest but its seal."""
    return sha256(canonical({key: value for key, value in manifest.items() if key != "seal"}))


def content_of(files: Mapping[str, Json]) -> str:
    """Over the names and digests of a result's files."""
    return sha256(canonical({name: entry["sha256"] for name, entry in files.items()}))


def key_of(manifest: Json) -> str:
    """`sft`, or `rl/<arm>`."""
    payload = manifest["payload"]
    return f"{payload['stage']}/{payload['arm']}" if payload["arm"] else payload["stage"]


def is_left_out(name: str) -> bool:
    """Whether a result's file is one that a slim bundle has the digest of alone: weights and rollouts."""
    return name.endswith(".safetensors") or name.startswith("rollouts/")


# ---------------------------------------------------------------- what follows from the manifests


def statement_of(manifest: Json, seals: Mapping[str, str]) -> Json:
    """The in-toto Statement of a result: its files, and as dependencies its inputs and its code. `seals`: fingerprint -> seal."""
    payload = manifest["payload"]
    place = f"{RESULTS}/{payload['stage']}/{manifest['fingerprint']}"
    inputs = [_dependency(name, entry, seals) for name, entry in sorted(manifest["inputs"].items())]
    code = {"name": "code", "digest": {"sha256": payload["code"]}, "annotations": {"of": "syntax trees of its modules"}}
    return {
        "_type": STATEMENT_TYPE,
        "subject": [
            {"name": f"{place}/{name}", "digest": {"sha256": entry["sha256"]}}
            for name, entry in sorted(manifest["files"].items())
        ],
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "stage": payload["stage"],
            "arm": payload["arm"],
            "fingerprint": manifest["fingerprint"],
            "seal": manifest["seal"],
            "parameters": payload["config"],
            "resolvedDependencies": [*inputs, code],
            "madeAt": manifest["made_at"],
        },
    }


def _dependency(name: str, entry: Json, seals: Mapping[str, str]) -> Json:
    """An input by the digest over its files; of a result its seal besides."""
    known = {"uri": f"{RESULTS}/{entry['stage']}/{entry['fingerprint']}"} if "stage" in entry else {}
    notes = {"annotations": {"seal": seals[entry["fingerprint"]]}} if "stage" in entry else {}
    return {"name": name, **known, "digest": {"sha256": entry["content"]}, **notes}


def verdicts_statement(by_key: Mapping[str, Json], digests: Mapping[str, str]) -> Json:
    """That the JSON lines of verdicts were written from sealed tables. `digests`: path in the bundle -> sha256."""
    held_out = [("curation", name) for name in HELD_OUT if name in by_key["curation"]["files"]]
    sources = [("evaluation", "samples.parquet"), *held_out, ("curation", "rl.parquet")]
    return {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": name, "digest": {"sha256": digests[name]}} for name in (FACTS, PROBLEMS, SAMPLES)],
        "predicateType": VERDICTS_TYPE,
        "predicate": {
            "resolvedDependencies": [
                {
                    "name": f"{RESULTS}/{key}/{by_key[key]['fingerprint']}/{name}",
                    "digest": {"sha256": by_key[key]["files"][name]["sha256"]},
                }
                for key, name in sources
            ]
        },
    }


def chain_of(chain: str, by_key: Mapping[str, Json]) -> Json:
    """The results of a chain, with their seals."""
    names = ("fingerprint", "content", "seal")
    results = {key: {name: manifest[name] for name in names} for key, manifest in sorted(by_key.items())}
    return {"chain": chain, "recipe": by_key["evaluation"]["recipe"], "results": results}


def bag_info(chain: Json, *, root: str, is_slim: bool, sizes: Sequence[int]) -> str:
    """bag-info.txt. `sizes` in bytes, of the files below data/."""
    lines = {
        "Bag-Software-Agent": "ring bundle",
        "Bag-Group-Identifier": chain["recipe"],
        "External-Identifier": chain["chain"],
        "Root-Digest-SHA256": root,
        "Left-Out": "weights and rollouts" if is_slim else "nothing",
        "Payload-Oxum": f"{sum(sizes)}.{len(sizes)}",
    }
    return "".join(f"{name}: {value}\n" for name, value in lines.items())


def banner(root: str) -> str:
    """What the bundle's report says beside the sealed page."""
    return (
        f'\n<p class="quiet">Root digest of the bundle that holds this page: <code>{root}</code>. '
        "<code>python3 check.py</code> makes every score and interval again from the stored verdicts.</p>"
    )


def published_page(sealed: str, *, root: str, tries: Json | None) -> str:
    """The bundle's report: the sealed page with the root digest, and what the ledger of runs said where the page has a place for it."""
    page = _TRIES_PLACE.sub(lambda _: tries_html(tries), sealed, count=1) if tries else sealed
    return page.replace("</h1>", f"</h1>{banner(root)}", 1)


def tries_html(tries: Json) -> str:
    """How often the chain was tried, a row a run."""
    said = f"<p>Runs up to the one that published this page: {html.escape(tries['said'])}.</p>"
    if not tries["runs"]:
        return f'<section id="tries">{said}</section>'
    head = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in tries["runs"][0])
    rows = "".join(
        f"<tr>{''.join(f'<td>{html.escape(_cell(value))}</td>' for value in row.values())}</tr>"
        for row in tries["runs"]
    )
    earlier = f"<p>{tries['num_earlier']:,} earlier runs are left out here.</p>" if tries["num_earlier"] else ""
    return (
        f'<section id="tries">{said}<div class="scroll" role="region" aria-label="Runs" tabindex="0"><table><thead><tr>{head}</tr>'
        f"</thead><tbody>{rows}</tbody></table></div>{earlier}<p>Line {tries['line']:,} of the ledger, sha256 "
        f"<code>{tries['head']}</code>: each line holds the sha256 of the one before it.</p></section>"
    )


def _cell(value: Json) -> str:
    return "" if value is None else str(value)


def tries_line(tries: Json) -> str:
    """What README says of them."""
    return f"Runs up to the one that made this chain: {tries['said']}. `{TRIES}` lists them.\n"


def root_of(seals: Mapping[str, str], digests: Mapping[str, str]) -> str:
    """One digest over the seals of results, by folder, and all other files, by path: a sorted line for each, as of sha256sum."""
    others = {path: digest for path, digest in digests.items() if path not in UNROOTED and not _PLACE.fullmatch(path)}
    return sha256("".join(sorted(f"{digest}  {name}\n" for name, digest in {**seals, **others}.items())).encode())


# ---------------------------------------------------------------- tables of numbers


def score_tables(results: Mapping[str, Json], comparisons: Sequence[Json]) -> str:
    """Markdown of every result, and of every comparison over all problems, to four places."""
    lines = ["| model | group | metric | value | interval | problems |", "| --- | --- | --- | ---: | --- | ---: |"]
    for name, entry in results.items():
        cells = [*_named(name), _places(entry["value"]), _ends(entry), str(entry["n"])]
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", "| difference | metric | value | interval | p | smallest that would show | problems |"]
    lines.append("| --- | --- | ---: | --- | ---: | ---: | ---: |")
    for row in comparisons:
        if row["group"] == "all":
            smallest = "" if row["smallest_difference"] is None else _places(row["smallest_difference"])
            cells = [f"{row['model']} - {row['against']}", row["metric"], _places(row["difference"]), _ends(row)]
            lines.append(f"| {' | '.join([*cells, _places(row['p']), smallest, str(row['n'])])} |")
    return "\n".join(lines) + "\n"


def _named(name: str) -> tuple[str, str, str]:
    """Model, group and metric; a benchmark, which is a group, may have a / in its name."""
    model, _, rest = name.partition("/")
    group, _, metric = rest.rpartition("/")
    return model, group, metric


def _places(value: float) -> str:
    return f"{value:.4f}"


def _ends(entry: Json) -> str:
    return f"[{_places(entry['low'])}, {_places(entry['high'])}]"


# ---------------------------------------------------------------- distributions


def normal_cdf(x: float) -> float:
    """Phi."""
    return math.erfc(-x / math.sqrt(2)) / 2


def normal_quantile(p: float) -> float:
    """The inverse of Phi."""
    return NormalDist().inv_cdf(p)


def student_within(t: float, degrees: int) -> float:
    """P(|T| < t), a finite sum for a whole number of degrees (Abramowitz and Stegun 1964, 26.7.3 and 26.7.4)."""
    angle = math.atan(t / math.sqrt(degrees))
    sine, cosine = math.sin(angle), math.cos(angle)
    first = 1 if degrees % 2 else 0
    term, total = (cosine, 0.0) if first else (1.0, 0.0)
    for k in range(first, degrees - 1, 2):
        total += term
        term *= cosine * cosine * (k + 1) / (k + 2)
    return 2 / math.pi * (angle + sine * total) if first else sine * total


@functools.cache
def student_quantile(p: float, degrees: int) -> float:
    """Where P(T < t) = p, for p >= 1/2, by halving."""
    low, high = 0.0, 1.0
    while student_within(high, degrees) < 2 * p - 1:
        low, high = high, 2 * high
    while low < (middle := (low + high) / 2) < high:
        low, high = (middle, high) if student_within(middle, degrees) < 2 * p - 1 else (low, middle)
    return high


# ---------------------------------------------------------------- intervals


@dataclass(frozen=True)
class Values:
    """A number a problem, of those that were judged, and which problems are drawn together."""

    values: list[float]
    clusters: list[int]  # number of each problem's cluster
    sizes: list[int]  # problems of each cluster

    @property
    def mean(self) -> float:
        """Over problems."""
        return math.fsum(self.values) / len(self.values)

    @property
    def stands_alone(self) -> bool:
        """Whether every cluster is one problem."""
        return len(self.sizes) == len(self.values)

    def totals(self, about: float) -> list[float]:
        """Of each cluster the sum over its problems of what they are above `about`."""
        found = [0.0] * len(self.sizes)
        for cluster, value in zip(self.clusters, self.values, strict=True):
            found[cluster] += value - about
        return found


def judged_values(values: Sequence[float], clusters: Sequence[str]) -> Values | None:
    """None where no problem was judged."""
    kept = [(value, name) for value, name in zip(values, clusters, strict=True) if not math.isnan(value)]
    number = {name: place for place, name in enumerate(dict.fromkeys(name for _, name in kept))}
    members = [number[name] for _, name in kept]
    return Values([value for value, _ in kept], members, [*Counter(members).values()]) if kept else None


def mean_row(found: Values, confidence: float) -> Json:
    """Mean with Wilson's score interval (1927) for the effective number of problems (Korn and Graubard 1998), Student's quantile."""
    mean, size = found.mean, effective_size(found)
    is_plain = found.stands_alone and set(found.values) <= {0.0, 1.0}
    p = 0.5 + confidence / 2
    z = normal_quantile(p) if is_plain else student_quantile(p, max(1, len(found.sizes) - 1))
    half = z * math.sqrt(mean * (1 - mean) / size + (z / (2 * size)) ** 2)
    centre, scale = mean + z * z / (2 * size), 1 + z * z / size
    low, high = min(max(0.0, (centre - half) / scale), mean), max(min(1.0, (centre + half) / scale), mean)
    return {"value": mean, "low": low, "high": high, "n": len(found.values)}


def effective_size(found: Values) -> float:
    """Right-or-wrong problems, each alone, whose mean would vary as much; the largest cluster is added once more, as in the pipeline."""
    num, largest, mean = len(found.values), max(found.sizes), found.mean
    bound = mean * (1 - mean)
    if not bound:
        return num / largest
    squares = math.fsum(total**2 for total in found.totals(mean))
    mixed = (math.fsum(found.values) + largest / 2) / (num + largest)
    ratio = (squares + largest**2 * mixed * (1 - mixed)) / ((num + largest) * bound)
    return num / min(ratio, largest)


def difference_row(found: Values, confidence: float) -> Json:
    """Paired difference with Bonett and Price's interval (2012, eq. 4); p and smallest difference by McNemar, or by the normal."""
    centre, error = shrunk(found)
    z = normal_quantile(0.5 + confidence / 2)
    better, worse = sum(value > 0 for value in found.values), sum(value < 0 for value in found.values)
    num = len(found.values)
    if found.stands_alone and set(found.values) <= {-1.0, 0.0, 1.0}:
        p, smallest = mcnemar(better, worse), smallest_by_mcnemar(num, better + worse, confidence)
    else:
        p, smallest = 2 * normal_cdf(-abs(centre) / error), (z + normal_quantile(POWER)) * error
    low, high = max(-1.0, centre - z * error), min(1.0, centre + z * error)
    return {
        "difference": found.mean,
        "low": low,
        "high": high,
        "n": num,
        "excludes_zero": low > 0 or high < 0,
        "p": p,
        "smallest_difference": smallest,
        "unequal": better + worse,
    }


def shrunk(found: Values) -> tuple[float, float]:
    """Centre and standard error with a cluster more on each side, of mean size and with the largest total."""
    totals = found.totals(0.0)
    size = len(found.values) / len(totals)
    largest = max(map(abs, totals)) or size
    num = len(found.values) + 2 * size
    centre = math.fsum(totals) / num
    residuals = [total - centre * members for total, members in zip(totals, found.sizes, strict=True)]
    residuals += [largest - centre * size, largest + centre * size]
    return centre, math.sqrt(math.fsum(value**2 for value in residuals)) / num


def mcnemar(better: int, worse: int) -> float:
    """Two-sided exact p: 2 P(Bin(better + worse, 1/2) <= the smaller one), at most 1."""
    num = better + worse
    below = sum(math.comb(num, k) for k in range(min(better, worse) + 1))
    return min(1.0, 2 * below / 2**num)


@functools.cache
def smallest_by_mcnemar(num: int, unequal: int, confidence: float) -> float | None:
    """The true difference that `mcnemar` would show with the chance POWER (Duffy 1984), by halving; None if there is none."""
    needed = _needed(num, (1 - confidence) / 2)

    def power(difference: float) -> float:
        chance = max(unequal / num, difference)
        return _shown(num, chance=chance, better=(1 + difference / chance) / 2, needed=needed)

    low, high = NEARLY_NOTHING, 1.0
    if power(high) < POWER:
        return None
    while low < (middle := (low + high) / 2) < high and high - low > ROOT_DIGITS / 1000:
        low, high = (middle, high) if power(middle) < POWER else (low, middle)
    return high


@functools.cache
def _needed(num: int, alpha: float) -> tuple[int, ...]:
    """Of each number of coin flips up to `num` the least k with P(at least k heads) <= alpha, by whole numbers."""
    found, k, tail = [], 1, 0  # tail: of 2^m throws those with at least k heads; k grows by at most one a flip
    for m in range(num + 1):
        if m:
            tail = 2 * tail + math.comb(m - 1, k - 1)
        if tail > alpha * 2**m:
            tail -= math.comb(m, k)
            k += 1
        found.append(k)
    return tuple(found)


def _shown(num: int, *, chance: float, better: float, needed: Sequence[int]) -> float:
    """Sum over m of Bin(m; num, chance) P(Bin(m, better) >= needed[m])."""
    total, tail = 0.0, 0.0
    for m in range(num + 1):
        if m:
            tail += better * _binomial(m - 1, needed[m - 1] - 1, better)
            tail -= _binomial(m, needed[m - 1], better) if needed[m] > needed[m - 1] else 0.0
        total += _binomial(num, m, chance) * tail
    return total


def _binomial(num: int, k: int, p: float) -> float:
    """P(Bin(num, p) = k)."""
    if not 0 <= k <= num:
        return 0.0
    if p >= 1.0:
        return float(k == num)
    choose = math.lgamma(num + 1) - math.lgamma(k + 1) - math.lgamma(num - k + 1)
    return math.exp(choose + k * math.log(p) + (num - k) * math.log1p(-p))


# ---------------------------------------------------------------- from verdicts to scores


@dataclass(frozen=True)
class Evaluation:
    """The stored verdicts, and what they are counted by."""

    problems: dict[
        str, Json
    ]  # id -> domain, split, source, level, cluster, samples: answers to it beside the greedy one
    samples: list[Json]
    levels: list[int | None]  # of the problems that RL drew from
    confidence: float
    rl_arms: tuple[str, ...]  # those that keep rollouts; the other arms are controls

    @functools.cached_property
    def groups(self) -> dict[str, list[str]]:
        """Group -> problem ids: all, domains, levels; `harder` above every level of RL's pool; benchmarks apart."""
        highest = max((level for level in self.levels if level is not None), default=None)
        found: dict[str, list[str]] = {}
        for name, problem in self.problems.items():
            for group in _groups_of(problem, highest):
                found.setdefault(group, []).append(name)
        return found

    @functools.cached_property
    def models(self) -> list[str]:
        """In the order of the rows."""
        return list(dict.fromkeys(row["model"] for row in self.samples))

    @functools.cached_property
    def scores(self) -> dict[str, dict[str, dict[str, float]]]:
        """Model -> metric -> problem id -> value, NaN where too few samples were judged."""
        found: dict[str, dict[str, dict[str, float]]] = {}
        for model in self.models:
            for num_samples in sorted({problem["samples"] for problem in self.problems.values()}):
                for metric, by_problem in _model_scores(self._rows(model, num_samples), num_samples).items():
                    found.setdefault(model, {}).setdefault(metric, {}).update(by_problem)
        return found

    def _rows(self, model: str, num_samples: int) -> list[Json]:
        """The rows of a model on the problems that were asked so many times."""
        asked = {name for name, problem in self.problems.items() if problem["samples"] == num_samples}
        return [row for row in self.samples if row["model"] == model and row["problem_id"] in asked]

    def over(self, group: str, by_problem: Mapping[str, float]) -> Values | None:
        """A number a problem of a group; None where the metric is not one of that group."""
        ids = self.groups[group]
        if any(name not in by_problem for name in ids):
            return None
        return judged_values([by_problem[name] for name in ids], [self.problems[name]["cluster"] for name in ids])

    def results(self) -> dict[str, Json]:
        """`<model>/<group>/<metric>` -> value, low, high, n."""
        found = {
            f"{model}/{group}/{metric}": self.over(group, by_problem)
            for model, metrics in self.scores.items()
            for group in self.groups
            for metric, by_problem in metrics.items()
        }
        return {name: mean_row(values, self.confidence) for name, values in found.items() if values}

    def pairs(self) -> list[tuple[str, str]]:
        """Every arm against SFT, every RL arm against every control, RL arms against each other."""
        arms = [model for model in self.models if model != "sft"]
        learners, controls = list(self.rl_arms), [arm for arm in arms if arm not in self.rl_arms]
        against = [(arm, "sft") for arm in arms] + [(arm, control) for arm in learners for control in controls]
        return against + [(one, other) for place, one in enumerate(learners) for other in learners[place + 1 :]]

    def comparisons(self) -> dict[str, Json]:
        """`<model> - <against>/<group>/<metric>` -> the paired difference."""
        found = {
            f"{model} - {against}/{group}/{metric}": self.over(group, self.differences(model, against, metric))
            for model, against in self.pairs()
            for group in self.groups
            for metric in self.scores[model]
        }
        return {name: difference_row(values, self.confidence) for name, values in found.items() if values}

    def differences(self, model: str, against: str, metric: str) -> dict[str, float]:
        """By problem."""
        ours, theirs = self.scores[model][metric], self.scores[against][metric]
        return {name: ours[name] - theirs[name] for name in ours}


def _groups_of(problem: Json, highest: int | None) -> list[str]:
    level = problem["level"]
    if problem["split"] == "eval":
        return [problem["source"]]
    if level is not None and highest is not None and level > highest:
        return ["harder"]
    levels = [] if level is None else [f"level {level}", f"{problem['domain']} level {level}"]
    return ["all", problem["domain"], *levels]


def _model_scores(rows: Sequence[Json], num_samples: int) -> dict[str, dict[str, float]]:
    greedy = _by_problem(row for row in rows if row["sample"] == GREEDY)
    sampled = _by_problem(row for row in rows if row["sample"] != GREEDY)
    sizes = sorted({*(k for k in (4, 16) if k < num_samples), num_samples} - {1})
    found = {"greedy": _each(greedy, _mean), "pass@1": _each(sampled, _mean)}
    found |= {f"pass@{k}": _each(sampled, functools.partial(_pass_at, k=k)) for k in sizes}
    if num_samples >= 3:
        found[f"maj@{num_samples}"] = _each(sampled, functools.partial(_majority, k=num_samples))
    return found


def _by_problem(rows: Iterable[Json]) -> dict[str, list[Json]]:
    """The judged rows of each problem that was asked, in their order."""
    found: dict[str, list[Json]] = {}
    for row in rows:
        judged = found.setdefault(row["problem_id"], [])
        judged += [row] if row["status"] not in FAILED else []
    return found


def _each(by_problem: Mapping[str, list[Json]], value: Callable[[list[Json]], float]) -> dict[str, float]:
    return {name: value(rows) for name, rows in by_problem.items()}


def _mean(rows: Sequence[Json]) -> float:
    return fmean(row["score"] for row in rows) if rows else math.nan


def _pass_at(rows: Sequence[Json], *, k: int) -> float:
    """Chance that one of k samples is right (Chen et al. 2021, eq. 1)."""
    num, right = len(rows), sum(row["score"] == 1 for row in rows)
    return 1.0 - math.comb(num - right, k) / math.comb(num, k) if num >= k else math.nan


def _majority(rows: Sequence[Json], *, k: int) -> float:
    """Score of the answer that most of the first k samples gave (Wang et al. 2023), the mean over several such."""
    if len(rows) < k:
        return math.nan
    votes: dict[str, list[float]] = {}
    for row in rows[:k]:
        answer = "" if row["status"] == "no_answer" else squeezed(row["extracted"])
        if answer:
            votes.setdefault(answer, []).append(row["score"])
    most = max(map(len, votes.values()), default=0)
    first = [fmean(scores) for scores in votes.values() if len(scores) == most]
    return fmean(first) if first else 0.0


def squeezed(text: str) -> str:
    """Without the white space that changes nothing."""
    return _SPACE_AROUND_SIGNS.sub("", " ".join(text.split()))


# ---------------------------------------------------------------- the folder


@dataclass
class Bundle:
    """What a folder holds, each file read once."""

    folder: Path
    digests: dict[str, str] = field(default_factory=dict)  # path -> sha256
    sizes: dict[str, int] = field(default_factory=dict)
    odd: list[str] = field(default_factory=list)  # links, empty folders and other things that are no file

    def __post_init__(self) -> None:
        """Walk, without following links."""
        for place, folders, names in os.walk(self.folder):
            for name in [*folders, *names]:
                self._enter(Path(place) / name)
            if not folders and not names:
                self.odd.append(f"{Path(place).relative_to(self.folder).as_posix()}: an empty folder")

    def _enter(self, path: Path) -> None:
        name, found = path.relative_to(self.folder).as_posix(), path.lstat()
        if stat.S_ISREG(found.st_mode):
            self.digests[name], self.sizes[name] = file_sha256(path), found.st_size
        elif stat.S_ISLNK(found.st_mode):
            self.odd.append(f"{name}: a link, not a file")
        elif not stat.S_ISDIR(found.st_mode):
            self.odd.append(f"{name}: neither a file nor a folder")

    def text(self, name: str) -> str:
        """Of a file of the bundle."""
        return (self.folder / name).read_bytes().decode("utf-8")

    def json(self, name: str) -> Json:
        """Of a file of the bundle."""
        return json.loads(self.text(name))

    def rows(self, name: str) -> list[Json]:
        """Of a file of JSON lines."""
        return [json.loads(line) for line in self.text(name).split("\n") if line]

    @functools.cached_property
    def places(self) -> dict[str, str]:
        """Folder of each result -> its key."""
        return {place: key_of(manifest) for place, manifest in self.manifests.items()}

    @functools.cached_property
    def earlier(self) -> dict[str, Json]:
        """Seal -> manifest that a result had before it was made again with the same bytes, as far as another result names it."""
        names = [name for name in self.digests if name.startswith(f"{EARLIER}/")]
        return {manifest["seal"]: manifest for manifest in map(self.json, names)}

    @functools.cached_property
    def manifests(self) -> dict[str, Json]:
        """Folder of each result -> its manifest."""
        found = (_PLACE.fullmatch(name) for name in sorted(self.digests))
        places = [f"{RESULTS}/{one[1]}/{one[2]}" for one in found if one and one[3] == "manifest.json"]
        return {place: self.json(f"{place}/manifest.json") for place in places}

    @functools.cached_property
    def by_key(self) -> dict[str, Json]:
        """`sft`, `rl/<arm>`, ... -> manifest."""
        return {self.places[place]: manifest for place, manifest in self.manifests.items()}

    def result_file(self, key: str, name: str) -> str:
        """Path of a file of a result."""
        return f"{RESULTS}/{self.by_key[key]['payload']['stage']}/{self.by_key[key]['fingerprint']}/{name}"

    @functools.cached_property
    def tries(self) -> Json | None:
        """Runs up to the chain's own; None in an older bundle."""
        return self.json(TRIES) if TRIES in self.digests else None

    @functools.cached_property
    def root(self) -> str:
        """As bag-info.txt states it."""
        lines = dict(line.split(": ", 1) for line in self.text(BAG_INFO).splitlines())
        return lines["Root-Digest-SHA256"] if _DIGEST.fullmatch(lines["Root-Digest-SHA256"]) else NO_ROOT

    @functools.cached_property
    def is_slim(self) -> bool:
        """As bag-info.txt states it."""
        return "\nLeft-Out: weights and rollouts\n" in self.text(BAG_INFO)

    @functools.cached_property
    def evaluation(self) -> Evaluation:
        """The verdicts, with what the sealed configuration says of them."""
        config = self.by_key["evaluation"]["payload"]["config"]
        arms = [key for key in self.by_key["evaluation"]["inputs"] if key.startswith("rl/")]
        learners = [key for key in arms if any(name.startswith("rollouts/") for name in self.by_key[key]["files"])]
        return Evaluation(
            problems={row["id"]: row for row in self.rows(PROBLEMS)},
            samples=self.rows(SAMPLES),
            levels=self.json(FACTS)["trained_levels"],
            confidence=config["confidence"],
            rl_arms=tuple(key.removeprefix("rl/") for key in learners),
        )


# ---------------------------------------------------------------- checks: each yields what does not hold


def _check_files(bundle: Bundle) -> Iterator[str]:
    """Every file against the two lists of the bag, and the lists against the files."""
    yield from bundle.odd
    if bundle.text(BAG) != BAG_TEXT:
        yield f"{BAG}: not that of a bag of version 1.0"
    payload = {name for name in bundle.digests if name.startswith("data/")}
    tags = bundle.digests.keys() - payload - {BAG_TAGS, SIGNATURE}
    for listing, files in ((BAG_FILES, payload), (BAG_TAGS, tags)):
        listed = {}
        for line in bundle.text(listing).splitlines():
            found = _LINE.fullmatch(line)
            if not found or found[2] in listed:
                yield f"{listing}: a line that cannot be read, or a file named twice: {line[:100]!r}"
            else:
                listed[found[2]] = found[1]
        yield from (f"{name}: missing, {listing} names it" for name in sorted(listed.keys() - files))
        yield from (f"{name}: added, {listing} does not name it" for name in sorted(files - listed.keys()))
        for name in sorted(files & listed.keys()):
            if bundle.digests[name] != listed[name]:
                yield f"{name}: changed, sha256 is {bundle.digests[name][:12]} and {listing} says {listed[name][:12]}"


def _check_results(bundle: Bundle) -> Iterator[str]:
    """Each result against its own manifest: files, content, fingerprint, seal, folder."""
    beside = [name for name in bundle.digests if name.startswith(f"{RESULTS}/") and not _PLACE.fullmatch(name)]
    yield from (f"{name}: belongs to no result" for name in beside)
    for place, manifest in bundle.manifests.items():
        key, payload = bundle.places[place], manifest["payload"]
        if seal_of(manifest) != manifest["seal"]:
            yield f"{key}: the seal is not the hash of its manifest"
        if sha256(canonical(payload))[:32] != manifest["fingerprint"]:
            yield f"{key}: the fingerprint is not the hash of what it was made from"
        if place != f"{RESULTS}/{payload['stage']}/{manifest['fingerprint']}":
            yield f"{key}: {manifest['fingerprint'][:12]} of stage {payload['stage']} stands in {place}"
        if content_of(manifest["files"]) != manifest["content"]:
            yield f"{key}: the content is not the hash of the list of files"
        yield from _check_result_files(bundle, place, manifest["files"])


def _check_result_files(bundle: Bundle, place: str, listed: Mapping[str, Json]) -> Iterator[str]:
    there = {name.removeprefix(f"{place}/") for name in bundle.digests if name.startswith(f"{place}/")} - {
        "manifest.json"
    }
    yield from (f"{place}/{name}: not in the result's manifest" for name in sorted(there - listed.keys()))
    for name, entry in sorted(listed.items()):
        if name not in there:
            if not (bundle.is_slim and is_left_out(name)):
                yield f"{place}/{name}: missing, the result's manifest names it"
        elif bundle.is_slim and is_left_out(name):
            yield f"{place}/{name}: there, though {BAG_INFO} says that it is left out"
        elif (bundle.digests[f"{place}/{name}"], bundle.sizes[f"{place}/{name}"]) != (entry["sha256"], entry["bytes"]):
            yield f"{place}/{name}: not the file that the result was sealed with"


def _check_chain(bundle: Bundle) -> Iterator[str]:
    """Inputs: each is there, with the bytes that were used; every result but the last is used; chain.json lists them."""
    by_print = {manifest["fingerprint"]: manifest for manifest in bundle.manifests.values()}
    if len(bundle.by_key) < len(bundle.manifests):
        yield f"{RESULTS}: two results of one stage and arm"
    used = set()
    for key, manifest in bundle.by_key.items():
        stated = {name: entry.get("fingerprint", entry["content"]) for name, entry in manifest["inputs"].items()}
        if stated != manifest["payload"]["inputs"]:
            yield f"{key}: its inputs are not those that its fingerprint was made from"
        for name, entry in manifest["inputs"].items():
            if "stage" in entry:
                used.add(entry["fingerprint"])
                earlier = bundle.earlier.get(entry.get("seal", ""))
                yield from _check_input(
                    f"{key}, input {name}", name, entry, by_print.get(entry["fingerprint"]), earlier
                )
    named = {entry.get("seal") for manifest in bundle.by_key.values() for entry in manifest["inputs"].values()}
    yield from (f"{EARLIER}: no result names the seal {seal[:12]}" for seal in bundle.earlier if seal not in named)
    ends = [key for key, manifest in bundle.by_key.items() if manifest["fingerprint"] not in used]
    if ends != ["report"]:
        yield f"{RESULTS}: nothing follows from {', '.join(ends)}; of a chain that holds for the report alone"
    if bundle.json(CHAIN) != chain_of(bundle.json(CHAIN)["chain"], bundle.by_key):
        yield f"{CHAIN}: not what the manifests say"


def _check_input(where: str, name: str, entry: Json, parent: Json | None, earlier: Json | None) -> Iterator[str]:
    """`earlier`: a manifest that the parent had before it was made again, as its child names it."""
    if parent is None:
        yield f"{where}: {entry['fingerprint'][:12]} is not in the bundle"
        return
    if key_of(parent) != name or parent["payload"]["stage"] != entry["stage"]:
        yield f"{where}: it is {key_of(parent)}"
    if parent["content"] != entry["content"]:
        yield f"{where}: its bytes are other ones than were used"
    if entry.get("seal", parent["seal"]) == parent["seal"]:
        return
    same = ("fingerprint", "content", "files")
    if earlier is None or seal_of(earlier) != entry["seal"] or any(earlier[one] != parent[one] for one in same):
        yield f"{where}: its manifest is another one than was used"


def _check_statements(bundle: Bundle) -> Iterator[str]:
    """Each in-toto Statement says what the manifest says, and there are no others."""
    seals = {manifest["fingerprint"]: manifest["seal"] for manifest in bundle.manifests.values()}
    expected = {
        f"{STATEMENTS}/{key.replace('/', '-')}.json": statement_of(one, seals) for key, one in bundle.by_key.items()
    }
    expected[f"{STATEMENTS}/verdicts.json"] = verdicts_statement(bundle.by_key, bundle.digests)
    there = {name for name in bundle.digests if name.startswith(f"{STATEMENTS}/")}
    yield from (f"{name}: a statement on nothing of the chain" for name in sorted(there - expected.keys()))
    for name, statement in expected.items():
        if name not in there:
            yield f"{name}: missing"
        elif bundle.json(name) != statement:
            yield f"{name}: not what the manifests and the files say"


def _check_numbers(bundle: Bundle) -> Iterator[str]:
    """Scores, intervals and comparisons again from the verdicts; and wherever they are published, the same ones."""
    published = bundle.json(bundle.result_file("evaluation", "results.json"))
    tables = bundle.json(bundle.result_file("evaluation", "tables.json"))
    compared = {
        f"{row['model']} - {row['against']}/{row['group']}/{row['metric']}": row for row in tables["comparisons"]
    }
    yield from _unequal("results.json", bundle.evaluation.results(), published)
    yield from _unequal("comparisons", bundle.evaluation.comparisons(), compared)
    rows = {f"{row['model']}/{row['group']}/{row['metric']}": row for row in tables["results"]}
    if {name: {end: row[end] for end in ("value", "low", "high", "n")} for name, row in rows.items()} != published:
        yield "tables.json: its results are not those of results.json"
    counts = Counter(row["status"] for row in bundle.evaluation.samples)
    if {row["status"]: row["count"] for row in tables["verdicts"]} != counts:
        yield "tables.json: the counts of verdicts are not those of the samples"
    values = {name: row["value"] for name, row in published.items()}
    values |= {name: row["difference"] for name, row in compared.items()}
    metrics = {
        name: value for name, value in bundle.by_key["evaluation"]["metrics"].items() if not name.startswith("judge/")
    }
    if metrics != values:
        yield "evaluation: the metrics of its manifest are not those of its results"


def _unequal(where: str, again: Mapping[str, Json], published: Mapping[str, Json]) -> Iterator[str]:
    yield from (f"{where}: {name} follows from no verdict" for name in published.keys() - again.keys())
    yield from (f"{where}: {name} is missing" for name in again.keys() - published.keys())
    for name in again.keys() & published.keys():
        for end, value in again[name].items():
            if not same(value, published[name][end], ROOT_DIGITS if end == "smallest_difference" else DIGITS):
                yield f"{where}: {end} of {name} is {published[name][end]!r}; the verdicts give {value!r}"


def same(one: float | None, other: float | None, digits: float = DIGITS) -> bool:
    """Whether two numbers are the same but for rounding of the last digits."""
    if one is None or other is None:
        return one is other
    return math.isclose(one, other, rel_tol=digits, abs_tol=digits)


def _check_records(bundle: Bundle) -> Iterator[str]:
    """The experiment records say of each result, and of the chain, the metrics that are sealed.

    Ends of intervals are in the evaluation's run; the chain's has the scores over all problems. Older records have all in the chain's.
    """
    recorded: dict[str, dict[str, list[float]]] = {}
    for row in bundle.rows(METRICS):
        recorded.setdefault(row["run_id"], {}).setdefault(row["name"], []).append(row["value"])
    runs = {row["run_id"] for row in bundle.rows(RUNS)}
    expected = {manifest["mlflow_run_id"]: (key, manifest["metrics"]) for key, manifest in bundle.by_key.items()}
    published = bundle.json(bundle.result_file("evaluation", "results.json"))
    ends = {f"{name}/{end}": row[end] for name, row in published.items() for end in ("low", "high")}
    first = {name: row["value"] for name, row in published.items() if re.search(r"/all/(greedy|pass@1)$", name)}
    first |= {name: value for name, value in ends.items() if name.rpartition("/")[0] in first}
    chain, evaluation = bundle.json(CHAIN)["chain"], bundle.by_key["evaluation"]
    has_ends = any(name.replace("@", "_at_") in recorded.get(evaluation["mlflow_run_id"], {}) for name in ends)
    if has_ends:
        expected[evaluation["mlflow_run_id"]] = ("evaluation", {**evaluation["metrics"], **ends})
    expected[chain] = ("chain", first if has_ends else {**first, **ends})
    for run, (key, metrics) in expected.items():
        for name, value in metrics.items() if run in runs else ():
            if not _recorded(value, recorded.get(run, {}).get(name.replace("@", "_at_"), [])):
                yield f"{METRICS}: {name} of {key} is not recorded as {value!r}"


def _recorded(value: float, there: Sequence[float]) -> bool:
    """NaN and infinity have no value of their own in the records' database."""
    return value in there or (not math.isfinite(value) and bool(there))


def _check_pages(bundle: Bundle) -> Iterator[str]:
    """The report is the sealed page with the root digest; README has the tables and the digest."""
    sealed, page = bundle.text(bundle.result_file("report", "report.html")), bundle.text(REPORT)
    if page != published_page(sealed, root=bundle.root, tries=bundle.tries):
        yield f"{REPORT}: not the sealed report with the root digest and the runs"
    if bundle.tries is None and _TRIES_PLACE.search(sealed):
        yield f"{TRIES}: missing"
    published = bundle.json(bundle.result_file("evaluation", "results.json"))
    compared = bundle.json(bundle.result_file("evaluation", "tables.json"))["comparisons"]
    readme = bundle.text(README)
    if score_tables(published, compared) not in readme:
        yield f"{README}: its tables are not those of the evaluation"
    if bundle.root not in readme:
        yield f"{README}: does not print the root digest"
    if bundle.tries and tries_line(bundle.tries) not in readme:
        yield f"{README}: does not say how many runs there were"
    if bundle.tries and (line := _tries_fault(bundle.tries)):
        yield f"{TRIES}: {line}"


def _tries_fault(tries: Json) -> str:
    """The number of tries that is told is that of the rows, as far as they are listed."""
    told = re.match(r"(\d+) of exactly this chain(?:, (\d+) of)?", tries["said"])
    if not told or not tries["runs"]:
        return ""
    last = tries["runs"][-1]
    same_chain = sum(row["chain"] == last["chain"] for row in tries["runs"])
    of_recipe = len(tries["runs"]) + tries["num_earlier"]
    if int(told[1]) != last["try"] or not same_chain <= last["try"] <= same_chain + tries["num_earlier"]:
        return f"says {told[1]} of exactly this chain, the rows give {same_chain}"
    return "" if int(told[2] or told[1]) == of_recipe else f"says {told[0]}, the rows give {of_recipe} of the recipe"


def _check_root(bundle: Bundle) -> Iterator[str]:
    """The root digest over seals and files, and what bag-info.txt says."""
    read = {
        name: sha256((bundle.folder / name).read_bytes().replace(bundle.root.encode(), NO_ROOT.encode()))
        for name in PRINTS_ROOT
    }
    seals = {place: manifest["seal"] for place, manifest in bundle.manifests.items()}
    found = root_of(seals, {**bundle.digests, **read})
    if found != bundle.root:
        yield f"root: the folder's is {found}, {BAG_INFO} says {bundle.root}"
    sizes = [size for name, size in bundle.sizes.items() if name.startswith("data/")]
    if bundle.text(BAG_INFO) != bag_info(bundle.json(CHAIN), root=bundle.root, is_slim=bundle.is_slim, sizes=sizes):
        yield f"{BAG_INFO}: not what the folder holds"


def _check_tables(bundle: Bundle) -> Iterator[str]:
    """With pyarrow: the JSON lines of verdicts against the sealed tables."""
    if importlib.util.find_spec("pyarrow") is None:
        return
    import pyarrow.parquet as pq

    columns = list(bundle.evaluation.samples[0])
    path = bundle.folder / bundle.result_file("evaluation", "samples.parquet")
    if pq.read_table(path, columns=columns).select(columns).to_pylist() != bundle.evaluation.samples:
        yield f"{SAMPLES}: not the rows of the evaluation's samples.parquet"
    names = ("id", "domain", "split", "source")
    held = {
        tuple(row[name] for name in names)
        for file in bundle.by_key["curation"]["files"]
        if file in HELD_OUT
        for row in pq.read_table(bundle.folder / bundle.result_file("curation", file)).to_pylist()
    }
    if not held.issuperset(tuple(row[name] for name in names) for row in bundle.rows(PROBLEMS)):
        yield f"{PROBLEMS}: not the rows that curation held out"


CHECKS: Mapping[str, Callable[[Bundle], Iterator[str]]] = {
    "files": _check_files,
    "results": _check_results,
    "chain": _check_chain,
    "statements": _check_statements,
    "numbers": _check_numbers,
    "records": _check_records,
    "pages": _check_pages,
    "root": _check_root,
    "tables": _check_tables,
}


def faults_of(bundle: Bundle, *, root: str | None = None, only: str | None = None) -> list[str]:
    """Everything that does not hold, a line each. `root`: the digest as it was kept elsewhere; `only`: the name of one check."""
    found: list[str] = []
    for name, check in CHECKS.items() if only is None else [(only, CHECKS[only])]:
        try:
            found += check(bundle)
        except Exception as error:  # whatever a changed file brings about is told, and the rest is checked
            found.append(f"{name}: cannot be checked: {type(error).__name__}: {str(error)[:200]}")
    if root is not None and (BAG_INFO not in bundle.digests or root != bundle.root):
        found.append(f"root: this is not the bundle with the root digest {root}")
    return found


# ---------------------------------------------------------------- the command


def number_lines(bundle: Bundle, name: str) -> list[str]:
    """The rows behind a score or a difference, and the number made again of them. Raises ValueError for a name of none."""
    evaluation = bundle.evaluation
    published = bundle.json(bundle.result_file("evaluation", "results.json"))
    model, group, metric = _named(name)
    model, _, against = model.partition(" - ")
    known = [one for one in (model, against) if one]
    if group not in evaluation.groups or any(metric not in evaluation.scores.get(one, {}) for one in known):
        near = [one for one in published if one.startswith(f"{model}/")] or list(published)
        raise ValueError(f"there is no number {name}; there are {', '.join(near[:8])} ... ({len(published)} scores)")
    lines = [f"{name}: the rows behind it"]
    for problem in evaluation.groups[group]:
        values = [f"{one} {_verdicts(evaluation, one, problem, metric)}" for one in known]
        lines.append(f"  {problem}  {'; '.join(values)}")
    by_problem = evaluation.differences(model, against, metric) if against else evaluation.scores[model][metric]
    found = evaluation.over(group, by_problem)
    if found is None:
        return [*lines, "no problem was judged"]
    make, value = (difference_row, "difference") if against else (mean_row, "value")
    again = make(found, evaluation.confidence)
    stated = _published(bundle, name) if against else published[name]
    return [*lines, f"made again: {_shown_number(again, value)}", f"published:  {_shown_number(stated, value)}"]


def _published(bundle: Bundle, name: str) -> Json:
    rows = bundle.json(bundle.result_file("evaluation", "tables.json"))["comparisons"]
    return next(row for row in rows if f"{row['model']} - {row['against']}/{row['group']}/{row['metric']}" == name)


def _verdicts(evaluation: Evaluation, model: str, problem: str, metric: str) -> str:
    rows = [row for row in evaluation.samples if row["model"] == model and row["problem_id"] == problem]
    used = [row for row in rows if (row["sample"] == GREEDY) == (metric == "greedy")]
    told = ", ".join(f"{row['status']} {row['score']:g}" for row in used)
    return f"{evaluation.scores[model][metric][problem]:g} ({told})"


def _shown_number(row: Json, value: str) -> str:
    """To twelve digits, the number of problems beside."""
    return f"{row[value]:.12g} [{row['low']:.12g}, {row['high']:.12g}] n {row['n']}"


def _notes(bundle: Bundle) -> Iterator[str]:
    """What a reader must know of a check that found nothing."""
    if importlib.util.find_spec("pyarrow") is None:
        yield f"{SAMPLES} was not compared with samples.parquet: there is no pyarrow here"
    if bundle.is_slim:
        yield "weights and rollouts are left out; their digests are under the seals"
    if SIGNATURE in bundle.digests:
        yield f"{SIGNATURE} was not checked; see {README} for the command that does"
    runs = {row["run_id"] for row in bundle.rows(RUNS)}
    if without := [key for key, one in bundle.by_key.items() if one["mlflow_run_id"] not in runs]:
        yield f"the records hold no run of {', '.join(without)}"


def _said(bundle: Bundle) -> Iterator[str]:
    num_results, num_differences = len(bundle.evaluation.results()), len(bundle.evaluation.comparisons())
    yield f"{len(bundle.digests)} files and {len(bundle.manifests)} results hold"
    num_verdicts = len(bundle.evaluation.samples)
    yield f"{num_results} scores and {num_differences} differences, with their intervals, follow from {num_verdicts} verdicts"
    yield from (f"note: {note}" for note in _notes(bundle))
    yield f"root {bundle.root}"


def main() -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(description="Check a published chain: files, seals, inputs, numbers, root digest.")
    parser.add_argument(
        "folder", nargs="?", type=Path, default=Path(__file__).resolve().parent, help="default: this file's"
    )
    parser.add_argument(
        "--number", metavar="MODEL/GROUP/METRIC", help="show the rows behind one number, and make it again"
    )
    parser.add_argument("--root", metavar="DIGEST", help="root digest as it was kept elsewhere")
    asked = parser.parse_args()
    bundle = Bundle(asked.folder)
    faults = faults_of(bundle, root=asked.root)
    for fault in faults:
        print(fault.encode("unicode_escape").decode())
    if asked.number:
        try:
            print("\n".join(number_lines(bundle, asked.number)))
        except (ValueError, KeyError, TypeError, OSError) as error:
            print(f"--number {asked.number}: {error}")
            return 1
    elif not faults:
        print("\n".join(_said(bundle)))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
