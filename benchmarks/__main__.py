"""`python -m benchmarks [NAME ...]`: run the named benchmarks, or those that take minutes rather than hours."""

import sys

from benchmarks import (
    byte_agreement,
    checkpoint,
    contamination_challenge,
    contamination_rate,
    curation_scale,
    judging,
    judging_mutations,
    judging_peers,
    orchestration,
    sandbox,
    seeds,
    throughput,
)

BENCHMARKS = {
    "throughput": throughput.main,
    "checkpoint": checkpoint.main,
    "orchestration": orchestration.main,
    "contamination_challenge": contamination_challenge.main,
    "contamination_rate": contamination_rate.main,
    "curation_scale": curation_scale.main,
    "seeds": seeds.main,
    "sandbox": sandbox.main,
    "byte_agreement": byte_agreement.main,
    "judging": judging.main,
    "judging_mutations": judging_mutations.main,
    "judging_peers": judging_peers.main,
}
DEFAULT = ("throughput", "checkpoint", "orchestration", "sandbox")


def main(names: list[str]) -> int:
    unknown = [name for name in names if name not in BENCHMARKS]
    if unknown:
        sys.stderr.write(f"no benchmark {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}\n")
        return 2
    for name in names or DEFAULT:
        BENCHMARKS[name]()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
