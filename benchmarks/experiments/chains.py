"""The chains of an experiment: one for each seed, run or taken from the cache, and what is sealed of them."""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from stages.records.artifact import Manifest, read_manifest
from stages.stage import ROLLOUTS

SFT = "sft"  # the chosen checkpoint, as evaluation names it
_LAST = "evaluation"


@dataclass(frozen=True, slots=True)
class Chain:
    """What the chain of one seed left: sealed results by key (`curation`, `rl/mixed`, ...), in the order of the chain."""

    seed: int
    manifests: Mapping[str, Manifest]

    @property
    def home(self) -> Path:
        """The home folder that holds them."""
        return self.manifests[_LAST].folder.parents[2]

    @property
    def arms(self) -> dict[str, Manifest]:
        """All arms by name, further SFT among them."""
        return {key.removeprefix("rl/"): one for key, one in self.manifests.items() if key.startswith("rl/")}

    @property
    def rl_arms(self) -> dict[str, Manifest]:
        """The arms with steps of RL."""
        return {name: manifest for name, manifest in self.arms.items() if (manifest.folder / ROLLOUTS).is_dir()}

    @property
    def models(self) -> list[str]:
        """What was evaluated."""
        return [SFT, *self.arms]


def run_chain(recipe: str, *, seed: int, changes: Sequence[str]) -> Chain:
    """Run a recipe up to its evaluation; what is finished comes from the cache. `changes` are KEY=VALUE.

    Raises subprocess.CalledProcessError where the chain fails, which has said why on the terminal.
    """
    settings = [part for change in (f"seed={seed}", *changes) for part in ("--set", change)]
    command = [sys.executable, "-m", "flows.cli", "run", recipe, "--until", _LAST, *settings, "--json"]
    return chain_of(json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout), seed)


def chain_of(document: Mapping, seed: int) -> Chain:
    """The chain that `ring run --json` tells of."""
    return Chain(
        seed,
        {
            f"rl/{entry['arm']}" if entry["arm"] else entry["stage"]: read_manifest(Path(entry["artifact"]))
            for entry in document["stages"]
        },
    )


def require_alike(chains: Sequence[Chain]) -> None:
    """Raises ValueError where seeds have other arms, of which nothing could be averaged."""
    first, *others = chains
    for chain in others:
        if chain.models != first.models:
            raise ValueError(
                f"seed {chain.seed} has the models {', '.join(chain.models)}, seed {first.seed} {', '.join(first.models)}:"
                " give seeds the same arms"
            )
