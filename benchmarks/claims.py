"""`python -m benchmarks claims`: hold the paper's claims (claims.toml) against sealed results, and write docs/claims.md.

Nothing is run: of each experiment the newest evaluation of every seed in the home folder counts, whatever it says. A claim is *confirmed*
where the interval of the pooled difference lies on its side of 0 and every seed points there; *refuted* where it lies on the other side
and every seed does; else it is *open*. For a claim on steadiness the difference is the logarithm of the ratio of the two variations over
steps, with Student's interval over seeds.
"""

import argparse
import math
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.experiments.chains import Chain
from benchmarks.experiments.page import table, write_page
from benchmarks.experiments.scores import ALL, Scores, scores_of
from benchmarks.experiments.statistics import difference_estimate, t_interval
from benchmarks.experiments.steps import spreads, step_rows
from stages.records.artifact import Manifest, Store, ring_home
from stages.records.run_ledger import RunLedger, plan_digest
from stages.stage import Row

CLAIMS = Path(__file__).with_suffix(".toml")
PAGE = Path("docs/claims.md")
CONFIRMED, REFUTED, OPEN = "confirmed", "refuted", "open"


@dataclass(frozen=True, slots=True)
class Claim:
    """What the paper says: of two models' scores (`metric`, `group`, `expects`), or of how steady a `figure` of their steps is."""

    text: str
    paper: str
    experiment: str
    model: str
    against: str
    metric: str = ""
    group: str = ALL
    expects: str = ""
    figure: str = ""


@dataclass(frozen=True, slots=True)
class Evidence:
    """A difference whose sign the claim is about: in words, its interval, and the same of each seed. `visible` is in the same unit."""

    said: str
    value: float
    low: float
    high: float
    of_seeds: tuple[float, ...]
    visible: str


