"""`python -m benchmarks [NAME ...]`: run the named benchmarks, or those that take minutes rather than hours.

Some take arguments: `python -m benchmarks experiment --help`, and so on for claims, cluster, coverage, crosscheck, golds, manifests,
ranks, source_mutants, tampering and vllm_arm.
"""

import importlib
import sys

BENCHMARKS = (
    "throughput",
    "rl_arm",
    "checkpoint",
    "orchestration",
    "contamination_challenge",
    "contamination_rate",
    "curation_scale",
    "sandbox",
    "byte_agreement",
    "judging",
    "judging_mutations",
    "judging_peers",
    "judging_pool",
)
WITH_ARGUMENTS = {
    "claims": "benchmarks.claims",
    "cluster": "benchmarks.cluster",
    "coverage": "benchmarks.coverage",
    "crosscheck": "benchmarks.crosscheck",
    "experiment": "benchmarks.experiments",
    "golds": "benchmarks.golds",
    "manifests": "benchmarks.manifests",
    "ranks": "benchmarks.ranks",
    "source_mutants": "benchmarks.source_mutants",
    "tampering": "benchmarks.tampering",
    "vllm_arm": "benchmarks.vllm_arm",
}  # -> module
DEFAULT = ("throughput", "rl_arm", "checkpoint", "orchestration", "sandbox")


def main(names: list[str]) -> int:
    if names and names[0] in WITH_ARGUMENTS:
        return importlib.import_module(WITH_ARGUMENTS[names[0]]).main(names[1:])
    unknown = [name for name in names if name not in BENCHMARKS]
    if unknown:
        known = ", ".join((*BENCHMARKS, *WITH_ARGUMENTS))
        sys.stderr.write(f"no benchmark {', '.join(unknown)}; there are {known}\n")
        return 2
    for name in names or DEFAULT:
        importlib.import_module(f"benchmarks.{name}").main()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