def main(arguments: Sequence[str]) -> int:
    """Exit code 0, or 2 with a message where the home folder lacks an experiment."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks claims", description=__doc__)
    parser.add_argument("--page", type=Path, default=PAGE, help=f"Markdown file; {PAGE}")
    found = parser.parse_args(arguments)
    try:
        write_page(found.page, claim_lines(read_claims(CLAIMS), home=ring_home()), title="Claims")
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stdout.write(f"{found.page}\n")
    return 0


def read_claims(path: Path) -> list[Claim]:
    """Of a TOML file."""
    return [Claim(**entry) for entry in tomllib.loads(path.read_text(encoding="utf-8"))["claims"]]


def claim_lines(claims: Sequence[Claim], *, home: Path) -> list[str]:
    """The page: a table of claims, and what stands behind each experiment. Raises ValueError where the home lacks one."""
    chains = {name: chains_of(name, home=home) for name in dict.fromkeys(claim.experiment for claim in claims)}
    rows = [*_rows(claims, chains)]
    behind = [_behind(name, found, home=home) for name, found in chains.items()]
    parts = (("## Claims and verdicts", rows), ("## What stands behind them", behind))
    return [line for title, found in parts for line in (title, "", *table([*found[0]], map(_cells, found)), "")]


# ---------------------------------------------------------------- results


def chains_of(recipe: str, *, home: Path) -> list[Chain]:
    """The newest chain of each seed that was evaluated by this recipe. Raises ValueError where there is none."""
    store, newest = Store(home), {}
    for manifest in sorted(store.all(), key=lambda one: one.document["made_at"]):
        if manifest.stage == "evaluation" and manifest.document["recipe"] == recipe and _of_chain(manifest):
            newest[manifest.document["payload"]["config"]["seed"]] = manifest
    if not newest:
        raise ValueError(
            f"{home} holds no evaluation of {recipe}: run `python -m benchmarks experiment {recipe}` there"
        )
    return [_chain(manifest, seed=seed, store=store) for seed, manifest in sorted(newest.items())]


def _of_chain(manifest: Manifest) -> bool:
    return "curation" in manifest.document["inputs"]


def _chain(evaluation: Manifest, *, seed: int, store: Store) -> Chain:
    return Chain(seed, {**_made_from(evaluation, store=store), "evaluation": evaluation})


def _made_from(result: Manifest, *, store: Store) -> dict[str, Manifest]:
    """Everything upstream, by key. Raises ValueError where a result is gone."""
    found: dict[str, Manifest] = {}
    for key, fingerprint in result.document["payload"]["inputs"].items():
        manifest = store.find(key.split("/")[0], fingerprint)
        if manifest is None:
            raise ValueError(
                f"{key} {fingerprint[:12]}, from which {result.fingerprint[:12]} was made, is gone: run its recipe again"
            )
        found |= {key: manifest, **_made_from(manifest, store=store)}
    return found


# ---------------------------------------------------------------- evidence


def _rows(claims: Sequence[Claim], chains: Mapping[str, Sequence[Chain]]) -> Iterator[Row]:
    scores = {name: [scores_of(chain) for chain in found] for name, found in chains.items()}
    for claim in claims:
        of = chains[claim.experiment]
        evidence = steadiness(claim, of) if claim.figure else difference(claim, scores[claim.experiment])
        yield {
            "claim": claim.text,
            "paper": claim.paper,
            "evidence": evidence.said,
            "by seed": ", ".join(f"{value:+.3f}" for value in evidence.of_seeds),
            "would have shown": evidence.visible,
            "verdict": f"**{verdict(evidence, sign=-1 if claim.figure or claim.expects == 'below' else 1)}**",
            "experiment": f"[{claim.experiment}](experiments/{claim.experiment}.md)",
        }


def difference(claim: Claim, scores: Sequence[Scores]) -> Evidence:
    """Of scores, paired by problem, problems of all seeds pooled."""
    by_seed = [one.differences(claim.model, claim.against, claim.metric, claim.group) for one in scores]
    pooled = difference_estimate([value for values in by_seed for value in values])
    if pooled is None:
        raise ValueError(f"{claim.experiment} judged no problem for both {claim.model} and {claim.against}")
    means = tuple(sum(values) / len(values) for values in by_seed)
    what = f"{claim.model} - {claim.against}, {claim.metric} on {claim.group}"
    said = f"{what}: {pooled.value:+.3f} [{pooled.low:+.3f}, {pooled.high:+.3f}]"
    least = pooled.smallest
    return Evidence(said, pooled.value, pooled.low, pooled.high, means, "-" if least is None else f"{least:.3f}")


def steadiness(claim: Claim, chains: Sequence[Chain]) -> Evidence:
    """Logarithm of the ratio of variations over steps: below 0 where `model` is steadier."""
    ratios = [
        _variation(chain, claim.model, claim.figure) / _variation(chain, claim.against, claim.figure)
        for chain in chains
    ]
    logs = tuple(map(math.log, ratios))
    found = t_interval(logs)
    if found is None:
        raise ValueError(f"{claim.experiment}: the {claim.figure} of one seed, or of equal ones, has no interval")
    value, low, high = (math.exp(number) for number in (found.value, found.low, found.high))
    said = f"variation of {claim.model} over that of {claim.against}: {value:.2f} [{low:.2f}, {high:.2f}]"
    return Evidence(said, found.value, found.low, found.high, logs, "-")


def _variation(chain: Chain, arm: str, figure: str) -> float:
    return spreads(step_rows(chain, arm))[figure].variation


def verdict(evidence: Evidence, *, sign: int) -> str:
    """`sign` is the side of 0 that the claim is on."""
    if all(sign * value > 0 for value in evidence.of_seeds) and min(sign * evidence.low, sign * evidence.high) > 0:
        return CONFIRMED
    if all(sign * value < 0 for value in evidence.of_seeds) and max(sign * evidence.low, sign * evidence.high) < 0:
        return REFUTED
    return OPEN


# ---------------------------------------------------------------- the page


def _behind(name: str, chains: Sequence[Chain], *, home: Path) -> Row:
    """Seeds, fingerprints of the evaluations, and how many runs were made of exactly these chains."""
    counts = {run.start["digest"]: run.tries for run in RunLedger(home).runs()}
    tries = [
        counts.get(plan_digest({key: one.fingerprint for key, one in chain.manifests.items()})) for chain in chains
    ]
    documents = [chain.manifests["evaluation"].document for chain in chains]
    return {
        "experiment": name,
        "seeds": ", ".join(str(chain.seed) for chain in chains),
        "evaluations": ", ".join(f"`{document['fingerprint'][:12]}`" for document in documents),
        "seals": ", ".join(f"`{document['seal'][:12]}`" for document in documents),
        "runs of it in the ledger": ", ".join("-" if number is None else str(number) for number in tries),
    }


def _cells(row: Row) -> list[str]:
    return [str(value) for value in row.values()]
